//! What `RUN --mount` mounts.
//!
//! | type | what it is |
//! |---|---|
//! | bind | an overlay of a stage's or image's layers, or of a folder of the context; what `.dockerignore` leaves out is hidden by whiteouts above that. What may be written has an upper directory in the data of the step's container, and goes with it |
//! | cache | a folder of the store ([`cache`]), held by a lock for as long as the step lasts |
//! | tmpfs, secret, program of a heredoc | a tmpfs; of a secret, one file on it |
//! | ssh | a socket of ours ([`agent`]), behind which a process passes everything on to the agent |
//!
//! The builder decides what a step mounts ([`StepMount`]) and waits for the locks. The mounts are made when the step's
//! container starts ([`ExtraMount`]): by a process that is root of the user's namespace, as trees that are attached to
//! nothing and that the container's first process puts into its root. None of them is in the container's record.
//!
//! A path in a source is resolved below a descriptor of that source's root, never by name, since a source can be what
//! another build is writing at this moment (CVE-2024-23651 to 23653).
//!
//! What must never happen: a secret's value written to a disk, to a process's arguments, or into a key; something outside
//! of a source mounted, whatever links are in it; a mount point left in a layer.

pub mod agent;
mod bind;
pub mod cache;
pub mod secret;

pub use bind::{Files, digest_of};

use super::dockerfile::Access;
use crate::container::create::ownership;
use crate::container::monitor::ExtraMount;
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::rooted_fs::Root;
use crate::sandbox::{self, MountAttributes, outside};
use crate::state::Paths;
use crate::userns::Identity;
use cache::Slot;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;
use secret::Secret;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A mount of a step.
pub struct StepMount {
    /// Where, absolute.
    pub destination: String,
    /// What is written is refused.
    pub read_only: bool,
    /// What.
    pub what: What,
}

/// What is mounted.
pub enum What {
    /// Files to look at, or to write on for this step alone.
    Bind {
        /// Of what.
        of: Files,
        /// Which path of it.
        path: PathBuf,
    },
    /// A folder that outlives the build.
    Cache {
        /// Where it is.
        slot: Rc<Slot>,
        /// What it begins with.
        of: Option<(Vec<Digest>, PathBuf)>,
        /// Which path of it.
        path: PathBuf,
        /// Its owner and mode when it is made.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A secret's file.
    Secret {
        /// What is in it.
        value: Secret,
        /// Whose it is.
        access: Access,
    },
    /// A folder with one executable file.
    Program {
        /// Its name.
        name: String,
        /// What is in it.
        text: String,
    },
    /// A socket to an agent.
    Agent {
        /// The agent's.
        agent: PathBuf,
        /// Whose ours is.
        access: Access,
    },
}

/// What makes mounts.
pub struct Maker<'a> {
    /// Where state is.
    pub paths: &'a Paths,
    /// Who builds.
    pub identity: &'a Identity,
    /// Where the sockets of agents are, by the number of their mounts.
    pub sockets: &'a Path,
}

impl<'a> Maker<'a> {
    /// The mounts as a container's start takes them.
    pub fn extra(&'a self, mounts: &'a [StepMount]) -> Vec<ExtraMount<'a>> {
        let extra = |(number, mount): (usize, &'a StepMount)| ExtraMount {
            destination: mount.destination.clone(),
            attributes: MountAttributes { read_only: mount.read_only, ..MountAttributes::default() },
            make: Box::new(move |folder| self.make(number, mount, folder)),
        };
        mounts.iter().enumerate().map(extra).collect()
    }

    fn make(&self, number: usize, mount: &StepMount, folder: &Path) -> Result<OwnedFd, sandbox::Error> {
        let step = || format!("make the mount for {}", mount.destination);
        let store = LayerStore::open(self.paths, ownership(self.identity));
        match &mount.what {
            What::Bind { of, path } => bind::make(&store, of, path, !mount.read_only, folder),
            What::Cache { slot, of, path, access } => {
                let base = of.as_ref().map(|(layers, path)| (layers.as_slice(), path.as_path()));
                cache::make(&store, slot, base, path, *access, folder)
            }
            What::Tmpfs { size } => {
                let mut options = vec![("mode", "1777".to_owned())];
                options.extend(size.map(|size| ("size", size.to_string())));
                outside::memory(&options)
            }
            What::Secret { value, access } => {
                let access = Access { mode: Some(access.mode.unwrap_or(0o400)), ..*access };
                let root = attached(outside::memory(&[("mode", "755".to_owned())])?, folder)?;
                let file = new_file(&root, "secret", value.bytes(), access);
                outside::part(file.map_err(sandbox::Error::step(step()))?.as_fd())
            }
            What::Program { name, text } => {
                let root = outside::memory(&[("mode", "755".to_owned())])?;
                let access = Access { mode: Some(0o755), ..Access::default() };
                new_file(&root, name, text.as_bytes(), access).map_err(sandbox::Error::step(step()))?;
                Ok(root)
            }
            What::Agent { access, .. } => {
                let socket = self.sockets.join(agent::socket_name(number));
                let mode = access.mode.unwrap_or(0o600);
                std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode))
                    .and_then(|()| {
                        let owner = (access.uid.unwrap_or(0), access.gid.unwrap_or(0));
                        if owner == (0, 0) {
                            return Ok(());
                        }
                        std::os::unix::fs::lchown(&socket, Some(owner.0), Some(owner.1))
                    })
                    .map_err(sandbox::Error::step(step()))?;
                outside::tree(&socket, false)
            }
        }
    }
}

/// A new file system, attached in the caller's own mount namespace: a detached one could not be copied in part before Linux 6.15.
fn attached(tree: OwnedFd, folder: &Path) -> Result<Root, sandbox::Error> {
    sandbox::assemble(tree, folder, &[], true, false)
}

fn new_file(folder: impl AsFd, name: &str, bytes: &[u8], access: Access) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    give(file.as_fd(), access)?;
    Ok(file.into())
}

/// Owner and mode of something new that is root's.
fn give(file: impl AsFd, access: Access) -> io::Result<()> {
    let owner = (access.uid.unwrap_or(0), access.gid.unwrap_or(0));
    if owner != (0, 0) {
        fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1))).map_err(|e| match e {
            // chown(2): an id that the user's namespace does not have.
            Errno::INVAL => io::Error::other(format!("{}:{} is no id of the container", owner.0, owner.1)),
            e => e.into(),
        })?;
    }
    if let Some(mode) = access.mode {
        fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    }
    Ok(())
}
