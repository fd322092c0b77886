//! Lists of images: made here, pushed, and read back by others.

use crate::support::{Engine, run, setting, tiny};
use serde_json::Value;
use std::process::Command;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A repository of the plain registry that nobody else has.
fn target(name: &str) -> String {
    let host = setting("CORACLE_TEST_REGISTRY").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{host}/lists/{name}-{}-{now}", std::process::id())
}

/// What the registry has under a name, as skopeo reads it.
fn raw(name: &str, flags: &[&str]) -> Value {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false", "--raw"]).args(flags).arg(format!("docker://{name}"));
    serde_json::from_str(&run(command).ok()).unwrap()
}

/// An image for arm64 that nobody else has.
fn other_image(engine: &Engine, name: &str) {
    let content = format!("{name} {:?}", std::time::Instant::now());
    engine.ok(&["unshare", "mkdir", "-p", "other/etc"]);
    engine.file("other/etc/other", &content);
    engine.ok(&["unshare", "tar", "-C", "other", "-cf", "other.tar", "."]);
    engine.ok(&["import", "-q", "--arch", "arm64", "other.tar", name]);
}

fn architectures(index: &Value) -> Vec<&str> {
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["platform"]["architecture"].as_str().unwrap()).collect()
}

#[test]
fn a_list_of_local_images_is_pushed_with_them_and_read_by_others() {
    let engine = engine!();
    other_image(&engine, "localhost/other:1");
    let id = engine.ok(&["manifest", "create", "--annotation", "a=b", "both"]);
    assert_eq!(id.len(), 64);
    engine.run(&["manifest", "create", "both"]).explains(125, &["both", "--amend"]);
    engine.run(&["manifest", "create", &tiny()]).explains(125, &["an image has this name"]);
    assert_ne!(engine.ok(&["manifest", "add", "both", &tiny()]), id);
    engine.ok(&[
        "manifest",
        "add",
        "--annotation",
        "of=other",
        "--variant",
        "v8",
        "both",
        "localhost/other:1",
    ]);
    let local: Value = serde_json::from_str(&engine.ok(&["manifest", "inspect", "both"])).unwrap();
    assert_eq!((&local["mediaType"], architectures(&local)), (&INDEX.into(), vec!["amd64", "arm64"]));
    let name = format!("{}:1", target("local"));
    let file = engine.file("digest", "");
    let digest = engine.ok(&["manifest", "push", "-q", "--digestfile", &file, "both", &name]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), digest);
    let index = raw(&name, &[]);
    assert_eq!((&index["mediaType"], architectures(&index)), (&INDEX.into(), vec!["amd64", "arm64"]));
    assert_eq!(index["annotations"], serde_json::json!({"a": "b"}));
    let arm = &index["manifests"][1];
    assert_eq!((&arm["platform"]["variant"], &arm["annotations"]["of"]), (&"v8".into(), &"other".into()));
    // Each image can be had through it.
    let other = Engine::new();
    other.ok(&["pull", "-q", &name]);
    assert_eq!(other.ok(&["run", "--rm", "--network", "none", &name, "echo", "works"]), "works");
    let arm_id = other.ok(&["pull", "-q", "--platform", "linux/arm64", &name]);
    assert_eq!(engine.ok(&["images", "-q", "--no-trunc", "localhost/other:1"]), format!("sha256:{arm_id}"));
    // What is there is not sent again.
    let again = engine.run(&["manifest", "push", "both", &name]);
    assert!(!again.stderr.contains("pushing"), "{again}");
    assert_eq!(again.ok().trim(), digest);
    let docker = format!("{}:1", target("docker"));
    engine.ok(&["manifest", "push", "-q", "--format", "v2s2", "--purge", "both", &docker]);
    let index = raw(&docker, &[]);
    assert_eq!(index["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(index["manifests"][1]["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(engine.run(&["manifest", "exists", "both"]).code, 1);
    engine.run(&["manifest", "push", "both", &docker]).explains(125, &["both"]);
}

#[test]
fn images_of_registries_are_listed_by_digest_and_brought_over() {
    let engine = engine!();
    let digest = engine.ok(&["image", "inspect", "--format", "{{.Digest}}", &tiny()]);
    engine.ok(&["manifest", "create", "far", &format!("docker://{}", tiny())]);
    let local: Value = serde_json::from_str(&engine.ok(&["manifest", "inspect", "far"])).unwrap();
    assert_eq!(local["manifests"][0]["digest"], digest.as_str());
    let name = format!("{}:1", target("far"));
    engine.ok(&["manifest", "push", "-q", "far", &name]);
    assert_eq!(raw(&name, &[])["manifests"][0]["digest"], digest.as_str());
    let other = Engine::new();
    other.ok(&["run", "-q", "--rm", "--network", "none", &name, "true"]);
    // A list of a list's images; what a registry has can be inspected, too.
    engine.ok(&["manifest", "create", "--all", "copy", &format!("docker://{name}")]);
    let copy = engine.ok(&["manifest", "inspect", "copy"]);
    assert!(copy.contains(&digest), "{copy}");
    assert!(engine.ok(&["manifest", "inspect", &name]).contains(&digest));
    // Where the image is not here, it is fetched from where the list says it is.
    let empty = Engine::new();
    empty.ok(&["manifest", "create", "far", &format!("docker://{}", tiny())]);
    assert_eq!(empty.ok(&["run", "-q", "--rm", "--network", "none", "far", "echo", "fetched"]), "fetched");
    engine
        .run(&["manifest", "add", "far", &format!("docker://{}", target("none"))])
        .explains(125, &["lists/none"]);
    engine.run(&["manifest", "add", "nothing", &tiny()]).explains(125, &["nothing"]);
}

#[test]
fn images_pass_from_one_registry_to_another() {
    let host = setting("CORACLE_TEST_AUTH_REGISTRY");
    require!(host.is_some(), "no registry with accounts (CORACLE_TEST_AUTH_REGISTRY)");
    let engine = engine!();
    engine.ok(&["manifest", "create", "far", &format!("docker://{}", tiny())]);
    let repository = target("passed").split_once('/').unwrap().1.to_owned();
    let name = format!("{}/{repository}:1", host.unwrap());
    let creds = ["--creds", "tester:open sesame"];
    engine.ok(&[&["manifest", "push", "-q"], &creds[..], &["far", &name]].concat());
    let other = Engine::new();
    other.ok(&[&["pull", "-q"], &creds[..], &[&name]].concat());
    assert_eq!(other.ok(&["run", "--rm", "--network", "none", &name, "echo", "works"]), "works");
    assert_eq!(raw(&name, &creds)["manifests"][0]["platform"]["architecture"], "amd64");
}

#[test]
fn entries_are_annotated_and_removed() {
    let engine = engine!();
    engine.ok(&["manifest", "create", "list", &tiny()]);
    let inspect = || serde_json::from_str::<Value>(&engine.ok(&["manifest", "inspect", "list"])).unwrap();
    let digest = inspect()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let flags = ["--os", "windows", "--arch", "s390x", "--variant", "x", "--os-version", "10.0"];
    let more = ["--os-features", "win32k,y", "--features", "sse4", "--annotation", "k=v=w", "list", &digest];
    let id = engine.ok(&[&["manifest", "annotate"], &flags[..], &more].concat());
    engine.ok(&["manifest", "annotate", "--index", "--annotation", "whole=1", "list"]);
    assert_ne!(engine.ok(&["images", "-q", "--no-trunc", "list"]), format!("sha256:{id}"));
    let expected = serde_json::json!({
        "os": "windows", "architecture": "s390x", "variant": "x", "os.version": "10.0",
        "os.features": ["win32k", "y"], "features": ["sse4"],
    });
    let list = inspect();
    assert_eq!(list["manifests"][0]["platform"], expected);
    assert_eq!(
        (&list["manifests"][0]["annotations"]["k"], &list["annotations"]["whole"]),
        (&"v=w".into(), &"1".into())
    );
    engine.run(&["manifest", "annotate", "list"]).explains(125, &["--index"]);
    engine.run(&["manifest", "annotate", "list", "sha256:0123"]).explains(125, &["sha256:0123 in"]);
    engine.run(&["manifest", "add", "--annotation", "x", "list", &tiny()]).explains(125, &["NAME=VALUE"]);
    // Amended, the same image is there once.
    engine.ok(&["manifest", "create", "-a", "list", &tiny()]);
    assert_eq!(architectures(&inspect()), ["amd64"]);
    engine.ok(&["manifest", "remove", "list", &digest]);
    assert_eq!(architectures(&inspect()), [""; 0]);
    assert_eq!(engine.run(&["manifest", "exists", "list"]).code, 0);
    let removed = engine.ok(&["manifest", "rm", "list"]);
    assert!(removed.starts_with("Untagged: localhost/list:latest\nDeleted: sha256:"), "{removed}");
    assert_eq!(engine.run(&["manifest", "exists", "list"]).code, 1);
}

#[test]
fn other_commands_take_a_lists_name_for_the_image_that_fits() {
    let engine = engine!();
    other_image(&engine, "localhost/other:1");
    engine.ok(&["manifest", "create", "list:2", "localhost/other:1"]);
    engine.run(&["run", "--rm", "list:2", "true"]).explains(125, &["linux/amd64", "linux/arm64"]);
    engine.ok(&["manifest", "add", "list:2", &tiny()]);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "list:2", "echo", "works"]), "works");
    assert_eq!(engine.ok(&["image", "inspect", "--format", "{{.Architecture}}", "list:2"]), "amd64");
    let row = engine.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "manifest=true"]);
    assert_eq!(row, "localhost/list:2");
    engine.ok(&["save", "-q", "-o", "saved.tar", "list:2"]);
    engine.ok(&["tag", "list:2", "localhost/list:3"]);
    assert_eq!(engine.run(&["manifest", "exists", "list:3"]).code, 0);
    // A listed image stays, whatever is pruned.
    engine.run(&["rmi", "localhost/other:1"]).explains(2, &["it is in the list", "manifest rm"]);
    engine.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "list:3", "echo", "works"]), "works");
    let name = format!("{}:1", target("instance"));
    engine.ok(&["push", "-q", "list:2", &name]);
    assert_eq!(raw(&name, &[])["manifests"], Value::Null);
    let removed = engine.ok(&["rmi", "list:2"]);
    assert!(removed.contains("Untagged: localhost/list:2"), "{removed}");
    engine.ok(&["rmi", "list:3"]);
    engine.ok(&["rmi", "localhost/other:1"]);
    engine.ok(&["image", "exists", &tiny()]);
}

#[test]
fn builds_for_several_platforms_make_one_list() {
    let engine = engine!();
    let folder = engine.folder("context");
    engine.file("context/file", "content");
    engine.file("context/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n");
    for platform in ["linux/amd64", "linux/arm64"] {
        engine.ok(&["build", "-q", "--platform", platform, "--manifest", "built", &folder]);
    }
    // Nothing else has these images.
    engine.ok(&["image", "prune", "-f"]);
    let name = format!("{}:1", target("built"));
    engine.ok(&["manifest", "push", "-q", "built", &name]);
    assert_eq!(architectures(&raw(&name, &[])), ["amd64", "arm64"]);
    let other = Engine::new();
    other.ok(&["pull", "-q", "--platform", "linux/arm64", &name]);
    other.ok(&["create", "--name", "c", "--network", "none", "--platform", "linux/arm64", &name, "x"]);
    assert!(other.ok(&["cp", "c:/arm64", "-"]).contains("content"));
}

#[test]
fn artifacts_are_made_of_files_pushed_and_copied() {
    let engine = engine!();
    let at = |name: &str, content: &str| engine.file(name, content);
    let (text, config) = (at("notes.txt", "notes"), at("config.json", "{\"a\":1}"));
    let digest = |content: &str| crate::support::image::digest(content.as_bytes());
    engine.ok(&["manifest", "create", "list", &tiny()]);
    let add = [
        "manifest",
        "add",
        "--artifact",
        "--artifact-type",
        "application/x-notes",
        "--annotation",
        "of=entry",
    ];
    let more =
        ["--artifact-config", &config, "--artifact-subject", &tiny(), "--artifact-annotation", "of=manifest"];
    let id = engine.ok(&[&add[..], &more, &["list", &text]].concat());
    assert_eq!(engine.ok(&["images", "-q", "--no-trunc", "list"]), format!("sha256:{id}"));
    let program = at("program", "\u{7f}ELF\0");
    let titles = ["--artifact-exclude-titles", "--artifact-layer-type", "application/x-program"];
    let platform = ["--arch", "amd64", "--os", "linux"];
    let last = [&["manifest", "add", "--artifact"][..], &titles, &platform, &["list", &program]].concat();
    engine.ok(&last);
    // Once more it is the same.
    engine.ok(&last);
    let local: Value = serde_json::from_str(&engine.ok(&["manifest", "inspect", "list"])).unwrap();
    let entries = local["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3, "{local:#}");
    assert_eq!(entries[1]["artifactType"], "application/x-notes");
    assert_eq!((&entries[1]["annotations"]["of"], &entries[1]["platform"]), (&"entry".into(), &Value::Null));
    assert_eq!(entries[2]["artifactType"], "application/vnd.unknown.artifact.v1");
    assert_eq!(entries[2]["platform"]["architecture"], "amd64");
    // It is no image, whatever it is for.
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "list", "echo", "works"]), "works");

    let repository = target("artifacts");
    let name = format!("{repository}:1");
    engine
        .run(&["manifest", "push", "-q", "--format", "v2s2", "list", &name])
        .explains(125, &["artifacts", "oci"]);
    let pushed = engine.ok(&["manifest", "push", "-q", "list", &name]);
    assert_eq!(pushed, format!("sha256:{}", engine.ok(&last)));
    let of = |repository: &str, entry: &Value| {
        raw(&format!("{repository}@{}", entry["digest"].as_str().unwrap()), &[])
    };
    let notes = of(&repository, &entries[1]);
    assert_eq!(notes["artifactType"], "application/x-notes");
    assert_eq!(notes["config"]["digest"], digest("{\"a\":1}").as_str());
    assert_eq!(notes["annotations"]["of"], "manifest");
    assert_eq!(notes["subject"]["digest"], entries[0]["digest"]);
    let layer = &notes["layers"][0];
    assert_eq!((&layer["mediaType"], &layer["digest"]), (&"text/plain".into(), &digest("notes").into()));
    assert_eq!(layer["annotations"]["org.opencontainers.image.title"], "notes.txt");
    let program_there = of(&repository, &entries[2]);
    assert_eq!(program_there["layers"][0]["mediaType"], "application/x-program");
    assert_eq!(program_there["layers"][0]["annotations"], Value::Null);
    assert_eq!(program_there["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    // From there into another repository, the files being gone.
    let other = Engine::new();
    other.ok(&["manifest", "create", "--all", "copy", &format!("docker://{name}")]);
    let copy = target("artifacts-copied");
    assert_eq!(other.ok(&["manifest", "push", "-q", "copy", &format!("{copy}:1")]), pushed);
    assert_eq!(of(&copy, &entries[1]), notes);
    other.ok(&["pull", "-q", &format!("{copy}:1")]);

    // What is pushed is what was added.
    at("notes.txt", "other");
    engine.ok(&["manifest", "push", "-q", "list", &name]);
    let elsewhere = format!("{}:1", target("artifacts-changed"));
    let push = ["manifest", "push", "-q", "list", &elsewhere];
    engine.run(&push).explains(125, &["notes.txt", "not what it was", "fix: take it out"]);
    std::fs::remove_file(&text).unwrap();
    engine.run(&push).explains(125, &["notes.txt", "no such file", "fix: take it out"]);
    engine.ok(&["manifest", "remove", "list", &text]);
    engine.ok(&push);
    engine
        .run(&["manifest", "add", "--artifact", "list", &text])
        .explains(125, &["notes.txt", "fix: name a file"]);
    let without = ["manifest", "add", "--artifact-type", "x", "list", &tiny()];
    engine.run(&without).explains(125, &["--artifact-type is for artifacts", "fix: add --artifact"]);
    engine.run(&["manifest", "add", "--artifact", "--all", "list", &config]).explains(125, &["--all"]);
}

#[test]
fn an_artifact_is_about_its_image_as_that_is_pushed() {
    let engine = engine!();
    other_image(&engine, "localhost/other:1");
    let file = engine.file("about.txt", "about");
    engine.ok(&["manifest", "create", "list"]);
    engine.ok(&["manifest", "add", "--artifact", "--artifact-subject", "localhost/other:1", "list", &file]);
    engine.ok(&["manifest", "add", "list", "localhost/other:1"]);
    let local: Value = serde_json::from_str(&engine.ok(&["manifest", "inspect", "list"])).unwrap();
    let repository = target("subject");
    // Compressed it has another manifest.
    engine.ok(&[
        "manifest",
        "push",
        "-q",
        "--compression-format",
        "zstd",
        "list",
        &format!("{repository}:1"),
    ]);
    let index = raw(&format!("{repository}:1"), &[]);
    let (artifact, image) = (&index["manifests"][0], &index["manifests"][1]);
    assert_ne!(image["digest"], local["manifests"][1]["digest"], "{local:#}");
    let manifest = raw(&format!("{repository}@{}", artifact["digest"].as_str().unwrap()), &[]);
    assert_eq!(manifest["subject"]["digest"], image["digest"]);
    assert_eq!(manifest["subject"]["size"], image["size"]);
}
