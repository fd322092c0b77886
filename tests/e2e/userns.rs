//! User namespaces: who is who inside and outside.

use crate::support::has_program;
use crate::support::{Engine, tiny};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn my_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

pub fn has_subordinate_ids() -> bool {
    let name = std::env::var("USER").unwrap_or_default();
    has_program("newuidmap")
        && fs::read_to_string("/etc/subuid")
            .is_ok_and(|text| text.lines().any(|l| l.starts_with(&format!("{name}:"))))
}

/// `inside outside count` of each line.
fn map(engine: &Engine, flags: &[&str]) -> Vec<[u64; 3]> {
    engine
        .sh(flags, "cat /proc/self/uid_map")
        .lines()
        .map(|line| {
            let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
            [numbers[0], numbers[1], numbers[2]]
        })
        .collect()
}

#[test]
fn root_inside_is_the_user_and_others_are_subordinate() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let dir = engine.folder("d");
    let script = "touch /mnt/root; chown 0:0 /mnt/root; touch /mnt/alice; chown alice /mnt/alice; id -u";
    assert_eq!(engine.sh(&["-v", &format!("{dir}:/mnt")], script), "0");
    let owner = |name: &str| fs::metadata(format!("{dir}/{name}")).unwrap().uid();
    assert_eq!(owner("root"), my_uid());
    assert!(owner("alice") >= 100_000, "{}", owner("alice"));
    let map = map(&engine, &[]);
    assert_eq!(map[0][0], 0);
    assert!(map.iter().map(|line| line[2]).sum::<u64>() >= 65536, "{map:?}");
}

#[test]
fn keep_id_keeps_the_user_and_the_images_owners() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let uid = my_uid().to_string();
    let dir = engine.folder("home");
    fs::write(format!("{dir}/mine"), "x").unwrap();
    let flags = ["--userns", "keep-id", "-v", &format!("{dir}:/mnt")];
    let script = "id -u; stat -c %u /mnt/mine; touch /mnt/new; stat -c '%u' /etc/passwd /data/seed /root";
    assert_eq!(engine.sh(&flags, script), format!("{uid}\n{uid}\n0\n1000\n0"));
    assert_eq!(fs::metadata(format!("{dir}/new")).unwrap().uid(), my_uid());
    assert_eq!(
        engine.sh(
            &["--userns", "keep-id", "-u", "0"],
            "id -u; chown 1000 /etc/passwd && stat -c %u /etc/passwd"
        ),
        "0\n1000"
    );
}

#[test]
fn keep_id_can_name_another_uid() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let dir = engine.folder("home");
    let flags = ["--userns", "keep-id:uid=1000,gid=1000", "-v", &format!("{dir}:/mnt")];
    assert_eq!(
        engine.sh(&flags, "id -u; id -g; touch /mnt/f; stat -c %u:%g /data/seed"),
        "1000\n1000\n1000:1000"
    );
    assert_eq!(fs::metadata(format!("{dir}/f")).unwrap().uid(), my_uid());
}

#[test]
fn keep_id_knows_the_user_by_name() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let line = engine.sh(&["--userns", "keep-id"], "grep \":$(id -u):\" /etc/passwd");
    assert!(line.starts_with(&std::env::var("USER").unwrap()), "{line}");
}

#[test]
fn keep_id_of_a_debian_is_not_a_copy_of_it() {
    let engine = engine!();
    require!(has_subordinate_ids(), "no subordinate ids");
    let image = crate::support::debian();
    engine.ok(&["pull", "-q", &image]);
    let usage = |engine: &Engine| -> u64 {
        let path = engine.data().to_str().unwrap();
        engine.ok(&["unshare", "du", "-sk", path]).split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = usage(&engine);
    let args = ["run", "--rm", "--network", "none", "--userns", "keep-id", &image];
    let mut command = args.to_vec();
    command.extend(["bash", "-c", "sha256sum /usr/bin/perl; stat -c %u /usr/bin/perl"]);
    let kept = engine.ok(&command);
    let grown = usage(&engine).saturating_sub(before);
    let plain = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        &image,
        "bash",
        "-c",
        "sha256sum /usr/bin/perl; stat -c %u /usr/bin/perl",
    ]);
    assert_eq!(kept, plain);
    // podman copies; so may we on kernels before 6.16, where data-only layers are not for ordinary users.
    if !engine.is_podman() && kernel_at_least(6, 16) {
        assert!(grown < before / 2, "the store grew from {before} KiB by {grown} KiB");
    }
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split(['.', '-']).map(|n| n.trim().parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[test]
fn unshare_runs_a_command_as_root_of_the_users_namespace() {
    let engine = Engine::new();
    assert_eq!(engine.ok(&["unshare", "id", "-u"]), "0");
    assert_eq!(engine.run(&["unshare", "sh", "-c", "exit 9"]).code, 9);
    let outside = fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(engine.ok(&["unshare", "readlink", "/proc/self/ns/user"]), outside.to_str().unwrap());
    require!(has_subordinate_ids(), "no subordinate ids");
    let file = engine.scratch().join("f");
    let file = file.to_str().unwrap();
    engine.ok(&["unshare", "sh", "-c", &format!("touch {file}; chown 1000 {file}")]);
    assert_eq!(engine.ok(&["unshare", "stat", "-c", "%u", file]), "1000");
}

#[test]
fn a_run_works_within_unshare() {
    let engine = engine!();
    let (data, run) =
        (engine.data().to_str().unwrap().to_owned(), engine.run_root().to_str().unwrap().to_owned());
    let program =
        crate::support::setting("CORACLE").unwrap_or_else(|| env!("CARGO_BIN_EXE_coracle").to_owned());
    let args = [
        "unshare",
        &program,
        "--root",
        &data,
        "--runroot",
        &run,
        "run",
        "--rm",
        "--network",
        "none",
        &tiny(),
        "sh",
        "-c",
        "id -u; echo $$",
    ];
    assert_eq!(engine.ok(&args), "0\n1");
}

#[test]
fn files_that_root_inside_made_can_be_removed_by_the_user() {
    let engine = engine!();
    let dir = engine.folder("d");
    engine.sh(&["-v", &format!("{dir}:/mnt")], "mkdir -p /mnt/a/b; touch /mnt/a/b/c");
    fs::remove_dir_all(&dir).unwrap();
}
