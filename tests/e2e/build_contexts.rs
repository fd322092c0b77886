//! `build`: contexts from elsewhere than a folder, and contexts with names.

use crate::build::{build, context, inside, last, steps, text};
use crate::build_copy::repository;
use crate::support::image::{Image, Layer, gzip};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, eventually, has_program, host, skip, tiny};
use std::fs;

/// A tar stream of these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let content = content.replace("TINY", &tiny());
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn staged(engine: &Engine) -> usize {
    fs::read_dir(engine.data().join("staging")).map_or(0, Iterator::count)
}

#[test]
fn standard_input_is_a_dockerfile_or_a_context() {
    let engine = engine!();
    let file = format!("FROM {}\nRUN echo made > /made\n", tiny());
    let output = engine.run_with_input(&["build", "-q", "-"], file.as_bytes()).ok();
    assert_eq!(inside(&engine, output.trim(), "cat /made"), "made");
    let copying = format!("FROM {}\nCOPY x /\n", tiny());
    engine
        .run_with_input(&["build", "-"], copying.as_bytes())
        .explains(1, &["Dockerfile:2:6", "\"x\": not found"]);
    let files = [
        ("Dockerfile", "FROM TINY\nCOPY . /all/\n"),
        ("other/File", "FROM TINY\nCOPY other /other/\n"),
        ("a", "a"),
        ("left.out", "x"),
        (".dockerignore", "*.out\n"),
    ];
    let plain = archive(&files);
    for bytes in [plain.clone(), gzip(&plain)] {
        let output = engine.run_with_input(&["build", "-q", "-"], &bytes).ok();
        assert_eq!(inside(&engine, output.trim(), "cat /all/a; ls /all"), "aDockerfile\na\nother");
    }
    // The same content is the same, wherever it was unpacked.
    let again = engine.run_with_input(&["build", "-"], &plain).all();
    assert!(steps(&again)[0].0, "{again}");
    let output = engine.run_with_input(&["build", "-q", "-f", "other/File", "-"], &plain).ok();
    assert_eq!(inside(&engine, output.trim(), "ls /other"), "File");
    engine.run_with_input(&["build", "-f", "-", "-"], &plain).explains(125, &["both"]);
    engine.run_with_input(&["build", "-f", "x", "-"], file.as_bytes()).explains(125, &["-f"]);
    engine.run_with_input(&["build", "-f", "x", "-"], &plain).explains(125, &["cannot read", "x"]);
    let path = engine.file("a.tar", "");
    engine.run(&["build", &path]).explains(125, &["must be a folder", "build - <"]);
    assert_eq!(staged(&engine), 0);
}

#[test]
fn a_context_is_fetched_by_its_url() {
    let engine = engine!();
    let server = Registry::start();
    let bytes = gzip(&archive(&[("Dockerfile", "FROM TINY\nCOPY a /\n"), ("a", "a")]));
    let file = format!("FROM {}\nRUN echo made > /made\n", tiny());
    server.rule(move |request| match request.path.as_str() {
        "/context.tar.gz" => Some(Response::new(200, bytes.clone())),
        "/file" => Some(Response::new(200, file.clone())),
        _ => None,
    });
    let at = |path: &str| format!("http://{}{path}", server.address());
    let output = engine.ok(&["build", "-q", &at("/context.tar.gz")]);
    assert_eq!(inside(&engine, output.trim(), "cat /a"), "a");
    let output = engine.ok(&["build", "-q", &at("/file")]);
    assert_eq!(inside(&engine, output.trim(), "cat /made"), "made");
    engine.run(&["build", &at("/none")]).explains(1, &["cannot fetch", "/none"]);
    assert_eq!(staged(&engine), 0);
}

#[test]
fn a_context_is_a_repository() {
    let engine = engine!();
    if !has_program("git") {
        return skip("git is not installed");
    }
    let (server, _) = repository(&engine);
    let url = format!("http://{}/a.git", server.address());
    let file = engine.file("File", &format!("FROM {}\nCOPY . /all/\n", tiny()));
    let built =
        engine.run_with_input(&["build", "-q", "-f", "-", &format!("{url}#:sub")], &fs::read(file).unwrap());
    assert_eq!(inside(&engine, built.ok().trim(), "ls -A /all"), "deep");
    let built = engine.run(&["build", "-t", "of-git", &url]).all();
    assert!(steps(&built)[0].1.starts_with("COPY . /"), "{built}");
    engine.run(&["build", &format!("{url}#v1")]).explains(125, &["cannot read", "Dockerfile"]);
    assert_eq!(staged(&engine), 0);
}

#[test]
fn contexts_with_names_go_before_stages_and_images() {
    let engine = engine!();
    let server = Registry::start();
    server.rule(|request| (request.path == "/x").then(|| Response::new(200, "fetched")));
    let other = context(
        &engine,
        "other",
        &[("f", "of the folder"), ("bin/x", "x"), ("no", "no"), (".dockerignore", "no\n")],
    );
    let file = "FROM base AS begin\nFROM r.io/nowhere/image:1 AS second\nRUN echo second > /second\n\
                FROM TINY AS stage\nRUN false\n\
                FROM TINY\nCOPY --from=other . /other/\nCOPY --from=url context /url\nCOPY --from=stage f /stage\n\
                COPY --from=tool /bin/busybox /busybox\nCOPY --from=second /second /\nCOPY --from=begin / /begin/\n";
    let folder = context(&engine, "named", &[("Dockerfile", file)]);
    let flags = [
        format!("other={}", text(&other)),
        format!("stage={}", text(&other)),
        format!("base={}", text(&other)),
        format!("url=http://{}/x", server.address()),
        format!("tool=docker-image://{}", tiny()),
        format!("r.io/nowhere/image:1=docker-image://{}", tiny()),
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|flag| ["--build-context", flag]).collect();
    let built = build(&engine, &folder, &flags);
    assert!(!built.contains("RUN false"), "{built}");
    let script = "ls -A /other /begin; cat /url /stage /second; [ -x /busybox ]; cat /begin/f";
    assert_eq!(
        inside(&engine, last(&built), script),
        "/begin:\n.dockerignore\nbin\nf\n\n/other:\n.dockerignore\nbin\nf\nfetchedof the foldersecond\nof the folder"
    );
    // Its content counts.
    let again = build(&engine, &folder, &flags);
    assert_eq!(last(&again), last(&built));
    fs::write(other.join("f"), "changed").unwrap();
    let changed = build(&engine, &folder, &flags);
    assert_eq!(inside(&engine, last(&changed), "cat /other/f /begin/f"), "changedchanged");
    let fails = |flag: &str, words: &[&str]| {
        engine.run(&["build", "--build-context", flag, text(&folder)]).explains(125, words);
    };
    fails("x", &["NAME=FOLDER"]);
    fails("x=target:y", &["target:y", "not supported yet"]);
    fails("x=/no/such/folder", &["cannot open", "/no/such/folder"]);
    assert_eq!(staged(&engine), 0);
}

#[test]
fn images_in_a_layout_are_built_on_and_copied_and_mounted_from() {
    let engine = engine!();
    let image = |text: &str| Image::tiny_with(vec![Layer::new().file("said", text.as_bytes(), 0o644)]);
    let layout = engine.folder("layout");
    image("one").write_layout(layout.as_ref());
    let file = "FROM base\nRUN cat said > built\nCOPY --from=r.io/nowhere/tool:1 /said /copied\n\
                RUN --mount=from=base,target=/m cat /m/said > /mounted\n";
    let folder = context(&engine, "built", &[("Dockerfile", file)]);
    let flags = [format!("base=oci-layout://{layout}"), format!("r.io/nowhere/tool:1=oci-layout://{layout}")];
    let flags: Vec<&str> = flags.iter().flat_map(|flag| ["--build-context", flag]).collect();
    let ids = || {
        let ids = engine.ok(&["images", "-aq", "--no-trunc"]);
        ids.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let before = ids();
    let built = build(&engine, &folder, &flags);
    assert_eq!(inside(&engine, last(&built), "cat built copied mounted"), "oneoneone");
    assert!(steps(&build(&engine, &folder, &flags)).iter().all(|(is_cached, _)| *is_cached));
    // It is no image of the store: what was built is.
    assert_eq!(ids().difference(&before).collect::<Vec<_>>(), [last(&built)]);
    engine.ok(&["rmi", last(&built)]);
    engine.ok(&["builder", "prune", "-af"]);
    assert_eq!(ids(), before);
    let again = build(&engine, &folder, &flags);
    assert_eq!(inside(&engine, last(&again), "cat built"), "one");
    engine.ok(&["store", "verify"]);
    // Another image in the same folder is another base.
    fs::remove_dir_all(&layout).unwrap();
    image("two").write_layout(layout.as_ref());
    let changed = build(&engine, &folder, &flags);
    assert_eq!(inside(&engine, last(&changed), "cat built copied mounted"), "twotwotwo");
    // As a saved one, with its tag.
    engine.ok(&["tag", last(&again), "r.io/org/app:1.2"]);
    let saved = engine.scratch().join("saved");
    engine.ok(&["save", "-q", "--format", "oci-dir", "-o", text(&saved), "r.io/org/app:1.2"]);
    let flag = format!("base=oci-layout://{}:1.2", text(&saved));
    let simple = context(&engine, "simple", &[("Dockerfile", "FROM base\nCMD cat built\n")]);
    let built = build(&engine, &simple, &["--build-context", &flag]);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", last(&built)]), "one");
    let fails = |flag: &str, more: &[&str], words: &[&str]| {
        let args = [&["build", "--build-context", flag], more, &[text(&simple)]].concat();
        engine.run(&args).explains(125, words);
    };
    let at = |tail: &str| format!("base=oci-layout://{}{tail}", text(&saved));
    fails(&at("/none"), &[], &["no such folder", "fix: "]);
    fails(&at("/blobs"), &[], &["no index.json", "fix: "]);
    fails(&at(":1.3"), &[], &["no image tagged '1.3'", "fix: ", ":1.2"]);
    fails(&at("@sha256:12"), &[], &["sha256:12", "fix: "]);
    fails(&at(&format!("@sha256:{}", "0".repeat(64))), &[], &["it has no manifest", "fix: ", ":1.2"]);
    fails(&at(""), &["--platform", "linux/s390x"], &["linux/s390x", "fix: "]);
    // Nobody but the user says which folders of this machine are read.
    let foreign = format!("FROM oci-layout://{}\n", text(&saved));
    let foreign = context(&engine, "foreign", &[("Dockerfile", &foreign)]);
    assert_ne!(engine.run(&["build", text(&foreign)]).code, 0);
}

#[test]
fn what_was_fetched_goes_when_a_build_fails_or_is_killed() {
    let engine = engine!();
    let failing = archive(&[("Dockerfile", "FROM TINY\nRUN false\n"), ("a", "a")]);
    engine.run_with_input(&["build", "-"], &failing).explains(1, &["exit code: 1"]);
    assert_eq!(staged(&engine), 0);
    let sleeping = archive(&[("Dockerfile", "FROM TINY\nRUN sleep 3\n"), ("a", "a")]);
    let path = engine.scratch().join("sleeping.tar");
    fs::write(&path, sleeping).unwrap();
    let mut command = engine.command(&["build", "-"]);
    command.stdin(fs::File::open(&path).unwrap()).stdout(std::process::Stdio::null());
    let mut build = command.spawn().unwrap();
    // A step is not listed; its folder is there while it runs.
    let steps = || fs::read_dir(engine.data().join("containers")).map_or(0, Iterator::count);
    eventually("the step runs", || steps() == 1);
    assert!(staged(&engine) > 0);
    host(&format!("kill -9 {}", build.id()));
    build.wait().unwrap();
    eventually("the step has ended, and what was fetched is swept", || {
        engine.ok(&["ps", "-aq"]);
        steps() == 0 && staged(&engine) == 0
    });
}

#[test]
fn hostile_contexts_lead_nowhere() {
    let engine = engine!();
    let secret = engine.file("secret", "FROM the-secret\n");
    let link = |name: &str, target: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, target).unwrap();
        archive.into_inner().unwrap()
    };
    let output = engine.run_with_input(&["build", "-"], &link("Dockerfile", &secret));
    assert!(!output.to_string().contains("the-secret"), "{output}");
    assert_eq!(output.code, 125, "{output}");
    let up = "../".repeat(20);
    let output = engine.run_with_input(&["build", "-"], &link("Dockerfile", &format!("{up}{secret}")));
    assert!(!output.to_string().contains("the-secret") && output.code == 125, "{output}");
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..7].copy_from_slice(b"../evil");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append(&header, &b""[..]).unwrap();
    let bytes = archive.into_inner().unwrap();
    engine.run_with_input(&["build", "-"], &bytes).explains(1, &["../evil"]);
    assert_eq!(staged(&engine), 0);
}
