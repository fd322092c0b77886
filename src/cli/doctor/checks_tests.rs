//! A machine where all is well, and what each thing that is not does to the report.

use super::super::facts::{Cgroups, DataRoot, RunRoot, Session, Sysctls, User};
use super::super::probe::Probe;
use super::*;

fn healthy() -> Facts {
    let ids = SubordinateIds {
        lines: vec![("ann".into(), 100_000, 65536), ("bob".into(), 165_536, 65536)],
        own: vec![(100_000, 65536)],
    };
    Facts {
        user: User { name: "ann".into(), uid: 1000, gid: 1000, is_local: true },
        family: Family::Debian,
        kernel: "6.12.43+deb13-amd64".into(),
        program: "/usr/bin/coracle".into(),
        probe: Probe {
            namespace: Step::Worked,
            id_map: Step::Worked,
            overlay: Step::Worked,
            nested: Step::Worked,
            proc: Step::Worked,
        },
        sysctls: Sysctls {
            unprivileged_userns_clone: Some(1),
            max_user_namespaces: Some(100_000),
            apparmor_restricts_userns: None,
            ping_groups: Some((0, 2_147_483_647)),
            first_open_port: Some(80),
        },
        apparmor: Some("unconfined".into()),
        selinux: None,
        subuids: ids.clone(),
        subgids: ids,
        ids_in_namespace: None,
        helpers: ["newuidmap", "newgidmap"].map(|n| (n, Helper::Ready(format!("/usr/bin/{n}").into()))),
        no_new_privileges: false,
        has_seccomp: true,
        cgroups: Cgroups {
            kind: CgroupKind::Unified,
            controllers: ["cpu", "io", "memory", "pids"].map(str::to_owned).to_vec(),
            is_delegated: false,
        },
        session: Session { has_systemd: true, has_user_manager: true, lingers: true },
        run: RunRoot { path: "/run/user/1000/coracle".into(), has_xdg: true, is_tmpfs: true },
        data: DataRoot {
            path: "/home/ann/.local/share/coracle".into(),
            error: None,
            kind: "ext4".into(),
            free: 50 * GIB,
            free_files: 1_000_000,
            has_xattrs: true,
            no_exec: false,
        },
        fuse: Device::Ready,
        tun: Device::Ready,
        inside: None,
    }
}

fn failed(why: &str) -> Step {
    Step::Failed(why.to_owned())
}

#[test]
fn a_healthy_machine_has_nothing_to_remark() {
    let findings = findings(&healthy());
    assert!(findings.iter().all(|f| f.status == Status::Ok && f.fix.is_none()), "{findings:#?}");
}

/// What is changed, the check that must notice, how bad it is, and a part of the fix.
type Case = (&'static str, fn(&mut Facts), Status, &'static str);

const CASES: &[Case] = &[
    ("user", |f| f.user.uid = 0, Status::Note, ""),
    ("kernel", |f| f.kernel = "5.10.0-30-amd64".into(), Status::Problem, "Linux 5.12"),
    ("kernel", |f| f.kernel = "4.18.0".into(), Status::Problem, "newer"),
    ("surroundings", |f| f.inside = Some("docker".into()), Status::Note, ""),
    (
        "user namespaces",
        |f| {
            f.probe = Probe { namespace: failed("operation not permitted"), ..Probe::default() };
            f.sysctls.unprivileged_userns_clone = Some(0);
        },
        Status::Problem,
        "echo 'kernel.unprivileged_userns_clone = 1' | sudo tee",
    ),
    (
        "user namespaces",
        |f| {
            f.probe = Probe { namespace: failed("no space left on device"), ..Probe::default() };
            f.sysctls.max_user_namespaces = Some(0);
        },
        Status::Problem,
        "user.max_user_namespaces = ",
    ),
    (
        "user namespaces",
        |f| {
            f.probe.overlay = failed("permission denied");
            f.sysctls.apparmor_restricts_userns = Some(1);
        },
        Status::Problem,
        "profile coracle \"/usr/bin/coracle\" flags=(unconfined) {\n  userns,\n}",
    ),
    (
        "user namespaces",
        |f| {
            f.probe = Probe { namespace: failed("operation not permitted"), ..Probe::default() };
            f.inside = Some("docker".into());
        },
        Status::Problem,
        "docker run --security-opt seccomp=unconfined",
    ),
    (
        "subordinate ids",
        |f| f.subgids.own.clear(),
        Status::Note,
        "sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 ann",
    ),
    (
        "subordinate ids",
        |f| {
            f.subuids = SubordinateIds::default();
            f.subgids = SubordinateIds::default();
            f.user.is_local = false;
        },
        Status::Note,
        "echo 'ann:100000:65536' | sudo tee -a /etc/subuid /etc/subgid",
    ),
    ("subordinate ids", |f| f.subuids.own = vec![(100_000, 1000)], Status::Note, "sudo usermod"),
    ("subordinate ids", |f| f.subuids.lines[1].1 = 165_535, Status::Note, "give bob other ids"),
    ("subordinate ids", |f| f.ids_in_namespace = Some(1), Status::Note, ""),
    ("id map helpers", |f| f.helpers[1].1 = Helper::Missing, Status::Note, "apt-get install uidmap"),
    (
        "id map helpers",
        |f| {
            f.helpers[0].1 = Helper::Powerless("/usr/bin/newuidmap".into());
            f.probe.id_map = failed("newuidmap failed");
        },
        Status::Problem,
        "sudo chmod u+s /usr/bin/newuidmap",
    ),
    ("id map helpers", |f| f.helpers[0].1 = Helper::NoSuid("/n".into()), Status::Problem, "remount,suid"),
    (
        "id map helpers",
        |f| {
            f.probe.id_map = failed("newuidmap failed: operation not permitted");
            f.no_new_privileges = true;
        },
        Status::Problem,
        "no_new_privs",
    ),
    ("overlay", |f| f.probe.overlay = failed("no such device"), Status::Problem, "modprobe overlay"),
    (
        "overlay",
        |f| {
            f.probe.overlay = failed("invalid argument");
            f.data.kind = "overlay".into();
        },
        Status::Problem,
        "CORACLE_ROOT",
    ),
    (
        "namespaces",
        |f| {
            f.probe.proc = failed("operation not permitted");
            f.inside = Some("podman".into());
        },
        Status::Problem,
        "unmask=ALL",
    ),
    ("system call filter", |f| f.has_seccomp = false, Status::Problem, "CONFIG_SECCOMP_FILTER"),
    ("data directory", |f| f.data.kind = "nfs4".into(), Status::Problem, "CORACLE_ROOT"),
    ("data directory", |f| f.data.has_xattrs = false, Status::Problem, "CORACLE_ROOT"),
    ("data directory", |f| f.data.error = Some("read-only".into()), Status::Problem, "CORACLE_ROOT"),
    ("data directory", |f| f.data.free = GIB - 1, Status::Note, "volume prune"),
    ("data directory", |f| f.data.free_files = 10, Status::Note, "volume prune"),
    ("data directory", |f| f.data.no_exec = true, Status::Note, "CORACLE_ROOT"),
    ("runtime directory", |f| f.run.is_tmpfs = false, Status::Note, "CORACLE_RUNROOT"),
    ("runtime directory", |f| f.run.has_xdg = false, Status::Note, "XDG_RUNTIME_DIR"),
    ("cgroups", |f| f.cgroups.kind = CgroupKind::Hybrid, Status::Note, "unified_cgroup_hierarchy"),
    (
        "cgroups",
        |f| f.cgroups.controllers = vec!["memory".into(), "pids".into()],
        Status::Note,
        "Delegate=cpu",
    ),
    ("cgroups", |f| f.session.has_user_manager = false, Status::Note, "enable-linger ann"),
    ("user session", |f| f.session.lingers = false, Status::Note, "enable-linger ann"),
    ("user session", |f| f.session.has_systemd = false, Status::Note, ""),
    ("/dev/fuse", |f| f.fuse = Device::Missing, Status::Note, "modprobe fuse"),
    ("/dev/net/tun", |f| f.tun = Device::Denied, Status::Note, "sudo chmod 0666 /dev/net/tun"),
    ("ping", |f| f.sysctls.ping_groups = Some((1, 0)), Status::Note, "0 2147483647"),
    ("low ports", |f| f.sysctls.first_open_port = Some(1024), Status::Note, "port_start = 80"),
];

#[test]
fn each_defect_is_noticed_with_its_fix() {
    for (i, (check, break_it, status, fix)) in CASES.iter().enumerate() {
        let mut facts = healthy();
        break_it(&mut facts);
        let findings = findings(&facts);
        let finding = findings.iter().find(|f| f.check == *check).unwrap();
        assert_eq!(finding.status, *status, "case {i}: {finding:#?}");
        let found = finding.fix.as_deref().unwrap_or_default();
        assert!(found.contains(fix) && found.is_empty() == fix.is_empty(), "case {i}: {finding:#?}");
    }
}

#[test]
fn every_check_has_a_case() {
    // That a security module is there is no defect.
    let told_only = ["security modules"];
    for (check, _) in CHECKS {
        assert!(CASES.iter().any(|case| case.0 == check) || told_only.contains(&check), "{check}");
    }
}

#[test]
fn a_profile_that_lifts_the_restriction_is_named() {
    let mut facts = healthy();
    facts.sysctls.apparmor_restricts_userns = Some(1);
    facts.apparmor = Some("coracle (unconfined)".into());
    facts.selinux = Some(true);
    let (status, text, _) = security_modules(&facts);
    assert_eq!(status, Status::Ok);
    assert_eq!(text, "AppArmor (coracle (unconfined), which may have user namespaces), SELinux (enforcing)");
}

#[test]
fn in_a_user_namespace_helpers_are_not_needed() {
    let mut facts = healthy();
    facts.ids_in_namespace = Some(65537);
    facts.helpers = facts.helpers.map(|(name, _)| (name, Helper::Missing));
    facts.subuids.own.clear();
    assert_eq!(subordinate_ids(&facts).0, Status::Ok);
    assert_eq!(helpers(&facts).0, Status::Ok);
}

#[test]
fn new_ids_are_in_a_gap() {
    let mut facts = healthy();
    facts.subgids.lines = vec![("carl".into(), 231_073, 1), ("dora".into(), 4_294_000_000, 65536)];
    facts.subuids.own.clear();
    assert!(subordinate_ids(&facts).2.unwrap().contains("296608-362143"));
}
