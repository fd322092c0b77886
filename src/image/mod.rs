//! Images: their names, manifests and configs, the local store of them, and how they get here.
//!
//! * A [`Reference`] is a full name, parsed once at the edge in docker's grammar; a [`Platform`] chooses among the
//!   images that a name stands for.
//! * The [`ImageStore`] knows names and configs; the layers are in [`crate::layers`], by diff id. An image *is* its
//!   config: the config's digest is the image's id, and it lists the layers. On disk:
//!
//! ```text
//! blobs/sha256/<hex>        configs, manifests, indexes: the exact bytes
//! images/ids/<hex>          an image, by id: which manifest it came with
//! images/names/<hash>       a name, by the hash of it: {name, id, manifest, index, pulled}
//! ```
//!
//!   Each file is replaced whole and written after what it points to, so there is no intermediate state and no
//!   lock on reading: resolving a name is two small reads. A record that cannot be read shows as broken in a listing
//!   and disturbs nothing else.
//! * [`pull`] fetches from a registry, [`load`] reads what `docker save`, `podman save` and `skopeo` write. Both
//!   stream each layer through its two digests into the layer store; the name is written last. [`Save`] is the
//!   way back: layers go out as the archives that they came as.
//! * [`ImageStore::remove`] and [`ImageStore::collect_garbage`] drop layers only under an exclusive lock that
//!   everybody who is about to rely on a layer holds shared ([`ImageStore::pin`]); they never wait for it.
//!
//! * [`verify`] compares everything with its digest; [`repair`] fetches again or drops what differs.
//!
//! What must never happen: a name that points to something incomplete or unverified, an archive or a manifest that
//! decides about a path, a layer removed that a container or another image has.

mod change;
mod config;
pub mod embedded;
mod error;
mod import;
mod load;
mod manifest;
mod plain;
mod platform;
mod progress;
mod pull;
mod reference;
mod remove;
mod save;
mod search;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod usage;
mod verify;

pub use change::{Change, ParseChangeError};
pub use config::{Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use error::Error;
pub use import::Import;
pub use load::{Input, Loaded, load};
pub use platform::Platform;
pub use progress::{Event, Progress, Silent};
pub use pull::{PullRequest, pull};
pub use reference::{ParseReferenceError, Reference};
pub use remove::{Collected, InUse, Pruned, Removed};
pub use save::{SAVE_FORMATS, Save, SaveFormat};
pub use search::{SearchHit, SearchResult, search, tags};
pub use store::{Image, ImageEntry, ImageStore, Listed, Name, NewImage, Pin};
pub use usage::{ImageUsage, Usage};
pub use verify::{Fault, Repaired, repair, verify};
