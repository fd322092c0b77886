//! What a container is, in the terms of the OCI runtime specification, as far as this runtime needs it.

use super::capabilities::CapSet;
use super::seccomp::Choice;
use crate::kernel::process::CloneFlags;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A container. Immutable once made; everything that differs from start to start is passed beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Host name.
    pub hostname: String,
    /// Its first process.
    pub process: Process,
    /// Whether the root is read-only.
    pub read_only_root: bool,
    /// What is mounted besides the standard file systems, parents before children.
    pub mounts: Vec<Mount>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Paths hidden from the container.
    pub masked_paths: Vec<String>,
    /// Paths that it may not write.
    pub read_only_paths: Vec<String>,
    /// Its network.
    pub network: Network,
    /// The id that the user has inside, if it is not root (`--userns keep-id`): uid and gid.
    pub keep_id: Option<(u32, u32)>,
    /// `--privileged`: the host's devices, a writable /sys.
    pub privileged: bool,
    /// `--cgroupns=host`: it sees the host's tree of cgroups.
    #[serde(default)]
    pub host_cgroup_namespace: bool,
}

/// A process to start in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Command line, not empty.
    pub args: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory, absolute; made if it is not there.
    pub cwd: String,
    /// `user[:group]`, names or numbers, or empty for root.
    pub user: String,
    /// What root in the container may do.
    pub capabilities: CapSet,
    /// Those of `capabilities` that were asked for by name and that a process of another user keeps too.
    pub added_capabilities: CapSet,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Whether set-id programs gain nothing.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompProfile,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether an init of ours is process 1 and the command its child.
    pub init: bool,
}

/// Which system call filter, as it is kept in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompProfile {
    /// The built-in one.
    Default,
    /// None.
    Unconfined,
    /// One in docker's JSON format: its text.
    Custom(String),
}

impl SeccompProfile {
    /// As the seccomp room takes it.
    pub fn choice(&self) -> Choice<'_> {
        match self {
            SeccompProfile::Default => Choice::Default,
            SeccompProfile::Unconfined => Choice::Unconfined,
            SeccompProfile::Custom(text) => Choice::Profile(text),
        }
    }
}

/// A resource limit (getrlimit(2)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Lower case, without `RLIMIT_`.
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The container's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A namespace of its own, loopback only.
    None,
    /// The host's.
    Host,
}

impl Network {
    /// The namespaces of a container with this network (namespaces(7)): all but time, and the network's if it is its own.
    pub(super) fn namespaces(self) -> CloneFlags {
        let flags = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        match self {
            Network::None => flags | CloneFlags::CLONE_NEWNET,
            Network::Host => flags,
        }
    }
}

/// Something mounted into the container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where: an absolute path in the container.
    pub destination: String,
    /// How.
    pub attributes: MountAttributes,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file or folder of the host.
    Bind {
        /// Absolute path, trusted: the user named it.
        path: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Bytes; none is the kernel's default.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
    },
}

/// Mount attributes (mount_setattr(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountAttributes {
    /// `ro`.
    pub read_only: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// Set-id bits count.
    pub suid: bool,
    /// Device files count.
    pub dev: bool,
    /// Which mounts travel.
    pub propagation: Propagation,
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways.
    Shared,
}
