//! `toc.zst`: what a tar stream has beside its file data, so that the same stream can be written again.
//!
//! A zstd stream of a magic line and records in the order of the archive:
//!
//! ```text
//! 0  u32 length, bytes                               bytes of the stream: headers, extensions, padding, trailer
//! 1  u32 length, path, u64 offset, u64 size, u128    data of the stream: this part of this file, its xxh3-128
//! 2                                                  the end
//! ```
//!
//! Numbers are little-endian. Data that an archive overwrites with a later entry of the same name is kept in
//! `replaced/` under its hash. The hash finds damage; it is the digest of the whole stream, which every reader
//! checks at its end, that a forger would have to match.

use super::tar::Tee;
use super::walker::{Walker, split};
use super::{Error, path_of};
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8] = b"coracle toc 1\n";
const RAW: u8 = 0;
const DATA: u8 = 1;
const END: u8 = 2;

/// Raw bytes are gathered up to this size.
const GATHER: usize = 64 * 1024;

/// The table's name in a layer's folder.
pub const TOC: &str = "toc.zst";
/// The files' name in a layer's folder.
pub const FS: &str = "fs";
/// Where overwritten data is kept in a layer's folder.
pub const REPLACED: &str = "replaced";

/// Writes a table.
pub struct TocWriter {
    path: PathBuf,
    out: zstd::Encoder<'static, File>,
    raw: Vec<u8>,
}

impl TocWriter {
    /// Begins the table of the layer in folder `layer`.
    pub fn create(layer: &Path) -> Result<Self, Error> {
        let path = layer.join(TOC);
        let mut private = OpenOptions::new();
        private.write(true).create_new(true).mode(0o600);
        let write = || -> io::Result<_> {
            // Level 1: headers are nearly all zeros, higher levels gain next to nothing.
            let mut out = zstd::Encoder::new(private.open(&path)?, 1)?;
            out.include_checksum(true)?;
            out.write_all(MAGIC)?;
            Ok(out)
        };
        let out = write().map_err(Error::io("write", &path))?;
        Ok(Self { path, out, raw: Vec::with_capacity(GATHER) })
    }

    /// Records that the next data of the stream is in a file.
    pub fn data(&mut self, path: &[u8], offset: u64, size: u64, hash: u128) -> Result<(), Error> {
        self.flush()?;
        self.raw.push(DATA);
        self.raw.extend_from_slice(&length(path.len()));
        self.raw.extend_from_slice(path);
        self.raw.extend_from_slice(&offset.to_le_bytes());
        self.raw.extend_from_slice(&size.to_le_bytes());
        self.raw.extend_from_slice(&hash.to_le_bytes());
        let written = self.out.write_all(&self.raw).map_err(Error::io("write", &self.path));
        self.raw.clear();
        written
    }

    /// Ends the table.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        let Self { path, mut out, .. } = self;
        out.write_all(&[END]).and_then(|()| out.finish()).map_err(Error::io("write", &path))?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let mut head = [RAW, 0, 0, 0, 0];
        head[1..].copy_from_slice(&length(self.raw.len()));
        let written = self.out.write_all(&head).and_then(|()| self.out.write_all(&self.raw));
        self.raw.clear();
        written.map_err(Error::io("write", &self.path))
    }
}

/// Paths and gathered bytes are far below 4 GiB.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

impl Tee for TocWriter {
    fn raw(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(GATHER - self.raw.len()));
            self.raw.extend_from_slice(now);
            if self.raw.len() == GATHER {
                self.flush()?;
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// Reads a layer's tar stream out of its table and its files.
pub struct TarStream {
    table: zstd::Decoder<'static, BufReader<File>>,
    files: Walker,
    replaced: Option<OwnedFd>,
    state: State,
    hasher: Box<Xxh3>,
}

enum State {
    /// Bytes of the table are next, this many.
    Raw(u64),
    /// Bytes of a file are next.
    File {
        file: File,
        left: u64,
        path: Vec<u8>,
        hash: u128,
    },
    Ended,
}

impl TarStream {
    /// Opens the layer in folder `layer`.
    pub fn open(layer: &Path) -> Result<Self, Error> {
        let begin = || -> io::Result<_> {
            let mut table = zstd::Decoder::new(File::open(layer.join(TOC))?)?;
            let mut magic = [0; MAGIC.len()];
            table.read_exact(&mut magic)?;
            if magic != MAGIC {
                return Err(io::Error::other("it is not a table of contents that this version understands"));
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let files = Walker::searching(openat(CWD, layer.join(FS), flags, Mode::empty())?);
            let replaced = match open(layer.join(REPLACED), flags, Mode::empty()) {
                Ok(dir) => Some(dir),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(e.into()),
            };
            Ok((table, files, replaced))
        };
        let (table, files, replaced) = begin().map_err(Error::io("read", &layer.join(TOC)))?;
        Ok(Self { table, files, replaced, state: State::Raw(0), hasher: Box::new(Xxh3::new()) })
    }

    /// The length of the whole stream, by the table alone. Nothing of it is to be read afterwards.
    pub fn length(mut self) -> io::Result<u64> {
        let mut total: u64 = 0;
        loop {
            let size = match self.number::<1>()? {
                [RAW] => {
                    let size = u32::from_le_bytes(self.number()?).into();
                    if io::copy(&mut (&mut self.table).take(size), &mut io::sink())? != size {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    size
                }
                [DATA] => {
                    let path = u64::from(u32::from_le_bytes(self.number()?));
                    io::copy(&mut (&mut self.table).take(path), &mut io::sink())?;
                    let [_offset, size] = [self.number::<8>()?, self.number::<8>()?].map(u64::from_le_bytes);
                    self.number::<16>()?;
                    size
                }
                [END] => return Ok(total),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            total = total.checked_add(size).ok_or(io::ErrorKind::InvalidData)?;
        }
    }

    fn next_record(&mut self) -> io::Result<State> {
        Ok(match self.number::<1>()? {
            [RAW] => State::Raw(u32::from_le_bytes(self.number()?).into()),
            [DATA] => {
                let length = u32::from_le_bytes(self.number()?);
                let mut path = Vec::new();
                (&mut self.table).take(length.into()).read_to_end(&mut path)?;
                let offset = u64::from_le_bytes(self.number()?);
                let left = u64::from_le_bytes(self.number()?);
                let hash = u128::from_le_bytes(self.number()?);
                let mut file = self.open_data(&path, hash).map_err(|e| damaged(&path, e.into()))?;
                io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
                self.hasher.reset();
                State::File { file, left, path, hash }
            }
            [END] => State::Ended,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    fn open_data(&mut self, path: &[u8], hash: u128) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Some(replaced) = &self.replaced {
            match openat(replaced, replaced_name(hash), flags, Mode::empty()) {
                Err(Errno::NOENT) => {}
                other => return other.map(File::from),
            }
        }
        let (parent, name) = split(path);
        self.files.go(parent).map_err(|stopped| stopped.errno)?;
        openat(self.files.here(), name, flags, Mode::empty()).map(File::from)
    }

    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.table.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The name under `replaced/` of data with this hash.
pub fn replaced_name(hash: u128) -> String {
    format!("{hash:032x}")
}

fn damaged(path: &[u8], source: io::Error) -> io::Error {
    io::Error::other(Error::Damaged { path: path_of(path), source })
}

impl Read for TarStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Raw(0) => self.state = self.next_record()?,
                State::Raw(left) => {
                    let count = (&mut self.table).take(*left).read(into)?;
                    if count == 0 && !into.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    *left -= count as u64;
                    return Ok(count);
                }
                State::File { left: 0, path, hash, .. } => {
                    if self.hasher.digest128() != *hash {
                        return Err(damaged(path, io::Error::other("its content has changed")));
                    }
                    self.state = State::Raw(0);
                }
                State::File { file, left, path, .. } => {
                    let count = match file.take(*left).read(into) {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        other => other.map_err(|e| damaged(path, e))?,
                    };
                    if count == 0 && !into.is_empty() {
                        return Err(damaged(path, io::Error::other("it is shorter than it was")));
                    }
                    self.hasher.update(&into[..count]);
                    *left -= count as u64;
                    return Ok(count);
                }
                State::Ended => return Ok(0),
            }
        }
    }
}
