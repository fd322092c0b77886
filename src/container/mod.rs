//! Containers: records, lifecycle, the monitor, sessions, exec.
//!
//! A container on disk is two folders of its id. In the data root: an immutable `spec.json`, `state.json` (that it
//! has been started), `exit.json`, the log and the writable layer. In the run root, only while it runs: the lock, the
//! monitor's socket and `live.json`. What it is doing is derived from these: *it runs if and only if its monitor holds
//! the lock*. A `--rm` container has its record in the run root and costs no fsync.
//!
//! A running container has one process of ours, the monitor ([`monitor`]): a fork of the CLI, no exec. Init dies with it
//! (PDEATHSIG). `attach` talks to its socket; `exec`, `stop` and `kill` need nobody: a pidfd, checked against the start
//! time in `live.json`.
//!
//! Whoever finds a folder whose lock is free and whose work is not finished finishes it ([`recover`]).

pub mod create;
mod environment;
pub mod etc_files;
pub mod exec;
pub mod files;
pub mod id;
pub mod ids;
pub mod joins;
mod known_user;
mod leftovers;
pub mod lifecycle;
pub mod logs;
pub mod monitor;
mod mount_plan;
mod mounting;
mod names;
pub mod networks;
pub mod processes;
pub mod record;
pub mod recover;
pub mod rename;
pub mod request;
pub mod resources;
pub mod session;
pub mod settings;
pub mod store;

pub use mounting::in_one_line;

use crate::diagnose::{Diagnose, EXIT_OURS, TakenPort};
use id::ContainerId;

/// Why something cannot be done with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("no such container: {0}")]
    NotFound(String),
    /// The start of an id that several have.
    #[error("{0} is the start of more than one container's id")]
    Ambiguous(String),
    /// The name is another's.
    #[error("the container name \"{name}\" is already in use by container {}", by.short())]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        by: ContainerId,
    },
    /// It is not in the state that this takes.
    #[error("container {name} is {state}")]
    State {
        /// Its name.
        name: String,
        /// `running`, `not running`…
        state: &'static str,
        /// What to do about it.
        fix: &'static str,
    },
    /// A record of another version.
    #[error("container {} has a record of format {format}", id.short())]
    Format {
        /// Which.
        id: ContainerId,
        /// Its format.
        format: u32,
    },
    /// What was asked for does not fit the image or this machine.
    #[error("{what}")]
    Request {
        /// What is wrong.
        what: String,
        /// What to do about it.
        fix: Option<String>,
    },
    /// State on disk.
    #[error(transparent)]
    Disk(#[from] crate::state::Error),
    /// The user's namespace.
    #[error(transparent)]
    Userns(#[from] crate::userns::Error),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// Its cgroup, or a limit.
    #[error(transparent)]
    Cgroup(#[from] crate::sandbox::cgroup::Error),
    /// Its network.
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    /// Volumes.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// The image's layers.
    #[error(transparent)]
    Layers(#[from] crate::layers::Error),
    /// The files that a container gets from us.
    #[error(transparent)]
    Files(#[from] etc_files::Error),
    /// What the monitor reported.
    #[error(transparent)]
    Failure(#[from] session::Failure),
    /// A system call failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> Error {
        move |e| Error::Io { action, source: e.into() }
    }
}

impl Error {
    /// Whether it is a container's record that cannot be used: what is left can still be removed.
    pub fn is_broken_record(&self) -> bool {
        matches!(self, Error::Format { .. } | Error::Disk(crate::state::Error::Record { .. }))
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::NotFound(_) => Some("'coracle ps -a' lists the containers".into()),
            Error::Ambiguous(_) => Some("give more digits".into()),
            Error::NameTaken { name, .. } => {
                Some(format!("remove it ('coracle rm -f {name}') or choose another name"))
            }
            Error::State { fix, .. } => (!fix.is_empty()).then(|| (*fix).to_owned()),
            Error::Format { .. } => {
                Some("use the version of coracle that made it, or remove it with 'coracle rm'".into())
            }
            Error::Request { fix, .. } => fix.clone(),
            Error::Disk(e) => e.fix(),
            Error::Userns(e) => e.fix(),
            Error::Sandbox(e) => e.fix(),
            Error::Cgroup(e) => e.fix(),
            Error::Network(e) => e.fix(),
            Error::Volume(e) => e.fix(),
            Error::Layers(e) => e.fix(),
            Error::Files(e) => e.fix(),
            Error::Failure(e) => e.fix(),
            Error::Io { .. } => None,
        }
    }

    fn taken_port(&self) -> Option<TakenPort> {
        match self {
            Error::Network(e) => e.taken_port(),
            Error::Failure(e) => e.taken_port(),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::Sandbox(e) => e.exit_code(),
            Error::Failure(e) => e.exit_code(),
            _ => EXIT_OURS,
        }
    }
}
