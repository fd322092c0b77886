//! COPY, ADD and WORKDIR: files put over layers, as one more layer.
//!
//! The layers are mounted as a container has them, with an upper directory in the store's staging that becomes the new
//! layer ([`put`]). Where files go is resolved in that root ([`Root`]): no link of an image leads out of it. What is read is a
//! held folder of a context or the mounted layers of another stage; a path is resolved in there, too, and below it no
//! link is followed. [`filter`] leaves out what is not selected and makes entries what they are to be.
//!
//! What comes in the order of a layer, as all of a folder does, is not written there first: it becomes the layer as it is
//! read ([`LayerWriter`](crate::layers::LayerWriter)), and the mount, without an upper directory, only tells what is there.
//!
//! With `--link` there are no layers below: the new one depends on nothing but what is copied.

mod filter;
mod put;

use super::chmod::Modes;
use super::selection::Selection;
use super::sources::is_pattern;
use crate::container::create::dress_upper;
use crate::container::files;
use crate::container::session::Failure;
use crate::container::{self, ids};
use crate::diagnose::Diagnose;
use crate::digest::Digest;
use crate::layers::{self, CommitOptions, CommittedLayer, LayerStore, Take, Times};
use crate::rooted_fs::Root;
use crate::sandbox;
use crate::state::create_dir_private;
use crate::union::{self, Layers, Upper};
use crate::userns::{Identity, Mode as UserMode};
use put::Put;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is to be put where.
pub struct Transfer {
    /// What is there, the lowest first.
    pub layers: Vec<Digest>,
    /// What is put there; nothing: the destination is made a folder.
    pub pieces: Vec<Piece>,
    /// Absolute.
    pub destination: String,
    /// It is a folder whatever is there.
    pub is_folder: bool,
    /// `--chown`.
    pub owner: Option<String>,
    /// `--chmod`.
    pub modes: Option<Modes>,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
pub enum Transferred {
    /// The layer, if anything changed.
    Made(Option<Digest>),
    /// This file of a context was changed meanwhile.
    Changed(String),
}

/// One thing to put.
pub enum Piece {
    /// A file or folder of a folder of the host: only what is in the list, from itself on.
    Listed {
        /// The folder.
        folder: PathBuf,
        /// Where in it.
        path: Vec<u8>,
        /// What it is called where it comes to, if it is a file.
        name: Vec<u8>,
        /// By their paths in the folder.
        items: HashSet<Vec<u8>>,
        /// An archive is unpacked.
        unpack: bool,
    },
    /// What a path or pattern leads to in other layers.
    Whole {
        /// The lowest first.
        layers: Vec<Digest>,
        /// The path.
        path: String,
        /// What of it, if it is a folder.
        selection: Selection,
        /// A path that must be there.
        required: Option<String>,
        /// An archive is unpacked.
        unpack: bool,
    },
    /// A file with this name and content.
    Text(String, String),
}

fn failed(error: &dyn Diagnose) -> Failure {
    Failure::of(error)
}

fn io_failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| failed(&files::Error::Io { action, path, source })
}

fn refused(path: &[u8], why: &'static str) -> Failure {
    failed(&files::Error::Refused { path: OsStr::from_bytes(path).into(), why, fix: None })
}

impl Transfer {
    /// Carries it out. When all has been read, `changed` says what of it is no longer what it was when it was digested: then
    /// nothing is made of it. This process is root in the user's namespace and ends soon.
    pub fn run(
        &self,
        identity: &Identity,
        store: &LayerStore,
        changed: &dyn Fn() -> Result<Option<String>, Failure>,
    ) -> Result<Transferred, Failure> {
        files::separate().map_err(|e| failed(&e))?;
        let scratch = store.scratch().map_err(|e| failed(&e))?;
        let sources = Sources { store, scratch: scratch.path() };
        match self.is_in_order() {
            true => self.write(identity, &sources, changed),
            false => self.put_over(identity, &sources, changed),
        }
    }

    /// What is read becomes the layer at once.
    fn write(
        &self,
        identity: &Identity,
        sources: &Sources<'_>,
        changed: &dyn Fn() -> Result<Option<String>, Failure>,
    ) -> Result<Transferred, Failure> {
        let root = view(sources.store, &self.layers, sources.scratch)?;
        let below = (!self.layers.is_empty())
            .then(|| root.open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()));
        let below = below.transpose().map_err(io_failed("open", Path::new("/")))?;
        let writer = sources.store.writer(below).map_err(|e| failed(&container::Error::from(e)))?;
        let put = Put { layer: Some(RefCell::new(writer)), ..self.putting(identity, &root) };
        put.all(sources)?;
        // While the last of it is being made.
        if let Some(path) = changed()? {
            return Ok(Transferred::Changed(path));
        }
        made(put.layer.map_or(Ok(None), |writer| writer.into_inner().finish()))
    }

    /// What is read is written over the layers, and what was written becomes the layer.
    fn put_over(
        &self,
        identity: &Identity,
        sources: &Sources<'_>,
        changed: &dyn Fn() -> Result<Option<String>, Failure>,
    ) -> Result<Transferred, Failure> {
        let store = sources.store;
        let folder = |name: &str| {
            let path = sources.scratch.join(name);
            std::fs::create_dir(&path).map_err(io_failed("make", &path))?;
            Ok::<_, Failure>(path)
        };
        let (upper, work) = (folder("upper")?, folder("work")?);
        let mut lower = folders(store, &self.layers);
        let maps = ids::maps(identity, &sandbox::Ids::All);
        dress_upper(lower.first().map(PathBuf::as_path), &upper, &maps).map_err(|e| failed(&e))?;
        if lower.is_empty() {
            lower.push(folder("nothing")?);
        }
        let over = Upper { upper: upper.clone(), work, volatile: true };
        let layers = Layers { lower, data_only: Vec::new(), upper: Some(over) };
        let union = union::mount(&layers).map_err(|e| failed(&e))?;
        let root = Root::from_fd(union).map_err(io_failed("open", Path::new("/")))?;
        self.putting(identity, &root).all(sources)?;
        if let Some(path) = changed()? {
            return Ok(Transferred::Changed(path));
        }
        drop(root);
        let options = CommitOptions {
            take: Take::Move,
            below: &self.layers,
            maps: None,
            mount_points: &[],
            times: Times::Kept,
        };
        made(store.commit(&upper, &options))
    }

    fn putting<'a>(&'a self, identity: &Identity, root: &'a Root) -> Put<'a, 'a> {
        let single_id = matches!(identity.mode, UserMode::Single { .. });
        Put { transfer: self, single_id, root, layer: None }
    }

    /// Whether what is put comes in the order of a layer: one walk through one folder, or one file.
    fn is_in_order(&self) -> bool {
        match &self.pieces[..] {
            [Piece::Listed { folder, path, unpack, .. }] => {
                let is_folder = || {
                    let root = Root::open_dir(folder)?;
                    root.open(OsStr::from_bytes(path), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                };
                !unpack || is_folder().is_ok()
            }
            [Piece::Whole { path, unpack, .. }] => !unpack && !is_pattern(path),
            _ => false,
        }
    }
}

fn made(layer: Result<Option<CommittedLayer>, layers::Error>) -> Result<Transferred, Failure> {
    let layer = layer.map_err(|e| failed(&container::Error::from(e)))?;
    Ok(Transferred::Made(layer.map(|layer| layer.diff_id)))
}

pub(super) fn folders(store: &LayerStore, layers: &[Digest]) -> Vec<PathBuf> {
    layers.iter().rev().map(|layer| store.fs_dir(*layer)).collect()
}

/// What pieces are copied from.
struct Sources<'a> {
    store: &'a LayerStore,
    scratch: &'a Path,
}

impl Sources<'_> {
    /// A piece's; none if it comes from nowhere.
    fn of(&self, piece: &Piece) -> Result<Option<Root>, Failure> {
        match piece {
            Piece::Listed { folder, .. } => {
                Root::open_dir(folder).map(Some).map_err(io_failed("open", folder))
            }
            Piece::Whole { layers, .. } => view(self.store, layers, self.scratch).map(Some),
            Piece::Text(..) => Ok(None),
        }
    }
}

/// Other layers, to look at.
pub(super) fn view(store: &LayerStore, layers: &[Digest], scratch: &Path) -> Result<Root, Failure> {
    let mut lower = folders(store, layers);
    // A union that cannot be written wants two.
    for name in ["empty", "empty-too"] {
        if lower.len() < 2 {
            let empty = scratch.join(name);
            create_dir_private(&empty).map_err(|e| failed(&container::Error::from(e)))?;
            lower.push(empty);
        }
    }
    let union =
        union::mount(&Layers { lower, data_only: Vec::new(), upper: None }).map_err(|e| failed(&e))?;
    Root::from_fd(union).map_err(io_failed("open", Path::new("/")))
}
