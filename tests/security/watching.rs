//! Row 8, with an attacker who is faster than a shell: a process that enters a container is guarded from those that
//! are in it (CVE-2016-9962).

use crate::cell::{CANARY, Cell};
use crate::support::{Engine, Running};
use std::time::{Duration, Instant};

/// What an attacker in the container may see of a process that comes: what `true` itself would show.
fn is_harmless(found: &str) -> bool {
    let (kind, what) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "somebody" => true,
        // The stub, and the command.
        "exe" | "map" => {
            what.starts_with("/bin/")
                || what.starts_with("/memfd:init")
                || what == "/init"
                || what.starts_with('[')
        }
        "cwd" | "root" => what == "/",
        // The channel on which the stub tells that it failed, until the command runs.
        "fd" => what == "/dev/null" || what.starts_with("pipe") || what.starts_with("socket"),
        "stole" => what == "a descriptor of type 140000",
        _ => false,
    }
}

fn peeked_at(flags: &[&str]) {
    let mut cell = Cell::new();
    cell.engine.set("SECRET_OF_THE_CALLER", CANARY);
    cell.start_attack("attacker", flags, "peek 3");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        cell.engine.run(&["exec", "attacker", "true"]);
        cell.engine.run(&["exec", "-u", "alice", "attacker", "true"]);
    }
    let _ = cell.engine.run(&["wait", "attacker"]);
    let found = cell.found("attacker");
    assert!(found.contains(&"somebody came".to_owned()), "nobody was seen: {found:?}");
    for line in &found {
        assert!(is_harmless(line), "an attacker with {flags:?} saw: {line}; of {found:?}");
    }
}

#[test]
fn who_enters_shows_nothing_of_the_host_to_an_attacker_inside() {
    peeked_at(&[]);
}

#[test]
fn who_enters_shows_nothing_of_the_host_to_an_attacker_who_may_trace() {
    peeked_at(&["--cap-add", "SYS_PTRACE"]);
}

#[test]
fn who_enters_shows_nothing_of_the_host_to_a_privileged_attacker() {
    peeked_at(&["--privileged"]);
}

#[test]
fn a_terminal_is_not_taken_from_what_the_container_put_in_its_place() {
    let cell = Cell::new();
    let traps = [
        "mount -t tmpfs t /dev/pts; ln -s /proc/sysrq-trigger /dev/pts/ptmx",
        "mount -t tmpfs t /dev/pts; : >/dev/pts/ptmx",
        "mount -t tmpfs t /dev/pts; busybox mkfifo /dev/pts/ptmx",
        "mount --bind /dev/null /dev/pts/ptmx",
        "mount -t tmpfs t /dev/pts; ln -s /dev/zero /dev/pts/ptmx",
    ];
    for (index, trap) in traps.iter().enumerate() {
        let name = format!("trap{index}");
        cell.start(&name, &["--privileged"], &format!("{trap} && echo set; exec sleep 1000"));
        crate::support::eventually("the trap is set", || cell.engine.run(&["logs", &name]).stdout == "set\n");
        let output = cell.engine.run(&["exec", "-t", &name, "true"]);
        assert!(output.code != 0 && !output.to_string().contains("panicked"), "{trap}: {output}");
    }
}

/// Multiplexers that work, and whose terminals are not those of the container's /dev/pts: of a devpts beside it, or of
/// the host, whose /dev was handed in.
#[test]
fn a_terminal_is_not_taken_from_another_multiplexer() {
    let cell = Cell::new();
    let another = "mkdir -p /p && mount -t devpts -o newinstance,ptmxmode=0666 d /p";
    let traps = [
        format!("{another}; mount -t tmpfs t /dev/pts && ln -s /p/ptmx /dev/pts/ptmx"),
        format!("{another}; mount --bind /p/ptmx /dev/pts/ptmx"),
        "mount --rbind /host /dev/pts".to_owned(),
    ];
    for (index, trap) in traps.iter().enumerate() {
        let name = format!("other{index}");
        let flags = ["--privileged", "-v", "/dev:/host:dev"];
        cell.start(&name, &flags, &format!("{trap} && echo set; exec sleep 1000"));
        crate::support::eventually("the trap is set", || cell.engine.run(&["logs", &name]).stdout == "set\n");
        let output = cell.engine.run(&["exec", "-t", &name, "true"]);
        assert!(output.code == 125 && output.stderr.contains("multiplexer"), "{trap}: {output}");
    }
    // One that the container has put in the place of the first is its own.
    let own = "umount -l /dev/pts; mount -t devpts -o newinstance,ptmxmode=0666 d /dev/pts";
    cell.start("own", &["--privileged"], &format!("{own} && echo set; exec sleep 1000"));
    crate::support::eventually("it is there", || cell.engine.run(&["logs", "own"]).stdout == "set\n");
    cell.engine.run(&["exec", "-t", "own", "true"]).ok();
}

#[test]
fn a_passwd_file_that_is_none_does_not_hold_who_enters() {
    let cell = Cell::new();
    for (name, trap) in [("fifo", "busybox mkfifo /etc/passwd"), ("zero", "ln -s /dev/zero /etc/passwd")] {
        cell.start(name, &[], &format!("rm /etc/passwd; {trap}; echo set; exec sleep 1000"));
        crate::support::eventually("the trap is set", || cell.engine.run(&["logs", name]).stdout == "set\n");
        assert_ne!(cell.engine.run(&["exec", "-u", "alice", name, "true"]).code, 0);
    }
}

/// The processes of this engine's user that hold an exec session.
fn sessions(name: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&line).starts_with(&format!("coracle: exec {name}")));
    }
    count
}

#[test]
fn sessions_end_with_their_container_whatever_it_did_to_them() {
    let cell = Cell::new();
    let name = format!("stopper{}", std::process::id());
    cell.start_attack(&name, &[], "stop-newcomers 1000");
    let running: Vec<Running> = (0..10).map(|_| start(&cell.engine, &["exec", &name, "true"])).collect();
    std::thread::sleep(Duration::from_secs(2));
    cell.engine.ok(&["rm", "-f", "-t", "0", &name]);
    for one in running {
        one.wait();
    }
    crate::support::eventually("no session is left", || sessions(&name) == 0);
}

#[test]
fn who_enters_is_not_held_for_ever_by_being_stopped() {
    let cell = Cell::new();
    // The container goes on after the attack, so that its end is not what ends the waiting.
    let line = format!("({}) & sleep 1000", Cell::attack_line("stop-newcomers 4"));
    let weapon = Cell::weapon();
    cell.start("c", &cell.armed(&[], &weapon), &line);
    let logs = || cell.engine.run(&["logs", "c"]).stdout;
    crate::support::eventually("the attack begins", || logs().contains(crate::attack::BEGUN));
    // One after the other, since one that is quick may be gone before it is seen.
    let mut running = Vec::new();
    crate::support::eventually("somebody is stopped", || {
        running.push(start(&cell.engine, &["exec", "c", "true"]));
        std::thread::sleep(Duration::from_millis(200));
        logs().contains("stopped")
    });
    crate::support::eventually("the attack is over", || logs().contains("test result"));
    // A command that was stopped after it began to run is the container's own affair, as with every
    // engine: only those are freed from here, not what is still ours.
    let free =
        "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != true ] || kill -CONT \"${p##*/}\"; done 2>&-";
    cell.engine.ok(&["exec", "c", "sh", "-c", free]);
    for one in running {
        let output = one.wait();
        assert_eq!(output.code, 0, "{output}");
    }
}

fn start(engine: &Engine, args: &[&str]) -> Running {
    Running::start(engine.command(args), b"")
}
