//! Row 10: capabilities, system calls, and what privileges cannot buy.

use crate::STATUS;
use crate::support::{Engine, image};

/// podman's eleven: chown dac_override fowner fsetid kill net_bind_service setfcap setgid setpcap setuid sys_chroot.
const DEFAULT: &str = "00000000800405fb";
const NONE: &str = "0000000000000000";

fn field(status: &str, name: &str) -> String {
    let line = status
        .lines()
        .find(|line| line.starts_with(&format!("{name}:")))
        .unwrap_or_else(|| panic!("{status}"));
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[test]
fn capabilities_and_filter_are_podmans() {
    let engine = engine!();
    let status = engine.sh(&[], STATUS);
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(&status, name), DEFAULT, "{name}");
    }
    // CVE-2022-24769, CVE-2022-27649: an inheritable set that is not empty survives a set-id exec.
    assert_eq!(field(&status, "CapInh"), NONE);
    assert_eq!(field(&status, "CapAmb"), NONE);
    assert_eq!(field(&status, "Seccomp"), "2");
}

#[test]
fn another_user_has_no_capabilities() {
    let engine = engine!();
    let status = engine.sh(&["-u", "alice"], STATUS);
    for name in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, name), NONE, "{name}");
    }
    assert_eq!(field(&status, "Seccomp"), "2");
}

#[test]
fn groups_of_the_caller_are_not_kept() {
    let engine = engine!();
    // Its own one only, which also is a supplementary one (CVE-2022-36109).
    assert_eq!(field(&engine.sh(&["-u", "12345:777"], STATUS), "Groups"), "777");
}

#[test]
fn capabilities_are_added_and_dropped_as_asked() {
    let engine = engine!();
    let effective =
        |flags: &[&str]| u64::from_str_radix(&field(&engine.sh(flags, STATUS), "CapEff"), 16).unwrap();
    let default = u64::from_str_radix(DEFAULT, 16).unwrap();
    let (net_raw, kill, mknod) = (1 << 13, 1 << 5, 1 << 27);
    assert_eq!(effective(&["--cap-add", "NET_RAW"]), default | net_raw);
    assert_eq!(effective(&["--cap-add", "cap_mknod", "--cap-drop", "kill"]), (default | mknod) & !kill);
    assert_eq!(effective(&["--cap-drop", "ALL"]), 0);
    assert_eq!(effective(&["--cap-drop", "all", "--cap-add", "KILL"]), kill);
    assert!(effective(&["--cap-add", "ALL"]) > default << 1);
    assert!(effective(&["--privileged"]) > default << 1);
}

#[test]
fn the_filter_can_be_changed_only_by_asking() {
    let engine = engine!();
    assert_eq!(field(&engine.sh(&["--security-opt", "seccomp=unconfined"], STATUS), "Seccomp"), "0");
    let profile = engine.file("profile.json", r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#);
    let output = engine.sh(
        &["--security-opt", &format!("seccomp={profile}")],
        "mkdir /x 2>/dev/null || echo refused; touch /y && echo made",
    );
    assert_eq!(output, "refused\nmade");
    assert_eq!(field(&engine.sh(&["--security-opt", "no-new-privileges"], STATUS), "NoNewPrivs"), "1");
}

/// Calls by number, with arguments that would succeed or fail otherwise; prints `name errno`.
fn calls(engine: &Engine, flags: &[&str]) -> String {
    let python = image("python:gz");
    engine.ok(&["pull", "-q", &python]);
    let program = r#"
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
X = platform.machine() == "x86_64"
def call(name, x86, arm, *args):
    number = x86 if X else arm
    if number is None: return
    pid = os.fork()
    if pid == 0:
        r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
        os._exit(ctypes.get_errno() if r == -1 else 0)
    print(name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
call("mount", 165, 40, b"none", b"/mnt", b"tmpfs", 0, None)
call("swapon", 167, 224, b"/etc/passwd", 0)
call("reboot", 169, 142, 0xfee1dead, 672274793, 0, None)
call("init_module", 175, 105, None, 0, b"")
call("finit_module", 313, 273, 0, b"", 0)
call("kexec_load", 246, 104, 0, 0, None, 0)
call("bpf", 321, 280, 0, None, 0)
call("open_by_handle_at", 304, 265, -1, None, 0)
call("settimeofday", 164, 170, b"\0" * 16, None)
call("acct", 163, 89, None)
call("quotactl", 179, 60, 0, None, 0, None)
call("perf_event_open", 298, 241, None, 0, -1, -1, 0)
call("vhangup", 153, 58)
call("syslog", 103, 116, 2, b"x", 1)
call("iopl", 172, None, 3)
call("unknown", 9999, 9999)
"#;
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend([&python, "python3", "-c", program]);
    engine.ok(&args)
}

#[test]
fn system_calls_for_the_hosts_administrator_are_refused() {
    let engine = engine!();
    for line in calls(&engine, &[]).lines() {
        let (name, errno) = line.split_once(' ').unwrap();
        // EPERM (1); ENOSYS (38) for what the profile does not know, so that programs fall back.
        let expected: &[&str] = if name == "unknown" { &["38"] } else { &["1", "38"] };
        assert!(expected.contains(&errno), "{line}");
    }
}

#[test]
fn all_privileges_reach_only_the_containers_own_namespaces() {
    let engine = engine!();
    for line in calls(&engine, &["--privileged"]).lines() {
        let (name, errno) = line.split_once(' ').unwrap();
        // In its own mount namespace it may mount.
        if !matches!(name, "mount" | "unknown" | "quotactl" | "bpf" | "perf_event_open" | "open_by_handle_at")
        {
            assert_ne!(errno, "0", "{line}");
        }
    }
    let outside = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    engine.sh(&["--privileged"], "hostname intruder; cat /proc/sys/kernel/hostname");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), outside);
}

#[test]
fn devices_cannot_be_made_or_opened() {
    let engine = engine!();
    for flags in [&[][..], &["--cap-add", "MKNOD"], &["--privileged"]] {
        let script = "for d in 'b 8 0' 'b 254 0' 'c 1 1' 'c 10 229'; do rm -f /node; mknod /node $d 2>/dev/null && dd if=/node of=/dev/null bs=512 count=1 2>/dev/null && echo opened $d; done; echo done";
        assert_eq!(engine.sh(flags, script), "done");
    }
}

#[test]
fn device_nodes_of_an_image_are_dead() {
    let engine = engine!();
    let layer =
        crate::support::image::Layer::new().device("memory", 1, 1).device("disk", 8, 0).device("zero", 1, 5);
    let image = crate::support::image::Image::tiny_with(vec![layer]);
    let output = crate::run_image(
        &engine,
        &image,
        &[],
        "for f in /memory /disk /zero; do od -N1 $f >/dev/null 2>&1 && echo opened $f; done; echo done",
    );
    assert!(output.stdout == "done\n" || output.code == 125, "{output}");
}

#[test]
fn a_process_of_another_container_or_of_the_host_cannot_be_signalled() {
    let engine = engine!();
    engine.start_sleeper("other");
    let pid = engine.pid_of("other");
    engine.sh(
        &["--privileged"],
        &format!("kill -9 {pid} 2>/dev/null; kill -9 -1 2>/dev/null; true; echo done"),
    );
    assert_eq!(engine.inspect("other", "{{.State.Running}}"), "true");
}

/// Without a filter keyctl(2) reaches a session keyring: it must not be the caller's, which all would have in common.
#[test]
fn the_session_keyring_of_the_caller_is_not_the_containers() {
    let engine = engine!();
    let ask = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))";
    let image = crate::support::image("python:gz");
    let run = |flags: &[&str]| {
        let base = ["run", "--rm", "-q", "--network", "none"];
        engine.ok(&[&base[..], flags, &[&image, "python3", "-c", ask]].concat())
    };
    let mut keyrings = vec![
        run(&["--privileged"]),
        run(&["--privileged"]),
        run(&["--security-opt", "seccomp=unconfined"]),
        run(&["--security-opt", "seccomp=unconfined", "-u", "1234"]),
    ];
    assert!(keyrings.iter().all(|k| k.parse::<i32>().is_ok_and(|k| k > 0)), "{keyrings:?}");
    keyrings.sort();
    keyrings.dedup();
    assert_eq!(keyrings.len(), 4, "{keyrings:?}");
    assert_eq!(run(&[]), "-1");
}
