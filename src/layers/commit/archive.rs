//! The archive that a layer stands for: its headers go to the table, all of it through the digest.

use super::super::tar::{Entry, Tee, header};
use super::super::toc::TocWriter;
use super::super::{Error, tar::BLOCK};
use crate::digest::{Digest, Hashing};
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use xxhash_rust::xxh3::Xxh3;

/// Bytes per chunk that is digested.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait.
const QUEUE: usize = 4;

/// An archive in the making.
pub(super) struct Archive {
    table: TocWriter,
    digest: Digester,
    length: u64,
    hasher: Box<Xxh3>,
}

impl Archive {
    /// With its table in the folder `layer`.
    pub(super) fn create(layer: &Path) -> Result<Self, Error> {
        let hasher = Box::new(Xxh3::new());
        Ok(Self { table: TocWriter::create(layer)?, digest: Digester::new(), length: 0, hasher })
    }

    /// Whether it has no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends an entry's header. A device's has its type and numbers.
    pub(super) fn header(&mut self, entry: &Entry, device: Option<(u8, u32, u32)>) -> Result<(), Error> {
        self.raw(&header(entry, device))
    }

    /// Appends bytes that are in no file.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.table.raw(bytes)?;
        self.pass(bytes)
    }

    /// Appends a part of a file's data.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.pass(bytes)
    }

    /// After all data of a file.
    pub(super) fn end_data(&mut self, path: &[u8], size: u64) -> Result<(), Error> {
        let hash = self.hasher.digest128();
        self.hasher.reset();
        self.table.data(path, 0, size, hash)?;
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.raw(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    /// Ends it; its digest and its length, nothing if it has no entry.
    pub(super) fn finish(mut self) -> Result<Option<(Digest, u64)>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        self.raw(&[0; 2 * BLOCK])?;
        self.table.finish()?;
        Ok(Some((self.digest.finish()?, self.length)))
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        self.digest.update(bytes)
    }
}

/// Digests in a second thread, if there is more than a chunk: sha256 takes as long as everything else together.
struct Digester {
    chunk: Vec<u8>,
    worker: Option<Worker>,
}

struct Worker {
    full: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
    thread: JoinHandle<Digest>,
}

impl Digester {
    fn new() -> Self {
        Self { chunk: Vec::with_capacity(CHUNK), worker: None }
    }

    fn update(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            if self.chunk.len() == CHUNK {
                self.send()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Error> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Worker::start().map_err(Error::read)?),
        };
        let next = worker.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let full = std::mem::replace(&mut self.chunk, next);
        worker.full.send(full).map_err(|_| gone())
    }

    fn finish(mut self) -> Result<Digest, Error> {
        match self.worker.is_some() {
            false => return Ok(Digest::of(&self.chunk)),
            true => self.send()?,
        }
        let Worker { full, thread, .. } = self.worker.take().ok_or_else(gone)?;
        drop(full);
        thread.join().map_err(|_| gone())
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (full, chunks) = sync_channel::<Vec<u8>>(QUEUE);
        let (back, used) = channel();
        let digest = move || {
            let mut digest = Hashing::new(io::sink());
            for mut chunk in chunks {
                // A sink takes everything.
                let _ = digest.write_all(&chunk);
                chunk.clear();
                let _ = back.send(chunk);
            }
            digest.finish().1
        };
        let thread = std::thread::Builder::new().name("layer digest".into()).spawn(digest)?;
        Ok(Self { full, used, thread })
    }
}

/// The thread ends by itself only when its queue does.
fn gone() -> Error {
    Error::read(io::ErrorKind::BrokenPipe.into())
}
