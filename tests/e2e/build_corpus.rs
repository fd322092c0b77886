//! Dockerfiles as people write them (`tests/corpus`), built here and by buildah: every file of both images is compared,
//! and what both say of themselves. The image then goes to a registry, is read there by skopeo and run by podman.
//!
//! Packages come from where this machine takes its own from (`tests/support/mirrors`), by secrets and arguments, so that
//! no image and no Dockerfile has the name of a mirror. Where a kind of package cannot be had, the test is skipped.
//! `tests/run corpus` runs them all; those below [`whole`] take minutes.

use crate::support::{
    Engine, Output, Running, eventually, has_program, host, image, run, setting, skip, tiny,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long one build may take: compilers are fetched, unpacked, and run.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Files that two builds make differently, whoever builds: their content is not compared, but all else of them.
const DIFFERENT_EACH_TIME: &[(&str, &str)] = &[
    ("/var/log/apt/*", "apt notes when it did what"),
    ("/var/log/dpkg.log", "dpkg notes when it did what"),
    ("/var/log/alternatives.log", "update-alternatives notes when it did what"),
    ("/var/cache/ldconfig/aux-cache", "ldconfig keeps inode numbers and times of libraries there"),
    ("/opt/venv/*.pyc", "what pip compiles has the time of its source, which is when it was installed"),
    ("/var/cache/apt/*.bin", "apt's cache has addresses, and the times of the lists it is made from"),
];

/// What clients say if what they need is not there or cannot be reached.
const UNREACHABLE: &[&str] = &[
    "could not resolve",
    "couldn't resolve",
    "temporary failure",
    "enotfound",
    "etimedout",
    "econnrefused",
    "eai_again",
    "could not connect",
    "failed to connect",
    "connection refused",
    "connection timed out",
    "no matching distribution",
    "unable to locate package",
    "has no installation candidate",
    "certificate verif",
];

/// A folder below `tests/corpus`.
struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// What is given by `--build-arg`, beside BASE.
    arguments: Vec<(&'static str, String)>,
    /// What heredocs of files expand.
    variables: &'static [(&'static str, &'static str)],
    /// The image it is built from.
    base: String,
    /// What it prints.
    prints: String,
    /// Files that buildah leaves otherwise, and why ours is right.
    explained: Vec<(&'static str, &'static str)>,
}

/// What buildah does to all images.
const OF_BUILDAH: &[(&str, &str)] = &[
    ("/etc/hosts", "buildah 1.28 leaves the place of a mount"),
    (
        "/var/lib/apt/lists",
        "buildah 1.28 removes an empty folder of the base image that was the place of a cache",
    ),
    ("/var/cache/apt", "buildah 1.28 may leave the place of a cache, where the base image has none"),
];

macro_rules! files {
    ($folder:literal: $($file:literal)*) => {
        &[$(($file, include_str!(concat!("../corpus/", $folder, "/", $file)))),*]
    };
}

fn case(name: &'static str, files: &'static [(&'static str, &'static str)], prints: &str) -> Case {
    let base = image("debian:zstd");
    let explained = OF_BUILDAH.to_vec();
    Case { name, files, arguments: Vec::new(), variables: &[], base, prints: prints.to_owned(), explained }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A registry of a test's own, since what it is given is large and would stay in the one of all tests.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(engine: &Engine) -> Self {
        let settings = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\", secret: corpus}}\n",
            engine.folder("registry")
        );
        let log = engine.scratch().join("registry.log");
        let mut command = Command::new("docker-registry");
        command
            .args(["serve", &engine.file("registry.yml", &settings)])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut registry = Self { process, address: String::new() };
        eventually("the registry tells its address", || {
            let told = fs::read_to_string(&log).unwrap();
            let address = told.split_once("listening on ").and_then(|(_, rest)| rest.split_once('"'));
            registry.address = address.map_or(String::new(), |(address, _)| address.to_owned());
            !registry.address.is_empty()
        });
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both builders, and what they are given.
struct Both<'a> {
    engine: &'a Engine,
    registry: Registry,
    mirrors: PathBuf,
    driver: &'static str,
    /// Whether podman runs containers here.
    podman: bool,
}

impl<'a> Both<'a> {
    /// Or why there can be no comparison.
    fn new(engine: &'a Engine) -> Result<Self, &'static str> {
        if engine.is_podman() {
            return Err("this is about two programs");
        }
        if !["buildah", "skopeo", "docker-registry", "python3"].into_iter().all(has_program) {
            return Err("buildah, skopeo, docker-registry or python3 is not installed");
        }
        let mirrors = setting("CORACLE_TEST_MIRRORS").map_or_else(
            || {
                let script = engine.file("find-mirrors", include_str!("../support/mirrors"));
                let folder = engine.scratch().join("mirrors");
                host(&format!("sh {script} {}", text(&folder)));
                folder
            },
            PathBuf::from,
        );
        let registry = Registry::start(engine);
        let mut both = Self { engine, registry, mirrors, driver: "overlay", podman: false };
        for driver in ["overlay", "vfs"] {
            both.driver = driver;
            if run(both.theirs("buildah", &["from", "--name", driver, "scratch"])).code == 0 {
                let words = ["run", "--rm", "-q", "--network", "none", "--tls-verify=false", &tiny(), "true"];
                both.podman = has_program("podman") && run(both.theirs("podman", &words)).code == 0;
                return Ok(both);
            }
        }
        Err("buildah does not work here")
    }

    /// A command of the other engine, with a store of its own.
    fn theirs(&self, program: &str, words: &[&str]) -> Command {
        let store = self.engine.scratch().join("theirs");
        let temporary = store.join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new(program);
        command.args(["--storage-driver", self.driver, "--root"]).arg(store.join("root"));
        command.arg("--runroot").arg(store.join("run")).args(words).current_dir(self.engine.scratch());
        // There its cache mounts are.
        command.env("TMPDIR", temporary);
        command
    }

    /// What both are told alike.
    fn arguments(&self, case: &Case) -> Vec<String> {
        let mut words = vec!["-t".to_owned(), format!("localhost/{}", case.name)];
        let mut argument = |text: &str| words.extend(["--build-arg".to_owned(), text.to_owned()]);
        argument(&format!("BASE={}", case.base));
        case.arguments.iter().for_each(|(name, value)| argument(&format!("{name}={value}")));
        fs::read_to_string(self.mirrors.join("arguments")).unwrap().lines().for_each(&mut argument);
        for name in ["sources", "apt", "pip", "npmrc", "cargo", "ca"] {
            let file = self.mirrors.join(name);
            if file.exists() {
                words.extend(["--secret".to_owned(), format!("id={name},src={}", text(&file))]);
            }
        }
        words
    }

    /// Writes the context, with the Dockerfile as it is or as this makes it.
    fn context(&self, case: &Case, whose: &str, dockerfile: impl Fn(&str) -> String) -> PathBuf {
        let folder = self.engine.scratch().join(format!("{whose}-{}", case.name));
        for (path, content) in case.files {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, if *path == "Dockerfile" { dockerfile(content) } else { (*content).to_owned() })
                .unwrap();
        }
        if case.name == "service" {
            vendor(&folder);
        }
        folder
    }

    /// Builds at both places at once; or what cannot be had here.
    fn build(&self, case: &Case) -> Result<(), String> {
        let given = self.arguments(case);
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let ours = self.context(case, "ours", str::to_owned);
        let theirs = self.context(case, "theirs", str::to_owned);
        let plain = without_heredocs(
            &fs::read_to_string(theirs.join("Dockerfile")).unwrap(),
            case.variables,
            &theirs,
        );
        fs::write(theirs.join("Dockerfile"), plain).unwrap();
        let flags = [
            "bud",
            "--layers",
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--format",
            "docker",
            "--tls-verify=false",
        ];
        let started =
            Running::start(self.theirs("buildah", &[&flags, &given[..], &[text(&theirs)]].concat()), b"");
        let built =
            Running::start(self.engine.command(&[&["build"], &given[..], &[text(&ours)]].concat()), b"")
                .wait_up_to(PATIENCE);
        let other = started.wait_up_to(PATIENCE);
        println!("{}: {:?} here, {:?} by buildah", case.name, built.time, other.time);
        for output in [&built, &other] {
            if output.code != 0 && unreachable(output) && unreachable(&other) {
                let said: Vec<&str> = other.stderr.lines().rev().take(3).collect();
                return Err(format!("what {} needs cannot be had here: {said:?}", case.name));
            }
            assert!(output.code == 0, "{output}");
        }
        Ok(())
    }

    /// Both images as folders: ours and theirs.
    fn saved(&self, case: &Case) -> [PathBuf; 2] {
        let [ours, theirs] = ["ours", "theirs"].map(|whose| {
            let folder = self.engine.scratch().join(format!("saved-{whose}-{}", case.name));
            fs::create_dir_all(&folder).unwrap();
            folder
        });
        fs::remove_dir(&ours).unwrap();
        let name = format!("localhost/{}", case.name);
        let save = self.engine.command(&["save", "-q", "--format", "oci-dir", "-o", text(&ours), &name]);
        Running::start(save, b"").wait_up_to(PATIENCE).ok();
        let to = format!("dir:{}", text(&theirs));
        let push = self.theirs("buildah", &["push", "-q", "--disable-compression", &name, &to]);
        Running::start(push, b"").wait_up_to(PATIENCE).ok();
        [ours, theirs]
    }

    /// Makes sure that both have the same files.
    fn compare_files(&self, case: &Case, [ours, theirs]: &[PathBuf; 2]) {
        let script = self.engine.file("tree.py", include_str!("../support/tree.py"));
        let mut command = Command::new("python3");
        command.args([&script, text(theirs), text(ours)]);
        let told = Running::start(command, b"").wait_up_to(PATIENCE).ok();
        let (differences, count) = told.rsplit_once('\n').unwrap_or(("", &told));
        let mut left: Vec<Vec<&str>> = differences.lines().map(|line| line.split(' ').collect()).collect();
        let changed = |pair: &[Vec<&str>]| {
            let [one, two] = pair else { return false };
            let rest = |line: &[&str]| [&line[1..5], &line[7..]].concat().join(" ");
            one[0] != two[0] && one[2] == "file" && two[2] == "file" && rest(one) == rest(two)
        };
        while let Some(at) = (1..left.len()).find(|&at| {
            changed(&left[at - 1..=at])
                && DIFFERENT_EACH_TIME.iter().any(|(pattern, _)| fits(pattern, left[at][1]))
        }) {
            left.drain(at - 1..=at);
        }
        left.retain(|line| !case.explained.iter().any(|(pattern, _)| fits(pattern, line[1])));
        let shown: Vec<String> = left.iter().take(60).map(|line| line.join(" ")).collect();
        assert!(shown.is_empty(), "files differ, - buildah's, + ours ({} lines): {shown:#?}", left.len());
        let count: u32 = count.trim_end_matches(" files").parse().unwrap();
        assert!(count > 2, "they are compared: {told}");
        println!("{count} files are the same");
    }
}

/// Whether a build failed since something could not be had.
fn unreachable(output: &Output) -> bool {
    let said = format!("{}{}", output.stdout, output.stderr).to_lowercase();
    output.code != 0 && UNREACHABLE.iter().any(|words| said.contains(words))
}

/// Whether a path is the pattern's, which may have one star.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        Some((first, last)) => path.strip_prefix(first).is_some_and(|rest| rest.ends_with(last)),
        None => path == pattern,
    }
}

/// An archive as other people make them: with owners, modes and links of its own.
fn vendor(context: &Path) {
    host(&format!(
        "set -e; cd {}; mkdir -p made/vendor/lib/deep made/vendor/empty; cd made/vendor
         echo one > lib/one; echo two > lib/deep/two; echo gone > removed.txt; printf '#!/bin/sh\\n' > tool
         chmod 4755 tool; chmod 640 lib/one; chmod 2770 lib/deep; chmod 711 empty; ln lib/one lib/again; ln -s lib/one link
         tar -C .. --sort=name --mtime=@1700000000 --owner=1234 --group=5678 --numeric-owner -czf ../../vendor.tar.gz vendor
         cd ../..; rm -r made",
        text(context)
    ));
}

/// The Dockerfile without heredocs, which buildah reads from 1.33 on: scripts become words of the exec form, and
/// files are written into the context, with these variables expanded.
fn without_heredocs(dockerfile: &str, variables: &[(&str, &str)], context: &Path) -> String {
    let (mut plain, mut lines) = (String::new(), dockerfile.lines());
    while let Some(line) = lines.next() {
        let marks: Vec<&str> = line.split(' ').filter_map(|word| word.strip_prefix("<<")).collect();
        let is_comment = line.starts_with('#');
        if marks.is_empty() || is_comment {
            plain += &format!("{line}\n");
            continue;
        }
        let mut line = line.to_owned();
        for mark in marks {
            let name = mark.trim_matches(['\'', '"']);
            let mut body: String =
                lines.by_ref().take_while(|line| *line != name).map(|line| format!("{line}\n")).collect();
            if line.starts_with("RUN ") {
                let shell = "/bin/bash -euo pipefail -c".split(' ');
                let words: Vec<&str> = shell.chain([body.as_str()]).collect();
                line = format!("RUN {}", json!(words));
                continue;
            }
            if name == mark {
                for (name, value) in variables {
                    body = body.replace(&format!("${{{name}}}"), value);
                }
            }
            fs::write(context.join(name), body).unwrap();
            line = line.replace(&format!("<<{mark}"), name);
        }
        plain += &format!("{line}\n");
    }
    plain
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The configuration of a saved image, in either form.
fn configuration(saved: &Path) -> Value {
    let blob = |digest: &Value| {
        let name = digest.as_str().unwrap().split_once(':').unwrap().1;
        [saved.join(name), saved.join("blobs/sha256").join(name)]
            .into_iter()
            .find(|file| file.exists())
            .unwrap()
    };
    let manifest = match saved.join("index.json") {
        index if index.exists() => json_of(&blob(&json_of(&index)["manifests"][0]["digest"])),
        _ => json_of(&saved.join("manifest.json")),
    };
    json_of(&blob(&manifest["config"]["digest"]))
}

/// What a configuration says of containers.
const FIELDS: &[&str] = &[
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
    "ArgsEscaped",
];

/// Makes sure that both say the same of the containers to be made, and have as many steps.
fn compare_configurations([ours, theirs]: &[PathBuf; 2]) {
    let [ours, theirs] = [ours, theirs].map(|saved| configuration(saved));
    let empty = [Value::Null, json!(""), json!([]), json!({})];
    // Each name is there once: their order says nothing, and buildah puts a changed PATH at the end.
    let said = |field: &str, image: &Value| match (field, &image["config"][field]) {
        ("Env", Value::Array(values)) => {
            let mut values: Vec<&str> = values.iter().map(|value| value.as_str().unwrap()).collect();
            values.sort_unstable();
            json!(values)
        }
        // BuildKit's word for an image from scratch; nothing means the same.
        ("WorkingDir", Value::Null) => json!("/"),
        ("WorkingDir", Value::String(folder)) if folder.is_empty() => json!("/"),
        // buildah signs what it builds.
        ("Labels", Value::Object(labels)) => {
            json!(labels.iter().filter(|(name, _)| *name != "io.buildah.version").collect::<BTreeMap<_, _>>())
        }
        (_, value) => value.clone(),
    };
    let mut differences = Vec::new();
    for field in FIELDS {
        let (one, two) = (said(field, &ours), said(field, &theirs));
        if one != two && !(empty.contains(&one) && empty.contains(&two)) {
            differences.push(format!("{field}: {one} here, {two} by buildah"));
        }
    }
    for field in ["os", "architecture", "variant"] {
        let (one, two) = (&ours[field], &theirs[field]);
        if one != two {
            differences.push(format!("{field}: {one} here, {two} by buildah"));
        }
    }
    let steps = |image: &Value| -> Vec<bool> {
        image["history"].as_array().unwrap().iter().map(|step| step["empty_layer"] == json!(true)).collect()
    };
    if steps(&ours).len() != steps(&theirs).len() {
        differences.push(format!("history: {:#} here, {:#} by buildah", ours["history"], theirs["history"]));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let layers = |image: &Value| image["rootfs"]["diff_ids"].as_array().unwrap().len();
    assert_eq!(steps(&ours).iter().filter(|is_empty| !**is_empty).count(), layers(&ours));
}

/// Pushes our image, and has skopeo read and check it; its reference.
fn push(both: &Both<'_>, case: &Case, ours: &Path) -> String {
    let name = format!("{}/corpus/{}", both.registry.address, case.name);
    let from = format!("localhost/{}", case.name);
    Running::start(both.engine.command(&["push", "-q", &from, &name]), b"").wait_up_to(PATIENCE).ok();
    let remote = format!("docker://{name}");
    let skopeo = |words: &[&str]| {
        let mut command = Command::new("skopeo");
        command.args(words);
        Running::start(command, b"").wait_up_to(PATIENCE).ok()
    };
    let told = skopeo(&["inspect", "--tls-verify=false", "--config", &remote]);
    let (told, saved): (Value, Value) = (serde_json::from_str(&told).unwrap(), configuration(ours));
    for field in ["rootfs", "created", "os", "architecture"] {
        assert_eq!(told[field], saved[field], "{field}");
    }
    assert_eq!(told["history"].as_array().unwrap().len(), saved["history"].as_array().unwrap().len());
    assert_eq!(told["config"]["Env"], saved["config"]["Env"]);
    let told: Value = serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &remote])).unwrap();
    assert_eq!(
        told["Layers"].as_array().unwrap().len(),
        saved["rootfs"]["diff_ids"].as_array().unwrap().len()
    );
    // It takes blobs by digest, so that it checks them all.
    let folder = both.engine.scratch().join(format!("pulled-{}", case.name));
    skopeo(&[
        "--insecure-policy",
        "copy",
        "-q",
        "--src-tls-verify=false",
        &remote,
        &format!("dir:{}", text(&folder)),
    ]);
    assert!(folder.join("manifest.json").exists());
    fs::remove_dir_all(folder).unwrap();
    name
}

/// All of it; or what cannot be had here.
fn check(both: &Both<'_>, case: &Case) -> Result<(), String> {
    both.build(case)?;
    let saved = both.saved(case);
    both.compare_files(case, &saved);
    compare_configurations(&saved);
    let name = push(both, case, &saved[0]);
    saved.iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
    let local = format!("localhost/{}", case.name);
    let printed = Running::start(both.engine.command(&["run", "--rm", "--network", "none", &local]), b"");
    assert_eq!(printed.wait_up_to(PATIENCE).ok(), case.prints);
    if both.podman {
        let flags = ["run", "--rm", "-q", "--network", "none", "--tls-verify=false", &name];
        let printed = Running::start(both.theirs("podman", &flags), b"").wait_up_to(PATIENCE);
        assert_eq!(printed.ok(), case.prints, "by podman");
    }
    Ok(())
}

macro_rules! corpus {
    ($engine:ident) => {
        match Both::new(&$engine) {
            Ok(both) => both,
            Err(why) => return skip(why),
        }
    };
}

/// All of it, or what is left out is noted: the last word of a test.
fn checked(both: &Both<'_>, case: &Case) {
    match check(both, case) {
        Err(why) => skip(&why),
        Ok(()) if !both.podman => skip("podman does not run containers here; all else is as it should be"),
        Ok(()) => {}
    }
}

#[test]
fn a_service_that_others_are_built_upon() {
    let engine = network!();
    let both = corpus!(engine);
    let files = files!("service": "Dockerfile" ".dockerignore" "bin/serve" "static/index.html" "static/css/style.css");
    let mut service = case("service", files, "service of service in /srv/service/data: --port 8080");
    service.variables = &[("SERVICE_PORT", "8080"), ("SERVICE_HOME", "/srv/service")];
    // moby/buildkit#1547: from BuildKit 0.23 on.
    service
        .explained
        .push(("/opt/owned/vendor*", "buildah gives the files of an archive no owner by --chown"));
    if let Err(why) = check(&both, &service) {
        return skip(&why);
    }
    let find =
        ["run", "--rm", "--network", "none", "--entrypoint", "find", "localhost/service", "/opt/owned"];
    let owned = engine.ok(&[&find[..], &["-printf", "%U:%G %m %P\\n"]].concat());
    assert!(
        owned.contains("990:990 4755 vendor/tool") && owned.contains("990:990 2770 vendor/lib/deep"),
        "{owned}"
    );
    assert!(owned.lines().all(|line| line.starts_with("990:990 ")), "{owned}");
    let files = files!("service/child": "Dockerfile" "extra/more.txt");
    let mut child = case("child", files, "service of service in /srv/service/data: --quiet");
    child.base = "localhost/service".to_owned();
    child.explained.clone_from(&service.explained);
    checked(&both, &child);
}

/// What takes minutes, since compilers of hundreds of megabytes are fetched, unpacked and kept twice.
mod whole {
    use super::*;

    #[test]
    fn a_c_program_and_its_library() {
        let engine = network!();
        let both = corpus!(engine);
        let files =
            files!("c": "Dockerfile" ".dockerignore" "Makefile" "README" "main.c" "library.c" "shrink.h");
        let mut case = case("c", files, "shrink 1.2.3");
        case.arguments.push(("VERSION", "1.2.3".to_owned()));
        checked(&both, &case);
    }

    #[test]
    fn a_python_program_in_a_virtual_environment() {
        let engine = network!();
        let both = corpus!(engine);
        let files = files!("python": "Dockerfile" ".dockerignore" "requirements.txt" "signer/__init__.py" "signer/__main__.py");
        checked(&both, &case("python", files, "signed hello"));
    }

    #[test]
    fn a_node_program_with_a_package() {
        let engine = network!();
        let both = corpus!(engine);
        let files = files!("node": "Dockerfile" ".dockerignore" "package.json" "index.js");
        checked(&both, &case("node", files, "2 days = 172800000 ms"));
    }

    #[test]
    fn a_go_program_in_an_empty_image() {
        let engine = network!();
        let both = corpus!(engine);
        let files = files!("go": "Dockerfile" ".dockerignore" "go.mod" "main.go" "words/words.go");
        let mut case = case("go", files, "hello 65532 1.0");
        case.arguments.push(("VERSION", "1.0".to_owned()));
        checked(&both, &case);
    }

    #[test]
    fn a_rust_program_with_a_crate() {
        let engine = network!();
        let both = corpus!(engine);
        let files = files!("rust": "Dockerfile" ".dockerignore" "Cargo.toml" "src/main.rs");
        let mut case = case("rust", files, "sum 19");
        // Debian 12's cargo is older than the registry's way of today; what it builds browsers with is not.
        let newer = "apt-cache show cargo-web 2>/dev/null | grep -q ^Package: && echo cargo-web rustc-web || echo cargo rustc";
        case.arguments.push(("TOOLS", host(newer)));
        checked(&both, &case);
    }
}
