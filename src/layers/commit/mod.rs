//! A layer made of what was written: an overlay mount's upper directory becomes one of the store's.
//!
//! One walk over the directory alone, in the order of the names' bytes, does everything: it writes the table
//! ([`super::toc`]) and digests the archive that the table stands for, reading each file once; and it brings the files
//! into the form in which the unpacker leaves them, so that a layer that was made here and the same one pulled
//! elsewhere cannot be told apart. What is made is as docker makes it:
//!
//! | in the directory | in the layer |
//! |---|---|
//! | 0/0 device | whiteout |
//! | `user.overlay.opaque` | opaque folder; nothing if no layer below has that folder, where the kernel sets it only to save itself look-ups |
//! | owner | the image's: containers under other ids ([`CommitOptions::maps`]) are shifted back |
//! | time | whole seconds, cut off as docker does |
//! | attributes | `user.*` and file capabilities; overlayfs's, ACLs and the host's labels are left out |
//! | socket | nothing |
//! | an empty file or folder that was made only to be mounted over | nothing, nor the folders on the way to it |
//! | a folder that was copied up because of what is in it | the folder |
//!
//! Nothing changed is no layer ([`LayerStore::commit`] gives `None`), as docker has it: its history entry says
//! `empty_layer`. What cannot be said in a layer is refused: a file called `.wh.…`, and a folder or file that overlayfs marked as moved
//! (`redirect`, `metacopy`), which our own mounts never do.
//!
//! The layer grows in `staging/commit-<random>/` under a lock of that name, since its digest is known only at the
//! end; then it is published by the store's rules, or dropped if it is there already. What is killed on the way is
//! swept by [`LayerStore::collect`].
//!
//! What is copied from somewhere else need not be a directory first: a [`LayerWriter`] makes the same layer of entries as they come.
//!
//! What must never happen: a link followed, a file changed in a directory that is to be copied, a layer published that
//! its table does not describe.

mod archive;
mod below;
mod entries;
mod file;
mod maker;
#[cfg(test)]
mod tests;
mod walk;
#[cfg(test)]
mod writer_tests;

use super::attributes::Setter;
use super::shifted::merged;
use super::store::{LayerLock, LayerStore};
use super::toc::FS;
use super::unpack::make_root;
use super::walker::Walker;
use super::{Error, Ownership};
use crate::digest::Digest;
use crate::state::{Paths, create_dir_private, random_id, trash};
use crate::userns::{IdMap, IdRange};
use archive::Archive;
use below::Below;
pub use entries::LayerWriter;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use walk::Walk;

/// Names of the staging folders, and of their locks, begin so.
pub(super) const PREFIX: &str = "commit-";

/// Why a file with such a name is refused.
const WHITEOUT_NAME: &str = "in a layer such a name means that a file was removed";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What becomes of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It becomes the layer: it is no longer mounted, and is gone afterwards, also if that failed. If it is on another
    /// file system than the store, it is copied and left behind, changed in nothing.
    Move,
    /// It stays as it is.
    Copy,
}

/// Times of modification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// As they are.
    Kept,
    /// None is later than this second since 1970 (`SOURCE_DATE_EPOCH`).
    ClampedTo(i64),
    /// All are this second.
    SetTo(i64),
}

/// How a layer is made.
#[derive(Clone, Copy, Debug)]
pub struct CommitOptions<'a> {
    /// Whether the directory is used up.
    pub take: Take,
    /// The layers that it was mounted over, the lowest first.
    pub below: &'a [Digest],
    /// The ids of the container that wrote it, over the user's namespace; none: it had that namespace's own.
    pub maps: Option<(&'a IdMap, &'a IdMap)>,
    /// Where something was mounted in the container: absolute paths, links in them are followed.
    pub mount_points: &'a [PathBuf],
    /// What is done to times.
    pub times: Times,
}

/// A layer of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedLayer {
    /// Its digest.
    pub diff_id: Digest,
    /// Bytes in its regular files.
    pub size: u64,
    /// Bytes of its archive.
    pub archive_size: u64,
    /// Whether the store did not have it before.
    pub is_new: bool,
}

impl LayerStore {
    /// Makes a layer of what was written to `upper`; `None` if that is nothing. The caller is root of the user's
    /// namespace, keeps the layers below from being removed, and holds an image pin until something refers to the new one.
    pub fn commit(&self, upper: &Path, options: &CommitOptions<'_>) -> Result<Option<CommittedLayer>, Error> {
        let staging = Staging::make(&self.paths)?;
        let source = staging.source(upper, options.take)?;
        self.commit_staged(&staging, &source, options)
    }

    /// Makes one layer of several, the lowest first: what they show together over the layers `below`. `None` if that is
    /// nothing. The caller is as [`Self::commit`]'s.
    pub fn squash(
        &self,
        below: &[Digest],
        layers: &[Digest],
        times: Times,
    ) -> Result<Option<CommittedLayer>, Error> {
        let staging = Staging::make(&self.paths)?;
        let same = IdMap(vec![IdRange { inside: 0, outside: 0, count: u32::MAX }]);
        let folders: Vec<PathBuf> = layers.iter().rev().map(|layer| self.fs_dir(*layer)).collect();
        merged(&folders, &staging.dir, !below.is_empty(), &same)?;
        let source = Source::Taken(staging.dir.join(FS));
        let options = CommitOptions { take: Take::Move, below, maps: None, mount_points: &[], times };
        self.commit_staged(&staging, &source, &options)
    }

    /// The same layer with other times: one that was committed here over the layers `below`. The caller is as
    /// [`Self::commit`]'s.
    pub fn retimed(
        &self,
        below: &[Digest],
        layer: Digest,
        times: Times,
    ) -> Result<Option<CommittedLayer>, Error> {
        let options = CommitOptions { take: Take::Copy, below, maps: None, mount_points: &[], times };
        self.commit(&self.fs_dir(layer), &options)
    }

    fn commit_staged(
        &self,
        staging: &Staging<'_>,
        source: &Source,
        options: &CommitOptions<'_>,
    ) -> Result<Option<CommittedLayer>, Error> {
        let folder =
            openat(CWD, &staging.dir, FOLDER, Mode::empty()).map_err(Error::io("open", &staging.dir))?;
        let open = |path: &Path| openat(CWD, path, FOLDER, Mode::empty()).map_err(Error::io("open", path));
        let root = open(source.path())?;
        let (to, links) = match source {
            Source::Taken(_) => (None, None),
            Source::Copied(_) => {
                let to = make_root(&folder).map_err(Error::io("create", &staging.dir))?;
                let links = to.try_clone().map_err(Error::io("open", &staging.dir))?;
                (Some(Walker::new(to)), Some(Walker::new(links)))
            }
        };
        let below = Below::open(options.below.iter().rev().map(|layer| self.fs_dir(*layer)), self.ownership)?;
        let places = below.places(&root, options.mount_points).map_err(Error::io("read", source.path()))?;
        let walk = Walk {
            ownership: self.ownership,
            options,
            places,
            below,
            archive: Archive::create(&staging.dir)?,
            setter: Setter::new(self.ownership),
            to,
            links_from: links,
            links: std::collections::HashMap::new(),
            waiting: Vec::new(),
            size: 0,
            buffer: vec![0; 256 * 1024].into_boxed_slice(),
        };
        let (archive, size) = walk.run(root)?;
        self.published(staging, archive, size)
    }

    /// The layer of an archive whose files, of so many bytes, are in the staging folder; none if it has no entry.
    fn published(
        &self,
        staging: &Staging<'_>,
        archive: Archive,
        size: u64,
    ) -> Result<Option<CommittedLayer>, Error> {
        let Some((diff_id, archive_size)) = archive.finish()? else { return Ok(None) };
        let is_new = match self.to_be_built(diff_id)? {
            None => false,
            Some(lock) => {
                self.publish(&staging.dir, diff_id, size, &lock)?;
                true
            }
        };
        Ok(Some(CommittedLayer { diff_id, size, archive_size, is_new }))
    }

    /// Moves what dead committers left to the trash. Gives their number.
    pub(super) fn collect_commits(&self) -> Result<usize, Error> {
        let mut count = 0;
        for name in super::store::names(&self.paths.staging())? {
            if name.starts_with(PREFIX)
                && let Some(_lock) = LayerLock::try_take(self.paths.locks().join(&name))?
            {
                count += usize::from(trash(&self.paths, &self.paths.staging().join(name))?);
            }
        }
        Ok(count)
    }
}

/// Where the files are that are walked.
enum Source {
    /// In the staging folder, for good.
    Taken(PathBuf),
    /// Where they were.
    Copied(PathBuf),
}

impl Source {
    fn path(&self) -> &Path {
        let (Self::Taken(path) | Self::Copied(path)) = self;
        path
    }
}

/// A folder in the store's staging for what is to be committed, so that it can become the layer by a move. Dropped, it is
/// gone with all in it; what a killed process leaves is swept by [`LayerStore::collect`].
pub struct Scratch<'a>(Staging<'a>);

impl Scratch<'_> {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.dir
    }
}

impl LayerStore {
    /// Makes a [`Scratch`].
    pub fn scratch(&self) -> Result<Scratch<'_>, Error> {
        Ok(Scratch(Staging::make(&self.paths)?))
    }
}

/// A layer in the making. Dropped before it is published, it leaves nothing.
struct Staging<'a> {
    paths: &'a Paths,
    dir: PathBuf,
    _lock: LayerLock,
}

impl<'a> Staging<'a> {
    fn make(paths: &'a Paths) -> Result<Self, Error> {
        let id = random_id().map_err(Error::io("name", &paths.staging()))?;
        let name = format!("{PREFIX}{id}");
        create_dir_private(&paths.locks())?;
        let lock = LayerLock::take(paths.locks().join(&name))?;
        let dir = paths.staging().join(name);
        create_dir_private(&dir)?;
        create_dir_private(&paths.layers())?;
        Ok(Self { paths, dir, _lock: lock })
    }

    fn source(&self, upper: &Path, take: Take) -> Result<Source, Error> {
        if take == Take::Copy {
            return Ok(Source::Copied(upper.to_owned()));
        }
        let fs = self.dir.join(FS);
        match fs::rename(upper, &fs) {
            Ok(()) => Ok(Source::Taken(fs)),
            Err(e) if e.kind() == ErrorKind::CrossesDevices => Ok(Source::Copied(upper.to_owned())),
            Err(e) => Err(Error::io("move", upper)(e)),
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // After publishing there is nothing to move. If this fails, `collect` finds it.
        let _ = trash(self.paths, &self.dir);
    }
}

/// The owner in the image of a file with this owner. What belongs to nobody in the container is nobody's, as it is shown there.
fn owner_inside(maps: Option<(&IdMap, &IdMap)>, uid: u32, gid: u32) -> (u32, u32) {
    /// What the kernel shows of an id without a number (user_namespaces(7)).
    const OVERFLOW: u32 = 65534;
    match maps {
        None => (uid, gid),
        Some((uids, gids)) => (uids.inside(uid).unwrap_or(OVERFLOW), gids.inside(gid).unwrap_or(OVERFLOW)),
    }
}

/// `uid:gid:mode` of [`super::OVERRIDE_STAT`]: the owner. The mode counts on the file itself: what changes it in a container does not know
/// of the attribute.
fn remembered_owner(value: &[u8]) -> Option<(u32, u32)> {
    let mut fields = std::str::from_utf8(value).ok()?.split(':');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Whether owners are read off an attribute.
fn remembers(ownership: Ownership) -> bool {
    ownership == Ownership::SingleId
}
