//! `run`: what goes in, what comes out, how it ends.

use crate::support::image::{Image, Layer, digest};
use crate::support::registry::Registry;
use crate::support::{Running, eventually, host, run, tiny};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[test]
fn output_and_exit_code_are_those_of_the_command() {
    let engine = engine!();
    let output = engine.try_sh(&[], "echo out; echo err >&2; exit 7");
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n"),
        "{output}"
    );
}

#[test]
fn the_images_own_command_runs_when_none_is_given() {
    let engine = engine!();
    let args = ["run", "--rm", "-i", "--network", "none", &tiny()];
    assert_eq!(engine.run_with_input(&args, b"echo from stdin; exit 3\n").stdout, "from stdin\n");
}

#[test]
fn standard_input_reaches_the_command_only_with_i() {
    let engine = engine!();
    let image = tiny();
    let with = ["run", "--rm", "-i", "--network", "none", &image, "cat"];
    assert_eq!(engine.run_with_input(&with, b"hello\n").ok(), "hello");
    let without = ["run", "--rm", "--network", "none", &image, "cat"];
    assert_eq!(engine.run_with_input(&without, b"hello\n").ok(), "");
}

#[test]
fn ten_megabytes_pass_in_and_out_unchanged() {
    let engine = engine!();
    let data: Vec<u8> = (0..10_000_000u32).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
    let args = ["run", "--rm", "-i", "--network", "none", &tiny(), "sha256sum"];
    let sum = engine.run_with_input(&args, &data).ok();
    assert_eq!(sum.split(' ').next().unwrap(), &digest(&data)[7..]);
    let wrapped = engine.wrapped(
        &["sh", "-c", "\"$@\" | sha256sum", "sh"],
        &["run", "--rm", "--network", "none", &tiny(), "head", "-c", "10000000", "/dev/zero"],
    );
    let zeros = digest(&vec![0; 10_000_000]);
    assert_eq!(run(wrapped).ok().split(' ').next().unwrap(), &zeros[7..]);
}

#[test]
fn a_command_that_does_not_exist_ends_with_127() {
    let engine = engine!();
    engine
        .run(&["run", "--rm", "--network", "none", &tiny(), "no-such-command"])
        .explains(127, &["no-such-command"]);
    engine
        .run(&["run", "--rm", "--network", "none", &tiny(), "/no/such/command"])
        .explains(127, &["/no/such/command"]);
    assert!(engine.names().is_empty(), "nothing half-made stays");
}

#[test]
fn a_command_that_cannot_be_executed_ends_with_126() {
    let engine = engine!();
    for path in ["/etc", "/etc/readme"] {
        engine.run(&["run", "--rm", "--network", "none", &tiny(), path]).explains(126, &[path]);
    }
    assert!(engine.names().is_empty());
}

#[test]
fn an_error_of_the_tool_itself_ends_with_125() {
    let engine = engine!();
    engine.run(&["run", "--no-such-flag", &tiny(), "true"]).explains(125, &["no-such-flag"]);
    engine.run(&["run", "--rm", "--volume", "relative:also/relative", &tiny(), "true"]).fails(125);
    engine
        .run(&["run", "--rm", "--pull", "never", "localhost/not/there", "true"])
        .explains(125, &["not/there"]);
}

#[test]
fn a_command_that_is_killed_ends_with_128_and_the_signal() {
    let engine = engine!();
    assert_eq!(engine.try_sh(&[], "sh -c 'kill -9 $$'; exit $?").code, 137);
    let mut sleeper = Running::start(
        engine.command(&["run", "--rm", "--network", "none", "--name", "victim", &tiny(), "sleep", "1000"]),
        b"",
    );
    eventually("the container runs", || {
        assert!(sleeper.child.try_wait().unwrap().is_none());
        engine.run(&["exec", "victim", "true"]).code == 0
    });
    engine.ok(&["kill", "victim"]);
    assert_eq!(sleeper.wait().code, 137);
}

#[test]
fn signals_to_the_command_line_reach_the_container() {
    let engine = engine!();
    let script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let args = ["run", "--rm", "--network", "none", "--name", "proxy", &tiny(), "sh", "-c", script];
    let running = Running::start(engine.command(&args), b"");
    eventually("the trap is set", || engine.run(&["logs", "proxy"]).stdout.contains("ready"));
    let pid = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let output = running.wait();
    assert_eq!((output.code, output.stdout.as_str()), (9, "ready\ngot it\n"), "{output}");
}

#[test]
fn rm_leaves_nothing_whatever_the_exit_code() {
    let engine = engine!();
    engine.sh(&[], "exit 0");
    engine.try_sh(&[], "exit 1").fails(1);
    assert!(engine.names().is_empty());
}

#[test]
fn without_rm_the_container_stays_with_its_exit_code() {
    let engine = engine!();
    engine.run(&["run", "--network", "none", "--name", "stays", &tiny(), "sh", "-c", "exit 5"]).fails(5);
    assert_eq!(engine.names(), ["stays"]);
    assert_eq!(engine.inspect("stays", "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
}

#[test]
fn a_detached_run_prints_the_id_and_returns_at_once() {
    let engine = engine!();
    let output = engine.run(&["run", "-d", "--rm", "--network", "none", &tiny(), "sleep", "1000"]);
    assert!(output.time.as_secs() < 20, "{output}");
    let id = output.ok();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(engine.inspect(&id[..12], "{{.State.Status}}"), "running");
}

#[test]
fn cidfile_receives_the_id_and_is_never_overwritten() {
    let engine = engine!();
    let path = engine.scratch().join("cid");
    let path = path.to_str().unwrap();
    let id = engine.ok(&["create", "--cidfile", path, "--network", "none", &tiny(), "true"]);
    assert_eq!(std::fs::read_to_string(path).unwrap().trim(), id);
    engine.run(&["create", "--cidfile", path, "--network", "none", &tiny(), "true"]).fails(125);
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn a_name_can_be_taken_only_once() {
    let engine = engine!();
    engine.ok(&["create", "--name", "taken", "--network", "none", &tiny(), "true"]);
    engine
        .run(&["run", "--rm", "--name", "taken", "--network", "none", &tiny(), "true"])
        .explains(125, &["taken", "already in use"]);
    assert_eq!(engine.names(), ["taken"]);
    engine.ok(&["rm", "taken"]);
    engine.ok(&["run", "--rm", "--name", "taken", "--network", "none", &tiny(), "true"]);
}

#[test]
fn a_container_without_a_name_gets_one() {
    let engine = engine!();
    let id = engine.ok(&["create", "--network", "none", &tiny(), "true"]);
    let name = engine.inspect(&id, "{{.Name}}");
    let name = name.trim_start_matches('/');
    assert!(name.contains('_') && name.len() > 4, "{name}");
    assert_eq!(engine.inspect(name, "{{.Id}}"), id);
}

#[test]
fn entrypoint_and_command_come_together_as_in_docker() {
    let engine = engine!();
    let registry = Registry::start();
    let image = Image::tiny_with(vec![])
        .with("Entrypoint", json!(["/bin/echo", "entry"]))
        .with("Cmd", json!(["cmd"]));
    let image = engine.add(&registry, "entry", &image);
    let run = |flags: &[&str], command: &[&str]| {
        let mut args = vec!["run", "--rm", "-q", "--network", "none"];
        args.extend(flags);
        args.push(&image);
        args.extend(command);
        engine.run(&args)
    };
    assert_eq!(run(&[], &[]).ok(), "entry cmd");
    assert_eq!(run(&[], &["other"]).ok(), "entry other");
    assert_eq!(
        run(&["--entrypoint", "/bin/echo"], &[]).ok(),
        "",
        "the image's command belonged to its entry point"
    );
    assert_eq!(run(&["--entrypoint", "/bin/echo"], &["mine"]).ok(), "mine");
    assert_eq!(run(&["--entrypoint", r#"["/bin/echo","a b"]"#], &["c"]).ok(), "a b c");
    assert_eq!(run(&["--entrypoint", ""], &["/bin/echo", "plain"]).ok(), "plain");
}

#[test]
fn an_image_with_nothing_to_run_says_so() {
    let engine = engine!();
    let registry = Registry::start();
    let mut image = Image::of(vec![Layer::tiny().finish()]);
    image.config = json!({});
    let image = engine.add(&registry, "nothing", &image);
    engine.run(&["run", "--rm", "-q", "--network", "none", &image]).explains(125, &["command"]);
    assert!(engine.names().is_empty());
}

#[test]
fn nothing_that_the_command_wrote_is_lost_when_it_ends_at_once() {
    let engine = engine!();
    for _ in 0..20 {
        assert_eq!(engine.sh(&[], "printf 'the end'"), "the end");
    }
}

#[test]
fn a_background_process_of_the_container_ends_with_it() {
    let engine = engine!();
    let output = engine.try_sh(&[], "sleep 4321 & echo started");
    assert_eq!(output.ok(), "started");
    eventually("no such process is left", || !host("ps -eo args").contains("sleep 4321"));
}
