//! Files of a stage, an image or the context.

use super::attached;
use crate::build::context::Context;
use crate::build::transfer::{folders, view};
use crate::build::{Error, cache, job};
use crate::container::session::Failure;
use crate::container::{files, in_one_line};
use crate::digest::Digest;
use crate::layers::{LayerStore, split};
use crate::rooted_fs::Root;
use crate::sandbox::{self, outside};
use crate::state::{self, Durability, Paths, create_dir_private};
use crate::union::{self, Layers, Upper};
use crate::userns::Identity;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, fstat, mknodat, utimensat};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What files are of.
pub enum Files {
    /// Layers, the lowest first.
    Layers(Vec<Digest>),
    /// A folder of the context.
    Context {
        /// The context.
        context: PathBuf,
        /// What of the folder that is mounted is left out, by paths from it.
        hidden: Vec<Vec<u8>>,
    },
}

type Made<T> = Result<T, sandbox::Error>;

fn step<E: Into<io::Error>>(what: &Path) -> impl FnOnce(E) -> sandbox::Error {
    sandbox::Error::step(format!("mount {}", what.display()))
}

/// Mounts them. The caller is root of the user's namespace, with mounts of its own; `folder` is empty, or has what was
/// written when they were mounted before.
pub(super) fn make(
    store: &LayerStore,
    of: &Files,
    path: &Path,
    is_writable: bool,
    folder: &Path,
) -> Made<OwnedFd> {
    let new = |name: &str| {
        let path = folder.join(name);
        create_dir_private(&path).map_err(|e| step(&path)(io::Error::other(e)))?;
        Ok::<_, sandbox::Error>(path)
    };
    // What a folder of the context is opened by stays open until it is mounted.
    let mut held = None;
    let (mut lower, path) = match of {
        Files::Layers(layers) => (folders(store, layers), path.to_owned()),
        Files::Context { context, hidden } => {
            let below = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
            let root = Root::open_dir(context).map_err(step(context))?;
            let stat = root.stat(path).map_err(step(path))?;
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let (top, rest) = if is_folder { (below, &b""[..]) } else { split(below) };
            let top = Path::new("/").join(OsStr::from_bytes(top));
            let opened = root.open(&top, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let opened = held.insert(opened.map_err(step(path))?);
            let mut lower = vec![PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))];
            if !hidden.is_empty() {
                let cover = folder.join("hidden");
                if !cover.exists() {
                    hide(opened, &new("hidden")?, hidden).map_err(step(path))?;
                }
                lower.insert(0, cover);
            }
            (lower, Path::new("/").join(OsStr::from_bytes(rest)))
        }
    };
    let upper = match is_writable {
        false => None,
        true => {
            // What overlayfs notes there keeps it from being mounted twice.
            let work = folder.join("work");
            state::remove_tree(&work).map_err(|e| step(&path)(io::Error::other(e)))?;
            let (upper, work) = (new("upper")?, new("work")?);
            let mode = lower.first().and_then(|top| top.metadata().ok()).map(|top| top.permissions());
            let mode = mode.unwrap_or_else(|| Permissions::from_mode(0o755));
            std::fs::set_permissions(&upper, mode).map_err(step(&path))?;
            Some(Upper { upper, work, volatile: true })
        }
    };
    // A union that cannot be written wants two.
    let least = if upper.is_some() { 1 } else { 2 };
    for name in ["nothing", "nothing-too"] {
        if lower.len() < least {
            lower.push(new(name)?);
        }
    }
    let at = new("at")?;
    let union = union::mount(&Layers { lower, data_only: Vec::new(), upper })
        .map_err(|e| step(&path)(io::Error::other(in_one_line(&e))))?;
    let root = attached(union, &at)?;
    let found = root.open_path(&path).map_err(step(&path))?;
    outside::part(found.as_fd())
}

/// Makes a layer that hides files of a folder: whiteouts, in folders that look as those that they are over.
fn hide(of: &OwnedFd, cover: &Path, hidden: &[Vec<u8>]) -> io::Result<()> {
    let root = Root::from_fd(of.try_clone()?)?;
    let mut made: BTreeSet<&[u8]> = BTreeSet::from([&b""[..]]);
    for path in hidden {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends {
            if made.insert(&path[..end]) {
                std::fs::create_dir(cover.join(OsStr::from_bytes(&path[..end])))?;
            }
        }
        mknodat(CWD, cover.join(OsStr::from_bytes(path)), FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    // What is below comes first: whatever is made in a folder changes its times.
    for path in made.into_iter().rev() {
        let fd = root.open_path_nofollow(Path::new("/").join(OsStr::from_bytes(path)))?;
        let stat = fstat(&fd)?;
        let copy = cover.join(OsStr::from_bytes(path));
        std::fs::set_permissions(&copy, Permissions::from_mode(stat.st_mode & 0o7777))?;
        // Of somebody who has no id here it is nobody's anyway.
        let _ = std::os::unix::fs::lchown(&copy, Some(stat.st_uid), Some(stat.st_gid));
        let time = |tv_sec, nanoseconds: u64| Timespec { tv_sec, tv_nsec: nanoseconds.cast_signed() };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        utimensat(CWD, &copy, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// The digest of what layers show at a path, by its content; none if there is nothing. Layers never change, so that it is
/// looked for once: `build-cache/trees/<key>`.
pub fn digest_of(
    paths: &Paths,
    identity: &Identity,
    layers: &[Digest],
    path: &str,
) -> Result<Option<Digest>, Error> {
    let key = cache::key(&["tree", &cache::layers_text(layers), path]);
    let folder = paths.build_cache().join("trees");
    let file = folder.join(key.hex());
    if let Ok(Some(known)) = state::read_json(&file) {
        return Ok(Some(known));
    }
    let found: Option<Digest> = job::as_root(paths, identity, |store| {
        files::separate().map_err(|e| Failure::of(&e))?;
        let scratch = store.scratch().map_err(|e| Failure::of(&e))?;
        let root = view(store, layers, scratch.path())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = root.open("/", flags, Mode::empty()).map_err(|source| {
            let (action, path) = ("open", PathBuf::from("/"));
            Failure::of(&files::Error::Io { action, path, source })
        })?;
        let mut context = Context::of_root(top);
        let tree = context.resolve(path.as_bytes()).and_then(|at| context.tree(&at));
        Ok(tree.map_err(|e| Failure::of(&e))?.map(|tree| tree.digest()))
    })?;
    if let Some(digest) = &found {
        create_dir_private(&folder)?;
        state::write_json(&file, digest, Durability::Process)?;
    }
    Ok(found)
}
