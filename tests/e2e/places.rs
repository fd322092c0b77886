//! Data and run roots in places that people really have: somebody else's, read-only, without attributes, lost.

use crate::support::{Engine, eventually, run, tiny};
use std::fs;

#[test]
fn a_data_root_that_is_not_ours_or_cannot_be_written_is_refused_with_the_fix() {
    let engine = Engine::new();
    require!(!engine.is_podman(), "coracle's words");
    for (root, words) in
        [("/usr", &["belongs to user 0", "--root"][..]), ("/usr/x", &["permission denied", "--root"])]
    {
        engine.run(&["--root", root, "ps"]).explains(125, words);
        engine.run(&["--root", root, "run", "--rm", "hello"]).explains(125, words);
    }
    engine.run(&["--root", "/proc/x", "ps"]).explains(125, &["/proc/x"]);
    engine.run(&["--root", "/dev/null", "ps"]).explains(125, &["not a directory", "--root"]);
    engine.run(&["--runroot", "/usr", "ps"]).explains(125, &["belongs to user 0", "--runroot"]);
}

/// Runs a script as root of a namespace, where file systems can be mounted, with `$C` as the program on the engine's roots.
fn inside(engine: &Engine, script: &str) -> crate::support::Output {
    let program = engine.command(&[]).get_program().to_str().unwrap().to_owned();
    let (data, runroot) = (engine.data().to_str().unwrap(), engine.run_root().to_str().unwrap());
    let script = format!("C='{program} --root {data} --runroot {runroot}'; D={data}; I={}; {script}", tiny());
    run(engine.command(&["unshare", "sh", "-c", &script]))
}

#[test]
fn on_a_read_only_disk_what_only_reads_works_and_the_rest_says_why_not() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman cannot");
    let read_only = "mount --bind $D $D && mount -o remount,bind,ro $D";
    inside(&engine, &format!("{read_only} && $C images && $C ps -a && $C info && $C inspect $I")).ok();
    inside(&engine, &format!("{read_only} && $C run --rm --network none $I true"))
        .explains(125, &["read-only file system", "fix:", "--root"]);
    inside(&engine, &format!("{read_only} && $C rmi $I"))
        .explains(125, &["read-only file system", "fix:", "--root"]);
    // Nothing there yet.
    let empty = Engine::new();
    let script = "mount --bind $D $D && mount -o remount,bind,ro $D && $C --root $D/new ps";
    inside(&empty, script).explains(125, &["read-only file system", "--root"]);
}

#[test]
fn a_store_in_memory_works() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman cannot");
    let output = inside(
        &engine,
        "mount -t tmpfs none $D && setfattr -n user.x -v x $D || exit 77; setfattr -x user.x $D; \
         $C run --rm -q --network none $I sh -c 'rm -r /data && mkdir /data && ls -A /data | wc -l'",
    );
    require!(output.code != 77, "tmpfs has no extended attributes here");
    assert_eq!(output.ok(), "0");
}

/// As NFS: ramfs has no extended attributes, without which layers cannot be stored faithfully.
#[test]
fn a_store_without_extended_attributes_is_refused_with_the_fix() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman cannot");
    let output = inside(
        &engine,
        "mount -t ramfs none $D && ! setfattr -n user.x -v x $D 2>/dev/null || exit 77; $C run --rm -q --network none $I true",
    );
    require!(output.code != 77, "ramfs cannot be mounted, or has extended attributes");
    output.explains(125, &["extended attributes", "fix:", "--root"]);
}

#[test]
fn without_a_runtime_directory_another_one_is_found() {
    let engine = engine!();
    require!(!engine.is_podman(), "coracle's places");
    let program = engine.command(&[]).get_program().to_owned();
    let uid = rustix::process::geteuid().as_raw();
    let fallback = format!("/tmp/coracle-{uid}");
    let was_there = fs::exists(&fallback).unwrap();
    for value in [None, Some("/nowhere")] {
        let mut command = std::process::Command::new(&program);
        command.arg("--root").arg(engine.data()).args([
            "run",
            "--rm",
            "--network",
            "none",
            &tiny(),
            "echo",
            "works",
        ]);
        match value {
            Some(value) => command.env("XDG_RUNTIME_DIR", value),
            None => command.env_remove("XDG_RUNTIME_DIR"),
        };
        assert_eq!(run(command).ok(), "works");
    }
    if !was_there {
        eventually("it can be removed", || {
            !fs::exists(&fallback).unwrap() || fs::remove_dir_all(&fallback).is_ok()
        });
    }
}

fn lose_run_root(engine: &Engine) {
    for entry in fs::read_dir(engine.run_root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

/// systemd removes XDG_RUNTIME_DIR when its user has logged out; what runs in the background may go on.
#[test]
fn a_container_whose_run_root_is_lost_is_still_known_to_run() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman wants a reboot");
    engine.start_sleeper("runs");
    engine.start_sleeper("dies");
    let pid = engine.pid_of("runs");
    lose_run_root(&engine);
    assert_eq!(engine.names(), ["dies", "runs"]);
    assert_eq!(engine.inspect("runs", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    assert_eq!(engine.ok(&["exec", "runs", "echo", "alive"]), "alive");
    engine.run(&["start", "runs"]);
    assert_eq!(engine.pid_of("runs"), pid, "it was started a second time");
    engine.run(&["rm", "runs"]).refuses(&["running"]);
    engine.ok(&["rm", "-f", "-t", "0", "dies"]);
    engine.ok(&["stop", "-t", "1", "runs"]);
    assert_eq!(engine.inspect("runs", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    engine.ok(&["start", "runs"]);
    assert_eq!(engine.inspect("runs", "{{.State.Running}}"), "true");
}

#[test]
fn the_files_of_a_brief_container_whose_run_root_is_lost_are_left_until_it_ends() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman wants a reboot");
    engine.start_script("brief", &["--rm"], "echo mine >/mark; sleep 1000");
    let pid = engine.pid_of("brief");
    lose_run_root(&engine);
    engine.ok(&["ps", "-a"]);
    engine.sh(&[], "true");
    let folder = engine.data().join("containers");
    let id = fs::read_dir(&folder).unwrap().next().expect("its files are gone").unwrap().path();
    assert_eq!(fs::read_to_string(id.join("upper/mark")).unwrap(), "mine\n");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("its files go with it", || !id.exists());
}

/// A power cut can take the link that is a container's name.
#[test]
fn a_container_that_lost_its_name_has_it_again_after_a_reboot() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    engine.ok(&["create", "--network", "none", "--name", "named", &tiny(), "echo", "still here"]);
    fs::remove_file(engine.data().join("names/named")).unwrap();
    lose_run_root(&engine);
    assert_eq!(engine.ok(&["start", "-a", "named"]), "still here");
}
