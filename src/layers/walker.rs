//! Directories below a root, on descriptors.
//!
//! Every path is walked one component at a time with `O_DIRECTORY | O_NOFOLLOW` from a descriptor of the root, so a
//! symbolic link in any place stops the walk and `..`, which [`super::unpack`] refuses in names, cannot occur. The
//! directories of the last path stay open: a tar stream is ordered by directory, so that almost every entry finds
//! its parent open, and each directory is opened about once. (`openat2` with `RESOLVE_BENEATH |
//! RESOLVE_NO_SYMLINKS` would promise the same with as many system calls, and need a second way for kernels
//! that lack it.)

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most directories that stay open, so that a deep tree does not use up the process's descriptors.
const MOST_OPEN: usize = 32;
/// The same for walkers that are used together: the soft limit is 1024 in most places.
const MOST_OPEN_OF_ALL: usize = 512;

/// Opens directories by paths relative to its root.
pub struct Walker {
    root: OwnedFd,
    flags: OFlags,
    most_open: usize,
    /// The directory last gone to.
    path: Vec<u8>,
    /// The deepest directories on the way to it: where each one's path ends in `path`.
    open: VecDeque<(usize, OwnedFd)>,
}

/// Where a walk stopped.
#[derive(Debug)]
pub struct Stopped {
    /// The path up to and with the component that cannot be opened ends here.
    pub end: usize,
    /// Why not.
    pub errno: Errno,
}

impl Walker {
    /// A walker whose directories can be read and changed, for who builds the tree.
    pub fn new(root: OwnedFd) -> Self {
        Self { root, flags: OFlags::RDONLY, most_open: MOST_OPEN, path: Vec::new(), open: VecDeque::new() }
    }

    /// A walker that needs no more permission than to search directories.
    pub fn searching(root: OwnedFd) -> Self {
        Self { flags: OFlags::PATH, ..Self::new(root) }
    }

    /// For one of so many walkers at once: keeps fewer directories open.
    pub fn one_of(self, walkers: usize) -> Self {
        Self { most_open: (MOST_OPEN_OF_ALL / walkers.max(1)).clamp(1, MOST_OPEN), ..self }
    }

    /// The directory last gone to; the one before the obstacle after a walk that stopped.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.open.back().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// Goes to a directory: components without `.` or `..`, one slash between them, none for the root.
    pub fn go(&mut self, path: &[u8]) -> Result<(), Stopped> {
        while let Some((end, _)) = self.open.back()
            && !(path.starts_with(&self.path[..*end]) && matches!(path.get(*end), None | Some(b'/')))
        {
            self.open.pop_back();
        }
        let mut at = self.open.back().map_or(0, |(end, _)| *end);
        self.path.truncate(at);
        while at < path.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let length = path[start..].iter().position(|&b| b == b'/');
            let end = length.map_or(path.len(), |length| start + length);
            let flags = self.flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(self.here(), &path[start..end], flags, Mode::empty())
                .map_err(|errno| Stopped { end, errno })?;
            self.path.extend_from_slice(&path[at..end]);
            self.open.push_back((end, fd));
            if self.open.len() > self.most_open {
                self.open.pop_front();
            }
            at = end;
        }
        Ok(())
    }

    /// Closes what is open: the tree may have changed under it.
    pub fn forget(&mut self) {
        self.open.clear();
    }
}

/// The names in a folder, in the order of their bytes, and what they are as far as it says: some file systems do not.
pub fn sorted_names(folder: impl AsFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The parent's path and the last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn walker(dir: &std::path::Path) -> Walker {
        Walker::new(fs::File::open(dir).unwrap().into())
    }

    fn inode(walker: &Walker) -> u64 {
        rustix::fs::fstat(walker.here()).unwrap().st_ino
    }

    #[test]
    fn walks_arrive_where_the_path_says_from_wherever_the_last_one_ended() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let deep = vec!["d"; 100].join("/");
        for path in ["a/b/c", "a/bb", "ab", &deep] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for mut walker in [walker(dir.path()), walker(dir.path()).one_of(1000)] {
            for path in ["a/b/c", "a/bb", "a/b", "ab", "", &deep, &deep[..9], &deep, "a", "a/b/c"] {
                walker.go(path.as_bytes()).unwrap();
                assert_eq!(inode(&walker), fs::metadata(dir.path().join(path)).unwrap().ino(), "{path}");
            }
        }
    }

    #[test]
    fn a_walk_stops_before_links_and_missing_parts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/link")).unwrap();
        let mut walker = walker(dir.path());
        let stopped = walker.go(b"a/link/x").unwrap_err();
        assert_eq!((stopped.end, stopped.errno), (6, Errno::NOTDIR));
        let stopped = walker.go(b"a/b/no/x").unwrap_err();
        assert_eq!((stopped.end, stopped.errno), (6, Errno::NOENT));
        walker.go(b"a/b").unwrap();
    }
}
