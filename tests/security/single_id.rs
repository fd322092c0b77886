//! The same walls without subordinate ids: in a namespace of one id, as a user has who has none.

use crate::cell::{CANARY, Cell, TINY};
use crate::support::{Output, run};

fn in_single(cell: &Cell, args: &[&str]) -> Output {
    run(cell.engine.wrapped(&["unshare", "--user", "--map-root-user"], args))
}

macro_rules! single {
    () => {{
        require!(
            crate::support::has_program("unshare")
                && std::process::Command::new("unshare")
                    .args(["-Ur", "true"])
                    .status()
                    .is_ok_and(|s| s.success()),
            "no user namespaces for ordinary users here"
        );
        Cell::new()
    }};
}

#[test]
fn a_container_with_one_id_is_confined_as_any_other() {
    let cell = single!();
    let script = "while read -r k v; do case $k in CapEff:|CapBnd:|Seccomp:) echo $v;; esac; done </proc/self/status; \
        umount /proc/sys && echo off; mkdir /sys/fs/cgroup/x && echo made; cat /proc/timer_list; ls /proc/1/fd; echo end";
    let output = in_single(&cell, &["run", "--rm", "--network", "none", TINY, "sh", "-c", script]);
    assert_eq!(output.stdout, "00000000800405fb\n00000000800405fb\n2\n0\n1\n2\nend\n", "{output}");
}

#[test]
fn a_container_with_one_id_cannot_reach_the_hosts_files() {
    let cell = single!();
    let host = cell.host().display().to_string();
    let script = format!(
        "cat {host}/canary /proc/1/root{host}/canary; mount --bind / /tmp && cat /tmp{host}/canary; echo end"
    );
    for flags in [&[][..], &["--privileged"]] {
        let args = [&["run", "--rm", "--network", "none"], flags, &[TINY, "sh", "-c", &script]].concat();
        let output = in_single(&cell, &args);
        assert!(!output.stdout.contains(CANARY), "{output}");
        assert_eq!(output.stdout, "end\n", "{output}");
    }
    cell.host_is_as_it_was();
}

#[test]
fn with_one_id_other_users_are_refused_and_not_made_root() {
    let cell = single!();
    for user in ["alice", "1000", "0:5"] {
        let output =
            in_single(&cell, &["run", "--rm", "--network", "none", "-u", user, TINY, "sh", "-c", "echo ran"]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{user}: {output}");
    }
}
