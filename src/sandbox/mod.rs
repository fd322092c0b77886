//! The OCI runtime: from a [`Spec`] to a running process, and a second process into a running container.
//!
//! ```text
//!   monitor (root in U) ── clone3(new user, mount, pid, ipc, uts, net, cgroup) ── init
//!      writes init's id maps ───────────────────────────────────────────────────▶ becomes root of C
//!                                                                                 mounts, step by step
//!      ◀────────────────────────────────────────────────── terminal, or an error
//!                                                                                 credentials, seccomp
//!      ◀────────────────────────────────── end of the channel = the command runs  exec
//! ```
//!
//! *Shared namespaces.* `--pid`, `--ipc` and `--uts` can leave a namespace the host's, or take it from another container X.
//! Such a namespace belongs to X's user namespace, and only root of that may show its processes or queues. So who joins
//! X joins its user namespace too, with X's ids, and has a mount namespace, a cgroup namespace, and all that was not
//! asked for, of its own. The two are one security domain from then on: each can reach the other with the
//! capabilities that it has. X is entered by a descriptor of its first process that was verified to be that
//! ([`spawn`]); no path of X is looked up but /dev/shm, below its root ([`outside`]). In a namespace of the host a container
//! has no power, since it still has a user namespace of its own; but with `--pid host` it sees the command lines of all
//! processes, and its root, who has the user's id, may signal the user's and have them killed first for memory.
//!
//! What is to be done is decided by pure functions ([`plan`]) and is a list of [`Step`]s that prints well; the
//! executor ([`mounts`]) only carries it out. The container's user namespace C is nested in the user's own, U: root in
//! the container has power over its own namespaces only.
//!
//! What must never happen (SECURITY):
//! * a path inside the container's root that is looked up by name: every target is resolved below a descriptor
//!   of the root and mounted on by descriptor;
//! * our own binary reachable from inside: the process is not dumpable from the clone to the exec, and the exec goes
//!   through a sealed stub ([`crate::kernel::stub`]), so that `/proc/self/exe` never means the binary;
//! * a descriptor that leaks: all but the standard three are close-on-exec, checked last.

pub mod capabilities;
pub mod cgroup;
mod channel;
mod devices;
mod error;
mod init;
mod interface;
mod join;
mod launch;
pub mod masks;
mod mounts;
pub mod outside;
mod plan;
pub mod seccomp;
mod signals;
mod spec;
pub mod users;

pub use channel::{Channel, FromInit};
pub use error::Error;
pub use init::{CopyTree, Hooks, Stdio, spawn};
pub use interface::set_up_interfaces;
pub use join::{JoinRequest, join};
pub use launch::{INIT_NAME, init_main};
pub use mounts::assemble;
pub use plan::{Step, plan};
pub use signals::{signal_name, signal_number};
pub use spec::{
    AddressOf, Device, Ids, Interface, Mount, MountAttributes, Network, Owner, Process, ProcessAttributes,
    Propagation, Rlimit, SeccompProfile, Sharing, Source, Spec,
};
