//! `diff`: what a container has changed of its image, read off its writable layer alone.
//!
//! A whiteout is something deleted; anything else is changed if the layers below have it, else added. Of those only the
//! names are looked up that the writable layer has.

use super::view::separate;
use super::walk::{Attributes, Sink, Walk, path_of};
use super::{Error, Ids};
use crate::container::lifecycle::settled;
use crate::container::record::Record;
use crate::container::store::Container;
use crate::container::{self, mounting};
use crate::layers::{Entry, Kind, Walker, split};
use crate::state::Paths;
use crate::union::{self, Layers};
use crate::userns::{self, Identity};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in the image and in the container's layer.
    Changed,
    /// It is not in the image.
    Added,
    /// It is in the image and not in the container.
    Deleted,
}

/// Paths from the container's root and what happened to them, parents before what is in them.
pub type Changes = Vec<(PathBuf, Change)>;

/// What every start makes in the writable layer where the image lacks it: places for mounts.
const OURS: [&str; 7] =
    ["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/localtime"];

/// Where something is mounted in a container while it runs.
pub(super) fn mount_points(record: &Record) -> Vec<PathBuf> {
    let used = record.mounts.iter().map(|used| used.destination.as_str());
    let devices = record.spec.devices.iter().map(|device| device.path.as_str());
    OURS.into_iter().chain(used).chain(devices).map(PathBuf::from).collect()
}

/// What a container has changed of its image. This process becomes root in the user's namespace, with mounts of its own.
pub fn changes(paths: &Paths, identity: &Identity, container: &Container) -> Result<Changes, Error> {
    let container = settled(paths, container)?;
    let Container { record, places, .. } = &container;
    userns::enter(paths, identity).map_err(container::Error::from)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let upper = places.data.join("upper");
    let upper = match openat(CWD, &upper, flags, Mode::empty()) {
        Ok(fd) => fd,
        // It has never been started.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("open", &upper)(e)),
    };
    let below = below(paths, identity, record)?;
    let mut found = Collector { below: Walker::searching(below), record, changes: Vec::new() };
    let ids = Ids::default();
    Walk::new(&ids, false, Attributes::Archive).copy(upper.as_fd(), c".", b"", &mut found)?;
    Ok(found.changes)
}

/// The image's layers, joined.
fn below(paths: &Paths, identity: &Identity, record: &Record) -> Result<OwnedFd, Error> {
    let (lower, data_only) = mounting::lower_layers(paths, identity, record)?;
    match &lower[..] {
        [only] if data_only.is_empty() => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, only, flags, Mode::empty()).map_err(Error::io("open", only))
        }
        _ => {
            separate()?;
            Ok(union::mount(&Layers { lower, data_only, upper: None })?)
        }
    }
}

struct Collector<'a> {
    below: Walker,
    record: &'a Record,
    changes: Changes,
}

impl Collector<'_> {
    fn is_below(&mut self, path: &[u8]) -> bool {
        let (parent, name) = split(path);
        self.below.go(parent).is_ok()
            && statat(self.below.here(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                // A whiteout of a layer that is looked into by itself.
                stat.st_rdev != 0 || stat.st_mode & 0o170_000 != 0o020_000
            })
    }
}

impl Sink for Collector<'_> {
    fn put(&mut self, entry: &Entry, _: &mut dyn Read) -> Result<(), Error> {
        let path = Path::new("/").join(path_of(&entry.path));
        let is_ours = |ours: &str| path.as_os_str().as_bytes() == ours.as_bytes();
        let is_hidden = OURS.iter().any(|ours| is_ours(ours))
            || self.record.mounts.iter().any(|used| is_ours(&used.destination));
        if entry.path.is_empty() || is_hidden {
            return Ok(());
        }
        let change = match entry.kind {
            // An ordinary user's container can make no other device than a whiteout.
            Kind::Device => Change::Deleted,
            _ if self.is_below(&entry.path) => Change::Changed,
            _ => Change::Added,
        };
        self.changes.push((path, change));
        Ok(())
    }
}
