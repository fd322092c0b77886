//! RUN: its mounts, its network, what it is given, what it leaves.

use crate::build::{context, inside, last, text};
use crate::support::terminal::Terminal;
use crate::support::{Engine, Output, Running, eventually, exit_code, host, image, said_by_step};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

fn build(engine: &Engine, context: &Path, flags: &[&str]) -> Output {
    engine.run(&[&["build"], flags, &[text(context)]].concat()).of_build()
}

/// Builds a Dockerfile with nothing beside it.
fn file(engine: &Engine, dockerfile: &str, flags: &[&str]) -> Output {
    let folder = context(engine, "plain", &[("Dockerfile", dockerfile)]);
    build(engine, &folder, flags)
}

/// Whether the steps whose text has this word came from the cache.
fn cached(output: &str, word: &str) -> Vec<bool> {
    let steps = crate::build::steps(output).into_iter().filter(|(_, step)| step.contains(word));
    steps.map(|(is_cached, _)| is_cached).collect()
}

/// Nothing of a step is left: no container, no process, no mount, no folder.
fn assert_clean(engine: &Engine) {
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    for part in ["containers", "staging", "trash"] {
        let left = fs::read_dir(engine.data().join(part)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{part}");
    }
    let root = text(engine.data()).to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&root), "{mounts}");
}

#[test]
fn binds_show_the_context_and_stages_and_forget_what_is_written() {
    let engine = engine!();
    let dockerfile = "FROM TINY AS made\nRUN mkdir -p /out/sub && echo stage > /out/sub/file && ln -s sub/file /out/link\n\
        FROM TINY AS unused\nRUN false\n\
        FROM TINY\nWORKDIR /work\n\
        RUN --mount=target=/context,source=. \
            --mount=type=bind,source=folder,target=below,rw \
            --mount=source=folder/one,target=/one \
            --mount=source=folder/one,target=/two,rw \
            --mount=from=made,source=/out,target=/stage \
            --mount=from=made,source=out/link,target=/linked,rw=true \
            --mount=from=TINY,target=/image \
            cp -r /context /seen && cp /stage/sub/file /file && cp /linked /linked.txt && cp /one /one.txt && \
            ! touch /context/new 2>/dev/null && ! sh -c 'echo x > /one' 2>/dev/null && ! touch /stage/new 2>/dev/null && \
            echo changed > below/one && echo changed > /two && echo changed > /linked && cat below/one /two /linked > /changed && \
            [ -x /image/bin/busybox ] && stat -c %u:%g:%a /context/folder/one /context/private > /owners\n";
    let files = [
        ("Dockerfile", dockerfile),
        (".dockerignore", "*.log\nhidden\n!hidden/kept\nprivate/*\n"),
        ("folder/one", "1\n"),
        ("folder/x.log", "left out by no pattern"),
        ("x.log", "left out"),
        ("hidden/secret", "left out"),
        ("hidden/deep/secret", "left out"),
        ("hidden/kept", "kept"),
        ("private/key", "left out"),
    ];
    let folder = context(&engine, "binds", &files);
    let mode = |path: &str, mode| {
        fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("private", 0o711);
    mode("folder/one", 0o604);
    let built = build(&engine, &folder, &[]).ok();
    assert!(!built.contains("RUN false"), "{built}");
    let script = "cd /seen; find . | sort; cat folder/one hidden/kept; cat /file /linked.txt /one.txt /changed /owners; \
                  ls /work /context /stage /image /two 2>/dev/null || true";
    assert_eq!(
        inside(&engine, last(&built), script),
        ".\n./.dockerignore\n./Dockerfile\n./folder\n./folder/one\n./folder/x.log\n./hidden\n./hidden/kept\n./private\n\
         1\nkeptstage\nstage\n1\nchanged\nchanged\nchanged\n0:0:604\n0:0:711\n/work:"
    );
    for (path, text) in [("folder/one", "1\n"), ("hidden/secret", "left out")] {
        assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), text);
    }
    assert_clean(&engine);
}

#[test]
fn what_is_bound_counts_by_its_content() {
    let engine = engine!();
    let dockerfile = "FROM TINY AS made\nARG V=1\nRUN mkdir /out && echo same > /out/same && echo $V > /out/other\n\
        FROM TINY\nRUN --mount=source=folder,target=/in cat /in/one > /context\n\
        RUN --mount=from=made,source=/out/same,target=/in cat /in > /stage\n";
    let files = [("Dockerfile", dockerfile), ("folder/one", "1\n"), ("beside", "x")];
    let folder = context(&engine, "counting", &files);
    let counts = |flags: &[&str]| cached(&build(&engine, &folder, flags).ok(), "RUN --mount");
    assert_eq!(counts(&[]), [false, false]);
    fs::write(folder.join("beside"), "changed").unwrap();
    let one = fs::File::options().write(true).open(folder.join("folder/one")).unwrap();
    one.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(counts(&[]), [true, true]);
    // The stage is built again, and the file of it that is mounted is the same.
    assert_eq!(counts(&["--build-arg", "V=2"]), [true, true]);
    fs::write(folder.join("folder/one"), "changed\n").unwrap();
    assert_eq!(counts(&[]), [false, false]);
}

#[test]
fn what_cannot_be_mounted_is_said_with_its_place() {
    let engine = engine!();
    let fails = |line: &str, words: &[&str]| {
        let dockerfile = format!("FROM TINY AS made\nRUN true\nFROM TINY\nRUN --mount={line} true\n");
        let files = [("Dockerfile", dockerfile.as_str()), (".dockerignore", "hidden\n"), ("hidden", "x")];
        let folder = context(&engine, "failing", &files);
        build(&engine, &folder, &[]).explains(1, &[words, &["Dockerfile:4:"]].concat());
    };
    fails("source=none,target=/x", &["\"/none\": not found", ".dockerignore"]);
    fails("source=hidden,target=/x", &["\"/hidden\": not found"]);
    fails("source=../../../etc,target=/x", &["\"/../../../etc\": not found"]);
    fails("from=made,source=/none,target=/x", &["\"/none\": not found", "stage made"]);
    fails("source=.", &["invalid mount target"]);
    fails("type=tmpfs,target=/x/..", &["invalid mount target"]);
    fails("type=secret,id=none,required", &["secret none: not found", "--secret id=none"]);
    fails("type=ssh,required=true", &["SSH agent default: not found", "--ssh default"]);
    fails("type=cache,id=c,target=/x,source=none", &["none of the cache", "no such file"]);
    fails("type=vault,target=/x", &["unsupported mount type"]);
    file(&engine, "FROM TINY\nRUN --security=insecure true\n", &[])
        .explains(1, &["Dockerfile:2:1", "--security=insecure is not allowed", "sandbox"]);
    file(&engine, "FROM TINY\nRUN --network=host true\n", &[])
        .explains(1, &["Dockerfile:2:1", "--network=host is not allowed", "--allow network.host"]);
    assert_clean(&engine);
}

#[test]
fn caches_outlast_builds_and_layers_know_nothing_of_them() {
    let engine = engine!();
    let step = |number: u32, mount: &str| {
        let dockerfile =
            format!("FROM TINY\nRUN --mount=type=cache,{mount} echo {number} >> /c/log; cat /c/log\n");
        file(&engine, &dockerfile, &[]).ok()
    };
    let log = |output: &str| -> Vec<u32> { output.lines().filter_map(|line| line.parse().ok()).collect() };
    let first = step(1, "target=/c");
    assert_eq!(log(&first), [1]);
    assert_eq!(log(&step(2, "target=/c")), [1, 2]);
    // The same by name; another one by name, by owner, and by what it begins with.
    assert_eq!(log(&step(3, "id=/c,target=/c,sharing=locked")), [1, 2, 3]);
    assert_eq!(log(&step(4, "id=other,target=/c")), [4]);
    assert_eq!(log(&step(5, "target=/c,uid=5")), [5]);
    assert_eq!(log(&step(6, "target=/c,from=TINY,source=/etc")), [6]);
    assert_eq!(log(&step(7, "target=/c,sharing=private")), [1, 2, 3, 7]);
    engine.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(log(&step(8, "target=/c")), [1, 2, 3, 7, 8]);
    // What is in one does not count, and is not there without it.
    let cached_step = "FROM TINY\nRUN --mount=type=cache,target=/c echo 1 >> /c/log; cat /c/log\n";
    assert_eq!(cached(&file(&engine, cached_step, &[]).ok(), "RUN"), [true]);
    assert_eq!(inside(&engine, last(&first), "ls -d /c || echo none"), "none");
    let dockerfile = "FROM TINY\nUSER 5:6\n\
        RUN --mount=type=cache,target=/a,uid=5,gid=6,mode=0710 --mount=type=cache,target=/b,ro \
            --mount=type=cache,target=/d,from=TINY,source=/etc --mount=type=cache,id=/a2,target=/a/sub,uid=5 \
            stat -c %u:%g:%a /a /b /a/sub; touch /a/x /a/sub/y; touch /b/x 2>/dev/null || echo read-only; ls /d/passwd; ls /a\n";
    let built = file(&engine, dockerfile, &[]).ok();
    assert!(built.contains("5:6:710\n0:0:755\n5:0:755\nread-only\n/d/passwd\nsub\nx\n"), "{built}");
    assert_clean(&engine);
}

/// Starts a build of a context without waiting for it.
fn start(engine: &Engine, folder: &Path, flags: &[&str]) -> std::process::Child {
    let mut command = engine.command(&[&["build"], flags, &[text(folder)]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a build shows on standard error, what its steps said without the number and the time before it.
fn said(stderr: Vec<u8>) -> String {
    let text = String::from_utf8(stderr).unwrap();
    text.lines().map(|line| said_by_step(line).unwrap_or(line).to_owned() + "\n").collect()
}

fn kill(pid: u32, signal: &str) {
    host(&format!("kill -s {signal} {pid}"));
}

#[test]
fn builds_share_a_cache_as_they_say_and_a_killed_one_gives_it_back() {
    let engine = engine!();
    // Each notes when it begins and ends; the second one begins while the first one sleeps.
    let run = |sharing: &str, first: &str, signal: Option<&str>| {
        let folder = |name: &str, seconds: &str| {
            let dockerfile = format!(
                "FROM TINY\nRUN --mount=type=cache,id={sharing}{first},target=/c,sharing={sharing} echo {name} begins >> /c/log; \
                 sleep {seconds}; echo {name} ends >> /c/log; cat /c/log\n"
            );
            context(&engine, &format!("{sharing}-{name}"), &[("Dockerfile", &dockerfile)])
        };
        let mut one = start(&engine, &folder("one", first), &[]);
        let begun = format!("grep -qs begins {}/build-cache/mounts/*/0/data/log", text(engine.data()));
        eventually("the first step runs", || host(&format!("{begun} && echo yes || true")).contains("yes"));
        let two = folder("two", "0");
        let two = match signal {
            None => build(&engine, &two, &[]),
            Some(signal) => {
                let waiting = start(&engine, &two, &[]);
                std::thread::sleep(std::time::Duration::from_millis(300));
                kill(one.id(), signal);
                let output = waiting.wait_with_output().unwrap();
                assert!(output.status.success());
                return (one.wait().unwrap().success(), said(output.stderr));
            }
        };
        (one.wait().unwrap().success(), two.ok())
    };
    let events = |output: &str| -> Vec<String> {
        let lines = output.lines().filter(|line| line.ends_with("begins") || line.ends_with("ends"));
        lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let clear = || drop(fs::remove_dir_all(engine.data().join("build-cache/mounts")));
    let (ok, output) = run("shared", "2", None);
    assert!(ok && events(&output) == ["one begins", "two begins", "two ends"], "{output}");
    clear();
    let (ok, output) = run("private", "2", None);
    assert!(ok && events(&output) == ["two begins", "two ends"], "{output}");
    clear();
    let (ok, output) = run("locked", "2", None);
    assert!(ok && events(&output) == ["one begins", "one ends", "two begins", "two ends"], "{output}");
    assert!(output.contains("waiting for another build to leave the cache /c"), "{output}");
    clear();
    let (ok, output) = run("locked", "1000", Some("KILL"));
    assert!(!ok && events(&output) == ["one begins", "two begins", "two ends"], "{output}");
    assert_clean(&engine);
}

#[test]
fn memory_is_mounted_for_a_step_alone() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nRUN --mount=type=tmpfs,target=/t,size=1m --mount=type=tmpfs,target=/u \
        stat -f -c %T /t; stat -c %a /t; df -k /t | tail -1; echo x > /u/x; ! dd if=/dev/zero of=/t/x bs=1M count=2 2>/dev/null\n";
    let built = file(&engine, dockerfile, &[]).ok();
    assert!(built.contains("tmpfs\n1777\n") && built.contains(" 1024 "), "{built}");
    assert_eq!(inside(&engine, last(&built), "ls -d /t /u 2>/dev/null || echo none"), "none");
}

const SECRET: &str = "hunter2-of-the-test";

#[test]
fn secrets_reach_their_step_and_nothing_else() {
    let engine = engine!();
    let dockerfile = "FROM TINY\n\
        RUN --mount=type=secret,id=file cat /run/secrets/file | rev; stat -f -c %T /run/secrets/file; stat -c %u:%g:%a /run/secrets/file\n\
        RUN --mount=type=secret,id=file,target=/etc/key,uid=5,gid=6,mode=0440 cat /etc/key | rev; stat -c %u:%g:%a /etc/key\n\
        RUN --mount=type=secret,id=variable,env=TOKEN echo $TOKEN | rev; ls /run/secrets 2>/dev/null || echo none\n\
        RUN --mount=type=secret,id=none [ ! -e /run/secrets/none ]; echo optional\n\
        RUN --mount=type=secret,id=file sleep 2; cat /run/secrets/file > /dev/null\n\
        RUN env; ls -la /run /etc\n";
    let folder = context(&engine, "secrets", &[("Dockerfile", dockerfile)]);
    let of_file = engine.file("secret", SECRET);
    let flags =
        ["build", "--secret", &format!("id=file,src={of_file}"), "--secret", "id=variable,env=OF_TEST"];
    let run = |flags: &[&str]| {
        let mut command = engine.command(&[flags, &[text(&folder)]].concat());
        command.env("OF_TEST", SECRET).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let building = run(&flags);
    // While a step has it, too: no file of the store, no process's arguments.
    let look = || {
        let (data, run) = (text(engine.data()), text(engine.run_root()));
        host(&format!(
            "grep -rlF {SECRET} {data} {run} 2>/dev/null; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -F {SECRET} | grep -v grep || true"
        ))
    };
    let mut looks = 0;
    let steps = engine.run_root().join("containers");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < until {
        if fs::read_dir(&steps).map_or(0, Iterator::count) > 0 {
            assert_eq!(look(), "");
            looks += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(looks > 0);
    let output = building.wait_with_output().unwrap();
    let built = said(output.stderr) + &String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{built}");
    assert!(!built.contains(SECRET), "{built}");
    let reversed: String = SECRET.chars().rev().collect();
    for words in ["tmpfs\n0:0:400\n", "5:6:440\n", "\nnone\n", "\noptional\n"] {
        assert!(built.contains(words), "{words}: {built}");
    }
    assert_eq!(built.matches(&reversed).count(), 3, "{built}");
    assert!(!built.contains("TOKEN="), "{built}");
    assert_eq!(look(), "");
    let name = last(&built);
    assert_eq!(inside(&engine, name, "ls -d /run/secrets /etc/key 2>/dev/null || echo none"), "none");
    assert!(!engine.ok(&["history", "--no-trunc", name]).contains(SECRET));
    // Another value is the same step.
    engine.file("secret", "changed");
    let again = said(run(&flags).wait_with_output().unwrap().stderr);
    assert!(cached(&again, "type=secret").iter().all(|cached| *cached), "{again}");
    // Nor does one that is not there, or too large.
    let large = engine.file("large", &"x".repeat(600 << 10));
    let (none, large) = (format!("id=file,src={of_file}-none"), format!("id=file,src={large}"));
    build(&engine, &folder, &["--secret", &none]).explains(125, &["--secret", "cannot read"]);
    build(&engine, &folder, &["--no-cache", "--secret", &large]).explains(1, &["Dockerfile:2:", "500 KiB"]);
    assert_clean(&engine);
}

#[test]
fn an_agent_is_reached_by_a_socket_of_the_step() {
    let engine = engine!();
    require!(crate::support::has_program("ssh-agent"), "there is no ssh-agent");
    let socket = engine.scratch().join("agent");
    let mut agent = std::process::Command::new("ssh-agent");
    let mut agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    eventually("the agent listens", || socket.exists());
    // SSH_AGENTC_REQUEST_IDENTITIES; answered by a length, 12, and that there are none. The agent knows its own user only.
    let ask = "python3 -c \"import os, socket as s; a = s.socket(s.AF_UNIX); a.connect(os.environ['SSH_AUTH_SOCK']); \
               a.sendall(bytes([0, 0, 0, 1, 11])); print(a.recv(99).hex())\"";
    let python = image("python:gz");
    let dockerfile = format!(
        "FROM {python}\nUSER 5\nRUN --mount=type=ssh,required,uid=5,mode=0620 echo $SSH_AUTH_SOCK; stat -c %u:%g:%a $SSH_AUTH_SOCK; {ask}\n\
         RUN --mount=type=ssh,id=other [ -z \"$SSH_AUTH_SOCK\" ] || [ ! -e $SSH_AUTH_SOCK ]; echo optional\n\
         RUN --mount=type=ssh,id=named,target=/agent,uid=5 [ $SSH_AUTH_SOCK = /agent ]; ls -l /agent | cut -c1\n"
    );
    let folder = context(&engine, "ssh", &[("Dockerfile", &dockerfile)]);
    let named = format!("named={}", text(&socket));
    let mut command = engine.command(&["build", "--ssh", "default", "--ssh", &named, text(&folder)]);
    let output = command.env("SSH_AUTH_SOCK", &socket).output().unwrap();
    let built = said(output.stderr) + &String::from_utf8(output.stdout).unwrap();
    let killed = agent.kill().and_then(|()| agent.wait());
    assert!(output.status.success() && killed.is_ok(), "{built}");
    for words in ["\n/run/buildkit/ssh_agent.0\n5:0:620\n", "\n000000050c00000000\n", "\noptional\n", "\ns\n"]
    {
        assert!(built.contains(words), "{words}: {built}");
    }
    assert_eq!(inside(&engine, last(&built), "ls -d /run/buildkit /agent 2>/dev/null || echo none"), "none");
    let listener = UnixListener::bind(engine.scratch().join("gone")).unwrap();
    drop(listener);
    build(&engine, &folder, &["--ssh", &format!("default={}/Dockerfile", text(&folder))])
        .explains(125, &["no agent's socket", "ssh-add"]);
    assert_clean(&engine);
}

#[test]
fn steps_are_given_what_the_build_was_told() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nRUN grep -c . /proc/net/dev; grep 192.0.2.7 /etc/hosts; df -k /dev/shm | tail -1; ulimit -n; \
        cat /etc/resolv.conf; grep CapEff /proc/self/status\n";
    let flags = [
        "--network",
        "none",
        "--add-host",
        "there:192.0.2.7",
        "--shm-size",
        "2m",
        "--ulimit",
        "nofile=77:78",
        "--dns",
        "192.0.2.8",
        "--dns-search",
        "example.net",
        "--dns-option",
        "ndots:3",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CHOWN",
    ];
    let built = file(&engine, dockerfile, &flags).ok();
    for words in [
        "\n3\n192.0.2.7",
        "there",
        " 2048 ",
        "\n77\n",
        "nameserver 192.0.2.8",
        "search example.net",
        "options ndots:3",
        "CapEff:\t0000000000000001",
    ] {
        assert!(built.contains(words), "{words}: {built}");
    }
    // The host's network is seen by its namespace.
    let namespace = fs::read_link("/proc/self/ns/net").unwrap();
    let namespace = text(&namespace);
    let of_host = "FROM TINY\nRUN --network=host readlink /proc/self/ns/net\nRUN --network=none readlink /proc/self/ns/net\n";
    for flags in [["--allow", "network.host"], ["--network", "host"]] {
        let built = file(&engine, of_host, &[&flags[..], &["--no-cache"]].concat()).ok();
        assert_eq!(built.matches(namespace).count(), 1, "{built}");
    }
    file(&engine, of_host, &["--allow", "security.insecure"]).explains(125, &["sandbox"]);
    file(&engine, of_host, &["--network", "container:x"]).explains(125, &["not supported"]);
    // The program of a heredoc.
    let program = "FROM TINY\nRUN <<EOF\n#!/bin/cat\nshown by cat\nEOF\nRUN <<-'EOF'\n\t#!/bin/sh\n\techo by shell > /said; echo $0\nEOF\n";
    let built = file(&engine, program, &[]).ok();
    assert!(built.contains("#!/bin/cat\nshown by cat\n"), "{built}");
    assert!(built.contains("/dev/pipes/EOF\n"), "{built}");
    assert_eq!(
        inside(&engine, last(&built), "cat /said; ls /dev/pipes 2>/dev/null || echo none"),
        "by shell\nnone"
    );
}

#[test]
fn limits_of_a_build_hold_its_steps() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nRUN cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max\n";
    let flags = ["--memory", "64m", "--cpu-quota", "50000"];
    let output = file(&engine, dockerfile, &flags);
    if output.code != 0 && output.stderr.contains("cgroup") {
        return crate::support::skip("there is no delegated cgroup");
    }
    let built = output.ok();
    assert!(built.contains("\n67108864\n50000 100000\n"), "{built}");
}

#[test]
fn a_build_that_is_ended_or_killed_in_a_step_leaves_nothing() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nRUN echo kept > /first\n\
        RUN --mount=type=cache,target=/c --mount=target=/x,rw --mount=type=tmpfs,target=/t touch /begun; sleep 3217\n";
    let folder = context(&engine, "ended", &[("Dockerfile", dockerfile)]);
    let running = || host("pgrep -u $(id -u) -fx 'sleep 3217' || true");
    for (round, signal) in ["INT", "TERM", "KILL"].iter().enumerate() {
        let mut build = start(&engine, &folder, &[]);
        eventually("the step runs", || !running().is_empty());
        // Nobody is shown it, or means it by all.
        assert_eq!(engine.ok(&["ps", "-aq"]), "");
        engine.ok(&["rm", "-af"]);
        engine.ok(&["container", "prune", "-f"]);
        assert!(!running().is_empty());
        kill(build.id(), signal);
        let ended = build.wait().unwrap();
        let code = [130, 143, 137][round];
        assert_eq!(exit_code(ended), code, "{signal}");
        eventually("the step has ended", || running().is_empty());
        // That its process has ended is not yet that its monitor has.
        // Whatever comes next removes what is left once its monitor has ended, too.
        eventually("the step is gone", || {
            engine.ok(&["ps"]);
            fs::read_dir(engine.run_root().join("containers")).map_or(0, Iterator::count) == 0
        });
        assert_clean(&engine);
        let output = said(
            start(
                &engine,
                &context(&engine, "next", &[("Dockerfile", "FROM TINY\nRUN echo kept > /first\n")]),
                &[],
            )
            .wait_with_output()
            .unwrap()
            .stderr,
        );
        assert_eq!(cached(&output, "RUN"), [true], "{round}: {output}");
    }
}

#[test]
fn a_shell_is_opened_in_the_state_that_a_failed_step_left() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nWORKDIR /work\nENV NAME=value\nUSER 5:6\n\
        RUN --mount=type=tmpfs,target=/t --mount=type=secret,id=s,uid=5 --mount=type=cache,target=/c,uid=5 \
            echo half > /tmp/half; echo cached > /c/x; exit 3\n";
    let folder = context(&engine, "shell", &[("Dockerfile", dockerfile)]);
    let secret = format!("id=s,src={}", engine.file("secret", "of-the-shell"));
    let flags = ["build", "--shell-on-failure", "--secret", &secret, text(&folder)];
    let script = "cat /tmp/half /c/x /run/secrets/s; echo; pwd; id -u; echo $NAME; tty; exit 0\n";
    let output = engine.run_with_input(&flags, script.as_bytes());
    assert!(output.stdout.contains("half\ncached\nof-the-shell\n/work\n5\nvalue\nnot a tty\n"), "{output}");
    output.explains(1, &["Dockerfile:5:1", "exit code: 3"]);
    assert_clean(&engine);
    let mut terminal = Terminal::start(&engine.command(&flags), 24, 80);
    terminal.expect("$ ");
    terminal.type_in("tty; cat /tmp/half; stty size\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("half");
    terminal.expect("24 80");
    terminal.type_in("exit 7\n");
    terminal.expect("exit code: 3");
    assert_eq!(terminal.wait(), 1);
    assert_clean(&engine);
}

/// Which processes of networks there are, by what they say of themselves.
fn network_processes(engine: &Engine) -> BTreeSet<String> {
    let folders = fs::read_dir(engine.run_root().join("networks")).into_iter().flatten().flatten();
    let signed = folders.filter_map(|folder| fs::read_to_string(folder.path().join("process")).ok());
    signed.filter(|process| !process.is_empty()).collect()
}

#[test]
fn the_steps_of_a_build_share_one_process_of_their_network() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nRUN sleep 1\nRUN sleep 1; true\nRUN sleep 1; ip link show eth0\n";
    let folder = context(&engine, "plain", &[("Dockerfile", dockerfile)]);
    let mut running = Running::start(engine.command(&["build", text(&folder)]), b"");
    let mut seen = BTreeSet::new();
    while running.child.try_wait().unwrap().is_none() {
        seen.extend(network_processes(&engine));
        std::thread::sleep(Duration::from_millis(20));
    }
    running.wait().ok();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_clean(&engine);
}

#[test]
fn the_steps_of_a_stage_are_on_their_network_under_one_address_and_share_nothing_else() {
    let engine = engine!();
    // What a step leaves running, and the port that it listens on, are gone with it.
    let dockerfile = "FROM TINY AS one
RUN busybox nc -l -p 7000 >/dev/null & sleep 0.3; busybox ip -4 -o addr show eth0 >/first; hostname >>/first
RUN busybox ps >/processes; busybox ip -4 -o addr show eth0 >/second; hostname >>/second; grep extra /etc/hosts >>/second
RUN busybox timeout 1 busybox nc -l -p 7000; [ $? = 143 ]
FROM TINY
RUN busybox ip -4 -o addr show eth0 >/third; hostname >>/third
COPY --from=one /first /second /processes /
";
    let flags = ["--add-host", "extra:192.0.2.7"];
    let output = file(&engine, dockerfile, &flags).ok();
    let image = last(&output);
    let first = inside(&engine, image, "cat /first");
    assert!(first.contains("inet 10."), "{first}");
    assert_eq!(inside(&engine, image, "cat /second"), format!("{first}\n192.0.2.7\textra"));
    assert_ne!(inside(&engine, image, "cat /third"), first);
    assert!(!inside(&engine, image, "cat /processes").contains("nc -l"));
    // One that is given more than usual has a namespace for itself.
    let dockerfile =
        "FROM TINY\nRUN busybox ip addr add 192.0.2.1 dev eth0\nRUN ! busybox ip addr | grep 192.0.2.1\n";
    file(&engine, dockerfile, &["--cap-add", "NET_ADMIN"]).ok();
    file(&engine, dockerfile, &[]).explains(1, &["exit code"]);
    assert_clean(&engine);
}
