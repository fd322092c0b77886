//! Named volumes: folders that outlive containers.
//!
//! ```text
//! volumes/<name>/volume.json   what it is: immutable
//!                _data/        what containers see
//!                filling       while it is being filled from an image
//!                used          it has been given to a container, and is never filled again
//! locks/volume-<name>          whether the name is taken or given up right now
//! locks/fill-<name>            who fills it
//! ```
//!
//! There is no database. A volume is made under a name that no volume can have and gets its own by rename(2), which
//! refuses a folder that is not empty: so a name belongs to one maker, and a volume is never seen half made. Its
//! lock is held shared by whoever is about to use the volume, from [`Volumes::ensure`] until the use is on record,
//! and exclusively by who removes it, so that "nobody uses it" stays true while it goes. Removal is a rename
//! to the trash ([`crate::state::trash`]); the caller empties that.
//!
//! **Filling** ([`Volumes::fill`]) copies the image's folder of that path into a volume that is empty and was never used,
//! podman's rule. The `filling` mark is set first; who finds it without a live filler empties the volume and starts
//! over. The image may be hostile, so its folder is opened through [`crate::rooted_fs::Root`] and everything from there on is done
//! on descriptors, one name at a time, never through a link. So is [`chown_recursive`], for the option `U`: a
//! container that has the same folder mounted may swap things under us, and must not get files of the host that way.
//!
//! The caller is root in the user's namespace: owners are what the container sees, shifted as that namespace says.

mod copy;
mod record;
mod store;
mod tree;

pub use copy::copy_contents;
pub use record::{NewVolume, Volume, check_name};
pub use store::{Fill, Listed, Pruned, Volumes};
pub use tree::{chown_recursive, disk_usage};

use crate::diagnose::Diagnose;
use crate::state;
use std::io;
use std::path::{Path, PathBuf};

/// Why a volume could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name of a volume.
    #[error(
        "'{0}' includes invalid characters for a volume name: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed, at most 200 characters"
    )]
    Name(String),
    /// The name is taken.
    #[error("volume with name {0} already exists: volume already exists")]
    Exists(String),
    /// There is no such volume.
    #[error("no such volume {0}")]
    Missing(String),
    /// Containers use it.
    #[error("volume {name} is being used by the following container(s): {}: volume is being used", users.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Ids of the containers.
        users: Vec<String>,
    },
    /// A file of the volume cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `copy`, `chown`…
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The record or a lock.
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Self::Name(name) if name.contains('/') => Some(
                "to mount a folder of the host, give its absolute path, or one that starts with ./".into(),
            ),
            Self::InUse { .. } => Some("remove the containers first, or 'coracle volume rm -f'".into()),
            Self::Missing(_) => Some("'coracle volume ls' lists those that there are".into()),
            Self::State(error) => error.fix(),
            Self::Name(_) | Self::Exists(_) | Self::Io { .. } => None,
        }
    }
}
