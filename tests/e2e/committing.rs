//! `commit`: an image of what a container has changed.

use crate::support::image::{Image, Layer};
use crate::support::registry::Registry;
use crate::support::{Engine, Output, eventually, has_program, run, tiny};
use serde_json::Value;
use std::process::Command;

/// Changes one of everything. busybox only.
const SCRIPT: &str = "
    mkdir -p /new/deep /over; echo text > /new/deep/file; chmod 4711 /new/deep/file
    ln /new/deep/file /new/again; ln -s deep/file /new/link; mkfifo /new/pipe
    rm /etc/readme; chown 5:6 /new/deep; touch \"/new/$(printf 'caf\\351')\"
    rm -rf /usr; mkdir /usr; echo one > /usr/only
    echo more >> /etc/passwd
    echo seen > /vol/in-volume; echo seen > /shm/in-tmpfs; echo seen > /bound/file";

/// What a container shows of it.
const LOOK: &str =
    "cd /; find new usr etc -exec stat -c '%n %a %u:%g %F %h' {} + | sort; cat /new/again /usr/only";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn tool(words: &[&str]) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    run(command)
}

/// Runs [`SCRIPT`] in a container of this name, with mounts in it that its image has no places for.
fn change(engine: &Engine, name: &str, flags: &[&str]) {
    let image = tiny();
    let bound = format!("{}:/bound", engine.folder(&format!("bound-{name}")));
    let mut args =
        vec!["run", "--network", "none", "--name", name, "-v", "/vol", "--tmpfs", "/shm", "-v", &bound];
    args.extend(flags);
    args.extend([image.as_str(), "sh", "-ec", SCRIPT]);
    engine.ok(&args);
}

fn look(engine: &Engine, image: &str) -> String {
    engine.ok(&["run", "--rm", "--network", "none", image, "sh", "-c", LOOK])
}

/// The archive of an image's topmost layer.
fn top_blob(engine: &Engine, image: &str) -> String {
    let path = engine.scratch().join("saved").display().to_string();
    let _ = std::fs::remove_dir_all(&path);
    engine.ok(&["save", "-q", "--format", "oci-dir", "-o", &path, image]);
    let read = |path: String| json(&std::fs::read_to_string(path).unwrap());
    let index = read(format!("{path}/index.json"));
    let blob = |of: &Value| format!("{path}/blobs/{}", of["digest"].as_str().unwrap().replace(':', "/"));
    let manifest = read(blob(&index["manifests"][0]));
    blob(manifest["layers"].as_array().unwrap().last().unwrap())
}

#[test]
fn an_image_of_a_container_shows_what_it_changed() {
    let engine = engine!();
    change(&engine, "c", &[]);
    let flags = ["-q", "-a", "me", "-m", "why", "-c", "ENV A=1", "-c", "CMD [\"cat\", \"/new/again\"]"];
    let iidfile = engine.scratch().join("iid").display().to_string();
    let id = engine.ok(&[&["commit", "--iidfile", &iidfile][..], &flags, &["c", "made:1"]].concat());
    assert_eq!(std::fs::read_to_string(&iidfile).unwrap(), id);
    assert_eq!(engine.ok(&["image", "inspect", "-f", "{{.Id}}", "made:1"]), id);
    let seen = look(&engine, "made:1");
    for line in [
        "new/again 4711 0:0 regular file 2",
        "new/deep 755 5:6 directory 2",
        "new/deep/file 4711 0:0 regular file 2",
        "new/link 777 0:0 symbolic link 1",
        "new/pipe 644 0:0 fifo 1",
        "usr/only 644 0:0 regular file 1",
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    assert!(seen.ends_with("text\none") && !seen.contains("readme"), "{seen}");
    // What was mounted is not part of it, nor are the places for it.
    let absent = "ls -d /vol/* /shm /bound /new/x /etc/hostname 2>&1 | grep -v 'No such'; true";
    assert_eq!(
        engine.ok(&["run", "--rm", "--network", "none", "--no-hostname", "made:1", "sh", "-c", absent]),
        ""
    );
    // It runs as the container did, but for what was changed of that.
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "made:1"]), "text");
    let config = json(&engine.ok(&["image", "inspect", "-f", "{{json .Config}}", "made:1"]));
    let env: Vec<_> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        env.contains(&"A=1") && !env.iter().any(|e| e.starts_with("HOSTNAME") || e.starts_with("container"))
    );
    assert_eq!(config["Volumes"], serde_json::json!({"/vol": {}}));
    // Its history goes on, its layers lie on the old ones.
    let old = json(&engine.ok(&["image", "inspect", &tiny()]));
    let new = json(&engine.ok(&["image", "inspect", "made:1"]));
    let layers = |image: &Value| image[0]["RootFS"]["Layers"].as_array().unwrap().clone();
    assert_eq!(layers(&new)[..layers(&old).len()], layers(&old)[..]);
    assert_eq!(layers(&new).len(), layers(&old).len() + 1);
    assert_eq!((new[0]["Author"].as_str(), new[0]["Comment"].as_str()), (Some("me"), Some("why")));
    let history =
        engine.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}} | {{.Comment}}", "made:1"]);
    assert!(history.lines().next().unwrap().starts_with("sh -ec"), "{history}");
    assert!(engine.ok(&["image", "tree", "made:1"]).contains("made:1"));
    engine.ok(&["store", "verify"]);
    // The container is as before and can go on.
    engine.ok(&["start", "c"]);
    assert_eq!(engine.ok(&["wait", "c"]), "1");
    assert!(engine.ok(&["diff", "c"]).contains("D /etc/readme"));
}

#[test]
fn containers_under_other_ids_have_their_files_under_the_images() {
    let engine = engine!();
    change(&engine, "plain", &[]);
    engine.ok(&["commit", "-q", "plain", "plain"]);
    let expected = look(&engine, "plain");
    for (name, userns) in [("kept", "keep-id"), ("auto", "auto")] {
        let flags = ["--userns", userns, "--user", "0"];
        let bound = engine.folder(&format!("bound-{name}"));
        // The folder of the host is nobody's there.
        tool(&["chmod", "777", &bound]).ok();
        change(&engine, name, &flags);
        engine.ok(&["commit", "-q", name, name]);
        assert_eq!(look(&engine, name), expected, "{userns}");
        engine.ok(&["store", "verify"]);
    }
}

#[test]
fn what_changed_nothing_adds_no_layer_and_the_same_change_the_same_one() {
    let engine = engine!();
    let layers = |image: &str| engine.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", image]);
    engine.ok(&["create", "--name", "fresh", "--network", "none", &tiny(), "true"]);
    engine.ok(&["run", "--name", "idle", "-v", "/some/where", &tiny(), "true"]);
    for name in ["fresh", "idle"] {
        engine.ok(&["commit", "-q", name, name]);
        assert_eq!(layers(name), layers(&tiny()), "{name}");
        assert_eq!(
            engine.ok(&["run", "--rm", "--network", "none", name, "cat", "/etc/readme"]),
            "not a program"
        );
    }
    let script = "echo x > /f; touch -t 202001020304 /f";
    engine.ok(&["run", "--name", "one", "--network", "none", &tiny(), "sh", "-c", script]);
    engine.ok(&["run", "--name", "two", "--network", "none", &tiny(), "sh", "-c", script]);
    engine.ok(&["commit", "-q", "one", "one"]);
    engine.ok(&["commit", "-q", "two", "two"]);
    assert_eq!(layers("one"), layers("two"));
    // And what a container of a committed image changes is one more.
    engine.ok(&["run", "--name", "three", "--network", "none", "one", "sh", "-c", "rm /f"]);
    engine.ok(&["commit", "-q", "three", "three"]);
    engine.run(&["run", "--rm", "--network", "none", "three", "cat", "/f"]).fails(1);
}

#[test]
fn a_squashed_image_has_one_layer_with_all_there_is() {
    let engine = engine!();
    change(&engine, "c", &[]);
    engine.ok(&["commit", "-q", "c", "layered"]);
    engine.ok(&["commit", "-q", "--squash", "c", "flat"]);
    assert_eq!(look(&engine, "flat"), look(&engine, "layered"));
    let layers = json(&engine.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "flat"]));
    assert_eq!(layers.as_array().unwrap().len(), 1);
    engine.ok(&["store", "verify"]);
}

#[test]
fn a_running_container_is_frozen_meanwhile_and_goes_on() {
    let engine = engine!();
    // Files and folders come and go under the eyes of who is not frozen.
    let script = "i=0; while :; do i=$((i+1)); echo $i > /count; mkdir -p /x/$i/y; ln -s a /x/$i/y/l; rm -r /x/$i; done";
    engine.start_script("busy", &["-d"], script);
    eventually("the container counts", || engine.run(&["exec", "busy", "test", "-s", "/count"]).code == 0);
    let out = engine.run(&["commit", "--pause", "busy", "half"]);
    if out.code != 0 {
        // No cgroup: it says so, and goes on without where nobody insists.
        out.explains(125, &["cannot be paused", "no cgroup"]);
        engine.ok(&["commit", "busy", "half"]);
    }
    for _ in 0..5 {
        engine.ok(&["commit", "-q", "--pause=false", "busy", "other"]);
    }
    engine.ok(&["store", "verify"]);
    assert_eq!(engine.inspect("busy", "{{.State.Status}}"), "running");
    let count = || engine.ok(&["exec", "busy", "cat", "/count"]).parse::<u64>().unwrap_or(0);
    let before = count();
    eventually("the container goes on", || count() > before);
    engine.ok(&["run", "--rm", "--network", "none", "half", "test", "-e", "/count"]);
    engine.ok(&["rm", "-f", "-t", "0", "busy"]);
    // A paused one stays paused.
    engine.start_sleeper("still");
    if engine.run(&["pause", "still"]).code == 0 {
        engine.ok(&["commit", "-q", "still", "still"]);
        assert_eq!(engine.inspect("still", "{{.State.Status}}"), "paused");
    }
}

#[test]
fn what_is_committed_is_read_by_skopeo_and_has_what_podmans_has() {
    let engine = engine!();
    require!(has_program("skopeo"), "skopeo is not installed");
    change(&engine, "c", &[]);
    for (format, kind) in [("oci", "oci.image.manifest"), ("docker", "docker.distribution.manifest")] {
        engine.ok(&["commit", "-q", "-f", format, "c", "made"]);
        let path = engine.scratch().join(format).display().to_string();
        let save = if format == "oci" { "oci-dir" } else { "docker-dir" };
        engine.ok(&["save", "-q", "--format", save, "-o", &path, "made"]);
        let from = format!("{}:{path}", if format == "oci" { "oci" } else { "dir" });
        let raw = json(&tool(&["skopeo", "inspect", "--raw", &from]).ok());
        assert!(raw["mediaType"].as_str().unwrap().contains(kind), "{raw}");
        let copy = format!("oci-archive:{}", engine.scratch().join(format!("{format}.tar")).display());
        tool(&["skopeo", "copy", "-q", &from, &copy]).ok();
    }
    let names = tool(&["tar", "-tf", &top_blob(&engine, "made")]).ok();
    let names: Vec<_> = names.lines().collect();
    let expected = [
        "etc/",
        "etc/passwd",
        "etc/.wh.readme",
        "new/",
        "new/again",
        "new/caf\\351",
        "new/deep/",
        "new/deep/file",
        "new/link",
        "new/pipe",
    ];
    for name in expected {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for name in names {
        assert!(!["vol", "shm", "bound", "proc", "dev", "sys"].iter().any(|n| name.starts_with(n)), "{name}");
    }
}

/// In a container's own user namespace a file's capabilities are its root's, who is somebody else outside.
#[test]
fn file_capabilities_are_the_images_whoever_was_root_in_the_container() {
    const NAME: &[u8] = b"SCHILY.xattr.security.capability=";
    // Version 2, effective: cap_net_raw.
    let capability: Vec<u8> =
        [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    let layer = Layer::new()
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .file("bin/able", b"program", 0o755);
    let engine = engine!();
    let registry = Registry::start();
    let image = engine.add(&registry, "able", &Image::tiny_with(vec![layer]));
    for flags in [&[][..], &["--userns", "keep-id", "--user", "0"]] {
        engine.ok(&[
            &["run", "--network", "none", "--name", "c"],
            flags,
            &[&image, "chmod", "4755", "/bin/able"],
        ]
        .concat());
        engine.ok(&["commit", "-q", "c", "made"]);
        engine.ok(&["rm", "c"]);
        let bytes = std::fs::read(top_blob(&engine, "made")).unwrap();
        let at = bytes.windows(NAME.len()).position(|part| part == NAME);
        let at = at.unwrap_or_else(|| panic!("{flags:?}: no capability")) + NAME.len();
        assert_eq!(bytes[at..at + capability.len()], capability, "{flags:?}");
        assert_eq!(bytes[at + capability.len()], b'\n', "{flags:?}");
        engine.ok(&["store", "verify"]);
    }
}

#[test]
fn what_cannot_be_committed_is_said() {
    let engine = engine!();
    engine.run(&["commit", "nobody"]).explains(125, &["no such container"]);
    engine.ok(&["run", "--rm", "--name", "gone", "--network", "none", &tiny(), "true"]);
    engine.run(&["commit", "gone"]).explains(125, &["no such container"]);
    engine.ok(&["run", "--name", "odd", "--network", "none", &tiny(), "touch", "/etc/.wh.readme"]);
    engine.run(&["commit", "odd", "odd"]).explains(125, &[".wh.readme", "removed"]);
    assert!(!engine.ok(&["images"]).contains("odd"));
    engine.run(&["commit", "-f", "v1", "odd"]).fails(125);
    engine.run(&["commit", "odd", "UPPER"]).fails(125);
}
