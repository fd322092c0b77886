//! What is left of the network's process after set-up: no capability but CAP_NET_ADMIN in the user's own namespace,
//! which its sockets and the cables of later containers need (none in the user-mode tier), and no system call but those that its loop makes.
//! It parses what containers send, so it is worth attacking (passt's isolation.c is the model).

use crate::netlink::Refused;
use crate::sandbox::capabilities::CapSet as Set;
use crate::sandbox::seccomp::{self, Choice};
use caps::{CapSet, Capability, CapsHashSet};
use std::io;

/// What the two threads do once they work. Opening files is for the host's resolv.conf, when that has changed.
const PROFILE: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "syscalls": [{
        "names": [
            "accept4", "bind", "brk", "clock_gettime", "clock_nanosleep", "close", "connect", "dup", "epoll_ctl", "epoll_pwait",
            "epoll_pwait2", "epoll_wait", "exit", "exit_group", "fcntl", "fstat", "futex", "getdents64", "getpeername", "getpid",
            "getrandom", "getsockname", "getsockopt", "gettid", "listen", "lseek", "madvise", "mmap", "mprotect", "mremap",
            "munmap", "newfstatat", "openat", "pipe2", "poll", "ppoll", "read", "readlink", "readlinkat", "recvfrom", "recvmsg", "restart_syscall",
            "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
            "sigaltstack", "socket", "splice", "statx", "tgkill", "write", "writev"
        ],
        "action": "SCMP_ACT_ALLOW"
    }]
}"#;

/// Confines the calling thread. Only where the kernel carries the packets (`is_kernel`) is there anything to set up later.
pub fn confine(is_kernel: bool) -> Result<(), Refused> {
    let what = "give privileges up";
    let kept: CapsHashSet = is_kernel.then_some(Capability::CAP_NET_ADMIN).into_iter().collect();
    let none = CapsHashSet::new();
    for (set, value) in [
        (CapSet::Ambient, &none),
        (CapSet::Effective, &kept),
        (CapSet::Permitted, &kept),
        (CapSet::Inheritable, &none),
    ] {
        caps::set(None, set, value).map_err(|e| Refused::to(what)(io::Error::other(e.to_string())))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(Refused::to(what))?;
    let filter = seccomp::filter(Choice::Profile(PROFILE), Set::EMPTY)
        .map_err(|e| Refused::to(what)(io::Error::other(e.to_string())))?;
    filter.iter().try_for_each(|filter| filter.install()).map_err(Refused::to(what))
}
