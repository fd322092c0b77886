//! Row 13: a registry that is hostile, or broken, ends a pull with a reason and a way out, and never holds it up.

use crate::support::image::{Image, Layer, digest};
use crate::support::registry::{Registry, Request, Response};
use crate::support::{Engine, Output};
use serde_json::{Value, json};
use std::time::Duration;

const OCI: &str = "application/vnd.oci.image.";

fn small() -> Image {
    Image::tiny_with(vec![Layer::new().file("etc/mark", b"small\n", 0o644)])
}

/// Pulls from a registry that answers by this rule first.
#[track_caller]
fn pull(
    flags: &[&str],
    rule: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static,
) -> (Output, Registry) {
    let (engine, registry) = (Engine::new(), Registry::start());
    registry.rule(rule);
    let image = engine.add(&registry, "image", &small());
    let output = engine.run(&[&["pull", "-q"], flags, &[&image]].concat());
    assert!(!output.stderr.contains("panicked"), "{output}");
    if output.code != 0 {
        assert_eq!(engine.ok(&["images", "-q"]), "", "nothing half-made stays");
    }
    (output, registry)
}

#[test]
fn a_registry_that_stalls_or_drips_is_given_up_with_a_reason() {
    let held = |part: &'static str, drip: bool| {
        move |request: &Request| {
            request.path.contains(part).then(|| {
                let mut response = Response::new(200, "some");
                (response.claimed_length, response.stall, response.drip) = (Some(1 << 16), !drip, drip);
                response
            })
        }
    };
    std::thread::scope(|scope| {
        for part in ["/manifests/", "/blobs/"] {
            for drip in [false, true] {
                scope.spawn(move || {
                    let (output, _) = pull(&["--retry", "0"], held(part, drip));
                    output.explains(125, &["cannot reach", "fix: try again later"]);
                });
            }
        }
    });
}

#[test]
fn a_registry_that_breaks_off_is_asked_again_and_then_named() {
    let cut = |part: &'static str| {
        move |request: &Request| {
            request.path.contains(part).then(|| {
                let mut response = Response::new(200, "some");
                response.claimed_length = Some(1 << 16);
                response
            })
        }
    };
    let (output, registry) = pull(&["--retry", "2", "--retry-delay", "10ms"], cut("/manifests/latest"));
    output.explains(125, &["cannot reach", "fix:"]);
    assert_eq!(registry.count("GET", "/manifests/"), 3);
}

#[test]
fn a_registry_that_wants_to_be_left_alone_is_asked_again_in_its_time_or_given_up() {
    for status in [429, 503] {
        let busy = |seconds: &'static str| {
            move |request: &Request| {
                request
                    .path
                    .contains("/manifests/")
                    .then(|| Response::new(status, "").header("Retry-After", seconds))
            }
        };
        let (output, registry) = pull(&["--retry", "2", "--retry-delay", "10ms"], busy("1"));
        assert!(output.time > Duration::from_secs(2), "{output}");
        output.explains(125, &["fix:"]);
        assert_eq!(registry.count("GET", "/manifests/"), 3);
        let (output, registry) = pull(&[], busy("100000"));
        assert!(output.time < Duration::from_secs(30), "{output}");
        output.explains(125, &["100000 s", "fix:"]);
        assert_eq!(registry.count("GET", "/manifests/"), 1);
    }
}

#[test]
fn challenges_and_redirects_without_end_have_one() {
    for header in [
        "Bearer realm=\"http://HOST/token\"",
        "Basic realm=x",
        "Bearer realm=\"http://HOST/v2/image/manifests/x\"",
    ] {
        let (output, registry) = pull(&["--creds", "a:b"], move |request| {
            if request.path.starts_with("/token") {
                return Some(Response::new(200, r#"{"token":"t"}"#));
            }
            let host = request.headers.get("host").cloned().unwrap_or_default();
            Some(Response::new(401, "").header("WWW-Authenticate", &header.replace("HOST", &host)))
        });
        output.explains(125, &["denied", "fix:"]);
        assert!(registry.log().len() < 20, "{header}: {} requests", registry.log().len());
    }
    let (output, registry) = pull(&[], |request| {
        let at: u64 = request.path.rsplit('/').next()?.parse().unwrap_or(0);
        let next = format!("/v2/image/manifests/{}", at + 1);
        request.path.contains("/manifests/").then(|| Response::new(302, "").header("Location", &next))
    });
    output.explains(125, &["redirects without end"]);
    assert!(registry.log().len() < 20);
}

#[test]
fn headers_that_are_huge_or_no_text_are_an_error_or_nothing() {
    let huge = "x".repeat(1 << 20);
    for (name, value) in
        [("X-Huge", huge.as_str()), ("Docker-Content-Digest", "sha256:no"), ("Content-Type", "\u{1}\u{7f}")]
    {
        let value = value.to_owned();
        let (output, _) = pull(&["--retry", "0"], move |request| {
            request.path.contains("/manifests/").then(|| Response::new(200, "{}").header(name, &value))
        });
        assert!(output.code == 125 && output.stderr.len() < 2000, "{output}");
    }
}

/// What a manifest and a configuration may not say, each with a word of the error.
#[test]
fn documents_that_do_not_fit_together_are_refused_by_name() {
    let image = small();
    let ids: Vec<String> = image.layers.iter().map(|layer| digest(layer)).collect();
    let config = |rootfs: Value| json!({"architecture": image.architecture, "os": "linux", "rootfs": rootfs});
    let good = config(json!({"type": "layers", "diff_ids": ids}));
    let more = [&ids[..], &[digest(b"x")]].concat();
    let swapped: Vec<&String> = ids.iter().rev().collect();
    let kinds = |config: &str, layer: &str| (format!("{OCI}{config}"), format!("{OCI}{layer}"));
    let usual = || kinds("config.v1+json", "layer.v1.tar+gzip");
    let manifest = format!("{OCI}manifest.v1+json");
    let table = [
        (
            "no rootfs",
            json!({"architecture": image.architecture, "os": "linux"}),
            usual(),
            &manifest,
            "layers",
        ),
        ("no diff ids", config(json!({"type": "layers"})), usual(), &manifest, "layers"),
        ("too few", config(json!({"type": "layers", "diff_ids": ids[..1]})), usual(), &manifest, "layers"),
        ("too many", config(json!({"type": "layers", "diff_ids": more})), usual(), &manifest, "layers"),
        (
            "in another order",
            config(json!({"type": "layers", "diff_ids": swapped})),
            usual(),
            &manifest,
            "digest",
        ),
        (
            "no digests",
            config(json!({"type": "layers", "diff_ids": ["x", "y"]})),
            usual(),
            &manifest,
            "malformed",
        ),
        ("no configuration", json!([1, 2]), usual(), &manifest, "malformed"),
        (
            "another's type of config",
            good.clone(),
            kinds("wasm.config+json", "layer.v1.tar"),
            &manifest,
            "wasm",
        ),
        (
            "another's type of layer",
            good.clone(),
            kinds("config.v1+json", "layer.v1.squashfs"),
            &manifest,
            "squashfs",
        ),
        (
            "an encrypted layer",
            good.clone(),
            kinds("config.v1+json", "layer.v1.tar+gzip+encrypted"),
            &manifest,
            "encrypted",
        ),
        (
            "no type that we know",
            good.clone(),
            usual(),
            &"application/vnd.example+json".to_owned(),
            "vnd.example",
        ),
    ];
    for (what, config, (config_kind, layer_kind), kind, word) in table {
        let (engine, registry) = (Engine::new(), Registry::start());
        engine.trust(registry.address());
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| registry.add_blob(&layer_kind, crate::support::image::gzip(layer)))
            .collect();
        let config = registry.add_blob(&config_kind, serde_json::to_vec(&config).unwrap());
        let document = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        registry.add_manifest("odd", "latest", kind, &document);
        let output = engine.run(&["pull", "-q", &format!("{}/odd", registry.address())]);
        eprintln!("{what}: {}", output.stderr);
        output.explains(125, &[word]);
        assert_eq!(engine.ok(&["images", "-q"]), "", "{what}");
    }
}

#[test]
fn a_layer_under_a_wrong_digest_is_never_published() {
    let image = small();
    // The blob is another, or it is the blob and not the archive that the configuration means.
    let (engine, registry) = (Engine::new(), Registry::start());
    let reference = engine.add(&registry, "wrong", &image);
    let blob = crate::support::image::gzip(&image.layers[1]);
    let other = crate::support::image::gzip(&Layer::new().file("etc/mark", b"other\n", 0o644).finish());
    let mut padded = other.clone();
    padded.resize(blob.len(), 0);
    registry.set_blob(&digest(&blob), padded);
    assert_eq!(engine.run(&["pull", "-q", &reference]).code, 125);
    let published =
        || crate::support::host(&format!("ls {}/layers 2>/dev/null | wc -l", engine.data().display()));
    assert!(published() == "1" || published() == "0", "only the good layer: {}", published());
    registry.set_blob(&digest(&blob), blob);
    assert_eq!(
        engine.ok(&["run", "--rm", "-q", "--network", "none", &reference, "cat", "/etc/mark"]),
        "small"
    );
}
