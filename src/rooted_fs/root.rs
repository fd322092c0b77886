//! A directory as the root of every path given to it.

use super::walk;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

/// openat2 gives up with EAGAIN when a rename or mount anywhere races with a `..` in the path; after so many tries
/// we walk by hand, which cannot be disturbed.
const MAX_TRIES: u32 = 32;
/// Mode of directories that [`Root::create_file`] makes on its way.
const DIR_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);

/// A directory that no path given to its methods can leave. Paths may be absolute or relative: both start at the
/// root. `O_CLOEXEC` is always added.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    openat2: bool,
}

impl Root {
    /// The directory at `path`, which is resolved as usual and must be trusted.
    pub fn open_dir(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::open(path, flags, Mode::empty())?, openat2: has_openat2() })
    }

    /// The directory that `dir` is open on, `O_PATH` or not; also the root of a detached mount.
    pub fn from_fd(dir: OwnedFd) -> io::Result<Self> {
        match FileType::from_raw_mode(rustix::fs::fstat(&dir)?.st_mode) {
            FileType::Directory => Ok(Self { dir, openat2: has_openat2() }),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// Opens `path` with open(2)'s flags. `mode` counts only with `O_CREAT` or `O_TMPFILE`; the umask applies.
    /// A dangling link at the end is followed by `O_CREAT`, inside the root, unless `O_EXCL` or `O_NOFOLLOW` is set.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = path.as_ref().as_os_str().as_bytes();
        let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode } else { Mode::empty() };
        let flags = flags | OFlags::CLOEXEC;
        if self.openat2 {
            let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..MAX_TRIES {
                match rustix::fs::openat2(&self.dir, path, flags, mode, inside) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    opened => return Ok(opened?),
                }
            }
        }
        Ok(walk::open(self.dir.as_fd(), path, flags, mode)?)
    }

    /// An `O_PATH` descriptor of what `path` leads to.
    pub fn open_path(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH, Mode::empty())
    }

    /// An `O_PATH` descriptor of `path` itself, also if it is a symbolic link.
    pub fn open_path_nofollow(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// An `O_PATH` descriptor of the directory `path`, which is made with its parents if it is not there. `mode` is
    /// that of each directory made, less the umask. Dangling links on the way have their targets made.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: Mode) -> io::Result<OwnedFd> {
        Ok(walk::create_dir_all(self.dir.as_fd(), path.as_ref().as_os_str().as_bytes(), mode)?)
    }

    /// An `O_PATH` descriptor of the regular file `path`, which is made empty if it is not there; so are its parents
    /// (mode 0755 less the umask). Anything else of that name is refused: EISDIR for a directory, else EINVAL.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: Mode) -> io::Result<OwnedFd> {
        Ok(walk::create_file(self.dir.as_fd(), path.as_ref().as_os_str().as_bytes(), mode, DIR_MODE)?)
    }

    /// The contents of a regular file of at most `max` bytes; `None` if it is not there. A larger file is an error,
    /// and so is a file of another type: a fifo put in the place of `/etc/passwd` must not make us wait.
    pub fn read_bounded(&self, path: impl AsRef<Path>, max: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            let why = format!("larger than the {max} bytes that are accepted");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(Some(bytes))
    }

    /// What `path` leads to.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.open_path(path)?)?)
    }

    /// The text of the symbolic link `path`.
    pub fn readlink(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let link = self.open_path_nofollow(path)?;
        match rustix::fs::readlinkat(&link, c"", Vec::new()) {
            Ok(text) => Ok(text.into_bytes()),
            // What readlink(2) says of a file that is no link; with an empty path the kernel says ENOENT.
            Err(Errno::NOENT) => Err(Errno::INVAL.into()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Whether openat2 works here. Filters of older container tools answer EPERM to calls they do not know.
pub(super) fn has_openat2() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(rustix::fs::CWD, c"/", flags, Mode::empty(), ResolveFlags::IN_ROOT);
        !matches!(opened, Err(Errno::NOSYS | Errno::PERM))
    })
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
