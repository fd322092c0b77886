//! Two threads per stream: one reads and decompresses, the other hashes and unpacks.
//!
//! Inflating a layer takes about as much CPU as everything after it, so that two cores halve the time of a single
//! layer. The queue between the threads holds a few chunks: memory per layer is bounded by `CHUNK * (QUEUE + 2)`.

use super::Error;
use crate::digest::{Digest, Hashing};
use std::io::{self, BufRead, ErrorKind, Read, Sink, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes per chunk: fits the second-level cache, in which hashing, table and write find it.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait.
const QUEUE: usize = 4;

/// A full or last chunk.
struct Chunk {
    bytes: Box<[u8]>,
    length: usize,
}

/// The consumer's end: a buffered reader over what the other thread reads.
pub struct Feed {
    chunks: Receiver<io::Result<Chunk>>,
    /// Used chunks go back to be filled again.
    used: Sender<Chunk>,
    current: Chunk,
    at: usize,
    ended: bool,
    hash: Hashing<Sink>,
}

/// Reads `source` to its end in a second thread while `consume` takes what was read. Gives what `consume` gives,
/// and the length and digest of all that it took.
pub fn feed<T>(
    source: impl Read + Send,
    consume: impl FnOnce(&mut Feed) -> Result<T, Error>,
) -> Result<(T, u64, Digest), Error> {
    let (sender, chunks) = sync_channel(QUEUE);
    let (used, reuse) = channel();
    let empty = Chunk { bytes: Box::default(), length: 0 };
    let mut feed = Feed { chunks, used, current: empty, at: 0, ended: false, hash: Hashing::new(io::sink()) };
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("layer reader".into());
        reader.spawn_scoped(scope, move || read_chunks(source, &sender, &reuse)).map_err(Error::read)?;
        let result = consume(&mut feed);
        // With its receiver gone the reader ends at its next chunk, so that the scope can.
        let Feed { hash, .. } = feed;
        let length = hash.count();
        Ok((result?, length, hash.finish().1))
    })
}

fn read_chunks(mut source: impl Read, sender: &SyncSender<io::Result<Chunk>>, reuse: &Receiver<Chunk>) {
    loop {
        let mut chunk = reuse
            .try_recv()
            .unwrap_or_else(|_| Chunk { bytes: vec![0; CHUNK].into_boxed_slice(), length: 0 });
        chunk.length = 0;
        let mut end = None;
        while chunk.length < CHUNK && end.is_none() {
            match source.read(&mut chunk.bytes[chunk.length..]) {
                Ok(0) => end = Some(Ok(())),
                Ok(count) => chunk.length += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => end = Some(Err(e)),
            }
        }
        if chunk.length > 0 && sender.send(Ok(chunk)).is_err() {
            return;
        }
        match end {
            None => {}
            Some(Ok(())) => return,
            Some(Err(e)) => {
                // Nobody listens any more if the consumer has failed first.
                let _ = sender.send(Err(e));
                return;
            }
        }
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.length && !self.ended {
            match self.chunks.recv() {
                Ok(Ok(chunk)) => {
                    self.hash.write_all(&chunk.bytes[..chunk.length])?;
                    let used = std::mem::replace(&mut self.current, chunk);
                    self.at = 0;
                    if !used.bytes.is_empty() {
                        let _ = self.used.send(used);
                    }
                }
                Ok(Err(e)) => {
                    self.ended = true;
                    return Err(e);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.current.bytes[self.at..self.current.length])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_in_order_and_are_hashed() {
        let data: Vec<u8> = (0u32..400_000).flat_map(u32::to_le_bytes).collect();
        let mut copy = Vec::new();
        let take = |feed: &mut Feed| feed.read_to_end(&mut copy).map_err(Error::read);
        let (_, length, digest) = feed(&data[..], take).unwrap();
        assert!(copy == data);
        assert_eq!((length, digest), (data.len() as u64, Digest::of(&data)));
    }

    #[test]
    fn an_error_of_the_source_arrives_after_the_bytes_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::ConnectionReset.into())
            }
        }
        let mut copy = Vec::new();
        let take = |feed: &mut Feed| feed.read_to_end(&mut copy).map_err(Error::read);
        assert!(matches!(
            feed(b"head".chain(Broken), take),
            Err(Error::Read { source }) if source.kind() == ErrorKind::ConnectionReset
        ));
        assert_eq!(copy, b"head");
    }

    #[test]
    fn a_consumer_that_fails_stops_the_reader() {
        let failed = |_: &mut Feed| Err::<(), _>(Error::Compression("none"));
        assert!(matches!(feed(io::repeat(7), failed), Err(Error::Compression(_))));
    }
}
