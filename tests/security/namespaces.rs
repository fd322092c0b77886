//! Every container is alone: its root, privileged or not, has no power over the monitor, over other containers, or over
//! files of the user that were not mounted.

use crate::cell::{CANARY, Cell, TINY, is_alive, monitor_of};

fn namespace(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn every_container_has_a_user_namespace_of_its_own_below_the_monitors() {
    let cell = Cell::new();
    for name in ["a", "b"] {
        cell.start(name, &["--privileged"], "sleep 1000");
    }
    let (a, b) = (cell.engine.pid_of("a"), cell.engine.pid_of("b"));
    let own = std::process::id().cast_signed();
    for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let all = [a, b, own].map(|pid| namespace(pid, kind));
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2], "{kind}: {all:?}");
    }
    let monitor = monitor_of(&cell.engine, "a");
    assert_ne!(namespace(monitor, "user"), namespace(a, "user"));
    assert_ne!(namespace(monitor, "user"), namespace(own, "user"));
}

#[test]
fn a_container_sees_and_signals_only_its_own_processes() {
    let cell = Cell::new();
    cell.start("other", &[], "sleep 1000");
    for (index, flags) in [&[][..], &["--privileged"], &["--cap-add", "ALL"]].into_iter().enumerate() {
        let name = format!("victim{index}");
        cell.start(&name, flags, "sleep 1000");
        let (monitor, other) = (monitor_of(&cell.engine, &name), cell.engine.pid_of("other"));
        let pids = cell.sh(flags, "cd /proc; for p in [0-9]*; do echo $p; done");
        assert!(pids.lines().count() <= 3, "{pids}");
        cell.attack(flags, "kill-all");
        let script = format!("kill -9 {monitor} {other} {}; echo end", std::process::id());
        assert_eq!(cell.run(TINY, flags, &script).stdout, "end\n");
        assert!(is_alive(monitor) && is_alive(other));
        assert_eq!(cell.engine.ok(&["exec", &name, "echo", "alive"]), "alive");
    }
}

#[test]
fn the_files_of_the_user_that_were_not_mounted_cannot_be_reached() {
    let cell = Cell::new();
    let host = cell.host().display().to_string();
    let script = format!(
        "cat {host}/canary /proc/1/root{host}/canary /proc/self/root{host}/canary /proc/1/cwd/../{host}/canary; \
         for p in /proc/[0-9]*; do cat $p/root{host}/canary; done; \
         mkdir -p /tmp/m; mount --bind / /tmp/m && cat /tmp/m{host}/canary; \
         mount --rbind /proc/1/root /tmp/m && cat /tmp/m{host}/canary; \
         for d in /dev/[sv]d* /dev/nvme* /dev/dm-* /dev/mapper/*; do [ -b $d ] && mount $d /tmp/m && echo mounted $d; done; \
         busybox nsenter -t 1 -m cat {host}/canary; busybox pivot_root / /tmp/m; echo end"
    );
    for flags in [&[][..], &["--privileged"], &["--cap-add", "ALL"]] {
        let output = cell.run(TINY, flags, &script);
        assert_eq!(output.stdout, "end\n", "{output}");
    }
    let inside = cell.sh(&[], "ls -a / | while read -r n; do case $n in .|..) ;; *) echo $n;; esac; done");
    for flags in [&[][..], &["--privileged"]] {
        // The attack itself brings two names.
        let seen = cell.attack(flags, "chroot");
        for name in seen.iter().filter(|name| !["attack"].contains(&name.as_str())) {
            assert!(
                inside.lines().any(|line| line == name),
                "{name} is not in the container's root: {seen:?}"
            );
        }
    }
    cell.host_is_as_it_was();
}

#[test]
fn another_containers_files_cannot_be_reached() {
    let cell = Cell::new();
    cell.start("other", &[], &format!("echo {CANARY} >/mark; sleep 1000"));
    let pid = cell.engine.pid_of("other");
    let script = format!("cat /proc/{pid}/root/mark; ls -R /dev /sys/fs /run | busybox grep mark; echo end");
    assert_eq!(cell.run(TINY, &["--privileged"], &script).stdout, "end\n");
}

#[test]
fn root_of_a_privileged_container_is_nobody_to_the_machine() {
    let cell = Cell::new();
    let script = "busybox date -s 2001-01-01 >/dev/null; busybox hostname x && busybox hostname; \
        busybox dmesg -c >/dev/null && echo dmesg; busybox swapoff -a; busybox losetup -f /bin/busybox && echo loop; \
        echo 3 >/proc/sys/vm/drop_caches && echo caches; busybox nice -n -5 true && echo nice; \
        echo -500 >/proc/self/oom_score_adj && echo oom; echo end";
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let before = host();
    let output = cell.run(TINY, &["--privileged"], script);
    let said: Vec<&str> = output.stdout.lines().filter(|line| *line != "nice").collect();
    assert_eq!(said, ["x", "end"], "{output}");
    assert_eq!(host(), before);
    assert!(
        std::time::SystemTime::now() > std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)
    );
}
