//! Network interface ioctls (netdevice(7)).

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// An interface request with a name that has room for its final NUL.
fn request(name: &str, flags: libc::c_int) -> libc::ifreq {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            #[allow(clippy::cast_possible_truncation)] // interface flags fit
            ifru_flags: flags as libc::c_short,
        },
    };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

/// A socket for interface ioctls.
fn any_socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Sets the loopback interface of the calling thread's network namespace up.
/// Needs CAP_NET_ADMIN in the namespace's owner.
pub fn loopback_up() -> io::Result<()> {
    let socket = any_socket()?;
    let request = request("lo", libc::IFF_UP | libc::IFF_RUNNING);
    // SAFETY: SIOCSIFFLAGS reads an initialised `ifreq` that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel knows of a TCP connection (tcp(7), `TCP_INFO`).
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Its state (linux/tcp_states.h).
    pub state: u8,
    /// A round trip, smoothed, in microseconds.
    pub round_trip: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
}

/// Asks about a TCP socket.
pub fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    // SAFETY: the structure is of integers only, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes into `info`, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(TcpInfo {
            state: info.tcpi_state,
            round_trip: info.tcpi_rtt,
            retransmits: info.tcpi_total_retrans,
        }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens the driver, and makes an interface of this name, index and kind in the calling thread's network namespace.
fn open_driver(name: &str, index: i32, flags: libc::c_int) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let mode = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let driver = rustix::fs::open("/dev/net/tun", mode, Mode::empty())?;
    // SAFETY: TUNSETIFINDEX reads an int that outlives the call.
    let result = unsafe { libc::ioctl(driver.as_raw_fd(), libc::TUNSETIFINDEX as _, &raw const index) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut request = request(name, flags | libc::IFF_NO_PI);
    // SAFETY: TUNSETIFF reads and writes an initialised `ifreq` that outlives the call.
    let result = unsafe { libc::ioctl(driver.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if result == 0 { Ok(driver) } else { Err(io::Error::last_os_error()) }
}

/// Makes a tun(4) interface of this name and index in the calling thread's network namespace, for IP packets without
/// any header, non-blocking. It is gone when its descriptor is closed. Needs CAP_NET_ADMIN in the namespace's owner.
pub fn open_tun(name: &str, index: i32) -> io::Result<OwnedFd> {
    open_driver(name, index, libc::IFF_TUN)
}

/// The same for Ethernet frames behind a virtio_net_hdr, with which the kernel leaves checksums and the segmentation of TCP to
/// whoever reads them (linux/if_tun.h).
pub fn open_tap(name: &str, index: i32) -> io::Result<OwnedFd> {
    const TUN_F_CSUM: libc::c_ulong = 1;
    const TUN_F_TSO4: libc::c_ulong = 2;
    const TUN_F_TSO6: libc::c_ulong = 4;
    let tap = open_driver(name, index, libc::IFF_TAP | libc::IFF_VNET_HDR)?;
    let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    // SAFETY: TUNSETOFFLOAD takes a number.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD as _, offloads) };
    if result == 0 { Ok(tap) } else { Err(io::Error::last_os_error()) }
}
