//! `-i -t`: a real terminal, from both sides.

use crate::support::terminal::Terminal;
use crate::support::{Engine, eventually, tiny};

fn shell(engine: &Engine, flags: &[&str]) -> Terminal {
    let image = tiny();
    let mut args = vec!["run", "-it", "--network", "none"];
    args.extend(flags);
    args.extend([&image, "sh"]);
    let mut terminal = Terminal::start(&engine.command(&args), 40, 132);
    terminal.expect("# ");
    terminal
}

#[test]
fn the_shell_has_a_controlling_terminal_of_the_users_size() {
    let engine = engine!();
    let mut terminal = shell(&engine, &["--rm"]);
    assert!(!terminal.screen().contains("job control turned off"), "{}", terminal.screen());
    terminal.type_in("tty; stty size; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo all three\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("40 132");
    terminal.expect("xterm");
    terminal.expect("all three");
    terminal.type_in("exit 5\n");
    assert_eq!(terminal.wait(), 5);
    assert!(terminal.is_cooked(), "the user's terminal is left as it was");
}

#[test]
fn a_resize_reaches_the_program_inside() {
    let engine = engine!();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let args = ["run", "-it", "--network", "none", "--name", "r", &tiny(), "sh", "-c", script];
    let mut terminal = Terminal::start(&engine.command(&args), 40, 132);
    terminal.expect("ready");
    for size in [(50, 100), (20, 60)] {
        terminal.resize(size.0, size.1);
        terminal.expect(&format!("{} {}", size.0, size.1));
    }
    engine.ok(&["kill", "r"]);
    terminal.wait();
}

#[test]
fn control_c_is_for_the_program_inside() {
    let engine = engine!();
    let mut terminal = shell(&engine, &["--rm"]);
    terminal.type_in("sleep 1000; echo slept with $?\n");
    std::thread::sleep(std::time::Duration::from_millis(500));
    terminal.type_in("\x03");
    terminal.expect("# ");
    terminal.type_in("echo still | tr a-z A-Z\n");
    terminal.expect("STILL");
    terminal.type_in("exit\n");
    terminal.wait();
}

#[test]
fn jobs_can_be_stopped_and_continued() {
    let engine = engine!();
    let mut terminal = shell(&engine, &["--rm"]);
    terminal.type_in("sleep 1000\n");
    std::thread::sleep(std::time::Duration::from_millis(500));
    terminal.type_in("\x1a");
    terminal.expect("Stopped");
    terminal.type_in("fg\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.type_in("\x03");
    terminal.expect("# ");
    terminal.type_in("exit 0\n");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn detach_keys_leave_the_container_running_and_attach_comes_back() {
    let engine = engine!();
    let mut terminal = shell(&engine, &["--name", "d"]);
    terminal.type_in("X=remembered\n");
    terminal.expect("# ");
    terminal.press("\x10\x11");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_cooked());
    assert_eq!(engine.inspect("d", "{{.State.Status}}"), "running");
    let mut terminal = Terminal::start(&engine.command(&["attach", "d"]), 30, 90);
    terminal.type_in("\necho $X | tr a-z A-Z; stty size\n");
    terminal.expect("REMEMBERED");
    terminal.expect("30 90");
    terminal.type_in("exit 3\n");
    assert_eq!(terminal.wait(), 3);
    assert_eq!(engine.inspect("d", "{{.State.ExitCode}}"), "3");
}

#[test]
fn the_detach_keys_can_be_chosen() {
    let engine = engine!();
    let mut terminal = shell(&engine, &["--name", "k", "--detach-keys", "ctrl-e,q"]);
    terminal.press("\x05q");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(engine.inspect("k", "{{.State.Status}}"), "running");
}

#[test]
fn half_of_the_detach_keys_is_typed_text() {
    let engine = engine!();
    let image = tiny();
    let args = ["run", "-it", "--rm", "--network", "none", "--detach-keys", "a,b", &image, "cat"];
    let mut terminal = Terminal::start(&engine.command(&args), 24, 80);
    std::thread::sleep(std::time::Duration::from_millis(700));
    terminal.type_in("xac\n");
    terminal.expect("xac");
    terminal.expect("xac");
    terminal.type_in("\x04");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_terminal_without_a_terminal_is_still_one_inside() {
    let engine = engine!();
    let output = engine.run(&["run", "--rm", "-t", "--network", "none", &tiny(), "tty"]);
    assert!(output.stdout.contains("/dev/pts/0"), "{output}");
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let engine = engine!();
    engine.start_sleeper("e");
    let mut terminal = Terminal::start(&engine.command(&["exec", "-it", "e", "sh"]), 33, 77);
    terminal.expect("# ");
    assert!(!terminal.screen().contains("job control turned off"), "{}", terminal.screen());
    terminal.type_in("stty size; tty\n");
    terminal.expect("33 77");
    terminal.expect("/dev/pts/");
    terminal.resize(44, 66);
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.type_in("stty size\n");
    terminal.expect("44 66");
    terminal.type_in("exit 12\n");
    assert_eq!(terminal.wait(), 12);
    assert!(terminal.is_cooked());
}

#[test]
fn the_terminal_is_restored_when_the_container_is_killed() {
    let engine = engine!();
    let mut terminal = shell(&engine, &["--name", "gone"]);
    engine.ok(&["kill", "gone"]);
    assert_eq!(terminal.wait(), 137);
    assert!(terminal.is_cooked());
}

#[test]
fn a_detached_terminal_is_logged() {
    let engine = engine!();
    engine.ok(&[
        "run",
        "-dt",
        "--network",
        "none",
        "--name",
        "log",
        &tiny(),
        "sh",
        "-c",
        "echo one; echo two >&2",
    ]);
    engine.ok(&["wait", "log"]);
    eventually("it is in the log", || engine.ok(&["logs", "log"]).replace('\r', "") == "one\ntwo");
}
