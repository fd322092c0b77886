//! Row 1: a second container that shares a volume changes it while the first is being set up (CVE-2021-30465,
//! CVE-2024-45310), or while it is filled or given away.

use crate::cell::{CANARY, Cell};

/// Starts a container that exchanges `/s/d`, a folder, and `/s/l`, a link to this, as fast as it can.
fn swapping(target: &str) -> Cell {
    let cell = Cell::new();
    cell.sh(&["-v", "shared:/s"], &format!("mkdir /s/d && ln -s {target} /s/l"));
    cell.start_attack("attacker", &["-v", "shared:/s"], "swap /s/d /s/l");
    cell
}

#[track_caller]
fn survives(target: &str) {
    let cell = swapping(target);
    let source = cell.engine.folder("source");
    let bind = format!("{source}:/s/d/new/bind");
    let mut good = 0;
    for round in 0..25 {
        let payload = format!("payload{round}:/s/d/new/volume");
        let flags = ["-v", "shared:/s", "-v", &payload, "-v", &bind, "-w", "/s/d/work"];
        let output =
            cell.run(crate::cell::TINY, &flags, "cat /s/d/canary /s/l/canary ../canary canary; echo end");
        assert!(!output.stdout.contains(CANARY), "round {round}: {output}");
        // It runs, or says why not; it does not break.
        assert!(output.stdout == "end\n" || output.code == 125, "round {round}: {output}");
        good += u32::from(output.code == 0);
        cell.host_is_as_it_was();
    }
    assert!(good > 0, "not one container came up");
    assert!(cell.engine.inspect("attacker", "{{.State.Running}}") == "true", "the attack had ended");
}

#[test]
fn a_folder_that_turns_into_a_link_to_the_host_leads_nowhere() {
    let host = |cell: &Cell| cell.host().display().to_string();
    // The path must be known before the cell is there: a name that every cell's host folder is reached by.
    let cell = Cell::new();
    let path = host(&cell);
    drop(cell);
    survives(&path);
    survives("../../../../../../../../../../tmp");
}

#[test]
fn a_folder_that_turns_into_a_link_to_the_root_leads_nowhere() {
    survives("/");
    survives("/proc/1/root");
}

#[test]
fn giving_a_volume_away_follows_no_link_that_appears_meanwhile() {
    let cell = Cell::new();
    let host = cell.host();
    cell.sh(
        &["-v", "shared:/s"],
        &format!("mkdir /s/d && touch /s/d/canary /s/d/folder && ln -s {} /s/l", host.display()),
    );
    cell.start_attack("attacker", &["-v", "shared:/s"], "swap /s/d /s/l");
    let owner = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::symlink_metadata(host.join(name)).map(|m| (m.uid(), m.mode())).unwrap()
    };
    let before = ["", "canary", "folder"].map(owner);
    for user in ["1000:1000", "0:0"].into_iter().cycle().take(20) {
        let output = cell.run(crate::cell::TINY, &["-v", "shared:/s:U", "-u", user], "echo end");
        assert!(output.stdout == "end\n" || output.code == 125, "{output}");
        assert_eq!(["", "canary", "folder"].map(owner), before);
    }
}

#[test]
fn removing_a_volume_in_use_elsewhere_deletes_and_changes_nothing_outside() {
    use std::os::unix::fs::PermissionsExt;
    let cell = Cell::new();
    let host = cell.host();
    std::fs::set_permissions(host.join("folder"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let mode = || std::fs::metadata(host.join("folder")).unwrap().permissions().mode() & 0o7777;
    for round in 0..5 {
        // The volume belongs to a --rm container and goes with that. Who has its folder is not known to use it.
        let owner = format!("owner{round}");
        cell.start(&owner, &["--rm", "-v", "/s"], "sleep 1000");
        let volume = cell.engine.ok(&["volume", "ls", "-q"]).lines().last().unwrap().to_owned();
        let folder = cell.engine.data().join("volumes").join(&volume).join("_data");
        let share = format!("{}:/s", folder.display());
        // A folder that nobody may enter is what makes a deleter change modes.
        cell.sh(
            &["-v", &share],
            &format!(
                "cd /s; i=0; while [ $i -lt 300 ]; do mkdir -p t/$i/a; chmod 0 t/$i; i=$((i+1)); done; \
                 ln -s {}/folder l; mkdir d; chmod 0 d",
                host.display()
            ),
        );
        let attacker = format!("attacker{round}");
        cell.start_attack(&attacker, &["-v", &share], "swap /s/d /s/l");
        cell.engine.ok(&["rm", "-f", "-t", "0", &owner]);
        cell.host_is_as_it_was();
        assert_eq!(mode(), 0o751);
        cell.engine.ok(&["rm", "-f", "-t", "0", &attacker]);
    }
}
