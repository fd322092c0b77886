//! The session keyring (session-keyring(7)).

use nix::libc;
use std::io;

/// Gives this process a new, empty session keyring instead of the one that it has from its caller (keyctl(2),
/// `KEYCTL_JOIN_SESSION_KEYRING`). A kernel without keys, and a filter that refuses keyctl to us and so to whatever
/// we execute, leave nothing to hide.
///
/// # Errors
/// `EDQUOT` if the user has as many keys as `kernel.keys.maxkeys` allows.
pub fn leave_session() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; the kernel reads and writes no memory of ours.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    match io::Error::last_os_error() {
        _ if serial >= 0 => Ok(()),
        e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP)) => Ok(()),
        e => Err(e),
    }
}
