//! Row 14: a build copies nothing that is not in its context, stage or archive, whatever links lead out of there and whoever
//! moves them meanwhile.

use crate::cell::{CANARY, Cell, TINY};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

/// A context with this Dockerfile on the tiny image.
fn context(cell: &Cell, name: &str, file: &str) -> std::path::PathBuf {
    let folder = std::path::PathBuf::from(cell.engine.folder(name));
    fs::write(folder.join("Dockerfile"), file.replace("TINY", TINY)).unwrap();
    folder
}

/// All that an image's files say.
fn everything(cell: &Cell, image: &str) -> String {
    let script = "find /all -type f | while read f; do cat \"$f\"; done; find /all -type l | while read f; do readlink \"$f\"; done";
    cell.run(image, &[], script).ok()
}

#[test]
fn links_of_a_context_lead_nowhere_else() {
    let cell = Cell::new();
    let host = cell.host();
    let up = format!("{}{}", "../".repeat(20), host.display());
    for (number, target) in [host.display().to_string(), up, "/proc/self/root".to_owned()].iter().enumerate()
    {
        let file = "FROM TINY\nCOPY . /all\nCOPY in /inside/\nCOPY tree/to-own /file\nCOPY tree/to-folder /folder/\n";
        let folder = context(&cell, &format!("context{number}"), file);
        fs::create_dir_all(folder.join("tree/own")).unwrap();
        fs::write(folder.join("tree/own/file"), "own").unwrap();
        symlink(target, folder.join("out")).unwrap();
        symlink("tree", folder.join("in")).unwrap();
        symlink("/tree/own/file", folder.join("tree/to-own")).unwrap();
        symlink("../tree/own", folder.join("tree/to-folder")).unwrap();
        let path = folder.to_str().unwrap();
        let built = cell.engine.ok(&["build", "-q", path]);
        // A link in a folder stays one; one that is named is followed, in the context.
        let all = everything(&cell, built.trim());
        assert!(all.contains(target) && !all.contains(CANARY), "{all}");
        let script = "readlink /inside/to-own; readlink /inside/to-folder; cat /file /folder/file";
        assert_eq!(cell.run(built.trim(), &[], script).ok(), "/tree/own/file\n../tree/own\nownown");
        for source in [
            "out",
            "out/",
            "out/canary",
            "out/*",
            "o*/canary",
            "--parents out/canary",
            "--parents out/./canary",
        ] {
            let file = format!("FROM {TINY}\nCOPY {source} /all/\nCOPY Dockerfile /all/\n");
            let output = cell.engine.run_with_input(&["build", "-q", "-f", "-", path], file.as_bytes());
            if output.code == 0 {
                let all = everything(&cell, output.stdout.trim());
                assert!(!all.contains(CANARY), "{source}: {all}");
            } else {
                assert_eq!(output.code, 1, "{source}: {output}");
                output.explains(1, &["not found"]);
            }
        }
        cell.host_is_as_it_was();
    }
}

#[test]
fn links_of_a_stage_lead_nowhere_else() {
    let cell = Cell::new();
    let host = cell.host().display().to_string();
    let base = format!(
        "FROM TINY AS base\nRUN mkdir -p /d/sub && ln -s {host} /d/out && ln -s ../../../../../../../../../../..{host} /d/up && \
         ln -s /proc/self/root /d/root && ln -s /proc/1/cwd /d/cwd\nFROM TINY\nCOPY Dockerfile /all/\n"
    );
    for source in [
        "/d",
        "/d/out",
        "/d/up/canary",
        "/d/*/canary",
        "/d/root/*",
        "/d/cwd",
        "--parents /d/./**",
        "--parents /d/out/canary",
    ] {
        let flag = if source.starts_with("--") { source.split_once(' ').unwrap().0 } else { "" };
        let path = source.rsplit(' ').next().unwrap();
        let folder = context(&cell, "stage", &format!("{base}COPY {flag} --from=base {path} /all/x/\n"));
        let output = cell.engine.run(&["build", "-q", folder.to_str().unwrap()]);
        if output.code == 0 {
            let all = everything(&cell, output.stdout.trim());
            assert!(!all.contains(CANARY), "{source}: {all}");
        } else {
            assert_eq!(output.code, 1, "{source}: {output}");
        }
        cell.host_is_as_it_was();
    }
    // Where files go, the other way.
    let folder = context(&cell, "into", &base.replace("FROM TINY\nCOPY", "FROM base\nCOPY"));
    fs::write(folder.join("canary"), "forged").unwrap();
    fs::write(
        folder.join("Dockerfile"),
        format!(
            "{}COPY canary /d/out/\nCOPY . /d/up/\nADD --link canary /d/out/\n",
            fs::read_to_string(folder.join("Dockerfile")).unwrap()
        ),
    )
    .unwrap();
    cell.engine.run(&["build", "-q", folder.to_str().unwrap()]);
    cell.host_is_as_it_was();
}

#[test]
fn folders_of_a_context_that_turn_into_links_lead_nowhere_else() {
    let cell = Cell::new();
    let folder = context(
        &cell,
        "raced",
        "FROM TINY\nCOPY . /all\nCOPY d /all/d2\nCOPY d/canar* /all/\nCOPY --parents d/canary /all/p/\n",
    );
    fs::create_dir(folder.join("d")).unwrap();
    fs::write(folder.join("d/canary"), "own").unwrap();
    symlink(cell.host(), folder.join("spare")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut built, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let fd = fs::File::open(&folder).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&fd, "d", &fd, "spare", rustix::fs::RenameFlags::EXCHANGE);
            }
        });
        let ended = scope.spawn(|| {
            for round in 0..30 {
                let output = cell.engine.run(&["build", "-q", "--no-cache", folder.to_str().unwrap()]);
                match output.code {
                    0 => {
                        let all = everything(&cell, output.stdout.trim());
                        assert!(!all.contains(CANARY), "round {round}: {all}");
                        built += 1;
                    }
                    1 => refused += 1,
                    _ => panic!("round {round}: {output}"),
                }
            }
        });
        let ended = ended.join();
        stop.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
    assert_eq!(built + refused, 30);
    assert!(refused > 0, "the race was never met");
    cell.host_is_as_it_was();
}
