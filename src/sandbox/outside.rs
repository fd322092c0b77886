//! Mounts that are made outside of the container's user namespace, and handed in as descriptors.
//!
//! A container whose ids do not include the user's own (`--userns auto`, `nomap`) can open nothing of the user's by
//! path, and could not read all layers as their mounter. And the /dev/shm of another container is to be had only in that
//! container's mount namespace. So a helper goes where they are to be had, makes detached mounts of them, sends them and
//! ends. A detached mount can be attached in any mount namespace by who may mount there (move_mount(2)).

use super::mounts::{NODEV, NOSUID, clone_tree, new_filesystem};
use super::{Channel, Error, FromInit};
use crate::kernel::process::{self, CloneFlags, Side};
use crate::rooted_fs::Root;
use rustix::fs::fstatfs;
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What makes trees: it is given what sends one.
type Make<'a> = &'a dyn Fn(&dyn Fn(&OwnedFd) -> Result<(), Error>) -> Result<(), Error>;

/// Runs `make` in a mount namespace of its own of the caller's user namespace, where the caller is root; the trees
/// that it sends, in order.
pub fn mounted(make: Make<'_>) -> Result<Vec<OwnedFd>, Error> {
    helped(CloneFlags::CLONE_NEWNS, &|send| {
        let flags =
            rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).map_err(Error::step("separate the mount namespace"))?;
        make(send)
    })
}

/// A copy of the bind mount of a host's file or folder.
pub fn tree(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    clone_tree(rustix::fs::CWD, path, recursive).map_err(Error::step(format!("open {}", path.display())))
}

/// A copy of the mount that a descriptor is on, beginning with what it is of, without what is mounted below that.
pub fn part(of: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    clone_tree(of, "", false).map_err(Error::step("copy a mount"))
}

/// A new tmpfs.
pub fn memory(options: &[(&str, String)]) -> Result<OwnedFd, Error> {
    new_filesystem("tmpfs", options, NOSUID | NODEV).map_err(Error::step("mount a tmpfs"))
}

/// The /dev/shm of a running container, by its verified first process. What it has there is its own doing; it is found
/// below its root, and is only taken if it is a tmpfs.
pub fn shm_of(container: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    const WHAT: &str = "share the other container's /dev/shm";
    let trees = helped(CloneFlags::empty(), &|send| {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::step(WHAT))?;
        nix::sched::setns(container, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(Error::step(WHAT))?;
        let found = Root::open_dir(Path::new("/"))
            .and_then(|root| root.open_path("/dev/shm"))
            .map_err(Error::step(WHAT))?;
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        if u64::try_from(fstatfs(&found).map_err(Error::step(WHAT))?.f_type) != Ok(TMPFS_MAGIC) {
            return Err(Error::step(WHAT)(io::Error::other("it is not a tmpfs")));
        }
        send(&clone_tree(found.as_fd(), "", false).map_err(Error::step(WHAT))?)
    })?;
    trees.into_iter().next().ok_or(Error::Vanished)
}

fn helped(namespaces: CloneFlags, work: Make<'_>) -> Result<Vec<OwnedFd>, Error> {
    let (ours, theirs) = Channel::pair().map_err(Error::step("make a channel"))?;
    match process::clone(namespaces, None).map_err(Error::step("fork"))? {
        Side::Child => {
            drop(ours);
            let send = |tree: &OwnedFd| theirs.send_terminal(tree).map_err(Error::step("hand out a mount"));
            let code = match work(&send) {
                Ok(()) => 0,
                Err(error) => {
                    let _ = theirs.send_error(&error);
                    1
                }
            };
            process::exit_now(code)
        }
        Side::Parent(helper) => {
            drop(theirs);
            let mut trees = Vec::new();
            let ended = loop {
                match ours.receive().map_err(Error::step("wait for a mount")) {
                    Ok(FromInit::Terminal(tree)) => trees.push(tree),
                    Ok(FromInit::Failed(error)) => break Err(error),
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            let _ = rustix::process::waitid(WaitId::PidFd(helper.pidfd.as_fd()), WaitIdOptions::EXITED);
            ended.map(|()| trees)
        }
    }
}
