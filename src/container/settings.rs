//! What a container was asked for that its sandbox does not see: for its starts, its files and `inspect`.

use super::id::ContainerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Kept in the record as asked for. A field that an earlier record does not have is as if not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--expose`, as `80/tcp`.
    pub exposed: Vec<String>,
    /// `--timeout`: seconds after which it is killed, 0 for never.
    pub timeout: u32,
    /// `--tz`: `local`, or a name below /usr/share/zoneinfo.
    pub timezone: Option<String>,
    /// `--pidfile`: where the pid of its first process is written, absolute.
    pub pidfile: Option<PathBuf>,
    /// Files in /etc.
    pub files: Files,
    /// `--volumes-from`, as typed.
    pub volumes_from: Vec<String>,
    /// `--rootfs`: a folder of the host instead of an image.
    pub rootfs: Option<Rootfs>,
    /// `--userns`, `--pid`, `--ipc`, `--uts`, for `inspect`.
    pub modes: Modes,
    /// The container whose namespaces it joins.
    pub joins: Option<ContainerId>,
    /// Whether its command is a systemd that needs its surroundings.
    pub systemd: bool,
    /// Whether it is a step of a build: nothing that is listed, and ended with the build.
    pub build_step: bool,
}

/// What is different in the files of /etc that a container gets from us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Files {
    /// `--no-hosts`: /etc/hosts is the image's.
    pub no_hosts: bool,
    /// `--no-hostname`: /etc/hostname is the image's.
    pub no_hostname: bool,
    /// `--dns none`: /etc/resolv.conf is the image's.
    pub no_resolv_conf: bool,
    /// `--passwd=false`: no user is made known.
    pub no_passwd: bool,
    /// `--passwd-entry`: the line for the container's user.
    pub passwd_entry: Option<String>,
    /// `--group-entry`: the line for the group of the container's user.
    pub group_entry: Option<String>,
    /// `--hostuser`: users of the host to make known, by name or number.
    pub host_users: Vec<String>,
}

/// A folder of the host as a container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Whether what the container writes goes to a layer of its own instead of the folder.
    pub overlay: bool,
}

/// Modes of namespaces, as `inspect` tells them; empty where nothing was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Modes {
    /// `--userns`.
    pub userns: String,
    /// `--pid`.
    pub pid: String,
    /// `--ipc`.
    pub ipc: String,
    /// `--uts`.
    pub uts: String,
}

/// `--pid`, `--ipc`, `--uts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceMode {
    /// Not given: its own.
    #[default]
    Default,
    /// Its own; of IPC, one that nobody may join.
    Private,
    /// Its own, which others may join (IPC).
    Shareable,
    /// Its own, without /dev/shm (IPC).
    None,
    /// The host's.
    Host,
    /// That of another container, as typed.
    Container(String),
}

impl NamespaceMode {
    /// As typed.
    pub fn text(&self) -> String {
        match self {
            NamespaceMode::Default => String::new(),
            NamespaceMode::Private => "private".into(),
            NamespaceMode::Shareable => "shareable".into(),
            NamespaceMode::None => "none".into(),
            NamespaceMode::Host => "host".into(),
            NamespaceMode::Container(name) => format!("container:{name}"),
        }
    }
}

/// `--systemd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemdMode {
    /// If the command is systemd or an init.
    #[default]
    Auto,
    /// Whatever the command is.
    Always,
    /// Not at all.
    Never,
}

/// `--image-volume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageVolumes {
    /// Each is an anonymous volume.
    #[default]
    Anonymous,
    /// Each is a tmpfs.
    Tmpfs,
    /// There are none.
    Ignore,
}

/// One `--volumes-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    /// The container, as typed.
    pub container: String,
    /// `ro` or `rw`, if it is not as in that container.
    pub read_only: Option<bool>,
    /// As typed, for `inspect`.
    pub text: String,
}
