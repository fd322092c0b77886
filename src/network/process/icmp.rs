//! Echo requests (ping): asked again from the host, by a socket for that (icmp(7)), and what comes back, a reply or somebody's
//! error, is handed on. Nothing is answered that nobody has answered.
//!
//! The kernel lets whoever is in `net.ipv4.ping_group_range` do that, which systemd sets to everybody. Where it does not,
//! requests go nowhere.

use super::host::family;
use super::packet::{self, Echo as Request};
use super::{Entity, Network};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ip_ttl, set_ipv6_unicast_hops};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send, socket_with};
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// After so long without a request nobody waits for a reply.
const IDLE: Duration = Duration::from_secs(30);
/// Destinations that are asked at once.
const ECHOES: usize = 256;
/// Requests whose beginnings are kept, for errors about them.
const REMEMBERED: usize = 16;
/// Bytes of them.
const BEGINNING: usize = 128;

/// Whose requests: source, destination, id.
pub(super) type Key = (IpAddr, IpAddr, u16);

/// Requests of a container's process to a destination.
pub(super) struct Echo {
    pub(super) socket: OwnedFd,
    request: Request,
    /// The beginnings of the last requests, by number.
    sent: Vec<(u16, Vec<u8>)>,
    used: Instant,
}

impl Network {
    /// A container asks somebody for an echo.
    pub(super) fn echo(&mut self, request: &Request, packet: &[u8]) {
        let key = (request.source, request.destination, request.id);
        let place = match self.echoes.get(&key).copied() {
            Some(place) => place,
            None => match self.open_echo(request) {
                Some(place) => place,
                None => return,
            },
        };
        let Some(Entity::Echo(echo)) = self.table.get(place) else { return };
        echo.used = Instant::now();
        if echo.sent.len() == REMEMBERED {
            echo.sent.remove(0);
        }
        echo.sent.push((request.sequence, packet[..packet.len().min(BEGINNING)].to_vec()));
        // We are a router on its way.
        let Some(ttl) = request.ttl.checked_sub(1).filter(|ttl| *ttl > 0) else {
            let answer = packet::exceeded(self.config.router(request.source), request.source, packet);
            self.write_inside(&answer);
            return;
        };
        let _ = match request.source {
            IpAddr::V4(_) => set_ip_ttl(&echo.socket, ttl.into()),
            IpAddr::V6(_) => set_ipv6_unicast_hops(&echo.socket, Some(ttl)),
        };
        // The kernel puts its own id and the checksum there.
        let mut message = vec![packet::echo_request(request.source), 0, 0, 0, 0, 0];
        message.extend(request.sequence.to_be_bytes());
        message.extend(&packet[request.payload..]);
        let _ = send(&echo.socket, &message, SendFlags::DONTWAIT);
    }

    fn open_echo(&mut self, request: &Request) -> Option<usize> {
        if self.echoes.len() >= ECHOES {
            return None;
        }
        let to = self.destination(SocketAddr::new(request.destination, 0))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = if to.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
        let socket = socket_with(family(to.ip()), SocketType::DGRAM, flags, Some(protocol)).ok()?;
        hear_errors(&socket, to.ip());
        connect(&socket, &to).ok()?;
        let echo = Echo { socket, request: *request, sent: Vec::new(), used: Instant::now() };
        let place = self.add(Entity::Echo(echo), EventFlags::IN)?;
        self.echoes.insert((request.source, request.destination, request.id), place);
        Some(place)
    }

    /// Replies, or errors of routers.
    pub(super) fn echoed(&mut self, place: usize) {
        let mut answers = Vec::new();
        let config = &self.config;
        let mut bytes = vec![0; 64 << 10];
        let Some(Entity::Echo(echo)) = self.table.get(place) else { return };
        let gateway = config.router(echo.request.source);
        let reply = packet::echo_reply_to(echo.request.source);
        for _ in 0..16 {
            match recv(&echo.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) if length >= 8 && bytes[0] == reply => {
                    let sequence = u16::from_be_bytes([bytes[6], bytes[7]]);
                    answers.push(packet::echo_reply(&echo.request, sequence, &bytes[8..length]));
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                // What is in the error queue is told here first, once each.
                Err(_) => answers.extend(echo.error(gateway)),
            }
        }
        while let Some(answer) = echo.error(gateway) {
            answers.push(answer);
        }
        for answer in answers {
            self.write_inside(&answer);
        }
    }

    pub(super) fn sweep_echoes(&mut self, now: Instant) {
        let is_over = |entity: &Entity| match entity {
            Entity::Echo(echo) => now.duration_since(echo.used) > IDLE,
            _ => true,
        };
        for (key, place) in self.table.over(&self.echoes, is_over) {
            self.echoes.remove(&key);
            self.remove(place);
        }
    }
}

/// What somebody has said of a packet that was sent (ip(7), IP_RECVERR).
pub(super) struct Told {
    /// By ICMP, who and what: its type, code and the rest of its header. Nobody, if the host itself has no way.
    pub(super) by: Option<(IpAddr, [u8; 2], [u8; 4])>,
    /// The beginning of what was sent.
    pub(super) sent: Vec<u8>,
}

/// Lets a socket be told of errors, about packets to an address of this family.
pub(super) fn hear_errors(socket: &OwnedFd, family: IpAddr) {
    let _ = match family {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    };
}

/// The next error that a socket was told of.
pub(super) fn next_error(socket: &OwnedFd) -> Option<Told> {
    let mut bytes = [0; BEGINNING];
    let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    let length = message.bytes;
    let (error, from) = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            let from = from.map(|from| Ipv4Addr::from_bits(u32::from_be(from.sin_addr.s_addr)).into());
            Some((error, from))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            Some((error, from.map(|from| Ipv6Addr::from(from.sin6_addr.s6_addr).into())))
        }
        _ => None,
    })?;
    let is_icmp = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
    // The size that would have fitted is in its last four bytes (RFC 1191, RFC 4443).
    let by = from
        .filter(|_| is_icmp)
        .map(|from: IpAddr| (from, [error.ee_type, error.ee_code], error.ee_info.to_be_bytes()));
    Some(Told { by, sent: bytes[..length.min(BEGINNING)].to_vec() })
}

impl Echo {
    /// The next error about a request, as its sender is told it.
    fn error(&self, gateway: IpAddr) -> Option<Vec<u8>> {
        let told = next_error(&self.socket)?;
        // Our own request comes with it: that says which one it was.
        let sequence = told.sent.get(6..8)?;
        let sequence = u16::from_be_bytes([sequence[0], sequence[1]]);
        let (_, packet) = self.sent.iter().rev().find(|(number, _)| *number == sequence)?;
        let to = self.request.source;
        match told.by {
            Some((router, kind, rest)) if router.is_ipv4() == to.is_ipv4() => {
                Some(packet::error(router, to, kind, rest, packet))
            }
            // The host itself has no way.
            _ => Some(packet::unreachable(gateway, to, packet::Unreachable::Host, packet)),
        }
    }
}
