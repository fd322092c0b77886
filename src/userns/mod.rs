//! The user's own namespace: where coracle is root over the user's subordinate ids.
//!
//! An ordinary user may own files of one id only. Everything that touches image contents (unpack, overlay, delete)
//! therefore runs as root of a user namespace *U* in which id 0 is the user and ids 1… are the user's subordinate
//! ids (subuid(5)). Each container then lives in a namespace of its own nested in U, whose map is written directly.
//!
//! Three ways into U, fastest first ([`enter`]):
//!
//! 1. this process is root in such a namespace already (`coracle unshare`, or a monitor);
//! 2. a live process of this user is in one: the monitor that made it leaves a note in the run root, and is joined by pidfd;
//!    when it is gone, whoever else lasts in it is (any container's monitor, any network's process, a build's keeper), so that
//!    there never is a second one beside it;
//! 3. make one. Its map can only be written by the set-uid helpers `newuidmap` and `newgidmap`, which are started
//!    both at once, from outside the new namespace.
//!
//! Without subordinate ids or without the helpers there is *single-id mode*: one id, mapped to root. What is then
//! different is up to the rooms above ([`Mode`] tells them).
//!
//! A process that enters a user namespace is no longer dumpable, so its /proc files belong to root and neither the
//! helpers nor a later joiner may look at it; [`enter`] makes it dumpable again. That opens nothing to containers:
//! they run in a nested namespace and lack the capabilities that ptrace access to a process in U takes.

mod enter;
mod ids;

pub use enter::{Mapper, Namespace, enter, enter_to_keep, enter_to_stay, is_inside, join, start_time};
pub(crate) use ids::find_helper;
pub use ids::{IdMap, IdRange, Identity, Mode, container_map, split};

use crate::diagnose::Diagnose;
use std::io;

/// Why the user's namespace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// unshare(CLONE_NEWUSER) was refused.
    #[error("cannot create a user namespace")]
    Refused(#[source] io::Error),
    /// newuidmap or newgidmap failed.
    #[error("{helper} failed: {message}")]
    Helper {
        /// Which of the two.
        helper: &'static str,
        /// What it said.
        message: String,
    },
    /// A step of getting there failed.
    #[error("cannot {action}")]
    Step {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// From the text of an [`Error::Helper`] that came from another process.
    pub fn of_helper(text: &str) -> Self {
        let helper = if text.starts_with("newgidmap") { "newgidmap" } else { "newuidmap" };
        let message = text.strip_prefix(helper).and_then(|t| t.strip_prefix(" failed: ")).unwrap_or(text);
        Error::Helper { helper, message: message.to_owned() }
    }

    pub(crate) fn step<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Step { action, source: source.into() }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Refused(_) => Some(
                "the administrator can allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone \
                 or, on Ubuntu, an AppArmor profile); 'coracle doctor' tells which"
                    .into(),
            ),
            Error::Helper { .. } => Some(
                "check the user's lines in /etc/subuid and /etc/subgid and that newuidmap is set-uid root; 'coracle doctor' explains"
                    .into(),
            ),
            Error::Step { .. } => None,
        }
    }
}
