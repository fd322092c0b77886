//! `cp`, `export` and `diff`: files of containers that run and that do not.

use crate::support::{Engine, Running, eventually, host, tiny};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A tree in the scratch folder: `tree/{file,exec,sub/deep,link,dangling,hard}`.
fn tree(engine: &Engine) -> String {
    let top = engine.folder("tree");
    let at = |name: &str| Path::new(&top).join(name);
    fs::create_dir_all(at("sub/empty")).unwrap();
    fs::write(at("file"), "content").unwrap();
    fs::write(at("exec"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(at("exec"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(at("sub/deep"), vec![b'x'; 300_000]).unwrap();
    symlink("file", at("link")).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    top
}

/// A container that runs and one that does not, both with `/d/inside`, `/d/link -> /d/inside` and `/out -> /etc`.
fn two(engine: &Engine) -> [&'static str; 2] {
    let script = "mkdir /d; echo inside > /d/inside; ln -s /d/inside /d/link; ln -s /etc /out; echo ready";
    engine.start_script(
        "runs",
        &["-v", "vol:/vol", "--tmpfs", "/tmpfs"],
        &format!("{script}; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"),
    );
    engine.start_script("rests", &["-v", "vol2:/vol", "--tmpfs", "/tmpfs"], script);
    for name in ["runs", "rests"] {
        eventually("it is ready", || engine.ok(&["logs", name]) == "ready");
    }
    engine.ok(&["wait", "rests"]);
    ["runs", "rests"]
}

/// What a script in the container prints; one that does not run is started for it by another with the same files.
fn look(engine: &Engine, name: &str, script: &str) -> String {
    if engine.inspect(name, "{{.State.Running}}") == "true" {
        return engine.ok(&["exec", name, "sh", "-c", script]);
    }
    // Its own command cannot be changed: the files are looked at from outside.
    static LOOKS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let look = LOOKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = engine.folder(&format!("look-{look}"));
    let tar = Path::new(&folder).join("x.tar");
    engine.ok(&["export", "-o", tar.to_str().unwrap(), name]);
    engine.ok(&["unshare", "tar", "-xpf", tar.to_str().unwrap(), "-C", &folder]);
    let image = tiny();
    let mount = format!("{folder}:/host");
    engine.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &mount,
        &image,
        "busybox",
        "chroot",
        "/host",
        "sh",
        "-c",
        script,
    ])
}

#[test]
fn a_tree_goes_in_and_comes_out_as_it_was() {
    let engine = engine!();
    let top = tree(&engine);
    for name in two(&engine) {
        engine.ok(&["cp", &top, &format!("{name}:/d")]);
        let list = "cd /d/tree; cat file; ./exec; readlink link; readlink dangling; stat -c '%a %u:%g' exec; wc -c < sub/deep";
        let expected = "contentran\nfile\n/nowhere\n750 0:0\n300000";
        assert_eq!(look(&engine, name, list), expected, "{name}");
        let inodes = look(&engine, name, "stat -c %h /d/tree/hard");
        assert_eq!(inodes, "2", "{name}");
        let back = engine.folder(&format!("back-{name}"));
        engine.ok(&["cp", &format!("{name}:/d/tree"), &back]);
        host(&format!("diff -r --no-dereference {top} {back}/tree"));
        let [a, b] =
            [&top, &format!("{back}/tree")].map(|top| fs::metadata(Path::new(top).join("exec")).unwrap());
        assert_eq!((a.mode(), a.mtime(), a.uid()), (b.mode(), b.mtime(), b.uid()), "{name}");
        assert_eq!(fs::metadata(format!("{back}/tree/hard")).unwrap().nlink(), 2);
    }
}

#[test]
fn copies_are_called_as_dockers() {
    let engine = engine!();
    let top = tree(&engine);
    let names = two(&engine);
    let out = |name: &str| engine.scratch().join(name);
    for name in names {
        let cp = |from: &str, to: &str| engine.run(&["cp", from, to]);
        let inside = |path: &str| format!("{name}:{path}");
        // A file: to a name, over a name, into a directory, to what is no directory.
        cp(&inside("/d/inside"), out("new").to_str().unwrap()).ok();
        cp(&inside("d/inside"), out("new").to_str().unwrap()).ok();
        assert_eq!(fs::read_to_string(out("new")).unwrap(), "inside\n");
        cp(&inside("/d/inside"), &engine.folder("into")).ok();
        assert_eq!(fs::read_to_string(out("into/inside")).unwrap(), "inside\n");
        cp(&inside("/d/inside"), "missing/").explains(1, &["no such directory"]);
        cp(&inside("/d/inside"), "missing/x").explains(1, &["missing"]);
        cp(&inside("/d/inside"), "new/").explains(1, &["not a directory"]);
        // A directory: its content to a new name, itself into one that is there, its content with a dot.
        cp(&inside("/d"), out("copy").to_str().unwrap()).ok();
        assert!(out("copy/inside").exists() && !out("copy/d").exists());
        cp(&inside("/d"), out("copy").to_str().unwrap()).ok();
        assert!(out("copy/d/inside").exists());
        cp(&inside("/d/."), &engine.folder("dot")).ok();
        assert!(out("dot/inside").exists());
        cp(&inside("/d"), out("new").to_str().unwrap()).explains(1, &["directory"]);
        // Links: as such, and followed.
        cp(&inside("/d/link"), out("as-link").to_str().unwrap()).ok();
        assert_eq!(fs::read_link(out("as-link")).unwrap(), Path::new("/d/inside"));
        engine.ok(&["cp", "-L", &inside("/d/link"), out("followed").to_str().unwrap()]);
        assert_eq!(fs::read_to_string(out("followed")).unwrap(), "inside\n");
        // What is put where a link leads comes there, inside.
        cp(&format!("{top}/file"), &inside("/out/new")).ok();
        cp(&format!("{top}/file"), &inside("/d/link")).ok();
        assert_eq!(
            look(&engine, name, "cat /etc/new /d/inside; readlink /d/link"),
            "contentcontent/d/inside"
        );
        // What is not there, and what does not fit.
        cp(&inside("/nowhere"), "x").explains(1, &["/nowhere", name]);
        cp("nowhere", &inside("/d")).explains(1, &["nowhere", "host"]);
        cp(&top, &inside("/d/inside")).explains(1, &["directory"]);
        engine.ok(&["cp", "--overwrite", &top, &inside("/d/inside")]);
        assert_eq!(look(&engine, name, "cat /d/inside/file"), "content");
        for file in ["new", "as-link", "followed", "copy", "into", "dot"] {
            host(&format!("rm -rf {}", out(file).display()));
        }
    }
    engine.run(&["cp", "nobody:/x", "y"]).explains(125, &["nobody"]);
    engine.run(&["cp", "a", "b"]).explains(125, &["container"]);
}

#[test]
fn volumes_are_written_and_a_tmpfs_only_while_it_is_there() {
    let engine = engine!();
    let top = tree(&engine);
    two(&engine);
    let file = format!("{top}/file");
    for (name, volume) in [("runs", "vol"), ("rests", "vol2")] {
        engine.ok(&["cp", &file, &format!("{name}:/vol/f")]);
        let mount = format!("{volume}:/v");
        assert_eq!(engine.sh(&["-v", &mount], "cat /v/f"), "content");
        engine.ok(&["cp", &format!("{name}:/vol/f"), &format!("out-{name}")]);
    }
    engine.ok(&["cp", &file, "runs:/tmpfs/f"]);
    assert_eq!(engine.ok(&["exec", "runs", "cat", "/tmpfs/f"]), "content");
    engine.run(&["cp", &file, "rests:/tmpfs/f"]).explains(1, &["tmpfs", "start the container"]);
    engine.ok(&["cp", &file, "runs:/etc/hosts"]);
    assert_eq!(engine.ok(&["exec", "runs", "cat", "/etc/hosts"]), "content");
}

#[test]
fn a_read_only_root_stays_so() {
    let engine = engine!();
    let top = tree(&engine);
    let image = tiny();
    engine.ok(&["create", "--name", "rests", "--read-only", "--network", "none", &image, "true"]);
    engine.start_script("runs", &["--read-only", "-v", "vol:/vol"], "sleep 1000");
    for name in ["runs", "rests"] {
        engine.run(&["cp", &top, &format!("{name}:/d")]).explains(1, &["read-only"]);
        assert!(!engine.ok(&["cp", &format!("{name}:/etc/passwd"), "-"]).is_empty());
    }
    engine.ok(&["cp", &top, "runs:/vol"]);
}

#[test]
fn tar_streams_go_in_and_out_with_their_owners() {
    let engine = engine!();
    let top = tree(&engine);
    let made = engine.scratch().join("in.tar");
    host(&format!("tar --owner=5 --group=6 -C {top} -czf {} .", made.display()));
    for name in two(&engine) {
        let input = fs::read(&made).unwrap();
        engine.run_with_input(&["cp", "-", &format!("{name}:/d")], &input).ok();
        let expected = "content5:6 750 2";
        let script = "cat /d/file; stat -c '%u:%g %a' /d/exec | tr '\\n' ' '; stat -c %h /d/hard";
        assert_eq!(look(&engine, name, script), expected, "{name}");
        engine.run_with_input(&["cp", "-a=false", "-", &format!("{name}:/vol")], &input).ok();
        let out = engine.scratch().join(format!("{name}.tar"));
        let redirect = |path: &str| {
            let mut command = engine.command(&["cp", path, "-"]);
            command.stdout(fs::File::create(&out).unwrap());
            assert!(command.status().unwrap().success());
            host(&format!(
                "tar -tvf {} --numeric-owner | awk '{{print $1, $2, $6}}' | sort -k3",
                out.display()
            ))
        };
        let list = redirect(&format!("{name}:/d/sub"));
        assert!(list.ends_with("drwxr-xr-x 5/6 sub/empty/"), "{list}");
        assert!(list.contains("-rw-r--r-- 5/6 sub/deep"), "{list}");
        assert_eq!(redirect(&format!("{name}:/d/inside")), "-rw-r--r-- 0/0 inside");
        assert!(redirect(&format!("{name}:/d/.")).contains(" 0/0 ./inside"));
        engine.run_with_input(&["cp", "-", &format!("{name}:/d/inside")], &input).explains(1, &["directory"]);
        engine.run_with_input(&["cp", "-", &format!("{name}:/nowhere")], &input).explains(1, &["/nowhere"]);
        engine.run_with_input(&["cp", "-", &format!("{name}:/d")], b"no tar at all").explains(1, &["tar"]);
    }
}

#[test]
fn between_containers_and_within_one() {
    let engine = engine!();
    two(&engine);
    engine.ok(&[
        "exec",
        "runs",
        "sh",
        "-c",
        "mkdir /src; echo a > /src/a; chown 5:6 /src/a; chmod 4711 /src/a",
    ]);
    engine.ok(&["cp", "runs:/src", "rests:/d"]);
    assert_eq!(look(&engine, "rests", "stat -c '%u:%g %a' /d/src/a"), "0:0 4711");
    engine.ok(&["cp", "-a", "runs:/src", "rests:/kept"]);
    assert_eq!(look(&engine, "rests", "stat -c '%u:%g %a' /kept/a"), "5:6 4711");
    engine.ok(&["cp", "rests:/kept", "runs:/back"]);
    for name in ["runs", "rests"] {
        engine.ok(&["cp", &format!("{name}:/d/inside"), &format!("{name}:/d/twice")]);
        assert_eq!(look(&engine, name, "cat /d/twice"), "inside");
        engine.run(&["cp", &format!("{name}:/d"), &format!("{name}:/d/x")]).explains(1, &["into itself"]);
    }
    // What leaves a container and becomes the user's is no set-id program any more.
    engine.ok(&["cp", "runs:/src/a", "plain"]);
    assert_eq!(fs::metadata(engine.scratch().join("plain")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn a_container_whose_user_keeps_their_id_gets_files_of_its_root() {
    let engine = engine!();
    let top = tree(&engine);
    engine.start_script(
        "k",
        &["--userns", "keep-id"],
        "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    );
    engine.ok(&["cp", &format!("{top}/file"), "k:/root-file"]);
    engine.ok(&["cp", "-a", &format!("{top}/file"), "k:/mine"]);
    let uid = host("id -u");
    assert_eq!(engine.ok(&["exec", "k", "stat", "-c", "%u", "/root-file", "/mine"]), format!("0\n{uid}"));
    engine.ok(&["cp", "k:/etc/passwd", "passwd"]);
    engine.ok(&["stop", "-t", "0", "k"]);
    engine.ok(&["cp", &format!("{top}/file"), "k:/again"]);
    let tar = engine.scratch().join("k.tar");
    engine.ok(&["export", "-o", tar.to_str().unwrap(), "k"]);
    let list = host(&format!("tar -tvf {} --numeric-owner | awk '{{print $2, $6}}'", tar.display()));
    assert!(list.contains("0/0 again") && list.contains(&format!("{uid}/{uid} mine")), "{list}");
}

#[test]
fn export_is_the_whole_root_without_what_is_mounted_in_it() {
    let engine = engine!();
    let mut lists = Vec::new();
    for name in two(&engine) {
        if name == "runs" {
            engine.ok(&["exec", name, "sh", "-c", "echo secret > /vol/secret; echo gone > /tmpfs/gone"]);
        }
        let file = engine.scratch().join(format!("{name}.tar"));
        engine.ok(&["export", "-o", file.to_str().unwrap(), name]);
        let mut command = engine.command(&["export", name]);
        let piped = engine.scratch().join("piped.tar");
        command.stdout(fs::File::create(&piped).unwrap());
        assert!(command.status().unwrap().success());
        assert!(fs::read(&piped).unwrap() == fs::read(&file).unwrap(), "{name}");
        let list = host(&format!("tar -tf {}", file.display()));
        for expected in
            ["bin/", "bin/busybox", "d/", "d/inside", "d/link", "etc/passwd", "out", "vol/", "tmpfs/"]
        {
            assert!(list.lines().any(|line| line == expected), "{name} {expected}: {list}");
        }
        for absent in ["vol/secret", "tmpfs/gone", "proc/1/", "sys/kernel/", "dev/null"] {
            assert!(!list.lines().any(|line| line == absent), "{name}: {absent}");
        }
        lists.push(list);
    }
    assert_eq!(lists[0], lists[1]);
    // An image of it is one that podman and docker can import: it unpacks.
    engine.run(&["export", "-o", "/nowhere/x", "runs"]).explains(125, &["/nowhere/x"]);
    engine.run(&["export", "nobody"]).explains(125, &["nobody"]);
    let left =
        fs::read_dir(engine.scratch()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    let engine = engine!();
    engine.ok(&["create", "--name", "c", "--network", "none", &tiny(), "true"]);
    for args in [&["export", "c"][..], &["cp", "c:/etc", "-"]] {
        let mut terminal = crate::support::terminal::Terminal::start(&engine.command(args), 24, 80);
        terminal.expect("not written to a terminal");
        assert_eq!(terminal.wait(), 125);
    }
}

#[test]
fn diff_tells_what_was_changed_added_and_deleted() {
    let engine = engine!();
    let script = "echo x >> /etc/passwd; mkdir /a; echo b > /a/b; rm /etc/group; rm -r /home; touch /vol/v; echo ready";
    let sleep = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    engine.start_script("c", &["-v", "vol:/vol"], &format!("{script}; {sleep}"));
    eventually("it is ready", || engine.ok(&["logs", "c"]) == "ready");
    let expected = "A /a\nA /a/b\nC /etc\nD /etc/group\nC /etc/passwd\nD /home";
    assert_eq!(engine.ok(&["diff", "c"]), expected);
    engine.ok(&["stop", "c"]);
    assert_eq!(engine.ok(&["container", "diff", "c"]), expected);
    let json: serde_json::Value =
        serde_json::from_str(&engine.ok(&["diff", "--format", "json", "c"])).unwrap();
    assert_eq!(json["added"], serde_json::json!(["/a", "/a/b"]));
    assert_eq!(json["changed"], serde_json::json!(["/etc", "/etc/passwd"]));
    assert_eq!(json["deleted"], serde_json::json!(["/etc/group", "/home"]));
    engine.ok(&["create", "--name", "fresh", "--network", "none", &tiny(), "true"]);
    assert_eq!(engine.ok(&["diff", "fresh"]), "");
    engine.run(&["diff", "--format", "yaml", "c"]).explains(125, &["yaml"]);
    engine.run(&["diff", "nobody"]).explains(125, &["nobody"]);
}

#[test]
fn a_container_can_start_right_after_a_copy_and_not_during_one() {
    let engine = engine!();
    let top = tree(&engine);
    engine.ok(&["create", "--name", "c", "--network", "none", &tiny(), "cat", "/tree/file"]);
    let copies: Vec<Running> =
        (0..4).map(|_| Running::start(engine.command(&["cp", "c:/etc/passwd", "/dev/null"]), b"")).collect();
    engine.ok(&["cp", &top, "c:/"]);
    assert_eq!(engine.ok(&["start", "-a", "c"]), "content");
    for copy in copies {
        copy.wait().explains(1, &["device"]);
    }
    assert!(fs::metadata("/dev/null").unwrap().mode() & 0o170_000 == 0o020_000);
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn a_container_is_reached_although_the_one_that_made_its_users_namespace_is_gone() {
    let engine = engine!();
    let sleep = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    // The first one's monitor makes the namespace and tells others; the second one's joins it.
    engine.start_script("first", &[], sleep);
    engine.start_script("second", &[], sleep);
    engine.ok(&["rm", "-f", "-t", "0", "first"]);
    let top = tree(&engine);
    engine.ok(&["cp", &top, "second:/tree"]);
    assert_eq!(engine.ok(&["exec", "second", "cat", "/tree/file"]), "content");
    engine.ok(&["cp", "second:/tree", "back"]);
    engine.ok(&["export", "-o", "second.tar", "second"]);
    assert!(engine.ok(&["diff", "second"]).contains("A /tree/file"));
    assert!(engine.ok(&["top", "second", "pid,args"]).contains("sleep 1000"));
}
