//! `exec`: another process in a running container.

use crate::support::{Engine, Running, eventually, tiny};

fn with_sleeper() -> Result<Engine, String> {
    let engine = Engine::with_registry()?;
    engine.start_sleeper("c");
    Ok(engine)
}

macro_rules! sleeper {
    () => {
        match with_sleeper() {
            Ok(engine) => engine,
            Err(why) => return crate::support::skip(&why),
        }
    };
}

#[test]
fn output_input_and_exit_code_are_those_of_the_command() {
    let engine = sleeper!();
    let output =
        engine.run_with_input(&["exec", "-i", "c", "sh", "-c", "cat; echo err >&2; exit 8"], b"in\n");
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (8, "in\n", "err\n"),
        "{output}"
    );
    assert_eq!(engine.run_with_input(&["exec", "c", "cat"], b"in\n").ok(), "", "no input without -i");
}

#[test]
fn it_is_in_every_namespace_of_the_container() {
    let engine = sleeper!();
    let script = "for n in mnt pid ipc uts net user cgroup; do readlink /proc/self/ns/$n; done";
    let inside = engine.ok(&["exec", "c", "sh", "-c", script]);
    let first = engine.ok(&["exec", "c", "sh", "-c", &script.replace("self", "1")]);
    assert_eq!(inside, first);
    assert_eq!(inside.lines().count(), 7);
}

#[test]
fn it_is_confined_as_the_container_is() {
    let engine = sleeper!();
    let lines = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/$0/status";
    let of = |process: &str| engine.ok(&["exec", "c", "sh", "-c", &lines.replace("$0", process)]);
    assert_eq!(of("self"), of("1"));
    let privileged = engine.ok(&["exec", "--privileged", "c", "grep", "CapEff", "/proc/self/status"]);
    assert!(privileged.contains("ffffffff"), "{privileged}");
}

#[test]
fn user_environment_and_folder_can_be_chosen() {
    let engine = sleeper!();
    assert_eq!(
        engine.ok(&["exec", "-u", "alice", "c", "sh", "-c", "echo $(id -u) $(id -G)"]),
        "1000 1000 10 4000"
    );
    assert_eq!(engine.ok(&["exec", "-e", "A=b c", "c", "sh", "-c", "echo $A"]), "b c");
    assert_eq!(engine.ok(&["exec", "-w", "/tmp", "c", "pwd"]), "/tmp");
    let file = engine.file("env", "FILE=1\n");
    assert_eq!(engine.ok(&["exec", "--env-file", &file, "c", "sh", "-c", "echo $FILE"]), "1");
}

#[test]
fn the_containers_own_environment_user_and_folder_are_the_default() {
    let engine = engine!();
    engine.start_script("own", &["-e", "A=mine", "-u", "alice", "-w", "/data"], "sleep 1000");
    assert_eq!(
        engine.ok(&["exec", "own", "sh", "-c", "echo $A $(id -u) $PWD $HOME"]),
        "mine 1000 /data /home/alice"
    );
}

#[test]
fn a_command_that_is_not_there_or_not_executable_says_so() {
    let engine = sleeper!();
    engine.run(&["exec", "c", "no-such-command"]).explains(127, &["no-such-command"]);
    engine.run(&["exec", "c", "/etc/readme"]).explains(126, &["/etc/readme"]);
}

#[test]
fn what_does_not_run_cannot_be_entered() {
    let engine = engine!();
    engine.ok(&["create", "--name", "idle", "--network", "none", &tiny(), "true"]);
    let output = engine.run(&["exec", "idle", "true"]);
    assert!(matches!(output.code, 1 | 125 | 255), "{output}");
    assert!(output.stderr.contains("running"), "{output}");
    assert_ne!(engine.run(&["exec", "nosuch", "true"]).code, 0);
}

#[test]
fn detached_it_goes_on_alone() {
    let engine = sleeper!();
    let output = engine.run(&["exec", "-d", "c", "sh", "-c", "sleep 0.3; touch /done; sleep 1000"]);
    assert!(output.time.as_secs() < 20);
    output.ok();
    eventually("it did its work", || engine.run(&["exec", "c", "test", "-e", "/done"]).code == 0);
}

#[test]
fn it_ends_with_the_container() {
    let engine = sleeper!();
    let running =
        Running::start(engine.command(&["exec", "c", "sh", "-c", "touch /in; exec sleep 1000"]), b"");
    eventually("it is in", || engine.run(&["exec", "c", "test", "-e", "/in"]).code == 0);
    engine.ok(&["kill", "c"]);
    assert_eq!(running.wait().code, 137);
}

#[test]
fn fifty_at_once_succeed() {
    let engine = sleeper!();
    let all: Vec<Running> = (0..50)
        .map(|i| Running::start(engine.command(&["exec", "c", "echo", &i.to_string()]), b""))
        .collect();
    for (i, running) in all.into_iter().enumerate() {
        assert_eq!(running.wait().ok(), i.to_string());
    }
}
