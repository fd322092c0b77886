//! Digests of contents, remembered from build to build.
//!
//! `build-cache/contents-<device>-<inode>` is what is known of one context: a magic line, records of fixed size
//! ([`Key`], the digest, the generation in which it was last needed), and an xxh3-64 of all before it. It is read
//! whole, and written anew, by a rename, if a file had to be read. Several stages and builds may do that at the same time: who
//! writes takes over what others have written since, under a lock. A file that is damaged, or of another version, is as good
//! as none.
//!
//! **Racily clean** (git's word): a file's times move in ticks of the clock. What was changed in the same tick in which
//! it was read, after the reading, looks as it did before. So a digest is remembered only if the file's last change was a
//! good while before its reading began; till then it is read in every build.

use super::parts::by_parts;
use super::tree::{Hash, Key, Kind, Tree};
use super::walk::key;
use super::{Error, Look, split};
use crate::digest::Digest;
use crate::layers::Walker;
use crate::state::{Durability, Lock, create_dir_private, write_atomic};
use rustix::buffer::spare_capacity;
use rustix::fs::{
    FileType, Mode, OFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fstat, openat,
};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8] = b"coracle contents 1\n";
const RECORD: usize = 8 * 3 + 16 * 2 + 32 + 4;

/// A digest that so many rewritings have not needed is dropped.
const GENERATIONS: u32 = 16;

/// Longer than the tick of any clock from which file systems take their times (10 ms where HZ is 100).
const TICK: i128 = 50_000_000;
/// The same where times have whole seconds, or two as FAT's.
const COARSE_TICK: i128 = 2_500_000_000;

/// Files that a thread takes at once.
const BATCH: usize = 16;
const MOST_THREADS: usize = 16;

/// What is known of contents.
pub(super) struct Contents {
    file: PathBuf,
    known: HashMap<Key, Known>,
    generation: u32,
    /// There is something new.
    changed: bool,
    /// Files that were read.
    pub(super) read: usize,
}

#[derive(Clone, Copy)]
struct Known {
    digest: Digest,
    generation: u32,
}

/// A file that was read.
#[derive(Clone, Copy)]
struct Read {
    item: usize,
    digest: Digest,
    /// The state that it was read in, if that can be told from later ones.
    lasting: Option<Key>,
}

impl Contents {
    /// What is known of a context's contents; nothing if that cannot be read.
    pub(super) fn open(folder: &Path, (device, inode): (u64, u64)) -> Self {
        let file = folder.join(format!("contents-{device:x}-{inode:x}"));
        let (known, generation) =
            std::fs::read(&file).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        // So that it is known when it was used last, also if nothing is written to it.
        let _ =
            std::fs::File::options().append(true).open(&file).and_then(|f| f.set_modified(SystemTime::now()));
        Self { file, known, generation: generation.wrapping_add(1), changed: false, read: 0 }
    }

    /// Nothing is known, and nothing is kept.
    pub(super) fn none() -> Self {
        Self { file: PathBuf::new(), known: HashMap::new(), generation: 0, changed: false, read: 0 }
    }

    /// Gives every regular file of a tree its content's digest, reading those that are not known.
    pub(super) fn digest(&mut self, root: &OwnedFd, tree: &mut Tree, look: &Look<'_>) -> Result<(), Error> {
        let mut unknown = Vec::new();
        for (number, item) in tree.items.iter_mut().enumerate().filter(|(_, item)| item.kind == Kind::File) {
            match self.known.get_mut(&item.key) {
                Some(known) => {
                    known.generation = self.generation;
                    item.content = Some(known.digest);
                }
                None => unknown.push(number),
            }
        }
        self.read += unknown.len();
        look.reads(unknown.len(), unknown.iter().map(|number| tree.items[*number].size).sum());
        for read in read_all(root, tree, &unknown)? {
            tree.items[read.item].content = Some(read.digest);
            if let Some(key) = read.lasting {
                self.known.insert(key, Known { digest: read.digest, generation: self.generation });
                self.changed = true;
            }
        }
        Ok(())
    }

    pub(super) fn save(&mut self) -> Result<(), Error> {
        if !self.changed {
            return Ok(());
        }
        let mut lock = None;
        if let Some(folder) = self.file.parent() {
            create_dir_private(folder)?;
            lock = Some(Lock::exclusive(&folder.join(".contents.lock"))?);
        }
        self.merge();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        for (key, known) in &self.known {
            if self.generation.wrapping_sub(known.generation) < GENERATIONS {
                key.write(&mut bytes);
                bytes.extend_from_slice(known.digest.raw());
                bytes.extend_from_slice(&known.generation.to_le_bytes());
            }
        }
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        // If it is lost, files are read again.
        write_atomic(&self.file, &bytes, Durability::Process)?;
        drop(lock);
        self.changed = false;
        Ok(())
    }

    /// Takes over what is in the file.
    fn merge(&mut self) {
        let Some((others, generation)) = std::fs::read(&self.file).ok().and_then(|bytes| parse(&bytes))
        else {
            return;
        };
        self.generation = self.generation.max(generation);
        for (key, other) in others {
            let own = self.known.entry(key).or_insert(other);
            own.generation = own.generation.max(other.generation);
        }
    }
}

impl Key {
    fn write(&self, to: &mut Vec<u8>) {
        for number in [self.device, self.inode, self.size] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        for time in [self.mtime, self.ctime] {
            to.extend_from_slice(&time.to_le_bytes());
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(HashMap<Key, Known>, u32)> {
    let (content, sum) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(content) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (generation, records) = content.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let mut known = HashMap::with_capacity(records.len() / RECORD);
    for record in records.chunks_exact(RECORD) {
        let (key, value) = parse_record(record)?;
        known.insert(key, value);
    }
    Some((known, u32::from_le_bytes(*generation)))
}

fn parse_record(record: &[u8]) -> Option<(Key, Known)> {
    let number = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let time = |at: usize| Some(i128::from_le_bytes(record.get(at..at + 16)?.try_into().ok()?));
    let key =
        Key { device: number(0)?, inode: number(8)?, size: number(16)?, mtime: time(24)?, ctime: time(40)? };
    let digest = Digest::from_raw(record.get(56..88)?.try_into().ok()?);
    let generation = u32::from_le_bytes(record.get(88..92)?.try_into().ok()?);
    Some((key, Known { digest, generation }))
}

/// Reads files, on all cores if they are many or large.
fn read_all(root: &OwnedFd, tree: &Tree, items: &[usize]) -> Result<Vec<Read>, Error> {
    let bytes: u64 = items.iter().map(|item| tree.items[*item].size).sum();
    let worth = if bytes > 4 << 20 { items.len() } else { items.len() / BATCH };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = worth.clamp(1, cores.min(MOST_THREADS));
    let batch = (items.len() / (threads * 4)).clamp(1, BATCH);
    let begin = || Reader::new(root);
    let read = |reader: &mut Reader, part: &[usize]| {
        let one = |&item: &usize| {
            let path = &tree.items[item].path;
            let (digest, lasting) = reader.read(path).map_err(Error::io("read", path))?;
            Ok(Read { item, digest, lasting })
        };
        part.iter().map(one).collect::<Result<Vec<_>, Error>>()
    };
    Ok(by_parts(items, (batch, threads), begin, read)?.concat())
}

struct Reader {
    walker: Walker,
    buffer: Vec<u8>,
}

impl Reader {
    fn new(root: &OwnedFd) -> Result<Self, Error> {
        let root = openat(root, c".", super::FOLDER, Mode::empty()).map_err(Error::io("read", b""))?;
        Ok(Self { walker: Walker::new(root), buffer: vec![0; 128 * 1024] })
    }

    /// The digest of a file's attributes and content, and the state that it is true of.
    fn read(&mut self, path: &[u8]) -> Result<(Digest, Option<Key>), Errno> {
        let (folder, name) = split(path);
        self.walker.go(folder).map_err(|stopped| stopped.errno)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let now = now();
        let file = openat(self.walker.here(), name, flags, Mode::empty())?;
        let before = fstat(&file)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            // Something else has taken its place.
            return Err(Errno::STALE);
        }
        let mut hash = Hash::new();
        hash_attributes(&file, &mut hash)?;
        loop {
            match rustix::io::read(&file, &mut self.buffer[..]) {
                Ok(0) => break,
                Ok(count) => hash.raw(&self.buffer[..count]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let (before, after) = (key(&before), key(&fstat(&file)?));
        Ok((hash.finish(), (before == after && is_settled(&before, now)).then_some(after)))
    }
}

/// Whether a change after the moment `now` would have shown.
fn is_settled(key: &Key, now: i128) -> bool {
    let is_coarse = key.ctime % 1_000_000_000 == 0;
    key.ctime.max(key.mtime) + if is_coarse { COARSE_TICK } else { TICK } < now
}

fn now() -> i128 {
    let now = clock_gettime(ClockId::Realtime);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// The digest of a folder's attributes; none if it has none.
pub(super) fn attributes(folder: &OwnedFd) -> Result<Option<Digest>, Errno> {
    let mut hash = Hash::new();
    Ok((hash_attributes(folder, &mut hash)? > 0).then(|| hash.finish()))
}

/// Hashes the extended attributes that a layer keeps, in the order of their names; how many there are.
fn hash_attributes(fd: &OwnedFd, hash: &mut Hash) -> Result<usize, Errno> {
    let size = match flistxattr_query(fd) {
        Ok(0) | Err(Errno::NOTSUP) => {
            hash.number(0);
            return Ok(0);
        }
        size => size?,
    };
    let mut list = Vec::with_capacity(size);
    flistxattr(fd, spare_capacity(&mut list))?;
    let names = list.split_inclusive(|&b| b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    let is_kept = |name: &[u8]| {
        (name.starts_with(b"user.") && !crate::layers::is_forged(name)) || name == b"security.capability"
    };
    let mut names: Vec<_> = names.filter(|name| is_kept(name.to_bytes())).collect();
    names.sort_unstable();
    hash.number(names.len() as u64);
    for name in &names {
        let mut value = Vec::with_capacity(fgetxattr_query(fd, *name)?);
        if value.capacity() > 0 {
            fgetxattr(fd, *name, spare_capacity(&mut value))?;
        }
        hash.bytes(name.to_bytes());
        hash.bytes(&value);
    }
    Ok(names.len())
}

#[cfg(test)]
pub(super) fn settled(ctime: i128, now: i128) -> bool {
    is_settled(&Key { ctime, ..Key::default() }, now)
}
