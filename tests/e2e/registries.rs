//! Registries: credentials, mirrors, and what becomes of a pull that goes wrong.

use crate::support::image::{Image, Layer};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, setting};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `tester:open sesame`.
const BASIC: &str = "dGVzdGVyOm9wZW4gc2VzYW1l";

fn small() -> Image {
    Image::tiny_with(vec![Layer::new().file("etc/mark", b"small\n", 0o644)])
}

fn mark(engine: &Engine, image: &str) -> String {
    engine.ok(&["run", "--rm", "-q", "--network", "none", image, "cat", "/etc/mark"])
}

#[test]
fn credentials_come_from_dockers_and_podmans_files_and_from_flags() {
    let host = setting("CORACLE_TEST_AUTH_REGISTRY");
    require!(host.is_some(), "no registry with accounts (CORACLE_TEST_AUTH_REGISTRY)");
    let host = host.unwrap();
    let image = format!("{host}/test/tiny:gz");
    let auths = format!(r#"{{"auths": {{"{host}": {{"auth": "{BASIC}"}}}}}}"#);

    let engine = Engine::new();
    engine.run(&["pull", "-q", &image]).explains(125, &["authentication required"]);
    assert_eq!(engine.ok(&["images", "-q"]), "");

    let file = engine.file("auth.json", &auths);
    engine.ok(&["pull", "-q", "--authfile", &file, &image]);

    let mut engine = Engine::new();
    let file = engine.file("auth.json", &auths);
    engine.set("REGISTRY_AUTH_FILE", &file);
    engine.ok(&["pull", "-q", &image]);

    let mut engine = Engine::new();
    engine.file("docker/config.json", &auths);
    engine.set("DOCKER_CONFIG", engine.scratch().join("docker").to_str().unwrap());
    if !engine.is_podman() {
        engine.ok(&["pull", "-q", &image]);
    }

    let engine = Engine::new();
    engine.ok(&["pull", "-q", "--creds", "tester:open sesame", &image]);
    let output = Engine::new().run(&["pull", "-q", "--creds", "tester:wrong", &image]);
    assert!(output.code != 0 && !output.stderr.contains("wrong"), "the password is not shown: {output}");
}

#[test]
fn credentials_come_from_a_helper() {
    let host = setting("CORACLE_TEST_AUTH_REGISTRY");
    require!(host.is_some(), "no registry with accounts (CORACLE_TEST_AUTH_REGISTRY)");
    let host = host.unwrap();
    let mut engine = Engine::new();
    let helper = engine.file(
        "bin/docker-credential-tests",
        "#!/bin/sh\nread -r host\necho \"$1 $host\" >> \"$0.log\"\n\
         echo '{\"ServerURL\":\"x\",\"Username\":\"tester\",\"Secret\":\"open sesame\"}'\n",
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", engine.scratch().join("bin").display(), std::env::var("PATH").unwrap());
    engine.set("PATH", &path);
    let file = engine.file("auth.json", &format!(r#"{{"credHelpers": {{"{host}": "tests"}}}}"#));
    engine.ok(&["pull", "-q", "--authfile", &file, &format!("{host}/test/tiny:gz")]);
    let log = std::fs::read_to_string(format!("{helper}.log")).unwrap();
    assert!(log.lines().all(|line| line == format!("get {host}")), "{log}");
}

#[test]
fn a_bearer_token_is_fetched_from_the_realm_and_used() {
    let engine = Engine::new();
    let registry = Registry::start();
    let realm = format!("http://{}/token", registry.address());
    registry.rule(move |request| {
        if request.path.starts_with("/token") {
            assert!(
                request.path.contains("scope=repository%3Asecret%3Apull")
                    || request.path.contains("scope=repository:secret:pull")
            );
            return Some(Response::new(200, r#"{"token": "t0ken", "expires_in": 300}"#));
        }
        (request.headers.get("authorization").map(String::as_str) != Some("Bearer t0ken")).then(|| {
            let challenge =
                format!(r#"Bearer realm="{realm}",service="tests",scope="repository:secret:pull""#);
            Response::new(401, "{}").header("WWW-Authenticate", &challenge)
        })
    });
    let image = engine.add(&registry, "secret", &small());
    assert_eq!(mark(&engine, &image), "small");
    assert!(registry.count("GET", "/token") >= 1);
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_the_mirror_fails() {
    let mut engine = Engine::new();
    let (origin, mirror) = (Registry::start(), Registry::start());
    let image = origin.add("mirrored", &small());
    mirror.add("copies/mirrored", &small());
    let conf = engine.file(
        "mirrors.conf",
        &format!(
            "[[registry]]\nprefix = \"{0}\"\nlocation = \"{0}\"\ninsecure = true\n\n[[registry.mirror]]\nlocation = \"{1}/copies\"\ninsecure = true\n",
            origin.address(), mirror.address()
        ),
    );
    engine.set("CONTAINERS_REGISTRIES_CONF", &conf);
    assert_eq!(mark(&engine, &image), "small");
    assert_eq!(origin.log().len(), 0, "the mirror had everything");
    assert!(mirror.count("GET", "/blobs/") > 0);

    let mut engine2 = Engine::new();
    let conf = engine2.file(
        "mirrors.conf",
        &format!(
            "[[registry]]\nprefix = \"{0}\"\nlocation = \"{0}\"\ninsecure = true\n\n[[registry.mirror]]\nlocation = \"127.0.0.1:1\"\ninsecure = true\n",
            origin.address()
        ),
    );
    engine2.set("CONTAINERS_REGISTRIES_CONF", &conf);
    assert_eq!(mark(&engine2, &image), "small");
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let mut engine = Engine::new();
    let registry = Registry::start();
    let image = registry.add("blocked", &small());
    let conf = engine.file(
        "blocked.conf",
        &format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\nblocked = true\n", registry.address()),
    );
    engine.set("CONTAINERS_REGISTRIES_CONF", &conf);
    engine.run(&["pull", "-q", &image]).explains(125, &["blocked"]);
    assert_eq!(registry.log().len(), 0);
}

#[test]
fn layers_that_are_here_are_not_downloaded() {
    let engine = Engine::new();
    let registry = Registry::start();
    let first = engine.add(&registry, "one", &small());
    engine.ok(&["pull", "-q", &first]);
    let before = registry.count("GET", "/blobs/");
    let more = Image::tiny_with(vec![
        Layer::new().file("etc/mark", b"small\n", 0o644),
        Layer::new().file("etc/more", b"more\n", 0o644),
    ]);
    let second = engine.add(&registry, "two", &more);
    engine.ok(&["pull", "-q", &second]);
    assert_eq!(registry.count("GET", "/blobs/") - before, 2, "the configuration and one layer");
    let before = registry.log().len();
    engine.ok(&["pull", "-q", &second]);
    assert!(
        registry.count("GET", "/blobs/")
            + registry.count("HEAD", "/manifests/")
            + registry.count("GET", "/manifests/")
            > 0
    );
    assert!(registry.log().len() - before <= 2, "pull again: {:?}", &registry.log()[before..]);
}

#[test]
fn a_short_failure_is_tried_again() {
    let engine = Engine::new();
    let registry = Registry::start();
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    registry.rule(move |request| {
        let fail = request.path.contains("/blobs/") && count.fetch_add(1, Ordering::SeqCst) < 2;
        fail.then(|| Response::new(503, "busy"))
    });
    let image = engine.add(&registry, "flaky", &small());
    assert_eq!(mark(&engine, &image), "small");
    assert!(failures.load(Ordering::SeqCst) > 2);
}

#[test]
fn a_download_that_breaks_off_is_resumed() {
    let engine = Engine::new();
    let registry = Registry::start();
    // 3 MB that do not compress.
    let mut state = 1u32;
    let noise: Vec<u8> = (0..3_000_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).unwrap()
        })
        .collect();
    let image =
        Image::tiny_with(vec![Layer::new().file("noise", &noise, 0o644).file("etc/mark", b"whole\n", 0o644)]);
    let (blobs, _) = image.blobs();
    let big = blobs.into_iter().find(|(_, bytes)| bytes.len() > 2_900_000).unwrap();
    let broken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&broken);
    let name = big.0.clone();
    registry.rule(move |request| {
        let first = request.path.ends_with(&name)
            && request.method == "GET"
            && count.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| {
            let mut response = Response::new(200, &big.1[..2_000_000]);
            response.claimed_length = Some(big.1.len());
            response
        })
    });
    let image = engine.add(&registry, "broken", &image);
    assert_eq!(mark(&engine, &image), "whole");
    assert_eq!(broken.load(Ordering::SeqCst), 2, "asked for twice");
    let resumed = registry.log().iter().any(|request| {
        request.headers.get("range").is_some_and(|range| range.starts_with("bytes=") && range != "bytes=0-")
    });
    assert!(resumed, "the second time from where it had stopped");
}

#[test]
fn pull_policies_are_kept() {
    let engine = Engine::new();
    let registry = Registry::start();
    let image = engine.add(&registry, "policy", &small());
    let run = |policy: &str| {
        engine.run(&["run", "--rm", "-q", "--network", "none", "--pull", policy, &image, "cat", "/etc/mark"])
    };
    assert_eq!(run("never").code, 125);
    assert_eq!(registry.log().len(), 0, "never asks nobody");
    assert_eq!(run("missing").ok(), "small");
    let before = registry.log().len();
    assert_eq!(run("missing").ok(), "small");
    assert_eq!(registry.log().len(), before, "what is here is not asked for");
    let newer = Image::tiny_with(vec![Layer::new().file("etc/mark", b"newer\n", 0o644)]);
    registry.add("policy", &newer);
    assert_eq!(run("missing").ok(), "small");
    assert_eq!(run("always").ok(), "newer");
}

#[test]
fn a_proxy_from_the_environment_is_used_but_not_for_no_proxy() {
    let mut engine = Engine::new();
    let proxy = Registry::start();
    engine.set("HTTPS_PROXY", &format!("http://{}", proxy.address()));
    engine.set("https_proxy", &format!("http://{}", proxy.address()));
    assert_ne!(engine.run(&["pull", "-q", "registry.example/not/there"]).code, 0);
    assert!(proxy.count("CONNECT", "registry.example:443") > 0, "{:?}", proxy.log());
    let before = proxy.log().len();
    engine.set("NO_PROXY", "registry.example");
    engine.set("no_proxy", "registry.example");
    assert_ne!(engine.run(&["pull", "-q", "registry.example/not/there"]).code, 0);
    assert_eq!(proxy.log().len(), before);
}
