//! Row 16: what lies on disk is for the user's eyes.

use crate::support::{Engine, tiny};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

fn walk(path: &Path, visit: &mut impl FnMut(&Path, &fs::Metadata)) {
    let meta = fs::symlink_metadata(path).unwrap();
    visit(path, &meta);
    // Below the files of images and containers, modes are the images' own; the folder above keeps others out.
    let of_an_image =
        path.file_name().is_some_and(|name| matches!(name.to_str(), Some("fs" | "upper" | "work" | "_data")));
    if meta.is_dir() && !of_an_image {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), visit);
        }
    }
}

#[test]
fn files_are_private_and_sockets_too() {
    let engine = engine!();
    engine.start_sleeper("running");
    engine.ok(&[
        "create",
        "--name",
        "stopped",
        "-v",
        "volume:/v",
        "-e",
        "SECRET=x",
        "--network",
        "none",
        &tiny(),
        "true",
    ]);
    engine.ok(&["logs", "running"]);
    for root in [engine.data(), engine.run_root()] {
        assert_eq!(fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o700, "{}", root.display());
        let mut sockets = 0;
        walk(root, &mut |path, meta| {
            assert_eq!(
                meta.mode() & 0o022 & if meta.is_symlink() { 0 } else { 0o777 },
                0,
                "others can write {}",
                path.display()
            );
            if meta.file_type().is_socket() {
                sockets += 1;
                assert_eq!(meta.mode() & 0o777, 0o600, "{}", path.display());
            }
        });
    }
}

#[test]
fn a_umask_of_zero_changes_nothing_about_that() {
    let engine = Engine::new();
    let command = engine.wrapped(&["sh", "-c", "umask 0; \"$@\"", "sh"], &["volume", "create", "v"]);
    crate::support::run(command).ok();
    for root in [engine.data(), engine.run_root()] {
        walk(root, &mut |path, meta| {
            assert!(meta.is_symlink() || meta.mode() & 0o022 == 0, "others can write {}", path.display());
        });
    }
}

#[test]
fn the_callers_umask_does_not_reach_the_container() {
    let engine = engine!();
    let command = engine.wrapped(
        &["sh", "-c", "umask 077; \"$@\"", "sh"],
        &[
            "run",
            "--rm",
            "--network",
            "none",
            &tiny(),
            "sh",
            "-c",
            "umask; stat -c %a /etc /etc/readme /etc/hosts",
        ],
    );
    assert_eq!(crate::support::run(command).ok(), "0022\n755\n644\n644");
}

#[test]
fn a_root_that_somebody_else_prepared_is_refused() {
    let engine = Engine::new();
    let elsewhere = engine.folder("elsewhere");
    let link = engine.scratch().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let program = engine.command(&[]).get_program().to_owned();
    let mut command = std::process::Command::new(program);
    command.args(["--root", link.to_str().unwrap(), "volume", "create", "x"]);
    let output = crate::support::run(command);
    assert!(output.code != 0, "{output}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}
