//! Echo requests (ping): asked again from the host, by a socket for that (icmp(7)), and what comes back, a reply or somebody's
//! error, is handed on. Nothing is answered that nobody has answered.
//!
//! The kernel lets whoever is in `net.ipv4.ping_group_range` do that, which systemd sets to everybody. Where it does not,
//! requests go nowhere.

use super::packet::{self, Echo as Request};
use super::{Entity, Network};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
};
use rustix::net::{socket_with, sockopt::set_ip_ttl};
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddrV4};
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
pub(super) type Key = (Ipv4Addr, Ipv4Addr, u16);

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
            const EXCEEDED: [u8; 2] = [11, 0];
            let answer = packet::error(self.config.gateway, request.source, EXCEEDED, [0; 4], packet);
            let _ = rustix::io::write(&self.inside.tun, &answer);
            return;
        };
        let _ = set_ip_ttl(&echo.socket, ttl.into());
        // The kernel puts its own id and the checksum there.
        let mut message = vec![8, 0, 0, 0, 0, 0];
        message.extend(request.sequence.to_be_bytes());
        message.extend(&packet[request.payload..]);
        let _ = send(&echo.socket, &message, SendFlags::DONTWAIT);
    }

    fn open_echo(&mut self, request: &Request) -> Option<usize> {
        if self.echoes.len() >= ECHOES {
            return None;
        }
        let to = self.destination(SocketAddrV4::new(request.destination, 0))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP)).ok()?;
        let _ = setsockopt(&socket, sockopt::Ipv4RecvErr, &true);
        connect(&socket, &to).ok()?;
        let echo = Echo { socket, request: *request, sent: Vec::new(), used: Instant::now() };
        let place = self.add(Entity::Echo(echo), EventFlags::IN)?;
        self.echoes.insert((request.source, request.destination, request.id), place);
        Some(place)
    }

    /// Replies, or errors of routers.
    pub(super) fn echoed(&mut self, place: usize) {
        let mut answers = Vec::new();
        let gateway = self.config.gateway;
        let mut bytes = vec![0; 64 << 10];
        let Some(Entity::Echo(echo)) = self.table.get(place) else { return };
        for _ in 0..16 {
            match recv(&echo.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) if length >= 8 && bytes[0] == 0 => {
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
            let _ = rustix::io::write(&self.inside.tun, &answer);
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

impl Echo {
    /// The next error about a request (ip(7), IP_RECVERR), as its sender is told it.
    fn error(&self, gateway: Ipv4Addr) -> Option<Vec<u8>> {
        let mut bytes = [0; BEGINNING];
        let mut space = nix::cmsg_space!(nix::libc::sock_extended_err, nix::libc::sockaddr_in);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrIn>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
        let length = message.bytes;
        let told = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, from) => Some((error, from)),
            _ => None,
        });
        let (error, from) = told?;
        // Our own request comes with it: that says which one it was.
        let sequence = bytes.get(6..8).filter(|_| length >= 8)?;
        let sequence = u16::from_be_bytes([sequence[0], sequence[1]]);
        let (_, packet) = self.sent.iter().rev().find(|(number, _)| *number == sequence)?;
        let router = match from {
            Some(from) if error.ee_origin == nix::libc::SO_EE_ORIGIN_ICMP => {
                Ipv4Addr::from_bits(u32::from_be(from.sin_addr.s_addr))
            }
            // The host itself has no way.
            _ => gateway,
        };
        let (kind, rest) = match error.ee_origin {
            // The size that would have fitted is in the last two bytes (RFC 1191).
            nix::libc::SO_EE_ORIGIN_ICMP => ([error.ee_type, error.ee_code], error.ee_info.to_be_bytes()),
            _ => ([3, 1], [0; 4]),
        };
        Some(packet::error(router, self.request.source, kind, rest, packet))
    }
}
