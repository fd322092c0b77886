//! A container's cgroup (cgroups(7), version 2): limits, pausing, counting, killing as one.
//!
//! ```text
//!   delegated tree                        elsewhere: a scope of the user's systemd
//!   <place>/coracle-<id>   container      <slice>/coracle-<id>.scope/container   container
//!   <place>/init           who was in     <slice>/coracle-<id>.scope/monitor     its monitor, and exec sessions
//!                          <place> before
//! ```
//!
//! A cgroup may be made only where the tree has been handed to us. [`around`] looks: our own cgroup and those above it are
//! candidates for as long as they are writable and, where systemd manages the tree, in a unit with `Delegate=` (everything
//! else below `user@UID.service` is writable too, and systemd's alone).
//! Failing that, the user's systemd is asked for a transient scope ([`systemd`]), which is such a unit. [`place`] decides, purely.
//! The container's first process is cloned into its cgroup (`CLONE_INTO_CGROUP`), so that nothing of it is ever outside.
//!
//! Two rules of the kernel shape this. *No internal processes*: a cgroup whose children have controllers may hold no
//! process itself; who is in the way moves to a leaf, `init` or `monitor`. *Common ancestor*: a process may be moved only by who
//! may write to `cgroup.procs` of the first cgroup above both ends, which no login session's user can; systemd's
//! `AttachProcessesToUnit` can, and an `exec` from another session takes that way.
//!
//! [`limits`] turns what was asked for into files and values, purely. What was asked for and cannot be set is an error.
//! Hosts without a unified tree (cgroup v1, hybrid) have no limits here: containers run without a cgroup of their own.
//!
//! What must never happen: a limit dropped in silence; a process of the user's moved that is not in a delegated unit;
//! a path with `..` (CVE-2023-25809); a cgroup that stays behind: its name is written down before it is made.

mod dbus;
mod group;
mod host;
pub mod limits;
pub mod place;
pub mod stats;
pub mod systemd;

pub use group::{Group, is_frozen};
pub use host::{Around, Candidate, Kind, Look, around, exists, kind, of_process, own};
pub use limits::{Limit, Limits};

use crate::diagnose::Diagnose;

/// Where the unified tree is mounted.
pub const TOP: &str = "/sys/fs/cgroup";

/// Why a container cannot have its cgroup, or its limits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// cgroup v1 or nothing at all.
    #[error("{what} needs cgroup v2, which this machine does not have at {TOP}{}", match kind {
        Kind::Hybrid => " (it is in hybrid mode)",
        Kind::Legacy => " (it has version 1)",
        _ => "",
    })]
    NoVersion2 {
        /// What was asked for.
        what: String,
        /// What there is.
        kind: Kind,
    },
    /// Nothing is delegated, and nobody can be asked.
    #[error("{what} needs a cgroup, and none is delegated to this user{}", if why.is_empty() { String::new() } else { format!(": {why}") })]
    NoPlace {
        /// What was asked for.
        what: String,
        /// What was tried.
        why: String,
    },
    /// The controllers are not handed down to here.
    #[error("{what} needs the cgroup controller {}, which is not delegated to {place}", missing.join(" and "))]
    NotDelegated {
        /// What was asked for.
        what: String,
        /// Which are missing.
        missing: Vec<String>,
        /// Where.
        place: String,
    },
    /// systemd refused.
    #[error("systemd cannot {action}: {why}")]
    Systemd {
        /// What it was asked.
        action: &'static str,
        /// What it said.
        why: String,
    },
    /// The kernel refused a value.
    #[error("cannot set {what}: {file}={value}: {why}")]
    Refused {
        /// The flag.
        what: String,
        /// The file of the cgroup.
        file: String,
        /// What was written.
        value: String,
        /// What the kernel said.
        why: String,
    },
    /// A limit that makes no sense, or names something that is not there.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// What to do about it.
        fix: &'static str,
    },
    /// A cgroup could not be used.
    #[error("cannot {action} cgroup {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which, below the top.
        path: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    fn io<E: Into<std::io::Error>>(action: &'static str, path: &str) -> impl FnOnce(E) -> Error {
        let path = path.to_owned();
        move |e| Error::Io { action, path, source: e.into() }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::NoVersion2 { .. } => Some(
                "leave it out, or boot with systemd.unified_cgroup_hierarchy=1; 'coracle doctor' explains".into(),
            ),
            Error::NoPlace { .. } => Some(
                "start it from a login session with a user manager ('loginctl enable-linger'), or in a delegated unit \
                 ('systemd-run --user --scope -p Delegate=yes'); 'coracle doctor' explains"
                    .into(),
            ),
            Error::NotDelegated { .. } => Some(
                "an administrator can delegate it to user@.service (Delegate=cpu cpuset io memory pids); 'coracle doctor' has \
                 the commands"
                    .into(),
            ),
            Error::Systemd { .. } => Some("'systemctl --user status' tells how the user's systemd is".into()),
            Error::Refused { .. } => Some("choose a value that this machine has".into()),
            Error::Invalid { fix, .. } => (!fix.is_empty()).then(|| (*fix).to_owned()),
            Error::Io { .. } => None,
        }
    }
}
