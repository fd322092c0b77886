//! How layers are compressed for a registry, and what came of it: packing a layer takes longer than anything else in a
//! push, so its digest is kept beside the layer (`packed`), and a registry that has that blob is sent nothing.
//!
//! It is a hint: what is lost or cannot be read costs a compression.

use super::{Error, LayerStore};
use crate::digest::Digest;
use crate::state::{Durability, read_json, write_json};
use flate2::read::GzEncoder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read};

/// More places of a blob than these are not kept.
const MAX_PLACES: usize = 16;

/// A compression of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// The level that its own tool has if none is given.
    pub fn default_level(self) -> u32 {
        match self {
            Self::Gzip => 6,
            Self::Zstd => 3,
        }
    }

    /// The highest level; the lowest is 1.
    pub fn max_level(self) -> u32 {
        match self {
            Self::Gzip => 9,
            Self::Zstd => 20,
        }
    }

    /// The compressed form of a stream. The same stream and level give the same bytes.
    pub fn compress<'r>(self, from: impl Read + 'r, level: u32) -> io::Result<Box<dyn Read + 'r>> {
        let level = level.min(self.max_level());
        Ok(match self {
            Self::Gzip => Box::new(GzEncoder::new(from, flate2::Compression::new(level))),
            Self::Zstd => {
                Box::new(zstd::stream::read::Encoder::new(from, i32::try_from(level).unwrap_or_default())?)
            }
        })
    }
}

/// What a layer's archive came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// By which compression.
    pub compression: Compression,
    /// At which level.
    pub level: u32,
    /// The digest of the compressed blob.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// The repositories, with their registries, that were seen to have it.
    pub places: BTreeSet<String>,
}

impl LayerStore {
    /// What is known of a layer's compressed forms.
    pub fn packed(&self, diff_id: Digest) -> Vec<Packed> {
        read_json(&self.packed_file(diff_id)).ok().flatten().unwrap_or_default()
    }

    /// Keeps one of them, in the place of an earlier one of this compression and level. A layer that is not here has
    /// nothing to keep it in.
    pub fn keep_packed(&self, diff_id: Digest, packed: &Packed) -> Result<(), Error> {
        let file = self.packed_file(diff_id);
        if !file.parent().is_some_and(std::path::Path::is_dir) {
            return Ok(());
        }
        let mut all = self.packed(diff_id);
        if all.contains(packed) {
            return Ok(());
        }
        let mut new = packed.clone();
        let is_other =
            |known: &Packed| (known.compression, known.level) != (packed.compression, packed.level);
        for known in all.iter().filter(|known| !is_other(known) && known.digest == packed.digest) {
            let room = MAX_PLACES.saturating_sub(new.places.len());
            new.places.extend(known.places.iter().take(room).cloned());
        }
        all.retain(is_other);
        all.push(new);
        Ok(write_json(&file, &all, Durability::Process)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Ownership, decompress};
    use crate::state::Paths;

    #[test]
    fn what_is_compressed_comes_back_and_is_always_the_same() {
        let bytes: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let pack = |level| {
                let mut out = Vec::new();
                compression.compress(&bytes[..], level).unwrap().read_to_end(&mut out).unwrap();
                out
            };
            let packed = pack(compression.default_level());
            assert_eq!(packed, pack(compression.default_level()));
            assert!(pack(compression.max_level()) != pack(1), "the level counts");
            let mut back = Vec::new();
            decompress(&packed[..]).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == bytes);
        }
    }

    #[test]
    fn a_compressed_form_is_kept_with_the_layer_and_replaced_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let store = LayerStore::open(&paths, Ownership::SingleId);
        let layer = Digest::of(b"layer");
        let packed = |blob: &str, level: u32, place: &str| Packed {
            compression: Compression::Gzip,
            level,
            digest: Digest::of(blob.as_bytes()),
            size: 1,
            places: BTreeSet::from([place.to_owned()]),
        };
        store.keep_packed(layer, &packed("a", 6, "r/a")).unwrap();
        assert_eq!(store.packed(layer), [], "there is no layer");
        std::fs::create_dir_all(paths.layers().join(layer.hex())).unwrap();
        for (blob, level, place) in [("a", 6, "r/a"), ("b", 9, "r/a"), ("a", 6, "r/b")] {
            store.keep_packed(layer, &packed(blob, level, place)).unwrap();
        }
        let known = store.packed(layer);
        assert_eq!(known.len(), 2);
        assert_eq!(known[1].places.len(), 2, "both places of the same blob: {known:?}");
        store.keep_packed(layer, &packed("other", 6, "r/c")).unwrap();
        assert_eq!(store.packed(layer)[1], packed("other", 6, "r/c"));
    }
}
