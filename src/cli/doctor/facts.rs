//! What is so on this machine: read in [`super::gather`], judged in [`super::checks`].

use super::probe::Probe;
pub use crate::sandbox::cgroup::Kind as CgroupKind;
use std::path::PathBuf;

/// All that is looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who asks.
    pub user: User,
    /// Whose packages this system has.
    pub family: Family,
    /// `uname -r`.
    pub kernel: String,
    /// This program.
    pub program: PathBuf,
    /// What happened when we tried.
    pub probe: Probe,
    /// Settings of the kernel.
    pub sysctls: Sysctls,
    /// The AppArmor profile that confines this process; `None` without AppArmor.
    pub apparmor: Option<String>,
    /// Whether SELinux enforces; `None` without SELinux.
    pub selinux: Option<bool>,
    /// Subordinate uids.
    pub subuids: SubordinateIds,
    /// Subordinate gids.
    pub subgids: SubordinateIds,
    /// How many ids there are, if this runs as root of a user namespace already.
    pub ids_in_namespace: Option<u32>,
    /// newuidmap and newgidmap.
    pub helpers: [(&'static str, Helper); 2],
    /// Whether this process can gain no privileges, not by set-id programs either.
    pub no_new_privileges: bool,
    /// Whether there is seccomp with filters.
    pub has_seccomp: bool,
    /// Resource control.
    pub cgroups: Cgroups,
    /// The user's systemd.
    pub session: Session,
    /// Where running containers are kept.
    pub run: RunRoot,
    /// Where images and containers are kept.
    pub data: DataRoot,
    /// /dev/fuse.
    pub fuse: Device,
    /// /dev/net/tun.
    pub tun: Device,
    /// Inside of what this runs, if not on the host itself: `docker`, `podman`, `lxc`, `wsl`…
    pub inside: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Whether /etc/passwd has the user; else it comes from a directory service.
    pub is_local: bool,
}

/// Distributions by what their packages are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu…
    Debian,
    /// Fedora, RHEL…
    Fedora,
    /// openSUSE, SLES.
    Suse,
    /// Arch.
    Arch,
    /// Alpine.
    Alpine,
    /// Any other.
    Other,
}

/// Settings of the kernel; `None` where this kernel does not have it.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// `kernel.unprivileged_userns_clone` (Debian's patch).
    pub unprivileged_userns_clone: Option<u64>,
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu since 23.10).
    pub apparmor_restricts_userns: Option<u64>,
    /// `net.ipv4.ping_group_range`.
    pub ping_groups: Option<(u64, u64)>,
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub first_open_port: Option<u64>,
}

/// Subordinate ids of one kind.
#[derive(Clone, Debug, Default)]
pub struct SubordinateIds {
    /// The lines of /etc/subuid or /etc/subgid: owner, first id, count.
    pub lines: Vec<(String, u64, u64)>,
    /// The user's ranges, from these lines or from a directory service.
    pub own: Vec<(u64, u64)>,
}

/// One of the two programs that write id maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Helper {
    /// Not installed.
    Missing,
    /// There, and neither set-uid root nor with the file capability.
    Powerless(PathBuf),
    /// There, on a file system that is mounted nosuid.
    NoSuid(PathBuf),
    /// As it should be.
    Ready(PathBuf),
}

/// Resource control.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// What is mounted at /sys/fs/cgroup.
    pub kind: CgroupKind,
    /// The controllers that the user may use, or that the user's systemd may.
    pub controllers: Vec<String>,
    /// Whether this process may make cgroups, at its own or above.
    pub is_delegated: bool,
}

impl Cgroups {
    /// Who makes a container's cgroup: podman's and docker's words.
    pub fn manager(&self, session: &Session) -> &'static str {
        match self.kind {
            CgroupKind::Unified if self.is_delegated => "cgroupfs",
            CgroupKind::Unified if session.has_user_manager => "systemd",
            _ => "none",
        }
    }
}

/// The user's systemd.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whether systemd runs the machine.
    pub has_systemd: bool,
    /// Whether the user's own instance can be asked.
    pub has_user_manager: bool,
    /// Whether it outlives the user's last session.
    pub lingers: bool,
}

/// Where running containers are kept.
#[derive(Clone, Debug)]
pub struct RunRoot {
    /// The folder.
    pub path: PathBuf,
    /// Whether XDG_RUNTIME_DIR is set.
    pub has_xdg: bool,
    /// Whether it is a tmpfs, empty after a reboot.
    pub is_tmpfs: bool,
}

/// Where images and containers are kept.
#[derive(Clone, Debug)]
pub struct DataRoot {
    /// The folder.
    pub path: PathBuf,
    /// Why it cannot be used at all.
    pub error: Option<String>,
    /// Type of its file system.
    pub kind: String,
    /// Bytes that the user may still write.
    pub free: u64,
    /// Files that the user may still make; `u64::MAX` where the file system knows no such limit.
    pub free_files: u64,
    /// Whether files can have `user.*` attributes.
    pub has_xattrs: bool,
    /// Mounted noexec.
    pub no_exec: bool,
}

/// A device node that ordinary users should be able to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Not there.
    Missing,
    /// There, for others.
    Denied,
    /// Can be opened for reading and writing.
    Ready,
}
