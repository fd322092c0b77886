//! A container's life: create, start, stop, kill, restart, wait, rm, and what ps and inspect say meanwhile.

use crate::support::{Running, eventually, tiny};

#[test]
fn create_start_stop_start_rm() {
    let engine = engine!();
    let script = "echo started >> /log; cat /log; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    engine.ok(&["create", "--name", "c", "--network", "none", &tiny(), "sh", "-c", script]);
    assert_eq!(engine.inspect("c", "{{.State.Status}} {{.State.Running}}"), "created false");
    assert_eq!(engine.ok(&["start", "c"]), "c");
    eventually("it has started", || engine.ok(&["logs", "c"]) == "started");
    assert_eq!(engine.ok(&["stop", "c"]), "c");
    assert_eq!(engine.inspect("c", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}"), "exited 0 0");
    engine.ok(&["start", "c"]);
    eventually("what it had written is still there", || {
        engine.ok(&["logs", "c"]) == "started\nstarted\nstarted"
    });
    engine.run(&["rm", "c"]).refuses(&["running"]);
    engine.ok(&["rm", "-f", "-t", "0", "c"]);
    assert!(engine.names().is_empty());
}

#[test]
fn stop_sends_the_stop_signal_and_kills_after_the_time() {
    let engine = engine!();
    engine.start_script(
        "polite",
        &["--stop-signal", "USR1"],
        "trap 'exit 11' USR1; while :; do sleep 1000 & wait; done",
    );
    engine.start_script("deaf", &[], "trap '' TERM; echo ready; while :; do sleep 1000 & wait; done");
    eventually("the trap is set", || engine.ok(&["logs", "deaf"]) == "ready");
    engine.ok(&["stop", "polite"]);
    assert_eq!(engine.inspect("polite", "{{.State.ExitCode}}"), "11");
    let output = engine.run(&["stop", "-t", "1", "deaf"]);
    assert!((900..15_000).contains(&output.time.as_millis()), "{output}");
    output.ok();
    assert_eq!(engine.inspect("deaf", "{{.State.ExitCode}}"), "137");
    engine.ok(&["stop", "deaf"]);
}

#[test]
fn kill_sends_any_signal() {
    let engine = engine!();
    engine.start_script("k", &[], "trap 'echo hup' HUP; echo ready; while :; do sleep 1000 & wait; done");
    eventually("the trap is set", || engine.ok(&["logs", "k"]) == "ready");
    engine.ok(&["kill", "-s", "HUP", "k"]);
    eventually("the signal has come", || engine.ok(&["logs", "k"]) == "ready\nhup");
    engine.ok(&["kill", "--signal", "SIGHUP", "k"]);
    engine.ok(&["kill", "--signal", "1", "k"]);
    assert_eq!(engine.inspect("k", "{{.State.Status}}"), "running");
    engine.ok(&["kill", "k"]);
    eventually("it is dead", || engine.inspect("k", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    engine.run(&["kill", "k"]).refuses(&["running"]);
    engine.run(&["kill", "-s", "NOSUCH", "k"]).refuses(&["NOSUCH"]);
}

#[test]
fn wait_gives_the_exit_code_whether_it_comes_early_or_late() {
    let engine = engine!();
    engine.start_script("w", &[], "while ! test -e /go; do sleep 0.05; done; exit 23");
    let waiting = Running::start(engine.command(&["wait", "w"]), b"");
    std::thread::sleep(std::time::Duration::from_millis(300));
    // It may be killed together with the container that it ends.
    engine.run(&["exec", "w", "touch", "/go"]);
    assert_eq!(waiting.wait().ok(), "23");
    assert_eq!(engine.ok(&["wait", "w", "w"]), "23\n23");
}

#[test]
fn start_attached_shows_the_output_and_gives_the_exit_code() {
    let engine = engine!();
    engine.ok(&[
        "create",
        "-i",
        "--name",
        "a",
        "--network",
        "none",
        &tiny(),
        "sh",
        "-c",
        "cat; echo err >&2; exit 6",
    ]);
    for _ in 0..3 {
        let output = engine.run_with_input(&["start", "-a", "-i", "a"], b"in\n");
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (6, "in\n", "err\n"),
            "{output}"
        );
    }
}

#[test]
fn starting_what_runs_changes_nothing() {
    let engine = engine!();
    engine.start_sleeper("s");
    let pid = engine.pid_of("s");
    assert_eq!(engine.ok(&["start", "s"]), "s");
    assert_eq!(engine.pid_of("s"), pid);
}

#[test]
fn a_container_whose_command_is_not_there_can_be_created_but_not_started() {
    let engine = engine!();
    engine.ok(&["create", "--name", "n", "--network", "none", &tiny(), "no-such-command"]);
    let code = engine.run(&["start", "n"]).code;
    assert!(matches!(code, 125..=127), "{code}");
    assert_ne!(engine.inspect("n", "{{.State.Status}}"), "running");
    engine.ok(&["rm", "n"]);
}

#[test]
fn restart_is_a_new_process_in_the_same_container() {
    let engine = engine!();
    engine.start_sleeper("r");
    let (id, pid) = (engine.inspect("r", "{{.Id}}"), engine.pid_of("r"));
    engine.ok(&["exec", "r", "touch", "/kept"]);
    engine.ok(&["restart", "-t", "5", "r"]);
    assert_eq!(engine.inspect("r", "{{.Id}}"), id);
    assert_ne!(engine.pid_of("r"), pid);
    engine.ok(&["exec", "r", "test", "-e", "/kept"]);
    engine.ok(&["stop", "r"]);
    engine.ok(&["restart", "r"]);
    assert_eq!(engine.inspect("r", "{{.State.Running}}"), "true");
}

#[test]
fn rm_takes_several_all_and_names_that_are_not_there() {
    let engine = engine!();
    for name in ["a", "b", "c"] {
        engine.ok(&["create", "--name", name, "--network", "none", &tiny(), "true"]);
    }
    engine.ok(&["rm", "a", "b"]);
    assert_eq!(engine.names(), ["c"]);
    let output = engine.run(&["rm", "nosuch"]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("nosuch"), "{output}");
    engine.start_sleeper("d");
    engine.ok(&["rm", "-f", "-t", "0", "-a"]);
    assert!(engine.names().is_empty());
}

#[test]
fn containers_are_found_by_name_id_and_start_of_id() {
    let engine = engine!();
    let id = engine.ok(&["create", "--name", "found", "--network", "none", &tiny(), "true"]);
    for name in ["found", &id, &id[..12], &id[..6]] {
        assert_eq!(engine.inspect(name, "{{.Id}}"), id);
    }
    engine.run(&["inspect", "foun"]).refuses(&["foun"]);
    engine.run(&["container", "inspect", "nosuch"]).refuses(&["nosuch"]);
}

#[test]
fn an_ambiguous_id_is_refused() {
    let engine = engine!();
    let mut ids: Vec<String> = Vec::new();
    // Of 17 ids two share their first digit.
    for _ in 0..17 {
        ids.push(engine.ok(&["create", "--network", "none", &tiny(), "true"]));
    }
    let first = (0..16)
        .map(|d| format!("{d:x}"))
        .find(|d| ids.iter().filter(|id| id.starts_with(d)).count() > 1)
        .unwrap();
    assert_ne!(engine.run(&["rm", &first]).code, 0);
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 17);
}

#[test]
fn ps_shows_what_runs_and_with_a_everything() {
    let engine = engine!();
    let id = engine.start_sleeper("up");
    engine.run(&["run", "--network", "none", "--name", "down", &tiny(), "false"]).fails(1);
    let table = engine.ok(&["ps"]);
    let mut lines = table.lines();
    let head = lines.next().unwrap();
    for column in ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"] {
        assert!(head.contains(column), "{head}");
    }
    let row = lines.next().unwrap();
    assert!(
        row.contains(&id[..12]) && row.contains("Up ") && row.contains("up") && row.contains("test/tiny:gz"),
        "{row}"
    );
    assert_eq!(lines.next(), None);
    let all = engine.ok(&["ps", "-a"]);
    assert!(all.contains("Exited (1)") && all.contains("down"), "{all}");
    assert_eq!(engine.ok(&["ps", "-q"]), id[..12]);
    assert_eq!(engine.ok(&["ps", "-q", "--no-trunc"]), id);
    assert_eq!(engine.ok(&["ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"]), "down");
    assert_eq!(
        engine.ok(&["ps", "-a", "--filter", "name=^u", "--format", "{{.Names}} {{.State}}"]),
        "up running"
    );
    let ids: Vec<String> = engine.ok(&["ps", "-aq"]).lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[1], id[..12], "the newest comes first");
}

#[test]
fn ps_as_json_is_json() {
    let engine = engine!();
    engine.start_sleeper("json");
    let text = engine.ok(&["ps", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = value.get(0).unwrap_or(&value);
    assert!(row["Names"].to_string().contains("json"), "{text}");
    assert_eq!(row["State"], "running");
}

#[test]
fn inspect_tells_all_there_is_to_know() {
    let engine = engine!();
    let id = engine.start_script("i", &["-e", "A=1", "-w", "/tmp", "-h", "box"], "sleep 1000");
    let value = engine.inspect_json(&["inspect", "i"]);
    assert_eq!(value["Id"], id.as_str());
    assert_eq!(value["Name"].as_str().unwrap().trim_start_matches('/'), "i");
    assert_eq!(value["State"]["Status"], "running");
    assert_eq!(value["State"]["Running"], true);
    assert!(value["State"]["Pid"].as_i64().unwrap() > 1);
    assert_eq!(value["Config"]["Hostname"], "box");
    assert_eq!(value["Config"]["WorkingDir"], "/tmp");
    assert!(value["Config"]["Env"].as_array().unwrap().iter().any(|e| e == "A=1"));
    assert_eq!(value["Path"], "sh");
    assert_eq!(value["Args"], serde_json::json!(["-c", "sleep 1000"]));
    assert_eq!(value["HostConfig"]["NetworkMode"], "none");
    assert!(value["Created"].as_str().unwrap().starts_with("20"));
    // Several at once, and one that is not there: the others are shown, the code is not 0.
    let output = engine.run(&["inspect", "i", "nosuch"]);
    assert!(output.code != 0 && output.stderr.contains("nosuch"), "{output}");
}

#[test]
fn attach_takes_part_in_a_running_container() {
    let engine = engine!();
    let script = "while read line; do test $line = bye && exit 4; echo \"got $line\"; done";
    let args = ["run", "-d", "-i", "--network", "none", "--name", "att", &tiny(), "sh", "-c", script];
    engine.ok(&args);
    let output = engine.run_with_input(&["attach", "att"], b"one\ntwo\nbye\n");
    assert_eq!((output.code, output.stdout.as_str()), (4, "got one\ngot two\n"), "{output}");
    engine.run(&["attach", "att"]).refuses(&["att"]);
}

/// Something that a start waits for may never come: here, a lock on the volume that is to be filled.
#[test]
fn a_container_that_does_not_get_to_run_can_be_removed() {
    let engine = engine!();
    require!(!engine.is_podman(), "the lock is coracle's own");
    let locks = engine.data().join("locks");
    engine.ok(&["volume", "create", "v"]);
    let file = std::fs::File::create(locks.join("fill-v")).unwrap();
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for rm in [&["--rm"][..], &[]] {
        let base = ["run", "-d", "--network", "none", "--name", "c", "-v", "v:/v"];
        let image = tiny();
        let args = [&base[..], rm, &[&image, "true"]].concat();
        let starting = Running::start(engine.command(&args), b"");
        eventually("it is being started", || engine.names() == ["c"]);
        engine.ok(&["rm", "-f", "-t", "0", "c"]);
        assert_eq!(starting.wait().code, 125);
        assert!(engine.names().is_empty());
    }
    drop(file);
    engine.ok(&["run", "--rm", "--network", "none", "--name", "c", "-v", "v:/v", &tiny(), "true"]);
}

#[test]
fn a_client_that_is_stopped_does_not_keep_a_container_from_ending() {
    let engine = engine!();
    // As much as the way to the client holds, so that the command can end with it.
    let script = "sleep 1; head -c 150000 /dev/zero";
    let args = ["run", "--network", "none", "--name", "c", &tiny(), "sh", "-c", script];
    let client = Running::start(engine.command(&args), b"");
    eventually("it runs", || engine.run(&["exec", "c", "true"]).code == 0);
    let pid = rustix::process::Pid::from_child(&client.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    assert_eq!(engine.ok(&["wait", "c"]), "0");
    engine.ok(&["rm", "c"]);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let output = client.wait();
    assert_eq!((output.code, output.stdout.len()), (0, 150_000));
}
