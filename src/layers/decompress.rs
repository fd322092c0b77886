//! Which compression a layer blob has, by its first bytes: media types lie (docker/distribution#1871 and others).
//!
//! What comes out is bounded by what went in: gzip makes a thousand bytes of one, zstd a hundred thousand, so that a blob
//! of a few megabytes could fill a disk. Real layers are rarely compressed to less than a twentieth; the first GiB is
//! free, for those that hold little but zeros.

use super::Error;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Chain, Cursor, Read};

/// Read-ahead of the compressed stream.
const BUFFER: usize = 128 * 1024;

/// Bytes that may come out of any blob.
const FREE: u64 = 1 << 30;
/// Bytes that may come out beyond that for each byte of the blob.
const RATIO: u64 = 250;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// The tar stream in a layer blob. It reads the blob to its last byte, so that a reader that checks the blob's
/// digest at its end gets its say.
pub struct Decompressed<R: Read> {
    decoder: Decoder<R>,
    /// Bytes that have come out.
    out: u64,
    free: u64,
}

enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Box<zstd::Decoder<'static, Input<R>>>),
}

/// Decompresses a layer blob: gzip (also of several members), zstd (also of several frames, with skippable ones),
/// or a plain tar.
pub fn decompress<R: Read>(mut blob: R) -> Result<Decompressed<R>, Error> {
    let mut magic = Vec::with_capacity(6);
    blob.by_ref().take(6).read_to_end(&mut magic).map_err(Error::read)?;
    let compression = Compression::of(&magic)?;
    let blob = Counted { inner: blob, count: magic.len() as u64 };
    let input = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(blob));
    let decoder = match compression {
        Compression::None => Decoder::Plain(input),
        Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
        Compression::Zstd => Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(input).map_err(Error::read)?)),
    };
    Ok(Decompressed { decoder, out: 0, free: FREE })
}

#[derive(Debug, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Result<Self, Error> {
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A data frame, or a skippable frame (RFC 8878, 3.1.2) as zstd:chunked and others begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Err(Error::Compression("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(Error::Compression("xz")),
            _ => Ok(Self::None),
        }
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (count, input) = match &mut self.decoder {
            Decoder::Plain(input) => return input.read(into),
            Decoder::Gzip(decoder) => (decoder.read(into)?, decoder.get_ref()),
            Decoder::Zstd(decoder) => (decoder.read(into)?, decoder.get_ref()),
        };
        self.out += count as u64;
        let taken = input.get_ref().get_ref().1.count;
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
