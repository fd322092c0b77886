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

/// System calls by number, as a filter sees them, for the tests of filters.
#[cfg(test)]
pub(crate) mod probe {
    use nix::libc::{self, c_long};
    use std::io;

    /// Calls that do no harm whatever their first argument is, when all the others are null: they read nothing
    /// but numbers, or fail on an address or a length of zero.
    const HARMLESS: &[c_long] = &[
        libc::SYS_getpid,
        libc::SYS_socket,
        libc::SYS_ioctl,
        libc::SYS_personality,
        libc::SYS_unshare,
        libc::SYS_clone3,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_chroot,
        libc::SYS_keyctl,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_init_module,
        libc::SYS_kexec_load,
        libc::SYS_open_by_handle_at,
        libc::SYS_getppid,
        100_000,
    ];

    fn answer(result: i64) -> Result<i64, i32> {
        if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
    }

    /// The call with up to two arguments; the others are null.
    pub fn call(number: c_long, first: u64, second: u64) -> Result<i64, i32> {
        assert!(HARMLESS.contains(&number));
        assert!(second == 0 || number == libc::SYS_ioctl);
        // SAFETY: see HARMLESS; a second argument has only ioctl, on terminals' requests with a null address.
        answer(unsafe { libc::syscall(number, first, second, 0, 0, 0, 0) })
    }

    /// The call as a 32-bit program makes it: getpid, or unshare or socket of something.
    #[cfg(target_arch = "x86_64")]
    pub fn call_of_i386(number: u32, first: u32) -> Result<i32, i32> {
        assert!([20, 310, 359].contains(&number));
        let result: i32;
        // SAFETY: three calls of 32-bit Linux that take numbers only. rbx, which LLVM keeps for itself, is put
        // back; kernels before 4.17 clear r8 to r11.
        unsafe {
            std::arch::asm!(
                "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
                first = inout(reg) u64::from(first) => _,
                inout("eax") number => result,
                in("ecx") 1, in("edx") 0, in("esi") 0, in("edi") 0,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        if result < 0 { Err(-result) } else { Ok(result) }
    }
}
