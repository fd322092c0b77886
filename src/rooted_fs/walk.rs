//! Resolving a path in a root one component at a time, for what openat2 does not do: kernels without it, and
//! making what is missing.

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// PATH_MAX, the terminating NUL included.
const MAX_PATH: usize = 4096;
/// How often a step is repeated when another process keeps undoing it.
const MAX_TRIES: u32 = 32;

const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` below `root` as openat2 with `RESOLVE_IN_ROOT` would.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let follow = !flags.contains(OFlags::NOFOLLOW);
    walk(root, path, None, follow, |dir, name| {
        let fd = rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)?;
        // O_PATH with O_NOFOLLOW opens a link itself.
        if follow && flags.contains(OFlags::PATH) && file_type(&fd)? == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        Ok(fd)
    })
}

/// Opens the directory `path` below `root`, making it and those above it.
pub(super) fn create_dir_all(root: BorrowedFd<'_>, path: &[u8], mode: Mode) -> Result<OwnedFd> {
    walk(root, path, Some(mode), true, |dir, name| open_or_make_dir(dir, name, Some(mode)))
}

/// Opens the regular file `path` below `root` with O_PATH, making it and the directories above it.
pub(super) fn create_file(root: BorrowedFd<'_>, path: &[u8], mode: Mode, dir_mode: Mode) -> Result<OwnedFd> {
    let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    walk(root, path, Some(dir_mode), true, |dir, name| {
        for _ in 0..MAX_TRIES {
            match rustix::fs::openat(dir, name, look, Mode::empty()) {
                Ok(fd) => {
                    return match file_type(&fd)? {
                        FileType::RegularFile => Ok(fd),
                        FileType::Symlink => Err(Errno::LOOP),
                        FileType::Directory => Err(Errno::ISDIR),
                        _ => Err(Errno::INVAL),
                    };
                }
                Err(Errno::NOENT) => match rustix::fs::openat(dir, name, make, mode) {
                    Ok(_) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                },
                Err(e) => return Err(e),
            }
        }
        Err(Errno::AGAIN)
    })
}

/// Walks to the directory that holds the last component and lets `last` open that. `last` must not follow links:
/// it fails with ELOOP or ENOTDIR at one, and if `follow` is set the walk goes on with the link's text. With
/// `make`, missing directories on the way are made with that mode.
fn walk(
    root: BorrowedFd<'_>,
    path: &[u8],
    make: Option<Mode>,
    follow: bool,
    mut last: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    // The chain of directories from the root (not included) to where we are.
    let mut chain: Vec<OwnedFd> = Vec::new();
    let mut rest = Vec::new();
    push_components(&mut rest, path)?;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let is_last = rest.is_empty();
        let here = chain.last().map_or(root, AsFd::as_fd);
        let opened = match name.as_bytes() {
            b".." => {
                chain.pop();
                if is_last {
                    rest.push(c".".to_owned());
                }
                continue;
            }
            b"." if !is_last => continue,
            _ if is_last => last(here, &name),
            _ => open_or_make_dir(here, &name, make),
        };
        match opened {
            Ok(fd) if is_last => return Ok(fd),
            Ok(fd) => chain.push(fd),
            Err(e @ (Errno::LOOP | Errno::NOTDIR)) if follow || !is_last => {
                let target = match rustix::fs::readlinkat(here, &name, Vec::new()) {
                    Ok(target) => target.into_bytes(),
                    Err(Errno::INVAL) => return Err(e),
                    Err(e) => return Err(e),
                };
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.starts_with(b"/") {
                    chain.clear();
                }
                push_components(&mut rest, &target)?;
            }
            Err(e) => return Err(e),
        }
    }
    // Unreachable: what is pushed is never empty, and the last component returns or pushes.
    Err(Errno::NOENT)
}

/// Opens `name` in `dir` as a directory, without following it.
fn open_or_make_dir(dir: BorrowedFd<'_>, name: &CStr, make: Option<Mode>) -> Result<OwnedFd> {
    for _ in 0..MAX_TRIES {
        match (rustix::fs::openat(dir, name, STEP, Mode::empty()), make) {
            (Err(Errno::NOENT), Some(mode)) => match rustix::fs::mkdirat(dir, name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            },
            (opened, _) => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// Puts the components of `path` on top of `rest`, the first one topmost. At least one is pushed.
fn push_components(rest: &mut Vec<CString>, path: &[u8]) -> Result<()> {
    if path.len() >= MAX_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    // A trailing slash asks for a directory, as a trailing "/." does.
    if path.ends_with(b"/") {
        rest.push(c".".to_owned());
    }
    for name in path.rsplit(|&b| b == b'/').filter(|name| !name.is_empty()) {
        rest.push(CString::new(name).map_err(|_| Errno::INVAL)?);
    }
    Ok(())
}

fn file_type(fd: &OwnedFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}
