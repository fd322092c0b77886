//! Connections that containers make.

use super::relay::Whose;
use super::{Entity, Network, PENDING, outside, packet};
use packet::{Packet, Unreachable};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, accept_with, connect, getpeername, getsockname};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// After this a container that sent a SYN has given up on it (tcp(7), `tcp_syn_retries`: 127 s).
const GIVE_UP: Duration = Duration::from_secs(130);

/// A connection whose SYN is held.
pub(super) struct Pending {
    /// Towards the destination.
    pub(super) socket: OwnedFd,
    key: (SocketAddrV4, SocketAddrV4),
    sequence: u32,
    syn: Vec<u8>,
    is_connected: bool,
    since: Instant,
}

impl Network {
    /// Reads what containers send to somewhere else.
    pub(super) fn read_tun(&mut self) {
        let mut bytes = vec![0; usize::from(self.inside.mtu)];
        // Not for ever: others have their turn.
        for _ in 0..64 {
            let Ok(length) = rustix::io::read(&self.inside.tun, &mut bytes) else { return };
            let packet = &bytes[..length];
            match packet::read(packet) {
                Packet::Syn { source, destination, sequence } => {
                    self.hold(source, destination, sequence, packet)
                }
                Packet::Echo(echo) => self.echo(&echo, packet),
                Packet::Other => {}
            }
        }
    }

    fn hold(&mut self, source: SocketAddrV4, destination: SocketAddrV4, sequence: u32, syn: &[u8]) {
        let key = (source, destination);
        if let Some(place) = self.pending.get(&key).copied() {
            // Sent again. If it has been let through already, that may have been lost.
            if let Some(Entity::Pending(pending)) = self.table.get(place)
                && pending.is_connected
            {
                let _ = rustix::io::write(&self.inside.tun, &pending.syn);
            }
            return;
        }
        let Some(to) = self.destination(destination) else {
            return self.answer_unreachable(source, Unreachable::Prohibited, syn);
        };
        if self.pending.len() >= PENDING {
            return;
        }
        // Without a descriptor the container tries again in a second.
        let Ok(socket) = outside(SocketType::STREAM) else { return };
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        let started = connect(&socket, &to);
        let pending =
            Pending { socket, key, sequence, syn: syn.to_vec(), is_connected: false, since: Instant::now() };
        match started {
            Ok(()) | Err(Errno::INPROGRESS) => {
                let entity = Entity::Pending(pending);
                if let Some(place) = self.add(entity, EventFlags::OUT | EventFlags::ET) {
                    self.pending.insert(key, place);
                }
            }
            Err(e) => self.answer_failure(&pending, e),
        }
    }

    /// The destination has answered, or not.
    pub(super) fn connected(&mut self, place: usize) {
        let Some(Entity::Pending(mut pending)) = self.table.take(place) else { return };
        match rustix::net::sockopt::socket_error(&pending.socket) {
            Ok(Ok(())) if pending.is_connected => self.table.put(place, Entity::Pending(pending)),
            // An edge without a connection yet.
            Ok(Ok(())) if getpeername(&pending.socket).is_err() => {
                self.table.put(place, Entity::Pending(pending))
            }
            Ok(Ok(())) => {
                pending.is_connected = true;
                let _ = rustix::io::write(&self.inside.tun, &pending.syn);
                self.table.put(place, Entity::Pending(pending));
            }
            Ok(Err(e)) | Err(e) => {
                self.table.forget(place);
                self.pending.remove(&pending.key);
                self.answer_failure(&pending, e);
            }
        }
    }

    fn answer_failure(&mut self, pending: &Pending, error: Errno) {
        let (source, destination) = pending.key;
        match error {
            Errno::CONNREFUSED | Errno::CONNRESET => {
                let answer = packet::reset(source, destination, pending.sequence);
                let _ = rustix::io::write(&self.inside.tun, &answer);
            }
            Errno::HOSTUNREACH | Errno::HOSTDOWN => {
                self.answer_unreachable(source, Unreachable::Host, &pending.syn)
            }
            Errno::NETUNREACH | Errno::NETDOWN => {
                self.answer_unreachable(source, Unreachable::Network, &pending.syn);
            }
            Errno::ACCESS | Errno::PERM => {
                self.answer_unreachable(source, Unreachable::Prohibited, &pending.syn)
            }
            // Nobody has answered us, so nobody answers the container.
            _ => {}
        }
    }

    fn answer_unreachable(&self, source: SocketAddrV4, why: Unreachable, syn: &[u8]) {
        let answer = packet::unreachable(self.config.gateway, *source.ip(), why, syn);
        let _ = rustix::io::write(&self.inside.tun, &answer);
    }

    /// The kernel has made the connections that were let through.
    pub(super) fn accept_held(&mut self) {
        loop {
            let accepted = match accept_with(&self.inside.tcp, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.shed(error, |network| rustix::net::accept(&network.inside.tcp).ok());
                    return;
                }
            };
            let ends = (|| {
                let source = SocketAddr::try_from(getpeername(&accepted).ok()??).ok()?;
                let destination = SocketAddr::try_from(getsockname(&accepted).ok()?).ok()?;
                match (source, destination) {
                    (SocketAddr::V4(source), SocketAddr::V4(destination)) => Some((source, destination)),
                    _ => None,
                }
            })();
            // One that nobody holds came to the listener itself: it is closed.
            let Some(place) = ends.and_then(|key| self.pending.remove(&key)) else { continue };
            if let Some(Entity::Pending(pending)) = self.remove(place) {
                let _ = rustix::event::epoll::delete(&self.epoll, &pending.socket);
                let (container, remote) = pending.key;
                let whose = Whose { container: container.into(), remote: remote.into(), inwards: false };
                self.join(accepted, pending.socket, Some(whose));
            }
        }
    }

    pub(super) fn sweep_pending(&mut self, now: Instant) {
        let is_over = |entity: &Entity| match entity {
            Entity::Pending(pending) => now.duration_since(pending.since) > GIVE_UP,
            _ => true,
        };
        for (key, place) in self.table.over(&self.pending, is_over) {
            self.pending.remove(&key);
            self.remove(place);
        }
    }
}
