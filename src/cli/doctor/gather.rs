//! Reads the [`Facts`]. What cannot be read is as if it were not there: no reader fails.

use super::facts::{
    CgroupKind, Cgroups, DataRoot, Device, Facts, Family, Helper, RunRoot, Session, SubordinateIds, Sysctls,
    User,
};
use super::probe::Probe;
use crate::sandbox::cgroup;
use crate::state::Paths;
use crate::userns::{self, IdMap, Identity};
use nix::unistd::{Gid, Uid};
use rustix::fs::{Access, Mode, OFlags, StatVfsMountFlags, XattrFlags};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Looks at everything. `probe` is what was tried before.
pub fn gather(paths: &Paths, identity: &Identity, probe: Probe) -> Facts {
    let user = user();
    let status = read("/proc/self/status");
    let (uids, gids) = match &identity.mode {
        userns::Mode::Subordinate { uids, gids } => (Some(uids), Some(gids)),
        userns::Mode::Single { .. } => (None, None),
    };
    Facts {
        family: family(&read("/etc/os-release")),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        program: std::env::current_exe().unwrap_or_else(|_| "/usr/bin/coracle".into()),
        sysctls: sysctls(),
        apparmor: apparmor(),
        selinux: selinux(),
        subuids: subordinate(&read("/etc/subuid"), uids, &user),
        subgids: subordinate(&read("/etc/subgid"), gids, &user),
        ids_in_namespace: userns::is_inside().then(|| uids.map_or(1, IdMap::len)),
        helpers: ["newuidmap", "newgidmap"].map(|name| (name, helper(name))),
        no_new_privileges: status.lines().any(|l| l.split_whitespace().eq(["NoNewPrivs:", "1"])),
        has_seccomp: has_seccomp(),
        cgroups: cgroups(user.uid),
        session: session(&user),
        run: run_root(paths),
        data: data_root(paths),
        fuse: device("/dev/fuse"),
        tun: device("/dev/net/tun"),
        inside: inside(&status),
        user,
        probe,
    }
}

/// A file's text; none if it cannot be read.
pub(in crate::cli) fn read(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}

/// Who asks.
pub(in crate::cli) fn user() -> User {
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let number = uid.to_string();
    let passwd = read("/etc/passwd");
    let local = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    let is_local = local.is_some();
    let name = local.or_else(|| std::env::var("USER").ok()).filter(|n| !n.is_empty()).unwrap_or(number);
    User { name, uid, gid, is_local }
}

/// A value of os-release(5), empty if it is not there.
pub(in crate::cli) fn os_release(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

fn family(text: &str) -> Family {
    let names = format!("{} {}", os_release(text, "ID"), os_release(text, "ID_LIKE"));
    names
        .split_whitespace()
        .find_map(|name| match name {
            "debian" | "ubuntu" => Some(Family::Debian),
            "fedora" | "rhel" | "centos" => Some(Family::Fedora),
            "suse" | "opensuse" | "sles" => Some(Family::Suse),
            "arch" => Some(Family::Arch),
            "alpine" => Some(Family::Alpine),
            _ => None,
        })
        .unwrap_or(Family::Other)
}

fn sysctls() -> Sysctls {
    let ping = read("/proc/sys/net/ipv4/ping_group_range");
    let mut groups = ping.split_whitespace().map_while(|n| n.parse().ok());
    Sysctls {
        unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
        max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
        apparmor_restricts_userns: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        ping_groups: groups.next().zip(groups.next()),
        first_open_port: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
    }
}

/// The AppArmor profile of this process; `None` without AppArmor.
pub(in crate::cli) fn apparmor() -> Option<String> {
    if read("/sys/module/apparmor/parameters/enabled").trim() != "Y" {
        return None;
    }
    let label = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"].map(read);
    label.into_iter().map(|l| l.trim().to_owned()).find(|l| !l.is_empty())
}

/// Whether SELinux enforces; `None` without SELinux.
pub(in crate::cli) fn selinux() -> Option<bool> {
    number("/sys/fs/selinux/enforce").map(|n| n == 1)
}

/// Whether there is seccomp with filters.
pub(in crate::cli) fn has_seccomp() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}

/// The lines of /etc/subuid or /etc/subgid, and which ids are the user's: by these lines, or else (`map`) by what
/// a directory service said.
fn subordinate(text: &str, map: Option<&IdMap>, user: &User) -> SubordinateIds {
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let lines: Vec<(String, u64, u64)> = text.lines().filter_map(parse).collect();
    let number = user.uid.to_string();
    let mut own: Vec<_> = lines
        .iter()
        .filter(|(owner, ..)| *owner == user.name || *owner == number)
        .map(|(_, start, count)| (*start, *count))
        .collect();
    if own.is_empty()
        && let Some(map) = map
    {
        own.extend(map.0.iter().skip(1).map(|r| (u64::from(r.outside), u64::from(r.count))));
    }
    SubordinateIds { lines, own }
}

fn helper(name: &str) -> Helper {
    let Some(path) = userns::find_helper(name) else { return Helper::Missing };
    let is_set_uid = rustix::fs::stat(&path)
        .is_ok_and(|s| s.st_uid == 0 && Mode::from_raw_mode(s.st_mode).contains(Mode::SUID));
    let has_capability = rustix::fs::getxattr(&path, "security.capability", &mut [0_u8; 64]).is_ok();
    let no_suid = rustix::fs::statvfs(&path).is_ok_and(|s| s.f_flag.contains(StatVfsMountFlags::NOSUID));
    match (is_set_uid || has_capability, no_suid) {
        (false, _) => Helper::Powerless(path),
        (true, true) => Helper::NoSuid(path),
        (true, false) => Helper::Ready(path),
    }
}

const TMPFS_MAGIC: i128 = 0x0102_1994;

fn is_of_type(path: impl AsRef<Path>, magic: i128) -> bool {
    rustix::fs::statfs(path.as_ref()).is_ok_and(|s| i128::from(s.f_type) == magic)
}

/// Resource control for this user.
pub(in crate::cli) fn cgroups(uid: u32) -> Cgroups {
    let kind = cgroup::kind();
    let candidates = cgroup::around(cgroup::Look::Closely).candidates;
    let is_delegated = !candidates.is_empty();
    let mut controllers: Vec<String> = candidates.into_iter().flat_map(|c| c.available).collect();
    // Where systemd delegates to users, it does so at this unit; scopes asked for are made below it.
    let manager = format!("/user.slice/user-{uid}.slice/user@{uid}.service");
    if kind == CgroupKind::Unified && !is_delegated && cgroup::exists(&manager) {
        controllers = cgroup::Candidate::look(&manager, cgroup::Look::Closely).available;
    }
    controllers.sort_unstable();
    controllers.dedup();
    Cgroups { kind, controllers, is_delegated }
}

/// The user's systemd.
pub(in crate::cli) fn session(user: &User) -> Session {
    Session {
        has_systemd: Path::new("/run/systemd/system").is_dir(),
        has_user_manager: cgroup::systemd::is_there(),
        lingers: Path::new("/var/lib/systemd/linger").join(&user.name).exists(),
    }
}

fn run_root(paths: &Paths) -> RunRoot {
    RunRoot {
        path: paths.run().to_owned(),
        has_xdg: std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|v| !v.is_empty()),
        is_tmpfs: is_of_type(paths.run(), TMPFS_MAGIC),
    }
}

fn data_root(paths: &Paths) -> DataRoot {
    let path = paths.data().to_owned();
    let space = rustix::fs::statvfs(&path).ok();
    let attributes = try_attributes(&path);
    DataRoot {
        error: attributes.as_ref().err().map(ToString::to_string),
        kind: file_system_type(&path).unwrap_or_else(|| "unknown".to_owned()),
        free: space.as_ref().map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize)),
        // btrfs and others have no table of files, and say that there are none.
        free_files: space.as_ref().filter(|s| s.f_files > 0).map_or(u64::MAX, |s| s.f_favail),
        has_xattrs: attributes.unwrap_or(false),
        no_exec: space.as_ref().is_some_and(|s| s.f_flag.contains(StatVfsMountFlags::NOEXEC)),
        path,
    }
}

/// Makes a file and gives it an attribute; the error if there cannot even be a file.
fn try_attributes(dir: &Path) -> io::Result<bool> {
    let file = dir.join(format!(".doctor-{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&file, flags, Mode::RUSR | Mode::WUSR)?;
    let result = rustix::fs::fsetxattr(&fd, "user.overlay.doctor", b"y", XattrFlags::CREATE);
    fs::remove_file(&file)?;
    Ok(result.is_ok())
}

/// The type of the file system that `path` is on: the line of /proc/self/mountinfo with the id of its mount.
pub(in crate::cli) fn file_system_type(path: &Path) -> Option<String> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let info = read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = read("/proc/self/mountinfo");
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id))?;
    line.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
}

fn device(path: &str) -> Device {
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Device::Ready,
        Err(rustix::io::Errno::ACCESS) => Device::Denied,
        Err(_) => Device::Missing,
    }
}

/// Marks of a container count only where something is withheld: images made into virtual machines have them too.
fn inside(status: &str) -> Option<String> {
    if read("/proc/version").to_ascii_lowercase().contains("microsoft") {
        return Some("wsl".to_owned());
    }
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let bounding = field("CapBnd:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    let is_filtered = field("Seccomp:").is_some_and(|mode| mode != "0");
    let highest = number("/proc/sys/kernel/cap_last_cap").unwrap_or(0);
    if !is_filtered && u64::from(bounding.trailing_ones()) > highest && !userns::is_inside() {
        return None;
    }
    // systemd's container interface; podman and lxc keep to it.
    let named = std::env::var("container").ok().filter(|name| !name.is_empty());
    let by_file = |file: &str, name: &str| Path::new(file).exists().then(|| name.to_owned());
    named
        .or_else(|| by_file("/run/.containerenv", "podman"))
        .or_else(|| by_file("/.dockerenv", "docker"))
        .or_else(|| Some(read("/run/systemd/container").trim().to_owned()).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> User {
        User { name: "ann".into(), uid: 1000, gid: 1000, is_local: true }
    }

    #[test]
    fn distributions_are_known_by_what_they_are_like() {
        assert_eq!(family("ID=ubuntu\nID_LIKE=debian\n"), Family::Debian);
        assert_eq!(family("NAME=x\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Family::Fedora);
        assert_eq!(family("ID=opensuse-leap\nID_LIKE=\"suse opensuse\""), Family::Suse);
        assert_eq!(family(""), Family::Other);
    }

    #[test]
    fn lines_count_before_the_directory_service() {
        let map = IdMap::parse("0 1000 1\n1 500000 65536\n");
        let text = "bob:1:2\nann:100000:65536\n1000:7:1\nbroken\n";
        let ids = subordinate(text, Some(&map), &ann());
        assert_eq!(ids.lines.len(), 3);
        assert_eq!(ids.own, [(100_000, 65536), (7, 1)]);
        assert_eq!(subordinate("bob:1:2\n", Some(&map), &ann()).own, [(500_000, 65536)]);
        assert_eq!(subordinate("", None, &ann()).own, []);
    }

    #[test]
    fn a_folder_has_a_file_system_and_takes_files() {
        let dir = tempfile::tempdir().unwrap();
        assert!(file_system_type(dir.path()).is_some_and(|kind| !kind.is_empty()));
        try_attributes(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(try_attributes(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn devices_are_there_or_not() {
        assert_eq!(device("/dev/null"), Device::Ready);
        assert_eq!(device("/dev/no-such"), Device::Missing);
    }
}
