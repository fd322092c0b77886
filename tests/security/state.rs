//! Row 17: what we delete, and what never.

use crate::cell::{Cell, TINY, walk};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_root_full_of_somebody_elses_files_is_refused_and_left_alone() {
    let cell = Cell::new();
    let id = "0123456789abcdef".repeat(4);
    let foreign = cell.engine.scratch().join("foreign");
    for file in ["trash/mine", "staging/mine", "locks/mine", "volumes/v/_data/mine", "blobs/sha256/mine"] {
        fs::create_dir_all(foreign.join(file).parent().unwrap()).unwrap();
        fs::write(foreign.join(file), "mine").unwrap();
    }
    fs::create_dir_all(foreign.join("containers").join(&id)).unwrap();
    fs::write(foreign.join("containers").join(&id).join("mine"), "mine").unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    let before = walk(&foreign).len();
    let root = foreign.to_str().unwrap();
    let runroot = cell.engine.folder("foreign-run");
    for args in [
        &["wait", "nothing"][..],
        &["rm", "-f", "-a"],
        &["pull", "-q", "127.0.0.1:1/nothing"],
        &["volume", "prune", "-f"],
        &["run", "--rm", "--network", "none", TINY, "true"],
        &["stop", "-a"],
    ] {
        let mut command = std::process::Command::new(cell.engine.command(&[]).get_program());
        command.args(["--root", root, "--runroot", &runroot]).args(args);
        let output = crate::support::run(command);
        assert!(output.code != 0 && output.stderr.contains("--root"), "{output}");
        assert!(!output.to_string().contains("panicked"), "{output}");
        assert_eq!(walk(&foreign).len(), before, "{output}");
        assert_eq!(fs::metadata(&foreign).unwrap().permissions().mode() & 0o777, 0o755, "{output}");
    }
}

#[test]
fn what_is_deleted_is_deleted_without_following_links() {
    let cell = Cell::new();
    let host = cell.host().display().to_string();
    let script = format!(
        "ln -s {host} /l; ln -s {host} /v/l; mkdir /v/d /d; ln -s {host}/canary /v/d/c; chmod 0 /d /v/d; sleep 1000"
    );
    cell.start("c", &["-v", "volume:/v"], &script);
    cell.start("r", &["--rm", "-v", "/v"], &script);
    cell.engine.ok(&["rm", "-f", "-t", "0", "c", "r"]);
    cell.engine.ok(&["volume", "rm", "volume"]);
    cell.engine.ok(&["rmi", "-f", TINY]);
    cell.host_is_as_it_was();
}

/// A folder of the store that is a link, to a folder with files whose names are such as we delete.
#[test]
fn what_is_below_a_link_in_the_root_is_not_ours() {
    let hex = "0123456789abcdef".repeat(4);
    for name in ["trash", "staging", "volumes", "containers", "layers", "images", "blobs", "locks", "names"] {
        let cell = Cell::new();
        cell.engine.ok(&["volume", "create", "v"]);
        let elsewhere = std::path::PathBuf::from(cell.engine.folder("elsewhere"));
        for file in [format!("{hex}/mine"), format!("layer-{hex}/mine"), "v/_data/mine".into(), "mine".into()]
        {
            fs::create_dir_all(elsewhere.join(&file).parent().unwrap()).unwrap();
            fs::write(elsewhere.join(&file), "mine").unwrap();
        }
        fs::write(elsewhere.join("v/volume.json"), r#"{"name":"v","created":"2026-01-01T00:00:00Z"}"#)
            .unwrap();
        // Locks may be made there, but nothing is taken away.
        let files = || crate::support::host(&format!("find {} -name mine | sort", elsewhere.display()));
        let before = files();
        let folder = cell.engine.data().join(name);
        let aside = cell.engine.data().join("aside");
        if folder.exists() {
            fs::rename(&folder, &aside).unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
        for args in [
            &["wait", "nothing"][..],
            &["rm", "-f", "-a"],
            &["rm", "-f", &hex],
            &["volume", "prune", "-f"],
            &["volume", "rm", "-f", "v"],
            &["rmi", "-f", "-a"],
            &["rmi", "-f", &hex],
            &["ps", "-a"],
        ] {
            let output = cell.engine.run(args);
            assert!(!output.to_string().contains("panicked"), "{name}: {output}");
            assert_eq!(files(), before, "{name}: {output}");
        }
        fs::remove_file(&folder).unwrap();
        if aside.exists() {
            fs::rename(&aside, &folder).unwrap();
        }
    }
}

#[test]
fn a_tree_deeper_than_any_path_can_be_removed() {
    let cell = Cell::new();
    // More levels than there may be open files, and than a path has bytes.
    let dig = "i=0; while [ $i -lt 2500 ]; do mkdir d && cd -P d || break; i=$((i+1)); done 2>/dev/null; cd /; echo dug";
    let output = cell.run(TINY, &["-v", "volume:/v"], &format!("mkdir /deep; cd /deep; {dig}; cd /v; {dig}"));
    assert_eq!(output.stdout, "dug\ndug\n", "{output}");
    cell.engine.ok(&[
        "create",
        "--network",
        "none",
        "--name",
        "c",
        TINY,
        "sh",
        "-c",
        &format!("cd /tmp; {dig}"),
    ]);
    cell.engine.ok(&["start", "-a", "c"]);
    cell.after("ulimit -n 256", &["rm", "c"]).wait().ok();
    cell.after("ulimit -n 256", &["volume", "rm", "volume"]).wait().ok();
    cell.after("ulimit -n 256", &["wait", "nothing"]).wait();
    assert_eq!(walk(&cell.engine.data().join("trash")).len(), 1);
    assert!(fs::read_dir(cell.engine.data().join("containers")).unwrap().next().is_none());
}

/// The first attempt is made without the ids of the container's other users. Where it fails, deep down, no level above
/// may try again: that would double the work with each of them.
#[test]
fn a_folder_of_another_user_deep_down_is_removed_in_no_time() {
    let cell = Cell::new();
    let script = "mkdir -p /deep; cd /deep; i=0; while [ $i -lt 60 ]; do mkdir d; cd d; i=$((i+1)); done; \
        mkdir his; touch his/file; chmod 700 his; busybox chown 1000:1000 his his/file";
    cell.engine.ok(&["create", "--network", "none", "--name", "c", TINY, "sh", "-c", script]);
    cell.engine.ok(&["start", "-a", "c"]);
    cell.engine.ok(&["rm", "c"]);
    assert!(fs::read_dir(cell.engine.data().join("containers")).unwrap().next().is_none());
}
