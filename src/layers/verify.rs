//! Is a stored layer still what its archive says? Asked when a power cut may have overtaken it.
//!
//! The archive is written again out of table and files, which must give the layer's digest: that covers all data. It
//! is read at the same time, and what its entries come to in the end must be there: that covers what has no data
//! (directories, links, empty files, owners, modes). Then the folder is walked: what the archive does not have must not be
//! there.

use super::tar::{Entries, Entry, Kind, Tee};
use super::toc::{FS, TarStream};
use super::unpack::{Whiteout, below, join, plain_path, remove_below, whiteout};
use super::walker::{Walker, split};
use super::{Error, Limits, Ownership, path_of};
use crate::digest::{Digest, Hashing};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::Path;

/// The archive passed these when it was unpacked.
const UNLIMITED: Limits = Limits {
    entries: u64::MAX,
    bytes: i64::MAX.cast_unsigned(),
    path: u64::MAX,
    xattr: u64::MAX,
    memory: u64::MAX,
};

struct Ignore;

impl Tee for Ignore {
    fn raw(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// What should be at a path.
enum Expected {
    Entry(Box<Entry>),
    Whiteout,
}

/// Compares the layer in folder `layer` with its digest and its table. Gives the bytes in its regular files.
pub fn verify(layer: &Path, diff_id: Digest, ownership: Ownership) -> Result<u64, Error> {
    let stream = BufReader::with_capacity(256 * 1024, Hashing::new(TarStream::open(layer)?));
    let mut entries = Entries::new(stream, Ignore, UNLIMITED);
    let mut expected = BTreeMap::new();
    while let Some(entry) = entries.next_entry()? {
        expect(&mut expected, entry)?;
    }
    let found = entries.into_parts().0.into_inner().finish().1;
    if found != diff_id {
        return Err(Error::Digest { expected: diff_id, found });
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = layer.join(FS);
    let root = openat(CWD, &root, flags, Mode::empty()).map_err(Error::io("open", &root))?;
    let mut walker = Walker::searching(root);
    let mut size = 0;
    for (path, expected) in &expected {
        if let Expected::Entry(entry) = expected
            && entry.kind == Kind::File
        {
            size += entry.size;
        }
        check(&mut walker, path, expected, ownership)
            .map_err(|source| Error::Damaged { path: path_of(path), source })?;
    }
    none_besides(&mut walker, &expected)?;
    Ok(size)
}

/// Looks for files that the archive does not have.
fn none_besides(walker: &mut Walker, expected: &BTreeMap<Vec<u8>, Expected>) -> Result<(), Error> {
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        let damaged = |errno: Errno| Error::Damaged { path: path_of(&folder), source: errno.into() };
        walker.go(&folder).map_err(|stopped| damaged(stopped.errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entries = match openat(walker.here(), ".", flags, Mode::empty()) {
            // Not to be seen by this process; by root of the namespace everything is.
            Err(Errno::ACCESS) => continue,
            opened => Dir::new(opened.map_err(damaged)?).map_err(damaged)?,
        };
        for entry in entries {
            let entry = entry.map_err(damaged)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = join(&folder, name);
            if entry.file_type() == FileType::Directory {
                // It may be there for what is in it, or for a whiteout of all that is below it.
                folders.push(path);
            } else if !expected.contains_key(&path) {
                let source = io::Error::other("the archive has no such file");
                return Err(Error::Damaged { path: path_of(&path), source });
            }
        }
    }
    Ok(())
}

/// Follows what the unpacker does with an entry.
fn expect(expected: &mut BTreeMap<Vec<u8>, Expected>, entry: Entry) -> Result<(), Error> {
    let path = plain_path(&entry.path, &UNLIMITED)?;
    let (parent, name) = split(&path);
    match whiteout(parent, name) {
        Whiteout::No => {}
        Whiteout::Of(hidden) => {
            let hidden = join(parent, hidden);
            if expected.range(below(&hidden)).next().is_none() {
                expected.entry(hidden).or_insert(Expected::Whiteout);
            }
            return Ok(());
        }
        Whiteout::Opaque | Whiteout::Obsolete | Whiteout::Bad => return Ok(()),
    }
    if entry.kind == Kind::Device {
        return Ok(());
    }
    // A parent that only its children name replaces a whiteout.
    for end in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| end) {
        if let Some(Expected::Whiteout) = expected.get(&path[..end]) {
            expected.remove(&path[..end]);
        }
    }
    if entry.kind != Kind::Directory && !path.is_empty() {
        remove_below(expected, &path);
    }
    expected.insert(path, Expected::Entry(Box::new(entry)));
    Ok(())
}

fn check(walker: &mut Walker, path: &[u8], expected: &Expected, ownership: Ownership) -> io::Result<()> {
    let (parent, name) = split(path);
    walker.go(parent).map_err(|stopped| stopped.errno)?;
    let name = if name.is_empty() { b"." } else { name };
    let stat = statat(walker.here(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let differs = |what: &str| Err(io::Error::other(format!("its {what} is not what the archive says")));
    let entry = match expected {
        Expected::Entry(entry) => entry,
        Expected::Whiteout => {
            let device = kind == FileType::CharacterDevice && stat.st_rdev == 0;
            let empty = kind == FileType::RegularFile && stat.st_size == 0;
            return if device || empty { Ok(()) } else { differs("kind") };
        }
    };
    let right = match entry.kind {
        Kind::File => kind == FileType::RegularFile,
        Kind::Directory => kind == FileType::Directory,
        Kind::Symlink => kind == FileType::Symlink,
        Kind::Fifo => kind == FileType::Fifo,
        // The first name's entry says the rest.
        Kind::HardLink | Kind::Device => return Ok(()),
    };
    if !right {
        return differs("kind");
    }
    if entry.kind == Kind::File && u64::try_from(stat.st_size).ok() != Some(entry.size) {
        return differs("size");
    }
    if entry.kind != Kind::Symlink && stat.st_mode & 0o7777 != entry.mode {
        return differs("mode");
    }
    if ownership == Ownership::Mapped && (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        return differs("owner");
    }
    Ok(())
}
