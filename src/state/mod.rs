//! State on disk: what every room writes its files with.
//!
//! Two trees belong to a user (DESIGN §4): the *data root*, which lasts, and the *run root*, a tmpfs that is gone
//! at reboot. [`Paths`] names both. There is no database, no global lock and no resident process, so every fact is
//! a file, and three rules keep the files true under kill -9, power cut and full disk:
//!
//! * **A file is replaced, never edited**: [`write_atomic`] writes a temporary file beside it and renames. Whether
//!   the change is also made durable (fdatasync, fsync of the folder) is the caller's [`Durability`], because a
//!   `--rm` container must cost no fsync at all.
//! * **A lock is an open file description lock** ([`Lock`]): it ends with its holder, however that ends, it can be
//!   queried without being taken, and it survives `fork` for as long as one copy of the descriptor is open.
//! * **A delete is a rename first** ([`trash`]): what is being removed disappears from its room in one step
//!   and is emptied afterwards, from the trash folder, by whoever comes by ([`empty_trash`]).
//!
//! On a full disk that is all still possible: removing is unlinks and renames, and for what needs a block nevertheless a
//! little room is kept ([`with_ballast`]).
//!
//! What must never happen: a listing that fails because of one bad record, a delete that follows a symbolic link,
//! or a delete below a folder that does not carry our marker file.

mod atomic;
mod ballast;
mod lock;
mod naming;
mod new_file;
mod paths;
mod reset;
mod trash;

pub use atomic::{
    Durability, create_dir_private, read_json, remove_file_if_there, sweep_temporary, write_atomic,
    write_json,
};
pub use ballast::{FREE_SPACE, is_full, is_out_of_space, keep_ballast, with_ballast};
pub use lock::Lock;
pub use naming::{is_name, random_id};
pub use new_file::NewFile;
pub use paths::Paths;
pub use reset::reset;
pub use trash::{empty_trash, remove_tree, trash, tree_size};

use crate::diagnose::Diagnose;
use std::path::{Path, PathBuf};

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `lock`…
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A record is torn, foreign or of a newer version.
    #[error("{} is not a record that this version understands", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The data or run root cannot be used.
    #[error("{} cannot be used as coracle's {what} directory: {why}", path.display())]
    Root {
        /// `data` or `runtime`.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No place for state can be found.
    #[error("no home directory: neither HOME nor XDG_DATA_HOME is set")]
    NoHome,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// The kernel's error number, where there is one.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        match self {
            Error::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some(FREE_SPACE.into())
            }
            Error::Io { source, path, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some(format!("check who owns {}, or choose another place with --root", path.display()))
            }
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                Some("choose a place that can be written with --root".into())
            }
            Error::Record { path, .. } => {
                Some(format!("look at {0}; if it is of no use, remove it", path.display()))
            }
            Error::Root { .. } => Some("choose other places with --root and --runroot".into()),
            Error::NoHome => Some("set HOME, or name the places with --root and --runroot".into()),
            Error::Io { .. } => None,
        }
    }
}

/// Whether there is a process of this number that can still do something: one that is dead and that its parent has not
/// collected yet cannot.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc_pid_stat(5): the state follows the name, which may have anything in it.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// This boot's id (proc_sys_kernel(5), `random/boot_id`): a pid or a lock file of another boot means nothing.
pub fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim_end().to_owned())
}
