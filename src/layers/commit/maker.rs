//! Makes the files, the table and the archive of entries that come one after the other.

use super::archive::Archive;
use super::file::{describe, kept};
use super::walk::write_all;
use super::{CommitOptions, Error, FOLDER, Take, Times, WHITEOUT_NAME};
use crate::layers::Ownership;
use crate::layers::attributes::{Attributes, Setter};
use crate::layers::tar::{Entry, Kind};
use crate::layers::walker::{Walker, split};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstat, ftruncate, linkat, mkdirat, mkfifoat, openat, statat, symlinkat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Of what is read of folders below.
const OPTIONS: CommitOptions<'_> =
    CommitOptions { take: Take::Copy, below: &[], maps: None, mount_points: &[], times: Times::Kept };

pub(super) struct Maker {
    ownership: Ownership,
    archive: Archive,
    setter: Setter,
    to: Walker,
    /// Goes to the first names of files with several.
    links: Walker,
    /// Goes through what the layers below show.
    below: Option<Walker>,
    /// The folders on the way to the last entry, the outermost first.
    levels: Vec<Level>,
    /// The file whose data comes next.
    open: Option<Open>,
    /// Bytes of regular files.
    size: u64,
}

/// A folder that has been made, and gets its attributes when all in it is there.
struct Level {
    entry: Entry,
    /// The layers below show something in it.
    shows: bool,
}

struct Open {
    file: OwnedFd,
    entry: Entry,
    /// So much is there.
    at: u64,
    /// It ends in a hole so far.
    ends_in_hole: bool,
    /// Nothing is left to be set but its time.
    is_complete: bool,
}

/// What is there below.
enum Seen {
    Nothing,
    Folder(Entry),
    Other,
}

impl Maker {
    /// Into the folder `root`, with the table in the folder `layer`.
    pub(super) fn new(
        layer: &Path,
        root: OwnedFd,
        below: Option<OwnedFd>,
        ownership: Ownership,
    ) -> Result<Self, Error> {
        let links = root.try_clone().map_err(Error::io("open", layer))?;
        Ok(Self {
            ownership,
            archive: Archive::create(layer)?,
            setter: Setter::new(ownership),
            to: Walker::new(root),
            links: Walker::searching(links),
            below: below.map(Walker::searching),
            levels: Vec::new(),
            open: None,
            size: 0,
        })
    }

    /// Begins an entry.
    pub(super) fn entry(&mut self, mut entry: Entry) -> Result<(), Error> {
        let (parent, name) = split(&entry.path);
        if name.starts_with(b".wh.") {
            return Err(Error::refused(&entry.path, WHITEOUT_NAME));
        }
        // Only root of the host can have made it.
        if entry.kind == Kind::Device {
            return Ok(());
        }
        let shows = self.shows_in(parent);
        let seen = if shows { self.look(&entry.path)? } else { Seen::Nothing };
        match (seen, entry.kind) {
            (Seen::Folder(_), Kind::Directory) => return Ok(()),
            (Seen::Folder(_), _) => {
                return Err(Error::refused(&entry.path, "cannot overwrite a directory with something else"));
            }
            (Seen::Other, Kind::Directory) => return Err(Error::refused(&entry.path, NO_FOLDER)),
            _ => {}
        }
        self.go_into(parent)?;
        entry.mtime.1 = 0;
        kept(&mut entry.xattrs);
        match entry.kind {
            Kind::Directory => self.folder(entry, false),
            Kind::File => self.file(entry),
            _ => self.special(&entry),
        }
    }

    /// The next bytes of the file that has begun.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        self.archive.data(bytes)?;
        open.ends_in_hole = bytes.iter().all(|byte| *byte == 0);
        if !open.ends_in_hole {
            write_all(&open.file, bytes, open.at).map_err(Error::entry("write", &open.entry.path))?;
        }
        open.at += bytes.len() as u64;
        if open.at < open.entry.size {
            return Ok(());
        }
        self.archive.end_data(&open.entry.path, open.entry.size)?;
        self.size += open.entry.size;
        self.end_file()
    }

    /// The archive, and how many bytes its files have.
    pub(super) fn finish(mut self: Box<Self>) -> Result<(Archive, u64), Error> {
        while self.leave()? {}
        Ok((self.archive, self.size))
    }

    /// Whether the layers below show something in this folder. What has been made says it of all that is in it.
    fn shows_in(&self, folder: &[u8]) -> bool {
        let deepest = self.levels.iter().rev().find(|level| is_within(folder, &level.entry.path));
        deepest.map_or(self.below.is_some(), |level| level.shows)
    }

    /// What the layers below show at a path: they show something in its folder, or in one above that.
    fn look(&mut self, path: &[u8]) -> Result<Seen, Error> {
        let Some(below) = &mut self.below else { return Ok(Seen::Nothing) };
        let failed = |errno| Error::entry("read", path)(errno);
        let (parent, name) = split(path);
        let (fd, stat);
        if path.is_empty() {
            below.go(path).map_err(|stopped| failed(stopped.errno))?;
            fd = openat(below.here(), c".", FOLDER, Mode::empty()).map_err(failed)?;
            stat = fstat(&fd).map_err(failed)?;
        } else {
            match below.go(parent) {
                Ok(()) => {}
                Err(stopped) => match stopped.errno {
                    Errno::NOENT => return Ok(Seen::Nothing),
                    Errno::NOTDIR | Errno::LOOP => {
                        return Err(Error::refused(&path[..stopped.end], NO_FOLDER));
                    }
                    errno => return Err(failed(errno)),
                },
            }
            stat = match statat(below.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Seen::Nothing),
                found => found.map_err(failed)?,
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Ok(Seen::Other);
            }
            fd = openat(below.here(), name, FOLDER, Mode::empty()).map_err(failed)?;
        }
        let fd = Some(fd.as_fd());
        let mut entry = describe(fd, &stat, Kind::Directory, path.to_vec(), self.ownership, &OPTIONS)?.entry;
        // Something in it changes.
        entry.mtime = Entry::folder(Vec::new()).mtime;
        Ok(Seen::Folder(entry))
    }

    /// Leaves the folders that `folder` is not in, and makes those on the way to it.
    fn go_into(&mut self, folder: &[u8]) -> Result<(), Error> {
        while self.levels.last().is_some_and(|level| !is_within(folder, &level.entry.path)) {
            self.leave()?;
        }
        if self.levels.is_empty() {
            let root = match self.look(b"")? {
                Seen::Folder(entry) => entry,
                _ => Entry::folder(Vec::new()),
            };
            self.folder(root, self.below.is_some())?;
        }
        loop {
            let Some(level) = self.levels.last() else { return Ok(()) };
            let (here, shows) = (level.entry.path.len(), level.shows);
            if here == folder.len() {
                return Ok(());
            }
            let start = if here == 0 { 0 } else { here + 1 };
            let end = folder[start..].iter().position(|&b| b == b'/').map_or(folder.len(), |at| start + at);
            let path = &folder[..end];
            match if shows { self.look(path)? } else { Seen::Nothing } {
                Seen::Folder(entry) => self.folder(entry, true)?,
                // It is on the way to an entry and has none of its own.
                Seen::Nothing => self.folder(Entry::folder(path.to_vec()), false)?,
                Seen::Other => return Err(Error::refused(path, NO_FOLDER)),
            }
        }
    }

    /// Makes a folder, whose parent is the last one.
    fn folder(&mut self, entry: Entry, shows: bool) -> Result<(), Error> {
        if entry.path.is_empty() {
            let is_plain = (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0) && entry.xattrs.is_empty();
            if !is_plain {
                self.archive.header(&Entry { path: b".".to_vec(), ..entry.clone() }, None)?;
            }
        } else {
            self.archive.header(&entry, None)?;
            let made = mkdirat(self.go(&entry.path)?, split(&entry.path).1, Mode::RWXU);
            made.map_err(Error::entry("create", &entry.path))?;
        }
        self.levels.push(Level { entry, shows });
        Ok(())
    }

    /// Gives the last folder its attributes. Gives whether there was one.
    fn leave(&mut self) -> Result<bool, Error> {
        let Some(Level { entry, .. }) = self.levels.pop() else { return Ok(false) };
        self.to.go(&entry.path).map_err(|stopped| Error::entry("open", &entry.path)(stopped.errno))?;
        self.setter.set(self.to.here(), &Attributes::of_own(&entry), &entry.path)?;
        Ok(true)
    }

    fn file(&mut self, entry: Entry) -> Result<(), Error> {
        self.archive.header(&entry, None)?;
        let (mode, is_complete) = self.setter.creation_mode(&Attributes::of_own(&entry));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.go(&entry.path)?, split(&entry.path).1, flags, mode);
        let file = file.map_err(Error::entry("create", &entry.path))?;
        let is_empty = entry.size == 0;
        self.open = Some(Open { file, entry, at: 0, ends_in_hole: false, is_complete });
        if is_empty { self.end_file() } else { Ok(()) }
    }

    fn end_file(&mut self) -> Result<(), Error> {
        let Some(Open { file, entry, ends_in_hole, is_complete, .. }) = self.open.take() else {
            return Ok(());
        };
        if ends_in_hole {
            ftruncate(&file, entry.size).map_err(Error::entry("write", &entry.path))?;
        }
        let attributes = Attributes::of_own(&entry);
        match is_complete {
            true => self.setter.set_time(&file, &attributes, &entry.path),
            false => self.setter.set(&file, &attributes, &entry.path),
        }
    }

    /// A link of either kind or a pipe.
    fn special(&mut self, entry: &Entry) -> Result<(), Error> {
        let name = split(&entry.path).1;
        self.archive.header(entry, None)?;
        if entry.kind == Kind::HardLink {
            let failed = |errno| Error::entry("link", &entry.path)(errno);
            let (parent, first) = split(&entry.link);
            self.links.go(parent).map_err(|stopped| failed(stopped.errno))?;
            self.to.go(split(&entry.path).0).map_err(|stopped| failed(stopped.errno))?;
            let made = linkat(self.links.here(), first, self.to.here(), name, AtFlags::empty());
            return made.map_err(failed);
        }
        let is_link = entry.kind == Kind::Symlink;
        let to = self.go(&entry.path)?;
        let made = match is_link {
            true => symlinkat(&entry.link[..], to, name),
            false => mkfifoat(to, name, Mode::RUSR | Mode::WUSR),
        };
        made.map_err(Error::entry("create", &entry.path))?;
        let attributes = Attributes::of_own(entry);
        self.setter.set_at(self.to.here(), name, &attributes, !is_link, &entry.path)
    }

    /// The folder in which `path` is to be made.
    fn go(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Error> {
        self.to.go(split(path).0).map_err(|stopped| Error::entry("open", path)(stopped.errno))?;
        Ok(self.to.here())
    }
}

const NO_FOLDER: &str = "cannot overwrite something else with a directory";

/// Whether `path` is this folder or below it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
