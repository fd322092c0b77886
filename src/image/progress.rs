//! What happens during a pull or a load, told to whoever wants to show it.

use crate::digest::Digest;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The name has been resolved to a manifest.
    Resolved {
        /// The full name.
        reference: &'a str,
        /// The manifest's digest.
        digest: Digest,
    },
    /// A layer is here already.
    LayerPresent {
        /// Which.
        digest: Digest,
    },
    /// A layer's turn has not come yet, or another process is pulling it.
    LayerWaiting {
        /// Which.
        digest: Digest,
    },
    /// A layer's transfer begins.
    LayerStart {
        /// Which.
        digest: Digest,
        /// Its compressed size.
        size: u64,
    },
    /// More of a layer has arrived.
    LayerBytes {
        /// Which.
        digest: Digest,
        /// How much more.
        bytes: u64,
    },
    /// A layer is complete and published.
    LayerDone {
        /// Which.
        digest: Digest,
    },
    /// A transfer failed and begins again.
    LayerRetry {
        /// Which.
        digest: Digest,
        /// Why.
        why: &'a str,
    },
    /// The image's configuration is here.
    Config {
        /// Its digest.
        digest: Digest,
    },
}

/// Somebody who wants to know. Called from several threads at once.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn on(&self, event: Event<'_>);
}
