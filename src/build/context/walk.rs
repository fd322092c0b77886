//! The walk: `stat` of every file that is not left out, no content. Folders with many folders in them are looked through by several
//! threads.

use super::super::ignore::{Folder, Ignore};
use super::super::selection::{Selection, State};
use super::contents::attributes;
use super::parts::by_parts;
use super::tree::{Choice, Item, Key, Kind, Tree};
use super::{Error, FOLDER, Look, Owners, join};
use crate::layers::{self, Walker};
use rustix::fs::{AtFlags, FileType, Mode, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

/// A folder in the walk.
struct Level {
    /// Its item's number; none: others take other parts of it, and its item is theirs who have begun it.
    item: Option<usize>,
    path: Vec<u8>,
    state: Folder,
    chosen: State,
    /// It is there only for what is in it.
    is_on_the_way: bool,
    names: std::vec::IntoIter<(CString, FileType)>,
}

/// What is looked for.
pub(super) struct Walk<'a> {
    pub(super) ignore: &'a Ignore,
    pub(super) selection: &'a Selection,
    pub(super) owners: Owners,
    /// The context's root.
    pub(super) root: &'a OwnedFd,
    /// Who look for it.
    pub(super) threads: usize,
    /// Told that it goes on.
    pub(super) look: &'a Look<'a>,
}

/// A folder of so many folders is worth several threads.
const MANY: usize = 16;
const MOST_THREADS: usize = 8;

/// As many threads as a walk is worth.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS)
}

impl Walk<'_> {
    /// What is at `path` in the folder that the walker is in, of which `above` says what is left out; of a folder, what is
    /// selected. `None` if nothing remains.
    pub(super) fn tree(
        &self,
        mut walker: Walker,
        path: &[u8],
        stat: &Stat,
        above: &Folder,
    ) -> Result<Option<Tree>, Error> {
        let mut found = Found { items: Vec::new(), owners: self.owners };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let name = CString::new(super::split(path).1).unwrap_or_default();
            let is_there = !self.ignore.ignores_in(above, path)
                && found.file(walker.here(), &name, path.to_vec(), stat).map_err(Error::io("read", path))?;
            return Ok(is_there.then_some(Tree { items: found.items }));
        }
        let state = if path.is_empty() { self.ignore.root() } else { self.ignore.enter(above, path) };
        if !state.may_be_skipped() {
            walker.go(path).map_err(|stopped| Error::io("read", path)(stopped.errno))?;
            let fd = openat(walker.here(), c".", FOLDER, Mode::empty()).map_err(Error::io("read", path))?;
            let level = found.folder(fd, path.to_vec(), stat, (state, self.selection.root()))?;
            // What is selected is seen from the top.
            let from_top = if path.is_empty() { 0 } else { path.len() + 1 };
            self.below(&mut found, &mut walker, level, (from_top, self.threads))?;
        }
        Ok((!found.items.is_empty()).then_some(Tree { items: found.items }))
    }

    /// All below a folder, by so many threads.
    fn below(
        &self,
        found: &mut Found,
        walker: &mut Walker,
        top: Level,
        (from_top, threads): (usize, usize),
    ) -> Result<(), Error> {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let folders = |level: &Level| {
                level.names.as_slice().iter().filter(|(_, kind)| *kind == FileType::Directory).count()
            };
            if threads > 1 && folders(level) >= MANY {
                self.side_by_side(found, level, (from_top, threads))?;
            }
            let Some((name, kind)) = level.names.next() else {
                if let Some(item) = level.item {
                    found.end(item, level.state.is_ignored() || level.is_on_the_way);
                }
                levels.pop();
                continue;
            };
            let path = join(&level.path, name.to_bytes());
            let read = |errno| Error::io("read", &path)(errno);
            // Asked before anything is: what is left out may not even be readable.
            let is_folder = kind == FileType::Directory;
            let state = is_folder.then(|| self.ignore.enter(&level.state, &path));
            let is_left_out = match &state {
                Some(state) => state.may_be_skipped(),
                None => self.ignore.ignores_in(&level.state, &path),
            };
            if is_left_out {
                continue;
            }
            let below = &path[from_top..];
            let entered = is_folder.then(|| self.selection.enter(&level.chosen, below));
            let is_skipped = match &entered {
                Some((choice, _)) => *choice == Choice::Skip,
                None => !self.selection.takes(&level.chosen, below),
            };
            if is_skipped {
                continue;
            }
            walker.go(&level.path).map_err(|stopped| read(stopped.errno))?;
            let stat = match statat(walker.here(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed meanwhile.
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(read)?,
            };
            match state.zip(entered).filter(|_| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            {
                Some(state) => {
                    self.look.goes_on();
                    let fd = openat(walker.here(), &name, FOLDER, Mode::empty()).map_err(read)?;
                    levels.push(found.folder(fd, path, &stat, state)?);
                }
                None => {
                    found.file(walker.here(), &name, path.clone(), &stat).map_err(read)?;
                }
            }
        }
        Ok(())
    }

    /// All that is in a folder, a part of its names after the other by whoever is free.
    fn side_by_side(
        &self,
        found: &mut Found,
        level: &mut Level,
        (from_top, threads): (usize, usize),
    ) -> Result<(), Error> {
        let names: Vec<_> = std::mem::take(&mut level.names).collect();
        let (level, size) = (&*level, names.len().div_ceil(threads * 8));
        let begin = || {
            let root = openat(self.root, c".", FOLDER, Mode::empty()).map_err(Error::io("read", b""))?;
            Ok(Walker::new(root))
        };
        let walk = |walker: &mut Walker, part: &[(CString, FileType)]| {
            let mut found = Found { items: Vec::new(), owners: self.owners };
            let names = part.to_vec();
            let level = Level {
                item: None,
                path: level.path.clone(),
                state: level.state.clone(),
                chosen: level.chosen.clone(),
                is_on_the_way: level.is_on_the_way,
                names: names.into_iter(),
            };
            self.below(&mut found, walker, level, (from_top, 1))?;
            Ok(found.items)
        };
        for items in by_parts(&names, (size, threads), begin, walk)? {
            let before = found.items.len();
            found.items.extend(items.into_iter().map(|item| Item { end: item.end + before, ..item }));
        }
        Ok(())
    }
}

struct Found {
    items: Vec<Item>,
    owners: Owners,
}

impl Found {
    /// Begins a folder.
    fn folder(
        &mut self,
        fd: OwnedFd,
        path: Vec<u8>,
        stat: &Stat,
        (state, (choice, chosen)): (Folder, (Choice, State)),
    ) -> Result<Level, Error> {
        let read = |errno| Error::io("read", &path)(errno);
        let content = attributes(&fd).map_err(read)?;
        let names = sorted_names(&fd).map_err(read)?.into_iter();
        let item = self.items.len();
        self.push(path.clone(), Kind::Folder, stat);
        self.items[item].content = content;
        Ok(Level { item: Some(item), path, state, chosen, is_on_the_way: choice == Choice::Descend, names })
    }

    /// Ends a folder.
    fn end(&mut self, item: usize, is_for_the_rest: bool) {
        match is_for_the_rest && self.items.len() == item + 1 {
            true => self.items.truncate(item),
            false => self.items[item].end = self.items.len(),
        }
    }

    /// Takes anything else; `false` for a socket, which nobody can copy.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: Vec<u8>, stat: &Stat) -> Result<bool, Errno> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link(readlinkat(dir, name, Vec::new())?.into_bytes()),
            FileType::Fifo => Kind::Pipe,
            FileType::CharacterDevice => Kind::Device(b'c', stat.st_rdev),
            FileType::BlockDevice => Kind::Device(b'b', stat.st_rdev),
            // A folder took the place of a file at this moment: the next build sees it.
            _ => return Ok(false),
        };
        self.push(path, kind, stat);
        Ok(true)
    }

    fn push(&mut self, path: Vec<u8>, kind: Kind, stat: &Stat) {
        let is_file = kind == Kind::File;
        self.items.push(Item {
            mode: if matches!(kind, Kind::Link(_)) { 0 } else { stat.st_mode & 0o7777 },
            owner: match self.owners {
                Owners::All(uid, gid) => (uid, gid),
                Owners::Kept => (stat.st_uid, stat.st_gid),
            },
            size: if is_file { stat.st_size.cast_unsigned() } else { 0 },
            key: key(stat),
            content: None,
            end: self.items.len() + 1,
            path,
            kind,
        });
    }
}

/// What tells this state of a file from another.
pub(super) fn key(stat: &Stat) -> Key {
    let time = |seconds, nanos| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Key {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The names in a folder, in the order of their bytes, and what they are.
pub(super) fn sorted_names(folder: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut names = Vec::new();
    for (name, kind) in layers::sorted_names(folder)? {
        let kind = match kind {
            FileType::Unknown => match statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => FileType::from_raw_mode(stat?.st_mode),
            },
            kind => kind,
        };
        names.push((name, kind));
    }
    Ok(names)
}
