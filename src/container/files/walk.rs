//! Reading a tree of files: one entry after the other, parents before what is in them.
//!
//! Every step is by one name in a held directory and follows no link, so whoever changes the tree meanwhile cannot lead
//! us out of it; what vanishes is left out. Only so many directories are open at once, however deep the tree is.

use super::{Error, Ids};
use crate::layers::{Entry, Kind, OVERRIDE_STAT, Walker, sorted_names};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Limits of xattr(7).
const MAX_XATTR: usize = 64 << 10;

/// Magic numbers of file systems whose files are not on any disk (statfs(2)): procfs, sysfs, cgroup, cgroup2, devpts,
/// mqueue, debugfs, tracefs, securityfs, bpf.
const PSEUDO: [u64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
];

/// An extended attribute: its name and its value.
type Xattr = (Vec<u8>, Vec<u8>);

/// Takes entries. `content` is that of a regular file, and of anything else empty.
pub trait Sink {
    /// Takes one; its path is relative, without a slash at its ends, and empty for the top.
    fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error>;

    /// Whether it takes anything of this path, or below it: what it does not want is not looked at.
    fn wants(&self, _path: &[u8]) -> bool {
        true
    }
}

/// Which extended attributes go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// All that belong to a file rather than to its place.
    All,
    /// Those that docker puts into archives: the user's, and file capabilities.
    Archive,
}

/// Reads trees.
pub struct Walk<'a> {
    ids: &'a Ids,
    single_id: bool,
    attributes: Attributes,
    /// Files with several links are given as files of their own.
    apart: bool,
    /// Files with several links that were met: under which path first.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Sockets, which nobody can copy.
    pub skipped: u64,
}

/// A directory that is being read.
struct Level {
    /// Below the top.
    path: Vec<u8>,
    device: u64,
    names: std::vec::IntoIter<(CString, FileType)>,
}

impl<'a> Walk<'a> {
    /// For trees of one world; with `single_id`, owners that are remembered in an attribute count.
    pub fn new(ids: &'a Ids, single_id: bool, attributes: Attributes) -> Self {
        Self { ids, single_id, attributes, apart: false, links: HashMap::new(), skipped: 0 }
    }

    /// Each name of a file with several becomes a file of its own: for a sink that does not take all that it is given.
    #[must_use]
    pub fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// Gives `name` in `dir`, with all below it, to the sink under the path `to`. A directory is `top` itself.
    pub fn copy(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        to: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let top = match self.visit(dir, (name, FileType::Unknown), to.to_vec(), sink) {
            Ok(Some(top)) => top,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.below(top, to, sink)
    }

    /// Gives what is in `top`, which has been given itself, to the sink.
    fn below(&mut self, top: OwnedFd, to: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        let level = |path: Vec<u8>, fd: &OwnedFd| {
            let names = sorted_names(fd).map_err(Error::io("read", path_of(&path)))?;
            let device = rustix::fs::fstat(fd).map_err(Error::io("read", path_of(&path)))?.st_dev;
            Ok::<_, Error>(Level { path, device, names: names.into_iter() })
        };
        let mut stack = vec![level(Vec::new(), &top)?];
        let mut walker = Walker::new(top);
        while let Some(here) = stack.last_mut() {
            let Some((name, kind)) = here.names.next() else {
                stack.pop();
                continue;
            };
            let path = join(&here.path, name.to_bytes());
            if !sink.wants(&join(to, &path)) {
                continue;
            }
            // Moved or removed meanwhile: with all that was left to be read in it.
            if walker.go(&here.path).is_err() {
                stack.pop();
                continue;
            }
            let device = here.device;
            match self.visit(walker.here(), (&name, kind), join(to, &path), sink) {
                Ok(Some(child)) => {
                    if !is_foreign(&child, device).map_err(Error::io("read", path_of(&path)))? {
                        stack.push(level(path, &child)?);
                    }
                }
                Ok(None) => {}
                Err(Error::Io { action: "read", source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives one file to the sink; what it is if its directory has said so. A directory comes back opened.
    fn visit(
        &mut self,
        dir: BorrowedFd<'_>,
        (name, kind): (&CStr, FileType),
        path: Vec<u8>,
        sink: &mut dyn Sink,
    ) -> Result<Option<OwnedFd>, Error> {
        let shown = path_of(if path.is_empty() { name.to_bytes() } else { &path });
        let read = |e: Errno| Error::io("read", &shown)(e);
        let stat = || rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(read);
        let kind = match kind {
            FileType::Unknown => FileType::from_raw_mode(stat()?.st_mode),
            kind => kind,
        };
        // O_NONBLOCK: a fifo may be put in the place of a file meanwhile, and is not waited for.
        let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match kind {
            FileType::Directory => {
                let fd =
                    rustix::fs::openat(dir, name, open | OFlags::DIRECTORY, Mode::empty()).map_err(read)?;
                let stat = rustix::fs::fstat(&fd).map_err(read)?;
                let entry = self.entry(Kind::Directory, path, &stat, Some(&fd)).map_err(read)?;
                sink.put(&entry, &mut io::empty())?;
                return Ok(Some(fd));
            }
            FileType::RegularFile => {
                let fd = rustix::fs::openat(dir, name, open, Mode::empty()).map_err(read)?;
                let stat = rustix::fs::fstat(&fd).map_err(read)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Error::refused(shown, "it was replaced while it was copied"));
                }
                if let Some(entry) = self.hard_link(&path, &stat) {
                    sink.put(&entry, &mut io::empty())?;
                    return Ok(None);
                }
                let entry = self.entry(Kind::File, path, &stat, Some(&fd)).map_err(read)?;
                sink.put(&entry, &mut File::from(fd))?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(read)?.into_bytes();
                let entry = self.entry(Kind::Symlink, path, &stat()?, None).map_err(read)?;
                sink.put(&Entry { link, ..entry }, &mut io::empty())?;
            }
            FileType::Fifo => {
                sink.put(&self.entry(Kind::Fifo, path, &stat()?, None).map_err(read)?, &mut io::empty())?
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                sink.put(&self.entry(Kind::Device, path, &stat()?, None).map_err(read)?, &mut io::empty())?;
            }
            _ => self.skipped += 1,
        }
        Ok(None)
    }

    /// Another link to a file that was given already. A file is remembered under its first path.
    fn hard_link(&mut self, path: &[u8], stat: &Stat) -> Option<Entry> {
        if stat.st_nlink < 2 || self.apart {
            return None;
        }
        match self.links.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(path.to_vec());
                None
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let link = first.get().clone();
                let entry = self.entry(Kind::HardLink, path.to_vec(), stat, None).ok()?;
                Some(Entry { link, ..entry })
            }
        }
    }

    fn entry(&self, kind: Kind, path: Vec<u8>, stat: &Stat, fd: Option<&OwnedFd>) -> Result<Entry, Errno> {
        let (mut uid, mut gid) = self.ids.inside(stat.st_uid, stat.st_gid);
        // Also of a file with a remembered owner: what changes its mode in a container does not know of the attribute.
        let mode = stat.st_mode & 0o7777;
        let mut xattrs = Vec::new();
        if let Some(fd) = fd {
            for (name, value) in read_xattrs(fd)? {
                if name == OVERRIDE_STAT.as_bytes() {
                    if let Some(owner) = self.single_id.then(|| parse_override(&value)).flatten() {
                        (uid, gid) = owner;
                    }
                } else if self.goes_along(&name) {
                    xattrs.push((name, value));
                }
            }
        }
        let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let mtime = (stat.st_mtime, nanos);
        Ok(Entry { kind, path, link: Vec::new(), mode, uid, gid, mtime, size, xattrs, extents: None })
    }

    fn goes_along(&self, name: &[u8]) -> bool {
        let is_users = name.starts_with(b"user.")
            && !name.starts_with(b"user.overlay.")
            && !name.starts_with(b"user.fuseoverlayfs.");
        let is_capability = name == b"security.capability";
        let is_acl = name.starts_with(b"system.posix_acl_");
        is_users || is_capability || (is_acl && self.attributes == Attributes::All)
    }
}

/// Whether a directory is the root of another file system, one whose files are not on any disk.
fn is_foreign(dir: &OwnedFd, above: u64) -> Result<bool, Errno> {
    if rustix::fs::fstat(dir)?.st_dev == above {
        return Ok(false);
    }
    is_pseudo(dir.as_fd())
}

/// Whether a file is of a file system whose files are not on any disk.
pub(super) fn is_pseudo(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    // Some of the numbers are negative where the field is an int.
    Ok(PSEUDO.contains(&(magic.cast_unsigned() & 0xffff_ffff)))
}

fn read_xattrs(fd: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    let mut list = Vec::with_capacity(1024);
    loop {
        match rustix::fs::flistxattr(fd, spare_capacity(&mut list)) {
            Ok(_) => break,
            Err(Errno::RANGE) if list.capacity() < MAX_XATTR => list.reserve(MAX_XATTR),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        }
    }
    let mut found = Vec::new();
    for name in list.split_inclusive(|&b| b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
        let mut value = Vec::with_capacity(MAX_XATTR);
        match rustix::fs::fgetxattr(fd, name, spare_capacity(&mut value)) {
            Ok(_) => found.push((name.to_bytes().to_vec(), value)),
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// `uid:gid:mode`: the owner.
fn parse_override(value: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut fields = text.split(':');
    let owner = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    fields.next().map(|_| owner)
}

/// A path's bytes as a path.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}

/// A name in a directory.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match (parent.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (false, true) => parent.to_vec(),
        (false, false) => [parent, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Paths, kinds, and the first bytes of files.
    #[derive(Default)]
    struct Seen(Vec<(String, Kind, String)>);

    impl Sink for Seen {
        fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
            let mut text = String::new();
            content.read_to_string(&mut text).unwrap();
            self.0.push((String::from_utf8_lossy(&entry.path).into_owned(), entry.kind, text));
            Ok(())
        }
    }

    fn walk(top: &Path, to: &str) -> Result<Vec<(String, Kind, String)>, Error> {
        let (ids, dir) = (Ids::default(), File::open(top).unwrap());
        let mut seen = Seen::default();
        Walk::new(&ids, false, Attributes::All).copy(dir.as_fd(), c".", to.as_bytes(), &mut seen)?;
        Ok(seen.0)
    }

    #[test]
    fn a_tree_is_read_in_order_parents_first_and_links_once() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("b/c")).unwrap();
        fs::write(top.join("a"), "text").unwrap();
        fs::hard_link(top.join("a"), top.join("b/again")).unwrap();
        symlink("/etc", top.join("b/link")).unwrap();
        let paths = |to| -> Vec<String> {
            walk(top, to)
                .unwrap()
                .into_iter()
                .map(|(path, kind, text)| format!("{path} {kind:?} {text}"))
                .collect()
        };
        let expected = [
            "Directory",
            "a File text",
            "b Directory",
            "b/again HardLink",
            "b/c Directory",
            "b/link Symlink",
        ];
        assert_eq!(paths("").iter().map(|line| line.trim()).collect::<Vec<_>>(), expected);
        assert_eq!(paths("to/x")[1].trim(), "to/x/a File text");
    }

    #[test]
    fn a_tree_deeper_than_there_may_be_open_files_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut here: OwnedFd = File::open(dir.path()).unwrap().into();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&here, c"d", Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            here = rustix::fs::openat(&here, c"d", flags, Mode::empty()).unwrap();
        }
        assert_eq!(walk(dir.path(), "").unwrap().len(), 2001);
        crate::state::remove_tree(&dir.path().join("d")).unwrap();
    }

    #[test]
    fn a_racing_swap_for_a_link_reads_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("d/e")).unwrap();
        fs::write(top.join("d/file"), "inside").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::create_dir(outside.join("e")).unwrap();
        fs::write(outside.join("file"), "outside").unwrap();
        fs::write(outside.join("e/secret"), "outside").unwrap();
        symlink(&outside, top.join("spare")).unwrap();
        let stop = AtomicBool::new(false);
        let mut found = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let fd = File::open(&top).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let _ = rustix::fs::renameat_with(&fd, "d", &fd, "spare", flags);
                }
            });
            for _ in 0..2000 {
                // What was replaced in between is an error or left out.
                let Ok(seen) = walk(&top, "") else { continue };
                assert!(seen.iter().all(|(_, _, text)| text != "outside"), "{seen:?}");
                found += seen.iter().filter(|(_, _, text)| text == "inside").count();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(found > 0);
    }

    #[test]
    fn remembered_owners_are_read_as_they_are_written() {
        assert_eq!(parse_override(b"5:6:04755"), Some((5, 6)));
        assert_eq!(parse_override(b"5:6"), None);
        assert_eq!(parse_override(b"-1:6:0644"), None);
    }
}
