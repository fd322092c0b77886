//! What cannot work says what failed, why, and how to get past it, and leaves nothing half-made.

use crate::support::image::{Image, Layer, digest, gzip};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, tiny};

fn nothing_is_left(engine: &Engine) {
    assert_eq!(engine.ok(&["images", "-aq"]), "");
    assert!(engine.names().is_empty());
}

#[test]
fn an_image_that_does_not_exist() {
    let engine = Engine::new();
    let registry = Registry::start();
    engine.trust(registry.address());
    let image = format!("{}/no/such:image", registry.address());
    engine.run(&["run", "--rm", "--network", "none", &image, "true"]).explains(125, &["no/such"]);
    engine.run(&["pull", &image]).explains(125, &["no/such"]);
    nothing_is_left(&engine);
}

#[test]
fn a_reference_that_is_none() {
    let engine = Engine::new();
    for image in ["UPPER/case", "a//b", "", "name:", "http://example.org/x", "a@sha256:123", "../x"] {
        let output = engine.run(&["pull", "-q", image]);
        assert!(output.code == 125 && output.stderr.contains("Error:"), "{image}: {output}");
    }
    nothing_is_left(&engine);
}

#[test]
fn a_registry_that_refuses_the_connection() {
    let engine = Engine::new();
    engine.trust("127.0.0.1:1");
    let output = engine.run(&["pull", "-q", "127.0.0.1:1/some/image"]);
    assert!(output.time.as_secs() < 60, "{output}");
    output.explains(125, &["127.0.0.1:1", "refused"]);
    nothing_is_left(&engine);
}

#[test]
fn a_host_that_does_not_exist() {
    let engine = Engine::new();
    engine.run(&["pull", "-q", "registry.invalid/some/image"]).explains(125, &["registry.invalid"]);
}

#[test]
fn a_registry_that_wants_credentials() {
    let engine = Engine::new();
    let registry = Registry::start();
    registry.rule(|_| Some(Response::new(401, "{}").header("WWW-Authenticate", "Basic realm=\"tests\"")));
    engine.trust(registry.address());
    let image = format!("{}/private/image", registry.address());
    engine.run(&["pull", "-q", &image]).explains(125, &["authentication required"]);
    nothing_is_left(&engine);
}

fn lying(lie: impl FnOnce(&Registry, &str, &[u8])) -> (Engine, String) {
    let engine = Engine::new();
    let registry = Registry::start();
    let image = Image::tiny_with(vec![Layer::new().file("etc/mark", &[b'x'; 10_000], 0o644)]);
    let (blobs, _) = image.blobs();
    let reference = engine.add(&registry, "lying", &image);
    let layer = gzip(&image.layers[1]);
    let name = digest(&layer);
    lie(&registry, &name, &blobs[&name]);
    (engine, reference)
}

#[test]
fn a_layer_with_another_digest() {
    let (engine, image) = lying(|registry, name, bytes| {
        // A byte of gzip's time stamp: as long as before and still a good archive.
        let mut other = bytes.to_vec();
        other[4] ^= 1;
        registry.set_blob(name, other);
    });
    engine.run(&["pull", "-q", &image]).explains(125, &["expected sha256:"]);
    nothing_is_left(&engine);
}

#[test]
fn a_layer_with_another_content_under_the_right_compressed_digest() {
    // The manifest names what is served, but the configuration promises another content.
    let engine = Engine::new();
    let registry = Registry::start();
    let honest = Image::tiny_with(vec![Layer::new().file("etc/mark", b"honest", 0o644)]);
    let other = Image::tiny_with(vec![Layer::new().file("etc/mark", b"other", 0o644)]);
    let (mut blobs, manifest) = other.blobs();
    let config = honest.config_blob();
    let manifest =
        String::from_utf8(manifest).unwrap().replace(&digest(&other.config_blob()), &digest(&config));
    let manifest = manifest
        .replace(&format!("\"size\":{}", other.config_blob().len()), &format!("\"size\":{}", config.len()));
    blobs.insert(digest(&config), config);
    engine.trust(registry.address());
    let image = registry.add_parts("swapped", blobs, manifest.into_bytes());
    assert_eq!(engine.run(&["pull", "-q", &image]).code, 125);
    nothing_is_left(&engine);
}

#[test]
fn a_layer_that_is_cut_off() {
    let (engine, image) =
        lying(|registry, name, bytes| registry.set_blob(name, bytes[..bytes.len() / 2].to_vec()));
    assert_eq!(engine.run(&["pull", "-q", &image]).code, 125);
    nothing_is_left(&engine);
}

#[test]
fn a_connection_that_ends_in_the_middle_every_time() {
    let (engine, image) = lying(|registry, name, bytes| {
        let (name, bytes) = (name.to_owned(), bytes.to_owned());
        registry.rule(move |request| {
            request.path.ends_with(&name).then(|| {
                let mut response = Response::new(200, &bytes[..bytes.len() / 2]);
                response.claimed_length = Some(bytes.len());
                response
            })
        });
    });
    assert_eq!(engine.run(&["pull", "-q", &image]).code, 125);
    nothing_is_left(&engine);
}

#[test]
fn a_layer_that_is_no_archive() {
    let (engine, image) = {
        let engine = Engine::new();
        let registry = Registry::start();
        let mut image = Image::tiny_with(vec![]);
        image.layers.push(vec![b'?'; 5000]);
        let reference = engine.add(&registry, "noise", &image);
        (engine, reference)
    };
    assert_eq!(engine.run(&["pull", "-q", &image]).code, 125);
    nothing_is_left(&engine);
}

#[test]
fn a_manifest_that_is_no_manifest() {
    let engine = Engine::new();
    for body in ["", "[]", "not json", r#"{"schemaVersion": 1}"#, r#"{"schemaVersion": 2, "layers": "x"}"#] {
        let registry = Registry::start();
        engine.trust(registry.address());
        let image = registry.add_parts("broken", Default::default(), body.as_bytes().to_vec());
        engine.run(&["pull", "-q", &image]).explains(125, &[]);
    }
    nothing_is_left(&engine);
}

#[test]
fn a_user_or_group_that_does_not_exist() {
    let engine = engine!();
    for user in ["nosuch", "alice:nosuch", "-5", "1000:-1", "4294967296"] {
        let output = engine.run(&["run", "--rm", "--network", "none", "-u", user, &tiny(), "true"]);
        assert!(matches!(output.code, 125 | 126) && output.stderr.contains("Error:"), "{user}: {output}");
    }
    engine.run(&["run", "--rm", "--network", "none", "-u", "nosuch", &tiny(), "true"]).refuses(&["nosuch"]);
    assert!(engine.names().is_empty());
}

#[test]
fn names_and_values_that_are_none() {
    let engine = engine!();
    for flags in [
        ["--name", "a b"],
        ["--name", "../x"],
        ["--name", "-x"],
        ["-h", "host name"],
        ["-e", "=value"],
        ["--cap-add", "NOSUCH"],
        ["--stop-signal", "NOSUCH"],
        ["--shm-size", "much"],
        ["--ulimit", "nofile=x"],
        ["--network", "no-such-network"],
        ["--userns", "nosuch"],
        ["--security-opt", "nosuch=1"],
        ["--security-opt", "seccomp=/no/such/file"],
        ["--mount", "type=nosuch,target=/x"],
        ["--mount", "type=bind,target=/x"],
        ["--tmpfs", "relative"],
        ["--tmpfs", "/t:size=x"],
        ["--env-file", "/no/such/file"],
        ["--label-file", "/no/such/file"],
        ["--pull", "sometimes"],
        ["--log-driver", "nosuch"],
        ["--add-host", "no-address"],
        ["--dns", "not an address"],
    ] {
        let image = tiny();
        let mut args = vec!["run", "--rm"];
        if flags[0] != "--network" {
            args.extend(["--network", "none"]);
        }
        args.extend(flags);
        args.extend([&image, "true"]);
        let output = engine.run(&args);
        assert!(output.code == 125 && output.stderr.contains("Error:"), "{flags:?}: {output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
    assert!(engine.names().is_empty());
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn flags_that_are_not_there_yet_are_named_and_not_ignored() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has these flags");
    for flags in [["--ip", "10.88.0.9"], ["--restart", "always"], ["--pod", "x"], ["--health-cmd", "true"]] {
        let image = tiny();
        let output = engine.run(&["run", "--rm", flags[0], flags[1], &image, "true"]);
        assert!(output.code == 125 && output.stderr.contains("Error:"), "{flags:?}: {output}");
    }
}

#[test]
fn a_wrong_command_suggests_the_right_one() {
    let engine = Engine::new();
    require!(!engine.is_podman(), "podman's words differ");
    let output = engine.run(&["rnu"]);
    assert!(output.code == 125 && output.stderr.contains("run"), "{output}");
    let output = engine.run(&["run", "--nmae", "x", "image"]);
    assert!(output.code == 125 && output.stderr.contains("--name"), "{output}");
    assert_eq!(engine.run(&["run"]).code, 125);
}

#[test]
fn without_a_runtime_directory_another_one_is_found() {
    let mut engine = engine!();
    require!(!engine.is_podman(), "podman finds another place");
    engine.unset("XDG_RUNTIME_DIR");
    assert_eq!(engine.sh(&[], "echo works"), "works");
    engine.set("XDG_RUNTIME_DIR", "/no/such/dir");
    assert_eq!(engine.sh(&[], "echo works"), "works");
}

#[test]
fn a_root_that_cannot_be_used() {
    let engine = Engine::new();
    let program = engine.command(&[]).get_program().to_owned();
    for root in [engine.file("file", "").as_str(), "/proc/nope"] {
        let mut command = std::process::Command::new(&program);
        command.args(["--root", root, "ps"]);
        crate::support::run(command).explains(125, &[root]);
    }
}

#[test]
fn a_broken_record_does_not_break_the_listing() {
    let engine = engine!();
    require!(!engine.is_podman(), "this looks into our own records");
    engine.ok(&["create", "--name", "good", "--network", "none", &tiny(), "true"]);
    let id = engine.ok(&["create", "--name", "broken", "--network", "none", &tiny(), "true"]);
    std::fs::write(engine.data().join("containers").join(&id).join("spec.json"), "{ torn").unwrap();
    let all = engine.ok(&["ps", "-a"]);
    assert!(all.contains("good"), "{all}");
    assert!(all.contains(&id[..12]), "the broken one is shown too: {all}");
    engine.ok(&["rm", "-f", &id]);
    assert_eq!(engine.names(), ["good"]);
}

#[test]
fn standard_output_that_is_closed_is_no_panic() {
    let engine = engine!();
    let command =
        engine.wrapped(&["sh", "-c", "\"$@\" | true; \"$@\" >/dev/full; test $? != 0", "sh"], &["images"]);
    let output = crate::support::run(command);
    assert!(output.code == 0 && !output.stderr.contains("panicked"), "{output}");
}
