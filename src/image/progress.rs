//! What a transfer tells whoever shows it.

use crate::digest::Digest;

/// Is told what happens, from several threads.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn on(&self, event: Event<'_>);
}

/// One thing that happened. Layers go by the digest of their blob, as a registry
/// lists them; in a push, where that is not known yet, by their diff id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A name was found to mean this manifest (or index).
    Resolved {
        /// The full name.
        reference: &'a str,
        /// What it means.
        digest: Digest,
    },
    /// A layer is in the store already.
    LayerPresent {
        /// Which.
        digest: Digest,
    },
    /// A layer's turn has not come yet, or another process is fetching it.
    LayerWaiting {
        /// Which.
        digest: Digest,
    },
    /// A layer is being fetched.
    LayerStart {
        /// Which.
        digest: Digest,
        /// Its compressed size.
        size: u64,
    },
    /// More of a layer is here.
    LayerBytes {
        /// Which.
        digest: Digest,
        /// How many more compressed bytes.
        bytes: u64,
    },
    /// A layer is in the store now.
    LayerDone {
        /// Which.
        digest: Digest,
    },
    /// The connection broke, and the rest of a layer is asked for anew.
    LayerRetry {
        /// Which.
        digest: Digest,
        /// Why.
        why: &'a str,
    },
    /// The registry that is pushed to has a layer already, or takes it from another of its repositories.
    LayerThere {
        /// Which, by its diff id.
        digest: Digest,
        /// That repository.
        from: Option<&'a str>,
    },
    /// The image's config is here; its digest is the image's id.
    Config {
        /// Which.
        digest: Digest,
    },
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn on(&self, _: Event<'_>) {}
}
