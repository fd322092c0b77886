//! RUN: a container over the layers so far, and what it changed as one more layer.
//!
//! It is one of `--rm`, so that nothing of it rests in the store: should the build be killed, its monitor ends it, and the
//! next command removes what is left. As a build's, it is not listed, and its monitor leaves the writable layer when it
//! ends, for the commit, which moves it; until then the build holds the lock that says that the data folder is in use.
//! Secrets that are variables are given to the monitor alone: the record on the disk has none.

use super::mounts::agent::{Forwarder, socket_name};
use super::mounts::{Maker, StepMount, What};
use super::shared_network::SharedNetwork;
use super::{Error, job};
use crate::container::create::create;
use crate::container::record::Record;
use crate::container::request::{CreateRequest, LogDriver, LogOptions, NetworkMode};
use crate::container::session::{Ending, Failure, Interaction};
use crate::container::settings::{ImageVolumes, Settings};
use crate::container::store::{Places, save};
use crate::container::{files, monitor};
use crate::digest::Digest;
use crate::image::{Image, ImageConfig, RootFs, RunConfig};
use crate::state::{Lock, Paths, create_dir_private, is_full, remove_tree};
use crate::userns::Identity;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Who is told what a step says on standard output (`false`) and error (`true`).
pub type Output<'a> = &'a mut dyn FnMut(bool, &[u8]) -> std::io::Result<()>;

/// What is run.
pub struct Run<'a> {
    /// Over what, the lowest first.
    pub layers: &'a [Digest],
    /// User, working directory and environment.
    pub config: RunConfig,
    /// The command.
    pub words: Vec<String>,
    /// Its network.
    pub network: NetworkMode,
    /// The namespace in which it is on that network already.
    pub shared: Option<&'a SharedNetwork>,
    /// What else its container is given.
    pub container: &'a CreateRequest,
    /// What is mounted, parents first.
    pub mounts: Vec<StepMount>,
    /// Variables that are not written down.
    pub secrets: Vec<String>,
    /// If it fails, a shell is opened in the state in which it was left.
    pub shell_on_failure: bool,
    /// Told what it says, and what the user should know.
    pub output: Output<'a>,
}

/// How it ended.
pub enum Ran {
    /// Well, and this is what it changed.
    Done(Option<Digest>),
    /// Not well.
    Failed {
        /// With this code.
        code: i32,
        /// There was no room for its files then.
        disk_is_full: bool,
    },
}

/// What a container of a build is made of. Nothing is looked up by its id: the container is gone before anybody could ask.
pub(super) fn image(what: &str, layers: &[Digest], config: RunConfig) -> Image {
    let rootfs = RootFs { diff_ids: layers.to_vec(), ..RootFs::default() };
    let config = ImageConfig { config, rootfs, ..ImageConfig::default() };
    Image { id: Digest::of(what.as_bytes()), manifest: None, index: None, name: None, config }
}

/// What all containers of a build are asked for besides.
pub(super) fn request(what: &str, asked: CreateRequest) -> CreateRequest {
    CreateRequest {
        image: what.into(),
        entrypoint: Some(Vec::new()),
        // A signal that is to end the build ends the step: the first process of a container would ignore it.
        init: true,
        rm: true,
        image_volumes: ImageVolumes::Ignore,
        log: LogOptions { driver: LogDriver::None, ..LogOptions::default() },
        settings: Settings { build_step: true, ..asked.settings },
        ..asked
    }
}

/// A step's container.
struct Step<'a> {
    paths: &'a Paths,
    identity: &'a Identity,
    mounts: &'a [StepMount],
    record: Record,
    places: Places,
}

impl Run<'_> {
    /// Runs it. The caller has one thread, is not in the user's namespace, and holds an image pin.
    pub fn run(self, paths: &Paths, identity: &Identity) -> Result<Ran, Error> {
        const WHAT: &str = "a step of a build";
        let image = image(WHAT, self.layers, self.config);
        let asked = CreateRequest { command: self.words, network: self.network, ..self.container.clone() };
        let request = request(WHAT, asked);
        let request = match self.shared {
            Some(shared) => shared.join(request),
            None => request,
        };
        let created = create(paths, identity, &request, Some(&image)).map_err(|e| failed(&e))?;
        let kept = Lock::keep(&created.places.data);
        let mut step =
            Step { paths, identity, mounts: &self.mounts, record: created.record, places: created.places };
        step.record.spec.process.env.extend(self.secrets);
        let how = Interaction { proxy_signals: true, ..Interaction::default() };
        let ending = step.start(created.lock, created.kept, &how, Some(&mut *self.output));
        if let (Ok(Ending::Exited(1..)), true) = (&ending, self.shell_on_failure) {
            let said = b"the step has failed: a shell in the state that it left, and then the build ends\n";
            // Who does not hear it has a shell all the same.
            let _ = (self.output)(true, said);
            step.shell()?;
        }
        let is_well = matches!(ending, Ok(Ending::Exited(0)));
        // Asked while all that it has written is still there.
        let disk_is_full = !is_well && is_full(&step.places.data);
        let layer = step.end(is_well);
        drop(kept);
        match ending? {
            Ending::Exited(0) => Ok(Ran::Done(layer?)),
            Ending::Exited(code) => Ok(Ran::Failed { code: code & 0xff, disk_is_full }),
            Ending::Failed(failure) => Err(Error::Failed(failure)),
            Ending::Detached | Ending::Lost => {
                Err(Error::io("run it")(std::io::Error::other("its monitor was killed")))
            }
        }
    }
}

fn failed(error: &dyn crate::diagnose::Diagnose) -> Error {
    Error::Failed(Failure::of(error))
}

impl Step<'_> {
    /// Starts it and follows it to its end. Without an output, the user's streams are its.
    fn start(
        &self,
        lock: Lock,
        kept: Option<Lock>,
        how: &Interaction,
        output: Option<Output<'_>>,
    ) -> Result<Ending, Error> {
        let mut agents = Vec::new();
        for (number, mount) in self.mounts.iter().enumerate() {
            if let What::Agent { agent, .. } = &mount.what {
                let forwarder = Forwarder::start(&self.places.run, &socket_name(number), agent);
                agents.push(forwarder.map_err(Error::io("pass on an SSH agent"))?);
            }
        }
        let maker = Maker { paths: self.paths, identity: self.identity, sockets: &self.places.run };
        let client = monitor::start(monitor::Start {
            paths: self.paths,
            identity: self.identity,
            record: &self.record,
            places: &self.places,
            lock,
            kept,
            window: None,
            background: false,
            preserved: Vec::new(),
            extra: &maker.extra(self.mounts),
        })
        .map_err(|e| failed(&e))?;
        let ended = match output {
            Some(output) => client.interact_to(how, output),
            None => client.interact(how),
        };
        ended.map_err(Error::io("talk to the step's container"))
    }

    /// Opens a shell in the state in which the step has left its files, with all that is mounted.
    fn shell(&mut self) -> Result<(), Error> {
        let is_terminal = std::io::stdin().is_terminal();
        let process = &mut self.record.spec.process;
        process.args = vec!["/bin/sh".to_owned()];
        process.terminal = is_terminal;
        if is_terminal && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        self.record.interactive = true;
        create_dir_private(&self.places.run)?;
        let lock = Lock::exclusive(&self.places.lock())?;
        // The record that says that nothing of it rests, without the secrets.
        let mut kept = self.record.clone();
        kept.spec.process.env.clear();
        save(&self.places, &kept).map_err(|e| failed(&e))?;
        let work = self.places.data.join("work");
        job::as_root(self.paths, self.identity, |_| remove_tree(&work).map_err(|e| Failure::of(&e)))?;
        let how = Interaction {
            stdin: true,
            terminal: is_terminal,
            proxy_signals: !is_terminal,
            ..Interaction::default()
        };
        match self.start(lock, None, &how, None)? {
            Ending::Failed(failure) => Err(Error::Failed(failure)),
            _ => Ok(()),
        }
    }

    /// Makes the layer, if there is to be one, and removes the container.
    fn end(mut self, is_well: bool) -> Result<Option<Digest>, Error> {
        self.record.spec.process.env.clear();
        let mounted: Vec<PathBuf> =
            self.mounts.iter().map(|mount| PathBuf::from(&mount.destination)).collect();
        let Step { paths, identity, record, places, .. } = self;
        job::as_root(paths, identity, |layers| {
            let layer = match is_well {
                true => files::commit_step(identity, &record, &places, layers, &mounted),
                false => Ok(None),
            };
            let removed = monitor::remove(paths, &record, &places);
            let layer = layer.map_err(|e| Failure::of(&e))?;
            removed.map_err(|e| Failure::of(&e))?;
            Ok(layer.map(|layer| layer.diff_id))
        })
    }
}
