//! `logs`: what a container has said, also while it speaks.

use crate::support::{Running, eventually, tiny};

#[test]
fn both_streams_are_kept_apart_and_in_order() {
    let engine = engine!();
    engine
        .run(&["run", "--network", "none", "--name", "l", &tiny(), "sh", "-c", "echo a; echo b >&2; echo c"])
        .ok();
    let output = engine.run(&["logs", "l"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("a\nc\n", "b\n"), "{output}");
}

#[test]
fn tail_since_and_timestamps() {
    let engine = engine!();
    engine.ok(&[
        "run",
        "-q",
        "--network",
        "none",
        "--name",
        "l",
        &tiny(),
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo line $i; done",
    ]);
    assert_eq!(engine.ok(&["logs", "--tail", "2", "l"]), "line 4\nline 5");
    assert_eq!(engine.ok(&["logs", "--tail", "0", "l"]), "");
    assert_eq!(engine.ok(&["logs", "--since", "1h", "l"]).lines().count(), 5);
    assert_eq!(engine.ok(&["logs", "--since", "2099-01-01T00:00:00Z", "l"]), "");
    assert_eq!(engine.ok(&["logs", "--until", "2020-01-01T00:00:00Z", "l"]), "");
    let stamped = engine.ok(&["logs", "-t", "--tail", "1", "l"]);
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.contains('T') && text == "line 5", "{stamped}");
}

#[test]
fn follow_shows_what_comes_and_ends_with_the_container() {
    let engine = engine!();
    engine.start_script("f", &[], "echo first; while ! test -e /go; do sleep 0.05; done; echo last");
    let following = Running::start(engine.command(&["logs", "-f", "f"]), b"");
    eventually("it runs", || engine.ok(&["logs", "f"]) == "first");
    engine.ok(&["exec", "f", "touch", "/go"]);
    assert_eq!(following.wait().ok(), "first\nlast");
}

#[test]
fn a_line_without_its_end_is_not_lost_or_completed() {
    let engine = engine!();
    engine.ok(&["run", "-q", "--network", "none", "--name", "p", &tiny(), "printf", "no newline"]);
    assert_eq!(engine.run(&["logs", "p"]).stdout, "no newline");
}

#[test]
fn long_lines_and_odd_bytes_come_back_as_they_were() {
    let engine = engine!();
    engine.ok(&[
        "run",
        "-d",
        "-q",
        "--network",
        "none",
        "--name",
        "long",
        &tiny(),
        "sh",
        "-c",
        "head -c 100000 /dev/zero | tr '\\0' x; printf '\\n\\001\\t|\\n'",
    ]);
    engine.ok(&["wait", "long"]);
    let text = engine.run(&["logs", "long"]).stdout;
    assert_eq!(text.len(), 100_000 + 5);
    assert!(text.ends_with("x\n\u{1}\t|\n"));
}

#[test]
fn the_log_is_bounded() {
    let engine = engine!();
    let size = ["--log-opt", "max-size=64k", "--log-opt", "max-file=2"];
    let mut args = vec!["run", "-d", "-q", "--network", "none", "--name", "b"];
    args.extend(if engine.is_podman() { &size[..2] } else { &size[..] });
    let image = tiny();
    args.extend([
        &image,
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do echo line number $i; i=$((i+1)); done",
    ]);
    engine.ok(&args);
    engine.ok(&["wait", "b"]);
    let text = engine.ok(&["logs", "b"]);
    assert!(text.ends_with("line number 19999"), "the newest lines are kept");
    // 20 000 lines are half a megabyte with their times.
    assert!(text.len() < 200_000, "{}", text.len());
    assert_eq!(engine.ok(&["logs", "--tail", "1", "b"]), "line number 19999");
}

#[test]
fn the_log_can_be_turned_off() {
    let engine = engine!();
    assert_eq!(
        engine.ok(&[
            "run",
            "-q",
            "--log-driver",
            "none",
            "--network",
            "none",
            "--name",
            "off",
            &tiny(),
            "echo",
            "x"
        ]),
        "x"
    );
    let output = engine.run(&["logs", "off"]);
    assert!(!output.stdout.contains('x'), "{output}");
}
