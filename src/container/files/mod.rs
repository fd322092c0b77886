//! A container's files, seen from outside: `cp`, `export`, `diff`, `commit`.
//!
//! * [`View`] is a container's root, whether it runs or not. Of one that runs it is what its first process has for a
//!   root, found through its /proc folder while a pidfd shows that it still is that process. Of one that does not,
//!   the union is mounted anew, in a mount namespace of our own that ends with us: read-only, with the writable layer
//!   as one more layer, to look at; with the writable layer as such, under the container's lock, to write. A
//!   [`Changes`] needs neither: it walks the writable layer alone.
//! * [`walk::Walk`] reads a tree of files, [`tree::Tree`] makes one, [`archive`] does both with a tar stream. Between
//!   them goes one [`Entry`](crate::layers::Entry) after the other, so that whatever can be read can be put wherever
//!   something can be made.
//! * [`copy`] decides as docker does what a copy is called and where it goes; [`Ids`] whose it is.
//!
//! Everything runs as root in the user's namespace, which this process stays in.
//!
//! What must never happen (SECURITY row 1): a path of the container that leaves its root, whatever links there are
//! and whoever moves them meanwhile. A path that the user named is resolved in the root ([`crate::rooted_fs`]); below
//! it every step is by one name in a held directory, and no link is followed, on either side.

mod archive;
mod changes;
mod commit;
mod copy;
mod ids;
mod tree;
mod view;
mod walk;

pub use archive::{copy_root, export, read_archive, write_root};
pub use changes::{Change, Changes, changes};
pub use commit::{Frozen, commit, commit_step, freeze, run_config};
pub use copy::{Copied, CopyOptions, Location, copy};
pub use ids::Ids;
pub use tree::{Owner, Tree, TreeOptions};
pub use view::{Access, View, separate};
pub use walk::{Attributes, Sink, Walk};

use crate::diagnose::Diagnose;
use crate::layers;
use std::io;
use std::path::{Path, PathBuf};

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing of that name.
    #[error("could not find the file {} {}", path.display(), place(container.as_deref()))]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// In which container; none is the host.
        container: Option<String>,
    },
    /// What is there, or is asked for, does not fit.
    #[error("{}: {why}", path.display())]
    Refused {
        /// About what.
        path: PathBuf,
        /// Why not.
        why: &'static str,
        /// What to do.
        fix: Option<&'static str>,
    },
    /// A file cannot be read or made.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file, below what is copied.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The tar stream is none.
    #[error("the input is not a tar archive that can be used: {0}")]
    Archive(String),
    /// The container.
    #[error(transparent)]
    Container(#[from] super::Error),
    /// Its union.
    #[error(transparent)]
    Union(#[from] crate::union::Error),
}

fn place(container: Option<&str>) -> String {
    container.map_or_else(|| "on the host".to_owned(), |name| format!("in container {name}"))
}

impl Error {
    fn io<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Error {
        move |source| Error::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    fn refused(path: impl AsRef<Path>, why: &'static str) -> Error {
        Error::Refused { path: path.as_ref().to_owned(), why, fix: None }
    }

    fn archive(error: &layers::Error) -> Error {
        let text = match error {
            layers::Error::Malformed { what, path: Some(path) } => format!("{what} (at {})", path.display()),
            layers::Error::Malformed { what, path: None } => (*what).to_owned(),
            layers::Error::Read { source } => source.to_string(),
            layers::Error::Refused { path, why } => format!("{}: {why}", path.display()),
            other => other.to_string(),
        };
        Error::Archive(text)
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Refused { fix, .. } => fix.map(str::to_owned),
            Error::Io { source, .. } => match source.raw_os_error() {
                Some(nix::libc::EROFS) => {
                    Some("it is mounted read-only in the container: copy to elsewhere".into())
                }
                Some(nix::libc::ENOSPC) => Some("free some space there".into()),
                _ => None,
            },
            Error::Archive(_) => {
                Some("give it a tar archive, plain or compressed by gzip, bzip2, xz or zstd".into())
            }
            Error::Container(error) => error.fix(),
            Error::Union(error) => error.fix(),
            Error::Missing { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        // docker's.
        match self {
            Error::Container(error) => error.exit_code(),
            Error::Union(error) => error.exit_code(),
            _ => 1,
        }
    }
}
