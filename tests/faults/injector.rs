//! Runs a command under ptrace(2), counts the state-changing system calls of each of its processes, and makes one of
//! them the last (SIGKILL before it is done) or a failure (a chosen errno instead of it).
//!
//! Nothing in the program under test knows of this. A hook in its code would see only calls that go through the hook,
//! and would be a second program to test; the kernel sees all of them, those of libraries included. strace(1) can
//! inject too, but counts each process's calls for itself with one rule for all: it cannot kill the monitor alone at
//! its fifth call. And what an ordinary user traces can execute no set-id program, so that newuidmap must not be
//! traced: here it is not, because it is started by vfork(2), which is not followed.
//!
//! A process is called by how it came to be: `0` is the command, `0.1` its second child, `0.1t0` a thread of that. So a
//! point ([`Point`]) is the same one in the next run of the same command, however processes interleave.

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command under trace may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the end of the command itself: how long nothing must happen in what it left running.
const QUIET: Duration = Duration::from_millis(120);

/// One system call of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// Which process, by its ancestry.
    pub process: String,
    /// Its how-manieth state-changing call, from 0.
    pub number: usize,
}

/// What is seen of a state-changing call.
#[derive(Clone, Debug)]
pub struct Call {
    pub point: Point,
    pub name: &'static str,
    /// The path that it is about, if it is about one.
    pub path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point { process, number } = &self.point;
        write!(f, "call {number} of process {process}, {}({})", self.name, self.path)
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to the process, before the call is done.
    Kill,
    /// SIGKILL to all processes that the command has, before the call is done.
    KillAll,
    /// SIGINT to those that a Ctrl-C reaches, before the call is done.
    Interrupt,
    /// The call is not done and fails so.
    Fail(Errno),
}

/// Something to happen.
#[derive(Clone, Copy)]
pub enum Fault<'a> {
    /// Only watch.
    None,
    /// At one point.
    At(&'a Point, Action),
    /// Each call of which this is true fails so.
    Each(&'a dyn Fn(&Call) -> bool, Errno),
}

/// A command that was run.
pub struct Traced {
    /// Its exit code, 128 + n if a signal ended it.
    pub code: i32,
    /// The calls of all its processes, in order.
    pub calls: Vec<Call>,
    /// Whether the point was reached.
    pub hit: bool,
    /// All processes that it had, dead or not.
    pub processes: Vec<i32>,
}

/// Called while a process stands still after a call that succeeded.
pub type Watch<'a> = &'a mut (dyn FnMut(&Call, Pid, [u64; 6]) + 'a);

struct Tracee {
    name: String,
    children: usize,
    calls: usize,
    is_thread_of: Option<Pid>,
    /// At the exit of the call that it is in, this is its result.
    fails: Option<Errno>,
    current: Option<(Call, [u64; 6])>,
}

struct Tracer<'a> {
    root: Pid,
    program: PathBuf,
    fault: Fault<'a>,
    watch: Option<Watch<'a>>,
    tracees: HashMap<Pid, Tracee>,
    /// Stopped before its parent's stop said who it is.
    early: Vec<Pid>,
    has_begun: bool,
    out: Traced,
}

/// Runs a command with a fault. `command` begins with [`WRAPPER`]; the program that it executes is `program`.
pub fn trace<'a>(
    mut command: Command,
    program: PathBuf,
    fault: Fault<'a>,
    watch: Option<Watch<'a>>,
) -> Traced {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let root = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(root, options).unwrap();
    ptrace::interrupt(root).unwrap();
    let first =
        Tracee { name: "0".into(), children: 0, calls: 0, is_thread_of: None, fails: None, current: None };
    let out = Traced { code: -1, calls: Vec::new(), hit: false, processes: vec![root.as_raw()] };
    let mut tracer = Tracer {
        root,
        program,
        fault,
        watch,
        tracees: HashMap::from([(root, first)]),
        early: Vec::new(),
        has_begun: false,
        out,
    };
    tracer.run(&mut child);
    tracer.out
}

/// What a command is put behind: it waits until the tracer has hold of it.
pub const WRAPPER: [&str; 4] = ["sh", "-c", "read go; exec \"$@\"", "sh"];

impl Tracer<'_> {
    fn run(&mut self, child: &mut Child) {
        let mut stdin = child.stdin.take();
        let end = Instant::now() + PATIENCE;
        let (mut last, mut idle) = (Instant::now(), 0);
        let mut is_over = false;
        // Only this thread's tracees: other threads of the test have children too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => {
                    idle += 1;
                    if idle > 30 {
                        std::thread::sleep(Duration::from_micros(200));
                    } else {
                        std::thread::yield_now();
                    }
                    if is_over && last.elapsed() > QUIET {
                        break;
                    }
                    if Instant::now() > end {
                        self.kill_all();
                        panic!("the command under trace did not end; last calls: {:#?}", self.tail());
                    }
                    continue;
                }
                Ok(status) => {
                    (last, idle) = (Instant::now(), 0);
                    self.handle(status, &mut is_over);
                    // It is held: now it may go on to its exec.
                    if let Some(mut stdin) = stdin.take() {
                        stdin.write_all(b"\n").unwrap();
                    }
                }
                Err(Errno::ECHILD) => break,
                Err(Errno::EINTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // The end of this thread, or the next command's trace, must not find them: whoever still runs goes on untraced.
        let left: Vec<Pid> = self.tracees.keys().copied().collect();
        for pid in left {
            if ptrace::interrupt(pid).is_ok()
                && waitpid(pid, Some(WaitPidFlag::__WALL)).is_ok_and(|s| s.pid() == Some(pid))
            {
                let _ = ptrace::detach(pid, None);
            }
        }
        // And those that were just being born, of whom nothing was known, or nothing but their first stop: they would stay
        // stopped with all that they hold.
        for pid in std::mem::take(&mut self.early) {
            let _ = ptrace::detach(pid, None);
        }
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
                Ok(status) => drop(status.pid().map(|pid| ptrace::detach(pid, None))),
                Err(_) => break,
            }
        }
    }

    fn tail(&self) -> Vec<String> {
        self.out.calls.iter().rev().take(12).map(ToString::to_string).collect()
    }

    fn handle(&mut self, status: WaitStatus, is_over: &mut bool) {
        match status {
            WaitStatus::Exited(pid, code) => self.ended(pid, code, is_over),
            WaitStatus::Signaled(pid, signal, _) => self.ended(pid, 128 + signal as i32, is_over),
            WaitStatus::PtraceSyscall(pid) => {
                if self.tracees.contains_key(&pid) {
                    self.system_call(pid);
                }
                self.resume(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            _ => {}
        }
    }

    fn ended(&mut self, pid: Pid, code: i32, is_over: &mut bool) {
        self.tracees.remove(&pid);
        self.early.retain(|early| *early != pid);
        if pid == self.root {
            self.out.code = code;
            *is_over = true;
        }
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // One that was killed meanwhile is no error.
        let _ = ptrace::syscall(pid, signal);
    }

    fn event(&mut self, pid: Pid, event: i32) {
        use nix::libc::{PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_FORK};
        match event {
            PTRACE_EVENT_CLONE | PTRACE_EVENT_FORK => {
                if let Ok(number) = ptrace::getevent(pid) {
                    self.born(pid, Pid::from_raw(i32::try_from(number).unwrap()));
                }
            }
            PTRACE_EVENT_EXEC if pid == self.root => self.has_begun = true,
            PTRACE_EVENT_EXEC => {
                // The sealed stub is ours, the user's command is not.
                let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
                if !exe.as_os_str().is_empty() && exe != self.program && !exe.starts_with("/memfd:init") {
                    self.tracees.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                    return;
                }
            }
            // Its first stop.
            _ if !self.tracees.contains_key(&pid) => {
                self.early.push(pid);
                return;
            }
            _ => {}
        }
        self.resume(pid, None);
    }

    fn born(&mut self, parent: Pid, child: Pid) {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let group = status.lines().find_map(|l| l.strip_prefix("Tgid:")?.trim().parse::<i32>().ok());
        let group = group.map_or(child, Pid::from_raw);
        let is_thread_of = (group != child).then_some(group);
        let Some(above) = self.tracees.get_mut(&parent) else { return };
        let kind = if is_thread_of.is_some() { "t" } else { "." };
        let name = format!("{}{kind}{}", above.name, above.children);
        above.children += 1;
        let tracee = Tracee { name, children: 0, calls: 0, is_thread_of, fails: None, current: None };
        self.tracees.insert(child, tracee);
        if is_thread_of.is_none() {
            self.out.processes.push(child.as_raw());
        }
        if let Some(at) = self.early.iter().position(|early| *early == child) {
            self.early.remove(at);
            self.resume(child, None);
        }
    }

    fn kill_all(&self) {
        for (pid, tracee) in &self.tracees {
            let _ = kill(tracee.is_thread_of.unwrap_or(*pid), Signal::SIGKILL);
        }
    }

    /// The processes of the command's own process group: whoever made a session of its own has left it.
    fn interrupt(&self) {
        let group = getpgid(Some(self.root));
        for (pid, _) in self.tracees.iter().filter(|(_, tracee)| tracee.is_thread_of.is_none()) {
            if getpgid(Some(*pid)) == group {
                let _ = kill(*pid, Signal::SIGINT);
            }
        }
    }

    fn system_call(&mut self, pid: Pid) {
        use nix::libc::{PTRACE_SYSCALL_INFO_ENTRY, PTRACE_SYSCALL_INFO_EXIT};
        let Ok(regs) = ptrace::getregs(pid) else { return };
        let Ok(info) = ptrace::syscall_info(pid) else { return };
        match info.op {
            PTRACE_SYSCALL_INFO_ENTRY if self.has_begun => {
                let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
                self.entry(pid, regs.orig_rax, args);
            }
            PTRACE_SYSCALL_INFO_EXIT => {
                let Some(tracee) = self.tracees.get_mut(&pid) else { return };
                let current = tracee.current.take();
                if let Some(errno) = tracee.fails.take() {
                    let mut regs = regs;
                    regs.rax = i64::from(-(errno as i32)).cast_unsigned();
                    let _ = ptrace::setregs(pid, regs);
                } else if let (Some((call, args)), Some(watch)) = (current, &mut self.watch)
                    && regs.rax.cast_signed() >= 0
                {
                    watch(&call, pid, args);
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, pid: Pid, number: u64, args: [u64; 6]) {
        let Some((name, path)) = describe(pid, i64::try_from(number).unwrap_or(-1), args) else { return };
        let Some(tracee) = self.tracees.get_mut(&pid) else { return };
        let point = Point { process: tracee.name.clone(), number: tracee.calls };
        tracee.calls += 1;
        let call = Call { point, name, path };
        let (is_hit, action) = match self.fault {
            Fault::None => (false, Action::Kill),
            Fault::At(point, action) => (*point == call.point && !self.out.hit, action),
            Fault::Each(test, errno) => (test(&call), Action::Fail(errno)),
        };
        tracee.current = Some((call.clone(), args));
        self.out.calls.push(call);
        if !is_hit {
            return;
        }
        self.out.hit = true;
        match action {
            Action::Kill => {
                let _ = kill(tracee.is_thread_of.unwrap_or(pid), Signal::SIGKILL);
            }
            Action::KillAll => self.kill_all(),
            Action::Interrupt => self.interrupt(),
            Action::Fail(errno) => {
                tracee.fails = Some(errno);
                if let Ok(mut regs) = ptrace::getregs(pid) {
                    // No such call: the kernel does nothing.
                    regs.orig_rax = u64::MAX;
                    let _ = ptrace::setregs(pid, regs);
                }
            }
        }
    }
}

/// The name of a call that changes something that others can see, and the path that it is about.
#[allow(non_upper_case_globals, reason = "the C library names its constants so")]
fn describe(pid: Pid, number: i64, args: [u64; 6]) -> Option<(&'static str, String)> {
    use nix::libc::*;
    let path = |at: usize| text(pid, args[at]);
    let of_descriptor = |at: usize| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{}", args[at]));
        link.map(|l| l.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let creates = |flags: u64| {
        let wanted = OFlags::CREATE | OFlags::TRUNC | OFlags::TMPFILE.difference(OFlags::DIRECTORY);
        OFlags::from_bits_retain(u32::try_from(flags & 0xffff_ffff).unwrap_or(0)).intersects(wanted)
    };
    let none = String::new;
    Some(match number {
        SYS_open if creates(args[1]) => ("open", path(0)),
        SYS_openat if creates(args[2]) => ("openat", path(1)),
        SYS_openat2 if creates(word(pid, args[2])) => ("openat2", path(1)),
        SYS_creat => ("creat", path(0)),
        SYS_mkdir => ("mkdir", path(0)),
        SYS_mkdirat => ("mkdirat", path(1)),
        SYS_rmdir => ("rmdir", path(0)),
        SYS_unlink => ("unlink", path(0)),
        SYS_unlinkat => ("unlinkat", path(1)),
        SYS_rename => ("rename", format!("{}, {}", path(0), path(1))),
        SYS_renameat => ("renameat", format!("{}, {}", path(1), path(3))),
        SYS_renameat2 => ("renameat2", format!("{}, {}", path(1), path(3))),
        SYS_link => ("link", path(1)),
        SYS_linkat => ("linkat", path(3)),
        SYS_symlink => ("symlink", path(1)),
        SYS_symlinkat => ("symlinkat", path(2)),
        SYS_mknod => ("mknod", path(0)),
        SYS_mknodat => ("mknodat", path(1)),
        SYS_write => ("write", of_descriptor(0)),
        SYS_writev => ("writev", of_descriptor(0)),
        SYS_pwrite64 => ("pwrite64", of_descriptor(0)),
        SYS_copy_file_range => ("copy_file_range", of_descriptor(2)),
        SYS_sendto => ("sendto", none()),
        SYS_sendmsg => ("sendmsg", none()),
        SYS_fsync => ("fsync", of_descriptor(0)),
        SYS_fdatasync => ("fdatasync", of_descriptor(0)),
        SYS_syncfs => ("syncfs", of_descriptor(0)),
        SYS_ftruncate => ("ftruncate", of_descriptor(0)),
        SYS_fallocate => ("fallocate", of_descriptor(0)),
        SYS_chmod => ("chmod", path(0)),
        SYS_fchmod => ("fchmod", of_descriptor(0)),
        SYS_fchmodat => ("fchmodat", path(1)),
        SYS_chown => ("chown", path(0)),
        SYS_lchown => ("lchown", path(0)),
        SYS_fchown => ("fchown", of_descriptor(0)),
        SYS_fchownat => ("fchownat", path(1)),
        SYS_setxattr | SYS_lsetxattr => ("setxattr", path(0)),
        SYS_fsetxattr => ("fsetxattr", of_descriptor(0)),
        SYS_utimensat => ("utimensat", none()),
        SYS_mount => ("mount", path(1)),
        SYS_umount2 => ("umount2", path(0)),
        SYS_move_mount => ("move_mount", path(3)),
        SYS_fsopen => ("fsopen", path(0)),
        SYS_fsmount => ("fsmount", none()),
        SYS_open_tree => ("open_tree", path(1)),
        SYS_mount_setattr => ("mount_setattr", none()),
        SYS_pivot_root => ("pivot_root", none()),
        SYS_chroot => ("chroot", path(0)),
        SYS_unshare => ("unshare", none()),
        SYS_setns => ("setns", of_descriptor(0)),
        SYS_clone | SYS_fork | SYS_vfork => ("fork", none()),
        SYS_clone3 => ("clone3", none()),
        SYS_execve => ("execve", path(0)),
        SYS_execveat => ("execveat", of_descriptor(0)),
        SYS_setsid => ("setsid", none()),
        SYS_setresuid => ("setresuid", none()),
        SYS_setresgid => ("setresgid", none()),
        SYS_sethostname => ("sethostname", none()),
        SYS_bind => ("bind", none()),
        SYS_listen => ("listen", none()),
        SYS_connect => ("connect", none()),
        SYS_socketpair => ("socketpair", none()),
        SYS_shutdown => ("shutdown", none()),
        SYS_kill | SYS_pidfd_send_signal => ("signal", none()),
        SYS_prctl if args[0] == u64::from(PR_SET_PDEATHSIG.unsigned_abs()) => ("prctl", none()),
        SYS_seccomp => ("seccomp", none()),
        // F_OFD_SETLK, F_OFD_SETLKW
        SYS_fcntl if matches!(args[1], 37 | 38) => ("lock", of_descriptor(0)),
        _ => return None,
    })
}

/// The text at an address of a process; at most what a path may have.
fn text(pid: Pid, address: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(memory) = File::open(format!("/proc/{pid}/mem")) {
        let mut chunk = [0; 64];
        while bytes.len() < 4096 {
            let Ok(count) = memory.read_at(&mut chunk, address + bytes.len() as u64) else { break };
            let part = chunk[..count].split(|b| *b == 0).next().unwrap_or_default();
            bytes.extend(part);
            if part.len() < count || count == 0 {
                break;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn word(pid: Pid, address: u64) -> u64 {
    let mut bytes = [0; 8];
    let memory = File::open(format!("/proc/{pid}/mem"));
    memory.and_then(|m| m.read_exact_at(&mut bytes, address)).map_or(0, |()| u64::from_ne_bytes(bytes))
}
