//! images: references, manifests, the local store, pull and load.

pub mod embedded;
pub mod progress;
