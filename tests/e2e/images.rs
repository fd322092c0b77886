//! Images: pull, list, inspect, tag, remove, load.

use crate::support::image::Image;
use crate::support::{Engine, image, setting, tiny};

#[test]
fn every_compression_and_format_gives_the_same_system() {
    let engine = engine!();
    for tag in ["gz", "zstd", "docker", "latest"] {
        let image = image(&format!("tiny:{tag}"));
        let args = [
            "run",
            "--rm",
            "-q",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            "cat /etc/readme; stat -c %u /data/seed",
        ];
        assert_eq!(engine.ok(&args), "not a program\n1000");
    }
}

#[test]
fn pull_prints_the_id_alone_on_stdout_and_progress_as_plain_lines() {
    let engine = engine!();
    let output = engine.run(&["pull", &image("python:gz")]);
    assert!(
        output.stdout.lines().count() >= 1
            && !output.stderr.contains('\x1b')
            && !output.stderr.contains('\r'),
        "{output}"
    );
    let quiet = engine.run(&["pull", "-q", &image("python:gz")]);
    assert!(quiet.stderr.is_empty(), "{quiet}");
    let id = quiet.ok();
    assert_eq!(id.lines().count(), 1);
    let full = engine.ok(&["image", "inspect", "--format", "{{.Id}}", &image("python:gz")]);
    assert!(
        full.trim_start_matches("sha256:").starts_with(id.trim_start_matches("sha256:").get(..12).unwrap()),
        "{id} {full}"
    );
}

#[test]
fn a_platform_can_be_chosen() {
    let engine = engine!();
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    let id = engine.ok(&["pull", "-q", "--platform", &format!("linux/{other}"), &image("tiny:latest")]);
    assert_eq!(
        engine.ok(&["image", "inspect", "--format", "{{.Architecture}} {{.Os}}", &id]),
        format!("{other} linux")
    );
    let output = engine.run(&["pull", "-q", "--platform", "plan9/mips", &image("tiny:latest")]);
    assert!(output.code != 0 && output.stderr.contains("mips"), "{output}");
}

#[test]
fn an_image_can_be_pulled_and_run_by_digest() {
    let engine = engine!();
    let digest = engine.ok(&["image", "inspect", "--format", "{{.Digest}}", &tiny()]);
    let by_digest = format!("{}@{digest}", image("tiny"));
    engine.ok(&["rmi", &tiny()]);
    engine.ok(&["pull", "-q", &by_digest]);
    assert_eq!(
        engine.ok(&["run", "--rm", "--network", "none", &by_digest, "echo", "by digest"]),
        "by digest"
    );
    let wrong = format!("{}@sha256:{}", image("tiny"), "0".repeat(64));
    assert_ne!(engine.run(&["pull", "-q", &wrong]).code, 0);
}

#[test]
fn images_lists_them_as_docker_does() {
    let engine = engine!();
    engine.ok(&["tag", &tiny(), "localhost/mine:1"]);
    let table = engine.ok(&["images"]);
    for column in ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"] {
        assert!(table.lines().next().unwrap().contains(column), "{table}");
    }
    assert_eq!(table.lines().count(), 3, "{table}");
    let row = table.lines().find(|line| line.contains("localhost/mine")).unwrap();
    assert!(row.contains(" 1 ") && row.contains("B"), "{row}");
    assert_eq!(
        engine.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", "localhost/mine"]),
        "localhost/mine:1"
    );
    assert_eq!(engine.ok(&["images", "-q"]).lines().next().unwrap().len(), 12);
    assert_eq!(engine.ok(&["images", "-q", "--filter", "reference=nosuch*"]), "");
    // docker prints an object per line, podman an array.
    let text = engine.ok(&["images", "--format", "json"]);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    assert!(values.all(|value| value.is_ok()) && text.contains("localhost/mine"), "{text}");
}

#[test]
fn tag_untag_and_rmi() {
    let engine = engine!();
    engine.ok(&["tag", &tiny(), "mine"]);
    assert!(engine.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).contains("mine:latest"));
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "mine", "echo", "short name"]), "short name");
    engine.ok(&["untag", &tiny(), "mine"]);
    assert!(!engine.ok(&["images", "--format", "{{.Repository}}"]).contains("mine"));
    engine.ok(&["tag", &tiny(), "a:1"]);
    engine.ok(&["rmi", "a:1"]);
    assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 1, "the other name keeps it");
    engine.ok(&["rmi", &tiny()]);
    assert_eq!(engine.ok(&["images", "-q"]), "");
    let output = engine.run(&["rmi", "nosuch"]);
    assert!(output.code != 0 && output.stderr.contains("nosuch"), "{output}");
}

#[test]
fn an_image_in_use_is_removed_only_by_force() {
    let engine = engine!();
    engine.ok(&["create", "--name", "user", "--network", "none", &tiny(), "true"]);
    let output = engine.run(&["rmi", &tiny()]);
    assert!(output.code != 0 && output.stderr.contains("use"), "{output}");
    engine.start_sleeper("runs");
    engine.ok(&["rm", "user"]);
    assert_ne!(engine.run(&["rmi", &tiny()]).code, 0);
    assert_eq!(engine.ok(&["exec", "runs", "echo", "unharmed"]), "unharmed");
}

#[test]
fn removing_the_last_image_frees_the_space() {
    let engine = engine!();
    let usage = || -> u64 {
        let path = engine.data().to_str().unwrap();
        // Files that are being deleted may vanish while du looks.
        let script = format!("du -sk {path} 2>/dev/null; true");
        engine.ok(&["unshare", "sh", "-c", &script]).split_whitespace().next().unwrap().parse().unwrap()
    };
    engine.ok(&["pull", "-q", &image("debian:gz")]);
    assert!(usage() > 50_000);
    engine.ok(&["rmi", &image("debian:gz")]);
    crate::support::eventually("the space is free", || usage() < 20_000);
    engine.sh(&[], "true");
}

#[test]
fn layers_are_stored_once_whatever_their_compression() {
    let engine = engine!();
    engine.ok(&["pull", "-q", &image("debian:gz")]);
    let usage = || -> u64 {
        let path = engine.data().to_str().unwrap();
        // Files that are being deleted may vanish while du looks.
        let script = format!("du -sk {path} 2>/dev/null; true");
        engine.ok(&["unshare", "sh", "-c", &script]).split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = usage();
    engine.ok(&["pull", "-q", &image("debian:zstd")]);
    assert!(usage() < before + before / 20, "the same layer, compressed otherwise, is not stored again");
}

#[test]
fn image_inspect_has_dockers_fields() {
    let engine = engine!();
    let value = engine.inspect_json(&["image", "inspect", &tiny()]);
    assert_eq!(value["Os"], "linux");
    assert_eq!(value["Config"]["Cmd"], serde_json::json!(["/bin/sh"]));
    assert_eq!(value["RootFS"]["Type"], "layers");
    assert_eq!(value["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert!(value["RepoTags"].as_array().unwrap().iter().any(|tag| tag == tiny().as_str()));
    assert!(value["Size"].as_u64().unwrap() > 1_000_000);
    assert!(value["Created"].as_str().unwrap().starts_with("2026-01-01T00:00:00"));
    assert_eq!(engine.ok(&["inspect", "--type", "image", "--format", "{{.Os}}", &tiny()]), "linux");
}

#[test]
fn archives_are_loaded_from_files_folders_and_stdin() {
    let folder = setting("CORACLE_TEST_IMAGES");
    require!(folder.is_some(), "no images (CORACLE_TEST_IMAGES)");
    let folder = folder.unwrap();
    let run = |engine: &Engine, image: &str| {
        engine.ok(&["run", "--rm", "--pull", "never", "--network", "none", image, "cat", "/etc/readme"])
    };
    let engine = Engine::new();
    let loaded = engine.ok(&["load", "-q", "-i", &format!("{folder}/archives/tiny.docker.tar")]);
    assert!(loaded.contains("Loaded image") && loaded.contains("example.org/archived/tiny:1"), "{loaded}");
    assert_eq!(run(&engine, "example.org/archived/tiny:1"), "not a program");

    let engine = Engine::new();
    let bytes = std::fs::read(format!("{folder}/archives/tiny.docker.tar")).unwrap();
    engine.run_with_input(&["load", "-q"], &bytes).ok();
    assert_eq!(run(&engine, "example.org/archived/tiny:1"), "not a program");

    let engine = Engine::new();
    engine.ok(&["load", "-q", "-i", &format!("{folder}/archives/tiny.oci.tar")]);
    let id = engine.ok(&["images", "-q"]);
    assert_eq!(run(&engine, &id), "not a program");

    let engine = Engine::new();
    engine.ok(&["load", "-q", "-i", &format!("{folder}/python")]);
    assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn an_archive_may_be_compressed() {
    let archive = Image::tiny_with(vec![]).docker_archive("localhost/packed:1");
    let engine = Engine::new();
    engine.run_with_input(&["load", "-q"], &crate::support::image::gzip(&archive)).ok();
    assert_eq!(
        engine.ok(&["run", "--rm", "--network", "none", "localhost/packed:1", "echo", "unpacked"]),
        "unpacked"
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    let engine = Engine::new();
    for bytes in [&b""[..], b"not an archive", &[0; 10240]] {
        let output = engine.run_with_input(&["load"], bytes);
        assert!(output.code != 0 && output.stderr.contains("Error:"), "{output}");
    }
    let mut cut = Image::tiny_with(vec![]).docker_archive("localhost/cut:1");
    cut.truncate(cut.len() / 2);
    assert_ne!(engine.run_with_input(&["load"], &cut).code, 0);
    assert_eq!(engine.ok(&["images", "-q"]), "");
}
