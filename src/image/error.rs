//! What can go wrong with images.

use super::{ParseReferenceError, Platform};
use crate::diagnose::Diagnose;
use crate::{layers, registry, state};
use std::io;

/// Why an image could not be found, fetched, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The layer store.
    #[error(transparent)]
    Layers(#[from] layers::Error),
    /// Our own files.
    #[error(transparent)]
    State(#[from] state::Error),
    /// No image name.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// No platform.
    #[error("'{0}' is not a platform")]
    BadPlatform(String),
    /// Not here.
    #[error("no such image: {0}")]
    NotFound(String),
    /// Could be several.
    #[error("image name {what} is ambiguous: it could be {}", candidates.join(", "))]
    Ambiguous {
        /// As typed.
        what: String,
        /// The names or ids that fit.
        candidates: Vec<String>,
    },
    /// Still needed.
    #[error("unable to {action} {what}: {why}")]
    Conflict {
        /// What was to be done.
        action: &'static str,
        /// As typed.
        what: String,
        /// Who needs it.
        why: String,
        /// What helps.
        fix: String,
    },
    /// There is none for this platform.
    #[error("{name} has no image for {wanted}, only for {}", available.join(", "))]
    Platform {
        /// Of what.
        name: String,
        /// What was asked for, or this machine's.
        wanted: Platform,
        /// What there is.
        available: Vec<String>,
    },
    /// Nothing that we can use.
    #[error("{name} cannot be used: {why}")]
    Unsupported {
        /// Which image.
        name: String,
        /// What it is instead.
        why: String,
    },
    /// An archive or a folder of images cannot be read.
    #[error("cannot read images from {input}")]
    Archive {
        /// The file, the folder or `standard input`.
        input: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// An image of an OCI layout cannot be found.
    #[error("cannot use {layout}: {why}")]
    Layout {
        /// As typed.
        layout: String,
        /// What is not there.
        why: String,
        /// What helps.
        fix: String,
    },
    /// An archive or a folder of images cannot be written.
    #[error("cannot save images to {output}")]
    Write {
        /// The file, the folder or `standard output`.
        output: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing says under which name an image should be pushed.
    #[error("{0} is no name to push to")]
    NoDestination(String),
    /// A short name was tried in several registries.
    #[error("cannot pull {name} from any of {} registries: {}", failures.len(), list(failures))]
    Everywhere {
        /// As typed.
        name: String,
        /// The full names and what went wrong.
        failures: Vec<(String, Error)>,
    },
}

fn list(failures: &[(String, Error)]) -> String {
    failures.iter().map(|(name, error)| format!("{name}: {error}")).collect::<Vec<_>>().join("; ")
}

impl Error {
    pub(super) fn unsupported(name: &str, why: impl Into<String>) -> Self {
        Self::Unsupported { name: name.to_owned(), why: why.into() }
    }

    /// A document of ours that cannot be written as JSON.
    pub(super) fn document(source: serde_json::Error) -> Self {
        Self::unsupported("the new image", source.to_string())
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Registry(error) => error.fix(),
            Error::Layers(error) => error.fix(),
            Error::State(error) => error.fix(),
            Error::BadPlatform(_) => Some("write os/architecture[/variant], as in linux/arm64".into()),
            Error::NotFound(what) => Some(format!("see 'coracle images', or fetch it: coracle pull {what}")),
            Error::Ambiguous { .. } => Some("type more of it".into()),
            Error::Conflict { fix, .. } | Error::Layout { fix, .. } => Some(fix.clone()),
            Error::Platform { available, .. } => available
                .first()
                .map(|p| format!("ask for one of these with --platform, as in --platform {p}")),
            Error::Everywhere { .. } => Some("type the full name, with its registry".into()),
            Error::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("name a folder that is not there yet".into())
            }
            Error::NoDestination(what) => {
                Some(format!("name the destination: coracle push {what} REGISTRY/REPOSITORY:TAG"))
            }
            Error::Write { .. } => None,
            Error::Reference(_) | Error::Unsupported { .. } | Error::Archive { .. } => None,
        }
    }
}
