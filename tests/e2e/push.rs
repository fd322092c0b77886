//! Pushing to real registries, and pulling back.

use crate::support::image::{Image, Layer};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, Running, run, setting, tiny};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A repository of the plain registry that nobody else has.
fn target(name: &str) -> String {
    let host = setting("CORACLE_TEST_REGISTRY").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{host}/push/{name}-{}-{now}", std::process::id())
}

/// An image whose upper layer is in no registry.
fn own_image(engine: &Engine, name: &str) {
    let content = format!("{name} {:?}", std::time::Instant::now());
    engine.ok(&["unshare", "mkdir", "-p", "own/etc"]);
    engine.file("own/etc/own", &content);
    engine.ok(&["unshare", "tar", "-C", "own", "-cf", "own.tar", "."]);
    engine.ok(&["import", "-q", "own.tar", name]);
}

fn skopeo(args: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.args(args);
    run(command).ok()
}

fn raw_manifest(image: &str) -> serde_json::Value {
    let text = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{image}")]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_is_pushed_is_pulled_elsewhere_as_the_same_image() {
    let engine = engine!();
    own_image(&engine, "localhost/own:1");
    let image = format!("{}:1", target("same"));
    let digest_file = engine.file("digest", "");
    let shown = engine.ok(&["push", "--digestfile", &digest_file, "localhost/own:1", &image]);
    let digest = std::fs::read_to_string(&digest_file).unwrap();
    assert!(shown.starts_with(&format!("1: digest: {digest} size: ")), "{shown}");
    let other = Engine::new();
    let id = other.ok(&["pull", "-q", &image]);
    assert_eq!(
        engine.ok(&["image", "inspect", "--format", "{{.Id}}", "localhost/own:1"]),
        format!("sha256:{id}")
    );
    assert_eq!(other.ok(&["image", "inspect", "--format", "{{.Digest}}", &image]), digest);
    let name = format!("docker://{image}");
    assert_eq!(skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]), digest);
    let manifest = raw_manifest(&image);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    engine.run(&["push", &image, "oci:somewhere"]).explains(125, &["oci:", "coracle save"]);
    engine.run(&["push", "nothing", &image]).explains(125, &["no such image"]);
}

#[test]
fn layers_are_compressed_as_asked_and_the_second_time_nothing_is_sent() {
    let engine = engine!();
    own_image(&engine, "localhost/own:1");
    let repository = target("packed");
    for (compression, format, kind, manifest_kind) in [
        ("gzip", "oci", "application/vnd.oci.image.layer.v1.tar+gzip", "vnd.oci.image.manifest.v1+json"),
        ("zstd", "oci", "application/vnd.oci.image.layer.v1.tar+zstd", "vnd.oci.image.manifest.v1+json"),
        (
            "gzip",
            "docker",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "vnd.docker.distribution.manifest.v2+json",
        ),
    ] {
        let image = format!("{repository}:{compression}-{format}");
        let args = ["push", "--compression-format", compression, "-f", format, "localhost/own:1", &image];
        let first = engine.run(&args);
        // docker's form of the manifest lists the layer that is there already.
        assert_eq!(first.stderr.contains("pushing"), format == "oci", "{first}");
        let manifest = raw_manifest(&image);
        assert_eq!(manifest["layers"][0]["mediaType"], kind);
        assert_eq!(manifest["mediaType"], format!("application/{manifest_kind}"));
        let again = engine.run(&args);
        assert!(again.stderr.contains("already there") && !again.stderr.contains("pushing"), "{again}");
        assert_eq!(again.ok(), first.ok());
        let other = Engine::new();
        let id = other.ok(&["pull", "-q", &image]);
        assert_eq!(
            engine.ok(&["image", "inspect", "--format", "{{.Id}}", "localhost/own:1"]),
            format!("sha256:{id}")
        );
    }
    let hard = format!("{repository}:hard");
    let args =
        ["push", "--compression-format", "zstd", "--compression-level", "19", "localhost/own:1", &hard];
    assert!(engine.run(&args).stderr.contains("pushing"));
    assert!(engine.run(&args).stderr.contains("already there"));
}

#[test]
fn what_another_repository_of_the_registry_has_is_mounted() {
    let engine = engine!();
    let image = format!("{}:copy", target("mounted"));
    let output = engine.run(&["push", &tiny(), &image]);
    assert!(output.stderr.contains("mounted from test/tiny"), "{output}");
    assert!(!output.stderr.contains("pushing"), "{output}");
    output.ok();
    // Nothing had to be made anew, so it has the digest that it had.
    let digest = |image: &str| {
        skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{image}")])
    };
    assert_eq!(digest(&image), digest(&tiny()));
}

#[test]
fn all_tags_of_a_repository_go_and_each_keeps_its_name() {
    let engine = engine!();
    own_image(&engine, "localhost/own:1");
    let repository = target("tags");
    for tag in ["a", "b"] {
        engine.ok(&["tag", "localhost/own:1", &format!("{repository}:{tag}")]);
    }
    let names = engine.ok(&["push", "-q", "-a", &repository]);
    assert_eq!(names.lines().collect::<Vec<_>>(), [format!("{repository}:a"), format!("{repository}:b")]);
    let tags = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{repository}")]);
    assert!(tags.contains("\"a\"") && tags.contains("\"b\""), "{tags}");
    // The name knows its digest now, as after a pull.
    let digests = engine.ok(&["images", "--digests", &format!("{repository}:a")]);
    assert!(digests.contains("sha256:"), "{digests}");
    engine.run(&["push", "-a", "localhost/unknown"]).explains(125, &["localhost/unknown"]);
}

#[test]
fn a_registry_with_accounts_takes_a_push_with_the_password_only() {
    let host = setting("CORACLE_TEST_AUTH_REGISTRY");
    require!(host.is_some(), "no registry with accounts (CORACLE_TEST_AUTH_REGISTRY)");
    let engine = engine!();
    own_image(&engine, "localhost/own:1");
    let repository = target("private").split_once('/').unwrap().1.to_owned();
    let image = format!("{}/{repository}:1", host.unwrap());
    engine.run(&["push", "-q", "localhost/own:1", &image]).explains(125, &["coracle login"]);
    let output = engine.run(&["push", "-q", "--creds", "tester:wrong", "localhost/own:1", &image]);
    assert!(output.code == 125 && !output.stderr.contains("wrong"), "{output}");
    engine.ok(&["push", "-q", "--creds", "tester:open sesame", "localhost/own:1", &image]);
    Engine::new().ok(&["pull", "-q", "--creds", "tester:open sesame", &image]);
}

#[test]
fn a_busy_registry_is_asked_again_and_a_mirror_is_never_pushed_to() {
    let mut engine = engine!();
    own_image(&engine, "localhost/own:1");
    let (registry, mirror) = (Registry::start(), Registry::start());
    let tries = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&tries);
    registry.rule(move |request| match request.method.as_str() {
        "POST" if seen.fetch_add(1, Ordering::SeqCst) < 2 => {
            Some(Response::new(429, "{}").header("Retry-After", "0"))
        }
        "POST" => Some(Response::new(403, r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#)),
        _ => None,
    });
    let host = registry.address().to_owned();
    let conf = format!(
        "[[registry]]\nlocation = \"{host}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        mirror.address()
    );
    engine.set("CONTAINERS_REGISTRIES_CONF", &engine.file("mirrors.conf", &conf));
    let output = Running::start(
        engine.command(&["push", "--retry-delay", "10ms", "localhost/own:1", &format!("{host}/busy:1")]),
        b"",
    );
    output.wait().explains(125, &["denied", "read only"]);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(mirror.log().len(), 0, "{:?}", mirror.log());
}

#[test]
fn a_token_is_asked_for_pushing_and_for_reading_where_blobs_may_be_mounted_from() {
    let engine = engine!();
    let registry = Registry::start();
    let image = engine.add(&registry, "base", &Image::tiny_with(vec![]));
    engine.ok(&["pull", "-q", &image]);
    let realm = format!("http://{}/token", registry.address());
    registry.rule(move |request| {
        if request.path.starts_with("/token") {
            return Some(Response::new(200, r#"{"token": "t0ken"}"#));
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer t0ken") {
            let challenge = format!(r#"Bearer realm="{realm}",service="tests""#);
            return Some(Response::new(401, "{}").header("WWW-Authenticate", &challenge));
        }
        match request.method.as_str() {
            "HEAD" => Some(Response::new(404, "")),
            "POST" if request.path.contains("mount=") => Some(Response::new(201, "")),
            "POST" => Some(Response::new(403, r#"{"errors":[{"code":"DENIED"}]}"#)),
            _ => None,
        }
    });
    let target = format!("{}/derived:1", registry.address());
    let output = engine.run(&["push", &image, &target]);
    assert!(output.stderr.contains("mounted from base"), "{output}");
    output.explains(125, &["denied"]);
    let log = registry.log();
    let asked = log.iter().find(|request| request.path.starts_with("/token")).unwrap();
    for scope in ["scope=repository%3Aderived%3Apull%2Cpush&", "scope=repository%3Abase%3Apull&"] {
        assert!(asked.path.contains(scope), "{asked:?}");
    }
}

#[test]
fn what_is_there_costs_one_request_and_its_layers_under_another_name_one_each() {
    let engine = engine!();
    let registry = Registry::start();
    let layers: Vec<_> = ["a", "b", "c"].iter().map(|n| Layer::new().file(n, n.as_bytes(), 0o644)).collect();
    let image = engine.add(&registry, "base", &Image::tiny_with(layers));
    engine.ok(&["pull", "-q", &image]);
    let before = registry.log().len();
    engine.ok(&["push", "-q", &image]);
    let log = registry.log();
    let asked: Vec<&str> = log[before..].iter().map(|r| r.method.as_str()).collect();
    assert!(asked.iter().all(|method| matches!(*method, "HEAD" | "GET")) && asked.len() <= 2, "{asked:?}");
    registry.rule(|request| {
        let is_upload = request.method == "PUT" && request.path.contains("/manifests/");
        is_upload.then(|| Response::new(201, ""))
    });
    let before = registry.log().len();
    engine.ok(&["push", "-q", &image, &image.replace(":latest", ":other")]);
    let log = registry.log();
    // The tag, each of four layers, the config, and the manifest; and the greeting.
    assert!(log.len() - before <= 8, "{:?}", log[before..].iter().map(|r| &r.path).collect::<Vec<_>>());
    assert_eq!(log[before..].iter().filter(|r| r.method != "HEAD" && r.method != "GET").count(), 1);
}
