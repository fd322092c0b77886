//! Reading a tar stream: strict, streaming, and lossless.
//!
//! [`Entries`] yields one [`Entry`] after the other, with the extensions (PAX, GNU long names, sparse maps) already
//! applied to it, and hands every byte that is not file data, untouched, to a [`Tee`]: from those bytes and the
//! files the same stream can be written again ([`super::toc`]).
//!
//! Meaning follows Go's `archive/tar`, through which docker and podman see every layer. Where two readers could see
//! two different archives in the same bytes, the archive is refused instead: sizes that differ between a header
//! and its PAX record (CVE-2025-62518), repeated or stacked extension headers that differ, names given twice. An
//! extension applies to the next file only, never to another extension header (GHSA-3cv2-h65g-fgmm).

mod header;
mod pax;
mod sparse;
mod writer;

pub use sparse::Extent;
pub use writer::{Writer, header};

use super::{Error, Limits};
use header::Header;
use pax::Pax;
use std::io::{BufRead, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

/// The unit of a tar stream.
pub const BLOCK: usize = 512;
type Block = [u8; BLOCK];

/// The largest header body that is taken into memory: PAX records, GNU long names, sparse maps. Go's limit.
const MAX_EXTENSION: u64 = 1 << 20;

/// Takes the bytes of a tar stream that are not file data, in order.
pub trait Tee {
    /// The next bytes.
    fn raw(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
}

/// One file of a tar stream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name as the archive has it.
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Size of a regular file, holes included.
    pub size: u64,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file belongs; `None`: it is the whole file.
    pub extents: Option<Vec<Extent>>,
}

impl Entry {
    /// A new folder of root's, that everybody may look into.
    pub fn folder(path: Vec<u8>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            kind: Kind::Directory,
            path,
            link: Vec::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: (i64::try_from(now.as_secs()).unwrap_or(0), 0),
            size: 0,
            xattrs: Vec::new(),
            extents: None,
        }
    }
}

/// What extension headers have said about the next entry.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// The entries of a tar stream, one at a time.
pub struct Entries<R, T> {
    input: R,
    tee: T,
    limits: Limits,
    count: u64,
    bytes: u64,
    /// Data of the current entry that is still to come, and the padding after it.
    left: u64,
    padding: u64,
}

impl<R: BufRead, T: Tee> Entries<R, T> {
    /// Starts at the beginning of a stream.
    pub fn new(input: R, tee: T, limits: Limits) -> Self {
        Self { input, tee, limits, count: 0, bytes: 0, left: 0, padding: 0 }
    }

    /// Where the bytes go that are not data.
    pub fn tee(&mut self) -> &mut T {
        &mut self.tee
    }

    /// Entries and extension headers seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ends the reading.
    pub fn into_parts(self) -> (R, T) {
        (self.input, self.tee)
    }

    /// The next entry; what is left of the last one's data goes to the tee. `None` at the end, when the stream
    /// has been read to its last byte.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        self.pass(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        let mut extensions = Extensions::default();
        loop {
            let block = self.block()?;
            let Some(block) = block.filter(|block| block != &[0; BLOCK]) else {
                let extended =
                    extensions.pax.is_some() || extensions.name.is_some() || extensions.link.is_some();
                if extended {
                    return Err(Error::malformed("the archive ends after an extension header"));
                }
                if block.is_some() && self.block()?.is_some_and(|second| second != [0; BLOCK]) {
                    return Err(Error::malformed("a single block of zeros is followed by more entries"));
                }
                self.pass(u64::MAX)?;
                return Ok(None);
            };
            self.count += 1;
            if self.count > self.limits.entries {
                return Err(Error::Limit { what: "entries", limit: self.limits.entries });
            }
            let header = Header::parse(&block).map_err(Error::malformed)?;
            match header.flag {
                b'x' => {
                    let pax = Pax::parse(&self.extension(header.size)?).map_err(Error::malformed)?;
                    if extensions.pax.replace(pax).is_some() {
                        return Err(Error::malformed("an entry has two PAX headers"));
                    }
                }
                // docker and podman pay no attention to global headers.
                b'g' => drop(self.extension(header.size)?),
                flag @ (b'L' | b'K') => {
                    let mut body = self.extension(header.size)?;
                    body.truncate(body.iter().position(|&b| b == 0).unwrap_or(body.len()));
                    let slot = if flag == b'L' { &mut extensions.name } else { &mut extensions.link };
                    if slot.replace(body).is_some() {
                        return Err(Error::malformed("an entry has two GNU long names"));
                    }
                }
                _ => return self.entry(header, &block, extensions).map(Some),
            }
        }
    }

    /// The next bytes of the current entry's data; empty at its end.
    pub fn data(&mut self) -> Result<&[u8], Error> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let buffer = self.input.fill_buf().map_err(Error::read)?;
        if buffer.is_empty() {
            return Err(Error::truncated());
        }
        Ok(&buffer[..left.min(buffer.len())])
    }

    /// Marks bytes of [`Self::data`] as used.
    pub fn consume(&mut self, count: usize) -> Result<(), Error> {
        self.input.consume(count);
        self.left -= count as u64;
        self.account(count as u64)
    }

    fn entry(&mut self, header: Header, block: &Block, extensions: Extensions) -> Result<Entry, Error> {
        let mut pax = extensions.pax.unwrap_or_default();
        let sparse = pax.sparse.take();
        let sparse_name = sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let path = one_name(extensions.name, sparse_name.or(pax.path), header.name)?;
        let link = one_name(extensions.link, pax.link, header.link)?;
        let bad = |what| Error::Malformed { what, path: Some(super::path_of(&path)) };
        let kind = match header.flag {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(bad("an entry is of an unknown type")),
        };
        let stored = match pax.size {
            Some(size) if size != header.size && size <= header::OCTAL_MAX => {
                return Err(bad("a header and its PAX record give different sizes"));
            }
            Some(size) => size,
            None => header.size,
        };
        // Only files have data; some writers state the size of a hard link's target (Go, isHeaderOnlyType).
        self.left = if kind == Kind::File { stored } else { 0 };
        self.padding = self.left.wrapping_neg() % BLOCK as u64;
        if self.left > self.limits.bytes {
            return Err(Error::Limit { what: "bytes", limit: self.limits.bytes });
        }
        let id = |id: u64| {
            // -1 is no id: to chown(2) it means "leave it".
            u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or_else(|| bad("an owner is out of range"))
        };
        let mut entry = Entry {
            kind,
            mode: header.mode,
            uid: id(pax.uid.unwrap_or(header.uid))?,
            gid: id(pax.gid.unwrap_or(header.gid))?,
            mtime: pax.mtime.unwrap_or((header.mtime, 0)),
            size: self.left,
            xattrs: pax.xattrs,
            extents: None,
            path,
            link,
        };
        if let (b'S', Some(_)) = (header.flag, &sparse) {
            return Err(Error::malformed("an entry has two sparse maps"));
        }
        let map = match (header.flag, sparse) {
            (b'S', None) => Some(self.gnu_sparse(block)?),
            (_, Some(sparse)) if kind == Kind::File => Some(self.pax_sparse(sparse)?),
            _ => None,
        };
        if let Some((map, size)) = map {
            if size > self.limits.bytes {
                return Err(Error::Limit { what: "bytes", limit: self.limits.bytes });
            }
            entry.size = size;
            entry.extents = Some(sparse::extents(&map, size, self.left).map_err(Error::malformed)?);
        }
        Ok(entry)
    }

    /// The map of an old GNU sparse header: four pairs in the header, 21 in each block that follows it.
    fn gnu_sparse(&mut self, block: &Block) -> Result<(Vec<u64>, u64), Error> {
        let size = header::number(&block[483..495]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| Error::malformed("a sparse file's size is malformed"))?;
        let mut map = Vec::new();
        sparse::gnu_pairs(&block[386..482], &mut map).map_err(Error::malformed)?;
        let mut more = block[482] != 0;
        while more {
            let block = self.block()?.ok_or_else(Error::truncated)?;
            sparse::gnu_pairs(&block[..504], &mut map).map_err(Error::malformed)?;
            more = block[504] != 0;
            bounded(map.len() as u64 * 24)?;
        }
        Ok((map, size))
    }

    /// The map of PAX sparse formats 0.0 and 0.1, which is in the records, or 1.0, which is before the data.
    fn pax_sparse(&mut self, sparse: pax::Sparse) -> Result<(Vec<u64>, u64), Error> {
        let size = sparse.size.ok_or_else(|| Error::malformed("a sparse file's size is missing"))?;
        match sparse.version {
            (None, None) | (Some(0), Some(0 | 1)) => return Ok((sparse.map, size)),
            (Some(1), Some(0)) => {}
            _ => return Err(Error::malformed("a sparse file is of an unknown version")),
        }
        // Decimal numbers, one per line, filled up to whole blocks: their count, then offset and length in turn.
        let mut map = Vec::new();
        let (mut wanted, mut digits) = (None, Vec::new());
        let mut total = 0;
        while wanted != Some(map.len()) {
            if self.left < BLOCK as u64 {
                return Err(Error::malformed("a sparse map is longer than its file"));
            }
            let block = self.block()?.ok_or_else(Error::truncated)?;
            self.left -= BLOCK as u64;
            total += BLOCK as u64;
            bounded(total)?;
            for byte in block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = pax::decimal(&digits).map_err(Error::malformed)?;
                digits.clear();
                match wanted {
                    None => {
                        let count = usize::try_from(number).ok().and_then(|n| n.checked_mul(2));
                        wanted = Some(count.ok_or_else(|| Error::malformed("a sparse map is malformed"))?);
                    }
                    Some(_) => map.push(number),
                }
                if wanted == Some(map.len()) {
                    break;
                }
            }
        }
        Ok((map, size))
    }

    /// The body of an extension header, with its padding passed over.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        bounded(size)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let padded = size.next_multiple_of(BLOCK);
        let mut body = Vec::with_capacity(padded);
        while body.len() < padded {
            let block = self.block()?.ok_or_else(Error::truncated)?;
            body.extend_from_slice(&block);
        }
        body.truncate(size);
        Ok(body)
    }

    /// The next block, already given to the tee; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = self.input.fill_buf().map_err(Error::read)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(Error::truncated()) };
            }
            let count = buffer.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&buffer[..count]);
            self.input.consume(count);
            filled += count;
        }
        self.account(BLOCK as u64)?;
        self.tee.raw(&block)?;
        Ok(Some(block))
    }

    /// Passes bytes to the tee: `count` of them, or with `u64::MAX` all to the end of the stream.
    fn pass(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            let buffer = self.input.fill_buf().map_err(Error::read)?;
            if buffer.is_empty() {
                return if count == u64::MAX { Ok(()) } else { Err(Error::truncated()) };
            }
            let now = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.tee.raw(&buffer[..now])?;
            self.input.consume(now);
            self.account(now as u64)?;
            left -= now as u64;
        }
        Ok(())
    }

    fn account(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > self.limits.bytes {
            return Err(Error::Limit { what: "bytes", limit: self.limits.bytes });
        }
        Ok(())
    }
}

/// The name that counts, of a GNU long name, a PAX record and the header's field. The first two are for names that
/// do not fit the field; if both are there they have to agree.
fn one_name(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, header: Vec<u8>) -> Result<Vec<u8>, Error> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(Error::malformed("an entry has two different names")),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header),
    }
}

fn bounded(size: u64) -> Result<(), Error> {
    if size > MAX_EXTENSION {
        return Err(Error::Limit { what: "bytes of extension headers of one entry", limit: MAX_EXTENSION });
    }
    Ok(())
}

impl Error {
    fn malformed(what: &'static str) -> Self {
        Error::Malformed { what, path: None }
    }

    fn truncated() -> Self {
        Error::read(ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Archive;

    impl Tee for Vec<u8> {
        fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
            self.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// All that is not data, and all data.
    fn read(archive: &[u8]) -> Result<(Vec<u8>, u64), Error> {
        let limits = Limits { bytes: 1 << 20, ..Limits::default() };
        let mut entries = Entries::new(archive, Vec::new(), limits);
        let mut data = 0;
        while entries.next_entry()?.is_some() {
            while let count @ 1.. = entries.data()?.len() {
                entries.consume(count)?;
                data += count as u64;
            }
        }
        Ok((entries.into_parts().1, data))
    }

    #[test]
    fn every_byte_is_data_or_goes_to_the_tee() {
        let archive = Archive::new().pax(&[("path", b"x")]).file("a", &[1; 1000]).dir("d").end();
        let archive = [&archive[..], b"and what follows the end"].concat();
        let (raw, data) = read(&archive).unwrap();
        assert_eq!((raw.len() as u64 + data, data), (archive.len() as u64, 1000));
    }

    #[test]
    fn no_change_of_an_archive_is_more_than_an_error() {
        let sparse: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"900")];
        let map = [&b"1\n100\n3\n"[..], &[0; 504], b"abc"].concat();
        let archive = Archive::new()
            .pax(&[("size", b"5"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
            .file("a", b"12345")
            .entry(b'L', b"././@LongLink", b"", b"long\0", |_| ())
            .hard_link("b", "a")
            .pax(sparse)
            .file("s", &map)
            .entry(b'S', b"old", b"", b"", |h| h.prefix[138..].copy_from_slice(b"00000000000\0\0\0\0\0\0"))
            .end();
        read(&archive).unwrap();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..20_000 {
            let mut archive = archive.clone();
            for _ in 0..=random(3) {
                let at = random(archive.len());
                archive[at] = [b'0', b'7', b'9', b' ', b'x', 0, 0x80, 0xff][random(8)];
            }
            for block in archive.chunks_exact_mut(BLOCK) {
                let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
                let field: u32 = block[148..156].iter().map(|&b| u32::from(b)).sum();
                if &block[257..262] == b"ustar" {
                    let sum = format!("{:06o}\0 ", sum - field + 8 * 32);
                    block[148..156].copy_from_slice(sum.as_bytes());
                }
            }
            let _ = read(&archive);
        }
    }
}
