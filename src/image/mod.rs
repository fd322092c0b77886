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
//! images/lists/<hash>       a list of images made here
//! ```
//!
//!   Each file is replaced whole and written after what it points to, so there is no intermediate state and no
//!   lock on reading: resolving a name is two small reads. A record that cannot be read shows as broken in a listing
//!   and disturbs nothing else.
//! * [`pull`] fetches from a registry, [`load`] reads what `docker save`, `podman save` and `skopeo` write. Both
//!   stream each layer through its two digests into the layer store; the name is written last. [`Save`] is the
//!   way back: layers go out as the archives that they came as. [`Import`] and [`Commit`] make images here. A [`Layout`]
//!   is a folder with images that are used from there, without a record in the store.
//! * [`push`] sends to a registry what it does not have, compressed on the way, and the manifest last.
//! * A [`StepCache`] holds layers under the keys of a build's steps, for builds on other machines.
//! * [`ImageStore::remove`] and [`ImageStore::collect_garbage`] drop layers only under an exclusive lock that
//!   everybody who is about to rely on a layer holds shared ([`ImageStore::pin`]); they never wait for it.
//!
//! * [`verify`] compares everything with its digest; [`repair`] fetches again or drops what differs.
//!
//! What must never happen: a name that points to something incomplete or unverified, an archive or a manifest that
//! decides about a path, a layer removed that a container or another image has.

mod change;
mod commit;
mod config;
pub mod embedded;
mod error;
mod import;
mod layout;
mod list;
mod load;
mod manifest;
mod plain;
mod platform;
mod progress;
mod pull;
mod push;
mod reference;
mod remove;
mod save;
mod search;
mod step_cache;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod usage;
mod verify;

pub use change::{Change, ParseChangeError};
pub use commit::{Commit, Documents};
pub use config::{DEFAULT_PATH, Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use error::Error;
pub use import::Import;
pub use layout::{Layout, LayoutImage};
pub use list::{
    Instance, List, ListEntry, ListPlatform, ListPush, NewArtifact, Sources, inspect as inspect_list,
    push_list,
};
pub use load::{Input, Loaded, load};
pub use plain::Style as ManifestStyle;
pub use platform::Platform;
pub use progress::{Event, Progress, Silent};
pub use pull::{PullRequest, pull};
pub use push::{PushFormat, PushRequest, Pushed, local_tags, push};
pub use reference::{ParseReferenceError, Reference};
pub use remove::{Collected, InUse, Pruned, Removed};
pub use save::{SAVE_FORMATS, Save, SaveFormat};
pub use search::{SearchHit, SearchResult, search, tags};
pub use step_cache::{
    CachePlace, CachedStep, StepCache, Steps, inline as inline_cache, write_folder as write_cache_folder,
    write_registry as write_cache_registry,
};
pub use store::{Image, ImageEntry, ImageStore, Listed, Name, NewImage, Pin};
pub use usage::{ImageUsage, Usage};
pub use verify::{Fault, Repaired, repair, verify};
