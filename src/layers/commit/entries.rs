//! A layer written entry by entry: each file is read once, where it comes from, and never again.
//!
//! The caller reads and hands over batches of entries and their data; a second thread ([`Maker`]) makes the files,
//! the table and the archive's digest of them meanwhile. What fits into one batch needs no thread.
//!
//! Entries come in the order of a layer that was made of a directory: parents before what is in them, the names in a
//! folder in the order of their bytes. Then it is the same layer, to the bit, as if they had been written over the layers below and
//! that had been committed.

use super::maker::Maker;
use super::{CommittedLayer, Error, FOLDER, Staging};
use crate::layers::LayerStore;
use crate::layers::tar::{Entry, Kind};
use crate::layers::unpack::make_root;
use rustix::fs::{CWD, Mode, openat};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are handed over at once.
const BYTES: usize = 256 * 1024;
/// Entries that are.
const ENTRIES: usize = 64;
/// Batches that may wait.
const QUEUE: usize = 4;

/// What is handed over.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// The next thing in a batch.
enum Part {
    Entry(Entry),
    /// So many of its bytes are the next ones of the last file.
    Data(usize),
}

/// A layer that is being written. Dropped before it is finished, it leaves nothing.
pub struct LayerWriter<'a> {
    store: &'a LayerStore,
    batch: Batch,
    maker: Making,
    staging: Staging<'a>,
}

enum Making {
    Here(Box<Maker>),
    There(Worker),
    /// It has failed.
    Over,
}

struct Worker {
    batches: SyncSender<Batch>,
    thread: JoinHandle<Result<Box<Maker>, Error>>,
}

impl LayerStore {
    /// Begins a layer. `below` is the root that the layers below it show, mounted; none: there are none. The caller is as
    /// [`Self::commit`]'s.
    pub fn writer(&self, below: Option<OwnedFd>) -> Result<LayerWriter<'_>, Error> {
        let staging = Staging::make(&self.paths)?;
        let failed = Error::io("create", &staging.dir);
        let folder = openat(CWD, &staging.dir, FOLDER, Mode::empty()).and_then(|folder| make_root(&folder));
        let maker = Maker::new(&staging.dir, folder.map_err(failed)?, below, self.ownership)?;
        Ok(LayerWriter {
            store: self,
            batch: Batch::default(),
            maker: Making::Here(Box::new(maker)),
            staging,
        })
    }
}

impl LayerWriter<'_> {
    /// Writes one more entry; of a file `content` has as much as the entry says. A folder that is there below stays as it is.
    ///
    /// An error may be one of an earlier entry; the layer is lost then.
    pub fn put(&mut self, entry: Entry, content: &mut dyn Read) -> Result<(), Error> {
        let mut left = if entry.kind == Kind::File { entry.size } else { 0 };
        let mut entry = Some(entry);
        let mut path = Vec::new();
        while left > 0 {
            let begin = self.batch.bytes.len();
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(BYTES - begin);
            self.batch.bytes.resize(begin + most, 0);
            let read = content.read(&mut self.batch.bytes[begin..]);
            let path_of = || crate::layers::path_of(entry.as_ref().map_or(&path, |entry| &entry.path));
            let count = match read {
                Ok(0) => {
                    return Err(Error::Refused {
                        path: path_of(),
                        why: "it was changed while it was copied",
                    });
                }
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => 0,
                Err(e) => return Err(Error::io("read", &path_of())(e)),
            };
            self.batch.bytes.truncate(begin + count);
            left -= count as u64;
            if let Some(entry) = entry.take() {
                if left > 0 {
                    path.clone_from(&entry.path);
                }
                self.batch.parts.push(Part::Entry(entry));
            }
            self.batch.parts.push(Part::Data(count));
            if self.batch.bytes.len() == BYTES {
                self.hand_over()?;
            }
        }
        self.batch.parts.extend(entry.map(Part::Entry));
        if self.batch.parts.len() >= 2 * ENTRIES { self.hand_over() } else { Ok(()) }
    }

    /// Ends it; the layer, if there was anything to write.
    pub fn finish(mut self) -> Result<Option<CommittedLayer>, Error> {
        let batch = std::mem::take(&mut self.batch);
        let maker = match std::mem::replace(&mut self.maker, Making::Over) {
            Making::Over => return Err(gone()),
            Making::Here(mut maker) => {
                maker.take(batch)?;
                maker
            }
            Making::There(worker) => {
                let _ = worker.batches.send(batch);
                worker.end()?
            }
        };
        let (archive, size) = maker.finish()?;
        self.store.published(&self.staging, archive, size)
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.batch.bytes.reserve(BYTES);
        let worker = match std::mem::replace(&mut self.maker, Making::Over) {
            Making::Over => return Err(gone()),
            Making::Here(maker) => Worker::start(maker)?,
            Making::There(worker) => worker,
        };
        if worker.batches.send(batch).is_err() {
            return worker.end().and(Err(gone()));
        }
        self.maker = Making::There(worker);
        Ok(())
    }
}

impl Drop for LayerWriter<'_> {
    fn drop(&mut self) {
        // Before its folder goes.
        if let Making::There(worker) = std::mem::replace(&mut self.maker, Making::Over) {
            let _ = worker.end();
        }
    }
}

impl Worker {
    fn start(mut maker: Box<Maker>) -> Result<Self, Error> {
        let (batches, waiting) = sync_channel::<Batch>(QUEUE);
        let make = move || {
            for batch in waiting {
                maker.take(batch)?;
            }
            Ok(maker)
        };
        let thread = std::thread::Builder::new().name("layer maker".into()).spawn(make);
        Ok(Self { batches, thread: thread.map_err(Error::read)? })
    }

    /// All that was handed over has been made.
    fn end(self) -> Result<Box<Maker>, Error> {
        let Self { batches, thread } = self;
        drop(batches);
        thread.join().unwrap_or_else(|_| Err(gone()))
    }
}

impl Maker {
    fn take(&mut self, batch: Batch) -> Result<(), Error> {
        let mut bytes = &batch.bytes[..];
        for part in batch.parts {
            match part {
                Part::Entry(entry) => self.entry(entry)?,
                Part::Data(count) => {
                    let (now, rest) = bytes.split_at(count);
                    self.data(now)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }
}

/// The thread ends by itself only with an error, which is told once.
fn gone() -> Error {
    Error::read(ErrorKind::BrokenPipe.into())
}
