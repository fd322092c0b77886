//! Row 6: no descriptor and no folder of the host is left open in the container (CVE-2024-21626).

use crate::support::image::{Image, Layer};
use crate::support::tiny;
use crate::{SECRET, Victim, run_image};
use serde_json::json;

const LIST: &str = "ls /proc/self/fd | tr '\\n' ' '";

#[test]
fn only_the_three_standard_descriptors_are_open() {
    let engine = engine!();
    // 3 is the folder that ls reads.
    assert_eq!(engine.sh(&[], LIST).trim(), "0 1 2 3");
    assert_eq!(engine.sh(&["--init"], LIST).trim(), "0 1 2 3");
    engine.start_sleeper("c");
    assert_eq!(engine.ok(&["exec", "c", "sh", "-c", LIST]).trim(), "0 1 2 3");
    assert_eq!(engine.ok(&["exec", "c", "sh", "-c", "ls /proc/1/fd | tr '\\n' ' '"]).trim(), "0 1 2");
}

#[test]
fn descriptors_of_the_caller_are_not_inherited() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let image = tiny();
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        &image,
        "sh",
        "-c",
        "ls /proc/self/fd | tr '\\n' ' '; ls -l /proc/1/fd; cat <&9 2>/dev/null",
    ];
    let opening = format!("exec 7<{0} 9<{0}/secret 63<{0}; \"$@\"", victim.path);
    let output = crate::support::run(engine.wrapped(&["bash", "-c", &opening, "sh"], &args));
    assert!(output.stdout.starts_with("0 1 2 3 "), "{output}");
    assert!(!output.stdout.contains("victim") && !output.stdout.contains(SECRET), "{output}");
}

#[test]
fn a_working_directory_cannot_be_a_descriptor_of_the_engine() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    for fd in 3..24 {
        let folder = format!("/proc/self/fd/{fd}");
        let script = format!("cat ../../../../../../../..{} 2>/dev/null; true", victim.join("secret"));
        let output = engine.try_sh(&["-w", &folder], &script);
        assert!(!output.stdout.contains(SECRET), "{output}");
    }
    engine.start_sleeper("c");
    for fd in 3..24 {
        let folder = format!("/proc/self/fd/{fd}");
        let path = format!("../../../../../../../..{}", victim.join("secret"));
        let output = engine.run(&["exec", "-w", &folder, "c", "cat", &path]);
        assert!(!output.stdout.contains(SECRET), "{output}");
    }
}

#[test]
fn nor_can_the_images_working_directory_or_a_link_to_one() {
    let engine = engine!();
    let victim = Victim::new(&engine);
    let script = format!("cat ../../../../../../../..{} 2>/dev/null; pwd; true", victim.join("secret"));
    for fd in 3..16 {
        let image = Image::tiny_with(vec![]).with("WorkingDir", json!(format!("/proc/self/fd/{fd}")));
        assert!(!run_image(&engine, &image, &[], &script).stdout.contains(SECRET));
        let image = Image::tiny_with(vec![Layer::new().symlink("wd", &format!("/proc/self/fd/{fd}"))])
            .with("WorkingDir", json!("/wd"));
        assert!(!run_image(&engine, &image, &[], &script).stdout.contains(SECRET));
    }
}

#[test]
fn no_file_of_the_host_is_mapped_or_open_in_the_first_process() {
    let engine = engine!();
    let script = "for l in /proc/1/cwd /proc/1/root /proc/1/fd/*; do readlink $l; done; cat /proc/1/maps | tr -s ' ' | cut -d' ' -f6 | sort -u";
    let text = engine.sh(&[], script);
    for line in text.lines().filter(|line| line.starts_with('/')) {
        let known = ["/", "/bin/busybox", "/dev/null"].contains(&line) || line.starts_with("/proc/");
        assert!(known, "{line} in\n{text}");
    }
}
