//! A copy of a tree with all that belongs to it: content, modes, owners, times, extended attributes, links of both
//! kinds. Shared blocks where the file system can (FICLONE), else copied in the kernel.

use super::tree::{MAX_DEPTH, names, open_dir};
use crate::rooted_fs::Root;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Limits of xattr(7).
const MAX_XATTR: usize = 64 << 10;

/// Copies what is in `from` into the empty directory `to`, and `from`'s own attributes onto it. Device files are
/// left out: no namespace of a user could make them.
pub(super) fn copy_tree(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut copy = Copy { top: Root::from_fd(to.try_clone()?)?, links: HashMap::new(), path: PathBuf::new() };
    copy.folder(from, to, 0)
}

/// Copies what is in the folder `from` into the empty folder `to`, whose own attributes stay.
pub fn copy_contents(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut copy = Copy { top: Root::from_fd(to.try_clone()?)?, links: HashMap::new(), path: PathBuf::new() };
    names(from.as_fd())?.iter().try_for_each(|name| copy.entry(from.as_fd(), to.as_fd(), name, 0))
}

/// Gives `to` owner, mode, extended attributes and times of `from`, which is described by `stat`.
pub(super) fn copy_attributes(from: &OwnedFd, stat: &Stat, to: &OwnedFd) -> io::Result<()> {
    // In this order: a change of owner clears set-id bits and file capabilities, everything changes the times.
    set_owner(to, stat.st_uid, stat.st_gid)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(from, to)?;
    rustix::fs::futimens(to, &times(stat))?;
    Ok(())
}

/// Gives `to` away. An id that the user's namespace does not have (single-id mode) leaves the file to us.
pub(super) fn set_owner(to: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    unless_unmapped(rustix::fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
}

/// chown(2) answers EINVAL for an id without a mapping.
fn unless_unmapped(changed: Result<(), Errno>) -> io::Result<()> {
    match changed {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

struct Copy {
    top: Root,
    /// Files with several links that have been copied: their folder below `top`, and their name.
    links: HashMap<(u64, u64), (PathBuf, CString)>,
    /// The folder being copied, below `top`.
    path: PathBuf,
}

impl Copy {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in names(from.as_fd())? {
            self.entry(from.as_fd(), to.as_fd(), &name, depth)?;
        }
        copy_attributes(from, &rustix::fs::fstat(from)?, to)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CString,
        depth: u32,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let source = open_dir(from, name)?;
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let target = open_dir(to, name)?;
            self.path.push(OsStr::from_bytes(name.as_bytes()));
            let done = self.folder(&source, &target, depth + 1);
            self.path.pop();
            return done;
        }
        let inode = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && self.link(&inode, to, name) {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => copy_file(from, to, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
                set_owner_and_times(&stat, to, name)?;
            }
            FileType::Fifo | FileType::Socket => {
                rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), 0)?;
                set_owner_and_times(&stat, to, name)?;
            }
            _ => return Ok(()),
        }
        if stat.st_nlink > 1 {
            self.links.insert(inode, (self.path.clone(), name.clone()));
        }
        Ok(())
    }

    /// Makes `name` another link to the copy of `inode`, if there is one and the file system lets us. The folder is
    /// found through the root: somebody who has the volume already may have swapped it for a link.
    fn link(&self, inode: &(u64, u64), to: BorrowedFd<'_>, name: &CStr) -> bool {
        let Some((folder, first)) = self.links.get(inode) else { return false };
        self.top
            .open_path(Path::new("/").join(folder))
            .is_ok_and(|folder| rustix::fs::linkat(folder, first, to, name, AtFlags::empty()).is_ok())
    }
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, read, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::AGAIN.into());
    }
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?;
    let (source, target) = if stat.st_size > 0 && rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        let (mut source, mut target) = (File::from(source), File::from(target));
        // copy_file_range(2) where that works.
        io::copy(&mut source, &mut target)?;
        (source.into(), target.into())
    } else {
        (source, target)
    };
    copy_attributes(&source, &stat, &target)
}

/// For what cannot be opened without side effects. Only names of the new tree are touched.
fn set_owner_and_times(stat: &Stat, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    unless_unmapped(rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut list = Vec::with_capacity(1024);
    loop {
        match rustix::fs::flistxattr(from, spare_capacity(&mut list)) {
            Ok(_) => break,
            Err(Errno::RANGE) if list.capacity() < MAX_XATTR => list.reserve(MAX_XATTR),
            Err(Errno::NOTSUP) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
    for name in list.split_inclusive(|&b| b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
        if !belongs_to_file(name.to_bytes()) {
            continue;
        }
        let mut value = Vec::with_capacity(MAX_XATTR);
        match rustix::fs::fgetxattr(from, name, spare_capacity(&mut value)) {
            Ok(_) => {}
            Err(Errno::NODATA) => continue,
            Err(e) => return Err(e.into()),
        }
        match rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()) {
            // The volume's file system has none of this kind.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Whether an attribute goes with the file, rather than with the place it lies in: the union's marks and the labels
/// that the host's security modules set do not.
fn belongs_to_file(name: &[u8]) -> bool {
    let is_union = name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.");
    let is_label = name.starts_with(b"security.") && name != b"security.capability";
    !is_union && !is_label
}

fn times(stat: &Stat) -> Timestamps {
    // The kernel's own nanoseconds are below a thousand million.
    let nanos = |n: u64| i64::try_from(n).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: nanos(stat.st_atime_nsec) },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanos(stat.st_mtime_nsec) },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{open_data, tests::can_give_away};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_copy_has_all_that_the_original_has() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub/deep")).unwrap();
        fs::create_dir(&to).unwrap();
        let big: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        fs::write(from.join("sub/big"), &big).unwrap();
        fs::write(from.join("sub/deep/empty"), "").unwrap();
        fs::hard_link(from.join("sub/big"), from.join("z-link")).unwrap();
        fs::hard_link(from.join("sub/big"), from.join("sub/deep/a-link")).unwrap();
        symlink("/etc/passwd", from.join("abs")).unwrap();
        symlink("sub/missing", from.join("dangling")).unwrap();
        let fd = open_data(&from).unwrap();
        rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        let odd = OsStr::from_bytes(b"caf\xe9\n");
        fs::write(from.join(odd), "latin").unwrap();
        fs::set_permissions(from.join("sub/deep/empty"), fs::Permissions::from_mode(0o6711)).unwrap();
        fs::set_permissions(from.join("sub/deep"), fs::Permissions::from_mode(0o1500)).unwrap();
        let _ = rustix::fs::setxattr(from.join("sub/big"), "user.note", b"kept", XattrFlags::empty());
        let _ = rustix::fs::setxattr(&from, "user.overlay.opaque", b"y", XattrFlags::empty());
        let has_xattrs = rustix::fs::getxattr(from.join("sub/big"), "user.note", &mut [0; 16]) == Ok(4);
        let old = Timespec { tv_sec: 1_000_000, tv_nsec: 500 };
        let old = Timestamps { last_access: old, last_modification: old };
        for path in ["sub/big", "abs", "sub/deep", "sub"] {
            rustix::fs::utimensat(&fd, path, &old, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        if can_give_away() {
            for path in ["sub/big", "abs", "fifo", "sub"] {
                std::os::unix::fs::lchown(from.join(path), Some(12), Some(34)).unwrap();
            }
        }
        copy_tree(&fd, &open_data(&to).unwrap()).unwrap();

        for path in ["", "sub", "sub/big", "sub/deep", "sub/deep/empty", "abs", "dangling", "fifo"] {
            let [a, b] = [&from, &to].map(|top| fs::symlink_metadata(top.join(path)).unwrap());
            assert_eq!((a.mode(), a.uid(), a.gid()), (b.mode(), b.uid(), b.gid()), "{path}");
            assert_eq!((a.mtime(), a.mtime_nsec()), (b.mtime(), b.mtime_nsec()), "{path}");
        }
        assert_eq!(fs::read(to.join("sub/big")).unwrap(), big);
        assert_eq!(fs::read_to_string(to.join(odd)).unwrap(), "latin");
        assert_eq!(fs::read_link(to.join("abs")).unwrap(), Path::new("/etc/passwd"));
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("sub/big"), inode("z-link"));
        assert_eq!(inode("sub/big"), inode("sub/deep/a-link"));
        if has_xattrs {
            assert_eq!(rustix::fs::getxattr(to.join("sub/big"), "user.note", &mut [0; 16]), Ok(4));
            assert!(rustix::fs::getxattr(&to, "user.overlay.opaque", &mut [0; 16]).is_err());
        }
    }

    #[test]
    fn attributes_of_the_place_are_not_copied() {
        for (name, expected) in [
            ("user.note", true),
            ("user.containers.override_stat", true),
            ("security.capability", true),
            ("system.posix_acl_access", true),
            ("security.selinux", false),
            ("user.overlay.opaque", false),
            ("trusted.overlay.redirect", false),
        ] {
            assert_eq!(belongs_to_file(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let top = open_data(&from).unwrap();
        let mut here = top.try_clone().unwrap();
        for _ in 0..MAX_DEPTH + 10 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = open_dir(here.as_fd(), &c"d".to_owned()).unwrap();
        }
        assert!(copy_tree(&top, &open_data(&to).unwrap()).is_err());
    }
}
