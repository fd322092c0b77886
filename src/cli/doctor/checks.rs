//! Judges the [`Facts`]: one pure function per line of the report.

use super::facts::{CgroupKind, Device, Facts, Family, Helper, SubordinateIds};
use super::probe::Step;
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Containers run; something is not to be had.
    Note,
    /// Containers don't run.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub text: String,
    /// What to do: commands, and lines of explanation that start with `#`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

type Verdict = (Status, String, Option<String>);

fn ok(text: impl Into<String>) -> Verdict {
    (Status::Ok, text.into(), None)
}

fn note(text: impl Into<String>, fix: impl Into<Option<String>>) -> Verdict {
    (Status::Note, text.into(), fix.into())
}

fn problem(text: impl Into<String>, fix: impl Into<Option<String>>) -> Verdict {
    (Status::Problem, text.into(), fix.into())
}

type Check = (&'static str, fn(&Facts) -> Verdict);

/// The order of the report: what containers need first, then what some need.
const CHECKS: [Check; 18] = [
    ("user", user),
    ("kernel", kernel),
    ("surroundings", surroundings),
    ("user namespaces", user_namespaces),
    ("subordinate ids", subordinate_ids),
    ("id map helpers", helpers),
    ("overlay", overlay),
    ("namespaces", namespaces),
    ("system call filter", seccomp),
    ("data directory", data),
    ("runtime directory", runtime),
    ("cgroups", cgroups),
    ("user session", session),
    ("security modules", security_modules),
    ("/dev/fuse", fuse),
    ("/dev/net/tun", tun),
    ("ping", ping),
    ("low ports", low_ports),
];

/// Judges everything.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    CHECKS
        .into_iter()
        .map(|(check, judge)| {
            let (status, text, fix) = judge(facts);
            Finding { check, status, text, fix }
        })
        .collect()
}

fn user(facts: &Facts) -> Verdict {
    let user = &facts.user;
    let text = format!("{} (uid {})", user.name, user.uid);
    match user.uid {
        0 if facts.inside.is_none() => {
            note(format!("{text}: coracle is made for ordinary users, root gains nothing here"), None)
        }
        _ => ok(text),
    }
}

/// Overlay mounts in user namespaces came with 5.11, mount_setattr(2) with 5.12.
const NEEDED_KERNEL: (u32, u32) = (5, 12);

fn kernel(facts: &Facts) -> Verdict {
    let mut numbers = facts.kernel.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= NEEDED_KERNEL {
        return ok(facts.kernel.clone());
    }
    let (major, minor) = NEEDED_KERNEL;
    let text = format!("{} is older than {major}.{minor}", facts.kernel);
    problem(
        text,
        format!(
            "# use a distribution with Linux {major}.{minor} or newer (Debian 12, Ubuntu 22.04, Fedora 34, RHEL 9)"
        ),
    )
}

fn surroundings(facts: &Facts) -> Verdict {
    match facts.inside.as_deref() {
        None => ok("on the host itself"),
        Some("wsl") => ok("in the Windows Subsystem for Linux"),
        Some(inside) => {
            note(format!("inside a container ({inside}): it decides what is allowed in here"), None)
        }
    }
}

fn user_namespaces(facts: &Facts) -> Verdict {
    let sysctls = &facts.sysctls;
    match &facts.probe.namespace {
        Step::Worked if apparmor_takes_capabilities(facts) => problem(
            "AppArmor lets this program have them, but without any capability",
            Some(apparmor_fix(facts)),
        ),
        Step::Worked => ok("can be made"),
        _ if sysctls.unprivileged_userns_clone == Some(0) => problem(
            "switched off for ordinary users (kernel.unprivileged_userns_clone is 0)",
            sysctl("kernel.unprivileged_userns_clone", "1", "userns"),
        ),
        _ if sysctls.max_user_namespaces == Some(0) => problem(
            "switched off (user.max_user_namespaces is 0)",
            sysctl("user.max_user_namespaces", "28633", "userns"),
        ),
        _ if apparmor_restricts(facts) => problem(
            "refused by AppArmor (kernel.apparmor_restrict_unprivileged_userns)",
            Some(apparmor_fix(facts)),
        ),
        Step::Failed(why) if facts.inside.is_some() => problem(why.as_str(), Some(outer_fix(facts))),
        Step::Failed(why) => problem(why.as_str(), None),
        Step::NotTried => problem("could not be tried", None),
    }
}

fn apparmor_restricts(facts: &Facts) -> bool {
    let unconfined = facts.apparmor.as_deref().is_some_and(|label| label.starts_with("unconfined"));
    unconfined && facts.sysctls.apparmor_restricts_userns.is_some_and(|n| n > 0)
}

/// Ubuntu 24.04 lets anybody make a user namespace and then denies every capability in it, so that the first step
/// which needs one fails.
fn apparmor_takes_capabilities(facts: &Facts) -> bool {
    let refused = |step: &Step| matches!(step, Step::Failed(_));
    apparmor_restricts(facts) && (refused(&facts.probe.overlay) || refused(&facts.probe.id_map))
}

fn apparmor_fix(facts: &Facts) -> String {
    format!(
        "sudo tee /etc/apparmor.d/coracle <<'END'\nabi <abi/4.0>,\ninclude <tunables/global>\n\
         profile coracle \"{}\" flags=(unconfined) {{\n  userns,\n}}\nEND\n\
         sudo apparmor_parser -r /etc/apparmor.d/coracle",
        facts.program.display()
    )
}

/// What the outer container must be started with.
fn outer_fix(facts: &Facts) -> String {
    match facts.inside.as_deref() {
        Some("podman") => {
            "# start the outer container with\npodman run --security-opt unmask=ALL --device /dev/fuse …"
        }
        Some("docker") => {
            "# start the outer container with\ndocker run --security-opt seccomp=unconfined --security-opt \
             apparmor=unconfined --security-opt systempaths=unconfined …"
        }
        _ => "# the outer container must allow user namespaces, mount(2) and an unmasked /proc",
    }
    .to_owned()
}

fn sysctl(name: &str, value: &str, file: &str) -> String {
    format!("echo '{name} = {value}' | sudo tee /etc/sysctl.d/90-{file}.conf && sudo sysctl --system")
}

/// What images expect: all ids of 16 bits.
const ENOUGH_IDS: u64 = 65536;

fn subordinate_ids(facts: &Facts) -> Verdict {
    match facts.ids_in_namespace {
        Some(1) => return note("the user namespace that this runs in has one id: so have containers", None),
        Some(count) => return ok(format!("{count} in the user namespace that this runs in")),
        None => {}
    }
    let both = [("/etc/subuid", &facts.subuids), ("/etc/subgid", &facts.subgids)];
    let count = |ids: &SubordinateIds| ids.own.iter().map(|(_, count)| count).sum::<u64>();
    let name = &facts.user.name;
    if let Some((file, _)) = both.iter().find(|(_, ids)| count(ids) == 0) {
        return note(
            format!("none for {name} in {file}: containers have one id, files of other owners become root's"),
            add_ids(facts),
        );
    }
    if let Some((file, ids)) = both.iter().find(|(_, ids)| count(ids) < ENOUGH_IDS) {
        let text = format!("only {} in {file}: images with higher ids cannot be unpacked whole", count(ids));
        return note(text, add_ids(facts));
    }
    for (file, ids) in both {
        if let Some((owner, start, count)) = overlapping(ids, facts) {
            let text = format!(
                "{file}: {start}:{count} of {owner} overlaps with {name}'s: files in containers of the one belong to \
                 the other too"
            );
            return note(text, format!("# give {owner} other ids:\nsudoedit /etc/subuid /etc/subgid"));
        }
    }
    let kinds = both.map(|(_, ids)| count(ids));
    ok(format!("{} uids and {} gids", kinds[0], kinds[1]))
}

fn add_ids(facts: &Facts) -> String {
    // The first gap at a step of useradd(8), which knows as little as we do of a directory service's ranges.
    let is_free = |start: &u64| {
        let mut lines = facts.subuids.lines.iter().chain(&facts.subgids.lines);
        lines.all(|(_, other, n)| start + ENOUGH_IDS <= *other || other.saturating_add(*n) <= *start)
    };
    let start = (100_000..u64::from(u32::MAX) - ENOUGH_IDS).step_by(65536).find(is_free).unwrap_or(100_000);
    let last = start + ENOUGH_IDS - 1;
    let name = &facts.user.name;
    if facts.user.is_local {
        format!("sudo usermod --add-subuids {start}-{last} --add-subgids {start}-{last} {name}")
    } else {
        // usermod(8) only knows the users of /etc/passwd.
        format!("echo '{name}:{start}:{ENOUGH_IDS}' | sudo tee -a /etc/subuid /etc/subgid")
    }
}

/// Another user's line that has ids of this user.
fn overlapping<'a>(ids: &'a SubordinateIds, facts: &Facts) -> Option<&'a (String, u64, u64)> {
    let number = facts.user.uid.to_string();
    ids.lines.iter().filter(|(owner, ..)| *owner != facts.user.name && *owner != number).find(
        |(_, start, count)| {
            ids.own
                .iter()
                .any(|(own, n)| start < &own.saturating_add(*n) && own < &start.saturating_add(*count))
        },
    )
}

fn helpers(facts: &Facts) -> Verdict {
    if facts.ids_in_namespace.is_some() {
        return ok("not needed: this runs in a user namespace");
    }
    if let Step::Failed(why) = &facts.probe.id_map
        && facts.helpers.iter().all(|(_, helper)| matches!(helper, Helper::Ready(_)))
    {
        let fix = if facts.no_new_privileges {
            "# this shell runs with no_new_privs, under which set-id programs have no power: start coracle from another"
        } else {
            "# the ranges must be the user's: compare\ngrep -H . /etc/subuid /etc/subgid"
        };
        return problem(why.as_str(), fix.to_owned());
    }
    for (name, helper) in &facts.helpers {
        match helper {
            Helper::Ready(_) => {}
            Helper::Missing => {
                return note(
                    format!("{name} is not installed: containers have one id"),
                    install_helpers(facts.family),
                );
            }
            Helper::Powerless(path) => {
                let path = path.display();
                return problem(
                    format!("{path} is neither set-uid root nor has file capabilities"),
                    format!("sudo chmod u+s {path}"),
                );
            }
            Helper::NoSuid(path) => {
                return problem(
                    format!("{} is on a file system that is mounted nosuid", path.display()),
                    format!("sudo mount -o remount,suid \"$(findmnt -n -o TARGET -T {})\"", path.display()),
                );
            }
        }
    }
    ok("newuidmap and newgidmap")
}

fn install_helpers(family: Family) -> String {
    match family {
        Family::Debian => "sudo apt-get install uidmap",
        Family::Fedora => "sudo dnf install shadow-utils",
        Family::Suse => "sudo zypper install shadow",
        Family::Arch => "sudo pacman -S shadow",
        Family::Alpine => "sudo apk add shadow-uidmap",
        Family::Other => "# install newuidmap and newgidmap (package uidmap, shadow or shadow-utils)",
    }
    .to_owned()
}

fn overlay(facts: &Facts) -> Verdict {
    match &facts.probe.overlay {
        Step::Worked => ok("mounted and written to in a user namespace"),
        Step::NotTried => problem("not tried: a step before it failed", None),
        Step::Failed(why) => problem(why.as_str(), overlay_fix(facts)),
    }
}

fn overlay_fix(facts: &Facts) -> Option<String> {
    if apparmor_takes_capabilities(facts) || facts.data.error.is_some() {
        return None;
    }
    if facts.data.kind == "overlay" || !facts.data.has_xattrs {
        return Some(OTHER_ROOT.to_owned());
    }
    Some("sudo modprobe overlay".to_owned())
}

const OTHER_ROOT: &str =
    "# keep the data on ext4, xfs, btrfs or tmpfs:\nexport CORACLE_ROOT=/some/other/folder";

fn namespaces(facts: &Facts) -> Verdict {
    let blocked = |why: &str| {
        let fix = match facts.sysctls.max_user_namespaces {
            Some(0) => Some(sysctl("user.max_user_namespaces", "28633", "userns")),
            _ => facts.inside.as_ref().map(|_| outer_fix(facts)),
        };
        problem(why, fix)
    };
    match (&facts.probe.nested, &facts.probe.proc) {
        (Step::Worked, Step::Worked) => {
            ok("user, mount, pid, net, ipc, uts and cgroup, with a /proc of their own")
        }
        (Step::Worked, Step::Failed(why)) => blocked(&format!("a /proc cannot be mounted: {why}")),
        (Step::Failed(why), _) => blocked(&format!("a container's cannot be made: {why}")),
        _ => problem("not tried: a step before it failed", None),
    }
}

fn seccomp(facts: &Facts) -> Verdict {
    if facts.has_seccomp {
        ok("seccomp")
    } else {
        problem(
            "this kernel has no seccomp filters",
            "# use a kernel with CONFIG_SECCOMP_FILTER; until then --security-opt seccomp=unconfined"
                .to_owned(),
        )
    }
}

const GIB: u64 = 1 << 30;

fn data(facts: &Facts) -> Verdict {
    let data = &facts.data;
    let path = data.path.display();
    if let Some(error) = &data.error {
        return problem(format!("{path} cannot be written to: {error}"), OTHER_ROOT.to_owned());
    }
    let space = format!("{} GiB free", data.free / GIB);
    let what = format!("{path} ({}, {space})", data.kind);
    if data.kind.starts_with("nfs") || data.kind == "cifs" {
        return problem(
            format!("{what} is on a network file system, which cannot hold layers"),
            OTHER_ROOT.to_owned(),
        );
    }
    if !data.has_xattrs {
        return problem(
            format!("{what}: files cannot have user.* attributes, which layers need"),
            OTHER_ROOT.to_owned(),
        );
    }
    if data.free < GIB || data.free_files < 20_000 {
        return note(
            format!("{what}: almost full"),
            "coracle images     # and 'coracle rmi' what is not needed\ncoracle volume prune".to_owned(),
        );
    }
    if data.no_exec {
        return note(
            format!("{what} is mounted noexec: programs on named volumes cannot be run"),
            OTHER_ROOT.to_owned(),
        );
    }
    ok(what)
}

fn runtime(facts: &Facts) -> Verdict {
    let run = &facts.run;
    let path = run.path.display();
    if !run.is_tmpfs {
        return note(
            format!("{path} is no tmpfs: the state of running containers is written to a disk"),
            Some("# log in by a session manager that sets XDG_RUNTIME_DIR, or\nexport CORACLE_RUNROOT=/dev/shm/coracle-$(id -u)".to_owned()),
        );
    }
    match run.has_xdg {
        true => ok(format!("{path}")),
        false => note(
            format!("{path}; XDG_RUNTIME_DIR is not set"),
            Some("export XDG_RUNTIME_DIR=/run/user/$(id -u)".to_owned()),
        ),
    }
}

fn cgroups(facts: &Facts) -> Verdict {
    let cgroups = &facts.cgroups;
    let boot = "# boot with systemd.unified_cgroup_hierarchy=1 (the default of Debian 11, Ubuntu 21.10, Fedora 31, RHEL 9)";
    match cgroups.kind {
        CgroupKind::Unified => {}
        CgroupKind::Hybrid | CgroupKind::Legacy => {
            return note(
                "version 1: containers run without limits on memory, CPU and processes",
                boot.to_owned(),
            );
        }
        CgroupKind::None => return note("none at /sys/fs/cgroup: containers run without limits", None),
    }
    if !cgroups.is_delegated && !facts.session.has_user_manager {
        return note(
            "version 2, not delegated to this user: containers run without limits",
            session_fix(facts),
        );
    }
    let wanted = ["cpu", "io", "memory", "pids"];
    let missing: Vec<_> =
        wanted.into_iter().filter(|c| !cgroups.controllers.iter().any(|has| has == c)).collect();
    if missing.is_empty() {
        return ok(format!("version 2, delegated: {}", cgroups.controllers.join(" ")));
    }
    note(
        format!("version 2, without {}: no limits on these", missing.join(" and ")),
        facts.session.has_systemd.then(|| {
            "sudo mkdir -p /etc/systemd/system/user@.service.d\n\
             printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf\n\
             sudo systemctl daemon-reload\n# then log out and in again"
                .to_owned()
        }),
    )
}

fn session_fix(facts: &Facts) -> Option<String> {
    facts.session.has_systemd.then(|| format!("sudo loginctl enable-linger {}", facts.user.name))
}

fn session(facts: &Facts) -> Verdict {
    let session = &facts.session;
    match (session.has_systemd, session.has_user_manager, session.lingers) {
        (false, ..) => note("no systemd: containers are not started again after a reboot", None),
        (true, false, _) => note("no systemd of the user's own (su and sudo start none)", session_fix(facts)),
        (true, true, true) => ok("systemd, and it outlives the last session"),
        (true, true, false) => {
            note("systemd; it, and what runs under it, may end with the last session", session_fix(facts))
        }
    }
}

fn security_modules(facts: &Facts) -> Verdict {
    let mut found = Vec::new();
    if let Some(label) = &facts.apparmor {
        let restricted = facts.sysctls.apparmor_restricts_userns.is_some_and(|n| n > 0);
        let lifted = restricted && !apparmor_restricts(facts);
        found.push(format!(
            "AppArmor ({label}{})",
            if lifted { ", which may have user namespaces" } else { "" }
        ));
    }
    if let Some(enforces) = facts.selinux {
        found.push(format!("SELinux ({})", if enforces { "enforcing" } else { "permissive" }));
    }
    ok(if found.is_empty() { "none".to_owned() } else { found.join(", ") })
}

fn fuse(facts: &Facts) -> Verdict {
    device(facts.fuse, "/dev/fuse", "fuse", "file systems in user space cannot be mounted in containers")
}

fn tun(facts: &Facts) -> Verdict {
    device(facts.tun, "/dev/net/tun", "tun", "containers can have no network but the host's")
}

fn device(device: Device, path: &str, module: &str, without: &str) -> Verdict {
    match device {
        Device::Ready => ok("can be opened"),
        Device::Missing => note(
            format!("not there: {without}"),
            format!("echo {module} | sudo tee /etc/modules-load.d/{module}.conf && sudo modprobe {module}"),
        ),
        Device::Denied => note(format!("not for this user: {without}"), format!("sudo chmod 0666 {path}")),
    }
}

fn ping(facts: &Facts) -> Verdict {
    let gid = u64::from(facts.user.gid);
    match facts.sysctls.ping_groups {
        Some((first, last)) if (first..=last).contains(&gid) => ok("allowed to this user's group"),
        Some(_) => note(
            format!("group {gid} may not send it (net.ipv4.ping_group_range)"),
            sysctl("net.ipv4.ping_group_range", "0 2147483647", "ping"),
        ),
        None => note("the kernel does not say who may (no net.ipv4.ping_group_range)", None),
    }
}

fn low_ports(facts: &Facts) -> Verdict {
    match facts.sysctls.first_open_port {
        Some(first) if first <= 80 => ok(format!("open from {first} on")),
        Some(first) => note(
            format!("ports below {first} cannot be listened on"),
            sysctl("net.ipv4.ip_unprivileged_port_start", "80", "low-ports"),
        ),
        None => ok("not restricted"),
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
