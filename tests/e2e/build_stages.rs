//! `build`: stages side by side, equal steps, and what is seen of it.

use crate::build::{build, context, inside, last, steps, text};
use crate::support::registry::{Registry, Response};
use crate::support::terminal::Terminal;
use crate::support::{Engine, Output, eventually, exit_code, host};
use base64::Engine as _;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Two stages that do not need each other, and a target that needs both.
fn two(engine: &Engine, name: &str, one: &str, other: &str) -> std::path::PathBuf {
    let file = format!(
        "FROM TINY AS one\nRUN {one}\nFROM TINY AS other\nRUN {other}\n\
         FROM scratch\nCOPY --from=one /etc /one\nCOPY --from=other /etc /other\n"
    );
    context(engine, name, &[("Dockerfile", file.as_str())])
}

/// A build that has said all of these, in whatever order.
fn has_said(engine: &Engine, folder: &Path, signs: &[&str]) -> Child {
    let mut command = engine.command(&["build", "--jobs", "2", "--progress", "plain", text(folder)]);
    let mut build = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut missing = signs.to_vec();
    let mut said = String::new();
    for line in BufReader::new(build.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        missing.retain(|sign| !line.ends_with(sign) || line.contains("echo"));
        said = said + &line + "\n";
        if missing.is_empty() {
            return build;
        }
    }
    build.wait().unwrap();
    panic!("never said {missing:?}: {said}");
}

/// Processes of this engine, and of its containers by a word of their command.
fn processes(engine: &Engine, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text(engine.data())) || line.contains(word) {
            found.push(line);
        }
    }
    found
}

fn nothing_is_left(engine: &Engine, word: &str) {
    eventually("no process is left", || processes(engine, word).is_empty());
    eventually("nothing is left", || {
        let is_empty = |part: &str| fs::read_dir(engine.data().join(part)).map_or(0, Iterator::count) == 0;
        engine.ok(&["ps", "-aq"]).is_empty() && is_empty("containers") && is_empty("staging")
    });
}

fn plain(engine: &Engine, folder: &Path, flags: &[&str]) -> Output {
    engine.run(&[&["build", "--progress", "plain"], flags, &[text(folder)]].concat())
}

#[test]
fn independent_stages_overlap_and_a_killed_build_leaves_nothing() {
    let engine = engine!();
    // Neither ends by itself: that both are seen shows that they run at the same time.
    let folder =
        two(&engine, "overlap", "echo one-began; sleep 61731", "echo other-began; trap '' TERM; sleep 61731");
    for signal in ["KILL", "INT"] {
        let mut build = has_said(&engine, &folder, &["one-began", "other-began"]);
        assert!(processes(&engine, "61731").len() >= 3);
        let kill = Command::new("kill").args(["-s", signal, &build.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let ended = build.wait().unwrap();
        assert_eq!(exit_code(ended), if signal == "KILL" { 137 } else { 130 });
        nothing_is_left(&engine, "61731");
    }
}

/// The terminal's SIGINT goes to all processes of the build at once.
#[test]
fn ctrl_c_ends_the_build_and_keeps_what_was_finished() {
    let engine = engine!();
    let folder = two(
        &engine,
        "ctrl-c",
        "echo finished > /finished",
        "trap '' INT TERM; echo other-\"$((1 + 1))\"; sleep 61733",
    );
    for form in ["plain", "tty"] {
        let args = ["build", "--network", "none", "--jobs", "1", "--progress", form, text(&folder)];
        let mut terminal = Terminal::start(&engine.command(&args), 24, 120);
        terminal.expect("other-2");
        terminal.type_in("\x03");
        assert_eq!(terminal.wait(), 130, "{}", terminal.screen());
        nothing_is_left(&engine, "61733");
        assert!(terminal.screen().contains("the build was interrupted"), "{}", terminal.screen());
        assert!(terminal.is_cooked());
        assert_eq!(engine.ok(&["image", "ls", "-aq", "--filter", "dangling=true"]), "");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(text(engine.data())), "{mounts}");
    }
    let next = plain(&engine, &folder, &["--network", "none", "--target", "one"]);
    assert_eq!(steps(&next.stderr), [(true, "RUN echo finished > /finished")]);
}

#[test]
fn a_stage_that_fails_ends_the_others() {
    let engine = engine!();
    let folder = two(&engine, "failing", "sleep 61732", "sleep 1; echo other-failed; exit 7");
    let output = plain(&engine, &folder, &["--jobs", "2"]);
    assert!(output.stderr.contains(" CANCELED\n"), "{}", output.stderr);
    let place = "   4 | >>> RUN sleep 1; echo other-failed; exit 7\n";
    assert!(output.stderr.contains(place), "{}", output.stderr);
    let report = " > [other 2/2] RUN sleep 1;";
    output.explains(1, &["Dockerfile:4:1", "exit code: 7", report, "other-failed\n------\n"]);
    nothing_is_left(&engine, "61732");
}

#[test]
fn with_one_job_stages_come_one_after_the_other() {
    let engine = engine!();
    let folder = two(&engine, "serial", "echo a > /etc/a", "echo b > /etc/b");
    let built = build(&engine, &folder, &["--jobs", "1", "-t", "both"]);
    let names: Vec<&str> = built.lines().filter(|line| line.contains(" [")).collect();
    let expected = [
        "#1 [internal] load build definition from Dockerfile".into(),
        format!("#2 [one 1/2] FROM {}", crate::support::tiny()),
        "#3 [one 2/2] RUN echo a > /etc/a".into(),
        format!("#4 [other 1/2] FROM {}", crate::support::tiny()),
        "#5 [other 2/2] RUN echo b > /etc/b".into(),
        "#6 [stage-2 1/2] COPY --from=one /etc /one".into(),
        "#7 [stage-2 2/2] COPY --from=other /etc /other".into(),
    ];
    assert_eq!(names, expected, "{built}");
    let again = build(&engine, &folder, &["--jobs", "0"]);
    assert!(steps(&again).iter().all(|(cached, _)| *cached), "{again}");
    assert_eq!(last(&again), last(&built));
    // One stage anew, and what stands on its files if they are others.
    for flag in ["--no-cache-filter=other", "--no-cache=other"] {
        let filtered = build(&engine, &folder, &[flag]);
        let anew: Vec<&str> =
            steps(&filtered).into_iter().filter(|(cached, _)| !cached).map(|(_, step)| step).collect();
        assert_eq!(anew.first(), Some(&"RUN echo b > /etc/b"), "{filtered}");
        assert!(!anew.contains(&"RUN echo a > /etc/a"), "{filtered}");
    }
    plain(&engine, &folder, &["--no-cache", "--no-cache-filter", "one"]).explains(125, &["together"]);
}

#[test]
fn equal_steps_are_carried_out_once() {
    let engine = engine!();
    let step = "sleep 1; head -c 9 /dev/urandom | base64 > /etc/random";
    // In two stages, also where nothing is taken from the cache.
    let folder = two(&engine, "equal", step, step);
    for flags in [&["--no-cache"][..], &["--no-cache"], &[]] {
        let built = build(&engine, &folder, &[flags, &["--jobs", "2", "-t", "equal"]].concat());
        let runs = steps(&built).into_iter().filter(|(_, step)| step.starts_with("RUN"));
        let carried_out = runs.filter(|(cached, _)| !cached).count();
        assert_eq!(carried_out, usize::from(!flags.is_empty()), "{built}");
    }
    // In two builds: of another one's layer the times would be others, and so the image.
    let file = "FROM TINY\nRUN sleep 2; head -c 9 /dev/urandom | base64 > /random\n";
    let folder = context(&engine, "builds", &[("Dockerfile", file)]);
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..3).map(|_| scope.spawn(|| plain(&engine, &folder, &[]))).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert!(outputs.iter().all(|output| output.code == 0 && output.stdout == outputs[0].stdout));
    let made = outputs.iter().filter(|output| !output.stderr.contains("CACHED")).count();
    assert_eq!(made, 1);
    let locks = fs::read_dir(engine.data().join("locks")).unwrap().flatten();
    assert_eq!(locks.filter(|lock| lock.file_name().to_string_lossy().starts_with("step-")).count(), 0);
    // Who waited for one that fails makes it itself.
    let file = "FROM TINY\nRUN sleep 1; exit 3\n";
    let folder = context(&engine, "both-fail", &[("Dockerfile", file)]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| plain(&engine, &folder, &[]).explains(1, &["exit code: 3"]));
        }
    });
}

#[test]
fn steps_of_onbuild_are_counted() {
    let engine = engine!();
    let file = "FROM TINY AS parent\nONBUILD RUN touch /a\nONBUILD ENV A=1\nONBUILD COPY Dockerfile /\n\
                FROM parent AS child\nRUN touch /b\n";
    let folder = context(&engine, "parent", &[("Dockerfile", file)]);
    let built = build(&engine, &folder, &["-t", "child"]);
    for line in ["[child 1/3] RUN touch /a", "[child 2/3] COPY Dockerfile /", "[child 3/3] RUN touch /b"] {
        assert!(built.contains(line), "{line}: {built}");
    }
    build(&engine, &folder, &["-t", "parent", "--target", "parent"]);
    let child = context(&engine, "child", &[("Dockerfile", "FROM localhost/parent\nWORKDIR /w\n")]);
    assert!(build(&engine, &child, &[]).contains("[4/4] WORKDIR /w"));
}

#[test]
fn progress_has_a_form_for_people_for_logs_and_for_programs() {
    let engine = engine!();
    let file = "FROM TINY\nRUN printf 'one\\n\\033[31mtwo\\n' >&2; printf unfinished\n";
    let folder = context(&engine, "forms", &[("Dockerfile", file)]);
    let output = plain(&engine, &folder, &[]);
    assert_eq!(output.stdout.lines().count(), 1);
    assert_eq!(output.stdout.trim(), last(&output.stdout));
    let said: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("#3 ")).collect();
    assert_eq!(said[0], "#3 [2/2] RUN printf 'one\\n\\033[31mtwo\\n' >&2; printf unfinished");
    let texts: Vec<&str> = said[1..].iter().map(|line| line.splitn(3, ' ').nth(2).unwrap_or("")).collect();
    let mut sorted = texts[..3].to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, ["\\u{1b}[31mtwo", "one", "unfinished"]);
    assert!(said[4].starts_with("#3 DONE ") && said.len() == 5, "{said:?}");
    for flags in [&["-q"][..], &["--progress", "quiet"], &["--progress=none"]] {
        let output = engine.run(&[&["build"], flags, &[text(&folder)]].concat());
        assert_eq!((output.stderr.as_str(), output.stdout.lines().count()), ("", 1));
    }
    for form in ["json", "rawjson"] {
        let flags = ["build", "--no-cache", "--progress", form, text(&folder)];
        let output = engine.run(&flags);
        assert_eq!(output.code, 0, "{}", output.stderr);
        let objects: Vec<Value> =
            output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let logs = objects.iter().filter_map(|object| object["logs"][0]["data"].as_str());
        let said: Vec<u8> =
            logs.flat_map(|data| base64::prelude::BASE64_STANDARD.decode(data).unwrap()).collect();
        assert!(String::from_utf8(said).unwrap().contains("\x1b[31mtwo\n"));
        let done = |object: &Value| object["vertexes"][0]["completed"].is_string();
        let names: Vec<&str> = objects
            .iter()
            .filter(|object| done(object))
            .filter_map(|object| object["vertexes"][0]["name"].as_str())
            .collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names[0].starts_with("[internal] load build definition") && names[3] == "exporting to image");
        let status = objects.iter().find_map(|object| object["statuses"][0]["id"].as_str());
        assert_eq!(status, Some(&*format!("writing image {}", output.stdout.trim())));
    }
    engine.run(&["build", "--progress", "tty", text(&folder)]).explains(125, &["needs a terminal"]);
    engine.run(&["build", "--progress", "loud", text(&folder)]).explains(125, &["--progress"]);
    engine.run(&["build", "--jobs", "-1", text(&folder)]).explains(125, &["--jobs"]);
}

#[test]
fn what_is_done_around_the_steps_is_shown_as_steps() {
    let engine = engine!();
    let server = Registry::start();
    server.rule(|request| (request.path == "/x").then(|| Response::new(200, "fetched")));
    let url = format!("http://{}/x", server.address());
    let file = format!("FROM TINY\nCOPY large /\nADD {url} /\n");
    let folder = context(&engine, "around", &[("Dockerfile", &file), ("large", &"x".repeat(9 << 20))]);
    host(&format!("touch -d '1 hour ago' {}/large; sleep 0.2", text(&folder)));
    let out = engine.scratch().join("out");
    let flags = ["-t", "r.io/made:1", "--build-context", &format!("other={url}"), "--load"];
    let built = build(&engine, &folder, &[&flags[..], &["-o", text(&out)]].concat());
    let names: Vec<&str> = built
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(' '))
        .filter(|(_, name)| {
            ["[internal]", "export", "reading", "writing", "naming"].iter().any(|n| name.starts_with(n))
        })
        .map(|(_, name)| name)
        .collect();
    let load = format!("[internal] load {url}");
    let expected = [
        "[internal] load build definition from Dockerfile",
        &load,
        "[internal] load build context",
        "reading 1 file: 9.44MB",
        &load,
        "exporting to image",
        &format!("writing image {}", engine.ok(&["image", "inspect", "--format", "{{.Id}}", "r.io/made:1"])),
        "naming to r.io/made:1",
        "exporting to client directory",
    ];
    assert_eq!(names, expected, "{built}");
    assert_eq!(fs::read_to_string(out.join("x")).unwrap(), "fetched");
    // A context that is known is not read.
    let again = build(&engine, &folder, &["-f", &folder.join("Dockerfile").display().to_string()]);
    assert!(!again.contains("build context") && again.contains("exporting to image"), "{again}");
    let failing = context(&engine, "failing", &[("Dockerfile", &format!("FROM TINY\nADD {url}y /\n"))]);
    let output = plain(&engine, &failing, &[]);
    assert!(output.stderr.contains(&format!("[internal] load {url}y\n#3 ERROR: cannot fetch")), "{output}");
    output.explains(1, &["cannot fetch"]);
    let output = plain(&engine, &folder, &["-o", "type=oci,dest=/no/such/folder/x"]);
    assert!(output.stderr.contains(" exporting to oci image format\n"), "{output}");
    output.explains(1, &["/no/such/folder"]);
}

#[test]
fn a_terminal_shows_a_build_live_and_is_as_before_after_it() {
    let engine = engine!();
    let file = "FROM TINY\nRUN printf 'title \\033]0;bad\\007\\n'; echo tail-line; sleep 61733\n";
    let folder = context(&engine, "live", &[("Dockerfile", file)]);
    let mut terminal = Terminal::start(&engine.command(&["build", text(&folder)]), 24, 70);
    terminal.expect("[+] Building ");
    terminal.expect(" => => tail-line");
    terminal.type_in("\x03");
    terminal.expect("CANCELED [2/2] RUN printf");
    terminal.expect("FAILED");
    terminal.expect("interrupted");
    assert_eq!(terminal.wait(), 130);
    assert!(terminal.is_cooked());
    assert!(terminal.screen().contains("title \\u{1b}]0;bad\\u{7}"), "{:?}", terminal.screen());
    assert!(!terminal.screen().contains("\x1b]0;"), "{:?}", terminal.screen());
    nothing_is_left(&engine, "61733");
    fs::write(folder.join("Dockerfile"), format!("FROM {}\nRUN echo quick\n", crate::support::tiny()))
        .unwrap();
    let mut terminal = Terminal::start(&engine.command(&["build", text(&folder)]), 24, 70);
    terminal.expect(" => [2/2] RUN echo quick");
    terminal.expect("(2/2) FINISHED");
    terminal.expect("sha256:");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn what_is_unwise_is_told_and_may_be_an_error() {
    let engine = engine!();
    let folder = context(&engine, "unwise", &[("Dockerfile", "FROM TINY AS Odd\nCMD echo hi\n")]);
    let file = folder.join("Dockerfile");
    let check = |flags: &[&str]| engine.run(&[&["build", "--check"], flags, &[text(&folder)]].concat());
    let output = check(&[]);
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.starts_with("Check complete, 2 warnings have been found!\n\nWARNING: "),
        "{}",
        output.stdout
    );
    let url = "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n";
    assert!(
        output.stdout.contains(url) && output.stdout.contains("   2 | >>> CMD echo hi\n"),
        "{}",
        output.stdout
    );
    // Nothing is built, and a build tells of the same.
    assert!(!engine.data().join("build-cache/steps").exists());
    let built = build(&engine, &folder, &[]);
    let block = "\n 2 warnings found (use --check to expand):\n - StageNameCasing: Stage name 'Odd' should be lowercase (line 1)\n";
    assert!(built.contains(block), "{built}");
    let rewrite = |text: &str| fs::write(&file, text.replace("TINY", &crate::support::tiny())).unwrap();
    rewrite("# check=error=true\nFROM TINY\nCMD echo hi\n");
    plain(&engine, &folder, &[]).explains(1, &["lint violation found for rules: JSONArgsRecommended"]);
    rewrite("# check=skip=JSONArgsRecommended;error=true\nFROM TINY\nCMD echo hi\n");
    assert_eq!(check(&[]).ok(), "Check complete, no warnings found.");
    assert!(!build(&engine, &folder, &[]).contains("warning"));
    check(&["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]).ok();
    check(&["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=what"]).explains(125, &["invalid check option"]);
    rewrite("FROM TINY\nCMD echo hi\nRUN --mount=type=what true\n");
    check(&[]).explains(1, &["Dockerfile:3:"]);
}

#[test]
fn stages_and_builds_remember_the_context_together() {
    let engine = engine!();
    let file = "FROM TINY AS a\nCOPY a /\nFROM TINY AS b\nCOPY b /\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let folder = context(&engine, "shared", &[("Dockerfile", file), ("a", "first"), ("b", "second")]);
    // Older than what could have been changed in the same tick.
    host(&format!("touch -d '1 hour ago' {0}/a {0}/b; sleep 0.2", text(&folder)));
    let built = build(&engine, &folder, &["--jobs", "2"]);
    assert_eq!(steps(&built).iter().filter(|(cached, _)| !cached).count(), 4, "{built}");
    let cache = engine.data().join("build-cache");
    let files = fs::read_dir(&cache)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("contents-"));
    let sizes: Vec<u64> = files.map(|entry| entry.metadata().unwrap().len()).collect();
    // A head, a sum, and a record for each of both files.
    assert_eq!(sizes, [19 + 4 + 2 * 92 + 8]);
    assert_eq!(inside_of_scratch(&engine, last(&built)), ["a", "b"]);
}

/// The files of an image without a shell.
fn inside_of_scratch(engine: &Engine, image: &str) -> Vec<String> {
    let file = format!("FROM {}\nCOPY --from={image} / /all\n", crate::support::tiny());
    let folder = context(engine, "look", &[("Dockerfile", file.as_str())]);
    let built = build(engine, &folder, &[]);
    inside(engine, last(&built), "ls /all").split_whitespace().map(str::to_owned).collect()
}
