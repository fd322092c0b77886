//! What a user asks a container to be: the typed form of the flags of `create` and `run`, before any image has
//! been looked at. The command line makes it; [`super`] turns it, with an image, into an immutable spec.

use super::ids::GivenRange;
use super::settings::{ImageVolumes, NamespaceMode, Settings, SystemdMode, VolumesFrom};
use crate::digest::Digest;
pub use crate::network::{Publish, Transport};
use crate::sandbox::cgroup::Limits;
use crate::sandbox::cgroup::place::Mode;
use crate::sandbox::{Device, ProcessAttributes};
pub use crate::sandbox::{Propagation, Rlimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A container as asked for.
#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    /// The image as typed: a name, a digest or the start of an id.
    pub image: String,
    /// What follows the image on the command line.
    pub command: Vec<String>,
    /// `--name`, validated (`[a-zA-Z0-9][a-zA-Z0-9_.-]*`).
    pub name: Option<String>,
    /// `--entrypoint`: a JSON array or one word; an empty list clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `--env-file` and `-e`, in the order in which they apply; a bare `-e NAME` has been looked up already.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`: names removed from the image's environment.
    pub unset_env: Vec<String>,
    /// `--unsetenv-all`: nothing of the image's environment, nor what every container has.
    pub unset_all_env: bool,
    /// `--env-host` and `--http-proxy`: variables of the host, weaker than the image's.
    pub host_env: Vec<(String, String)>,
    /// `--env-merge`: values in which variables of the image are replaced.
    pub env_merge: Vec<(String, String)>,
    /// `-w`, absolute.
    pub workdir: Option<String>,
    /// `-u`: `user[:group]`, names or numbers; resolved against the image's passwd and group files.
    pub user: Option<String>,
    /// `-h`, validated.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `-l` and `--label-file`.
    pub labels: BTreeMap<String, String>,
    /// `-v`, `--mount`, `--tmpfs`, in the order given.
    pub mounts: Vec<MountRequest>,
    /// `--volumes-from`.
    pub volumes_from: Vec<VolumesFrom>,
    /// `--image-volume`.
    pub image_volumes: ImageVolumes,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--userns`, `--uidmap`, `--gidmap`.
    pub userns: UsernsMode,
    /// `--pid`.
    pub pid: NamespaceMode,
    /// `--ipc`.
    pub ipc: NamespaceMode,
    /// `--uts`.
    pub uts: NamespaceMode,
    /// `--sysctl`: names with dots, values.
    pub sysctls: Vec<(String, String)>,
    /// `--network`.
    pub network: NetworkMode,
    /// `-p`.
    pub publish: Vec<Publish>,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`, upper case with the `CAP_` prefix, or `ALL`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, in the same form.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: SecurityOptions,
    /// `--read-only`: the root is mounted read-only.
    pub read_only: bool,
    /// `--read-only-tmpfs` (default true): with `--read-only`, `/run`, `/tmp` and `/var/tmp` are writable tmpfs.
    pub read_only_tmpfs: bool,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `--detach-keys`, parsed to the bytes that the terminal sends; empty: no way out.
    pub detach_keys: Vec<u8>,
    /// `--init`.
    pub init: bool,
    /// `--rm`.
    pub rm: bool,
    /// `--stop-signal`, a signal number.
    pub stop_signal: Option<i32>,
    /// `--stop-timeout`, seconds.
    pub stop_timeout: Option<u32>,
    /// `--ulimit`.
    pub rlimits: Vec<Rlimit>,
    /// `--shm-size`, bytes.
    pub shm_size: Option<u64>,
    /// `--add-host NAME:IP`.
    pub add_hosts: Vec<(String, String)>,
    /// `--dns`, `--dns-search`, `--dns-option`.
    pub dns: Dns,
    /// `--log-driver` and `--log-opt`.
    pub log: LogOptions,
    /// `--memory` and the like.
    pub limits: Limits,
    /// `--cgroups`, `--cgroup-parent`, `--cgroupns`.
    pub cgroup: CgroupOptions,
    /// `--group-add`, `--umask`, `--personality`, `--oom-score-adj`.
    pub attributes: ProcessAttributes,
    /// `--systemd`.
    pub systemd: SystemdMode,
    /// What is recorded as it is.
    pub settings: Settings,
}

/// Where a container's cgroup is, and what it sees of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupOptions {
    /// `--cgroups`.
    pub mode: Mode,
    /// `--cgroup-parent`: a slice of the user's systemd, or a path without `..`.
    pub parent: Option<String>,
    /// `--cgroupns=host`: it sees the host's tree.
    pub host_namespace: bool,
}

/// `--dns*`: what goes into `/etc/resolv.conf` instead of the host's.
#[derive(PartialEq, Eq, Clone, Debug, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains; a single `.` means none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Something that is mounted into the container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Where from.
    pub source: MountSource,
    /// Where to: an absolute path in the container.
    pub destination: String,
    /// How.
    pub options: MountOptions,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A file or folder of the host, absolute.
    Bind {
        /// The path on the host.
        path: PathBuf,
        /// `-v` makes a missing source (a folder); `--mount type=bind` does not.
        create: bool,
    },
    /// A named volume, made if it is not there.
    Volume {
        /// Its name.
        name: String,
    },
    /// A volume of this container alone, removed with it.
    AnonymousVolume,
    /// A tmpfs.
    Tmpfs {
        /// Bytes; the kernel's default (half the memory) if not given.
        size: Option<u64>,
        /// Mode of its root, default 1777.
        mode: Option<u32>,
        /// Further options of mount(8).
        options: Vec<String>,
        /// `tmpcopyup`: filled with what the image has there.
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
        /// Its name as typed.
        name: String,
        /// Its layers, bottom first, once it has been looked up.
        layers: Vec<Digest>,
    },
    /// What matches a pattern on the host, each by its name in the destination, or with `/` where it is on the host.
    Glob {
        /// The pattern, absolute.
        pattern: String,
    },
}

/// Options of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOptions {
    /// `ro`, applied to everything below too.
    pub read_only: bool,
    /// `U`: the source's owner becomes the container's user.
    pub chown: bool,
    /// `nocopy`: a new volume is not filled from the image.
    pub no_copy: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `suid`: set-id bits count (off by default for binds, tmpfs and volumes).
    pub suid: bool,
    /// `dev`: device files count (off by default).
    pub dev: bool,
    /// `rslave`, `rshared`… default rprivate.
    pub propagation: Propagation,
    /// `bind` instead of `rbind`: without what is mounted below the source.
    pub non_recursive: bool,
    /// `O`: what is written goes to a layer of the container's that is thrown away when it ends.
    #[serde(default)]
    pub overlay: bool,
}

/// `--userns`, `--uidmap`, `--gidmap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UsernsMode {
    /// Root in the container is the user, other ids are the user's subordinate ids.
    #[default]
    Default,
    /// The user keeps uid and gid in the container.
    KeepId {
        /// Uid in the container, default the user's.
        uid: Option<u32>,
        /// Gid in the container, default the user's.
        gid: Option<u32>,
    },
    /// The user has no id in the container.
    NoMap,
    /// Subordinate ids that no other container has.
    Auto {
        /// How many; as many as the image needs if not given.
        size: Option<u32>,
    },
    /// That of another container, as typed.
    Container(String),
    /// As given.
    Given {
        /// `--uidmap`.
        uids: Vec<GivenRange>,
        /// `--gidmap`.
        gids: Vec<GivenRange>,
    },
}

impl UsernsMode {
    /// As `inspect` tells it.
    pub fn name(&self) -> &'static str {
        match self {
            UsernsMode::Default => "",
            UsernsMode::KeepId { .. } => "keep-id",
            UsernsMode::NoMap => "nomap",
            UsernsMode::Auto { .. } => "auto",
            UsernsMode::Container(_) => "container",
            UsernsMode::Given { .. } => "private",
        }
    }
}

/// `--network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Not given: the network `bridge`, whose containers reach the world and not one another.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
    /// Those that the user names, in their order.
    Named(Vec<Joined>),
    /// That of another container: its name, later its id.
    Container(String),
}

/// How a container is on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The network's name.
    pub network: String,
    /// `--ip`.
    #[serde(default)]
    pub ip: Option<std::net::Ipv4Addr>,
    /// `--ip6`.
    #[serde(default)]
    pub ip6: Option<std::net::Ipv6Addr>,
    /// `--network-alias`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `--mac-address`.
    #[serde(default)]
    pub mac: Option<crate::network::Mac>,
    /// What its interface is called in the container.
    #[serde(default)]
    pub interface: Option<String>,
}

/// `--security-opt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityOptions {
    /// `no-new-privileges[=true|false]`; default on (see SECURITY).
    pub no_new_privileges: Option<bool>,
    /// `seccomp=unconfined` or a profile file.
    pub seccomp: SeccompChoice,
    /// `unmask=PATH[:PATH…]|ALL`.
    pub unmask: Vec<String>,
    /// `mask=PATH[:PATH…]`.
    pub mask: Vec<String>,
}

/// Which system call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompChoice {
    /// The built-in profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in docker's JSON format: its text, read when the container was created.
    Profile(String),
}

/// `--log-driver`, `--log-opt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// `k8s-file` (default) or `none`.
    pub driver: LogDriver,
    /// `max-size`: bytes after which the file is rotated.
    pub max_size: u64,
    /// `max-file`: how many files are kept, the current one included.
    pub max_file: u32,
}

impl Default for LogOptions {
    /// Bounded: three files of 8 MiB.
    fn default() -> Self {
        Self { driver: LogDriver::K8sFile, max_size: 8 << 20, max_file: 3 }
    }
}

/// Where output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// The Kubernetes CRI text format, podman's default: one line per line, with time, stream and F or P.
    #[default]
    K8sFile,
    /// Nowhere.
    None,
}

/// A further process in a running container, as asked for by `exec`.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The command and its arguments; never empty.
    pub command: Vec<String>,
    /// `--env-file` and `-e`, in the order in which they apply, on top of the container's own.
    pub env: Vec<(String, String)>,
    /// `-w`, absolute; the container's if not given.
    pub workdir: Option<String>,
    /// `-u`: `user[:group]`; the container's if not given.
    pub user: Option<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `--detach-keys`, as the terminal sends them; empty: no way out.
    pub detach_keys: Vec<u8>,
    /// `--preserve-fds`, `--preserve-fd`: descriptors of ours that the command gets under the same numbers.
    pub preserve_fds: Vec<i32>,
}
