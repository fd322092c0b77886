//! Row 1: a container exchanges folders for links to the host while files are copied into it and out of it.

use crate::cell::{CANARY, Cell};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A running container that exchanges `/d`, a folder, and `/l`, a link to this, as fast as it can. It has a link of the
/// same kind that stays, `/stays`.
fn swapping(cell: &Cell, target: &str) {
    cell.engine.ok(&["volume", "create", "shared"]);
    let make = format!(
        "mkdir -p /s/d/canary-folder && echo own > /s/d/canary && ln -s {target} /s/l && ln -s {target} /s/stays"
    );
    cell.sh(&["-v", "shared:/s"], &make);
    cell.start_attack("attacker", &["-v", "shared:/s"], "swap /s/d /s/l");
}

/// Every file below a folder, read.
fn everything(top: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            text.push_str(&everything(&path));
        } else if entry.file_type().unwrap().is_file() {
            text.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
    text
}

#[track_caller]
fn survives(target: impl FnOnce(&Cell) -> String) {
    let cell = Cell::new();
    swapping(&cell, &target(&cell));
    let source = cell.engine.folder("source");
    fs::create_dir_all(format!("{source}/folder/deep")).unwrap();
    fs::write(format!("{source}/canary"), "forged").unwrap();
    fs::write(format!("{source}/folder/deep/file"), "forged").unwrap();
    let (mut into, mut out) = (0, 0);
    for round in 0..40 {
        let put = cell.engine.run(&["cp", &format!("{source}/."), "attacker:/s/d"]);
        assert!(matches!(put.code, 0 | 1), "round {round}: {put}");
        into += u32::from(put.code == 0);
        let back = cell.engine.folder(&format!("back{round}"));
        let got = cell.engine.run(&["cp", "attacker:/s", &back]);
        assert!(matches!(got.code, 0 | 1), "round {round}: {got}");
        out += u32::from(got.code == 0);
        // Followed on purpose, but inside.
        let followed = cell.engine.folder(&format!("followed{round}"));
        cell.engine.run(&["cp", "-L", "attacker:/s/d/canary", &followed]);
        cell.engine.run(&["cp", "-L", "attacker:/s/stays/canary", &followed]);
        cell.engine.run(&["cp", &format!("{source}/canary"), "attacker:/s/stays/canary"]);
        for copied in [&back, &followed] {
            let text = everything(std::path::Path::new(copied));
            assert!(!text.contains(CANARY), "round {round}: a file of the host was copied");
        }
        cell.host_is_as_it_was();
    }
    assert!(into > 0 && out > 0, "nothing was copied: {into} {out}");
    assert!(cell.engine.inspect("attacker", "{{.State.Running}}") == "true", "the attack had ended");
}

#[test]
fn folders_that_turn_into_links_to_the_host_lead_nowhere() {
    survives(|cell| cell.host().display().to_string());
}

#[test]
fn folders_that_turn_into_links_upwards_or_into_proc_lead_nowhere() {
    survives(|_| "../../../../../../../../../../../tmp".to_owned());
    survives(|_| "/proc/self/root".to_owned());
}

#[test]
fn what_is_copied_out_is_written_where_it_was_asked_for_alone() {
    let cell = Cell::new();
    let host = cell.host().display().to_string();
    // A link with the name of a folder that is there, and links that an archive goes through.
    cell.start(
        "c",
        &[],
        &format!("mkdir -p /t/x; ln -s {host} /t/link; echo forged > /t/x/canary; sleep 1000"),
    );
    crate::support::eventually("the files are made", || {
        cell.engine.run(&["exec", "c", "sh", "-c", "test -e /t/x/canary"]).code == 0
    });
    let to = cell.engine.folder("to");
    std::os::unix::fs::symlink(&host, format!("{to}/x")).unwrap();
    // A link of the host's own, below what is written to, is not followed but in the way.
    cell.engine.run(&["cp", "c:/t/.", &to]).explains(1, &["cannot overwrite"]);
    cell.host_is_as_it_was();
    cell.engine.ok(&["cp", "--overwrite", "c:/t/.", &to]);
    cell.host_is_as_it_was();
    assert_eq!(fs::read_link(format!("{to}/link")).unwrap(), std::path::Path::new(&host));
    assert!(fs::symlink_metadata(format!("{to}/x")).unwrap().is_dir());
}

#[test]
fn an_archive_from_standard_input_stays_in_its_directory() {
    let cell = Cell::new();
    let host = cell.host().display().to_string();
    cell.start("c", &[], "mkdir /t; sleep 1000");
    crate::support::eventually("the folder is made", || {
        cell.engine.run(&["exec", "c", "sh", "-c", "test -d /t"]).code == 0
    });
    let mut entries: Vec<(&str, tar::EntryType, &str)> = vec![
        ("link", tar::EntryType::Symlink, &host),
        ("link/canary", tar::EntryType::Regular, ""),
        ("../canary", tar::EntryType::Regular, ""),
        ("up", tar::EntryType::Symlink, ".."),
        ("up/canary", tar::EntryType::Regular, ""),
        ("hard", tar::EntryType::Link, "/etc/passwd"),
        ("hard", tar::EntryType::Link, "link/canary"),
        ("hard", tar::EntryType::Link, "../etc/passwd"),
    ];
    entries.push(("device", tar::EntryType::Char, ""));
    for (first, second) in [(0, Some(1)), (2, None), (3, Some(4)), (5, None), (0, Some(6)), (7, None)] {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, link) in [Some(first), second].into_iter().flatten().map(|at| entries[at]) {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_gnu_mut().unwrap().linkname[..link.len().min(100)]
                .copy_from_slice(&link.as_bytes()[..link.len().min(100)]);
            header.set_entry_type(kind);
            header.set_mode(0o644);
            let content: &[u8] = if kind == tar::EntryType::Regular { b"forged" } else { b"" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let output = cell.engine.run_with_input(&["cp", "-", "c:/t"], &bytes);
        assert_eq!(output.code, 1, "entry {first}: {output}");
        cell.host_is_as_it_was();
        assert_ne!(cell.engine.ok(&["exec", "c", "cat", "/etc/passwd"]), "forged");
        assert_eq!(cell.engine.run(&["exec", "c", "sh", "-c", "test -e /canary"]).code, 1);
        cell.engine.ok(&["exec", "c", "sh", "-c", "rm -rf /t/*"]);
    }
}

#[test]
fn set_id_programs_do_not_become_the_users() {
    let cell = Cell::new();
    cell.start("c", &[], "cp /bin/busybox /tool; chmod 6755 /tool; sleep 1000");
    crate::support::eventually("it is made", || {
        cell.engine.run(&["exec", "c", "sh", "-c", "test -g /tool"]).code == 0
    });
    cell.engine.ok(&["cp", "c:/tool", "tool"]);
    let mode = fs::metadata(cell.engine.scratch().join("tool")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}
