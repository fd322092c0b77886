//! Layers on their way into the store: from wherever the blobs are, several at once, each as one stream: bytes →
//! digest of the blob → decompression → digest of the archive and unpacking.

use super::manifest::Blob;
use super::{Error, Event, ImageConfig, Progress};
use crate::digest::{Digest, Hashing};
use crate::layers::{Claim, LayerStore, Limits, decompress};
use crate::registry;
use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A layer to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) blob: Blob,
    pub(super) diff_id: Digest,
}

/// Where blobs come from. Threads share it.
pub(super) trait Source: Sync {
    /// The bytes of a blob, unverified.
    fn open<'s>(&'s self, blob: Blob, progress: &'s dyn Progress)
    -> Result<Box<dyn Read + Send + 's>, Error>;
}

/// The layers of an image, each once: the manifest says where, the config what they are.
pub(super) fn layers_of(name: &str, blobs: &[Blob], config: &ImageConfig) -> Result<Vec<Layer>, Error> {
    let diff_ids = &config.rootfs.diff_ids;
    if blobs.len() != diff_ids.len() {
        let why = format!("its manifest has {} layers, and its config {}", blobs.len(), diff_ids.len());
        return Err(Error::unsupported(name, why));
    }
    let mut seen = HashSet::new();
    let pairs = blobs.iter().zip(diff_ids).filter(|(_, diff_id)| seen.insert(**diff_id));
    Ok(pairs.map(|(blob, diff_id)| Layer { blob: *blob, diff_id: *diff_id }).collect())
}

/// Brings all the layers into the store, the largest ones first, `jobs` at a time. After the first error the others
/// stop too.
pub(super) fn fetch_layers(
    source: &dyn Source,
    store: &LayerStore,
    all: &[Layer],
    jobs: usize,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut queue = Vec::new();
    for layer in all {
        let digest = layer.blob.digest;
        if store.contains(layer.diff_id) {
            progress.on(Event::LayerPresent { digest });
        } else {
            progress.on(Event::LayerWaiting { digest });
            queue.push(*layer);
        }
    }
    queue.sort_by_key(|layer| layer.blob.size);
    side_by_side(queue, jobs, |layer, stop| fetch_layer(source, store, layer, stop, progress))
}

/// Does the work on all of a queue, from its end, in `jobs` threads. After the first error the others are told to stop.
pub(super) fn side_by_side<T: Send>(
    queue: Vec<T>,
    jobs: usize,
    each: impl Fn(T, &AtomicBool) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let threads = jobs.clamp(1, queue.len().max(1));
    let queue = Mutex::new(queue);
    let stop = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    // A function of its own: in the head of the loop, the lock would be held for the whole of its body.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some(one) = next() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = each(one, &stop) {
                // In this order: what stops the others must not be taken for their error.
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // No more of them to be had: those that there are do it all.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn fetch_layer(
    source: &dyn Source,
    store: &LayerStore,
    layer: Layer,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let Blob { digest, size } = layer.blob;
    let staging = match store.claim(layer.diff_id)? {
        Claim::Present => {
            progress.on(Event::LayerPresent { digest });
            return Ok(());
        }
        Claim::Build(staging) => staging,
    };
    progress.on(Event::LayerStart { digest, size });
    let failure = Mutex::new(None);
    let verified = Verified {
        inner: Some(Hashing::new(source.open(layer.blob, progress)?)),
        digest,
        stop,
        progress,
        failure: &failure,
    };
    let unpacked = decompress(verified).and_then(|tar| staging.unpack(tar, &Limits::default()));
    // The reader's own error says more than what the unpacker made of it.
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    unpacked?;
    progress.on(Event::LayerDone { digest });
    Ok(())
}

/// A blob that ends with an error if it is not the one that was asked for: the unpacker reads to the end
/// before it publishes, so a wrong blob is never published.
struct Verified<'a, R> {
    /// Gone when the end was reached and found good.
    inner: Option<Hashing<R>>,
    digest: Digest,
    stop: &'a AtomicBool,
    progress: &'a dyn Progress,
    failure: &'a Mutex<Option<Error>>,
}

impl<R> Verified<'_, R> {
    fn fail(&self, error: Error) -> io::Error {
        let text = error.to_string();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        io::Error::other(text)
    }
}

impl<R: Read> Read for Verified<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped, since another layer failed"));
        }
        let Some(inner) = self.inner.as_mut().filter(|_| !into.is_empty()) else { return Ok(0) };
        match inner.read(into) {
            Ok(0) => {}
            Ok(n) => {
                self.progress.on(Event::LayerBytes { digest: self.digest, bytes: n as u64 });
                return Ok(n);
            }
            Err(error) => {
                return Err(match registry::Error::from_io(error) {
                    Ok(error) => self.fail(error.into()),
                    Err(error) => error,
                });
            }
        }
        let got = self.inner.take().map(|inner| inner.finish().1);
        match got {
            Some(got) if got != self.digest => {
                let what = format!("layer {}", self.digest.short());
                Err(self.fail(registry::Error::Digest { what, expected: self.digest, got }.into()))
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Ownership;
    use crate::state::Paths;
    use std::sync::Barrier;

    /// Gives no blob before all are asked for.
    struct Together {
        blobs: Vec<Vec<u8>>,
        all: Barrier,
    }

    impl Source for Together {
        fn open<'s>(&'s self, blob: Blob, _: &'s dyn Progress) -> Result<Box<dyn Read + Send + 's>, Error> {
            self.all.wait();
            let found = self.blobs.iter().find(|bytes| Digest::of(bytes) == blob.digest);
            Ok(Box::new(&found.ok_or_else(|| Error::NotFound("blob".into()))?[..]))
        }
    }

    #[test]
    fn layers_are_fetched_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let store = LayerStore::open(&paths, Ownership::SingleId);
        let blobs: Vec<Vec<u8>> = (1..=3usize).map(|blocks| vec![0; blocks * 1024]).collect();
        let layer = |bytes: &Vec<u8>| {
            let digest = Digest::of(bytes);
            Layer { blob: Blob { digest, size: bytes.len() as u64 }, diff_id: digest }
        };
        let layers: Vec<Layer> = blobs.iter().map(layer).collect();
        let source = Together { blobs, all: Barrier::new(3) };
        // One after the other they would wait for each other without end.
        let (done, finished) = std::sync::mpsc::channel();
        let fetch = std::thread::spawn(move || {
            let result = fetch_layers(&source, &store, &layers, 3, &super::super::Silent);
            done.send(result.is_ok()).unwrap();
        });
        assert_eq!(finished.recv_timeout(std::time::Duration::from_secs(60)), Ok(true));
        fetch.join().unwrap();
    }
}
