//! A dead monitor means a dead container, and what a killed process left is found and ended.

use crate::cell::{Cell, is_alive, kill_9, monitor_of};
use crate::support::eventually;
use crate::support::image::Layer;

/// The live processes whose command line, as the kernel has it, is so.
fn processes(is_it: impl Fn(&[u8]) -> bool) -> Vec<i32> {
    let pid = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        (is_it(&line) && is_alive(pid)).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(pid).collect()
}

#[test]
fn killing_the_monitor_kills_everything_in_the_container() {
    let cell = Cell::new();
    for (name, flags) in
        [("plain", &[][..]), ("init", &["--init"]), ("user", &["-u", "alice"]), ("strong", &["--privileged"])]
    {
        cell.start(name, flags, "sleep 1000 & sleep 1000 & wait");
        cell.engine.ok(&["exec", "-d", name, "sleep", "1000"]);
        let (init, monitor) = (cell.engine.pid_of(name), monitor_of(&cell.engine, name));
        kill_9(monitor);
        eventually("the container is dead", || !is_alive(init));
    }
}

/// A program that is set-id, or asks for it (prctl(2), PR_SET_PDEATHSIG), is not told of the monitor's death. Then the
/// next command ends it.
#[test]
fn a_container_that_outlives_its_monitor_is_killed_by_the_next_command() {
    let cell = Cell::new();
    let busybox = std::fs::read(crate::support::busybox()).unwrap();
    cell.load_layer("cell.test/suid:1", Layer::new().owned("bin/busybox-suid", &busybox, 0o4755, 0, 0));
    for name in ["a", "b"] {
        let args = ["run", "-d", "--network", "none", "--name", name, "-u", "alice", "cell.test/suid:1"];
        cell.engine.ok(&[&args[..], &["/bin/busybox-suid", "sleep", "1000"]].concat());
    }
    for (name, command) in [("a", &["start", "a"][..]), ("b", &["rm", "b"])] {
        let (init, monitor) = (cell.engine.pid_of(name), monitor_of(&cell.engine, name));
        kill_9(monitor);
        eventually("the monitor is dead", || !is_alive(monitor));
        cell.engine.ok(command);
        eventually("the old process is dead", || !is_alive(init));
    }
}

#[test]
fn killing_the_session_of_an_executed_command_kills_the_command() {
    let cell = Cell::new();
    cell.start("c", &[], "sleep 1000");
    cell.engine.ok(&["exec", "-d", "c", "sleep", "4321"]);
    let mut command = None;
    eventually("it runs", || {
        command = processes(|line| line == b"sleep\x004321\0").into_iter().next();
        command.is_some()
    });
    let command = command.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{command}/stat")).unwrap();
    let session: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    kill_9(session);
    eventually("the command is dead", || !is_alive(command));
    assert_eq!(cell.engine.ok(&["exec", "c", "echo", "alive"]), "alive");
}
