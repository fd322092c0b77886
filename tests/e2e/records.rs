//! A record that is torn, foreign or of a newer version breaks its own line and nothing else.

use crate::support::{Engine, Output, eventually, tiny};
use std::fs;
use std::path::PathBuf;

/// What can be in a file instead of a record.
const SPOILT: [&str; 6] =
    ["", "{\"format\":1,\"id\":\"", "[]", "{\"format\":99}", "\0\0\0\0\0\0\0\0", "hello\n"];

fn only_file(folder: PathBuf) -> PathBuf {
    let mut files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    assert!(files.next().is_none(), "{folder:?} has several");
    file
}

/// Everything that is not about the spoilt record works.
#[track_caller]
fn all_else_works(engine: &Engine) {
    let fine = |output: Output| {
        assert!(output.code == 0 && !output.stderr.contains("panicked"), "{output}");
        output.stdout
    };
    assert!(fine(engine.run(&["ps", "-a"])).contains("good"));
    fine(engine.run(&["images"]));
    fine(engine.run(&["volume", "ls"]));
    fine(engine.run(&["exec", "good", "true"]));
    assert_eq!(engine.sh(&["--name", "other", "-v", "v:/v"], "echo works"), "works");
    fine(engine.run(&["create", "--network", "none", "--name", "made", &tiny(), "true"]));
    fine(engine.run(&["rm", "made"]));
    fine(engine.run(&["tag", &tiny(), "a.test/b:c"]));
    fine(engine.run(&["rmi", "a.test/b:c"]));
}

#[test]
fn a_spoilt_container_is_one_line_and_can_be_removed() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    engine.start_sleeper("good");
    for spoilt in SPOILT {
        for file in ["spec.json", "state.json", "exit.json"] {
            engine.ok(&["run", "--network", "none", "--name", "bad", &tiny(), "true"]);
            let id = engine.inspect("bad", "{{.Id}}");
            fs::write(engine.data().join("containers").join(&id).join(file), spoilt).unwrap();
            let listed = engine.run(&["ps", "-a", "--no-trunc"]);
            assert!(listed.to_string().contains(&id), "{spoilt:?} in {file} is not told: {listed}");
            all_else_works(&engine);
            let looked = engine.run(&["inspect", &id]);
            assert!(looked.code == 0 || looked.stderr.contains("fix: "), "{looked}");
            engine.ok(&["rm", &id]);
            engine.sh(&["--name", "bad"], "true");
        }
    }
    assert_eq!(engine.names(), ["good"]);
}

#[test]
fn a_running_container_whose_notes_are_spoilt_can_be_stopped_and_removed() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    engine.start_sleeper("good");
    for file in ["live.json", "cgroup.json", "removing.json"] {
        for spoilt in SPOILT {
            engine.start_script("bad", &[], "sleep 1000");
            let (id, pid) = (engine.inspect("bad", "{{.Id}}"), engine.pid_of("bad"));
            fs::write(engine.run_root().join("containers").join(id).join(file), spoilt).unwrap();
            all_else_works(&engine);
            engine.ok(&["rm", "-f", "-t", "0", "bad"]);
            eventually("it is dead", || !fs::exists(format!("/proc/{pid}/root")).unwrap_or(false));
        }
    }
    assert_eq!(engine.names(), ["good"]);
}

#[test]
fn a_spoilt_image_or_layer_is_put_in_order_by_the_next_pull() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    engine.ok(&["tag", &tiny(), "kept.test/name:1"]);
    engine.start_sleeper("good");
    let settled = || {
        let layers = fs::read_dir(engine.data().join("layers")).unwrap().flatten();
        layers.into_iter().all(|layer| {
            fs::read_to_string(layer.path().join("state")).is_ok_and(|s| s.contains("\"durable\":true"))
        })
    };
    eventually("the layers are durable", settled);
    let named = |text: &str| {
        let files = fs::read_dir(engine.data().join("images/names")).unwrap();
        files.map(|f| f.unwrap().path()).find(|f| fs::read_to_string(f).unwrap().contains(text)).unwrap()
    };
    let name = named("/test/tiny");
    for spoilt in SPOILT {
        fs::write(&name, spoilt).unwrap();
        let listed = engine.run(&["images"]);
        assert!(listed.code == 0 && listed.stdout.contains("kept.test/name"), "{listed}");
        engine.ok(&["run", "--rm", "--network", "none", "kept.test/name:1", "true"]);
        engine.ok(&["pull", "-q", &tiny()]);
        all_else_works(&engine);

        let record = only_file(engine.data().join("images/ids"));
        fs::write(&record, spoilt).unwrap();
        let listed = engine.run(&["images"]);
        assert!(listed.code == 0, "{listed}");
        engine.ok(&["pull", "-q", &tiny()]);
        all_else_works(&engine);

        for layer in fs::read_dir(engine.data().join("layers")).unwrap().flatten() {
            fs::write(layer.path().join("state"), spoilt).unwrap();
        }
        // It is looked through, and found to be what it should be.
        engine.ok(&["run", "--rm", "--network", "none", "--pull", "never", "kept.test/name:1", "true"]);
        all_else_works(&engine);
    }
}

#[test]
fn a_spoilt_volume_is_one_line_and_can_be_removed() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    engine.start_sleeper("good");
    for spoilt in SPOILT {
        engine.ok(&["volume", "create", "bad"]);
        fs::write(engine.data().join("volumes/bad/volume.json"), spoilt).unwrap();
        let listed = engine.run(&["volume", "ls"]);
        assert!(listed.code == 0 && listed.to_string().contains("bad"), "{listed}");
        all_else_works(&engine);
        engine.ok(&["volume", "rm", "bad"]);
    }
}

#[test]
fn what_others_put_into_the_folders_disturbs_nothing() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    engine.start_sleeper("good");
    let (data, run) = (engine.data(), engine.run_root());
    let id = "0".repeat(64);
    for (root, name) in [
        (data, "containers/foreign"),
        (data, "containers/.hidden"),
        (data, "names/foreign"),
        (data, "images/names/foreign"),
        (data, "images/ids/foreign"),
        (data, "layers/foreign"),
        (data, "blobs/sha256/foreign"),
        (data, "volumes/foreign.file"),
        (data, "locks/foreign"),
        (data, "staging/foreign"),
        (data, "foreign"),
        (run, "containers/foreign"),
        (run, "userns.json"),
        (run, "foreign"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "foreign").unwrap();
    }
    fs::write(data.join("containers").join(&id), "a file").unwrap();
    std::os::unix::fs::symlink("nonsense", data.join("names/nonsense")).unwrap();
    std::os::unix::fs::symlink("/etc", data.join("containers").join("1".repeat(64))).unwrap();
    for _ in 0..2 {
        all_else_works(&engine);
    }
    assert!(fs::exists("/etc/passwd").unwrap());
}
