//! Single-id mode: no subordinate ids, or no `newuidmap`. Images with many owners still unpack and run.
//!
//! `tests/run` runs these, and only these, as a user who has no subordinate ids.

use crate::support::{Engine, debian, image, setting, tiny};

fn single() -> Result<Engine, String> {
    if setting("CORACLE_TEST_REGISTRY").is_none() {
        return Err("no registry with test images (CORACLE_TEST_REGISTRY)".into());
    }
    if crate::userns::has_subordinate_ids() {
        return Err("this user has subordinate ids".into());
    }
    Ok(Engine::new())
}

macro_rules! single {
    () => {
        match single() {
            Ok(engine) => engine,
            Err(why) => return crate::support::skip(&why),
        }
    };
}

#[test]
fn it_says_so_once_with_the_command_that_lifts_it() {
    let engine = single!();
    let args = ["run", "--rm", "-q", "--network", "none", &tiny(), "true"];
    let first = engine.run(&args);
    assert_eq!(first.code, 0, "{first}");
    assert!(first.stderr.contains("uidmap") || first.stderr.contains("usermod"), "{first}");
    let second = engine.run(&args);
    assert!(!second.stderr.contains("uidmap") && !second.stderr.contains("usermod"), "only once: {second}");
}

#[test]
fn one_id_is_mapped_and_it_is_the_users() {
    let engine = single!();
    let map = engine.ok(&["run", "--rm", "-q", "--network", "none", &tiny(), "cat", "/proc/self/uid_map"]);
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words.len(), words[0], words[2]), (3, "0", "1"), "{map}");
}

#[test]
fn a_debian_with_many_owners_unpacks_and_runs() {
    let engine = single!();
    let args = [
        "run",
        "--rm",
        "-q",
        "--network",
        "none",
        &debian(),
        "bash",
        "-c",
        "cat /etc/debian_version /etc/os-release | head -1; id -u",
    ];
    assert!(engine.ok(&args).ends_with('0'));
    let args = ["run", "--rm", "-q", "--network", "none", &image("python:zstd"), "python3", "-c", "print(1)"];
    assert_eq!(engine.ok(&args), "1");
}

#[test]
fn changes_of_owner_report_success() {
    let engine = single!();
    let script = "touch /f && chown 33:33 /f && chgrp 10 /f && echo fine";
    assert_eq!(engine.ok(&["run", "--rm", "-q", "--network", "none", &tiny(), "sh", "-c", script]), "fine");
}

#[test]
fn the_daily_commands_work() {
    let engine = single!();
    engine.ok(&[
        "run",
        "-d",
        "-q",
        "--network",
        "none",
        "--name",
        "c",
        &tiny(),
        "sh",
        "-c",
        "echo hello; sleep 1000",
    ]);
    assert_eq!(engine.ok(&["exec", "c", "echo", "in"]), "in");
    assert_eq!(engine.ok(&["logs", "c"]), "hello");
    engine.ok(&["stop", "-t", "0", "c"]);
    engine.ok(&["rm", "c"]);
    let dir = engine.folder("d");
    engine.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &format!("{dir}:/mnt"),
        &tiny(),
        "touch",
        "/mnt/f",
    ]);
    assert!(std::fs::metadata(format!("{dir}/f")).is_ok());
    engine.ok(&["rmi", &tiny()]);
}

#[test]
fn a_user_that_is_not_mapped_is_refused_with_the_reason() {
    let engine = single!();
    engine.ok(&["pull", "-q", &tiny()]);
    engine
        .run(&["run", "--rm", "--network", "none", "-u", "alice", &tiny(), "true"])
        .refuses(&["subordinate ids"]);
}

#[test]
fn doctor_names_what_is_missing() {
    let engine = single!();
    let output = engine.run(&["doctor"]);
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(text.contains("newuidmap") || text.contains("subuid"), "{output}");
}

#[test]
fn owners_in_archives_are_remembered_and_exported_again() {
    let engine = single!();
    engine.ok(&["create", "-q", "--name", "c", "--network", "none", &tiny(), "true"]);
    let (input, output) = (engine.scratch().join("in.tar"), engine.scratch().join("out.tar"));
    let folder = engine.folder("tree");
    engine.file("tree/file", "content");
    crate::support::host(&format!("tar --owner=5 --group=6 -C {folder} -cf {} file", input.display()));
    engine.run_with_input(&["cp", "-", "c:/home"], &std::fs::read(&input).unwrap()).ok();
    engine.ok(&["cp", &folder, "c:/copied"]);
    engine.ok(&["export", "-o", output.to_str().unwrap(), "c"]);
    let list = crate::support::host(&format!("tar -tvf {} --numeric-owner", output.display()));
    let owner = |name: &str| {
        let line = list.lines().find(|line| line.ends_with(name)).unwrap_or_else(|| panic!("{name}: {list}"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((owner(" home/file"), owner(" copied/file")), ("5/6".into(), "0/0".into()));
    assert_eq!(engine.ok(&["diff", "c"]), "A /copied\nA /copied/file\nC /home\nA /home/file");
}

#[test]
fn owners_that_a_build_gives_are_remembered_in_the_image() {
    let engine = single!();
    let folder = engine.folder("context");
    let image = tiny();
    let file = format!(
        "FROM {image} AS one\nCOPY --chown=5:6 --chmod=4750 Dockerfile /x\nFROM {image}\n\
         COPY --from=one /x /y\nRUN echo text > /z\n"
    );
    engine.file("context/Dockerfile", &file);
    let id = engine.ok(&["build", "-q", &folder]);
    let saved = engine.scratch().join("saved").display().to_string();
    engine.ok(&["save", "-q", "--format", "oci-dir", "-o", &saved, &id]);
    let list = format!(
        "cd {saved}/blobs/sha256; for f in *; do tar --numeric-owner -tvf $f 2>/dev/null; done | grep -E ' [yz]$' | cut -c1-14,16-18"
    );
    let listed = crate::support::host(&list);
    assert!(listed.contains("-rwsr-x--- 5/6") && listed.contains("-rw-r--r-- 0/0"), "{listed}");
}

#[test]
fn modes_come_out_as_they_are_beside_a_remembered_owner() {
    let engine = single!();
    let folder = engine.folder("context");
    let file = format!(
        "FROM {}\nCOPY --chown=5:6 --chmod=4750 Dockerfile /kept\nCOPY --chown=5:6 --chmod=4750 Dockerfile /changed\n\
         RUN chmod 1604 /changed\n",
        tiny()
    );
    engine.file("context/Dockerfile", &file);
    engine.ok(&["build", "-q", "-t", "owned", &folder]);
    engine.ok(&["run", "-q", "--name", "c", "--network", "none", "owned", "sh", "-c", "chmod 2711 /kept"]);
    let listed = |archive: &str| {
        let list =
            format!("tar --numeric-owner -tvf {archive} | grep -E ' (kept|changed)$' | cut -d' ' -f1,2");
        crate::support::host(&list)
    };
    let output = engine.scratch().join("out.tar").display().to_string();
    engine.ok(&["export", "-o", &output, "c"]);
    assert_eq!(listed(&output), "-rw----r-T 5/6\n-rwx--s--x 5/6");
    let files = engine.scratch().join("files.tar").display().to_string();
    engine.ok(&["build", "-q", "-o", &format!("type=tar,dest={files}"), &folder]);
    assert_eq!(listed(&files), "-rw----r-T 5/6\n-rwsr-x--- 5/6");
    engine.ok(&["cp", "-a", "c:/kept", &folder]);
    let mode = crate::support::host(&format!("stat -c %a {folder}/kept"));
    assert_eq!(mode, "2711");
}
