//! Getting at a container's root.

use super::{Error, Ids};
use crate::container::lifecycle::{self, settled};
use crate::container::store::{Container, Places};
use crate::container::{self, ids, mounting, recover};
use crate::rooted_fs::Root;
use crate::sandbox;
use crate::state::{Lock, Paths};
use crate::union::{self, Layers};
use crate::userns::{Identity, Mode};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode as FileMode, OFlags};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What a view is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look at.
    Read,
    /// To write.
    Write,
}

/// A container's root.
#[derive(Debug)]
pub struct View {
    /// What it has for a root.
    pub root: Root,
    /// Its name, for errors.
    pub name: String,
    /// Its ids.
    pub ids: Ids,
    /// Owners are remembered in an attribute, since there is one id only.
    pub single_id: bool,
    /// Where there is a tmpfs only while it runs, if it does not.
    absent: Vec<String>,
    _hold: Option<Hold>,
}

/// The lock of a container that rests. It is in the run folder, which such a container has for as long as this alone.
#[derive(Debug)]
struct Hold {
    places: Places,
    _lock: Lock,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What stays is swept up by the next command.
        let _ = recover::forget_run(&self.places);
    }
}

impl View {
    /// The root with all that is mounted in it. This process becomes root in the user's namespace, and if the container
    /// does not run, gets a mount namespace of its own.
    pub fn open(
        paths: &Paths,
        identity: &Identity,
        container: &Container,
        access: Access,
    ) -> Result<Self, Error> {
        let container = settled(paths, container)?;
        lifecycle::enter_its(paths, identity, &container)?;
        if let Some((root, _)) = running_root(&container)? {
            return Ok(Self::of(identity, &container, root));
        }
        let hold = match access {
            Access::Write => {
                Some(Hold { _lock: lifecycle::lock(&container)?, places: container.places.clone() })
            }
            Access::Read => None,
        };
        let record = &container.record;
        let (mounts, absent) = mounting::lasting_mounts(paths, record);
        let union = mount_union(paths, identity, &container, access)?;
        let is_writable = access == Access::Write;
        let root = sandbox::assemble(
            union,
            &container.places.data,
            &mounts,
            is_writable,
            record.spec.read_only_root,
        )
        .map_err(container::Error::from)?;
        Ok(Self { absent, _hold: hold, ..Self::of(identity, &container, root) })
    }

    /// The root as it lies in its layers, without what is mounted in it, to look at. If the container runs, this process
    /// changes into its mount namespace: nothing of the host can be opened any more.
    pub fn bare(paths: &Paths, identity: &Identity, container: &Container) -> Result<Self, Error> {
        let container = settled(paths, container)?;
        lifecycle::enter_its(paths, identity, &container)?;
        let union = match running_root(&container)? {
            Some((_, init)) => {
                let step = container::Error::io::<std::io::Error>;
                setns(&init, CloneFlags::CLONE_NEWNS)
                    .map_err(|e| step("enter the container's mounts")(e.into()))?;
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                open_tree(CWD, "/", flags).map_err(|e| step("copy the container's root mount")(e.into()))?
            }
            None => mount_union(paths, identity, &container, Access::Read)?,
        };
        let root = Root::from_fd(union).map_err(container::Error::io("open the container's root"))?;
        Ok(Self::of(identity, &container, root))
    }

    fn of(identity: &Identity, container: &Container, root: Root) -> Self {
        Self {
            root,
            name: container.record.name.clone(),
            ids: Ids::of(ids::maps(identity, &container.record.spec.ids)),
            single_id: matches!(identity.mode, Mode::Single { .. }),
            absent: Vec::new(),
            _hold: None,
        }
    }

    /// Refuses a path that leads into a tmpfs which is not there now: what is put there would never be seen.
    pub(super) fn refuse_absent(&self, path: &Path) -> Result<(), Error> {
        match self.absent.iter().any(|tmpfs| path.starts_with(tmpfs)) {
            false => Ok(()),
            true => Err(Error::Refused {
                path: path.to_owned(),
                why: "it is in a tmpfs, which the container has only while it runs",
                fix: Some("start the container first"),
            }),
        }
    }
}

/// What the first process of a running container has for a root, and that process.
fn running_root(container: &Container) -> Result<Option<(Root, OwnedFd)>, Error> {
    let Some(live) = &container.live else { return Ok(None) };
    let Some(init) = live.init.open() else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(format!("/proc/{}/root", live.init.pid), flags, FileMode::empty());
    // Only while the process that the descriptor holds has not been reaped does its number mean nobody else.
    let ended = poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO);
    if !matches!(ended, Ok(0)) {
        return Ok(None);
    }
    let root = opened.map_err(std::io::Error::from).and_then(Root::from_fd);
    Ok(Some((root.map_err(container::Error::io("open the container's root"))?, init)))
}

/// Mounts the union of a container that does not run, in a mount namespace of this process's own.
fn mount_union(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    access: Access,
) -> Result<OwnedFd, Error> {
    let Container { record, places, .. } = container;
    separate()?;
    if let Some(rootfs) = record.settings.rootfs.as_ref().filter(|rootfs| !rootfs.overlay) {
        return Ok(sandbox::outside::tree(&rootfs.path, true).map_err(container::Error::from)?);
    }
    let layers = match access {
        Access::Write => mounting::prepare_layers(paths, identity, record, places)?,
        Access::Read => {
            let (mut lower, data_only) = mounting::lower_layers(paths, identity, record)?;
            let upper = places.data.join("upper");
            match (upper.exists(), &lower[..]) {
                // One more layer: overlayfs leaves it as it is, and it may be in use by a start meanwhile.
                (true, _) => lower.insert(0, upper),
                // A single layer needs no union.
                (false, [only]) if data_only.is_empty() => {
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    let tree = open_tree(CWD, only, flags);
                    return Ok(tree.map_err(container::Error::io("open the image's layer"))?);
                }
                _ => {}
            }
            Layers { lower, data_only, upper: None }
        }
    };
    Ok(union::mount(&layers)?)
}

/// Gives this process mounts of its own, from which nothing travels.
pub fn separate() -> Result<(), container::Error> {
    let step = container::Error::io::<std::io::Error>;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| step("make a mount namespace")(e.into()))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| step("separate the mount namespace")(e.into()))
}
