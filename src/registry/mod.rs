//! The OCI distribution API: how manifests and blobs get here and from here elsewhere (distribution-spec; docker's
//! token specification for authentication).
//!
//! * [`Registries`] is what `registries.conf` says: which registries a short name may mean, and from which
//!   [`Endpoint`]s (mirrors first) a full name is fetched.
//! * [`Client`] holds what all requests of one command share: connections, resolved names, certificates,
//!   credentials. [`Client::repository`] opens one repository at one endpoint; a [`Repository`] fetches
//!   manifests and blobs and keeps its own authorization.
//! * [`BlobReader`] is a blob as a stream that survives broken connections: it asks for the rest by one Range
//!   request and goes on. Whoever reads it verifies the digest of all that passed.
//! * [`Client::repository_to_push`] opens one to push to: never a mirror, and with a token for that. What the registry
//!   has is asked for first ([`Repository::has_blob`], [`Repository::mount_blob`]); a blob is a stream of unknown length
//!   ([`Repository::push_blob`]), begun anew when it breaks. The registry may send an upload anywhere, which gets
//!   no credentials there.
//! * [`Account`] is a login: verified, stored, found and erased, in the same files or by the same helpers.
//! * [`Client::search`] and [`Repository::tags`] list what there is; [`Client::download`] gets a plain file.
//! * Credentials come from podman's and docker's files and helpers (`credentials`), certificates from the
//!   system and from `certs.d` (`tls`), names from `/etc/hosts` and DNS (`dns`: the binary is static,
//!   and glibc's resolver needs shared libraries).
//!
//! Blocking and without a global: nothing here runs before a command needs a registry.
//!
//! What must never happen: a credential sent to another origin than the one it is for (CVE-2020-15157), in clear
//! text over a network unless that registry was declared insecure, or in an argument, a message or a log; an
//! answer read without a bound; a byte trusted before its digest was compared.

mod blob;
mod challenge;
mod client;
mod conf;
mod credentials;
mod dns;
mod download;
mod error;
mod listing;
mod login;
mod pace;
mod proxy;
mod request;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod upload;
mod url;

pub use blob::BlobReader;
pub use client::{Client, Repository};
pub use conf::{Endpoint, Registries};
pub use credentials::Credentials;
#[cfg(feature = "fuzzing")]
pub use credentials::stored_credentials;
pub use download::Download;
pub use error::Error;
pub use listing::Found;
pub use login::Account;
pub use upload::Sent;

use crate::digest::Digest;
use std::path::PathBuf;
use std::time::Duration;

/// How to talk to registries: what flags say.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--creds`: used instead of any stored ones.
    pub credentials: Option<Credentials>,
    /// `--authfile`: the only credentials file that is looked at.
    pub auth_file: Option<PathBuf>,
    /// `--cert-dir`: the only folder with certificates that is looked at.
    pub cert_dir: Option<PathBuf>,
    /// `--tls-verify`: `false` allows unverified certificates and plain http, `true` forbids both, even where
    /// `registries.conf` or a loopback address would allow them.
    pub tls_verify: Option<bool>,
    /// `--retry`: how often a failed request is made again.
    pub retries: u32,
    /// `--retry-delay`: the wait before the first repetition; it doubles with each.
    pub retry_delay: Duration,
    /// A connection over which nothing comes for so long is given up and made anew; so is one over which hardly
    /// anything comes in twice that time.
    pub stall: Duration,
    /// Where files are looked for.
    pub places: Places,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: None,
            auth_file: None,
            cert_dir: None,
            tls_verify: None,
            retries: 3,
            retry_delay: Duration::from_secs(1),
            stall: Duration::from_secs(30),
            places: Places::from_env(),
        }
    }
}

/// The folders in which the configuration shared by docker, podman and us lies.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/etc`.
    pub etc: PathBuf,
    /// `$XDG_CONFIG_HOME` or `~/.config`.
    pub config: Option<PathBuf>,
    /// `$XDG_CACHE_HOME` or `~/.cache`.
    pub cache: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// `$DOCKER_CONFIG` or `~/.docker`.
    pub docker: Option<PathBuf>,
    /// Whether it is `$DOCKER_CONFIG`: then it goes before podman's.
    pub docker_is_chosen: bool,
    /// `$REGISTRY_AUTH_FILE`.
    pub auth_file: Option<PathBuf>,
    /// `$CONTAINERS_REGISTRIES_CONF`.
    pub registries_conf: Option<PathBuf>,
}

impl Places {
    /// The places of this user.
    pub fn from_env() -> Self {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dirs = directories::BaseDirs::new();
        let home = dirs.as_ref().map(|d| d.home_dir().to_owned());
        Self {
            etc: "/etc".into(),
            config: dirs.as_ref().map(|d| d.config_dir().to_owned()),
            cache: dirs.as_ref().map(|d| d.cache_dir().to_owned()),
            runtime: var("XDG_RUNTIME_DIR"),
            docker_is_chosen: var("DOCKER_CONFIG").is_some(),
            docker: var("DOCKER_CONFIG").or(home.map(|h| h.join(".docker"))),
            auth_file: var("REGISTRY_AUTH_FILE"),
            registries_conf: var("CONTAINERS_REGISTRIES_CONF"),
        }
    }
}

/// A manifest as it came: the exact bytes, which are what its digest is of.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest: the one asked for, or computed.
    pub digest: Digest,
    /// The `Content-Type` of the answer, without parameters; empty if there was none.
    pub media_type: String,
}

#[cfg(test)]
mod tests;
