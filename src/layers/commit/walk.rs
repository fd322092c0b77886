//! The walk: one entry after the other, parents before what is in them, names in the order of their bytes.
//!
//! A folder that may be there only for a mount *waits*: its header is written before the first entry below it, or when
//! the walk leaves it and it turns out to say something itself. So the headers come in the right order and nothing is
//! walked twice.

use super::super::attributes::Setter;
use super::super::tar::{Entry, Kind};
use super::super::unpack::join;
use super::super::walker::{Walker, sorted_names, split};
use super::super::{Error, Ownership};
use super::archive::Archive;
use super::below::{Below, Found, Places};
use super::file::{Description, describe};
use super::{CommitOptions, FOLDER, WHITEOUT_NAME};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fsetxattr, fstat, ftruncate, ioctl_ficlone, linkat,
    mkdirat, mkfifoat, mknodat, openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite, read};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) struct Walk<'a> {
    pub(super) ownership: Ownership,
    pub(super) options: &'a CommitOptions<'a>,
    pub(super) places: Places,
    pub(super) below: Below,
    pub(super) archive: Archive,
    pub(super) setter: Setter,
    /// Where files are copied to; none if they stay.
    pub(super) to: Option<Walker>,
    /// The same, for the first names of files with several.
    pub(super) links_from: Option<Walker>,
    /// The first path of each file with several links, by its inode.
    pub(super) links: HashMap<u64, Vec<u8>>,
    /// Folders that wait, the outermost first.
    pub(super) waiting: Vec<Waiting>,
    /// Bytes of regular files.
    pub(super) size: u64,
    pub(super) buffer: Box<[u8]>,
}

/// A folder of which nothing is written yet.
pub(super) struct Waiting {
    path: Vec<u8>,
    /// Its header; of a root as every layer has it, none is written.
    entry: Option<Entry>,
    owner: (u32, u32),
    mode: u32,
}

/// A folder in the walk.
struct Level {
    folder: Description,
    opaque: bool,
    names: std::vec::IntoIter<(CString, FileType)>,
}

impl Level {
    fn path(&self) -> &[u8] {
        &self.folder.entry.path
    }
}

impl Walk<'_> {
    /// Walks the whole directory; the archive, and how many bytes its files have.
    pub(super) fn run(mut self, root: OwnedFd) -> Result<(Archive, u64), Error> {
        let again = openat(&root, c".", FOLDER, Mode::empty()).map_err(Error::entry("read", b"/"))?;
        let mut source = Walker::new(root);
        let mut levels = vec![self.enter(&again, Vec::new())?];
        while let Some(level) = levels.last_mut() {
            let next = level.names.next();
            let path = level.path();
            let here = source.go(path);
            match next {
                // With all that was left to be read in it.
                Some(_) if here.as_ref().is_err_and(|stopped| self.vanished(stopped.errno)) => {
                    level.names = Vec::new().into_iter();
                }
                Some((name, _)) => {
                    here.map_err(|stopped| Error::entry("read", path)(stopped.errno))?;
                    let path = join(path, name.to_bytes());
                    if let Some(folder) = self.visit(source.here(), &name, path.clone())? {
                        levels.push(self.enter(&folder, path)?);
                    }
                }
                None => {
                    if let Some(level) = levels.pop() {
                        self.leave(&mut source, &level)?;
                    }
                }
            }
        }
        Ok((self.archive, self.size))
    }

    /// Begins a folder.
    fn enter(&mut self, fd: &OwnedFd, path: Vec<u8>) -> Result<Level, Error> {
        let read = |errno| Error::entry("read", &path)(errno);
        let stat = fstat(fd).map_err(read)?;
        let names = sorted_names(fd).map_err(read)?.into_iter();
        let found = if path.is_empty() { None } else { self.below.find(&path).map_err(read)? };
        let folder =
            describe(Some(fd.as_fd()), &stat, Kind::Directory, path.clone(), self.ownership, self.options)?;
        let entry = &folder.entry;
        let owner = (entry.uid, entry.gid);
        let is_plain_root =
            path.is_empty() && (entry.mode, owner) == (0o755, (0, 0)) && entry.xattrs.is_empty();
        let waiting = Waiting {
            entry: (!is_plain_root).then(|| entry.clone()),
            path: path.clone(),
            owner,
            mode: entry.mode,
        };
        self.waiting.push(waiting);
        let opaque = folder.opaque && found.is_some_and(|found| found.kind == FileType::Directory);
        if opaque || !self.places.is_on_the_way(&path) {
            self.write_waiting()?;
        }
        if let Some(to) = self.to.as_mut().filter(|_| !path.is_empty()) {
            let (parent, name) = split(&path);
            to.go(parent).map_err(|stopped| Error::entry("open", parent)(stopped.errno))?;
            mkdirat(to.here(), name, Mode::RWXU).map_err(Error::entry("create", &path))?;
        }
        if opaque {
            // First of what is in it: some readers look for it only there.
            self.archive.header(&mark(join(&path, b".wh..wh..opq")), None)?;
        }
        Ok(Level { folder, opaque, names })
    }

    /// Ends a folder: everything below it has been made.
    fn leave(&mut self, source: &mut Walker, level: &Level) -> Result<(), Error> {
        let path = level.path();
        if self.waiting.last().is_some_and(|waiting| waiting.path == path) {
            if self.says_nothing(path).map_err(Error::entry("read", path))? {
                self.waiting.pop();
                return self.drop_folder(source, path);
            }
            self.write_waiting()?;
        }
        if let Some(to) = &mut self.to {
            to.go(path).map_err(|stopped| Error::entry("open", path)(stopped.errno))?;
            if level.opaque {
                fsetxattr(to.here(), "user.overlay.opaque", b"y", XattrFlags::empty())
                    .map_err(Error::entry("mark as opaque", path))?;
            }
            return self.setter.set(to.here(), &level.folder.attributes(), path);
        }
        source.go(path).map_err(|stopped| Error::entry("open", path)(stopped.errno))?;
        level.folder.settle(source.here(), &mut self.setter, level.opaque)
    }

    /// Whether the last folder that waits, of which nothing below was written, is no change: it was made for a mount, or
    /// it is as below.
    fn says_nothing(&self, path: &[u8]) -> Result<bool, Errno> {
        let Some(waiting) = self.waiting.last() else { return Ok(false) };
        let below = if path.is_empty() { Some(self.below.root()?) } else { self.below.find(path)? };
        Ok(match below {
            None => true,
            Some(Found { kind, mode, owner }) => {
                kind == FileType::Directory && (mode, owner) == (waiting.mode, waiting.owner)
            }
        })
    }

    /// Takes an empty folder out of the layer.
    fn drop_folder(&mut self, source: &mut Walker, path: &[u8]) -> Result<(), Error> {
        if path.is_empty() {
            return Ok(());
        }
        let (parent, name) = split(path);
        let walker = self.to.as_mut().unwrap_or(source);
        walker.go(parent).map_err(|stopped| Error::entry("open", parent)(stopped.errno))?;
        unlinkat(walker.here(), name, AtFlags::REMOVEDIR).map_err(Error::entry("remove", path))
    }

    /// Writes the headers of all folders that wait.
    fn write_waiting(&mut self) -> Result<(), Error> {
        for waiting in std::mem::take(&mut self.waiting) {
            if let Some(mut entry) = waiting.entry {
                if entry.path.is_empty() {
                    entry.path.push(b'.');
                }
                self.archive.header(&entry, None)?;
            }
        }
        Ok(())
    }

    /// Takes one name. A folder comes back opened.
    fn visit(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: Vec<u8>) -> Result<Option<OwnedFd>, Error> {
        let failed = |errno| Error::entry("read", &path)(errno);
        if name.to_bytes().starts_with(b".wh.") {
            return Err(Error::refused(&path, WHITEOUT_NAME));
        }
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(errno) if self.vanished(errno) => return Ok(None),
            stat => stat.map_err(failed)?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                return match openat(dir, name, FOLDER, Mode::empty()) {
                    Err(errno) if self.vanished(errno) => Ok(None),
                    opened => opened.map(Some).map_err(failed),
                };
            }
            FileType::RegularFile => self.file(dir, name, path)?,
            FileType::Symlink | FileType::Fifo => self.special(dir, name, path, &stat)?,
            FileType::CharacterDevice if stat.st_rdev == 0 => self.whiteout(dir, name, &path, false)?,
            FileType::CharacterDevice | FileType::BlockDevice => self.device(dir, name, path, &stat)?,
            // Of no use to whoever gets the layer.
            _ => self.leave_out(dir, name, &path)?,
        }
        Ok(None)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: Vec<u8>) -> Result<(), Error> {
        let failed = |errno| Error::entry("read", &path)(errno);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(dir, name, flags, Mode::empty()) {
            Err(errno) if self.vanished(errno) => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::refused(&path, "it was replaced while the layer was made"));
        }
        if self.places.is_point(&path)
            && (stat.st_size, stat.st_nlink) == (0, 1)
            && self.below.find(&path).map_err(failed)?.is_none()
        {
            return self.leave_out(dir, name, &path);
        }
        let mut described =
            describe(Some(file.as_fd()), &stat, Kind::File, path.clone(), self.ownership, self.options)?;
        if described.whiteout {
            return self.whiteout(dir, name, &path, true);
        }
        self.write_waiting()?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino).cloned() {
                let entry = Entry { kind: Kind::HardLink, link: first, size: 0, ..described.entry };
                return self.hard_link(entry, name);
            }
            self.links.insert(stat.st_ino, path.clone());
        }
        if self.to.is_some() {
            return self.copied(&file, name, &mut described);
        }
        self.archive.header(&described.entry, None)?;
        let had = self.data(&file, &described.entry, None)?;
        if had != described.entry.size {
            return Err(Error::refused(&path, "it was changed while the layer was made"));
        }
        described.settle(file.as_fd(), &mut self.setter, false)
    }

    /// Copies a file. What is digested is what was copied, whatever happens to the file meanwhile.
    fn copied(&mut self, from: &OwnedFd, name: &CStr, file: &mut Description) -> Result<(), Error> {
        let attributes = file.attributes();
        let (mode, complete) = self.setter.creation_mode(&attributes);
        let path = file.entry.path.clone();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = self.go(&path)?;
        let to = openat(to, name, flags, mode).map_err(Error::entry("create", &path))?;
        let wrote = Error::entry("write", &path);
        if file.entry.size > 0 && ioctl_ficlone(&to, from).is_ok() {
            file.entry.size = fstat(&to).map_err(wrote)?.st_size.cast_unsigned();
            self.archive.header(&file.entry, None)?;
            self.data(&to, &file.entry, None)?;
        } else {
            self.archive.header(&file.entry, None)?;
            self.data(from, &file.entry, Some(&to))?;
            // For the holes at its end.
            ftruncate(&to, file.entry.size).map_err(wrote)?;
        }
        match complete {
            true => self.setter.set_time(&to, &attributes, &path),
            false => self.setter.set(&to, &attributes, &path),
        }
    }

    /// Passes a file's data to the archive, and to a copy with its holes left out. What is missing of its size is zeros.
    /// Gives how much there was.
    fn data(&mut self, from: &OwnedFd, entry: &Entry, to: Option<&OwnedFd>) -> Result<u64, Error> {
        if entry.size == 0 {
            return Ok(0);
        }
        let mut at = 0;
        let mut had = None;
        while at < entry.size {
            let most = self.buffer.len().min(usize::try_from(entry.size - at).unwrap_or(usize::MAX));
            let count = match had {
                None => match read(from, &mut self.buffer[..most]) {
                    Err(Errno::INTR) => continue,
                    other => other.map_err(Error::entry("read", &entry.path))?,
                },
                Some(_) => 0,
            };
            if count == 0 {
                had.get_or_insert(at);
                self.buffer[..most].fill(0);
                self.archive.data(&self.buffer[..most])?;
                at += most as u64;
                continue;
            }
            let bytes = &self.buffer[..count];
            self.archive.data(bytes)?;
            if let Some(to) = to.filter(|_| bytes.iter().any(|byte| *byte != 0)) {
                write_all(to, bytes, at).map_err(Error::entry("write", &entry.path))?;
            }
            at += count as u64;
        }
        self.archive.end_data(&entry.path, entry.size)?;
        self.size += entry.size;
        Ok(had.unwrap_or(at))
    }

    fn hard_link(&mut self, entry: Entry, name: &CStr) -> Result<(), Error> {
        self.archive.header(&entry, None)?;
        let Some(from) = &mut self.links_from else { return Ok(()) };
        let failed = |errno| Error::entry("link", &entry.path)(errno);
        let (parent, first) = split(&entry.link);
        from.go(parent).map_err(|stopped| failed(stopped.errno))?;
        if let Some(to) = &mut self.to {
            to.go(split(&entry.path).0).map_err(|stopped| failed(stopped.errno))?;
            linkat(from.here(), first, to.here(), name, AtFlags::empty()).map_err(failed)?;
        }
        Ok(())
    }

    /// A link or a pipe.
    fn special(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: Vec<u8>, stat: &Stat) -> Result<(), Error> {
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let kind = if is_link { Kind::Symlink } else { Kind::Fifo };
        let mut described = describe(None, stat, kind, path.clone(), self.ownership, self.options)?;
        if is_link {
            let target = match readlinkat(dir, name, Vec::new()) {
                Err(errno) if self.vanished(errno) => return Ok(()),
                target => target.map_err(Error::entry("read", &path))?,
            };
            described.entry.link = target.into_bytes();
            described.entry.mode = 0o777;
        }
        self.write_waiting()?;
        self.archive.header(&described.entry, None)?;
        if self.to.is_none() {
            return described.settle_at(dir, name, &mut self.setter);
        }
        let to = self.go(&path)?;
        let made = match is_link {
            true => symlinkat(&described.entry.link[..], to, name),
            false => mkfifoat(to, name, Mode::RUSR | Mode::WUSR),
        };
        made.map_err(Error::entry("create", &path))?;
        let Some(to) = &self.to else { return Ok(()) };
        self.setter.set_at(to.here(), name.to_bytes(), &described.attributes(), !is_link, &path)
    }

    /// A device of its own, which only root of the host can have made: the store keeps its header alone.
    fn device(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: Vec<u8>, stat: &Stat) -> Result<(), Error> {
        let described = describe(None, stat, Kind::Device, path.clone(), self.ownership, self.options)?;
        let is_block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        self.write_waiting()?;
        self.archive.header(&described.entry, Some((if is_block { b'4' } else { b'3' }, major, minor)))?;
        self.leave_out(dir, name, &path)
    }

    /// `in_file` is one that is not in the device's form, which it gets.
    fn whiteout(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        in_file: bool,
    ) -> Result<(), Error> {
        let (parent, hidden) = split(path);
        self.write_waiting()?;
        self.archive.header(&mark(join(parent, &[b".wh.", hidden].concat())), None)?;
        let place = match &self.to {
            Some(_) => self.go(path)?,
            None if in_file => {
                unlinkat(dir, name, AtFlags::empty()).map_err(Error::entry("replace", path))?;
                dir
            }
            None => return Ok(()),
        };
        mknodat(place, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(Error::entry("create a whiteout for", path))
    }

    /// Whether this error only means that a container that goes on has removed what was to be read.
    fn vanished(&self, errno: Errno) -> bool {
        self.to.is_some() && errno == Errno::NOENT
    }

    /// A file that the layer does not have.
    fn leave_out(&self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<(), Error> {
        match self.to {
            Some(_) => Ok(()),
            None => unlinkat(dir, name, AtFlags::empty()).map_err(Error::entry("remove", path)),
        }
    }

    /// The folder of the copy in which `path` is to be made.
    fn go(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Error> {
        let to = self.to.as_mut().ok_or_else(|| Error::entry("create", path)(Errno::NOENT))?;
        to.go(split(path).0).map_err(|stopped| Error::entry("open", path)(stopped.errno))?;
        Ok(to.here())
    }
}

/// The entry that says that something below is hidden: the same whenever it was done.
fn mark(path: Vec<u8>) -> Entry {
    Entry {
        kind: Kind::File,
        path,
        link: Vec::new(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size: 0,
        xattrs: Vec::new(),
        extents: None,
    }
}

pub(super) fn write_all(to: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(to, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => {
                bytes = &bytes[count..];
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
