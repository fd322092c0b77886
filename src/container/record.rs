//! What is on disk about a container.

use super::id::ContainerId;
use super::request::{CgroupOptions, Dns, LogOptions, MountOptions, NetworkMode};
use super::settings::Settings;
use crate::digest::Digest;
use crate::network::{Mac, Publish, V6};
use crate::sandbox::Spec;
use crate::sandbox::cgroup::Limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The format of [`Record`]; a record with another number is of another version of coracle.
pub const FORMAT: u32 = 1;

/// `spec.json`: what a container is. Written once, when it is created, never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// Its id.
    pub id: ContainerId,
    /// Its name. On disk, the one that it was given; once read, the one that it has now ([`super::rename`]).
    pub name: String,
    /// When it was created, nanoseconds since 1970.
    pub created: u64,
    /// The image's name as the user typed it.
    pub image: String,
    /// The image's id; none of a container that runs a folder of the host.
    pub image_id: Option<Digest>,
    /// The image's layers, bottom first.
    pub layers: Vec<Digest>,
    /// The sandbox.
    pub spec: Spec,
    /// What the command is made of, for listings: the entry point and the rest.
    pub entrypoint: Vec<String>,
    /// The rest of the command line.
    pub command: Vec<String>,
    /// What is mounted.
    pub mounts: Vec<MountUse>,
    /// Labels of the image and the container.
    pub labels: BTreeMap<String, String>,
    /// The network asked for.
    pub network: NetworkMode,
    /// Ports that the host listens for, as asked for.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// Extra lines for /etc/hosts.
    pub add_hosts: Vec<(String, String)>,
    /// What is different in /etc/resolv.conf.
    pub dns: Dns,
    /// Where output goes.
    pub log: LogOptions,
    /// Standard input is kept open.
    pub interactive: bool,
    /// Removed when it ends.
    pub rm: bool,
    /// Signal that asks it to stop.
    pub stop_signal: i32,
    /// Seconds that it then has.
    pub stop_timeout: u32,
    /// Keys that leave it running.
    pub detach_keys: Vec<u8>,
    /// What it may use. Newer limits may be in `limits.json`; then [`super::store::load`] has put them here.
    #[serde(default)]
    pub limits: Limits,
    /// Where its cgroup is.
    #[serde(default)]
    pub cgroup: CgroupOptions,
    /// What else it was asked for.
    #[serde(default)]
    pub settings: Settings,
}

/// One mount of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountUse {
    /// What.
    pub kind: MountKind,
    /// Where in the container.
    pub destination: String,
    /// How.
    pub options: MountOptions,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// Something of the host.
    Bind {
        /// Its path.
        path: PathBuf,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Made for this container, removed with it.
        anonymous: bool,
    },
    /// A tmpfs.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Mode.
        mode: u32,
        /// Further options of mount(8).
        #[serde(default)]
        options: Vec<String>,
        /// Filled with what the image has there.
        #[serde(default)]
        copy_up: bool,
    },
    /// Another new file system: devpts or ramfs.
    New {
        /// Its kind.
        kind: String,
        /// Options of mount(8).
        options: Vec<String>,
    },
    /// The files of an image.
    Image {
        /// Its name as the user typed it.
        name: String,
        /// Its layers, bottom first.
        layers: Vec<Digest>,
    },
}

impl Record {
    /// The layers that it needs: its image's and those of the images that are mounted.
    pub fn needed_layers(&self) -> impl Iterator<Item = &Digest> {
        let mounted = self.mounts.iter().flat_map(|used| match &used.kind {
            MountKind::Image { layers, .. } => layers.as_slice(),
            _ => &[],
        });
        self.layers.iter().chain(mounted)
    }
}

/// `state.json`: that a container has been started. In the data root, so that it is known after a reboot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// When, nanoseconds since 1970.
    pub started: u64,
    /// In which boot.
    pub boot_id: String,
    /// By which monitor: for finding it when the run root is lost and it is not.
    #[serde(default)]
    pub monitor: Option<ProcessId>,
    /// What its addresses were, by network: it gets them again if they are free.
    #[serde(default)]
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl Started {
    /// The address that it had on a network.
    pub fn address(&self, network: &str) -> Option<Ipv4Addr> {
        self.addresses.get(network).copied()
    }
}

/// `live.json`: the processes of a running container. In the run root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// Its monitor.
    pub monitor: ProcessId,
    /// Its first process.
    pub init: ProcessId,
    /// When it was started, nanoseconds since 1970.
    pub started: u64,
    /// In which boot.
    pub boot_id: String,
    /// Its cgroup, if it has one of its own.
    #[serde(default)]
    pub cgroup: Option<Cgroup>,
    /// The networks that it is on; the first is its way to everything else.
    #[serde(default)]
    pub networks: Vec<OnNetwork>,
    /// Its ports that the host listens for, as they are.
    #[serde(default)]
    pub published: Vec<Publish>,
}

/// What a running container has on a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OnNetwork {
    /// The network's name.
    pub network: String,
    /// Its id.
    pub id: String,
    /// The container's interface.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of that which are the network's.
    pub prefix: u8,
    /// The network's own address.
    pub gateway: Ipv4Addr,
    /// Its IPv6 address, if it has one, and the network.
    #[serde(default)]
    pub v6: Option<(Ipv6Addr, V6)>,
    /// The container's hardware address.
    pub mac: Mac,
}

/// A container's cgroup; also `cgroup.json` in the run root, from before it is made until it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its path in the unified tree.
    pub path: String,
    /// The unit of the user's systemd that it is in.
    pub unit: Option<String>,
}

/// A process that can be told from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid in the host's namespace.
    pub pid: i32,
    /// When it started, clock ticks since boot.
    pub start_time: u64,
}

/// `exit.json`: how a container ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// When, nanoseconds since 1970.
    pub finished: u64,
    /// Which run of it this is about: its start time.
    pub started: u64,
    /// What went wrong, if it did not end by itself.
    pub error: Option<String>,
    /// Whether the kernel killed a process of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Made, never started.
    Created,
    /// About to run: somebody holds the lock and has not written yet that it runs.
    Starting,
    /// It runs.
    Running {
        /// Since when.
        started: u64,
    },
    /// It runs, and its processes are frozen.
    Paused {
        /// Since when it runs.
        started: u64,
    },
    /// It has ended.
    Exited {
        /// How.
        code: i32,
        /// When it had been started.
        started: u64,
        /// When it ended; 0 if nobody saw it.
        finished: u64,
    },
}

impl Status {
    /// The word that docker uses.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Starting | Status::Running { .. } => "running",
            Status::Paused { .. } => "paused",
            Status::Exited { .. } => "exited",
        }
    }

    /// Whether it has processes.
    pub fn is_running(&self) -> bool {
        matches!(self, Status::Starting | Status::Running { .. } | Status::Paused { .. })
    }
}
