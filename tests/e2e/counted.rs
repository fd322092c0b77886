//! What a command costs, counted in system calls: a count does not depend on how busy the machine is.

use crate::support::{Engine, has_program, run, tiny};

/// System calls by name of a command and all its children. `unshare` provides the user namespace, so that no set-id
/// helper, which an ordinary user's strace cannot follow, is needed.
fn calls(engine: &Engine, args: &[&str]) -> Vec<(String, u64)> {
    let report = engine.scratch().join("calls");
    let report = report.to_str().unwrap();
    let program = engine.command(&[]).get_program().to_str().unwrap().to_owned();
    let (data, runroot) = (engine.data().to_str().unwrap(), engine.run_root().to_str().unwrap());
    let mut words =
        vec!["unshare", "strace", "-f", "-c", "-o", report, &program, "--root", data, "--runroot", runroot];
    words.extend(args);
    run(engine.command(&words)).ok();
    let text = std::fs::read_to_string(report).unwrap();
    let counted: Vec<(String, u64)> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = *words.last()?;
            (name != "total" && words[0].parse::<f64>().is_ok())
                .then(|| (name.to_owned(), words[3].parse().unwrap()))
        })
        .collect();
    assert!(counted.iter().any(|(name, _)| name.starts_with("execve")), "strace saw nothing: {text}");
    counted
}

fn is_sync(name: &str) -> bool {
    matches!(name, "fsync" | "fdatasync" | "sync" | "syncfs" | "sync_file_range" | "msync")
}

#[test]
fn a_run_that_leaves_nothing_makes_no_sync_call() {
    let engine = engine!();
    require!(has_program("strace"), "strace is not installed");
    require!(!engine.is_podman(), "podman makes more than fifty");
    let counted = calls(&engine, &["run", "--rm", "--network", "none", &tiny(), "true"]);
    let syncs: Vec<_> = counted.iter().filter(|(name, _)| is_sync(name)).collect();
    assert!(syncs.is_empty(), "{syncs:?}");
}

#[test]
fn listing_and_executing_make_no_sync_call() {
    let engine = engine!();
    require!(has_program("strace"), "strace is not installed");
    require!(!engine.is_podman(), "podman's database syncs");
    engine.start_sleeper("c");
    for args in [&["ps", "-a"][..], &["images"], &["inspect", "c"], &["logs", "c"], &["exec", "c", "true"]] {
        let counted = calls(&engine, args);
        assert!(!counted.iter().any(|(name, _)| is_sync(name)), "{args:?}: {counted:?}");
    }
}

fn is_fork(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}

/// What a start, an exec and a listing cost may not grow unnoticed. The bounds are a little above what was counted when
/// they were written, which is beside them; whoever makes something cheaper lowers them, and whoever has good reason to make something
/// dearer raises them.
#[test]
fn commands_make_no_more_system_calls_and_forks_than_they_used_to() {
    let engine = engine!();
    require!(has_program("strace"), "strace is not installed");
    require!(!engine.is_podman(), "podman makes some tens of thousands");
    engine.start_sleeper("c");
    let image = tiny();
    let run = ["run", "--rm", "--network", "none", &image, "true"];
    let mut wrong = Vec::new();
    for (args, calls_at_most, forks_at_most) in
        [(&run[..], RUN, 2), (&["exec", "c", "true"], EXEC, 3), (&["ps"], PS, 0)]
    {
        // The first may find something to clean up.
        calls(&engine, args);
        let counted = calls(&engine, args);
        let all: u64 = counted.iter().map(|(_, n)| n).sum();
        let forks: u64 = counted.iter().filter(|(name, _)| is_fork(name)).map(|(_, n)| n).sum();
        eprintln!("{}: {all} system calls, {forks} forks", args[0]);
        if all > calls_at_most || forks > forks_at_most {
            wrong.push(format!("{}: {all} calls, {forks} forks: {counted:?}", args[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Counted: 1027, with two forks: the monitor and the container's first process.
const RUN: u64 = 1080;
/// Counted: 402, with three forks: the session, and two to join all namespaces.
const EXEC: u64 = 430;
/// Counted: 132.
const PS: u64 = 145;

#[test]
fn a_start_executes_nothing_but_the_users_command_and_the_id_map_helpers() {
    let engine = engine!();
    require!(has_program("strace"), "strace is not installed");
    require!(!engine.is_podman(), "podman executes five programs");
    let counted = calls(&engine, &["run", "--rm", "--network", "none", &tiny(), "true"]);
    let execs: u64 = counted.iter().filter(|(name, _)| name.starts_with("execve")).map(|(_, n)| n).sum();
    // The program itself, the sealed stub where one is used, the command.
    assert!(execs <= 3, "{counted:?}");
}

#[test]
fn the_binary_is_static_and_small() {
    let engine = Engine::new();
    require!(!engine.is_podman(), "podman is 43 MiB and dynamic");
    let path = engine.command(&[]).get_program().to_owned();
    let bytes = std::fs::read(path).unwrap();
    // ELF program header type PT_INTERP (3) names a dynamic linker.
    let word =
        |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0usize, |v, b| v << 8 | usize::from(*b));
    let (offset, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    assert!((0..count).all(|i| word(offset + i * size, 4) != 3), "the binary needs a dynamic linker");
    if cfg!(not(debug_assertions)) || crate::support::setting("CORACLE").is_some() {
        assert!(bytes.len() <= 15 << 20, "{} bytes", bytes.len());
    }
}
