//! `build`: an image from a Dockerfile.

use crate::support::{Engine, Running, eventually, exit_code, setting, tiny};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A context with these files, and nothing else.
pub fn context(engine: &Engine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = engine.scratch().join(name);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("TINY", &tiny())).unwrap();
    }
    folder
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All that a build says, the id of its image in the last line.
pub fn build(engine: &Engine, context: &Path, flags: &[&str]) -> String {
    let output = engine.run(&[&["build"], flags, &[text(context)]].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stderr + &output.stdout
}

/// What a script says in a container of the image.
pub fn inside(engine: &Engine, image: &str, script: &str) -> String {
    engine.ok(&["run", "--rm", "--network", "none", "--entrypoint", "", image, "sh", "-ec", script])
}

fn config(engine: &Engine, image: &str) -> Value {
    engine.inspect_json(&["image", "inspect", image])["Config"].clone()
}

/// The steps of the Dockerfile but FROM in the order in which they began, each as whether it was cached and its instruction.
pub fn steps(output: &str) -> Vec<(bool, &str)> {
    let begun = output.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" ["));
    let steps = begun.filter_map(|(number, name)| {
        let (place, instruction) = name.split_once("] ")?;
        place.contains('/').then_some(())?;
        let is_cached = output.lines().any(|line| line == format!("#{number} CACHED"));
        (!instruction.starts_with("FROM ")).then_some((is_cached, instruction))
    });
    steps.collect()
}

/// The image.
pub fn last(output: &str) -> &str {
    output.lines().last().unwrap()
}

const FULL: &str = r#"ARG BASE=TINY
FROM $BASE
ARG WHO=world
ENV GREETING="hello $WHO" PLAIN=1
LABEL one=1 two="$GREETING"
WORKDIR /srv
WORKDIR app
COPY --chown=5:6 --chmod=640 one.txt two.txt data/
COPY tree .
COPY <<EOF /generated
to $WHO
EOF
RUN echo "$GREETING" > said && rm /etc/readme
RUN ["sh", "-c", "echo exec form > exec-form"]
RUN <<EOF
echo first > script
echo $WHO >> script
EOF
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s CMD true
USER 5
SHELL ["/bin/sh", "-e", "-c"]
ENTRYPOINT ["sh", "-c"]
CMD ["cat said; id -u; pwd"]
ONBUILD RUN touch /triggered
"#;

fn full(engine: &Engine, name: &str) -> PathBuf {
    let files = [
        ("Dockerfile", FULL),
        ("one.txt", "1"),
        ("two.txt", "2"),
        ("tree/deep/file", "deep"),
        ("tree/.hidden", "hidden"),
    ];
    context(engine, name, &files)
}

#[test]
fn most_instructions_do_what_they_say() {
    let engine = engine!();
    let folder = full(&engine, "full");
    let built = build(&engine, &folder, &["-t", "app", "--label", "three=3", "--build-arg", "WHO=you"]);
    let begins = format!(
        "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [1/9] FROM {}\n#2 DONE ",
        tiny()
    );
    assert!(built.starts_with(&begins), "{built}");
    assert!(built.contains("[9/9] RUN <<EOF"), "{built}");
    assert_eq!(last(&built), engine.ok(&["image", "inspect", "--format", "{{.Id}}", "app"]).trim());
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "app"]), "hello you\n5\n/srv/app");
    let script = "cd /srv/app; stat -c '%n %a %u:%g' data/one.txt deep deep/file; cat .hidden exec-form script \
                  /generated; [ ! -e /etc/readme ]; [ ! -e /triggered ]; echo $GREETING $PLAIN";
    assert_eq!(
        inside(&engine, "app", script),
        "data/one.txt 640 5:6\ndeep 755 0:0\ndeep/file 644 0:0\nhiddenexec form\nfirst\nyou\nto you\nhello you 1"
    );
    let of = config(&engine, "app");
    assert_eq!(of["Labels"]["two"], "hello you");
    assert_eq!(of["Labels"]["three"], "3");
    assert_eq!((&of["User"], &of["WorkingDir"]), (&"5".into(), &"/srv/app".into()));
    assert_eq!(of["StopSignal"], "SIGQUIT");
    assert_eq!(of["ExposedPorts"], serde_json::json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(of["OnBuild"], serde_json::json!(["RUN touch /triggered"]));
    let history = engine.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "app"]);
    for line in [
        "CMD [\"cat said; id -u; pwd\"]",
        "WORKDIR /srv/app",
        "COPY --chown=5:6 --chmod=640 one.txt two.txt data/ # buildkit",
        "COPY <<EOF /generated # buildkit",
        "RUN |1 WHO=you sh -c echo exec form > exec-form # buildkit",
        "EXPOSE [80/tcp 53/udp]",
    ] {
        assert!(history.lines().any(|known| known == line), "{line}: {history}");
    }
    // What it is built from is run as its trigger says.
    let child = context(&engine, "child", &[("Dockerfile", "FROM localhost/app\nUSER root\n")]);
    let file = format!("{}/Dockerfile", text(&child));
    engine.run(&["build", "-f", &file, text(&child)]).explains(1, &["Dockerfile:1:6", "touch /triggered"]);
}

#[test]
fn what_did_not_change_is_not_built_again() {
    let engine = engine!();
    let folder = full(&engine, "again");
    let first = build(&engine, &folder, &[]);
    assert!(steps(&first).iter().all(|(cached, _)| !cached), "{first}");
    let is_cached = |output: &str| steps(output).into_iter().map(|(cached, _)| cached).collect::<Vec<_>>();
    // Touched, and in another folder of the same content: nothing.
    for path in ["one.txt", "tree/deep/file"] {
        let file = fs::File::options().write(true).open(folder.join(path)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let second = build(&engine, &folder, &[]);
    assert_eq!(is_cached(&second), [true; 8], "{second}");
    assert_eq!(last(&second), last(&first));
    let elsewhere = build(&engine, &full(&engine, "elsewhere"), &[]);
    assert_eq!(last(&elsewhere), last(&first));
    // A file of the second COPY: from there on.
    fs::write(folder.join("tree/deep/file"), "changed").unwrap();
    let third = build(&engine, &folder, &[]);
    assert_eq!(is_cached(&third), [true, true, true, false, false, false, false, false], "{third}");
    assert_ne!(last(&third), last(&first));
    assert_eq!(inside(&engine, last(&third), "cat /srv/app/deep/file"), "changed");
    let fourth = build(&engine, &folder, &["--no-cache"]);
    assert_eq!(is_cached(&fourth), [false; 8], "{fourth}");
    // Layers that are gone are made again.
    engine.ok(&["image", "prune", "-a", "-f"]);
    let fifth = build(&engine, &folder, &["-q"]);
    assert_eq!(fifth.lines().count(), 1, "{fifth}");
    assert_eq!(inside(&engine, fifth.trim(), "cat /srv/app/said"), "hello world");
}

#[test]
fn stages_copy_from_one_another_and_unused_ones_are_skipped() {
    let engine = engine!();
    let file = "FROM TINY AS base\nRUN mkdir /out && echo made > /out/file && ln -s file /out/link && chown 3:4 /out/file\n\
                FROM TINY AS unused\nRUN false\n\
                FROM base AS Middle\nRUN echo more >> /out/file\n\
                FROM scratch AS tip\nCOPY --from=middle /out /copied\nCOPY --from=TINY /bin/busybox /busybox\n\
                FROM TINY\nCOPY --from=tip /copied/ /all/\nCOPY --from=0 --chown=7 /out/file /out/link /single/\n";
    let folder = context(&engine, "stages", &[("Dockerfile", file)]);
    let built = build(&engine, &folder, &["-t", "staged"]);
    assert!(!built.contains("RUN false"), "{built}");
    let script = "cat /all/file; readlink /all/link; stat -c %u:%g /all/file /single/file; cat /single/link";
    assert_eq!(inside(&engine, "staged", script), "made\nmore\nfile\n3:4\n7:7\nmade");
    let middle = build(&engine, &folder, &["--target", "MIDDLE"]);
    assert_eq!(steps(&middle).len(), 2, "{middle}");
    assert_eq!(inside(&engine, last(&middle), "cat /out/file"), "made\nmore");
    engine
        .run(&["build", "--target", "none", text(&folder)])
        .explains(1, &["target stage \"none\" could not be found"]);
}

#[test]
fn failures_say_where_and_leave_nothing() {
    let engine = engine!();
    let fails = |file: &str, words: &[&str]| {
        let folder =
            context(&engine, "failing", &[("Dockerfile", file), ("here", "x"), ("folder/file", "x")]);
        engine.run(&["build", text(&folder)]).explains(1, words);
    };
    fails(
        "FROM TINY\n\nRUN echo seen; exit 3\n",
        &[
            "Dockerfile:3:1",
            "process \"/bin/sh -c echo seen; exit 3\" did not complete successfully: exit code: 3",
        ],
    );
    fails("FROM TINY\nRUN [\"/no/such\"]\n", &["Dockerfile:2:1", "/no/such"]);
    fails("FROM TINY\nCOPY here missing /x/\n", &["Dockerfile:2:11", "\"missing\": not found"]);
    fails("FROM TINY\nCOPY here folder /x\n", &["Dockerfile:2:", "must be a directory and end with a /"]);
    fails("FROM TINY\nCOPY ../../../etc/passwd /x\n", &["Dockerfile:2:6", "not found"]);
    fails("FROM TINY\nCOPY --chown=nobody-there here /x\n", &["Dockerfile:2:1", "nobody-there"]);
    fails("FROM TINY\nCOPY --from=0 /x /\n", &["Dockerfile:2:13", "stage 0 is not before this one"]);
    fails("FROM TINY\nCOPY https://example.com/x /\n", &["Dockerfile:2:6", "source can't be a URL for COPY"]);
    fails("FROM TINY\nCOPY --chmod=u+q here /\n", &["Dockerfile:2:", "invalid chmod parameter: 'u+q'"]);
    fails("FROM TINY\nCOPY --exclude=[a here /\n", &["Dockerfile:2:", "syntax error in pattern: [a"]);
    fails("FROM TINY\nCOPY --parents here missing/x /y/\n", &["Dockerfile:2:", "\"missing/x\": not found"]);
    fails("FROM TINY\nADD --checksum=x here /\n", &["checksum requires HTTP(S) or Git sources"]);
    fails("FROM TINY\nRUNN x\n", &["Dockerfile:2:1", "RUNN"]);
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    let left = fs::read_dir(engine.data().join("containers")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
    let folder = context(&engine, "none", &[("x", "")]);
    engine.run(&["build", text(&folder)]).explains(125, &["cannot read", "Dockerfile"]);
    engine.run(&["build", "--cw=x", text(&folder)]).explains(125, &["--cw is not supported yet"]);
}

#[test]
fn what_is_ignored_is_neither_copied_nor_counts() {
    let engine = engine!();
    let files = [
        ("Dockerfile", "FROM TINY\nCOPY . /all/\nCOPY *.txt /texts/\n"),
        (".dockerignore", "*.log\nsecret\n!keep.log\n"),
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("x.log", "x"),
        ("keep.log", "k"),
        ("secret/key", "s"),
        ("sub/y.log", "y"),
    ];
    let folder = context(&engine, "ignoring", &files);
    // Of a file that is left out, the other name is a file like any.
    fs::hard_link(folder.join("secret/key"), folder.join("twin")).unwrap();
    let first = build(&engine, &folder, &[]);
    assert_eq!(
        inside(&engine, last(&first), "cd /all; find . -type f | sort; cat twin; ls /texts"),
        "./.dockerignore\n./Dockerfile\n./a.txt\n./b.txt\n./keep.log\n./sub/y.log\n./twin\nsa.txt\nb.txt"
    );
    fs::write(folder.join("x.log"), "changed").unwrap();
    assert_eq!(last(&build(&engine, &folder, &[])), last(&first));
    // Not there for COPY either.
    fs::write(folder.join("Dockerfile"), format!("FROM {}\nCOPY secret /\n", tiny())).unwrap();
    engine.run(&["build", text(&folder)]).explains(1, &["\"secret\": not found", ".dockerignore"]);
}

#[test]
fn files_go_where_links_of_the_image_lead_and_never_out_of_it() {
    let engine = engine!();
    let outside = engine.scratch().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let file = format!(
        "FROM TINY\nRUN ln -s {0} /out && ln -s /etc /conf && mkdir -m 700 /private\nCOPY a /conf/\nCOPY tree /\n\
         RUN mkdir -p {0}\nCOPY a /out/\nCOPY a /etc\n",
        text(&outside)
    );
    let files = [("Dockerfile", file.as_str()), ("a", "a"), ("tree/private/b", "b")];
    let folder = context(&engine, "links", &files);
    let built = build(&engine, &folder, &[]);
    let script = format!("cat /etc/a {}/a /private/b; stat -c %a /private; readlink /conf", text(&outside));
    assert_eq!(inside(&engine, last(&built), &script), "aab700\n/etc");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn local_archives_are_unpacked_by_add_alone() {
    let engine = engine!();
    let folder = context(
        &engine,
        "adding",
        &[("Dockerfile", "FROM TINY\nADD a.tgz /added/\nCOPY a.tgz /copied/\n"), ("in/f", "f")],
    );
    let tar = format!("tar -C {0} -czf {0}/a.tgz in", text(&folder));
    assert!(std::process::Command::new("sh").args(["-c", &tar]).status().unwrap().success());
    let built = build(&engine, &folder, &[]);
    assert_eq!(
        inside(&engine, last(&built), "cat /added/in/f; ls /added /copied"),
        "f/added:\nin\n\n/copied:\na.tgz"
    );
}

#[test]
fn the_image_of_a_file_from_standard_input_has_its_id_written() {
    let engine = engine!();
    let folder = context(&engine, "stdin", &[("f", "x")]);
    let ids = engine.scratch().join("id");
    let file = format!("FROM {}\nCOPY f /\nARG A\nRUN echo \"<$A>\" > /a\n", tiny());
    let flags =
        ["build", "-q", "-f", "-", "--build-arg", "A=b", "--iidfile", text(&ids), "-t", "one", "-t", "two:2"];
    let output = engine.run_with_input(&[&flags[..], &[text(&folder)]].concat(), file.as_bytes()).ok();
    assert_eq!(output.trim(), fs::read_to_string(&ids).unwrap());
    assert_eq!(inside(&engine, "two:2", "cat /a"), "<b>");
    assert_eq!(inside(&engine, "localhost/one:latest", "cat /f"), "x");
}

#[test]
fn a_build_that_is_ended_or_killed_leaves_nothing() {
    let engine = engine!();
    let file = "FROM TINY\nRUN echo kept > /first\nRUN touch /begun; sleep 3\n";
    let folder = context(&engine, "ended", &[("Dockerfile", file)]);
    for signal in ["TERM", "INT", "KILL"] {
        let mut command = engine.command(&["build", text(&folder)]);
        let mut build = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let steps = || fs::read_dir(engine.run_root().join("containers")).into_iter().flatten().flatten();
        eventually("the step runs", || steps().any(|step| step.path().join("live.json").exists()));
        // Begun is not yet executing.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let kill = ["-s", signal, &build.id().to_string()];
        assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
        let ended = build.wait().unwrap();
        match signal {
            "KILL" => eventually("the step has ended", || {
                engine.ok(&["ps", "-aq"]);
                steps().count() == 0
            }),
            "INT" => assert_eq!(exit_code(ended), 130),
            _ => assert_eq!(exit_code(ended), 143),
        }
        assert_eq!(engine.ok(&["ps", "-aq"]), "", "{signal}");
        for part in ["containers", "staging"] {
            let left = fs::read_dir(engine.data().join(part)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{part} after {signal}");
        }
    }
    // What was finished is used; nothing of the container itself is in the image.
    let again = build(&engine, &folder, &[]);
    let of_steps: Vec<bool> = steps(&again).into_iter().map(|(cached, _)| cached).collect();
    assert_eq!(of_steps, [true, false], "{again}");
    let name = last(&again);
    let saved = engine.scratch().join("saved.tar").display().to_string();
    engine.ok(&["save", "-q", "--format", "oci-dir", "-o", &saved.replace(".tar", ""), name]);
    let blobs = saved.replace(".tar", "/blobs/sha256");
    let list = format!("cd {blobs}; for f in *; do tar -tf $f 2>/dev/null; done | grep -c -e begun -e first");
    assert_eq!(crate::support::host(&list).trim(), "2");
    let odd = format!(
        "cd {blobs}; for f in *; do tar -tf $f 2>/dev/null; done | grep -e init -e resolv -e '^dev/.' || true"
    );
    assert_eq!(crate::support::host(&odd).trim(), "");
}

#[test]
fn a_build_whose_program_is_replaced_says_so() {
    let mut engine = engine!();
    let program = engine.scratch().join("coracle");
    fs::copy(setting("CORACLE").unwrap(), &program).unwrap();
    engine.use_program(&program);
    let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    let file = format!("FROM TINY\nRUN nc 127.0.0.1 {port} </dev/null\nRUN true\n");
    let folder = context(&engine, "replaced", &[("Dockerfile", &file)]);
    let build = Running::start(engine.command(&["build", "--network", "host", text(&folder)]), b"");
    // The first step runs until it is hung up on.
    door.set_nonblocking(true).unwrap();
    let mut call = None;
    eventually("the step runs", || {
        call = door.accept().ok();
        call.is_some()
    });
    fs::remove_file(&program).unwrap();
    drop(call);
    build.wait().explains(1, &["RUN true", "the program was replaced while it runs; start it again"]);
    fs::copy(setting("CORACLE").unwrap(), &program).unwrap();
}

#[test]
fn an_image_from_scratch_has_a_search_path_and_a_folder() {
    let engine = engine!();
    let file = "FROM scratch AS plain\nCOPY --from=TINY /bin/busybox /tools/\n\
                FROM plain\nENV PATH=/tools:$PATH\nRUN [\"busybox\", \"touch\", \"here\"]\n";
    let folder = context(&engine, "from-scratch", &[("Dockerfile", file)]);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let built = build(&engine, &folder, &["--target", "plain"]);
    let plain = config(&engine, last(&built));
    assert_eq!(plain["Env"], serde_json::json!([format!("PATH={path}")]));
    assert_eq!(plain["WorkingDir"], "/");
    let built = build(&engine, &folder, &[]);
    assert_eq!(config(&engine, last(&built))["Env"], serde_json::json!([format!("PATH=/tools:{path}")]));
    let list = ["run", "--rm", "--network", "none", last(&built), "busybox", "find", "/here"];
    assert_eq!(engine.ok(&list), "/here");
    let checked = engine.run(&["build", "--check", text(&folder)]);
    assert!(!format!("{}{}", checked.stdout, checked.stderr).contains("PATH"), "{checked}");
}
