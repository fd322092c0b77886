//! What a container is, in the terms of the OCI runtime specification, as far as this runtime needs it.

use super::capabilities::CapSet;
use super::seccomp::Choice;
use crate::kernel::process::CloneFlags;
use crate::userns::IdRange;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// A container. Immutable once made; everything that differs from start to start is passed beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Host name; not set where the UTS namespace is another's.
    pub hostname: String,
    /// NIS domain name, if one is asked for.
    #[serde(default)]
    pub domainname: Option<String>,
    /// Its first process.
    pub process: Process,
    /// Whether the root is read-only.
    pub read_only_root: bool,
    /// What is mounted besides the standard file systems, parents before children.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Bytes of /dev/shm, where the container has one of its own.
    pub shm_size: u64,
    /// Kernel settings of the container's namespaces: names with dots, values.
    #[serde(default)]
    pub sysctls: Vec<(String, String)>,
    /// Paths hidden from the container.
    pub masked_paths: Vec<String>,
    /// Paths that it may not write.
    pub read_only_paths: Vec<String>,
    /// Its network.
    pub network: Network,
    /// Its other namespaces.
    #[serde(default)]
    pub sharing: Sharing,
    /// Which ids it has.
    #[serde(default)]
    pub ids: Ids,
    /// `--privileged`: the host's devices, a writable /sys.
    pub privileged: bool,
    /// `--cgroupns=host`: it sees the host's tree of cgroups.
    #[serde(default)]
    pub host_cgroup_namespace: bool,
}

/// A process to start in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Command line; empty: nothing is executed but the init, which waits until it is killed.
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
    /// What else is different for it.
    #[serde(default)]
    pub attributes: ProcessAttributes,
}

/// What is seldom different for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAttributes {
    /// Groups besides those of its user: names or numbers.
    pub groups: Vec<String>,
    /// It keeps the groups of who starts it, and gets no others.
    pub keep_groups: bool,
    /// Its umask, 0022 if none is given.
    pub umask: Option<u32>,
    /// Its execution domain (personality(2)).
    pub personality: Option<u32>,
    /// How readily the kernel kills it for memory, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
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
    /// That of the container which is joined.
    Joined,
}

/// Whose a namespace of a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Another container's: the one that is joined.
    Joined,
}

/// The namespaces that a container may share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// User namespace: never the host's. Joined with any of the others.
    pub user: Owner,
    /// Processes.
    pub pid: Owner,
    /// System V IPC, message queues and /dev/shm.
    pub ipc: Owner,
    /// Without a /dev/shm (`--ipc none`).
    pub no_shm: bool,
    /// Host and domain name.
    pub uts: Owner,
}

impl Process {
    /// Whether there is no command: the container is there for its namespaces.
    pub fn only_waits(&self) -> bool {
        self.args.is_empty()
    }
}

impl Spec {
    /// The namespaces that the container's first process gets anew (namespaces(7)).
    pub(super) fn new_namespaces(&self) -> CloneFlags {
        self.namespaces(&|owner| owner == Owner::Own)
            | CloneFlags::CLONE_NEWNS
            | if self.host_cgroup_namespace { CloneFlags::empty() } else { CloneFlags::CLONE_NEWCGROUP }
            | if self.network == Network::None { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() }
    }

    /// Those that it joins another container in.
    pub(super) fn joined_namespaces(&self) -> CloneFlags {
        self.namespaces(&|owner| owner == Owner::Joined)
            | if self.network == Network::Joined { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() }
    }

    /// Those that a further process has to enter: all that are not the host's, which cannot and need not be entered.
    pub fn entered_namespaces(&self) -> CloneFlags {
        self.new_namespaces() | self.joined_namespaces()
    }

    fn namespaces(&self, wanted: &dyn Fn(Owner) -> bool) -> CloneFlags {
        let Sharing { user, pid, ipc, uts, .. } = self.sharing;
        [
            (user, CloneFlags::CLONE_NEWUSER),
            (pid, CloneFlags::CLONE_NEWPID),
            (ipc, CloneFlags::CLONE_NEWIPC),
            (uts, CloneFlags::CLONE_NEWUTS),
        ]
        .into_iter()
        .filter(|(owner, _)| wanted(*owner))
        .map(|(_, flag)| flag)
        .collect()
    }
}

/// Which ids a container has, in terms of the user's namespace U, where 0 is the user and the subordinate ids follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// All, as they are: the user is root.
    #[default]
    All,
    /// All, the user with these ids.
    Keep {
        /// Uid inside.
        uid: u32,
        /// Gid inside.
        gid: u32,
    },
    /// All but the user's own.
    WithoutUser,
    /// A part of the subordinate ids that no other container with a part has.
    Part {
        /// The id of U that is root inside.
        first: u32,
        /// How many.
        count: u32,
    },
    /// As given (`--uidmap`, `--gidmap`).
    Given {
        /// Uid map over U.
        uids: Vec<IdRange>,
        /// Gid map over U.
        gids: Vec<IdRange>,
    },
}

/// A device of the host, or a folder of some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where it is in the container.
    pub path: String,
}

/// One of the interfaces by which a container's own network namespace is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index of the interface that comes into the namespace from outside.
    pub index: i32,
    /// Its address.
    pub v4: AddressOf,
    /// The same of IPv6, if it has one.
    pub v6: Option<AddressOf>,
}

/// The address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressOf {
    /// The address.
    pub address: IpAddr,
    /// Bits of that which are the network's.
    pub prefix: u8,
    /// Where everything else is reached, if that is by this interface.
    pub gateway: Option<IpAddr>,
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
    /// A fresh file system without a device: tmpfs, ramfs or devpts.
    New {
        /// Its kind.
        kind: String,
        /// What mount(8) takes, `key` or `key=value`.
        options: Vec<String>,
        /// Filled with what the image has there.
        copy_up: bool,
    },
    /// One of the trees that [`super::Hooks`] brings.
    Ready {
        /// Which.
        index: usize,
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
