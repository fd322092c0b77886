//! Loading a system call filter (seccomp(2)).

use nix::libc;
use std::io;

/// One instruction of a filter is eight bytes: `struct sock_filter` of linux/filter.h.
const INSTRUCTION: usize = size_of::<libc::sock_filter>();

/// Installs `filter`, a classic BPF program as an array of `struct sock_filter` in the byte order of the machine,
/// on the calling thread, for good. `flags` are those of `SECCOMP_SET_MODE_FILTER`. The caller must have
/// set `no_new_privs` or hold `CAP_SYS_ADMIN` in its user namespace.
pub fn install(filter: &[u8], flags: u32) -> io::Result<()> {
    let whole = filter.len().is_multiple_of(INSTRUCTION);
    let Some(count) = whole.then(|| u16::try_from(filter.len() / INSTRUCTION).ok()).flatten() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // The kernel copies the program from here as bytes (copy_from_user): it asks for no alignment, and never
    // writes through this pointer although its type is mutable.
    let program = libc::sock_fprog { len: count, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: `program` and the `count` instructions it points to are initialized and outlive the call; the
    // kernel only reads them. What the filter then does to this thread's system calls is what it is for: it makes
    // them fail or ends the process, and can not make one do something else.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    // With SECCOMP_FILTER_FLAG_TSYNC alone the result can be positive: a thread that could not be synchronised.
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
