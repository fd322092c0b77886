//! The result's files, without the image.

use crate::build::{Error, transfer};
use crate::container::files::{self, Owner, Tree, TreeOptions};
use crate::container::session::Failure;
use crate::image::{Documents, ImageConfig};
use crate::layers::LayerStore;
use crate::rooted_fs::Root;
use crate::userns::{Identity, Mode as UserMode};
use rustix::fs::{CWD, Mode, OFlags};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Writes them as a tar stream, with the owners that they have in the image. This process is root in the user's
/// namespace and ends soon.
pub fn archive(
    identity: &Identity,
    layers: &LayerStore,
    made: &Documents,
    time: Option<i64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let write = |root: &Root| files::write_root(root, is_single(identity), time, out);
    with_root(layers, made, write)
}

/// Puts them into a folder, in place of what has the same names. They become the user's. This process is root in the
/// user's namespace and ends soon.
pub fn folder(
    identity: &Identity,
    layers: &LayerStore,
    made: &Documents,
    time: Option<i64>,
    folder: OwnedFd,
) -> Result<(), Failure> {
    let options = TreeOptions {
        // Root of the namespace is the user himself.
        owner: Owner::One(0, 0),
        single_id: false,
        plain_modes: true,
        overwrite: true,
    };
    with_root(layers, made, |root| {
        let mut tree = Tree::new(folder, options)?;
        files::copy_root(root, is_single(identity), time, &mut tree)?;
        tree.finish()
    })
}

/// Opens the folder that is to be filled, made if it is not there.
pub fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    std::fs::create_dir_all(path).map_err(Error::file("make", path))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| Error::file("open", path)(e.into()))
}

fn is_single(identity: &Identity) -> bool {
    matches!(identity.mode, UserMode::Single { .. })
}

fn with_root(
    layers: &LayerStore,
    made: &Documents,
    work: impl FnOnce(&Root) -> Result<(), files::Error>,
) -> Result<(), Failure> {
    let config: ImageConfig = serde_json::from_slice(&made.config)
        .map_err(|e| Failure::of(&Error::io("read the image's config")(std::io::Error::from(e))))?;
    files::separate().map_err(|e| Failure::of(&e))?;
    let scratch = layers.scratch().map_err(|e| Failure::of(&crate::container::Error::from(e)))?;
    let root = transfer::view(layers, &config.rootfs.diff_ids, scratch.path())?;
    work(&root).map_err(|e| Failure::of(&e))
}
