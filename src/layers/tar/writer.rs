//! Writing a tar stream: POSIX headers ("ustar"), and a PAX header before those that say more than fits into one.
//!
//! The other way round from [`super::Entries`], with the same [`Entry`]: what is written here is read there as it was.

use super::header::OCTAL_MAX;
use super::{BLOCK, Entry, Kind};
use std::io::{self, Read, Write};

/// The largest owner that the octal field can say.
const OCTAL_ID_MAX: u32 = 0o7_777_777;

/// A tar stream being written.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a stream.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Appends an entry. Of a regular file, `content` gives the bytes: what is missing of `entry.size` (the file has
    /// shrunk meanwhile) is zeros, and what is more is left out. Returns how many bytes there were.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<u64> {
        // Without its number it means nothing, and an ordinary user's container has none.
        if entry.kind == Kind::Device {
            return Ok(0);
        }
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        self.out.write_all(&header(entry, None))?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        io::copy(&mut io::repeat(0).take(size - copied), &mut self.out)?;
        self.pad(size)?;
        Ok(copied)
    }

    /// Ends the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.out.write_all(&[0; BLOCK][over..]) } else { Ok(()) }
    }
}

/// An entry's header: the block, after a PAX header if it needs one. `device` has a device's type
/// (`3` for characters, `4` for blocks) and its numbers.
pub fn header(entry: &Entry, device: Option<(u8, u32, u32)>) -> Vec<u8> {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let size = if entry.kind == Kind::File { entry.size } else { 0 };
    let (mut out, mut records) = (Vec::with_capacity(BLOCK), Vec::new());
    let fits = split(&path);
    if fits.is_none() {
        record(&mut records, b"path", &path);
    }
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    if size > OCTAL_MAX {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > OCTAL_ID_MAX {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(entry.mtime.0).ok().filter(|seconds| *seconds <= OCTAL_MAX);
    if seconds.is_none() {
        record(&mut records, b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    // A key ends at its first '='.
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| !name.contains(&b'=')) {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    if !records.is_empty() {
        let head = Head { flag: b'x', mode: 0o644, size: records.len() as u64, ..Head::default() };
        out.extend_from_slice(&head.block((b"", b"././@PaxHeader")));
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    let flag = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Device => device.map_or(b'3', |(flag, ..)| flag),
    };
    let head = Head {
        flag,
        mode: entry.mode,
        uid: if entry.uid > OCTAL_ID_MAX { 0 } else { entry.uid },
        gid: if entry.gid > OCTAL_ID_MAX { 0 } else { entry.gid },
        size: if size > OCTAL_MAX { 0 } else { size },
        seconds: seconds.unwrap_or(0),
        link: &entry.link[..entry.link.len().min(100)],
        device,
    };
    let shortened = (&b""[..], &path[..path.len().min(100)]);
    out.extend_from_slice(&head.block(fits.unwrap_or(shortened)));
    out
}

#[derive(Default)]
struct Head<'a> {
    flag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    seconds: u64,
    link: &'a [u8],
    device: Option<(u8, u32, u32)>,
}

impl Head<'_> {
    /// The block; `prefix` and `name` are at most 155 and 100 bytes long.
    fn block(&self, (prefix, name): (&[u8], &[u8])) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name);
        put(156, &[self.flag]);
        put(157, self.link);
        put(257, b"ustar\x0000");
        put(345, prefix);
        let (_, major, minor) = self.device.unwrap_or_default();
        octal(&mut block[100..107], (self.mode & 0o7777).into());
        octal(&mut block[108..115], self.uid.into());
        octal(&mut block[116..123], self.gid.into());
        octal(&mut block[124..135], self.size);
        octal(&mut block[136..147], self.seconds);
        octal(&mut block[329..336], major.into());
        octal(&mut block[337..344], minor.into());
        // While the sum is taken its own field is blanks; it ends with NUL and one.
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        octal(&mut block[148..154], sum.into());
        block[154] = 0;
        block
    }
}

/// Fills a field with a number's digits. (What `format!` would take for them is a tenth of the time of a small file.)
fn octal(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (number.to_le_bytes()[0] & 7);
        number >>= 3;
    }
}

/// A path as prefix and name, if it fits.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // A slash at the end belongs to the name.
    let slashes = (0..path.len() - 1).filter(|&at| path[at] == b'/');
    let mut fitting = slashes.filter(|&at| at > 0 && at <= 155 && path.len() - at - 1 <= 100);
    fitting.next().map(|at| (&path[..at], &path[at + 1..]))
}

/// Appends a PAX record, whose length counts its own digits.
fn record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    loop {
        let next = rest + length.to_string().len();
        if next == length {
            break;
        }
        length = next;
    }
    to.extend_from_slice(format!("{length} ").as_bytes());
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tar::Entries;
    use crate::layers::{Error, Limits};

    fn entry(kind: Kind, path: &[u8]) -> Entry {
        Entry {
            kind,
            path: path.to_vec(),
            link: Vec::new(),
            mode: 0o4755,
            uid: 7,
            gid: 8,
            mtime: (1_000_000_000, 0),
            size: 0,
            xattrs: Vec::new(),
            extents: None,
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let long = vec![b'n'; 200];
        let deep = [&[b'd'; 120][..], b"/", &[b'f'; 90]].concat();
        let mut entries = vec![
            Entry { mode: 0o755, ..entry(Kind::Directory, b"dir") },
            Entry { size: 5, ..entry(Kind::File, b"dir/file") },
            Entry { link: b"dir/file".to_vec(), ..entry(Kind::HardLink, b"again") },
            Entry { link: long.clone(), ..entry(Kind::Symlink, b"link") },
            entry(Kind::Fifo, b"fifo"),
            entry(Kind::File, &long),
            entry(Kind::File, &deep),
            entry(Kind::File, b"caf\xe9\n"),
            Entry { uid: 3_000_000, gid: 4_000_000, mtime: (-5, 0), ..entry(Kind::File, b"far") },
        ];
        entries[1].xattrs = vec![(b"user.note".to_vec(), b"a\0b".to_vec())];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            assert_eq!(writer.append(entry, &mut &b"12345"[..]).unwrap(), entry.size);
        }
        let bytes = writer.finish().unwrap();
        assert!(bytes.len().is_multiple_of(BLOCK));
        struct Ignore;
        impl crate::layers::tar::Tee for Ignore {
            fn raw(&mut self, _: &[u8]) -> Result<(), Error> {
                Ok(())
            }
        }
        let mut read = Entries::new(&bytes[..], Ignore, Limits::default());
        for mut expected in entries {
            let found = read.next_entry().unwrap().unwrap();
            if expected.kind == Kind::Directory {
                expected.path.push(b'/');
            }
            assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            let data = read.data().unwrap().to_vec();
            assert_eq!(data, &b"12345"[..usize::try_from(expected.size).unwrap()]);
            read.consume(data.len()).unwrap();
        }
        assert!(read.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_file_that_shrinks_or_grows_while_it_is_written_keeps_its_place() {
        for content in [&b"123"[..], b"1234567890"] {
            let mut writer = Writer::new(Vec::new());
            writer.append(&Entry { size: 5, ..entry(Kind::File, b"f") }, &mut { content }).unwrap();
            assert_eq!(writer.finish().unwrap().len(), 4 * BLOCK);
        }
    }
}
