//! Row 6: nothing that a caller happens to have open reaches a container, or is kept by what stays behind.

use crate::cell::{CANARY, Cell, TINY};
use crate::support::terminal::Terminal;

/// What a caller may have left open: a folder and a file of the host, not close-on-exec.
fn leaky(cell: &Cell) -> String {
    let host = cell.host().display().to_string();
    format!("exec 7<{host} 8<{host}/canary 33<{host} 100<{host}/canary")
}

fn numbers(output: &str) -> Vec<&str> {
    output.split_whitespace().collect()
}

#[test]
fn a_command_has_the_three_standard_descriptors_and_no_other() {
    let cell = Cell::new();
    let leaky = leaky(&cell);
    let base = ["run", "--rm", "--network", "none"];
    for flags in [&[][..], &["-i"], &["--init"], &["--privileged"], &["-v", "volume:/v"], &["--read-only"]] {
        // The shell itself, and process 1 where that is the init.
        for process in ["$$", "1"] {
            // An init has a pipe of its own until it has seen its command start.
            let script = format!("[ {process} = $$ ] || sleep 0.5; ls /proc/{process}/fd; :");
            let output =
                cell.after(&leaky, &[&base[..], flags, &[TINY, "sh", "-c", &script]].concat()).wait();
            assert_eq!(numbers(&output.stdout), ["0", "1", "2"], "{output}");
        }
    }
}

#[test]
fn an_executed_command_has_the_three_standard_descriptors_and_no_other() {
    let cell = Cell::new();
    let leaky = leaky(&cell);
    cell.start("c", &[], "sleep 1000");
    for flags in [&[][..], &["-i"], &["--privileged"], &["-u", "alice"]] {
        let args = [&["exec"][..], flags, &["c", "sh", "-c", "ls /proc/$$/fd; :"]].concat();
        let output = cell.after(&leaky, &args).wait();
        assert_eq!(numbers(&output.stdout), ["0", "1", "2"], "{output}");
    }
    // Nor does one stay behind in process 1.
    assert_eq!(numbers(&cell.engine.ok(&["exec", "c", "ls", "/proc/1/fd"])), ["0", "1", "2"]);
}

#[test]
fn a_command_on_a_terminal_has_its_terminal_and_nothing_else() {
    let cell = Cell::new();
    // A child of the shell is what it will be only once it has executed its program.
    let list = "sleep 9 & until busybox grep -q ^sleep /proc/$!/cmdline; do :; done
        for f in /proc/$!/fd/*; do echo \"fd ${f##*/} $(busybox readlink $f)\"; done; kill $!; echo fin";
    let args = ["run", "--rm", "-it", "--network", "none", TINY, "sh", "-c", list];
    let leaky = format!("{}; exec \"$@\"", leaky(&cell));
    let mut terminal = Terminal::start(&cell.engine.wrapped(&["bash", "-c", &leaky, "bash"], &args), 24, 80);
    terminal.expect("fin");
    terminal.wait();
    let screen = terminal.screen();
    let fds: Vec<&str> = screen.lines().filter_map(|line| line.trim().strip_prefix("fd ")).collect();
    assert_eq!(fds.len(), 3, "{screen}");
    // A job in the background reads from /dev/null, unless the shell has job control.
    assert!(["0 /dev/pts/0", "0 /dev/null"].contains(&fds[0]), "{screen}");
    assert_eq!(fds[1..], ["1 /dev/pts/0", "2 /dev/pts/0"], "{screen}");
}

/// A monitor that kept what its caller had open would hold locks, pipes and mounts for as long as it lives.
#[test]
fn what_stays_behind_keeps_nothing_of_the_callers() {
    let cell = Cell::new();
    let lock = cell.engine.file("lock", "");
    require!(crate::support::has_program("flock"), "no flock(1)");
    let run = ["run", "-d", "--network", "none", "--name", "c", TINY, "sleep", "1000"];
    let free = || crate::support::host(&format!("flock -n {lock} echo free || echo held"));
    cell.after(&format!("exec 9>>{lock}; flock 9"), &run).wait().ok();
    assert_eq!(free(), "free");
    cell.after(&format!("exec 9>>{lock}; flock 9"), &["exec", "-d", "c", "sleep", "1000"]).wait().ok();
    assert_eq!(free(), "free");
}

#[test]
fn a_working_directory_that_is_a_descriptor_leads_nowhere() {
    let cell = Cell::new();
    let leaky = leaky(&cell);
    cell.start("c", &[], "sleep 1000");
    let script = "cat canary ../canary ../host/canary; ls; cat ../../../../../../../etc/hostname";
    for number in [3, 5, 7, 8, 9, 11, 33, 100] {
        for folder in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/folder"),
            format!("/proc/thread-self/fd/{number}/.."),
        ] {
            let run = ["run", "--rm", "--network", "none", "-w", &folder, TINY, "sh", "-c", script];
            let exec = ["exec", "-w", &folder, "c", "sh", "-c", script];
            for args in [&run[..], &exec[..]] {
                let output = cell.after(&leaky, args).wait();
                assert!(!output.stdout.contains("canary"), "{output}");
                assert!(!output.stdout.contains(CANARY), "{output}");
            }
        }
    }
    cell.host_is_as_it_was();
}

/// What is ignored or blocked stays so over an exec, and would make programs inside deaf.
#[test]
fn signals_that_the_caller_ignores_are_not_ignored_inside() {
    let cell = Cell::new();
    let deaf = "trap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM CONT TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO SYS 34 64";
    let grep = ["busybox", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    cell.after(deaf, &["run", "-d", "--network", "none", "--name", "c", TINY, "sleep", "1000"]).wait().ok();
    for args in [
        &["run", "--rm", "--network", "none", TINY][..],
        &["run", "--rm", "--init", "--network", "none", TINY],
        &["exec", "c"],
    ] {
        let output = cell.after(deaf, &[args, &grep].concat()).wait();
        // glibc's posix_spawn(3) has a child ignore the two signals that glibc keeps for itself.
        assert_eq!(output.stdout.replace("0000000180000000", "0000000000000000"), none, "{output}");
    }
}
