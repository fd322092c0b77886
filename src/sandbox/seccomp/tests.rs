//! The built-in profile, read and loaded.

use super::compiler::Arch;
use super::compiler::tests::run;
use super::*;
use crate::kernel::seccomp::probe;
use nix::libc;
use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::Instant;

const ALLOW: u32 = 0x7fff_0000;

fn errno(errno: i32) -> u32 {
    0x0005_0000 | u32::try_from(errno).unwrap()
}

fn capabilities(names: &[&str]) -> CapSet {
    names.iter().fold(CapSet::EMPTY, |all, name| all.with(name.parse().unwrap()))
}

fn built_in(granted: CapSet) -> Filter {
    filter(Choice::Default, granted).unwrap().unwrap()
}

/// Runs `inside` on a thread of its own under `filter`.
fn under(filter: Filter, inside: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        filter.install().unwrap();
        inside();
    })
    .join()
    .unwrap();
}

#[test]
fn the_usual_sets_of_capabilities_find_their_filter_ready() {
    let usual = [&[][..], &["CHOWN"], &["NET_RAW", "SYS_CHROOT"], &["NET_ADMIN"]].map(capabilities);
    for set in usual.into_iter().chain([CapSet::DEFAULT]) {
        assert!(matches!(built_in(set).program, Cow::Borrowed(_)), "{set:?}");
    }
    assert!(matches!(built_in(capabilities(&["SYS_ADMIN"])).program, Cow::Owned(_)));
    assert_eq!(filter(Choice::Unconfined, CapSet::DEFAULT).unwrap(), None);
}

#[test]
fn what_was_compiled_in_advance_is_what_the_compiler_makes_now() {
    for set in [CapSet::EMPTY, CapSet::DEFAULT] {
        let now = filter(Choice::Profile(DEFAULT_PROFILE), set).unwrap().unwrap();
        assert_eq!(now, built_in(set));
        assert!(now.program().len() < 3000, "{} bytes", now.program().len());
    }
}

/// Calls that podman and we answer differently, and why. (Its profiles of 2022 and of 2026.)
const DIFFERENCES: &[(&str, &str)] = &[
    ("add_key", "EPERM instead of ENOSYS; docker too"),
    ("request_key", "EPERM instead of ENOSYS; docker too"),
    ("keyctl", "refused: key rings have no namespace; docker too"),
    ("clone3", "ENOSYS: its flags can't be seen; docker too"),
    ("mount", "refused without CAP_SYS_ADMIN, where the kernel refuses too; docker too"),
    ("mount_setattr", "likewise"),
    ("move_mount", "likewise"),
    ("open_tree", "likewise"),
    ("open_tree_attr", "likewise"),
    ("fsconfig", "likewise"),
    ("fsmount", "likewise"),
    ("fsopen", "likewise"),
    ("fspick", "likewise"),
    ("pivot_root", "likewise"),
    ("umount", "likewise"),
    ("umount2", "likewise"),
    ("reboot", "refused without CAP_SYS_BOOT; docker too"),
    ("syslog", "refused without CAP_SYSLOG: the kernel's log is the host's; docker too"),
    ("cachestat", "allowed: tells what mincore tells; docker too"),
    ("io_pgetevents", "allowed: io_getevents with a signal mask; docker too"),
    ("io_pgetevents_time64", "likewise"),
    ("map_shadow_stack", "allowed: the C library hardens programs with it; docker too"),
    ("statmount", "allowed: what /proc/self/mountinfo tells; docker too"),
    ("listmount", "likewise"),
    ("getxattrat", "allowed as getxattr is; docker too"),
    ("setxattrat", "likewise"),
    ("listxattrat", "likewise"),
    ("removexattrat", "likewise"),
    ("uretprobe", "allowed: or programs with a probe on them die; docker too"),
    ("mseal", "allowed: takes rights away only; docker too"),
    ("set_mempolicy_home_node", "allowed as set_mempolicy is"),
    ("fanotify_init", "allowed, as by newer podman"),
    ("fchmodat2", "allowed, as by newer podman"),
    ("futex_wait", "allowed, as by newer podman"),
    ("futex_wake", "likewise"),
    ("futex_requeue", "likewise"),
    ("futex_waitv", "likewise"),
    ("lsm_get_self_attr", "allowed with CAP_SYS_ADMIN; docker too"),
    ("lsm_set_self_attr", "likewise"),
    ("lsm_list_modules", "likewise"),
    ("quotactl_fd", "EPERM, as by newer podman"),
    ("readdir", "ENOSYS, as by newer podman"),
    ("sigaction", "likewise"),
    ("sigpending", "likewise"),
    ("sigsuspend", "likewise"),
    ("riscv_hwprobe", "allowed: tells what the processor can; docker too"),
    ("riscv_flush_icache", "allowed, as by newer podman"),
];

#[test]
fn it_answers_as_podmans_profile_but_for_explained_differences() {
    const PODMANS: &str = "/usr/share/containers/seccomp.json";
    let Ok(podmans) = std::fs::read_to_string(PODMANS) else {
        eprintln!("SKIPPED: {PODMANS} is not there");
        return;
    };
    let tables = Tables::parse(prepared::SYSCALLS, prepared::ERRNOS);
    let explained: BTreeMap<_, _> = DIFFERENCES.iter().copied().collect();
    for granted in [CapSet::DEFAULT, CapSet::EMPTY, CapSet::ALL] {
        let theirs = filter(Choice::Profile(&podmans), granted).unwrap().unwrap();
        let ours = built_in(granted);
        let mut unexplained = Vec::new();
        for name in prepared::SYSCALLS.lines().filter_map(|line| line.split(' ').next()) {
            let numbers = tables.syscall(name).unwrap();
            let native = numbers.native.map(|number| (prepared::ARCH, number));
            let compat = prepared::ARCH.compat().zip(numbers.compat);
            for (arch, number) in native.into_iter().chain(compat) {
                let [ours, theirs] = [&ours, &theirs].map(|f| run(f.program(), arch, number, [0; 6]));
                if ours != theirs && !explained.contains_key(name) {
                    unexplained.push(format!("{arch:?} {name}: {ours:#x}, podman {theirs:#x}"));
                }
            }
        }
        assert!(unexplained.is_empty(), "granted {granted:?}:\n{}", unexplained.join("\n"));
    }
}

#[test]
fn nothing_is_open_that_neither_capability_nor_purpose_opens() {
    let none = built_in(CapSet::EMPTY);
    let tables = Tables::parse(prepared::SYSCALLS, prepared::ERRNOS);
    let answer = |name: &str, args: [u64; 6]| {
        tables.syscall(name).unwrap().native.map(|n| run(none.program(), prepared::ARCH, n, args))
    };
    let first = |word: u64| [word, 0, 0, 0, 0, 0];
    for (name, args, expected) in [
        ("bpf", [0; 6], errno(libc::EPERM)),
        ("perf_event_open", [0; 6], errno(libc::EPERM)),
        ("keyctl", [0; 6], errno(libc::EPERM)),
        ("userfaultfd", [0; 6], errno(libc::EPERM)),
        ("chroot", [0; 6], errno(libc::EPERM)),
        ("setns", [0; 6], errno(libc::EPERM)),
        ("clone3", [0; 6], errno(libc::ENOSYS)),
        ("io_uring_setup", [0; 6], errno(libc::ENOSYS)),
        ("clone", first(0x11), ALLOW),
        ("clone", first(0x91), ALLOW),
        ("clone", first(0x1000_0011), errno(libc::EPERM)),
        ("unshare", first(0x200), ALLOW),
        ("unshare", first(0x80), errno(libc::EPERM)),
        ("unshare", first(0x0002_0000), errno(libc::EPERM)),
        ("personality", first(8), ALLOW),
        ("personality", first(0xffff_ffff), ALLOW),
        ("personality", first(u64::MAX), ALLOW),
        ("personality", first(0x0004_0000), errno(libc::ENOSYS)),
        ("socket", first(2), ALLOW),
        ("socket", first(38), errno(libc::EPERM)),
        ("socket", first(0x1_0000_0026), errno(libc::EPERM)),
        ("socket", first(39), ALLOW),
        ("socket", first(0xffff_ffff_0000_0028), errno(libc::EPERM)),
        ("socket", [16, 3, 0, 0, 0, 0], ALLOW),
        ("socket", [16, 3, 9, 0, 0, 0], errno(libc::EINVAL)),
        ("ioctl", [0, 0x5413, 0, 0, 0, 0], ALLOW),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], errno(libc::EPERM)),
        ("ioctl", [0, 0x1_0000_5412, 0, 0, 0, 0], errno(libc::EPERM)),
        ("ioctl", [0, 0x541c, 0, 0, 0, 0], errno(libc::EPERM)),
    ] {
        assert_eq!(answer(name, args), Some(expected), "{name} {args:x?}");
    }
}

#[test]
fn an_administrator_of_namespaces_may_make_them() {
    let filter = built_in(capabilities(&["SYS_ADMIN"]));
    let tables = Tables::parse(prepared::SYSCALLS, prepared::ERRNOS);
    for name in ["clone", "clone3", "unshare", "setns", "mount", "umount2", "pivot_root", "bpf"] {
        let number = tables.syscall(name).unwrap().native.unwrap();
        assert_eq!(run(filter.program(), prepared::ARCH, number, [u64::MAX; 6]), ALLOW, "{name}");
    }
}

#[test]
fn another_machines_programs_are_killed_and_x32_ones_have_no_calls() {
    let none = built_in(CapSet::EMPTY);
    let stranger = if prepared::ARCH == Arch::Riscv64 { Arch::Aarch64 } else { Arch::Riscv64 };
    assert_eq!(run(none.program(), stranger, 0, [0; 6]), 0x8000_0000);
    if prepared::ARCH == Arch::X86_64 {
        for number in [0x4000_0000, 0x4000_0027, u32::MAX] {
            assert_eq!(run(none.program(), Arch::X86_64, number, [0; 6]), errno(libc::ENOSYS));
        }
    }
}

#[test]
fn the_kernel_takes_it_and_acts_on_it() {
    under(built_in(CapSet::EMPTY), || {
        assert!(probe::call(libc::SYS_getpid, 0, 0).is_ok());
        assert!(probe::call(libc::SYS_unshare, 0x200, 0).is_ok());
        assert!(probe::call(libc::SYS_personality, 0xffff_ffff, 0).is_ok());
        for (call, first, second, expected) in [
            (libc::SYS_unshare, 0x1000_0000, 0, libc::EPERM),
            (libc::SYS_socket, 38, 0, libc::EPERM),
            (libc::SYS_socket, 0x1_0000_0026, 0, libc::EPERM),
            (libc::SYS_ioctl, 0, 0x5412, libc::EPERM),
            (libc::SYS_ioctl, 0, 0x1_0000_5412, libc::EPERM),
            (libc::SYS_personality, 0x0004_0000, 0, libc::ENOSYS),
            (libc::SYS_mount, 0, 0, libc::EPERM),
            (libc::SYS_setns, 0, 0, libc::EPERM),
            (libc::SYS_chroot, 0, 0, libc::EPERM),
            (libc::SYS_keyctl, 0, 0, libc::EPERM),
            (libc::SYS_bpf, 0, 0, libc::EPERM),
            (libc::SYS_perf_event_open, 0, 0, libc::EPERM),
            (libc::SYS_userfaultfd, 0, 0, libc::EPERM),
            (libc::SYS_init_module, 0, 0, libc::EPERM),
            (libc::SYS_kexec_load, 0, 0, libc::EPERM),
            (libc::SYS_open_by_handle_at, 0, 0, libc::EPERM),
            (libc::SYS_clone3, 0, 0, libc::ENOSYS),
            (libc::SYS_io_uring_setup, 1, 0, libc::ENOSYS),
            (100_000, 0, 0, libc::ENOSYS),
        ] {
            assert_eq!(probe::call(call, first, second), Err(expected), "{call} {first:#x} {second:#x}");
        }
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn thirty_two_bit_calls_are_filtered_by_their_own_numbers() {
    if probe::call_of_i386(20, 0) == Err(libc::ENOSYS) {
        eprintln!("SKIPPED: this kernel runs no 32-bit programs");
        return;
    }
    under(built_in(CapSet::EMPTY), || {
        assert!(probe::call_of_i386(20, 0).is_ok());
        assert_eq!(probe::call_of_i386(310, 0x1000_0000), Err(libc::EPERM));
        assert_eq!(probe::call_of_i386(359, 38), Err(libc::EPERM));
        assert_eq!(probe::call_of_i386(359, 40), Err(libc::EPERM));
    });
}

#[test]
fn programs_and_threads_run_under_it() {
    under(built_in(CapSet::DEFAULT), || {
        let shell = Command::new("sh").args(["-c", "ls / | sort | tail -1 >/dev/null && echo fine"]).output();
        assert_eq!(shell.unwrap().stdout, b"fine\n");
        assert_eq!(thread::spawn(|| 42).join().unwrap(), 42);
    });
}

#[test]
fn a_profile_of_the_users_is_compiled_and_loaded() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errno": "EXDEV"}]}"#;
    under(filter(Choice::Profile(json), CapSet::DEFAULT).unwrap().unwrap(), || {
        assert_eq!(probe::call(libc::SYS_getppid, 0, 0), Err(libc::EXDEV));
        assert!(probe::call(libc::SYS_getpid, 0, 0).is_ok());
    });
}

#[test]
fn a_malformed_profile_is_an_error_with_a_fix() {
    let error = filter(Choice::Profile("{"), CapSet::DEFAULT).unwrap_err();
    assert!(matches!(error, Error::Syntax(_)));
    assert!(error.fix().is_some());
}

/// Not a check: `cargo test --lib seccomp:: -- --ignored --nocapture` prints what compiling at run time costs.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_compiling_at_run_time() {
    let set = capabilities(&["SYS_ADMIN"]);
    let start = Instant::now();
    for _ in 0..100 {
        built_in(set);
    }
    eprintln!("{:?} each, {} bytes", start.elapsed() / 100, built_in(set).program().len());
}
