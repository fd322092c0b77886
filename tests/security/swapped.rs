//! Row 2, without luck: the races of [`crate::races`] have microseconds to hit, between the look at a target and the mount
//! on it. Here the engine is held at each of its move_mount(2) calls while the target's folder is exchanged for a link.

use crate::injector::{Fault, WRAPPER, trace};
use crate::support::image::{Image, Layer};
use nix::errno::Errno;
use rustix::fs::{CWD, RenameFlags};
use std::fs;
use std::path::PathBuf;

/// CVE-2021-30465, CVE-2024-45310.
#[test]
fn a_mount_goes_onto_the_target_that_was_found_whatever_has_its_name_since() {
    let engine = engine!();
    let name = "swapped.test/image:1";
    let image = Image::tiny_with(vec![Layer::new().dir("etc/bound", 0o755).dir("etc/made", 0o755)]);
    engine.run_with_input(&["load", "-q"], &image.docker_archive(name)).ok();
    let (shared, inner) = (engine.folder("shared"), engine.folder("inner"));
    let (real, link) = (format!("{shared}/real"), format!("{shared}/link"));
    for folder in ["bound", "made"] {
        fs::create_dir_all(format!("{real}/{folder}")).unwrap();
    }
    std::os::unix::fs::symlink("../etc", &link).unwrap();
    let exchange = || rustix::fs::renameat_with(CWD, &*real, CWD, &*link, RenameFlags::EXCHANGE).unwrap();

    let binds = [format!("{shared}:/shared"), format!("{inner}:/shared/real/bound")];
    let mut args = vec!["run", "--rm", "--network", "none", "--tmpfs", "/shared/real/made"];
    args.extend(binds.iter().flat_map(|bind| ["-v", bind]));
    args.extend([name, "cat", "/proc/self/mountinfo"]);
    let mut command = engine.wrapped(&WRAPPER, &args);
    let output = engine.scratch().join("output");
    let file = fs::File::create(&output).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);

    // Before the call, and back after it. A call that fails leaves the link, and then so does the next one.
    let is_exchanged = std::cell::Cell::new(false);
    let before = |call: &crate::injector::Call| {
        if call.name == "move_mount" && !is_exchanged.replace(true) {
            exchange();
        }
        false
    };
    let mut after = |call: &crate::injector::Call, _, _| {
        if call.name == "move_mount" && is_exchanged.replace(false) {
            exchange();
        }
    };
    let program = PathBuf::from(engine.command(&[]).get_program());
    let traced = trace(command, program, Fault::Each(&before, Errno::EIO), Some(&mut after));

    let printed = fs::read_to_string(&output).unwrap();
    assert_eq!(traced.code, 0, "{printed}");
    let moves = traced.calls.iter().filter(|call| call.name == "move_mount").count();
    assert!(moves > 10, "the engine was held at {moves} of its mounts only");
    let places: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for place in ["/shared/real/bound", "/shared/real/made"] {
        assert!(places.contains(&place), "nothing is mounted on {place}: {places:?}");
    }
    assert!(!places.iter().any(|place| ["/etc/bound", "/etc/made"].contains(place)), "{places:?}");
}
