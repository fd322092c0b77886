//! Owners, modes, times and extended attributes, always set on descriptors or on a name just made.

use super::tar::Entry;
use super::{Error, Limits, Ownership, path_of};
use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr,
    futimens, utimensat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// The true owner and mode where chown is not possible, as `uid:gid:mode` with an octal mode (containers-storage,
/// pkg/idtools; fuse-overlayfs(1), `xattr_permissions`).
pub const OVERRIDE_STAT: &str = "user.containers.override_stat";

/// Attributes that mean something to an overlay mount, or to us: in an archive they would forge a whiteout, a
/// redirect or an owner.
const FORGED: &[&[u8]] =
    &[b"user.overlay.", b"trusted.overlay.", b"user.fuseoverlayfs.", OVERRIDE_STAT.as_bytes()];

/// What an entry says about its file.
#[derive(Debug)]
pub struct Attributes {
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    uid: u32,
    gid: u32,
    /// `None` leaves the time of making.
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Whether an attribute is one that no archive may set.
pub fn is_forged(name: &[u8]) -> bool {
    FORGED.iter().any(|forged| name.starts_with(forged))
}

impl Attributes {
    /// Those of a directory that the archive uses but does not have.
    pub fn implicit() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: None, xattrs: Vec::new() }
    }

    /// Takes an entry's attributes, and checks them.
    pub fn of(entry: &mut Entry, limits: &Limits) -> Result<Self, Error> {
        let xattrs = std::mem::take(&mut entry.xattrs);
        for (name, value) in &xattrs {
            if is_forged(name) {
                return Err(Error::refused(
                    &entry.path,
                    "it has an attribute that only overlay mounts may set",
                ));
            }
            if value.len() as u64 > limits.xattr {
                return Err(Error::Limit { what: "bytes in an extended attribute", limit: limits.xattr });
            }
        }
        Ok(Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: Some(entry.mtime), xattrs })
    }

    /// Those of an entry that was made here.
    pub fn of_own(entry: &Entry) -> Self {
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Self { mode, uid, gid, mtime: Some(mtime), xattrs: entry.xattrs.clone() }
    }

    /// Bytes of memory that they take beyond their own size.
    pub fn weight(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum()
    }

    fn is_root_owned(&self) -> bool {
        (self.uid, self.gid) == (0, 0)
    }
}

/// Sets attributes.
pub struct Setter {
    ownership: Ownership,
    /// Bits that this process's umask takes from a new file's mode.
    umask: u32,
    /// Attributes that could not be set because the file system or the kernel has no room for them here.
    pub skipped_xattrs: u64,
}

impl Setter {
    /// For files of this process.
    pub fn new(ownership: Ownership) -> Self {
        Self { ownership, umask: umask(), skipped_xattrs: 0 }
    }

    /// The mode to create a regular file with, and whether its mode is right then and nothing but its time is left
    /// to set. Otherwise it is writable until [`Self::set`]: `user.*` attributes need that.
    pub fn creation_mode(&self, attributes: &Attributes) -> (Mode, bool) {
        let complete = attributes.is_root_owned()
            && attributes.xattrs.is_empty()
            && attributes.mode & (self.umask | 0o7000) == 0;
        (Mode::from_raw_mode(if complete { attributes.mode } else { 0o600 }), complete)
    }

    /// Sets the time only.
    pub fn set_time(&self, fd: impl AsFd, attributes: &Attributes, path: &[u8]) -> Result<(), Error> {
        match attributes.mtime {
            Some(mtime) => futimens(fd, &times(mtime)).map_err(Error::entry("set the time of", path)),
            None => Ok(()),
        }
    }

    /// Sets everything on an open file or directory. The order matters: chown(2) clears set-id bits and file
    /// capabilities, `user.*` attributes need write permission, and every one of them touches the times.
    pub fn set(&mut self, fd: impl AsFd, attributes: &Attributes, path: &[u8]) -> Result<(), Error> {
        let fd = fd.as_fd();
        if !attributes.is_root_owned() {
            match self.ownership {
                Ownership::Mapped => chowned(fchown(fd, uid(attributes), gid(attributes)), attributes, path)?,
                Ownership::SingleId => {
                    let Attributes { uid, gid, mode, .. } = attributes;
                    let value = format!("{uid}:{gid}:0{mode:o}");
                    fsetxattr(fd, OVERRIDE_STAT, value.as_bytes(), XattrFlags::empty())
                        .map_err(Error::entry("keep the owner of", path))?;
                }
            }
        }
        for (name, value) in &attributes.xattrs {
            self.set_xattr(fd, name, value, path)?;
        }
        fchmod(fd, Mode::from_raw_mode(attributes.mode)).map_err(Error::entry("set the mode of", path))?;
        self.set_time(fd, attributes, path)
    }

    /// Sets what a name that cannot be opened may have: a symbolic link (`with_mode` false) or a pipe.
    pub fn set_at(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        attributes: &Attributes,
        with_mode: bool,
        path: &[u8],
    ) -> Result<(), Error> {
        const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;
        if !attributes.is_root_owned() && self.ownership == Ownership::Mapped {
            let done = chownat(dir, name, uid(attributes), gid(attributes), NOFOLLOW);
            chowned(done, attributes, path)?;
        }
        // user.* is not for links and pipes (xattr(7)), security.* and trusted.* not for a user namespace.
        self.skipped_xattrs += attributes.xattrs.len() as u64;
        if with_mode {
            let mode = Mode::from_raw_mode(attributes.mode);
            chmodat(dir, name, mode, AtFlags::empty()).map_err(Error::entry("set the mode of", path))?;
        }
        match attributes.mtime {
            Some(mtime) => {
                utimensat(dir, name, &times(mtime), NOFOLLOW).map_err(Error::entry("set the time of", path))
            }
            None => Ok(()),
        }
    }

    /// docker's rule: attributes that cannot be had here are left out, other errors count.
    fn set_xattr(&mut self, fd: BorrowedFd<'_>, name: &[u8], value: &[u8], path: &[u8]) -> Result<(), Error> {
        match fsetxattr(fd, name, value, XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::PERM) => {
                self.skipped_xattrs += 1;
                Ok(())
            }
            // An ACL that names an id without a mapping.
            Err(Errno::INVAL) if name.starts_with(b"system.posix_acl_") => {
                self.skipped_xattrs += 1;
                Ok(())
            }
            Err(errno) => Err(Error::entry("set an extended attribute of", path)(errno)),
        }
    }
}

fn uid(attributes: &Attributes) -> Option<Uid> {
    Some(Uid::from_raw(attributes.uid))
}

fn gid(attributes: &Attributes) -> Option<Gid> {
    Some(Gid::from_raw(attributes.gid))
}

/// EINVAL from chown(2) is an id that the user namespace does not have.
fn chowned(done: Result<(), Errno>, attributes: &Attributes, path: &[u8]) -> Result<(), Error> {
    match done {
        Err(Errno::INVAL) => {
            let uid_is_mapped = std::fs::read_to_string("/proc/self/uid_map")
                .map_or(true, |map| is_mapped(&map, attributes.uid));
            let (what, id) = if uid_is_mapped { ("gid", attributes.gid) } else { ("uid", attributes.uid) };
            Err(Error::Unmapped { what, id, path: path_of(path) })
        }
        other => other.map_err(Error::entry("set the owner of", path)),
    }
}

/// Whether a uid_map or gid_map (user_namespaces(7)) has the id on its inside.
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), _, Some(Ok(count))) = (fields.next(), fields.next(), fields.next()) else {
            return false;
        };
        (inside..inside.saturating_add(count)).contains(&u64::from(id))
    })
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The umask, read without changing it for the process's other threads as umask(2) would (proc_pid_status(5)).
/// Where it cannot be read, every mode is set explicitly.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_up_in_all_lines_of_a_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert!(is_mapped(map, 0) && is_mapped(map, 65536));
        assert!(!is_mapped(map, 65537) && !is_mapped(map, 70000));
        assert!(is_mapped("0 0 4294967295\n", 70000));
        assert!(!is_mapped("", 0));
    }
}
