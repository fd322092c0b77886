//! Which layers are there, who builds one, and how it becomes visible.

use super::toc::{FS, TarStream};
use super::unpack::{Unpacked, unpack};
use super::{Error, Limits, Ownership, feed, verify};
use crate::digest::{Digest, Hashing};
use crate::state::{Durability, Lock, Paths, boot_id, create_dir_private, read_json, trash, write_json};
use rustix::fs::{CWD, Mode, OFlags, XattrFlags, openat, setxattr, syncfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Names of a layer's lock and of its staging folder begin so.
const PREFIX: &str = "layer-";
/// The name of a layer that was set aside ends so.
const ASIDE: &str = ".aside";

/// `layers/<hex>/state`.
#[derive(Serialize, Deserialize)]
struct State {
    /// The boot in which the layer was written.
    boot_id: String,
    /// Whether it has reached the disk.
    durable: bool,
    /// Bytes in its regular files.
    size: u64,
}

/// The layers of one data root. Opening it costs nothing; it may be shared between threads.
pub struct LayerStore {
    pub(super) paths: Paths,
    pub(super) ownership: Ownership,
    boot: OnceLock<Option<String>>,
}

/// A damaged layer out of its place; see [`LayerStore::set_aside`].
pub struct Aside<'a> {
    store: &'a LayerStore,
    diff_id: Digest,
    _guard: LayerLock,
}

impl Aside<'_> {
    /// Drops it, whether there is another in its place or not.
    pub fn discard(self) -> Result<(), Error> {
        self.store.end_aside(self.diff_id, true)
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // If this fails, `collect` does it. After `discard` there is nothing left to do.
        let _ = self.store.end_aside(self.diff_id, false);
    }
}

/// What [`LayerStore::claim`] found.
pub enum Claim {
    /// The layer is there.
    Present,
    /// It is the caller's to build; others wait for it.
    Build(Staging),
}

impl LayerStore {
    /// The store below a data root that is prepared.
    pub fn open(paths: &Paths, ownership: Ownership) -> Self {
        Self { paths: paths.clone(), ownership, boot: OnceLock::new() }
    }

    /// Whether a layer is published and known to be whole: durable, or made in this boot.
    pub fn contains(&self, diff_id: Digest) -> bool {
        read_json::<State>(&self.state_file(diff_id))
            .ok()
            .flatten()
            .is_some_and(|state| state.durable || self.boot().is_some_and(|boot| boot == state.boot_id))
    }

    /// A layer's files.
    pub fn fs_dir(&self, diff_id: Digest) -> PathBuf {
        self.layer_dir(diff_id).join(FS)
    }

    /// Finds a layer, or the right to build it; waits while another thread or process is building it. A layer of an
    /// earlier boot that never became durable is verified here, and put in order or removed.
    pub fn claim(&self, diff_id: Digest) -> Result<Claim, Error> {
        let Some(lock) = self.to_be_built(diff_id)? else { return Ok(Claim::Present) };
        let dir = self.paths.staging().join(lock_name(diff_id));
        // What is there is of a dead process: we have its lock.
        trash(&self.paths, &dir)?;
        create_dir_private(&dir)?;
        // Without them a layer cannot say what it hides, and a container on it could not remove a folder.
        if setxattr(&dir, "user.coracle", b"layer", XattrFlags::empty()) == Err(Errno::OPNOTSUPP) {
            trash(&self.paths, &dir)?;
            return Err(Error::NoAttributes(self.paths.data().to_owned()));
        }
        create_dir_private(&self.paths.layers())?;
        Ok(Claim::Build(Staging {
            paths: self.paths.clone(),
            ownership: self.ownership,
            diff_id,
            boot: self.boot().unwrap_or_default().to_owned(),
            target: self.layer_dir(diff_id),
            dir,
            _lock: lock,
        }))
    }

    /// The lock of a layer that is not there, whose place is free then; `None` if it is there.
    pub(super) fn to_be_built(&self, diff_id: Digest) -> Result<Option<LayerLock>, Error> {
        if self.contains(diff_id) {
            return Ok(None);
        }
        let lock = self.lock(diff_id)?;
        if self.contains(diff_id) {
            return Ok(None);
        }
        // A folder without a state that can be read is one of which a power cut took the state.
        if let Ok(size) = self.verify(diff_id) {
            // It was read from the disk of a later boot than its own.
            self.set_durable(diff_id, size)?;
            return Ok(None);
        }
        trash(&self.paths, &self.layer_dir(diff_id))?;
        Ok(Some(lock))
    }

    /// Gives a layer that is complete in the folder `dir` its place, which is free.
    pub(super) fn publish(
        &self,
        dir: &Path,
        diff_id: Digest,
        size: u64,
        _lock: &LayerLock,
    ) -> Result<(), Error> {
        let state = State { boot_id: self.boot().unwrap_or_default().to_owned(), durable: false, size };
        publish(dir, &self.layer_dir(diff_id), &state)
    }

    /// Bytes in a layer's regular files.
    pub fn size(&self, diff_id: Digest) -> Result<u64, Error> {
        let state = read_json::<State>(&self.state_file(diff_id))?;
        state.map(|state| state.size).ok_or(Error::Missing(diff_id))
    }

    /// All published layers, usable or not, in the order of their digests.
    pub fn list(&self) -> Result<Vec<Digest>, Error> {
        let names = names(&self.paths.layers())?;
        let mut layers: Vec<_> = names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect();
        layers.sort_unstable();
        Ok(layers)
    }

    /// Removes a layer into the trash, and the shifted images made of it; `false` if it was not there. Whether anybody needs it is the caller's question.
    pub fn remove(&self, diff_id: Digest) -> Result<bool, Error> {
        let lock = self.lock(diff_id)?;
        let removed = trash(&self.paths, &self.layer_dir(diff_id))?;
        drop(lock);
        self.sweep_shifted()?;
        Ok(removed)
    }

    /// Writes a layer's archive, bit for bit the one that was unpacked: what goes out has the layer's digest, or
    /// the writing ends with an error. Files of any mode must be readable: call it as root of the user's namespace.
    pub fn write_tar(&self, diff_id: Digest, out: &mut dyn Write) -> Result<(), Error> {
        let mut stream = TarStream::open(&self.existing(diff_id)?)?;
        let mut out = Hashing::new(out);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => out.write_all(&buffer[..count]).map_err(|source| Error::Output { source })?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::read(e)),
            }
        }
        match out.finish().1 {
            found if found == diff_id => Ok(()),
            found => Err(Error::Digest { expected: diff_id, found }),
        }
    }

    /// The same for who reads: the layer's archive, which ends with an error if it has not the layer's digest.
    pub fn read_tar(&self, diff_id: Digest) -> Result<impl Read + use<>, Error> {
        Ok(Archive { stream: Some(Hashing::new(TarStream::open(&self.existing(diff_id)?)?)), diff_id })
    }

    /// The length of what [`Self::write_tar`] writes, without reading the files.
    pub fn tar_size(&self, diff_id: Digest) -> Result<u64, Error> {
        TarStream::open(&self.existing(diff_id)?)?.length().map_err(Error::read)
    }

    /// Compares a layer with its digest: all data, and what is there of everything else.
    /// Gives the bytes in its regular files.
    pub fn verify(&self, diff_id: Digest) -> Result<u64, Error> {
        verify::verify(&self.existing(diff_id)?, diff_id, self.ownership)
    }

    /// Takes a damaged layer out of the store, so that it can be built again; `None` if it is not there. Dropped while
    /// nothing has taken its place, it goes back: better a damaged layer than none for who depends on it.
    pub fn set_aside(&self, diff_id: Digest) -> Result<Option<Aside<'_>>, Error> {
        create_dir_private(&self.paths.locks())?;
        let guard = LayerLock::take(self.paths.locks().join(format!("aside-{}", diff_id.hex())))?;
        let _lock = self.lock(diff_id)?;
        let aside = self.aside_dir(diff_id);
        trash(&self.paths, &aside)?;
        match fs::rename(self.layer_dir(diff_id), &aside) {
            Ok(()) => Ok(Some(Aside { store: self, diff_id, _guard: guard })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("remove", &self.layer_dir(diff_id))(e)),
        }
    }

    /// Puts back what was set aside if its place is free, else drops it.
    fn end_aside(&self, diff_id: Digest, drop_it: bool) -> Result<(), Error> {
        let _lock = self.lock(diff_id)?;
        let (aside, place) = (self.aside_dir(diff_id), self.layer_dir(diff_id));
        if drop_it || place.symlink_metadata().is_ok() || fs::rename(&aside, &place).is_err() {
            trash(&self.paths, &aside)?;
        }
        Ok(())
    }

    /// Makes all layers and shifted images durable that are not yet: one sync of the file system for all of them.
    /// Those that are being built or removed at this moment are left for the next time. Gives their number.
    pub fn make_durable(&self) -> Result<usize, Error> {
        let mut held = Vec::new();
        for diff_id in self.list()? {
            if read_json::<State>(&self.state_file(diff_id)).ok().flatten().is_none_or(|state| state.durable)
            {
                continue;
            }
            let Some(lock) = LayerLock::try_take(self.lock_file(diff_id))? else { continue };
            // Under the lock: the layer that is synced must be the layer that is marked.
            if let Ok(Some(state)) = read_json::<State>(&self.state_file(diff_id))
                && !state.durable
                && self.boot().is_some_and(|boot| boot == state.boot_id)
            {
                held.push((diff_id, state, lock));
            }
        }
        let shifted = self.unsynced_shifted()?;
        let count = held.len() + shifted.len();
        if count == 0 {
            return Ok(0);
        }
        let layers = self.paths.layers();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, &layers, flags, Mode::empty()).map_err(Error::io("open", &layers))?;
        syncfs(&folder).map_err(Error::io("sync", &layers))?;
        for (diff_id, state, _lock) in held {
            self.set_durable(diff_id, state.size)?;
        }
        for tree in shifted {
            tree.set_durable()?;
        }
        Ok(count)
    }

    /// Whether there is a staging folder of a dead process: a look without a lock.
    pub fn has_leftovers(&self) -> Result<bool, Error> {
        for name in names(&self.paths.staging())? {
            if !Lock::is_held(&self.paths.locks().join(&name))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves staging folders of dead processes to the trash, and removes their locks. Gives the number of folders.
    pub fn collect(&self) -> Result<usize, Error> {
        let staging = self.paths.staging();
        let mut count = self.collect_shifted()? + self.collect_commits()?;
        for name in names(&staging)? {
            let hex = name.strip_prefix(PREFIX).and_then(|hex| Digest::from_hex(hex).ok());
            let Some(diff_id) = hex else { continue };
            if let Some(_lock) = LayerLock::try_take(self.lock_file(diff_id))? {
                count += usize::from(trash(&self.paths, &staging.join(name))?);
            }
        }
        for name in names(&self.paths.locks())? {
            let prefixes = [PREFIX, super::shifted::PREFIX, super::commit::PREFIX];
            let hex = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
            if hex.is_some_and(|hex| Digest::from_hex(hex).is_ok()) {
                // One that is free goes with being dropped.
                drop(LayerLock::try_take(self.paths.locks().join(&name))?);
            }
        }
        for name in names(&self.paths.layers())? {
            let hex = name.strip_suffix(ASIDE).and_then(|hex| Digest::from_hex(hex).ok());
            let Some(diff_id) = hex else { continue };
            let guard = self.paths.locks().join(format!("aside-{}", diff_id.hex()));
            if let Some(_guard) = LayerLock::try_take(guard)? {
                self.end_aside(diff_id, false)?;
                count += 1;
            }
        }
        Ok(count)
    }

    pub(super) fn boot(&self) -> Option<&str> {
        self.boot.get_or_init(|| boot_id().ok()).as_deref()
    }

    fn layer_dir(&self, diff_id: Digest) -> PathBuf {
        self.paths.layers().join(diff_id.hex())
    }

    fn aside_dir(&self, diff_id: Digest) -> PathBuf {
        self.paths.layers().join(format!("{}{ASIDE}", diff_id.hex()))
    }

    fn state_file(&self, diff_id: Digest) -> PathBuf {
        self.layer_dir(diff_id).join("state")
    }

    pub(super) fn packed_file(&self, diff_id: Digest) -> PathBuf {
        self.layer_dir(diff_id).join("packed")
    }

    fn lock_file(&self, diff_id: Digest) -> PathBuf {
        self.paths.locks().join(lock_name(diff_id))
    }

    fn existing(&self, diff_id: Digest) -> Result<PathBuf, Error> {
        let dir = self.layer_dir(diff_id);
        if dir.is_dir() { Ok(dir) } else { Err(Error::Missing(diff_id)) }
    }

    fn lock(&self, diff_id: Digest) -> Result<LayerLock, Error> {
        create_dir_private(&self.paths.locks())?;
        LayerLock::take(self.lock_file(diff_id))
    }

    fn set_durable(&self, diff_id: Digest, size: u64) -> Result<(), Error> {
        let state = State { boot_id: self.boot().unwrap_or_default().to_owned(), durable: true, size };
        // If this write is lost, the layer only counts as not durable.
        Ok(write_json(&self.state_file(diff_id), &state, Durability::Process)?)
    }
}

fn publish(dir: &Path, target: &Path, state: &State) -> Result<(), Error> {
    write_json(&dir.join("state"), state, Durability::Process)?;
    // Under the layer's lock nobody else publishes it; rename(2) replaces no folder that has anything in it.
    fs::rename(dir, target).map_err(Error::io("publish", target))
}

fn lock_name(diff_id: Digest) -> String {
    format!("{PREFIX}{}", diff_id.hex())
}

/// The names in a folder that are text, as all of ours are; none if there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", folder)(e)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    let names: io::Result<Vec<_>> = names.collect();
    Ok(names.map_err(Error::io("read", folder))?.into_iter().flatten().collect())
}

/// A layer's lock; its file goes with its holder, so that the folder does not fill up.
pub(super) struct LayerLock {
    _lock: Lock,
    path: PathBuf,
}

impl LayerLock {
    pub(super) fn take(path: PathBuf) -> Result<Self, Error> {
        Ok(Self { _lock: Lock::exclusive(&path)?, path })
    }

    pub(super) fn try_take(path: PathBuf) -> Result<Option<Self>, Error> {
        if let Some(folder) = path.parent() {
            create_dir_private(folder)?;
        }
        Ok(Lock::try_exclusive(&path)?.map(|lock| Self { _lock: lock, path }))
    }
}

impl Drop for LayerLock {
    fn drop(&mut self) {
        // While the lock is held: who waits for it sees that the name is gone, and takes a new one.
        let _ = fs::remove_file(&self.path);
    }
}

/// The one place in which a layer is being built. Dropped before it is published, it leaves nothing.
pub struct Staging {
    paths: Paths,
    ownership: Ownership,
    diff_id: Digest,
    boot: String,
    target: PathBuf,
    dir: PathBuf,
    _lock: LayerLock,
}

/// A layer's archive on its way out.
struct Archive {
    /// Gone when the end was reached.
    stream: Option<Hashing<TarStream>>,
    diff_id: Digest,
}

impl Read for Archive {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let Some(stream) = self.stream.as_mut().filter(|_| !into.is_empty()) else { return Ok(0) };
        let count = stream.read(into)?;
        if count > 0 {
            return Ok(count);
        }
        match self.stream.take().map(|stream| stream.finish().1) {
            Some(found) if found != self.diff_id => {
                Err(std::io::Error::other(Error::Digest { expected: self.diff_id, found }))
            }
            _ => Ok(0),
        }
    }
}

impl Staging {
    /// Unpacks an uncompressed tar stream ([`super::decompress`]) and publishes it if it has the layer's digest. The
    /// stream is read to its end in a second thread: a reader that finds there that the compressed blob
    /// was not the right one prevents the publishing with its error.
    pub fn unpack(self, tar: impl Read + Send, limits: &Limits) -> Result<Unpacked, Error> {
        let (unpacked, _, found) = feed::feed(tar, |feed| unpack(feed, &self.dir, self.ownership, limits))?;
        if found != self.diff_id {
            return Err(Error::Digest { expected: self.diff_id, found });
        }
        let state = State { boot_id: self.boot.clone(), durable: false, size: unpacked.size };
        publish(&self.dir, &self.target, &state)?;
        Ok(unpacked)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After publishing there is nothing to move. If this fails, `collect` finds it.
        let _ = trash(&self.paths, &self.dir);
    }
}

#[cfg(test)]
mod tests;
