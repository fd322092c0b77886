//! Row 7, with an attacker who is faster than a shell: our own binary belongs to the user that container root is mapped
//! to. Nothing inside may reach it but as the init, and nothing may write it (CVE-2019-5736).

use crate::cell::{Cell, TINY};
use crate::support::image::digest;
use std::path::PathBuf;

/// A copy of the program that this user owns, which is the case that matters.
struct Ours {
    path: PathBuf,
    digest: String,
}

fn own(cell: &mut Cell) -> Ours {
    let from = std::env::var_os("CORACLE").filter(|v| !v.is_empty()).map(PathBuf::from);
    let from = from.unwrap_or_else(|| env!("CARGO_BIN_EXE_coracle").into());
    let path = cell.engine.scratch().join("coracle");
    std::fs::copy(from, &path).unwrap();
    cell.engine.use_program(&path);
    let digest = digest(&std::fs::read(&path).unwrap());
    Ours { path, digest }
}

impl Ours {
    fn size(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().len()
    }

    #[track_caller]
    fn is_unchanged(&self) {
        assert_eq!(digest(&std::fs::read(&self.path).unwrap()), self.digest);
    }
}

#[test]
fn a_container_cannot_reach_the_binary_while_others_are_started_in_it() {
    let mut cell = Cell::new();
    let ours = own(&mut cell);
    for (name, flags) in [("strong", &["--privileged"][..]), ("ptrace", &["--cap-add", "SYS_PTRACE"])] {
        cell.start_attack(name, flags, &format!("binary {} 6", ours.size()));
        // As long as it attacks, which on a busy machine is not enough for all.
        let is_running = || cell.engine.inspect(name, "{{.State.Running}}") == "true";
        let mut started = 0;
        while started < 15 && is_running() {
            for command in [&["true"][..], &["/bin/sh", "-c", ":"]] {
                let output = cell.engine.run(&[&["exec", name], command].concat());
                assert!(output.code == 0 || !is_running(), "{output}");
            }
            cell.engine.run(&["exec", name, "/proc/self/exe"]);
            started += 1;
        }
        assert!(started > 0);
        let _ = cell.engine.run(&["wait", name]);
        assert_eq!(cell.found(name), [""; 0], "{name}");
        ours.is_unchanged();
    }
}

#[test]
fn the_init_can_be_found_and_not_written() {
    let mut cell = Cell::new();
    let ours = own(&mut cell);
    for flags in [&["--init"][..], &["--init", "--privileged"], &["--init", "--cap-add", "ALL"]] {
        let found = cell.attack(flags, &format!("binary {} 1", ours.size()));
        assert_eq!(found, ["reached: Read-only file system (os error 30)"], "{flags:?}");
        ours.is_unchanged();
    }
    let script = "for how in '>' '>>' '<>'; do sh -c \": $how/proc/1/exe\" && echo opened; done; \
        cp /bin/busybox /proc/1/exe && echo copied; ln /proc/1/exe /x && echo linked; rm /proc/1/exe && echo removed; \
        chmod 777 /proc/1/exe && echo changed; mount -o remount,rw /proc/1/exe && echo remounted; \
        touch /y; mount --bind /proc/1/exe /y && echo x >/y && echo bound; echo end";
    let output = cell.run(TINY, &["--init", "--privileged"], script);
    assert_eq!(output.stdout, "end\n", "{output}");
    ours.is_unchanged();
}
