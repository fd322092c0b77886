//! What the steps of builds made, for builds elsewhere: layers, and a table that says which step made which.
//!
//! It is an OCI artifact in a registry or in a folder: a manifest whose config is the [`Table`] and whose layers are the
//! layers, packed as an image's are, so that a registry that has an image's layers is sent none of them again. The
//! table of an image's own steps may also be an annotation of its manifest (`inline`): then the image is its cache.
//!
//! A step's key is a digest over all that the step does and sees, so it means the same on every machine. Only the table
//! is fetched when a cache is opened; a layer is when a step needs it, and is verified against its digest like any.
//!
//! A table is believed: who can write a cache decides what the builds that use it contain.

mod read;
mod write;

pub use read::StepCache;
pub use write::{write_folder, write_registry};

use super::Error;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The media type of a table.
const TABLE: &str = "application/vnd.coracle.buildcache.v1+json";
/// The annotation of a manifest that holds its image's table.
const ANNOTATION: &str = "io.coracle.buildcache.v1";
/// More than any table that we write.
const MAX_TABLE: u64 = 16 << 20;

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// A folder with an OCI layout.
    Folder(PathBuf),
    /// A name in a registry.
    Registry(String),
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CachePlace::Folder(path) => path.display().fmt(f),
            CachePlace::Registry(name) => name.fmt(f),
        }
    }
}

/// What a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedStep {
    /// Its layer; none if it changed no file.
    pub layer: Option<Digest>,
    /// When (RFC 3339).
    pub created: String,
}

/// Which step made what, by the steps' keys.
pub type Steps = BTreeMap<Digest, CachedStep>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    steps: Steps,
    /// The layers of the manifest, in its order; not said where the image's config does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Digest>,
}

impl Table {
    fn of(steps: &Steps) -> Self {
        let mut layers: Vec<Digest> = steps.values().filter_map(|step| step.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        Self { steps: steps.clone(), layers }
    }
}

/// The annotation that makes an image the cache of these steps: its name and its value.
pub fn inline(steps: &Steps) -> Result<(String, String), Error> {
    let table = Table { steps: steps.clone(), layers: Vec::new() };
    Ok((ANNOTATION.into(), serde_json::to_string(&table).map_err(Error::document)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lists_each_layer_once_and_is_read_as_it_was_written() {
        let step = |layer: Option<&str>| CachedStep {
            layer: layer.map(|text| Digest::of(text.as_bytes())),
            created: "2020-01-01T00:00:00Z".into(),
        };
        let key = |text: &str| Digest::of(text.as_bytes());
        let steps =
            Steps::from([(key("a"), step(Some("1"))), (key("b"), step(None)), (key("c"), step(Some("1")))]);
        let table = Table::of(&steps);
        assert_eq!(table.layers, [Digest::of(b"1")]);
        let read: Table = serde_json::from_slice(&serde_json::to_vec(&table).unwrap()).unwrap();
        assert_eq!((read.steps, read.layers), (steps, table.layers));
    }
}
