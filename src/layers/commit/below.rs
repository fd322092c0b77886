//! What the layers below have of a path, without mounting them: looked up layer by layer, as overlayfs does.

use super::super::unpack::join;
use super::super::walker::Walker;
use super::super::{Error, OVERRIDE_STAT, Ownership};
use super::{FOLDER, remembered_owner, remembers};
use crate::rooted_fs::follow;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Layers, the highest first.
pub(super) struct Below {
    layers: Vec<OwnedFd>,
    ownership: Ownership,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: FileType,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// What one layer says about a path.
enum Answer<T> {
    /// It has this there.
    Has(T),
    /// The path ends in it: nothing lower shows.
    Hides,
    /// The layers below it count.
    Silent,
}

/// Places for mounts.
#[derive(Debug, Default)]
pub(super) struct Places {
    points: BTreeSet<Vec<u8>>,
    /// They, and the folders on the way to them.
    ways: BTreeSet<Vec<u8>>,
}

impl Places {
    /// Whether something was mounted at the path.
    pub(super) fn is_point(&self, path: &[u8]) -> bool {
        self.points.contains(path)
    }

    /// Whether a folder may be there only for something to be mounted in it. The root always may.
    pub(super) fn is_on_the_way(&self, path: &[u8]) -> bool {
        path.is_empty() || self.ways.contains(path)
    }

    fn insert(&mut self, path: Vec<u8>) {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.ways.insert(path[..end].to_vec());
        }
        self.ways.insert(path.clone());
        self.points.insert(path);
    }
}

impl Below {
    pub(super) fn open(layers: impl Iterator<Item = PathBuf>, ownership: Ownership) -> Result<Self, Error> {
        let open =
            |path: PathBuf| openat(CWD, &path, FOLDER, Mode::empty()).map_err(Error::io("open", &path));
        Ok(Self { layers: layers.map(open).collect::<Result<_, _>>()?, ownership })
    }

    /// What the layers together show at a path.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<Found>, Errno> {
        for layer in &self.layers {
            match look(layer.as_fd(), path, |dir, name, stat| self.found(dir, name, stat))? {
                Answer::Has(found) => return Ok(Some(found)),
                Answer::Hides => return Ok(None),
                Answer::Silent => {}
            }
        }
        Ok(None)
    }

    /// The root's mode and owner, which are those of the highest layer.
    pub(super) fn root(&self) -> Result<Found, Errno> {
        match self.layers.first() {
            Some(top) => self.found(top.as_fd(), b".", &fstat(top)?),
            None => Ok(Found { kind: FileType::Directory, mode: 0o755, owner: (0, 0) }),
        }
    }

    /// Where mounts were, as paths in `upper`: links are followed as a process in the container would.
    pub(super) fn places(&self, upper: &OwnedFd, points: &[PathBuf]) -> io::Result<Places> {
        let mut places = Places::default();
        for point in points {
            let link = |folder: &[u8], name: &[u8]| self.link(upper, &join(folder, name));
            places.insert(follow(point.as_os_str().as_bytes(), link)?);
        }
        Ok(places)
    }

    /// The target of a link that is seen at a path.
    fn link(&self, upper: &OwnedFd, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        for layer in std::iter::once(upper).chain(&self.layers) {
            let target =
                look(layer.as_fd(), path, |dir, name, stat| match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink => Ok(Some(readlinkat(dir, name, Vec::new())?.into_bytes())),
                    _ => Ok(None),
                })?;
            match target {
                Answer::Has(target) => return Ok(target),
                Answer::Hides => return Ok(None),
                Answer::Silent => {}
            }
        }
        Ok(None)
    }

    fn found(&self, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<Found, Errno> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut owner = (stat.st_uid, stat.st_gid);
        if remembers(self.ownership) {
            owner = (0, 0);
        }
        if remembers(self.ownership) && kind == FileType::Directory {
            let fd = openat(dir, name, FOLDER, Mode::empty())?;
            let mut value = [0; 64];
            if let Ok(length) = fgetxattr(&fd, OVERRIDE_STAT, &mut value) {
                owner = remembered_owner(&value[..length]).unwrap_or(owner);
            }
        }
        Ok(Found { kind, mode: stat.st_mode & 0o7777, owner })
    }
}

/// Looks a path up in one layer.
fn look<T>(
    layer: BorrowedFd<'_>,
    path: &[u8],
    take: impl FnOnce(BorrowedFd<'_>, &[u8], &Stat) -> Result<T, Errno>,
) -> Result<Answer<T>, Errno> {
    let mut walker = Walker::searching(openat(layer, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let mut opaque = false;
    let mut start = 0;
    loop {
        let end = path[start..].iter().position(|&b| b == b'/').map_or(path.len(), |at| start + at);
        let name = &path[start..end];
        let stat = match statat(walker.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if opaque => return Ok(Answer::Hides),
            Err(Errno::NOENT) => return Ok(Answer::Silent),
            stat => stat?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Ok(Answer::Hides);
        }
        if end == path.len() {
            let hidden = kind == FileType::RegularFile
                && stat.st_size == 0
                && is_marked(walker.here(), name, "user.overlay.whiteout")?;
            return if hidden {
                Ok(Answer::Hides)
            } else {
                take(walker.here(), name, &stat).map(Answer::Has)
            };
        }
        if kind != FileType::Directory {
            return Ok(Answer::Hides);
        }
        opaque = opaque || is_marked(walker.here(), name, "user.overlay.opaque")?;
        walker.go(&path[..end]).map_err(|stopped| stopped.errno)?;
        start = end + 1;
    }
}

/// Whether a file or folder has the attribute with a value that means so.
fn is_marked(dir: BorrowedFd<'_>, name: &[u8], attribute: &str) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let mut value = [0; 8];
    match fgetxattr(&fd, attribute, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}
