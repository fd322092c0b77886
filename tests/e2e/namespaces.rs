//! Which namespaces a container has for itself, and which it shares.

use crate::support::{Engine, eventually, tiny};
use crate::userns::has_subordinate_ids;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

fn own(namespace: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap().to_str().unwrap().to_owned()
}

fn namespaces(engine: &Engine, flags: &[&str]) -> Vec<String> {
    let script = "for n in user mnt pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done";
    engine.sh(flags, script).lines().map(str::to_owned).collect()
}

#[test]
fn a_container_has_all_namespaces_for_itself() {
    let engine = engine!();
    let found = namespaces(&engine, &[]);
    for (namespace, found) in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"].iter().zip(found) {
        assert_ne!(own(namespace), found, "{namespace}");
    }
}

#[test]
fn pid_host_shows_the_hosts_processes_and_leaves_none_behind() {
    let engine = engine!();
    assert_eq!(engine.sh(&["--pid", "host"], "readlink /proc/self/ns/pid"), own("pid"));
    let me = std::process::id();
    assert_eq!(engine.sh(&["--pid", "host"], &format!("test -d /proc/{me} && echo seen")), "seen");
    let output = engine
        .sh(&["--pid", "host"], "grep -c ' /proc/sys ro' /proc/self/mountinfo; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo ro");
    assert!(output.starts_with("1\n") && output.ends_with("ro"), "{output}");
    // A process in the background that outlives the first one.
    let marker = format!("31{me}");
    engine.sh(&["--pid", "host"], &format!("sleep {marker} </dev/null >/dev/null 2>&1 & sleep 0.1"));
    let alive =
        || Command::new("pgrep").args(["-f", &format!("^sleep {marker}")]).status().unwrap().success();
    eventually("the container's last process is gone", || !alive());
    // A second process can be executed in it, and it can be stopped.
    engine.start_script("h", &["--pid", "host"], SLEEP);
    assert_eq!(engine.ok(&["exec", "h", "readlink", "/proc/self/ns/pid"]), own("pid"));
    assert_eq!(engine.inspect("h", "{{.HostConfig.PidMode}}"), "host");
    engine.ok(&["stop", "h"]);
}

#[test]
fn ipc_and_uts_can_be_the_hosts() {
    let engine = engine!();
    let flags = ["--ipc", "host", "--uts", "host"];
    let found = engine
        .sh(&flags, "readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; hostname; stat -c %d /dev/shm");
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let shm = fs::metadata("/dev/shm").unwrap().dev();
    assert_eq!(found, format!("{}\n{}\n{}\n{shm}", own("ipc"), own("uts"), host_name.trim()));
    engine.start_script("h", &flags, SLEEP);
    assert_eq!(engine.ok(&["exec", "h", "readlink", "/proc/self/ns/ipc"]), own("ipc"));
    engine.try_sh(&["--uts", "host", "-h", "x"], "true").explains(125, &["hostname", "host's UTS namespace"]);
    engine.try_sh(&["--ipc", "host", "--shm-size", "1m"], "true").explains(125, &["shm-size"]);
}

#[test]
fn ipc_none_has_no_shared_memory() {
    let engine = engine!();
    assert_eq!(engine.sh(&["--ipc", "none"], "test ! -e /dev/shm && echo none"), "none");
    assert_eq!(
        engine.sh(
            &["--ipc", "private", "--shm-size", "2m"],
            "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"
        ),
        "2048"
    );
}

#[test]
fn a_container_joins_anothers_processes_memory_and_names() {
    let engine = engine!();
    engine.start_script("x", &["-h", "joined"], &format!("echo shared > /dev/shm/f; {SLEEP}"));
    let other =
        |namespace: &str| engine.ok(&["exec", "x", "readlink", &format!("/proc/self/ns/{namespace}")]);
    let flags = ["--pid", "container:x", "--ipc", "container:x", "--uts", "container:x"];
    let script = "for n in user pid ipc uts mnt; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/comm; cat /dev/shm/f; grep -c ' /proc/sys ro' /proc/self/mountinfo";
    eventually("it has written", || engine.run(&["exec", "x", "test", "-s", "/dev/shm/f"]).code == 0);
    let lines: Vec<String> = engine.sh(&flags, script).lines().map(str::to_owned).collect();
    assert_eq!(lines[..4], ["user", "pid", "ipc", "uts"].map(other), "{lines:?}");
    assert_ne!(lines[4], other("mnt"), "its files are its own");
    assert_eq!(lines[5..], ["joined", "sh", "shared", "1"], "{lines:?}");
    // One alone is enough, and the others stay its own.
    assert_eq!(engine.sh(&["--pid", "container:x"], "readlink /proc/self/ns/pid"), other("pid"));
    assert_ne!(engine.sh(&["--pid", "container:x"], "readlink /proc/self/ns/ipc"), other("ipc"));
    // The other goes on when this one ends, without what this one left behind.
    engine.sh(&["--pid", "container:x"], "sleep 7777 </dev/null >/dev/null 2>&1 & sleep 0.1");
    let processes = engine.ok(&["exec", "x", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]);
    assert!(!processes.contains("sleep 7777"), "{processes}");
    assert_eq!(engine.inspect("x", "{{.State.Running}}"), "true");
}

#[test]
fn what_cannot_be_joined_is_explained() {
    let engine = engine!();
    engine.start_script("closed", &["--ipc", "private"], SLEEP);
    engine.start_script("open", &[], SLEEP);
    engine.ok(&["create", "--name", "still", "--network", "none", &tiny(), "true"]);
    for (flags, words) in [
        (&["--ipc", "container:closed"][..], &["closed", "does not share its IPC namespace"][..]),
        (&["--pid", "container:still"], &["still", "not running"]),
        (&["--pid", "container:nobody"], &["no such container", "nobody"]),
        (&["--pid", "container:open", "--uts", "container:closed"], &["open", "closed", "one container"]),
        (&["--pid", "container:open", "--userns", "nomap"], &["user namespace"]),
        (&["--pid", "ns:/proc/1/ns/pid"], &["--pid"]),
        (&["--uts", "container:open", "-h", "x"], &["hostname"]),
    ] {
        engine.try_sh(flags, "true").explains(125, words);
    }
    // The other is stopped between creating and starting.
    engine.ok(&["create", "--name", "late", "--network", "none", "--pid", "container:open", &tiny(), "true"]);
    engine.ok(&["stop", "open"]);
    engine.run(&["start", "-a", "late"]).explains(125, &["open", "not running"]);
}

#[test]
fn sysctls_are_set_in_the_containers_own_namespaces() {
    let engine = engine!();
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let flags = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "net.core.somaxconn=77",
        "--domainname",
        "example.org",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn /proc/sys/kernel/domainname";
    assert_eq!(engine.sh(&flags, script), "1\n77\nexample.org");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), before);
    engine.start_script("s", &flags, SLEEP);
    assert_eq!(
        engine.inspect("s", "{{json .HostConfig.Sysctls}} {{.Config.Domainname}}"),
        r#"{"net.core.somaxconn":"77","net.ipv4.ip_forward":"1"} example.org"#
    );
    engine.try_sh(&["--sysctl", "kernel.panic=1"], "true").explains(125, &["kernel.panic", "is not allowed"]);
    engine
        .try_sh(&["--sysctl", "net.ipv4.nothing=1"], "true")
        .explains(125, &["net.ipv4.nothing", "sysctl -a"]);
    engine
        .try_sh(&["--sysctl", "net.ipv4.ip_forward=x"], "true")
        .explains(125, &["net.ipv4.ip_forward", "value"]);
    engine
        .try_sh(&["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"], "true")
        .explains(125, &["network"]);
    engine.try_sh(&["--ipc", "host", "--sysctl", "kernel.shmmax=1"], "true").explains(125, &["IPC"]);
}

#[test]
fn shared_memory_settings_are_the_containers_own() {
    let engine = engine!();
    let output = engine.try_sh(&["--sysctl", "kernel.shmmni=99"], "cat /proc/sys/kernel/shmmni");
    // Kernels before 5.19 let nobody but the host's root set them.
    require!(!output.stderr.contains("permission denied"), "this kernel keeps IPC settings for root");
    assert_eq!(output.ok(), "99");
}

#[test]
fn auto_gives_each_container_ids_of_its_own() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let flags = ["--userns", "auto:size=2000"];
    for name in ["a", "b"] {
        engine.start_script(name, &flags, SLEEP);
    }
    let range = |name: &str| -> (u64, u64) {
        let pid = engine.pid_of(name);
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let words: Vec<u64> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!((words.len(), words[0], words[2]), (3, 0, 2000), "{map}");
        (words[1], words[1] + 2000)
    };
    let (a, b) = (range("a"), range("b"));
    assert!(a.1 <= b.0 || b.1 <= a.0, "they overlap: {a:?} {b:?}");
    let me = u64::from(rustix::process::getuid().as_raw());
    assert!([a, b].iter().all(|r| !(r.0..r.1).contains(&me)), "the user is nobody inside");
    assert_eq!(engine.inspect("a", "{{.HostConfig.UsernsMode}}"), "auto");
    // Everything works that works otherwise.
    assert_eq!(
        engine.ok(&["exec", "b", "sh", "-c", "id -u; touch /root/x && stat -c %u /root/x /data/seed"]),
        "0\n0\n1000"
    );
    // A range is free when its container is gone, and not before.
    engine.ok(&["stop", "a"]);
    engine.start_script("c", &flags, SLEEP);
    let c = range("c");
    assert!(c != a && c != b);
    engine.ok(&["rm", "-f", "a"]);
    engine.start_script("d", &flags, SLEEP);
    assert_eq!(range("d"), a);
}

#[test]
fn auto_takes_what_the_image_needs_and_tells_when_there_is_no_more() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let map = engine.sh(&["--userns", "auto"], "cat /proc/self/uid_map; id -u");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), ("0", "4001", "0"), "its group file has 4000: {map}");
    engine.start_script("all", &["--userns", "auto:size=40000"], SLEEP);
    engine
        .try_sh(&["--userns", "auto:size=40000"], "true")
        .explains(125, &["40000", "subordinate ids", "auto:size=N"]);
    assert_eq!(engine.sh(&["--userns", "auto:size=2000"], "echo ok"), "ok");
}

#[test]
fn many_containers_at_once_never_share_a_range() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let image = tiny();
    let name = |n: i32| format!("p{n}");
    let children: Vec<_> = (0..6)
        .map(|n| {
            let name = name(n);
            let args = [
                "create",
                "--name",
                &name,
                "--network",
                "none",
                "--userns",
                "auto:size=1500",
                &image,
                "true",
            ];
            engine.command(&args).stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    assert!(children.into_iter().all(|mut child| child.wait().unwrap().success()));
    let mut firsts: Vec<String> =
        (0..6).map(|n| engine.inspect(&name(n), "{{index .HostConfig.IDMappings.UidMap 0}}")).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 6, "{firsts:?}");
}

#[test]
fn nomap_keeps_the_user_out() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let dir = engine.folder("mine");
    fs::write(format!("{dir}/f"), "x").unwrap();
    fs::set_permissions(format!("{dir}/f"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let flags = ["--userns", "nomap", "-v", &format!("{dir}:/mnt"), "-v", "vol:/vol", "--tmpfs", "/t"];
    let script = "id -u; stat -c %u /mnt/f; cat /mnt/f 2>&1; touch /vol/x /t/x; stat -c %u /vol/x; echo out > /dev/stdout";
    let output = engine.sh(&flags, script);
    assert_eq!(output, "0\n65534\ncat: can't open '/mnt/f': Permission denied\n0\nout");
    let map = engine.sh(&["--userns", "nomap"], "cat /proc/self/uid_map");
    let outside: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(outside, 1, "the first subordinate id, as the user's namespace counts: {map}");
    assert_eq!(
        engine.sh(
            &["--userns", "nomap", "--init", "-u", "alice"],
            "id -un; cat /data/seed | wc -c | tr -d ' '"
        ),
        engine.sh(&["-u", "alice"], "id -un; cat /data/seed | wc -c | tr -d ' '")
    );
}

#[test]
fn a_terminal_and_a_start_again_work_without_the_user() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    assert_eq!(engine.sh(&["-t", "--userns", "auto"], "tty").trim(), "/dev/pts/0");
    engine.ok(&[
        "run",
        "--network",
        "none",
        "--name",
        "again",
        "--userns",
        "auto",
        &tiny(),
        "sh",
        "-c",
        "echo x >> /root/n; wc -l < /root/n",
    ]);
    assert_eq!(engine.ok(&["start", "-a", "again"]).trim(), "2");
    engine.ok(&["rm", "again"]);
    assert!(engine.names().is_empty());
}

#[test]
fn maps_can_be_given() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let flags = ["--uidmap", "0:1:500", "--uidmap", "500:0:1", "--uidmap", "501:501:1000"];
    let map = engine.sh(&flags, "cat /proc/self/uid_map /proc/self/gid_map");
    let numbers: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(numbers[..9], ["0", "1", "500", "500", "0", "1", "501", "501", "1000"], "{map}");
    assert_eq!(numbers[..9], numbers[9..], "one stands for both");
    let dir = engine.folder("d");
    let bind = format!("{dir}:/mnt");
    assert_eq!(engine.sh(&[&flags[..], &["-v", &bind]].concat(), "stat -c %u /mnt /data/seed"), "500\n1000");
    engine
        .try_sh(&["--uidmap", "0:1:900000000"], "true")
        .explains(125, &["--uidmap", "more than the user has"]);
    engine.try_sh(&["--uidmap", "0:1:10", "--userns", "keep-id"], "true").explains(125, &["--userns"]);
}

#[test]
fn an_id_beyond_what_the_user_has_is_explained() {
    let engine = engine!();
    engine.try_sh(&["-u", "3000000"], "true").explains(125, &["3000000", "ids of the container", "subuids"]);
    require!(has_subordinate_ids(), "no subordinate ids");
    engine
        .try_sh(&["--userns", "auto:size=1100", "-u", "5000"], "true")
        .explains(125, &["5000", "ids of the container"]);
}

#[test]
fn the_user_namespace_of_another_container_can_be_joined() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    engine.start_script("x", &["--userns", "auto:size=1200"], SLEEP);
    let theirs = engine.ok(&["exec", "x", "sh", "-c", "readlink /proc/self/ns/user; cat /proc/self/uid_map"]);
    let script = "readlink /proc/self/ns/user; cat /proc/self/uid_map";
    assert_eq!(engine.sh(&["--userns", "container:x"], script), theirs);
    assert_eq!(engine.sh(&["--ipc", "container:x"], script), theirs);
}
