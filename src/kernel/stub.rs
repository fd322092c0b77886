//! The last program before the user's command.
//!
//! A container's root is mapped to the user who owns our binary, and between an `execve(2)` that resolves a
//! script's interpreter and the end of that call, `/proc/self/exe` still names the program that made it. An
//! entry point of `#!/proc/self/exe` would therefore run *us* inside the container, and let the container open
//! us for writing (CVE-2019-5736). So the process that was ours runs a stub first: some seventy bytes of
//! position-independent code of this file, in an ELF header, in a sealed memfd. The stub is what
//! `/proc/self/exe` leads to from then on, it holds nothing worth reading, and no one can write it.
//!
//! The stub's arguments are `[path, argv0, argv1…]`, and all it does is:
//! 1. set `FD_CLOEXEC` on the error descriptor, whose number is patched into the image (it has to survive the
//!    exec of the stub and must not survive the next one);
//! 2. `execve(path, [argv0, argv1…], envp)`;
//! 3. if either fails: write the error number as four bytes to the error descriptor, and exit with 127.
//!
//! Step 1 fails when the descriptor is not there, which is so when a container runs `/proc/self/exe` by that
//! trick: the stub ends instead of executing itself for ever.
//!
//! Where `vm.memfd_noexec=2` forbids executable memfds, the image is a file on a read-only tmpfs that is mounted
//! nowhere; making one takes `CAP_SYS_ADMIN` in the caller's own user and mount namespace.

use nix::fcntl::AtFlags;
use nix::libc;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags};
use std::arch::global_asm;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

// On entry the stack pointer is at argc, followed by the pointers of argv, a null, those of envp, a null.
// The last word is the number of the error descriptor. The text lies in read-only data: here it is never run.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.coracle_stub, \"a\"",
    "coracle_stub_start:",
    "mov rbx, rsp",
    "mov edi, dword ptr [rip + 4f]",
    "mov esi, {F_SETFD}",
    "mov edx, {FD_CLOEXEC}",
    "mov eax, {fcntl}",
    "syscall",
    "test rax, rax",
    "js 3f",
    "mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "lea rsi, [rbx + 16]",
    "lea rdx, [rbx + rax * 8 + 16]",
    "mov eax, {execve}",
    "syscall",
    "3:",
    "neg eax",
    "push rax",
    "mov edi, dword ptr [rip + 4f]",
    "mov rsi, rsp",
    "mov edx, 4",
    "mov eax, {write}",
    "syscall",
    "mov edi, 127",
    "mov eax, {exit_group}",
    "syscall",
    "ud2",
    ".balign 4",
    "4: .long 0",
    "coracle_stub_end:",
    ".popsection",
    F_SETFD = const libc::F_SETFD,
    FD_CLOEXEC = const libc::FD_CLOEXEC,
    fcntl = const libc::SYS_fcntl,
    execve = const libc::SYS_execve,
    write = const libc::SYS_write,
    exit_group = const libc::SYS_exit_group,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.coracle_stub, \"a\"",
    ".balign 4",
    "coracle_stub_start:",
    "mov x19, sp",
    "ldr w0, 4f",
    "mov x1, #{F_SETFD}",
    "mov x2, #{FD_CLOEXEC}",
    "mov x8, #{fcntl}",
    "svc #0",
    "tbnz x0, #63, 3f",
    "ldr x9, [x19]",
    "ldr x0, [x19, #8]",
    "add x1, x19, #16",
    "add x2, x1, x9, lsl #3",
    "mov x8, #{execve}",
    "svc #0",
    "3:",
    "neg w0, w0",
    "str w0, [sp, #-16]!",
    "ldr w0, 4f",
    "mov x1, sp",
    "mov x2, #4",
    "mov x8, #{write}",
    "svc #0",
    "mov x0, #127",
    "mov x8, #{exit_group}",
    "svc #0",
    "udf #0",
    "4: .long 0",
    "coracle_stub_end:",
    ".popsection",
    F_SETFD = const libc::F_SETFD,
    FD_CLOEXEC = const libc::FD_CLOEXEC,
    fcntl = const libc::SYS_fcntl,
    execve = const libc::SYS_execve,
    write = const libc::SYS_write,
    exit_group = const libc::SYS_exit_group,
);

#[cfg(target_arch = "riscv64")]
global_asm!(
    ".pushsection .rodata.coracle_stub, \"a\"",
    ".balign 4",
    "coracle_stub_start:",
    "mv s0, sp",
    "lla s1, 4f",
    "lw a0, 0(s1)",
    "li a1, {F_SETFD}",
    "li a2, {FD_CLOEXEC}",
    "li a7, {fcntl}",
    "ecall",
    "bltz a0, 3f",
    "ld t0, 0(s0)",
    "ld a0, 8(s0)",
    "addi a1, s0, 16",
    "slli t0, t0, 3",
    "add a2, a1, t0",
    "li a7, {execve}",
    "ecall",
    "3:",
    "negw a0, a0",
    "addi sp, sp, -16",
    "sw a0, 0(sp)",
    "lw a0, 0(s1)",
    "mv a1, sp",
    "li a2, 4",
    "li a7, {write}",
    "ecall",
    "li a0, 127",
    "li a7, {exit_group}",
    "ecall",
    "ebreak",
    ".balign 4",
    "4: .long 0",
    "coracle_stub_end:",
    ".popsection",
    F_SETFD = const libc::F_SETFD,
    FD_CLOEXEC = const libc::FD_CLOEXEC,
    fcntl = const libc::SYS_fcntl,
    execve = const libc::SYS_execve,
    write = const libc::SYS_write,
    exit_group = const libc::SYS_exit_group,
);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("kernel/stub.rs has no code for this architecture");

unsafe extern "C" {
    #[link_name = "coracle_stub_start"]
    static STUB_START: u8;
    #[link_name = "coracle_stub_end"]
    static STUB_END: u8;
}

/// `e_machine` of the ELF header.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    libc::EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    libc::EM_AARCH64
} else {
    libc::EM_RISCV
};

const EHDR_SIZE: u16 = 64;
const PHDR_SIZE: u16 = 56;
/// Where the code starts in the file and in memory.
const ENTRY: u64 = EHDR_SIZE as u64 + 2 * PHDR_SIZE as u64;

/// The stub's code with the descriptor's number in its last word.
fn code(error_fd: RawFd) -> Vec<u8> {
    // SAFETY: both symbols are labels of the one block of `global_asm!` above that was assembled, start before
    // end, in one read-only section: the bytes between them are initialized, never written, and live for ever.
    let text = unsafe {
        let start = &raw const STUB_START;
        std::slice::from_raw_parts(start, (&raw const STUB_END).addr() - start.addr())
    };
    let (text, _placeholder) = text.split_at(text.len() - 4);
    [text, &error_fd.to_le_bytes()].concat()
}

/// A whole ELF file (elf(5)): a position-independent program without an interpreter, in one segment that is
/// readable and executable, with a stack that is not executable.
fn image(error_fd: RawFd) -> Vec<u8> {
    let code = code(error_fd);
    let size = ENTRY + code.len() as u64;
    let mut elf = Vec::with_capacity(512);
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bit, little endian, version 1
    elf.extend(libc::ET_DYN.to_le_bytes());
    elf.extend(MACHINE.to_le_bytes());
    elf.extend(1u32.to_le_bytes()); // version
    elf.extend(ENTRY.to_le_bytes());
    elf.extend(u64::from(EHDR_SIZE).to_le_bytes()); // program headers
    elf.extend(0u64.to_le_bytes()); // section headers
    elf.extend(0u32.to_le_bytes()); // flags
    for half in [EHDR_SIZE, PHDR_SIZE, 2, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u32, flags: u32, size: u64, align: u64| {
        elf.extend(kind.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for word in [0, 0, 0, size, size, align] {
            elf.extend(word.to_le_bytes());
        }
    };
    segment(libc::PT_LOAD, libc::PF_R | libc::PF_X, size, 0x10000); // arm64 may have pages of 64 KiB
    segment(libc::PT_GNU_STACK, libc::PF_R | libc::PF_W, 0, 16);
    elf.extend(code);
    elf
}

/// Makes the stub, in a file that nobody can write and that is closed on exec. It will report a failing exec of
/// the command on `error_fd`: a pipe's writing end, which must be open and *not* close-on-exec when
/// [`exec`] is called.
pub fn prepare(error_fd: RawFd) -> io::Result<OwnedFd> {
    let image = image(error_fd);
    match in_memfd(&image) {
        // EACCES: vm.memfd_noexec=2. EPERM, ENOSYS: we run under a filter that knows no memfd.
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::ACCESS | Errno::PERM | Errno::NOSYS)) => {
            on_tmpfs(&image)
        }
        made => made,
    }
}

fn in_memfd(image: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match rustix::fs::memfd_create(c"init", flags | MemfdFlags::EXEC) {
        // Before 6.3 every memfd was executable and the flag was unknown.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"init", flags)?,
        made => made?,
    };
    let mut file = File::from(memfd);
    file.write_all(image)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

/// The file system itself becomes read-only, not just a mount of it: whoever could get at the file by another
/// mount could not write it either, and its owner, who may reconfigure it, is a namespace above the container's.
fn on_tmpfs(image: &[u8]) -> io::Result<OwnedFd> {
    let tmpfs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = rustix::mount::fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let created = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&mount, c"init", created, Mode::from_raw_mode(0o555))?;
    let mut file = File::from(file);
    // The mode given to openat goes through the umask.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o555))?;
    file.write_all(image)?;
    drop(file);
    let picked = rustix::mount::fspick(
        &mount,
        c"",
        FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_NO_AUTOMOUNT,
    )?;
    rustix::mount::fsconfig_set_flag(picked.as_fd(), c"ro")?;
    rustix::mount::fsconfig_reconfigure(picked.as_fd())?;
    Ok(rustix::fs::openat(&mount, c"init", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Becomes the stub, which becomes `path` with these arguments and this environment. Returns only the error of
/// executing the stub itself; that of executing `path` comes out of the error descriptor (see [`read_error`]).
pub fn exec(stub: &OwnedFd, path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let mut args = Vec::with_capacity(argv.len() + 1);
    args.push(path);
    args.extend(argv.iter().map(CString::as_c_str));
    let Err(error) = nix::unistd::execveat(stub, c"", &args, env, AtFlags::AT_EMPTY_PATH);
    if matches!(error, nix::Error::EPERM | nix::Error::ENOSYS)
        && let Ok(by_proc) = CString::new(format!("/proc/self/fd/{}", stub.as_raw_fd()))
    {
        // A user's own seccomp profile may allow execve and not execveat.
        let Err(_) = nix::unistd::execve(&by_proc, &args, env);
    }
    error.into()
}

/// What came out of the error pipe's reading end: nothing when the command was executed, else why it was not.
/// Blocks until the writing end has been closed by success, by failure or by death.
pub fn read_error(pipe: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let mut raw = [0; 4];
    let mut have = 0;
    while have < raw.len() {
        match rustix::io::read(pipe, &mut raw[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Some(io::Error::from_raw_os_error(i32::from_ne_bytes(raw))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};
    use std::time::Instant;

    /// High enough to be nobody else's in a test process.
    const ERROR_FD: RawFd = 900;

    fn words(words: &[&str]) -> Vec<CString> {
        words.iter().map(|w| CString::new(*w).unwrap()).collect()
    }

    /// Runs `path` through the stub in a child; gives its output and what the error pipe said.
    fn run(stub: OwnedFd, path: &str, argv: &[&str]) -> (Output, Option<i32>) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let path = CString::new(path).unwrap();
        let argv = words(argv);
        let env = words(&["PATH=/usr/bin:/bin", "MARK=from-the-test"]);
        let raw = writer.as_raw_fd();
        let mut command = Command::new("/nonexistent");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec the closure makes system calls and allocates; glibc's allocator is
        // usable in the child of a fork, and nothing else that another thread may have locked is touched.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(raw, ERROR_FD) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Err(exec(&stub, &path, &argv, &env))
            });
        }
        let child = command.spawn().unwrap();
        drop((command, writer));
        let error = read_error(reader.as_fd()).unwrap();
        (child.wait_with_output().unwrap(), error.map(|e| e.raw_os_error().unwrap()))
    }

    fn script(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_command_gets_its_arguments_and_environment_and_no_error_descriptor() {
        let argv =
            ["argv-zero", "-c", "echo $0 $1 $MARK; ls /proc/self/fd | sort -n | tail -1", "zero", "one"];
        for (stub, _) in in_each_place() {
            let (output, error) = run(stub, "/bin/sh", &argv);
            assert_eq!(error, None);
            let text = String::from_utf8(output.stdout).unwrap();
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some("zero one from-the-test"), "{:?}", output.stderr);
            assert!(lines.next().unwrap().parse::<RawFd>().unwrap() < ERROR_FD);
            assert!(output.status.success());
        }
    }

    #[test]
    fn the_errors_of_exec_come_back_and_the_exit_code_is_127() {
        let folder = tempfile::tempdir().unwrap();
        let not_a_program = script(folder.path(), "text", "just text\n", 0o755);
        let not_executable = script(folder.path(), "plain", "#!/bin/sh\n", 0o644);
        for (path, expected) in [
            ("/nonexistent/command", libc::ENOENT),
            (not_executable.to_str().unwrap(), libc::EACCES),
            (not_a_program.to_str().unwrap(), libc::ENOEXEC),
            (folder.path().to_str().unwrap(), libc::EACCES),
        ] {
            let (output, error) = run(prepare(ERROR_FD).unwrap(), path, &["x"]);
            assert_eq!(error, Some(expected), "{path}");
            assert_eq!(output.status.code(), Some(127), "{path}");
        }
    }

    #[test]
    fn it_ends_when_the_error_descriptor_is_not_there() {
        let stub = prepare(ERROR_FD + 1).unwrap();
        let (output, error) = run(stub, "/bin/true", &["true"]);
        assert_eq!(output.status.code(), Some(127));
        assert_eq!(error, None);
    }

    /// The stub in each of the two places that this machine lets us put it in, and what they are called.
    fn in_each_place() -> Vec<(OwnedFd, &'static str)> {
        let image = image(ERROR_FD);
        let places = [(in_memfd(&image), "/memfd:init (deleted)"), (on_tmpfs(&image), "/init")];
        let possible = |(made, name): (io::Result<OwnedFd>, _)| match made {
            Ok(stub) => Some((stub, name)),
            Err(e) => {
                assert!(matches!(Errno::from_io_error(&e), Some(Errno::ACCESS | Errno::PERM)), "{name}: {e}");
                eprintln!("SKIPPED: {name}: {e} (vm.memfd_noexec, or no CAP_SYS_ADMIN in the namespace)");
                None
            }
        };
        let places: Vec<_> = places.into_iter().filter_map(possible).collect();
        assert!(!places.is_empty());
        places
    }

    #[test]
    fn nobody_can_write_it() {
        for (stub, name) in in_each_place() {
            let by_proc = format!("/proc/self/fd/{}", stub.as_raw_fd());
            let written = File::options().write(true).open(&by_proc).and_then(|mut file| file.write(b"evil"));
            let error = Errno::from_io_error(&written.unwrap_err()).unwrap();
            assert!(matches!(error, Errno::PERM | Errno::ROFS), "{name}: {error}");
            assert!(File::options().write(true).truncate(true).open(&by_proc).is_err(), "{name}");
            assert!(rustix::fs::ftruncate(&stub, 0).is_err(), "{name}");
            assert!(rustix::fs::fchmod(&stub, Mode::from_raw_mode(0o777)).is_err() || name.contains("memfd"));
        }
    }

    /// Follows every exec of a child with ptrace(2) and gives what `/proc/<pid>/exe` was after each.
    fn programs_of(stub: OwnedFd, path: &Path) -> Vec<String> {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        let argv = vec![path.clone()];
        let mut seen = Vec::new();
        // SAFETY: the child only makes system calls, allocates (see `run`) and ends by exec or _exit.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: plain system calls on values; the descriptor passed to dup2 is the child's standard error.
            unsafe {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::dup2(2, ERROR_FD);
                libc::close(2);
                exec(&stub, &path, &argv, &[]);
                libc::_exit(99);
            }
        }
        loop {
            let mut status = 0;
            // SAFETY: `status` outlives the call; `child` is our child and was not reaped yet.
            let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(reaped, child);
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                return seen;
            }
            let program = std::fs::read_link(format!("/proc/{child}/exe")).unwrap();
            seen.push(program.to_str().unwrap().to_owned());
            assert!(seen.len() < 10, "the stub executes itself for ever: {seen:?}");
            // SAFETY: `child` is stopped under our ptrace; no pointers are passed.
            unsafe { libc::ptrace(libc::PTRACE_CONT, child, 0, 0) };
        }
    }

    #[test]
    fn an_entry_point_of_proc_self_exe_reaches_the_stub_and_never_us() {
        let folder = tempfile::tempdir().unwrap();
        let evil = script(folder.path(), "evil", "#!/proc/self/exe\n", 0o755);
        for (stub, name) in in_each_place() {
            assert_eq!(programs_of(stub, &evil), [name, name]);
        }
    }

    /// Not a check: `cargo test --lib stub:: -- --ignored --nocapture` prints what the detour costs.
    #[test]
    #[ignore = "a measurement"]
    fn the_cost_of_the_detour() {
        const ROUNDS: u32 = 1000;
        let time = |detour: bool| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                let path = c"/bin/true";
                let argv = words(&["true"]);
                // SAFETY: the child only makes system calls, allocates (see `run`) and ends by exec or _exit.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: plain system calls on values.
                    unsafe {
                        if detour {
                            libc::dup2(2, ERROR_FD);
                            let stub = prepare(ERROR_FD).unwrap();
                            exec(&stub, path, &argv, &[]);
                        } else {
                            let _ = nix::unistd::execve::<_, CString>(path, &argv, &[]);
                        }
                        libc::_exit(99);
                    }
                }
                let mut status = 0;
                // SAFETY: `status` outlives the call; `child` is our child.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(status, 0);
            }
            start.elapsed() / ROUNDS
        };
        let start = Instant::now();
        for _ in 0..ROUNDS {
            prepare(ERROR_FD).unwrap();
        }
        let made = start.elapsed() / ROUNDS;
        let (direct, detour) = (time(false), time(true));
        eprintln!("prepare {made:?}, direct {direct:?}, through the stub {detour:?} (its making included)");
    }

    #[test]
    fn an_interrupted_report_is_an_error_and_silence_is_success() {
        let report = |bytes: &[u8]| {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            File::from(writer).write_all(bytes).unwrap();
            read_error(reader.as_fd()).map(|e| e.map(|e| e.raw_os_error().unwrap()))
        };
        assert_eq!(report(b"").unwrap(), None);
        assert_eq!(report(&2i32.to_ne_bytes()).unwrap(), Some(2));
        assert_eq!(report(b"ab").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_image_is_small_and_ends_with_the_descriptor() {
        let stub = prepare(7).unwrap();
        let mut image = Vec::new();
        let by_proc = format!("/proc/self/fd/{}", stub.as_raw_fd());
        File::open(by_proc).unwrap().read_to_end(&mut image).unwrap();
        assert!(image.len() < 400, "{}", image.len());
        assert!(image.ends_with(&7i32.to_le_bytes()));
    }
}
