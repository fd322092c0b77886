//! Rows 3, 5 and 9: /proc, /sys and cgroups show and change nothing of the host.

use crate::run_image;
use crate::support::image::{Image, Layer};

/// As podman's: what must not be readable, and what must not be writable.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/fs/selinux",
];
const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Says of each masked path that is not masked, that it is open.
fn check_masks() -> String {
    let mut script = String::new();
    for path in MASKED {
        // An empty folder, the null device, or not there at all.
        script.push_str(&format!(
            "if test -d {path}; then test -z \"$(ls -A {path})\" || echo open {path}; touch {path}/x 2>/dev/null && echo writable {path}
             elif test -e {path}; then test \"$(stat -c %t:%T {path})\" = 1:3 || echo open {path}; fi\n"
        ));
    }
    for path in READ_ONLY {
        script.push_str(&format!(
            "if test -e {path}; then grep -q ' {path} ' /proc/self/mountinfo || echo no mount on {path}
             grep ' {path} ' /proc/self/mountinfo | tail -1 | grep -q ' {path} ro' || echo writable {path}; fi\n"
        ));
    }
    script.push_str("umount /proc/kcore 2>/dev/null && echo unmasked; mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; echo done");
    script
}

#[test]
fn masked_and_read_only_paths_are_so() {
    let engine = engine!();
    assert_eq!(engine.sh(&[], &check_masks()), "done");
}

/// CVE-2025-31133: the mask is a bind of /dev/null; an image or a racing container may have put something else there.
#[test]
fn a_dev_null_of_the_images_own_is_not_used_as_a_mask() {
    let null = |layer: Layer| Image::tiny_with(vec![layer]);
    for image in [
        null(Layer::new().file("dev/null", b"mine\n", 0o666)),
        null(Layer::new().symlink("dev/null", "/proc/sys/kernel/core_pattern")),
        null(Layer::new().symlink("dev/null", "../etc/passwd")),
        null(Layer::new().dir("dev/null", 0o755)),
    ] {
        let engine = engine!();
        let output = run_image(
            &engine,
            &image,
            &[],
            &check_masks().replace("tail -1", "sed '$!d'").replace(" ls -A", " ls"),
        );
        assert!(!output.stdout.contains("open") && !output.stdout.contains("writable"), "{output}");
        let output = run_image(&engine, &image, &[], "stat -c %t:%T /dev/null");
        assert_eq!(output.stdout, "1:3\n", "{output}");
    }
}

#[test]
fn proc_and_sys_are_what_they_are_called_whatever_the_image_has_there() {
    let engine = engine!();
    let layer = Layer::new().dir("proc/self", 0o755).file("proc/self/status", b"Seccomp:\t0\n", 0o644);
    let image = Image::tiny_with(vec![layer]);
    let output = run_image(
        &engine,
        &image,
        &[],
        "stat -f -c %T /proc; grep -c Seccomp: /proc/self/status; cat /proc/1/comm",
    );
    let mut lines = output.stdout.lines();
    assert_eq!(lines.next().unwrap().to_lowercase(), "proc", "{output}");
    assert_eq!(lines.next(), Some("1"));
}

#[test]
fn settings_of_the_kernel_cannot_be_changed_not_even_with_privileges() {
    let engine = engine!();
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for flags in [
        &[][..],
        &["--privileged"],
        &["--cap-add", "ALL"],
        &["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"],
    ] {
        let script =
            "echo '|/bin/evil' > /proc/sys/kernel/core_pattern; echo b > /proc/sysrq-trigger; echo done";
        assert_eq!(engine.try_sh(flags, script).stdout, "done\n");
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

#[test]
fn masks_can_be_taken_off_only_when_asked() {
    let engine = engine!();
    let output = engine.sh(
        &["--security-opt", "unmask=/proc/kcore"],
        "grep -c ' /proc/kcore ' /proc/self/mountinfo; grep -c ' /proc/keys ' /proc/self/mountinfo; true",
    );
    assert_eq!(output, "0\n1");
    let output = engine.sh(&["--security-opt", "mask=/etc/readme"], "cat /etc/readme");
    assert_eq!(output, "");
    assert_eq!(engine.sh(&["--privileged"], "grep -c ' /proc/k' /proc/self/mountinfo; true"), "0");
}

#[test]
fn sys_is_read_only() {
    let engine = engine!();
    let script = "grep -E '^([^ ]+ ){4}/sys ' /proc/self/mountinfo | cut -d' ' -f6 | cut -c1-2; touch /sys/x 2>/dev/null; echo 1 > /sys/kernel/profiling 2>/dev/null; echo done";
    assert_eq!(engine.sh(&[], script), "ro\ndone");
}

#[test]
fn the_cgroup_namespace_is_its_own_and_its_tree_read_only() {
    let engine = engine!();
    require!(std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "no cgroup v2 here");
    let output = engine.sh(&[], "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; echo $$ > /sys/fs/cgroup/cgroup.procs 2>/dev/null && echo moved; true");
    assert!(output.lines().any(|line| line == "0::/"), "{output}");
    assert!(!output.contains("made") && !output.contains("moved"), "{output}");
}

#[test]
fn names_with_dots_and_slashes_are_refused() {
    let engine = engine!();
    for flags in
        [["--name", "../../x"], ["--name", ".."], ["--network", "../x"], ["--name", "a/b"], ["--name", "x\n"]]
    {
        let image = crate::support::tiny();
        let output = engine.run(&["run", "--rm", flags[0], flags[1], &image, "true"]);
        assert_eq!(output.code, 125, "{output}");
    }
}
