//! Rows 10 and 11: what a process that enters has, no_new_privs, what set-id programs gain, and whose files are whose.
//! The numbers are podman's.

use crate::cell::{Cell, TINY};
use crate::support::image::Layer;

/// Podman's eleven.
const DEFAULT: u64 = 0x8004_05fb;

/// `CapInh CapPrm CapEff CapBnd CapAmb`, then `NoNewPrivs Seccomp`.
const STATUS: &str =
    "while read -r k v; do case $k in Cap*|NoNewPrivs:|Seccomp:) echo $v;; esac; done </proc/self/status";

#[track_caller]
fn check(what: &str, status: &str, caps: [u64; 5], no_new_privs: u64, seccomp: u64) {
    let seen: Vec<&str> = status.split_whitespace().collect();
    let mut expected: Vec<String> = caps.map(|set| format!("{set:016x}")).to_vec();
    expected.extend([no_new_privs.to_string(), seccomp.to_string()]);
    assert_eq!(seen, expected, "{what}");
}

/// Every capability of this kernel.
fn all() -> u64 {
    let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    (1 << (last + 1)) - 1
}

#[test]
fn an_executed_process_of_another_user_has_its_own_rights() {
    let cell = Cell::new();
    cell.start("c", &[], "sleep 1000");
    let exec = |flags: &[&str]| cell.engine.ok(&[&["exec"], flags, &["c", "sh", "-c", STATUS]].concat());
    check("exec -u", &exec(&["-u", "alice"]), [0, 0, 0, DEFAULT, 0], 0, 2);
    check("exec --privileged", &exec(&["--privileged"]), [0, all(), all(), all(), 0], 0, 0);
}

#[test]
fn no_new_privileges_is_set_for_the_command_and_for_what_enters() {
    let cell = Cell::new();
    let flags = ["--security-opt", "no-new-privileges"];
    check("run", &cell.sh(&flags, STATUS), [0, DEFAULT, DEFAULT, DEFAULT, 0], 1, 2);
    cell.start("c", &flags, "sleep 1000");
    let status = cell.engine.ok(&["exec", "c", "sh", "-c", STATUS]);
    check("exec", &status, [0, DEFAULT, DEFAULT, DEFAULT, 0], 1, 2);
    let status = cell.engine.ok(&["exec", "-u", "alice", "c", "sh", "-c", STATUS]);
    check("exec -u", &status, [0, 0, 0, DEFAULT, 0], 1, 2);
}

#[test]
fn a_set_id_program_gains_no_more_than_the_container_has() {
    let cell = Cell::new();
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    cell.load_layer("cell.test/suid:1", Layer::new().owned("attack", &program, 0o4755, 0, 0));
    let status = |flags: &[&str]| {
        let flags = [&["-u", "alice"], flags].concat();
        crate::cell::findings(&cell.run("cell.test/suid:1", &flags, &Cell::attack_line("status")).ok())
    };
    let has = |status: &[String], line: &str| status.iter().any(|l| l == line);
    let gains = status(&[]);
    assert!(has(&gains, "Uid: 1000 0 0 0") && has(&gains, &format!("CapEff: {DEFAULT:016x}")), "{gains:?}");
    let gains = status(&["--cap-drop", "all"]);
    assert!(has(&gains, "Uid: 1000 0 0 0") && has(&gains, "CapEff: 0000000000000000"), "{gains:?}");
    let gains = status(&["--security-opt", "no-new-privileges"]);
    assert!(has(&gains, "Uid: 1000 1000 1000 1000") && has(&gains, "CapEff: 0000000000000000"), "{gains:?}");
}

#[test]
fn a_container_root_is_nobody_over_the_files_of_others() {
    let cell = Cell::new();
    // A folder of the host's root: seen, and no more.
    for flags in [&[][..], &["--privileged"], &["--cap-add", "ALL"]] {
        let mut all = vec!["-v", "/etc:/host:ro", "-v", "/etc:/rw"];
        all.extend(flags);
        let output = cell.run(
            TINY,
            &all,
            "cat /host/shadow /rw/shadow; touch /rw/coracle-was-here && echo wrote; chmod 777 /rw && echo changed; \
             mount -o remount,bind,rw /host && touch /host/coracle-was-here && echo wrote; echo end",
        );
        assert_eq!(output.stdout, "end\n", "{output}");
    }
}
