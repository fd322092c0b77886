//! `commit`: what a container changed, as a layer, and how an image of it is run.
//!
//! A running container is frozen meanwhile. Who freezes may be killed: a second process waits for the end of the first
//! one and lets the container go on, whatever ended it.

use super::Error;
use super::changes::mount_points;
use crate::container::lifecycle::{self, settled};
use crate::container::record::{MountKind, Record, Status};
use crate::container::store::{Container, Places};
use crate::container::{self, ids, resources};
use crate::image::RunConfig;
use crate::kernel::process::{self, Child, Side};
use crate::layers::{CommitOptions, CommittedLayer, LayerStore, Take, Times};
use crate::network::Transport;
use crate::sandbox::{signal_name, signal_number};
use crate::state::Paths;
use crate::userns::{self, Identity};
use rustix::process::{WaitId, WaitIdOptions};
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A container that is frozen for as long as this lives.
#[derive(Debug)]
pub struct Frozen {
    container: Container,
    /// Who lets it go on if we cannot, and what tells him.
    watcher: Option<(Child, PipeWriter)>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // That it has ended meanwhile is fine.
        let _ = resources::unpause(&self.container);
        if let Some((watcher, tell)) = self.watcher.take() {
            drop(tell);
            let _ = rustix::process::waitid(WaitId::PidFd(watcher.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// Freezes a container if it runs; one that is paused already stays so. The caller has one thread and holds no lock.
pub fn freeze(paths: &Paths, container: &Container) -> Result<Option<Frozen>, Error> {
    let container = settled(paths, container)?;
    if !matches!(container.status, Status::Running { .. }) {
        return Ok(None);
    }
    // What it lacks is said before there is a process more.
    resources::group_of(&container, "paused")?;
    let io = container::Error::io::<std::io::Error>;
    let (ended, tell) = std::io::pipe().map_err(io("make a pipe"))?;
    let watcher = match process::fork().map_err(io("start a process"))? {
        Side::Child => {
            drop(tell);
            watch(ended, &container)
        }
        Side::Parent(child) => child,
    };
    let frozen = Frozen { container, watcher: Some((watcher, tell)) };
    lifecycle::pause(paths, &frozen.container)?;
    Ok(Some(frozen))
}

fn watch(mut ended: PipeReader, container: &Container) -> ! {
    // A Ctrl-C is not for it.
    let _ = rustix::process::setsid();
    let _ = process::set_title("coracle: keeping a frozen container");
    let _ = ended.read(&mut [0]);
    let _ = resources::unpause(container);
    process::exit_now(0)
}

/// Makes a layer of what a container changed; `None` if that is nothing. This process becomes root in the user's
/// namespace. The caller holds an image pin.
pub fn commit(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    layers: &LayerStore,
) -> Result<Option<CommittedLayer>, Error> {
    let Container { record, places, .. } = container;
    if record.settings.rootfs.is_some() {
        return Err(Error::Refused {
            path: record.name.clone().into(),
            why: "it has no image that its changes could be committed over",
            fix: Some("'coracle export' writes its files, 'coracle import' makes an image of them"),
        });
    }
    userns::enter(paths, identity).map_err(container::Error::from)?;
    commit_writable(identity, record, places, layers, (Take::Copy, &[]))
}

/// The same of a step of a build that has ended, and that nobody but the caller knows any more: its writable layer becomes
/// the new one. `mounted` is where something was mounted that the record does not tell of. This process is root in the
/// user's namespace.
pub fn commit_step(
    identity: &Identity,
    record: &Record,
    places: &Places,
    layers: &LayerStore,
    mounted: &[PathBuf],
) -> Result<Option<CommittedLayer>, Error> {
    commit_writable(identity, record, places, layers, (Take::Move, mounted))
}

fn commit_writable(
    identity: &Identity,
    record: &Record,
    places: &Places,
    layers: &LayerStore,
    (take, mounted): (Take, &[PathBuf]),
) -> Result<Option<CommittedLayer>, Error> {
    let upper = places.data.join("upper");
    // It has never been started.
    if upper.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let (uids, gids) = ids::maps(identity, &record.spec.ids);
    let options = CommitOptions {
        take,
        below: &record.layers,
        maps: Some((&uids, &gids)),
        mount_points: &[&mount_points(record), mounted].concat(),
        times: Times::Kept,
    };
    Ok(layers.commit(&upper, &options).map_err(container::Error::from)?)
}

/// How an image of a container is run: as the container was.
pub fn run_config(record: &Record, of_image: &RunConfig, include_volumes: bool) -> RunConfig {
    let process = &record.spec.process;
    // What every container gets, and its image need not know.
    let hostname = format!("HOSTNAME={}", record.spec.hostname);
    let is_ours = |entry: &String| *entry == hostname || entry == "container=coracle";
    let env = process.env.iter().filter(|entry| of_image.env.contains(entry) || !is_ours(entry));
    let words = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let mut config = RunConfig {
        user: process.user.clone(),
        env: env.cloned().collect(),
        entrypoint: words(&record.entrypoint),
        cmd: words(&record.command),
        working_dir: if process.cwd == "/" { of_image.working_dir.clone() } else { process.cwd.clone() },
        labels: record.labels.clone(),
        // They were for what is built on the old image.
        on_build: Vec::new(),
        ..of_image.clone()
    };
    config.exposed_ports.extend(record.settings.exposed.iter().cloned());
    config.exposed_ports.extend(record.publish.iter().map(|port| match port.transport {
        Transport::Tcp => format!("{}/tcp", port.container_port),
        Transport::Udp => format!("{}/udp", port.container_port),
    }));
    let stop = of_image.stop_signal.as_deref().and_then(signal_number).unwrap_or(nix::libc::SIGTERM);
    if stop != record.stop_signal {
        config.stop_signal = Some(signal_name(record.stop_signal));
    }
    // As docker and podman: what was asked for as `-v /path` says something about the program.
    let is_volume = |kind: &MountKind| match kind {
        MountKind::Volume { anonymous, .. } => *anonymous || include_volumes,
        MountKind::Bind { .. } => include_volumes,
        _ => false,
    };
    let volumes = record.mounts.iter().filter(|used| is_volume(&used.kind));
    config.volumes.extend(volumes.map(|used| used.destination.clone()));
    config
}
