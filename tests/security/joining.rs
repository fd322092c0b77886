//! Row 8: what joins a container is out of its reach until it has become the user's command.

use crate::support::{Running, eventually, tiny};

/// CVE-2016-9962: between join and exec, the joining process has descriptors of the host.
#[test]
fn the_joining_process_cannot_be_looked_into() {
    let engine = engine!();
    let script = "echo ready; while :; do for p in /proc/[0-9]*; do
        for l in $p/cwd $p/root $p/exe $p/fd/*; do readlink $l; done; done 2>/dev/null | sort -u | grep -v '^/memfd:init \\|^pipe:\\|^socket:\\|^/proc/\\|^/dev/\\|^anon_inode:\\|^/$\\|^/bin/busybox$'; done";
    engine.start_script("spy", &["--cap-add", "SYS_PTRACE"], script);
    eventually("it looks", || engine.ok(&["logs", "spy"]).contains("ready"));
    for _ in 0..40 {
        let all: Vec<Running> =
            (0..3).map(|_| Running::start(engine.command(&["exec", "spy", "true"]), b"")).collect();
        for running in all {
            running.wait().ok();
        }
    }
    let seen = engine.ok(&["logs", "spy"]);
    let seen: Vec<&str> = seen.lines().filter(|line| *line != "ready").collect();
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn users_and_groups_are_parsed_strictly() {
    let engine = engine!();
    engine.start_sleeper("c");
    let image = tiny();
    // CVE-2026-30892: a number that overflows or is half parsed becomes root.
    for user in [
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "-1",
        "+1",
        "0x3e8",
        "1e3",
        " 1000",
        "1000 ",
        "1000:",
        ":",
        "1000:4294967295",
        "1000:-1",
        "alice:0x0",
        "٣",
    ] {
        let run = engine.run(&["run", "--rm", "--network", "none", "-u", user, &image, "id", "-u"]);
        let exec = engine.run(&["exec", "-u", user, "c", "id", "-u"]);
        for output in [run, exec] {
            // `1000:` and `:` leave a half out, which some engines take for the default; root it must not be.
            let harmless = user.ends_with(':') && (output.stdout == "1000\n" || user == ":");
            assert!(output.code != 0 || harmless, "{user:?}: {output}");
        }
    }
}

#[test]
fn lines_of_the_images_passwd_are_parsed_strictly() {
    let engine = engine!();
    let registry = crate::support::registry::Registry::start();
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nover:x:4294967296:0::/:/bin/sh\nminus:x:-1:0::/:/bin/sh\nempty:x:::::\nhex:x:0x0:0::/:/bin/sh\nshort:x\n\n:x:7:7::/:/bin/sh\n";
    let layer = crate::support::image::Layer::new().file("etc/passwd", passwd, 0o644);
    let image = engine.add(&registry, "passwd", &crate::support::image::Image::tiny_with(vec![layer]));
    for user in ["over", "minus", "empty", "hex", "short"] {
        let output = engine.run(&["run", "--rm", "-q", "--network", "none", "-u", user, &image, "id", "-u"]);
        assert!(output.code != 0, "{user}: {output}");
    }
    assert_eq!(engine.ok(&["run", "--rm", "-q", "--network", "none", "-u", "root", &image, "id", "-u"]), "0");
}
