//! Which compression a layer blob has, by its first bytes: media types lie (docker/distribution#1871 and others).
//!
//! What comes out is bounded by what went in: gzip makes a thousand bytes of one, zstd a hundred thousand, so that a blob
//! of a few megabytes could fill a disk. Real layers are rarely compressed to less than a twentieth; the first GiB is
//! free, for those that hold little but zeros.

use super::Error;
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Read-ahead of the compressed stream.
const BUFFER: usize = 128 * 1024;

/// Bytes that may come out of any blob.
const FREE: u64 = 1 << 30;
/// Bytes that may come out beyond that for each byte of the blob.
const RATIO: u64 = 250;
/// KiB of memory that an xz stream may ask for: four times what `xz -9` does.
const XZ_MEMORY: u32 = 256 << 10;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

/// Counts what is read through it, also once it is inside of a decoder.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The tar stream in a layer blob. It reads the blob to its last byte, so that a reader that checks the blob's
/// digest at its end gets its say.
pub struct Decompressed<R: Read> {
    decoder: Decoder<R>,
    /// Bytes that have gone in.
    taken: Arc<AtomicU64>,
    /// Bytes that have come out.
    out: u64,
    free: u64,
}

enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Box<zstd::Decoder<'static, Input<R>>>),
    Bzip2(Box<MultiBzDecoder<Input<R>>>),
    Xz(Box<XzReader<Input<R>>>),
}

/// Decompresses a layer blob: gzip (also of several members), zstd (also of several frames, with skippable ones),
/// or a plain tar. Anything else no registry has.
pub fn decompress<R: Read>(blob: R) -> Result<Decompressed<R>, Error> {
    open(blob, |compression| match compression {
        Compression::Bzip2 => Err(Error::Compression("bzip2")),
        Compression::Xz => Err(Error::Compression("xz")),
        _ => Ok(()),
    })
}

/// Decompresses an archive of a user's: what [`decompress`] does, and bzip2 and xz.
pub fn decompress_any<R: Read>(archive: R) -> Result<Decompressed<R>, Error> {
    open(archive, |_| Ok(()))
}

fn open<R: Read>(
    mut blob: R,
    allow: impl FnOnce(&Compression) -> Result<(), Error>,
) -> Result<Decompressed<R>, Error> {
    let mut magic = Vec::with_capacity(6);
    blob.by_ref().take(6).read_to_end(&mut magic).map_err(Error::read)?;
    let compression = Compression::of(&magic);
    allow(&compression)?;
    let taken = Arc::new(AtomicU64::new(magic.len() as u64));
    let blob = Counted { inner: blob, count: Arc::clone(&taken) };
    let input = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(blob));
    let decoder = match compression {
        Compression::None => Decoder::Plain(input),
        Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
        Compression::Zstd => Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(input).map_err(Error::read)?)),
        Compression::Bzip2 => Decoder::Bzip2(Box::new(MultiBzDecoder::new(input))),
        Compression::Xz => Decoder::Xz(Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY))),
    };
    Ok(Decompressed { decoder, taken, out: 0, free: FREE })
}

#[derive(Debug, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A data frame, or a skippable frame (RFC 8878, 3.1.2) as zstd:chunked and others begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Xz,
            _ => Self::None,
        }
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::Plain(input) => return input.read(into),
            Decoder::Gzip(decoder) => decoder.read(into)?,
            Decoder::Zstd(decoder) => decoder.read(into)?,
            Decoder::Bzip2(decoder) => decoder.read(into)?,
            Decoder::Xz(decoder) => decoder.read(into)?,
        };
        self.out += count as u64;
        let taken = self.taken.load(Ordering::Relaxed);
        if self.out > self.free.saturating_add(taken.saturating_mul(RATIO)) {
            return Err(io::Error::other(Error::Bomb { ratio: RATIO }));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read(blob: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(blob).unwrap().read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        assert_eq!(read(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
    }

    #[test]
    fn several_zstd_frames_with_skippable_ones_are_one_stream() {
        let frame = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
        let skip = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let blob = [&skip[..], &frame(b"one "), skip, &frame(b"two"), skip].concat();
        assert_eq!(read(&blob).unwrap(), b"one two");
    }

    #[test]
    fn what_is_not_compressed_passes_through() {
        for plain in [&b""[..], b"a", b"plain text"] {
            assert_eq!(read(plain).unwrap(), plain);
        }
    }

    #[test]
    fn a_cut_stream_is_an_error_and_other_compressions_are_named() {
        let whole = gzip(&[7; 1000]);
        assert!(read(&whole[..whole.len() - 4]).is_err());
        let whole = zstd::encode_all(&[7; 1000][..], 1).unwrap();
        assert!(read(&whole[..whole.len() - 1]).is_err());
        assert!(matches!(decompress(&b"BZh91AY"[..]), Err(Error::Compression("bzip2"))));
        assert!(matches!(decompress(&b"\xfd7zXZ\0"[..]), Err(Error::Compression("xz"))));
    }

    #[test]
    fn an_archive_of_a_users_may_be_packed_by_bzip2_or_xz() {
        let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        packed.write_all(b"text").unwrap();
        // printf text | xz
        let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x03text\0XZXZ";
        let mut out = String::new();
        decompress_any(&packed.finish().unwrap()[..]).unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "text");
        assert!(decompress_any(&xz[..]).unwrap().read_to_end(&mut Vec::new()).is_err(), "it is cut off");
    }

    #[test]
    fn a_bomb_is_given_up_and_a_layer_of_zeros_is_not() {
        let zeros = vec![0; 16 << 20];
        let mut best = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        best.write_all(&zeros).unwrap();
        for bomb in [best.finish().unwrap(), zstd::encode_all(&zeros[..], 1).unwrap()] {
            let mut stream = decompress(&bomb[..]).unwrap();
            assert!(io::copy(&mut stream, &mut io::sink()).is_ok(), "within the first GiB");
            let mut stream = decompress(&bomb[..]).unwrap();
            stream.free = 1 << 20;
            let error = Error::read(io::copy(&mut stream, &mut io::sink()).unwrap_err());
            assert!(matches!(error, Error::Bomb { .. }), "{error:?}");
            assert!(stream.out < 8 << 20, "it ends early");
        }
        let mut plain = decompress(&zeros[..]).unwrap();
        plain.free = 0;
        assert!(io::copy(&mut plain, &mut io::sink()).is_ok());
    }

    #[test]
    fn the_blob_is_read_to_its_last_byte() {
        for blob in [gzip(b"x"), zstd::encode_all(&b"x"[..], 1).unwrap(), b"plain".to_vec()] {
            let mut reader = &blob[..];
            io::copy(&mut decompress(&mut reader).unwrap(), &mut io::sink()).unwrap();
            assert!(reader.is_empty());
        }
    }
}
