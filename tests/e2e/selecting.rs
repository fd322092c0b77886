//! Which containers a command is about, what they are called, and waiting for them.

use crate::support::{Running, eventually, tiny};

#[test]
fn a_name_can_be_changed_while_the_container_runs_and_after() {
    let engine = engine!();
    let id = engine.start_sleeper("old");
    engine.ok(&["rename", "old", "new"]);
    assert_eq!(engine.names(), ["new"]);
    assert_eq!(engine.inspect("new", "{{.Id}} {{.Name}}"), format!("{id} /new"));
    assert_eq!(engine.inspect(&id[..12], "{{.Name}}"), "/new");
    engine.run(&["inspect", "old"]).refuses(&["old"]);
    // The old name is free, and the new one taken.
    engine.ok(&["create", "--name", "old", "--network", "none", &tiny(), "true"]);
    engine.run(&["rename", "old", "new"]).explains(125, &["new", "already in use"]);
    engine.run(&["rename", "old", "old"]).explains(125, &["already"]);
    engine.run(&["rename", "old", "-x"]).refuses(&["-x"]);
    engine.run(&["rename", "old", "a/b"]).explains(125, &["a/b"]);
    engine.run(&["rename", "nobody", "somebody"]).explains(125, &["nobody"]);
    engine.ok(&["stop", "new"]);
    engine.ok(&["rename", "new", "newer"]);
    engine.ok(&["start", "newer"]);
    assert_eq!(engine.ok(&["ps", "--format", "{{.Names}}"]), "newer");
    engine.ok(&["rm", "-f", "-t", "0", "newer", "old"]);
    assert_eq!(std::fs::read_dir(engine.data().join("names")).unwrap().count(), 0);
}

#[test]
fn a_container_that_removes_itself_takes_its_new_name_along() {
    let engine = engine!();
    engine.start_script("first", &["--rm"], "while ! test -e /go; do sleep 0.05; done");
    engine.ok(&["rename", "first", "second"]);
    // It may be killed together with the container that it ends.
    engine.run(&["exec", "second", "touch", "/go"]);
    eventually("it is gone", || engine.names().is_empty());
    eventually("and its names", || std::fs::read_dir(engine.data().join("names")).unwrap().count() == 0);
}

#[test]
fn a_rename_that_is_killed_at_any_moment_leaves_one_name() {
    let engine = engine!();
    let id = engine.ok(&["create", "--name", "a", "--network", "none", &tiny(), "true"]);
    let mut counts = [0, 0];
    for round in 0..40u64 {
        let [now, next] = if engine.names() == ["a"] { ["a", "b"] } else { ["b", "a"] };
        let mut rename = Running::start(engine.command(&["rename", now, next]), b"");
        std::thread::sleep(std::time::Duration::from_micros(round * 250));
        rename.child.kill().unwrap();
        rename.child.wait().unwrap();
        let links: Vec<_> = std::fs::read_dir(engine.data().join("names")).unwrap().flatten().collect();
        assert_eq!(links.len(), 1, "round {round}");
        let name = links[0].file_name().into_string().unwrap();
        assert_eq!(engine.inspect(&name, "{{.Id}} {{.Name}}"), format!("{id} /{name}"));
        counts[usize::from(name == next)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "always killed too early or too late: {counts:?}");
    engine.ok(&["rm", &id]);
    assert_eq!(std::fs::read_dir(engine.data().join("names")).unwrap().count(), 0);
}

#[test]
fn of_many_that_want_one_name_one_gets_it() {
    let engine = engine!();
    let ids: Vec<String> =
        (0..6).map(|_| engine.ok(&["create", "--network", "none", &tiny(), "true"])).collect();
    let all: Vec<Running> =
        ids.iter().map(|id| Running::start(engine.command(&["rename", id, "crown"]), b"")).collect();
    let won = all.into_iter().map(|one| one.wait().code).filter(|code| *code == 0).count();
    assert_eq!(won, 1);
    let names = engine.names();
    assert_eq!((names.len(), names.iter().filter(|name| *name == "crown").count()), (6, 1));
    assert_eq!(std::fs::read_dir(engine.data().join("names")).unwrap().count(), 6);
}

#[test]
fn containers_are_found_by_the_start_of_their_ids_and_a_bad_one_spoils_no_good_one() {
    let engine = engine!();
    let id = engine.ok(&["create", "--name", "a", "--network", "none", &tiny(), "true"]);
    engine.ok(&["create", "--name", "b", "--network", "none", &tiny(), "true"]);
    let output = engine.run(&["start", &id[..8], "nobody", "b"]);
    assert_eq!(output.stdout, format!("{}\nb\n", &id[..8]));
    output.explains(125, &["nobody"]);
    assert_eq!(engine.ok(&["wait", "a", "b"]), "0\n0");
    let output = engine.run(&["rm", "a", "nobody", "b"]);
    assert_eq!(output.stdout, "a\nb\n");
    output.explains(1, &["nobody"]);
}

#[test]
fn files_filters_and_the_latest_stand_for_names() {
    let engine = engine!();
    let cid = engine.scratch().join("cid");
    let cid = cid.to_str().unwrap();
    let image = tiny();
    let sleep = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    engine.ok(&[
        "run",
        "-d",
        "--cidfile",
        cid,
        "--name",
        "one",
        "--network",
        "none",
        &image,
        "sh",
        "-c",
        sleep,
    ]);
    engine.start_script("two", &["--label", "kind=x"], sleep);
    engine.start_script("three", &["--label", "kind=x"], sleep);
    let id = std::fs::read_to_string(cid).unwrap();
    assert_eq!(engine.ok(&["stop", "-t", "5", "--cidfile", cid]), id.trim());
    assert_eq!(engine.ok(&["ps", "--format", "{{.Names}}"]), "three\ntwo");
    engine.ok(&["kill", "--latest"]);
    eventually("the latest is dead", || engine.inspect("three", "{{.State.Status}}") == "exited");
    assert_eq!(engine.ok(&["restart", "-t", "0", "--running"]).lines().count(), 1);
    assert_eq!(engine.ok(&["start", "--all"]).lines().count(), 2);
    assert_eq!(engine.ok(&["stop", "-t", "0", "--filter", "label=kind=x"]).lines().count(), 2);
    assert_eq!(engine.ok(&["ps", "--format", "{{.Names}}"]), "one");
    assert_eq!(
        engine.ok(&["rm", "--filter", "label=kind=x", "--filter", "status=exited"]).lines().count(),
        2
    );
    assert_eq!(engine.ok(&["inspect", "--latest", "--format", "{{.Name}}"]), "/one");
    assert_eq!(engine.ok(&["exec", "-l", "echo", "hello"]), "hello");
    assert_eq!(engine.ok(&["exec", "--cidfile", cid, "echo", "again"]), "again");
    engine.ok(&["rm", "-f", "-t", "0", "--cidfile", cid]);
    engine.run(&["rm", "--cidfile", cid]).explains(1, &["no such container"]);
    engine.ok(&["rm", "-i", "--cidfile", cid, "--cidfile", "/nowhere/cid"]);
    engine.run(&["stop", "--latest"]).explains(125, &["no container"]);
    engine.run(&["rm", "--depend", "x"]).explains(125, &["--depend is not supported yet"]);
}

#[test]
fn a_container_is_stopped_by_the_signal_asked_for() {
    let engine = engine!();
    engine.start_script(
        "s",
        &[],
        "trap 'exit 7' USR1; trap '' TERM; echo ready; while :; do sleep 1000 & wait; done",
    );
    eventually("the traps are set", || engine.ok(&["logs", "s"]) == "ready");
    engine.ok(&["stop", "--signal", "USR1", "s"]);
    assert_eq!(engine.inspect("s", "{{.State.ExitCode}}"), "7");
}

#[test]
fn whether_there_is_a_container_is_an_exit_code() {
    let engine = engine!();
    let id = engine.ok(&["create", "--name", "c", "--network", "none", &tiny(), "true"]);
    for name in ["c", &id, &id[..10]] {
        assert_eq!(engine.run(&["container", "exists", name]).code, 0);
    }
    let output = engine.run(&["container", "exists", "nobody"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
}

#[test]
fn prune_removes_what_does_not_run_and_passes_the_filter() {
    let engine = engine!();
    engine.start_sleeper("runs");
    for (name, label) in [("a", "keep=1"), ("b", "go=1"), ("c", "go=2")] {
        engine.ok(&["create", "--name", name, "--label", label, "--network", "none", &tiny(), "true"]);
    }
    let refused = engine.run_with_input(&["container", "prune"], b"n\n");
    assert!(refused.stderr.contains("remove all stopped containers"), "{refused}");
    assert_eq!(engine.names(), ["a", "b", "c", "runs"]);
    assert!(engine.ok(&["container", "prune", "-f", "--filter", "until=1h"]).starts_with("Total reclaimed"));
    let text = engine.ok(&["container", "prune", "-f", "--filter", "label=go"]);
    assert_eq!(text.lines().next(), Some("Deleted Containers:"), "{text}");
    assert_eq!(engine.names(), ["a", "runs"]);
    engine.ok(&["container", "prune", "-f", "--filter", "label!=keep=1"]);
    assert_eq!(engine.names(), ["a", "runs"]);
    engine.run_with_input(&["container", "prune"], b"y\n").ok();
    assert_eq!(engine.names(), ["runs"]);
    engine.run(&["container", "prune", "-f", "--filter", "name=x"]).explains(125, &["name"]);
}

#[test]
fn where_nothing_is_published_port_says_so_as_dockers() {
    let engine = engine!();
    engine.start_sleeper("p");
    assert_eq!(engine.ok(&["port", "p"]), "");
    assert_eq!(engine.ok(&["port", "--all"]), "");
    engine.run(&["port", "p", "80"]).explains(1, &["no public port '80/tcp' published for p"]);
    engine.run(&["port", "nobody"]).explains(1, &["nobody"]);
}

#[test]
fn the_noun_has_the_same_commands() {
    let engine = engine!();
    engine.ok(&["container", "create", "--name", "c", "--network", "none", &tiny(), "echo", "hi"]);
    assert_eq!(engine.ok(&["container", "start", "-a", "c"]), "hi");
    assert_eq!(engine.ok(&["container", "ls", "-a", "--format", "{{.Names}}"]), "c");
    assert_eq!(engine.ok(&["container", "logs", "c"]), "hi");
    engine.ok(&["container", "rename", "c", "d"]);
    assert_eq!(engine.ok(&["container", "inspect", "d", "--format", "{{.Name}}"]), "/d");
    engine.ok(&["container", "rm", "d"]);
    assert!(engine.names().is_empty());
}

#[test]
fn other_states_than_stopped_can_be_waited_for() {
    let engine = engine!();
    engine.ok(&["create", "--name", "w", "--network", "none", &tiny(), "sh", "-c", "sleep 0.3; exit 4"]);
    let running =
        Running::start(engine.command(&["wait", "--condition", "running", "--interval", "10ms", "w"]), b"");
    let gone = Running::start(engine.command(&["wait", "--condition=removing", "-i", "10", "w"]), b"");
    assert_eq!(engine.ok(&["wait", "--condition", "created", "w"]), "-1");
    engine.ok(&["start", "w"]);
    assert_eq!(running.wait().ok(), "-1");
    assert_eq!(engine.ok(&["wait", "--condition", "stopped", "--condition", "paused", "w"]), "4");
    engine.ok(&["rm", "w"]);
    assert_eq!(gone.wait().ok(), "-1");
    engine.run(&["wait", "--condition", "running", "w"]).explains(125, &["no such container"]);
}

#[test]
fn logs_of_several_containers_say_whose_each_line_is() {
    let engine = engine!();
    let id = engine.start_script("a", &[], "echo one; echo two >&2");
    engine.start_script("b", &[], "echo three; sleep 0.5; printf four");
    engine.ok(&["wait", "a"]);
    let output = engine.run(&["logs", "-f", "--names", "a", "b"]);
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a one", "b four", "b three"], "{output}");
    assert_eq!(output.stderr, "a two\n");
    let output = engine.run(&["logs", "a", "nobody", "b"]);
    assert!(output.stdout.starts_with(&format!("{} one\n", &id[..12])), "{output}");
    output.explains(125, &["nobody"]);
    assert!(engine.ok(&["logs", "--color", "a", "b"]).starts_with("\x1b[31m"));
    assert_eq!(engine.ok(&["logs", "-l"]), "three\nfour");
}

#[test]
fn ps_filters_by_ancestor_label_volume_and_order() {
    let engine = engine!();
    let image = tiny();
    let id = engine.inspect_json(&["image", "inspect", &image])["Id"].as_str().unwrap().to_owned();
    engine.ok(&["create", "--name", "a", "--label", "x=1", "--network", "none", &image, "true"]);
    engine.ok(&[
        "create",
        "--name",
        "b",
        "--label",
        "x=2",
        "-v",
        "data:/d",
        "--network",
        "host",
        &image,
        "true",
    ]);
    engine.ok(&["create", "--name", "c", "--network", "none", &image, "true"]);
    for (filters, expected) in [
        (&["ancestor"][..], "c b a"),
        (&["label=x"], "b a"),
        (&["label=x=1"], "a"),
        (&["label!=x"], "c"),
        (&["label=x", "label=x=2"], "b"),
        (&["name=a", "name=b"], "b a"),
        (&["volume=data"], "b"),
        (&["volume=/d"], "b"),
        (&["network=host"], "b"),
        (&["before=b"], "a"),
        (&["since=a"], "c b"),
        (&["until=1h"], ""),
        (&["status=created"], "c b a"),
        (&["status=exited"], ""),
        (&["exited=0"], ""),
    ] {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        let ancestor = [format!("ancestor={image}"), format!("ancestor={}", &id[..19])];
        for filter in filters {
            let filter = if *filter == "ancestor" { &ancestor[0] } else { *filter };
            args.extend(["--filter", filter]);
        }
        let names = engine.ok(&args).replace('\n', " ");
        assert_eq!(names, expected, "{args:?}");
        if filters[0] == "ancestor" {
            let by_id = ["ps", "-aq", "--filter", &ancestor[1]];
            assert_eq!(engine.ok(&by_id).lines().count(), 3);
        }
    }
}

#[test]
fn exec_hands_on_the_descriptors_asked_for_and_no_other() {
    let engine = engine!();
    engine.start_sleeper("e");
    let program = engine.command(&[]).get_program().to_str().unwrap().to_owned();
    let (data, run_root) = (engine.data().to_str().unwrap(), engine.run_root().to_str().unwrap());
    let script = format!(
        "exec 3<<A 4<<B 5<<C\nthree\nA\nfour\nB\nfive\nC\n\
         {program} --root {data} --runroot {run_root} exec \"$@\""
    );
    let exec = |args: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, "sh"]).args(args);
        crate::support::run(command)
    };
    assert_eq!(exec(&["--preserve-fds", "2", "e", "sh", "-c", "cat <&3; cat <&4"]).ok(), "three\nfour");
    assert_eq!(
        exec(&["--preserve-fd", "5", "e", "sh", "-c", "cat <&5; ls /proc/self/fd"]).ok(),
        "five\n0\n1\n2\n3\n5"
    );
    assert_eq!(exec(&["e", "sh", "-c", "ls /proc/self/fd"]).ok(), "0\n1\n2\n3");
    exec(&["--preserve-fds", "9", "e", "true"]).explains(125, &["descriptor", "not open"]);
}
