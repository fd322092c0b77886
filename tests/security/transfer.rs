//! Row 13: what is fetched is what was asked for, and credentials go to nobody else.

use crate::support::image::{Image, Layer, digest};
use crate::support::registry::{Registry, Request, Response};
use crate::support::{Engine, run};
use serde_json::json;

/// `tester:open sesame`.
const BASIC: &str = "dGVzdGVyOm9wZW4gc2VzYW1l";

fn small() -> Image {
    Image::tiny_with(vec![Layer::new().file("etc/mark", b"small\n", 0o644)])
}

fn wants_password(request: &Request) -> Option<Response> {
    let sent = request.headers.get("authorization").map(String::as_str);
    (sent != Some(&format!("Basic {BASIC}")))
        .then(|| Response::new(401, "{}").header("WWW-Authenticate", "Basic realm=\"tests\""))
}

/// CVE-2020-15157.
#[test]
fn a_redirect_does_not_carry_credentials_to_another_host() {
    for status in [301, 302, 303, 307, 308] {
        let engine = Engine::new();
        let (registry, elsewhere) = (Registry::start(), Registry::start());
        elsewhere.add("private", &small());
        registry.rule(wants_password);
        let other = elsewhere.address().to_owned();
        registry.rule(move |request| {
            request.path.contains("/blobs/").then(|| {
                Response::new(status, "").header("Location", &format!("http://{other}{}", request.path))
            })
        });
        let image = engine.add(&registry, "private", &small());
        engine.trust(elsewhere.address());
        engine.ok(&["pull", "-q", "--creds", "tester:open sesame", &image]);
        let log = elsewhere.log();
        assert!(!log.is_empty(), "it was asked for the blobs");
        for request in log {
            assert!(!request.headers.contains_key("authorization"), "{request:?}");
            assert!(!request.headers.values().any(|value| value.contains(BASIC)), "{request:?}");
        }
        assert!(registry.log().iter().any(|request| request.headers.contains_key("authorization")));
    }
}

#[test]
fn a_redirect_may_not_lead_to_another_scheme_or_round_in_circles() {
    for location in
        ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:1/x", "/v2/loop/blobs/x", "//", ""]
    {
        let engine = Engine::new();
        let registry = Registry::start();
        registry.rule(move |request| {
            request.path.contains("/blobs/").then(|| Response::new(307, "").header("Location", location))
        });
        let image = engine.add(&registry, "loop", &small());
        let output = engine.run(&["pull", "-q", &image]);
        assert!(output.code == 125 && output.time.as_secs() < 60, "{location}: {output}");
        assert!(registry.log().len() < 200, "{location}: {} requests", registry.log().len());
    }
}

#[test]
fn a_foreign_layer_is_not_fetched_from_where_the_manifest_says() {
    let engine = Engine::new();
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let image = small();
    let (blobs, manifest) = image.blobs();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["urls"] = json!([format!("http://{}/stolen", elsewhere.address())]);
    }
    engine.trust(registry.address());
    let reference = registry.add_parts("foreign", blobs, serde_json::to_vec(&manifest).unwrap());
    engine.run(&["pull", "-q", &reference]);
    assert_eq!(elsewhere.log().len(), 0, "{:?}", elsewhere.log());
}

#[test]
fn a_manifest_under_a_wrong_digest_is_refused() {
    let engine = Engine::new();
    let registry = Registry::start();
    let (_, manifest) = small().blobs();
    let other = Image::tiny_with(vec![]);
    engine.add(&registry, "swapped", &other);
    let wanted = digest(&manifest);
    let (_, served) = other.blobs();
    let path = format!("/v2/swapped/manifests/{wanted}");
    registry.rule(move |request| {
        (request.path == path).then(|| {
            Response::new(200, served.clone())
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        })
    });
    let image = format!("{}/swapped@{wanted}", registry.address());
    engine.run(&["pull", "-q", &image]).explains(125, &[&wanted]);
    assert_eq!(engine.ok(&["images", "-q"]), "");
}

#[test]
fn a_configuration_under_a_wrong_digest_is_refused() {
    let engine = Engine::new();
    let registry = Registry::start();
    let image = small();
    let reference = engine.add(&registry, "config", &image);
    let config = image.config_blob();
    let mut other = config.clone();
    // As long as the true one: a letter of the architecture.
    let at = other.windows(5).position(|w| w == b"linux").unwrap();
    other[at] = b'L';
    registry.set_blob(&digest(&config), other);
    assert_eq!(engine.run(&["pull", "-q", &reference]).code, 125);
    assert_eq!(engine.ok(&["images", "-q"]), "");
}

#[test]
fn manifests_and_configurations_are_bounded() {
    let engine = Engine::new();
    let registry = Registry::start();
    let mut huge = small().blobs().1;
    huge.resize(100 << 20, b' ');
    engine.trust(registry.address());
    let image = registry.add_parts("huge", small().blobs().0, huge);
    engine.run(&["pull", "-q", &image]).explains(125, &["larger than 4194304 bytes"]);
    // And one that never ends.
    registry.rule(|request| {
        request.path.contains("/endless/manifests/").then(|| {
            let mut response = Response::new(200, vec![b' '; 32 << 20]);
            response.claimed_length = Some(usize::MAX >> 2);
            response
        })
    });
    let output = engine.run(&["pull", "-q", &format!("{}/endless", registry.address())]);
    assert!(output.time.as_secs() < 60, "{output}");
    output.explains(125, &["larger than 4194304 bytes"]);
}

#[test]
fn sizes_that_the_manifest_gives_are_kept_to() {
    let engine = Engine::new();
    let registry = Registry::start();
    let image = small();
    let (blobs, manifest) = image.blobs();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][1]["size"] = json!(10);
    engine.trust(registry.address());
    let reference = registry.add_parts("size", blobs, serde_json::to_vec(&manifest).unwrap());
    assert_eq!(engine.run(&["pull", "-q", &reference]).code, 125);
    assert_eq!(engine.ok(&["images", "-q"]), "");
}

/// An address of this machine that is not loopback, if it has one: nothing is sent to find out.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket
        .local_addr()
        .ok()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn plain_http_is_for_loopback_or_when_asked() {
    let engine = Engine::new();
    let address = own_address();
    require!(address.is_some(), "this machine has no address but loopback");
    let registry = Registry::start_on("0.0.0.0:0");
    let port = registry.address().rsplit(':').next().unwrap().to_owned();
    registry.add("plain", &small());
    let image = format!("{}:{port}/plain:latest", address.unwrap());
    assert_eq!(engine.run(&["pull", "-q", "--creds", "tester:open sesame", &image]).code, 125);
    assert!(registry.log().iter().all(|request| !request.path.starts_with("/v2")), "{:?}", registry.log());
    engine.ok(&["pull", "-q", "--tls-verify=false", &image]);
}

#[test]
fn credentials_are_never_shown() {
    let mut engine = Engine::new();
    let registry = Registry::start();
    registry.rule(|request| {
        // Echoes what it was sent, as a careless proxy would in its error page.
        let sent = request.headers.get("authorization").cloned().unwrap_or_default();
        Some(
            Response::new(401, format!("{{\"errors\":[{{\"message\":\"{sent}\"}}]}}"))
                .header("WWW-Authenticate", "Basic realm=\"x\""),
        )
    });
    engine.trust(registry.address());
    engine.set("RUST_LOG", "trace");
    let image = format!("{}/private/image", registry.address());
    let file = engine
        .file("auth.json", &format!(r#"{{"auths": {{"{}": {{"auth": "{BASIC}"}}}}}}"#, registry.address()));
    for args in
        [&["pull", "--authfile", &file, &image][..], &["pull", "--creds", "tester:open sesame", &image]]
    {
        let output = engine.run(args);
        let shown = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code == 125 && !shown.contains("sesame") && !shown.contains(BASIC), "{output}");
    }
}

#[test]
fn a_helper_gets_the_host_on_its_input_and_no_secret_is_in_any_argument() {
    let mut engine = Engine::new();
    let registry = Registry::start();
    registry.rule(wants_password);
    let image = engine.add(&registry, "helped", &small());
    let helper = engine.file(
        "bin/docker-credential-spy",
        "#!/bin/sh\nread -r host\ncat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' > \"$0.seen\"\n\
         echo '{\"ServerURL\":\"x\",\"Username\":\"tester\",\"Secret\":\"open sesame\"}'\n",
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    engine.set(
        "PATH",
        &format!("{}:{}", engine.scratch().join("bin").display(), std::env::var("PATH").unwrap()),
    );
    let file =
        engine.file("auth.json", &format!(r#"{{"credHelpers": {{"{}": "spy"}}}}"#, registry.address()));
    let mut command = engine.command(&["pull", "-q", "--authfile", &file, &image]);
    command.env("MARK", "x");
    run(command).ok();
    let seen = std::fs::read_to_string(format!("{helper}.seen")).unwrap();
    assert!(seen.contains("docker-credential-spy get") && !seen.contains("sesame"), "{seen}");
}

#[test]
fn a_helper_that_is_a_path_is_not_executed() {
    let engine = Engine::new();
    let registry = Registry::start();
    registry.rule(wants_password);
    let image = engine.add(&registry, "helped", &small());
    let made = engine.scratch().join("made");
    let script = engine.file("evil", &format!("#!/bin/sh\ntouch {}\n", made.display()));
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in [format!("x/../../../../../../..{script}"), "../evil".to_owned()] {
        let file = engine
            .file("auth.json", &format!(r#"{{"credHelpers": {{"{}": "{name}"}}}}"#, registry.address()));
        assert_eq!(engine.run(&["pull", "-q", "--authfile", &file, &image]).code, 125);
        assert!(!made.exists());
    }
}

/// The same for an upload, which the registry may send anywhere.
#[test]
fn an_upload_that_is_sent_elsewhere_does_not_carry_credentials() {
    let engine = Engine::new();
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let image = engine.add(&registry, "plain", &small());
    engine.ok(&["pull", "-q", &image]);
    registry.rule(wants_password);
    let other = elsewhere.address().to_owned();
    registry.rule(move |request| {
        let location = format!("http://{other}/v2/stolen/blobs/uploads/1");
        (request.method == "POST").then(|| Response::new(202, "").header("Location", &location))
    });
    elsewhere.rule(|request| {
        let next = "/v2/stolen/blobs/uploads/2";
        matches!(request.method.as_str(), "PATCH" | "PUT")
            .then(|| Response::new(202, "").header("Location", next))
    });
    let target = format!("{}/pushed", registry.address());
    let args = ["push", "-q", "--retry", "0", "--compression-level", "9"];
    let output = engine.run(&[&args[..], &["--creds", "tester:open sesame", &image, &target]].concat());
    assert_eq!(output.code, 125, "{output}");
    let log = elsewhere.log();
    assert!(log.iter().any(|request| request.method == "PATCH"), "it was sent the layer: {output}");
    for request in log {
        assert!(!request.headers.contains_key("authorization"), "{request:?}");
        assert!(!request.headers.values().any(|value| value.contains(BASIC)), "{request:?}");
    }
    assert!(registry.log().iter().any(|request| request.headers.contains_key("authorization")));
}
