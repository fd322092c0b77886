//! The root file system, binds and tmpfs.

use crate::support::{Engine, tiny};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn bind(from: &str, rest: &str) -> String {
    format!("{from}:{rest}")
}

#[test]
fn changes_stay_with_the_container_and_the_image_is_as_it_was() {
    let engine = engine!();
    let script = "rm /etc/readme; echo changed > /etc/group; mkdir /new; ls /";
    engine.ok(&["run", "--network", "none", "--name", "w", &tiny(), "sh", "-c", script]);
    assert_eq!(
        engine.sh(&[], "cat /etc/readme; head -1 /etc/group; test ! -e /new"),
        "not a program\nroot:x:0:"
    );
}

#[test]
fn a_folder_of_the_host_is_seen_from_both_sides() {
    let engine = engine!();
    let dir = engine.folder("shared");
    fs::write(format!("{dir}/in"), "from host").unwrap();
    assert_eq!(
        engine.sh(&["-v", &bind(&dir, "/mnt/deep")], "cat /mnt/deep/in; echo from inside > /mnt/deep/out"),
        "from host"
    );
    assert_eq!(fs::read_to_string(format!("{dir}/out")).unwrap(), "from inside\n");
    let owner = fs::metadata(format!("{dir}/out")).unwrap().uid();
    assert_eq!(owner, rustix::process::getuid().as_raw(), "container root is the user");
}

#[test]
fn a_single_file_can_be_mounted() {
    let engine = engine!();
    let file = engine.file("one", "single\n");
    assert_eq!(engine.sh(&["-v", &bind(&file, "/etc/readme")], "cat /etc/readme"), "single");
    assert_eq!(engine.sh(&["-v", &bind(&file, "/not/there/file")], "cat /not/there/file"), "single");
}

#[test]
fn a_read_only_bind_cannot_be_written() {
    let engine = engine!();
    let dir = engine.folder("ro");
    let output = engine.try_sh(&["-v", &bind(&dir, "/mnt:ro")], "touch /mnt/x");
    assert!(output.code != 0 && output.stderr.contains("Read-only"), "{output}");
    let mount = format!("type=bind,source={dir},target=/mnt,readonly");
    assert_ne!(engine.try_sh(&["--mount", &mount], "touch /mnt/x").code, 0);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_missing_source_is_made_by_v_as_docker_does_and_refused_by_mount() {
    let engine = engine!();
    let missing = engine.scratch().join("a/b/c");
    let missing = missing.to_str().unwrap();
    // podman refuses here (containers/podman#10471).
    if !engine.is_podman() {
        engine.sh(&["-v", &bind(missing, "/mnt")], "touch /mnt/x");
        assert!(fs::metadata(format!("{missing}/x")).is_ok());
    }
    let other = engine.scratch().join("other");
    let mount = format!("type=bind,source={},target=/mnt", other.display());
    let output = engine.try_sh(&["--mount", &mount], "true");
    output.explains(125, &["other"]);
    assert!(!other.exists());
}

#[test]
fn a_relative_source_is_relative_to_the_callers_folder() {
    let engine = engine!();
    engine.file("rel/file", "relative\n");
    assert_eq!(engine.sh(&["-v", "./rel:/mnt"], "cat /mnt/file"), "relative");
}

#[test]
fn mounts_below_a_bind_come_along() {
    let engine = engine!();
    let dir = engine.folder("outer");
    assert!(engine.sh(&["-v", &bind("/proc", "/mnt/proc:ro")], "cat /mnt/proc/uptime").contains(' '));
    engine.sh(
        &["-v", &bind(&dir, "/mnt"), "--tmpfs", "/mnt/inner"],
        "grep ' /mnt/inner ' /proc/self/mountinfo",
    );
}

#[test]
fn later_mounts_lie_on_earlier_ones_whatever_their_order() {
    let engine = engine!();
    let (outer, inner) = (engine.folder("o"), engine.folder("i"));
    fs::write(format!("{inner}/f"), "inner").unwrap();
    let flags = ["-v", &bind(&inner, "/m/sub"), "-v", &bind(&outer, "/m")];
    assert_eq!(engine.sh(&flags, "cat /m/sub/f"), "inner");
}

#[test]
fn two_mounts_on_one_place_are_refused() {
    let engine = engine!();
    let dir = engine.folder("d");
    engine.try_sh(&["-v", &bind(&dir, "/mnt"), "--tmpfs", "/mnt"], "true").explains(125, &["/mnt"]);
}

#[test]
fn tmpfs_has_its_size_and_mode() {
    let engine = engine!();
    let script =
        "stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2; grep ' /t ' /proc/self/mountinfo";
    let output = engine.sh(&["--tmpfs", "/t:size=1m,mode=0750"], script);
    assert!(output.starts_with("750\n1024\n"), "{output}");
    let line = output.lines().last().unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev") && line.contains(" tmpfs "), "{line}");
    assert_eq!(
        engine.sh(
            &["--mount", "type=tmpfs,target=/t,tmpfs-size=2m"],
            "df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2"
        ),
        "2048"
    );
}

#[test]
fn a_read_only_root_has_writable_places_for_programs() {
    let engine = engine!();
    let script = "touch /x 2>&1; touch /etc/x 2>&1; for d in /tmp /run /var/tmp /dev/shm; do touch $d/x && echo $d ok; done";
    let output = engine.sh(&["--read-only"], script);
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    assert_eq!(output.matches(" ok").count(), 4, "{output}");
    let output = engine.try_sh(&["--read-only", "--read-only-tmpfs=false"], "touch /tmp/x").stderr;
    assert!(output.contains("Read-only"), "{output}");
}

#[test]
fn chown_with_u_gives_the_bind_to_the_containers_user() {
    let engine = engine!();
    let dir = engine.folder("owned");
    fs::write(format!("{dir}/file"), "x").unwrap();
    assert_eq!(
        engine.sh(
            &["-u", "alice", "-v", &bind(&dir, "/mnt:U")],
            "stat -c %u:%g /mnt /mnt/file; echo y > /mnt/file"
        ),
        "1000:1000\n1000:1000"
    );
}

#[test]
fn binds_are_nosuid_and_nodev() {
    let engine = engine!();
    let dir = engine.folder("opts");
    let line = engine.sh(&["-v", &bind(&dir, "/mnt")], "grep ' /mnt ' /proc/self/mountinfo");
    assert!(line.contains("nosuid") && line.contains("nodev") && !line.contains("noexec"), "{line}");
    let line = engine.sh(&["-v", &bind(&dir, "/mnt:noexec")], "grep ' /mnt ' /proc/self/mountinfo");
    assert!(line.contains("noexec"), "{line}");
}

#[test]
fn owners_modes_links_and_times_are_those_of_the_image() {
    let engine = engine!();
    let script = "stat -c '%n %a %u:%g %Y' /data/seed /tmp /root /home/alice; readlink /bin/sh";
    assert_eq!(
        engine.sh(&[], script),
        "/data/seed 640 1000:1000 1735689600\n/tmp 1777 0:0 1735689600\n/root 700 0:0 1735689600\n\
         /home/alice 750 1000:1000 1735689600\nbusybox"
    );
}

fn deleted_and_made_again(engine: &Engine, image: &str) -> String {
    let script = "cd /usr/share && mv base-files bf && ls bf | head -1 && rm -r bf && test ! -e base-files &&
        mkdir base-files && test -z \"$(ls base-files)\" && rm -r /usr/share/bash-completion /etc/skel &&
        mkdir /etc/skel && ls -A /etc/skel | wc -l && chown 33:33 /etc/passwd && stat -c %u /etc/passwd &&
        ln /etc/group /etc/group2 && stat -c %h /etc/group2";
    engine.ok(&["run", "--rm", "--network", "none", image, "bash", "-c", script])
}

#[test]
fn a_debian_can_be_worked_in() {
    let engine = engine!();
    let output = deleted_and_made_again(&engine, &crate::support::debian());
    assert!(output.ends_with("0\n33\n2"), "{output}");
    let image = crate::support::image("python:zstd");
    let program = "import os, zlib; print(len(os.listdir('/usr/bin')) > 50, os.getpid(), zlib.crc32(b'x'))";
    let output = engine.ok(&["run", "--rm", "-q", "--network", "none", &image, "python3", "-c", program]);
    assert_eq!(output, "True 1 2363233923");
}

#[test]
fn set_id_programs_work_inside() {
    let engine = engine!();
    let image = crate::support::debian();
    // Without no-new-privileges, as with docker and podman, unless we are stricter: then it must be one flag away.
    let flags = ["--security-opt", "no-new-privileges=false"];
    let mut args = vec!["run", "--rm", "-q", "--network", "none", "-u", "33"];
    if !engine.is_podman() {
        args.extend(flags);
    }
    args.extend([&image, "sh", "-c", "cp /usr/bin/id /tmp/id 2>/dev/null; stat -c %a /usr/bin/passwd; su -s /bin/sh -c true 2>&1 | head -1"]);
    let output = engine.ok(&args);
    assert!(output.starts_with("4755"), "{output}");
}

#[test]
fn permissions_of_state_keep_others_out() {
    let engine = engine!();
    engine.start_sleeper("p");
    for path in [engine.data(), engine.run_root()] {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
}
