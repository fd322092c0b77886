//! Connections that containers make.

use super::relay::{Relay, Whose};
use super::{Entity, Network, PENDING, RELAYED, host, outside, packet, watch_end};
use packet::{Packet, Unreachable};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, acceptfrom_with, connect, getpeername, getsockname};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// After this a container that sent a SYN has given up on it (tcp(7), `tcp_syn_retries`: 127 s).
const GIVE_UP: Duration = Duration::from_secs(130);

/// A connection whose SYN is held.
pub(super) struct Pending {
    /// Towards the destination.
    pub(super) socket: OwnedFd,
    pub(super) key: (SocketAddr, SocketAddr),
    sequence: u32,
    pub(super) syn: Vec<u8>,
    is_connected: bool,
    /// Whether the socket is watched; as the second end of what the two will be.
    is_watched: bool,
    since: Instant,
}

impl Network {
    /// Reads what containers send to somewhere else.
    pub(super) fn read_tun(&mut self) {
        let mut bytes = vec![0; usize::from(self.tier.mtu())];
        // Not for ever: others have their turn.
        for _ in 0..64 {
            let Some(inside) = self.tier.kernel() else { return };
            let Ok(length) = rustix::io::read(&inside.tun, &mut bytes) else { return };
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

    pub(super) fn hold(&mut self, source: SocketAddr, destination: SocketAddr, sequence: u32, syn: &[u8]) {
        let key = (source, destination);
        if let Some(place) = self.pending.get(&key).copied() {
            if let Some(Entity::Pending(pending)) = self.table.get(place) {
                // Another connection, if it has another number: the container has given the first one up.
                pending.sequence = sequence;
                pending.syn = syn.to_vec();
                // Sent again. If it has been let through already, that may have been lost.
                if pending.is_connected {
                    let syn = pending.syn.clone();
                    self.write_inside(&syn);
                }
            }
            return;
        }
        // Sent again by a container that had to wait for the answer, which it has by now.
        if self.connections.get(&key).is_some_and(|(_, connected)| *connected == sequence) {
            return;
        }
        let Some(to) = self.destination(destination) else {
            return self.answer_unreachable(source, Unreachable::Prohibited, syn);
        };
        if self.pending.len() >= PENDING {
            return;
        }
        // Without a descriptor the container tries again in a second.
        let Ok(socket) = outside(SocketType::STREAM, to.ip()) else { return };
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        let started = connect(&socket, &to);
        let (syn, since) = (syn.to_vec(), Instant::now());
        let mut pending =
            Pending { socket, key, sequence, syn, is_connected: false, is_watched: false, since };
        match started {
            // As when it is a service of the host itself.
            Ok(()) if self.tier.user().is_some() => return self.answer_stream(pending),
            Ok(()) => {
                pending.is_connected = true;
                self.write_inside(&pending.syn);
            }
            Err(Errno::INPROGRESS) => pending.is_watched = true,
            Err(e) => return self.answer_failure(&pending, e),
        }
        let place = self.table.add(Entity::Tun);
        if pending.is_watched && watch_end(&self.epoll, pending.socket.as_fd(), place, 1, RELAYED).is_err() {
            let _ = self.table.take(place);
            return self.table.forget(place);
        }
        self.table.put(place, Entity::Pending(pending));
        self.pending.insert(key, place);
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
            Ok(Ok(())) if self.tier.user().is_some() => {
                host::go_uncongested(&pending.socket);
                let _ = epoll::delete(&self.epoll, &pending.socket);
                self.table.forget(place);
                self.pending.remove(&pending.key);
                self.answer_stream(pending);
            }
            Ok(Ok(())) => {
                host::go_uncongested(&pending.socket);
                pending.is_connected = true;
                self.write_inside(&pending.syn);
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
                self.write_inside(&answer);
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

    fn answer_unreachable(&mut self, source: SocketAddr, why: Unreachable, syn: &[u8]) {
        let answer = packet::unreachable(self.config.router(source.ip()), source.ip(), why, syn);
        self.write_inside(&answer);
    }

    /// The kernel has made the connections that were let through.
    pub(super) fn accept_held(&mut self, which: usize) {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Some(inside) = self.tier.kernel() else { return };
            let (accepted, source) = match acceptfrom_with(&inside.families[which].tcp, flags) {
                Ok(accepted) => accepted,
                Err(error) => {
                    let again = |network: &mut Self| {
                        rustix::net::accept(&network.tier.kernel()?.families[which].tcp).ok()
                    };
                    self.shed(error, again);
                    return;
                }
            };
            let ends = (|| {
                let source = SocketAddr::try_from(source?).ok()?;
                let destination = SocketAddr::try_from(getsockname(&accepted).ok()?).ok()?;
                Some((source, destination))
            })();
            // One that nobody holds came to the listener itself: it is closed.
            let Some(place) = ends.and_then(|key| self.pending.remove(&key)) else { continue };
            match self.table.take(place) {
                Some(Entity::Pending(pending)) => {
                    self.connections.insert(pending.key, (place, pending.sequence));
                    let (container, remote) = pending.key;
                    let whose = Whose { container, remote, inwards: false };
                    let unwatched = if pending.is_watched { &[0][..] } else { &[0, 1] };
                    let relay = Relay::new(accepted, pending.socket, Some(whose));
                    self.begin_relay(place, relay, unwatched);
                }
                // Nothing else is in the list.
                Some(other) => self.table.put(place, other),
                None => {}
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
