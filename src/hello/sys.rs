//! The few system calls that the standard library has no function for, and all of this program's unsafe code.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

unsafe extern "C" {
    safe fn reboot(command: c_int) -> c_int;
    safe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    safe fn unshare(flags: c_int) -> c_int;
    fn init_module(image: *const c_void, len: c_ulong, parameters: *const c_char) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn klogctl(kind: c_int, buffer: *mut c_char, len: c_int) -> c_int;
    fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
    fn mmap(
        address: *mut c_void,
        len: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn sethostname(name: *const c_char, len: usize) -> c_int;
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Mounts a tmpfs.
pub fn mount_tmpfs(target: &CStr) -> io::Result<()> {
    let kind = c"tmpfs".as_ptr();
    // SAFETY: three C strings that outlive the call, and no data.
    check(unsafe { mount(kind, target.as_ptr(), kind, 0, std::ptr::null()) }).map(drop)
}

/// Asks to reboot with a command that does not exist: who may reboot is told `EINVAL`, everybody else `EPERM`.
pub fn ask_to_reboot() -> io::Result<()> {
    match check(reboot(1)) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map(drop),
    }
}

/// Offers an empty kernel module: who may load modules is told that this is none, everybody else `EPERM`.
pub fn offer_module() -> io::Result<()> {
    const ENOEXEC: i32 = 8;
    // SAFETY: no bytes are read from the image, since there are none; the parameters are an empty C string.
    match check(unsafe { init_module(c"".as_ptr().cast(), 0, c"".as_ptr()) }) {
        Err(e) if e.raw_os_error() == Some(ENOEXEC) => Ok(()),
        other => other.map(drop),
    }
}

/// Sets the host name.
pub fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes of the string.
    check(unsafe { sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Makes the node of a disk, `/dev/sda`'s numbers.
pub fn make_disk(path: &CStr) -> io::Result<()> {
    const S_IFBLK: c_uint = 0o060_000;
    // SAFETY: a C string that outlives the call.
    check(unsafe { mknod(path.as_ptr(), S_IFBLK | 0o600, 8 << 8) }).map(drop)
}

/// Leaves the host name's namespace for a new one.
pub fn unshare_host_name() -> io::Result<()> {
    const CLONE_NEWUTS: c_int = 0x0400_0000;
    check(unshare(CLONE_NEWUTS)).map(drop)
}

/// Asks the kernel how large its log is.
pub fn ask_for_kernel_log() -> io::Result<()> {
    const SYSLOG_ACTION_SIZE_BUFFER: c_int = 10;
    // SAFETY: this action takes no buffer.
    check(unsafe { klogctl(SYSLOG_ACTION_SIZE_BUFFER, std::ptr::null_mut(), 0) }).map(drop)
}

/// Opens a socket that sees and makes packets of any kind.
pub fn open_packet_socket() -> io::Result<OwnedFd> {
    const AF_PACKET: c_int = 17;
    const SOCK_RAW: c_int = 3;
    let fd = check(socket(AF_PACKET, SOCK_RAW, 0))?;
    // SAFETY: the kernel has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user namespace that a namespace belongs to (ioctl_nsfs(2)); `EPERM` if it is outside of ours.
pub fn owner_of(namespace: impl AsFd) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: c_ulong = 0xb701;
    // SAFETY: this request has no argument and answers with a new descriptor.
    let fd = check(unsafe { ioctl(namespace.as_fd().as_raw_fd(), NS_GET_USERNS) })?;
    // SAFETY: the kernel has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The first page of a file, mapped into memory for as long as this process lives.
pub struct Mapped(*const u8, usize);

impl Mapped {
    /// Maps the first `len` bytes, at most a page, of a file that has at least so many.
    pub fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        const PROT_READ: c_int = 1;
        const MAP_SHARED: c_int = 1;
        let len = len.clamp(1, 4096);
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: a new mapping at a place of the kernel's choice replaces nothing.
        let address = unsafe { mmap(std::ptr::null_mut(), len, PROT_READ, MAP_SHARED, fd, 0) };
        if address.addr() == usize::MAX {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self(address.cast(), len))
        }
    }

    /// What is there now.
    pub fn read(&self) -> Vec<u8> {
        // SAFETY: `len` bytes of one page that stays mapped. Read one by one and volatile, because the file may
        // change under the mapping: no reference to it is ever made.
        (0..self.1).map(|i| unsafe { self.0.add(i).read_volatile() }).collect()
    }
}
