//! Named and anonymous volumes.

use crate::support::image::{Image, Layer};
use crate::support::registry::Registry;
use crate::support::tiny;
use serde_json::json;

#[test]
fn a_named_volume_outlives_its_containers() {
    let engine = engine!();
    engine.sh(&["-v", "kept:/v"], "echo data > /v/file");
    assert_eq!(engine.sh(&["-v", "kept:/other/place"], "cat /other/place/file"), "data");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "kept");
}

#[test]
fn a_new_volume_is_filled_from_the_image_once() {
    let engine = engine!();
    let script = "cat /data/seed; stat -c '%u:%g %a' /data/seed /data; echo mine > /data/seed";
    assert_eq!(engine.sh(&["-v", "filled:/data"], script), "from the image\n1000:1000 640\n1000:1000 755");
    assert_eq!(engine.sh(&["-v", "filled:/data"], "cat /data/seed"), "mine", "not filled again");
    assert_eq!(engine.sh(&["-v", "empty:/data:nocopy"], "ls -A /data"), "");
    engine.sh(&["-v", "used:/v"], "touch /v/own");
    assert_eq!(
        engine.sh(&["-v", "used:/data"], "ls -A /data"),
        "own",
        "a volume with content is left as it is"
    );
}

#[test]
fn create_ls_inspect_rm() {
    let engine = engine!();
    assert_eq!(engine.ok(&["volume", "create", "--label", "a=b", "v1"]), "v1");
    let unnamed = engine.ok(&["volume", "create"]);
    assert_eq!(unnamed.len(), 64);
    let value = engine.inspect_json(&["volume", "inspect", "v1"]);
    assert_eq!(
        (&value["Name"], &value["Driver"], &value["Labels"]["a"]),
        (&json!("v1"), &json!("local"), &json!("b"))
    );
    assert!(std::path::Path::new(value["Mountpoint"].as_str().unwrap()).is_dir());
    assert_eq!(engine.ok(&["volume", "ls", "-q", "--filter", "label=a=b"]), "v1");
    assert!(engine.ok(&["volume", "ls"]).contains("VOLUME NAME"));
    engine.ok(&["volume", "rm", "v1", &unnamed]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
    let output = engine.run(&["volume", "rm", "v1"]);
    assert!(output.code != 0 && output.stderr.contains("v1"), "{output}");
    assert_ne!(engine.run(&["volume", "create", "../evil"]).code, 0);
    engine.ok(&["volume", "create", "twice"]);
}

#[test]
fn a_volume_in_use_is_not_removed() {
    let engine = engine!();
    engine.ok(&["create", "--name", "user", "-v", "busy:/v", "--network", "none", &tiny(), "true"]);
    let output = engine.run(&["volume", "rm", "busy"]);
    assert!(output.code != 0 && output.stderr.contains("use"), "{output}");
    engine.ok(&["volume", "prune", "-f"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "busy");
    engine.ok(&["rm", "user"]);
    engine.ok(&["volume", "rm", "busy"]);
}

#[test]
fn anonymous_volumes_go_with_rm_and_rm_v() {
    let engine = engine!();
    engine.sh(&["-v", "/anonymous"], "touch /anonymous/x");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "", "run --rm removes them");
    engine.ok(&["create", "--name", "a", "-v", "/anonymous", "--network", "none", &tiny(), "true"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]).len(), 64);
    engine.ok(&["rm", "-v", "a"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn volumes_of_the_image_are_made() {
    let engine = engine!();
    let registry = Registry::start();
    let layer = Layer::new().dir("state", 0o755).file("state/seed", b"seed\n", 0o644);
    let image = Image::tiny_with(vec![layer]).with("Volumes", json!({"/state": {}}));
    let image = engine.add(&registry, "volumes", &image);
    let args = [
        "run",
        "-q",
        "--network",
        "none",
        "--name",
        "v",
        &image,
        "sh",
        "-c",
        "cat /state/seed; grep -c ' /state ' /proc/self/mountinfo",
    ];
    assert_eq!(engine.ok(&args), "seed\n1");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]).lines().count(), 1);
}

#[test]
fn prune_removes_what_nobody_uses() {
    let engine = engine!();
    engine.ok(&["volume", "create", "unused"]);
    engine.ok(&["create", "--name", "user", "-v", "used:/v", "--network", "none", &tiny(), "true"]);
    let mut args = vec!["volume", "prune", "-f"];
    // docker keeps named volumes without -a; podman 4 does not know the flag.
    if !engine.is_podman() {
        args.push("-a");
    }
    assert!(engine.ok(&args).contains("unused"));
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "used");
}

#[test]
fn a_name_that_is_no_name_is_refused() {
    let engine = engine!();
    for name in ["a/b:/v", "..:/v", "-x:/v"] {
        let output = engine.try_sh(&["-v", name], "true");
        assert!(output.code == 125 || name.starts_with('.'), "{output}");
    }
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
}
