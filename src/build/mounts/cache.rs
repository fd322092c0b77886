//! Cache mounts: folders of the store that outlive builds.
//!
//! ```text
//! build-cache/mounts/<key>/<number>/lock     held while a step has it: by readers together, or by one
//!                                  /data     what is mounted
//!                                  /making   held while `data` is made
//!                                  /new      what becomes `data`; left by who was killed
//! ```
//!
//! The key is over all that tells one cache from another. Of a shared or a locked cache there is number 0 alone; a private
//! one has as many as there are steps that had it at the same time. The lock is taken by the build before the step
//! begins, and inherited by the step's monitor: it ends with the last of them, whatever ends them. Whoever wants to remove a
//! cache takes its lock as if he were to use it alone.

use super::{attached, bind, give};
use crate::build::dockerfile::{Access, CacheSharing};
use crate::build::mounts::Files;
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::rooted_fs::Root;
use crate::sandbox::{self, outside};
use crate::state::{self, Lock, Paths, create_dir_private};
use crate::volume;
use rustix::fs::{Mode, OFlags, fstat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A cache, held until this and what was forked meanwhile is gone.
pub struct Slot {
    folder: PathBuf,
    _lock: Lock,
}

impl Slot {
    /// Takes a cache, waiting for others as its sharing says. `waits` is told before that is done.
    pub fn take(
        paths: &Paths,
        key: Digest,
        sharing: CacheSharing,
        waits: &dyn Fn(),
    ) -> Result<Slot, state::Error> {
        let of_key = paths.build_cache().join("mounts").join(key.hex());
        create_dir_private(&of_key)?;
        // The time of its last use, by which it goes one day.
        let _ = std::fs::File::open(&of_key).and_then(|f| f.set_modified(SystemTime::now()));
        let mut number = 0u32;
        loop {
            let folder = of_key.join(number.to_string());
            create_dir_private(&folder)?;
            let path = folder.join("lock");
            let lock = match sharing {
                CacheSharing::Private => {
                    let Some(lock) = Lock::try_exclusive(&path)? else {
                        number += 1;
                        continue;
                    };
                    lock
                }
                CacheSharing::Shared => {
                    if Lock::is_held(&path)? {
                        waits();
                    }
                    Lock::shared(&path)?
                }
                CacheSharing::Locked => match Lock::try_exclusive(&path)? {
                    Some(lock) => lock,
                    None => {
                        waits();
                        Lock::exclusive(&path)?
                    }
                },
            };
            return Ok(Slot { folder, _lock: lock });
        }
    }
}

/// Mounts a path of a cache, which is made if it is new, with what layers have at a path. The caller is root of the user's
/// namespace, with mounts of its own; `folder` is empty.
pub(super) fn make(
    store: &LayerStore,
    slot: &Slot,
    base: Option<(&[Digest], &Path)>,
    path: &Path,
    access: Access,
    folder: &Path,
) -> Result<OwnedFd, sandbox::Error> {
    let data = slot.folder.join("data");
    let step = || format!("make the cache {}", slot.folder.display());
    {
        let _making = Lock::exclusive(&slot.folder.join("making"))
            .map_err(|e| sandbox::Error::step(step())(io::Error::other(e)))?;
        if !data.exists() {
            let new = slot.folder.join("new");
            state::remove_tree(&new)
                .and_then(|()| create_dir_private(&new))
                .map_err(|e| sandbox::Error::step(step())(io::Error::other(e)))?;
            let opened = folder_of(&new).map_err(sandbox::Error::step(step()))?;
            let mut access = Access { mode: Some(access.mode.unwrap_or(0o755)), ..access };
            if let Some((layers, from)) = base {
                let tree = bind::make(store, &Files::Layers(layers.to_vec()), from, false, folder)?;
                let place = folder.join("from");
                create_dir_private(&place).map_err(|e| sandbox::Error::step(step())(io::Error::other(e)))?;
                let tree = attached(tree, &place)?;
                access = fill(&tree, &opened, access).map_err(sandbox::Error::step(step()))?;
            }
            give(&opened, access).map_err(sandbox::Error::step(step()))?;
            std::fs::rename(&new, &data).map_err(sandbox::Error::step(step()))?;
        }
    }
    // Another step may be swapping what is in it for links at this moment.
    let root = Root::open_dir(&data).map_err(sandbox::Error::step(step()))?;
    let found = root.open_path(path).map_err(sandbox::Error::step(format!(
        "mount {} of the cache",
        path.strip_prefix("/").unwrap_or(path).display()
    )))?;
    outside::part(found.as_fd())
}

fn folder_of(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Copies what a new cache begins with; its owner and mode, where they are not said.
fn fill(from: &Root, to: &OwnedFd, access: Access) -> io::Result<Access> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty())?;
    let stat = fstat(&from)?;
    volume::copy_contents(&from, to)?;
    Ok(Access {
        mode: access.mode,
        uid: Some(access.uid.unwrap_or(stat.st_uid)),
        gid: Some(access.gid.unwrap_or(stat.st_gid)),
    })
}
