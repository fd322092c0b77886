//! Contexts that come as a tar stream.

use super::{Error, Fetched};
use crate::container::files::{self, Owner, TreeOptions};
use crate::layers::{LayerStore, decompress_any};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::io::Read;

/// Of a file or stream, so many bytes tell whether it is an archive.
pub const HEAD: u64 = 64 << 10;

/// Whether what begins so is a tar stream, packed or not.
pub fn is_archive(head: &[u8]) -> bool {
    let mut block = Vec::new();
    if let Ok(unpacked) = decompress_any(head) {
        // The head ends somewhere: that is no fault of the stream's.
        let _ = unpacked.take(512).read_to_end(&mut block);
    }
    block.get(257..262) == Some(b"ustar") || has_checksum(&block)
}

/// Whether it is a header as before POSIX, which has nothing to be known by but its checksum.
fn has_checksum(block: &[u8]) -> bool {
    let Some(field) = block.get(148..156).filter(|_| block.len() == 512 && block[0] != 0) else {
        return false;
    };
    let digits: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, b' ' | 0)).collect();
    let told = std::str::from_utf8(&digits).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
    let others = block[..148].iter().chain(&block[156..]);
    told == Some(others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' '))
}

impl<'a> Fetched<'a> {
    /// Unpacks a tar stream, packed or not. All files become the user's.
    pub fn archive(store: &'a LayerStore, input: impl Read) -> Result<Self, Error> {
        let fetched = Self::empty(store)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = openat(CWD, &fetched.folder, flags, Mode::empty()).map_err(Error::io("open the folder"))?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let options = TreeOptions {
            owner: Owner::One(uid.as_raw(), gid.as_raw()),
            single_id: false,
            plain_modes: false,
            overwrite: true,
        };
        files::read_archive(input, top, options)?;
        Ok(fetched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_content() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_path("file").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, &b""[..]).unwrap();
        let old = archive.into_inner().unwrap();
        assert!(is_archive(&old));
        assert!(is_archive(&zstd::encode_all(&old[..], 1).unwrap()));
        let text = b"FROM scratch\n".repeat(100);
        for other in [&b""[..], &text, &[0; 1024], &zstd::encode_all(&text[..], 1).unwrap()] {
            assert!(!is_archive(other));
        }
    }
}
