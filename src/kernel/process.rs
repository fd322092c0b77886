//! fork, clone3, close_range, process titles.

use nix::libc;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// Which side of a [`fork`] or [`clone`] this is.
#[derive(Debug)]
pub enum Side {
    /// The caller, with the child's pid in the caller's pid namespace and a descriptor of it.
    Parent(Child),
    /// The new process.
    Child,
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its pid, in the namespace of the caller.
    pub pid: i32,
    /// A pidfd of it (close-on-exec).
    pub pidfd: OwnedFd,
}

/// The `CLONE_*` flags of clone(2) that [`clone`] takes.
pub type CloneFlags = nix::sched::CloneFlags;

/// `struct clone_args` of linux/sched.h, up to `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// [`clone`] without new namespaces.
pub fn fork() -> io::Result<Side> {
    clone(CloneFlags::empty(), None)
}

/// Forks by clone3(2) into new namespaces and, if given, straight into a cgroup v2 folder.
///
/// With `CLONE_PARENT` the new process is a child of the caller's parent. The child is a copy of the whole
/// address space; destructors and buffers are its own copy, so it must end with [`exit_now`] or an exec.
///
/// # Errors
/// `EBUSY` if this process has more than one thread: a lock held by another thread would never be released in the
/// child. Otherwise what clone3 says.
pub fn clone(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    check_single_thread()?;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    let bits = u64::from(flags.bits().cast_unsigned());
    let parent_is_shared = bits & u64::from(libc::CLONE_PARENT.cast_unsigned()) != 0;
    let args = CloneArgs {
        flags: bits
            | u64::from(libc::CLONE_PIDFD.cast_unsigned())
            | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: (&raw mut pidfd) as u64,
        // clone3 refuses a signal together with CLONE_PARENT: the child then has its parent's.
        exit_signal: if parent_is_shared { 0 } else { u64::from(libc::SIGCHLD.cast_unsigned()) },
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
        ..Default::default()
    };
    // SAFETY: no CLONE_VM and no stack: the child continues on a copy of this stack, as after fork. The process
    // has one thread (checked above), so no lock of the C library or of ours is held by anybody else. `args` and
    // `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Side::Child),
        pid if pid > 0 => {
            let pid = i32::try_from(pid).unwrap_or(i32::MAX);
            // SAFETY: the kernel has just put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(Child { pid, pidfd }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `EBUSY` if this process has more than one thread. One that has been joined may still be on its way out of the kernel: that
/// is waited for, since whoever joined it would find no reason for an error.
pub(super) fn check_single_thread() -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let mut since = None;
    loop {
        // `.`, `..` and one folder per thread (proc_pid_task(5)).
        match rustix::fs::stat("/proc/self/task") {
            Ok(task) if task.st_nlink > 3 => {}
            _ => return Ok(()),
        }
        if since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Ends this process at once: no destructor, no buffer, no handler of the copy of the parent that it is.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Marks every descriptor from `first` on as close-on-exec (Linux 5.11), so that none leaks through an exec
/// (CVE-2024-21626).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; descriptors stay open, so no owner is surprised.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => close_on_exec_each(first),
        e => Err(e),
    }
}

fn close_on_exec_each(first: u32) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|n| n.parse::<u32>().ok()).filter(|fd| *fd >= first) else {
            continue;
        };
        // SAFETY: F_SETFD on a number; one that was closed meanwhile answers EBADF, which is fine.
        unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Forks this process's standard streams away from the caller's: replaces descriptor `target` (0, 1 or 2).
pub fn replace_stdio(fd: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    loop {
        // SAFETY: dup2 onto one of the three standard descriptors, which std treats as borrowed and always open.
        if unsafe { libc::dup2(fd.as_raw_fd(), target) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Owns a descriptor that was left open for this program by who executed it, and makes it close-on-exec.
///
/// # Errors
/// `EBADF` if it is not open or is one of the standard three, or if it is close-on-exec already: then this process
/// opened it itself and somebody here owns it.
pub fn inherited_fd(number: std::os::fd::RawFd) -> io::Result<OwnedFd> {
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    if number < 3 {
        return Err(bad());
    }
    // SAFETY: F_GETFD on a number; nothing is borrowed or changed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(bad());
    }
    // SAFETY: the descriptor is open, and everything that this process opens itself is close-on-exec, so that
    // nobody here owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Closes every descriptor from `first` on but one, which is returned under the number `first`: for a fork that takes up
/// other work than its parent's. It must be just that, and never return to what it was: whatever owned those
/// descriptors here is not to be used, or dropped, any more.
pub fn close_all_from(first: u32, keep: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::IntoRawFd;
    let keep = keep.into_raw_fd();
    let target = first.cast_signed();
    // SAFETY: dup3 and close_range take numbers. `keep` was ours; that the descriptors which are closed or replaced have no
    // user any more is what the caller, a fork that ends with exit_now, promises: their owners are never dropped.
    unsafe {
        if keep != target && libc::dup3(keep, target, libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::syscall(libc::SYS_close_range, first + 1, libc::c_uint::MAX, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(target))
    }
}

/// Closes what the caller of this program left open beyond the standard streams, but for the numbers in `keep`: a monitor
/// would keep it open (a lock, the end of a pipe that somebody waits on) for as long as its container lives. Everything
/// that this process opens itself is close-on-exec, so what is not was inherited.
pub fn close_inherited(keep: &[i32]) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.parse().ok());
        if let Some(Ok(fd)) = number.filter(|n| !keep.contains(n)).map(inherited_fd) {
            drop(fd);
        }
    }
    Ok(())
}

/// Whether a descriptor is open and was left open for this program, as [`inherited_fd`] would take it.
pub fn is_inherited(number: i32) -> bool {
    // SAFETY: F_GETFD on a number; nothing is borrowed or changed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    number >= 3 && flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Leaves descriptors open over the next exec again that [`close_on_exec_from`] has marked.
pub fn keep_over_exec(numbers: &[i32]) -> io::Result<()> {
    for number in numbers {
        // SAFETY: F_SETFD on a number; nothing is borrowed, and who owns it is not surprised by a descriptor that
        // stays open.
        if unsafe { libc::fcntl(*number, libc::F_SETFD, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// All signals unblocked, and the default action for all: what is ignored or blocked stays so over an exec. std ignores
/// SIGPIPE, nohup SIGHUP, and a caller may have ignored any other.
pub fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of ours. SIGKILL, SIGSTOP and what the C library keeps for itself answer EINVAL.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Sets the execution domain of this process (personality(2)).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: takes a number and changes how later system calls of this process behave; the domains that we know of
    // change what uname(2) says.
    match unsafe { libc::personality(libc::c_ulong::from(domain)) } {
        n if n >= 0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes over descriptors that the caller of this program hands to a container. They keep their numbers.
///
/// # Errors
/// `EBADF` if one is not open.
pub fn preserved_fds(numbers: &[i32]) -> io::Result<Vec<OwnedFd>> {
    numbers.iter().copied().map(inherited_fd).collect()
}

/// execveat(2) of an open file. Returns only if it fails.
pub fn exec_descriptor(
    file: BorrowedFd<'_>,
    argv: &[std::ffi::CString],
    env: &[std::ffi::CString],
) -> io::Error {
    let pointers = |list: &[std::ffi::CString]| {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with a null pointer and point to C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Changes the command line that ps(1) shows, as far as the original one's space reaches.
pub fn set_title(title: &str) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc_pid_stat(5): after the name in parentheses, field 3 comes first; arg_start and arg_end are 48 and 49.
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(48 - 3);
    let mut address = || fields.next().and_then(|f| f.parse::<usize>().ok());
    let (Some(start), Some(end)) = (address(), address()) else { return Ok(()) };
    if start == 0 || end <= start {
        return Ok(());
    }
    let mut line = vec![0; end - start];
    let text = OsStr::new(title).as_bytes();
    let shown = text.len().min(line.len() - 1);
    line[..shown].copy_from_slice(&text[..shown]);
    // SAFETY: [start, end) is where the kernel put this process's arguments on the initial stack: mapped, writable,
    // and only read by std::env::args, which copies; nothing of ours holds a reference into it.
    unsafe {
        std::ptr::copy_nonoverlapping(line.as_ptr(), std::ptr::with_exposed_provenance_mut(start), line.len())
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_cannot_fork() {
        // The test harness itself has a second thread.
        assert_eq!(fork().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn threads_that_have_ended_do_not_keep_a_process_from_forking() {
        // SAFETY: the C library's fork keeps its own locks usable in the child, which does nothing with anybody else's.
        let alone = match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => child,
            nix::unistd::ForkResult::Child => {
                for _ in 0..100 {
                    // A scope waits for the end of what a thread does, not of the thread.
                    std::thread::scope(|scope| drop(scope.spawn(|| std::hint::black_box(1))));
                    match fork() {
                        Ok(Side::Child) => exit_now(0),
                        Ok(Side::Parent(_)) => {}
                        Err(_) => exit_now(1),
                    }
                }
                exit_now(0)
            }
        };
        let ended = nix::sys::wait::waitpid(alone, None).unwrap();
        assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(alone, 0));
    }
}
