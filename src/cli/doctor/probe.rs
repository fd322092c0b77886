//! What can only be known by trying: the namespaces and the mounts that a container takes.
//!
//! A child process goes the way of a container's start and reports how far it came. It leaves nothing behind: its
//! namespaces and mounts end with it, its folder is removed.

use crate::kernel::process::{self, CloneFlags, Side};
use crate::state::{self, Paths};
use crate::union;
use crate::userns::{self, Identity};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// How a step went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A step before it failed.
    #[default]
    NotTried,
    /// It worked.
    Worked,
    /// What the kernel said.
    Failed(String),
}

/// The steps, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// A user namespace.
    pub namespace: Step,
    /// Its id map.
    pub id_map: Step,
    /// An overlay in the data root, and a file written to it.
    pub overlay: Step,
    /// All the namespaces of a container, nested in the first.
    pub nested: Step,
    /// A /proc for it.
    pub proc: Step,
}

impl Probe {
    /// Whether a container can be started.
    pub fn can_run(&self) -> bool {
        [&self.namespace, &self.id_map, &self.overlay, &self.nested, &self.proc]
            .into_iter()
            .all(|step| *step == Step::Worked)
    }
}

/// Tries all steps.
pub fn probe(paths: &Paths, identity: &Identity) -> io::Result<Probe> {
    let (mut from_child, mut to_parent) = io::pipe()?;
    match process::fork()? {
        Side::Child => {
            drop(from_child);
            let report = serde_json::to_vec(&walk(paths, identity)).unwrap_or_default();
            let _ = to_parent.write_all(&report);
            process::exit_now(0)
        }
        Side::Parent(child) => {
            drop(to_parent);
            let mut report = Vec::new();
            from_child.read_to_end(&mut report)?;
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
            Ok(serde_json::from_slice(&report)?)
        }
    }
}

fn walk(paths: &Paths, identity: &Identity) -> Probe {
    let mut probe = Probe::default();
    match userns::enter(paths, identity) {
        Ok(_) => (probe.namespace, probe.id_map) = (Step::Worked, Step::Worked),
        Err(e @ userns::Error::Helper { .. }) => {
            (probe.namespace, probe.id_map) = (Step::Worked, failed(&e));
            return probe;
        }
        Err(e) => {
            probe.namespace = failed(&e);
            return probe;
        }
    }
    let folder = paths.staging().join(format!("doctor-{}", std::process::id()));
    probe.overlay =
        step(state::create_dir_private(&folder).map_err(Into::into).and_then(|()| try_overlay(&folder)));
    if let Err(e) = state::remove_tree(&folder) {
        probe.overlay = failed(&e);
    }
    (probe.nested, probe.proc) = try_container();
    probe
}

fn try_overlay(folder: &Path) -> Result<(), Box<dyn Error>> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| folder.join(name));
    [&lower, &upper, &work].into_iter().try_for_each(fs::create_dir)?;
    fs::write(lower.join("file"), "below")?;
    let upper = union::Upper { upper, work, volatile: true };
    let root =
        union::mount(&union::Layers { lower: vec![lower], data_only: Vec::new(), upper: Some(upper) })?;
    // Copies the file up.
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&root, "file", flags, Mode::empty())?;
    File::from(file).write_all(b"above")?;
    Ok(())
}

/// A container's namespaces, and in them its /proc: what the kernel refuses where parts of the host's /proc are
/// hidden from us, as in another container (mount_namespaces(7)).
fn try_container() -> (Step, Step) {
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let child = match process::clone(flags, None) {
        Err(e) => return (failed(&e), Step::NotTried),
        Ok(Side::Child) => {
            let code = mount_proc().map_or_else(rustix::io::Errno::raw_os_error, |()| 0);
            process::exit_now(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Ok(Side::Parent(child)) => child,
    };
    let ended = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    let proc = match ended.ok().flatten().and_then(|status| status.exit_status()) {
        Some(0) => Step::Worked,
        Some(errno) => failed(&io::Error::from_raw_os_error(errno)),
        None => Step::Failed("the process in it was killed".to_owned()),
    };
    (Step::Worked, proc)
}

fn mount_proc() -> rustix::io::Result<()> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

fn step(result: Result<(), Box<dyn Error>>) -> Step {
    result.map_or_else(|e| failed(&*e), |()| Step::Worked)
}

fn failed(error: &dyn Error) -> Step {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Step::Failed(text)
}
