//! kill -9 at the worst moment: the next command of any kind finds the truth and cleans up.

use crate::support::image::{Image, Layer};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, Running, eventually, tiny};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

fn kill_9(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
        && !stat.rsplit(')').next().unwrap_or("").starts_with(" Z")
}

/// The process that keeps the container: its parent.
fn monitor_of(engine: &Engine, name: &str) -> i32 {
    let pid = engine.pid_of(name);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_container_dies_with_its_monitor_and_is_seen_as_dead() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman's container outlives conmon (containers/podman#439)");
    engine.start_sleeper("m");
    let (pid, monitor) = (engine.pid_of("m"), monitor_of(&engine, "m"));
    kill_9(monitor);
    eventually("the container is dead", || !is_alive(pid));
    let state = engine.inspect("m", "{{.State.Status}} {{.State.Running}} {{.State.Pid}}");
    assert_eq!(state, "exited false 0");
    assert_eq!(engine.ok(&["ps", "-q"]), "");
    assert!(engine.ok(&["ps", "-a"]).contains("Exited"));
    engine.ok(&["start", "m"]);
    assert_eq!(engine.inspect("m", "{{.State.Running}}"), "true");
    kill_9(monitor_of(&engine, "m"));
    eventually("rm works at once", || engine.run(&["rm", "m"]).code == 0);
    assert!(engine.names().is_empty());
}

#[test]
fn a_container_that_is_removed_at_its_end_is_gone_after_the_monitor_was_killed() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman's container outlives conmon");
    engine.start_script("m", &["--rm"], "sleep 1000");
    kill_9(monitor_of(&engine, "m"));
    eventually("it is not listed", || engine.names().is_empty());
    engine.start_script("m", &["--rm"], "sleep 1000");
    engine.ok(&["rm", "-f", "-t", "0", "m"]);
}

#[test]
fn killing_the_command_line_of_a_foreground_run_leaves_no_half_container() {
    let engine = engine!();
    let running = Running::start(
        engine.command(&["run", "--network", "none", "--name", "fg", &tiny(), "sleep", "1000"]),
        b"",
    );
    eventually("it runs", || engine.run(&["exec", "fg", "true"]).code == 0);
    kill_9(i32::try_from(running.child.id()).unwrap());
    // Whether the container goes on without its caller (docker, podman) or not, it is one or the other.
    let state = engine.inspect("fg", "{{.State.Status}}");
    assert!(state == "running" || state == "exited", "{state}");
    if state == "running" {
        assert_eq!(engine.ok(&["exec", "fg", "echo", "alive"]), "alive");
    }
    engine.ok(&["rm", "-f", "-t", "0", "fg"]);
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_nothing_stuck() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman leaves records behind");
    // From before the store is touched to after the command has started.
    for delay in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50] {
        let args = ["run", "--rm", "--network", "none", "--name", "victim", &tiny(), "sleep", "1000"];
        let mut running = Running::start(engine.command(&args), b"");
        std::thread::sleep(std::time::Duration::from_millis(delay));
        kill_9(i32::try_from(running.child.id()).unwrap());
        running.child.wait().unwrap();
        // What was made so far may have its name already and no record yet: then there is nothing to remove, and the next
        // who wants the name gets it.
        engine.ok(&["rm", "-f", "-t", "0", "victim"]);
        engine.ok(&["run", "--rm", "--network", "none", "--name", "victim", &tiny(), "true"]);
    }
    assert!(engine.names().is_empty());
}

#[test]
fn a_pull_that_is_killed_is_done_again_by_the_next() {
    let engine = Engine::new();
    let registry = Registry::start();
    let image = Image::tiny_with(vec![Layer::new().file("etc/mark", b"whole\n", 0o644)]);
    let (blobs, _) = image.blobs();
    let (name, bytes) = blobs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let hang = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let hanging = std::sync::Arc::clone(&hang);
    registry.rule(move |request| {
        let now = request.path.ends_with(&name) && hanging.load(std::sync::atomic::Ordering::SeqCst);
        now.then(|| {
            // Most of it, and then nothing while the connection stays open: the pull waits.
            let mut response = Response::new(200, &bytes[..bytes.len() * 9 / 10]);
            response.claimed_length = Some(bytes.len());
            response.stall = true;
            response
        })
    });
    let reference = engine.add(&registry, "killed", &image);
    let pull = Running::start(engine.command(&["pull", "-q", &reference]), b"");
    eventually("the download has begun", || registry.count("GET", "/blobs/") > 0);
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill_9(i32::try_from(pull.child.id()).unwrap());
    drop(pull);
    assert_eq!(engine.ok(&["images", "-q"]), "");
    hang.store(false, std::sync::atomic::Ordering::SeqCst);
    let args = ["run", "--rm", "-q", "--network", "none", &reference, "cat", "/etc/mark"];
    assert_eq!(engine.ok(&args), "whole");
}

#[test]
fn the_memory_of_the_runtime_folder_may_be_lost() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman wants a reboot");
    engine.ok(&["create", "--name", "stays", "--network", "none", &tiny(), "echo", "still here"]);
    // As after a reboot: the runtime folder is empty, the data are there.
    for entry in std::fs::read_dir(engine.run_root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    assert_eq!(engine.names(), ["stays"]);
    assert_eq!(engine.ok(&["start", "-a", "stays"]), "still here");
}

#[test]
fn a_reused_pid_is_not_taken_for_the_container() {
    let engine = engine!();
    engine.start_sleeper("p");
    let pid = engine.pid_of("p");
    kill_9(pid);
    eventually("it is seen as exited", || {
        engine.inspect("p", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });
    assert!(!is_alive(pid));
}
