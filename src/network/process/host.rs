//! The host's side: sockets towards the world, and what its way out is like.

use nix::sys::socket::{getsockopt, sockopt};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, getpeername, getsockname};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

/// A socket towards an address of the world, non-blocking.
pub(super) fn outside(kind: SocketType, to: IpAddr) -> io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, socket_with};
    Ok(socket_with(family(to), kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// The family of an address.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// A socket that goes the way of the host's default route.
fn way_out() -> Option<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting sends nothing; it only picks a route. The address is one for documentation (RFC 5737).
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket)
}

/// What the host's way out takes in one packet; what is nearly everywhere, if there is none.
pub(super) fn host_mtu() -> u16 {
    let mtu = way_out().and_then(|socket| getsockopt(&socket, sockopt::IpMtu).ok());
    let mtu = mtu.and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(1500);
    mtu.max(super::super::MIN_MTU)
}

/// The address of the host that the world sees: that of its default route.
pub(super) fn host_address() -> Option<Ipv4Addr> {
    let socket = way_out()?;
    match socket.local_addr().ok()? {
        std::net::SocketAddr::V4(v4) if !v4.ip().is_loopback() && !v4.ip().is_unspecified() => Some(*v4.ip()),
        _ => None,
    }
}

/// Between two ends on this host there is no network that could be congested, and an estimate of one (BBR above all, where
/// that is the host's choice) costs speed.
pub(super) fn go_uncongested(socket: impl AsFd) {
    let ip = |address: SocketAddrAny| SocketAddr::try_from(address).ok().map(|address| address.ip());
    let own = getsockname(&socket).ok().and_then(ip);
    if own.is_some() && own == getpeername(&socket).ok().flatten().and_then(ip) {
        let _ = rustix::net::sockopt::set_tcp_congestion(&socket, "reno");
    }
}
