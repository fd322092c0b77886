//! An image's files under other owners, without a copy of their content (DESIGN §5, "keep-id").
//!
//! Layers are stored with the image's ids taken as those of the user's namespace U, where 0 is the user. A container
//! with `--userns keep-id` has another map: its root is a subordinate id and the user has the user's number. For it
//! every file must belong to where the container's map has the image's id. Changing the owners of a copy is what takes
//! podman minutes; an id-mapped mount is not to be had by ordinary users.
//!
//! So there is, once per list of layers and pair of maps, a *shifted tree*:
//!
//! ```text
//! layers/shifted/<hex>/fs/     the merged image: whiteouts applied, owners shifted
//! layers/shifted/<hex>/state   {boot_id, durable, layers…}
//! ```
//!
//! * As [`Form::Metadata`] its regular files are holes of the right size with overlayfs's two attributes that say
//!   "content is elsewhere" and where: at the same path in the layers, which are mounted below as data-only
//!   layers. That the path leads to the right one of several layers follows from what merging is: a file is visible only if no higher
//!   layer has anything of its name.
//! * As [`Form::Copy`], where the kernel does not allow that to us, files are copied: blocks are shared where the file system can.
//!
//! [`merge`] makes the tree in one pass over all layers at once, folder by folder; [`attributes`] knows which
//! extended attributes have ids in them. What a tree is made of is in its name, so one tree is never changed: it is
//! built in staging under a lock, published by a rename, and swept when one of its layers has been removed. A tree of
//! an earlier boot that never became durable is built again.

mod attributes;
mod merge;
#[cfg(test)]
mod tests;

use super::Error;
use super::store::{LayerLock, LayerStore, names};
use super::toc::FS;
use crate::digest::Digest;
use crate::state::{Durability, Paths, create_dir_private, read_json, trash, write_json};
use crate::union;
use crate::userns::IdMap;
use merge::merge;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Names of a tree's lock and of its staging folder begin so.
pub(super) const PREFIX: &str = "shifted-";

/// What to mount for an image under other owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShiftedLayers {
    /// Read-only folders, top first.
    pub lower: Vec<PathBuf>,
    /// Where their files' content is, top first; may be empty.
    pub data_only: Vec<PathBuf>,
}

/// What a shifted tree's regular files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Holes that say where the content is.
    Metadata,
    /// Copies.
    Copy,
    /// Copies, and what hides files of layers below.
    Layer,
}

/// `layers/shifted/<hex>/state`.
#[derive(Clone, Serialize, Deserialize)]
struct State {
    /// The boot in which the tree was written.
    boot_id: String,
    /// Whether it has reached the disk.
    durable: bool,
    /// The layers that it shows.
    layers: Vec<Digest>,
    /// Those that its files' content is in, top first.
    data: Vec<Digest>,
}

impl LayerStore {
    /// The image of `layers`, the lowest first, for a container whose namespace maps ids to this one by `uids` and
    /// `gids`. Made if it is not there, or waited for while another process makes it. The caller is root of the user's
    /// namespace, with one thread, and keeps the layers from being removed.
    pub fn shifted(&self, layers: &[Digest], uids: &IdMap, gids: &IdMap) -> Result<ShiftedLayers, Error> {
        let form = if union::reads_data_only(&self.paths)? { Form::Metadata } else { Form::Copy };
        self.shifted_as(form, layers, uids, gids)
    }

    fn shifted_as(
        &self,
        form: Form,
        layers: &[Digest],
        uids: &IdMap,
        gids: &IdMap,
    ) -> Result<ShiftedLayers, Error> {
        let tree = Tree::of(&self.paths, form, layers, uids, gids);
        if let Some(shown) = self.usable(&tree) {
            return Ok(shown);
        }
        create_dir_private(&self.paths.locks())?;
        let lock = LayerLock::take(tree.lock.clone())?;
        if let Some(shown) = self.usable(&tree) {
            return Ok(shown);
        }
        trash(&self.paths, &tree.dir)?;
        let staging = Staging::make(&self.paths, &tree)?;
        let folders: Vec<PathBuf> = layers.iter().rev().map(|layer| self.fs_dir(*layer)).collect();
        let used = merge(&folders, &staging.dir, form, uids, gids)?;
        if let Some(gone) = layers.iter().find(|layer| !self.contains(**layer)) {
            return Err(Error::Missing(*gone));
        }
        let data = layers.iter().rev().zip(used).filter_map(|(layer, used)| used.then_some(*layer)).collect();
        let boot_id = self.boot().unwrap_or_default().to_owned();
        let state = State { boot_id, durable: false, layers: layers.to_vec(), data };
        write_json(&staging.dir.join("state"), &state, Durability::Process)?;
        create_dir_private(&shifted_dir(&self.paths))?;
        fs::rename(&staging.dir, &tree.dir).map_err(Error::io("publish", &tree.dir))?;
        drop(lock);
        Ok(self.shown(&tree, &state))
    }

    /// What to mount of a tree that is there and known to be whole.
    fn usable(&self, tree: &Tree) -> Option<ShiftedLayers> {
        let state = read_state(tree).ok().flatten()?;
        let whole = state.durable || self.boot().is_some_and(|boot| boot == state.boot_id);
        whole.then(|| self.shown(tree, &state))
    }

    fn shown(&self, tree: &Tree, state: &State) -> ShiftedLayers {
        ShiftedLayers {
            lower: vec![tree.dir.join(FS)],
            data_only: state.data.iter().map(|layer| self.fs_dir(*layer)).collect(),
        }
    }

    /// Removes the trees that have lost a layer, and those that cannot be told to have all. One that is being built
    /// at this moment is left for the next time.
    pub(super) fn sweep_shifted(&self) -> Result<(), Error> {
        for tree in Tree::all(&self.paths)? {
            let state = read_state(&tree).ok().flatten();
            let is_whole = |state: State| {
                state.layers.iter().all(|layer| self.fs_dir(*layer).symlink_metadata().is_ok())
            };
            if !state.is_some_and(is_whole)
                && let Some(_lock) = LayerLock::try_take(tree.lock.clone())?
            {
                trash(&self.paths, &tree.dir)?;
            }
        }
        Ok(())
    }

    /// The trees of this boot that are to be synced, locked.
    pub(super) fn unsynced_shifted(&self) -> Result<Vec<Unsynced>, Error> {
        let mut unsynced = Vec::new();
        let is_ours = |state: &State| !state.durable && self.boot().is_some_and(|boot| boot == state.boot_id);
        for tree in Tree::all(&self.paths)? {
            if !read_state(&tree).ok().flatten().is_some_and(|state| is_ours(&state)) {
                continue;
            }
            let Some(lock) = LayerLock::try_take(tree.lock.clone())? else { continue };
            if let Some(state) = read_state(&tree).ok().flatten().filter(is_ours) {
                unsynced.push(Unsynced { tree, state, _lock: lock });
            }
        }
        Ok(unsynced)
    }

    /// Moves what dead builders left to the trash. Gives their number.
    pub(super) fn collect_shifted(&self) -> Result<usize, Error> {
        let mut count = 0;
        for name in names(&self.paths.staging())? {
            let Some(tree) = name.strip_prefix(PREFIX).and_then(|hex| Tree::named(&self.paths, hex)) else {
                continue;
            };
            if let Some(_lock) = LayerLock::try_take(tree.lock)? {
                count += usize::from(trash(&self.paths, &tree.staging)?);
            }
        }
        Ok(count)
    }
}

/// Makes what `layers`, the highest first, show together, with copies of their files, in the folder `fs` of `place`. If there
/// is something `below` them, what they hide of it stays hidden.
pub(super) fn merged(layers: &[PathBuf], place: &Path, below: bool, ids: &IdMap) -> Result<(), Error> {
    let form = if below { Form::Layer } else { Form::Copy };
    merge(layers, place, form, ids, ids).map(drop)
}

/// Where a tree is.
struct Tree {
    dir: PathBuf,
    staging: PathBuf,
    lock: PathBuf,
}

impl Tree {
    fn of(paths: &Paths, form: Form, layers: &[Digest], uids: &IdMap, gids: &IdMap) -> Self {
        let layers: String = layers.iter().map(|layer| format!("{layer}\n")).collect();
        let made_of = format!("{form:?} 1\n{layers}uids\n{}gids\n{}", uids.to_proc(), gids.to_proc());
        Self::at(paths, Digest::of(made_of.as_bytes()))
    }

    fn named(paths: &Paths, hex: &str) -> Option<Self> {
        Digest::from_hex(hex).ok().map(|key| Self::at(paths, key))
    }

    fn at(paths: &Paths, key: Digest) -> Self {
        let name = format!("{PREFIX}{}", key.hex());
        Self {
            dir: shifted_dir(paths).join(key.hex()),
            staging: paths.staging().join(&name),
            lock: paths.locks().join(name),
        }
    }

    fn all(paths: &Paths) -> Result<Vec<Self>, Error> {
        let names = names(&shifted_dir(paths))?;
        Ok(names.iter().filter_map(|name| Self::named(paths, name)).collect())
    }
}

fn shifted_dir(paths: &Paths) -> PathBuf {
    paths.layers().join("shifted")
}

fn read_state(tree: &Tree) -> Result<Option<State>, crate::state::Error> {
    read_json(&tree.dir.join("state"))
}

/// A tree that is whole, but may not have reached the disk. Nobody replaces it meanwhile.
pub(super) struct Unsynced {
    tree: Tree,
    state: State,
    _lock: LayerLock,
}

impl Unsynced {
    /// After the sync.
    pub(super) fn set_durable(self) -> Result<(), Error> {
        let state = State { durable: true, ..self.state };
        Ok(write_json(&self.tree.dir.join("state"), &state, Durability::Process)?)
    }
}

/// A tree in the making; dropped before it is published, it leaves nothing.
struct Staging<'a> {
    paths: &'a Paths,
    dir: PathBuf,
}

impl<'a> Staging<'a> {
    /// What is there is of a dead process: the caller has the tree's lock.
    fn make(paths: &'a Paths, tree: &Tree) -> Result<Self, Error> {
        trash(paths, &tree.staging)?;
        create_dir_private(&tree.staging)?;
        Ok(Self { paths, dir: tree.staging.clone() })
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // After publishing there is nothing to move. If this fails, `collect` finds it.
        let _ = trash(self.paths, &self.dir);
    }
}
