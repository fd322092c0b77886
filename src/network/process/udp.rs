//! Datagrams: a flow has two connected sockets, one on each side, and ends when nothing has passed for a while.

use super::{Entity, FLOWS, Network, outside};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, bind, connect, recv, recvfrom, send, sendto};
use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// As long as netfilter remembers a flow that was answered (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// The largest datagram.
const LARGEST: usize = 64 << 10;
/// Datagrams of one flow before others have their turn.
const TURNS: usize = 64;

/// Whose flow: the two ends as the container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A container's, to somewhere else.
    Out(SocketAddrV4, SocketAddrV4),
    /// A client's, to a published port: by the socket that it came to.
    In(usize, SocketAddr),
}

/// A flow of datagrams.
pub(super) struct Flow {
    key: Key,
    inside: OwnedFd,
    /// Towards the world; none of a published port, which answers by the port's own socket.
    outside: Option<OwnedFd>,
    used: Instant,
    /// Where the container's end of one that came from outside is.
    to: Option<SocketAddrV4>,
    /// Bytes that the container has sent, and got.
    moved: [u64; 2],
}

impl Flow {
    /// Its ends, the container's first, and whether it came from outside.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr, bool)> {
        match self.key {
            Key::Out(container, remote) => Some((container.into(), remote.into(), false)),
            Key::In(_, client) => Some((self.to?.into(), client, true)),
        }
    }

    /// Bytes that the container has sent, and got.
    pub(super) fn moved(&self) -> [u64; 2] {
        self.moved
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.inside.as_fd()).chain(self.outside.as_ref().map(AsFd::as_fd)).collect()
    }
}

impl Network {
    /// Datagrams of containers for which there is no flow yet.
    pub(super) fn first_datagrams(&mut self) {
        let mut bytes = vec![0; LARGEST];
        for _ in 0..TURNS {
            let mut space = nix::cmsg_space!(nix::libc::sockaddr_in);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg::<SockaddrIn>(
                self.inside.udp.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::MSG_DONTWAIT,
            );
            let Ok(message) = received else { return };
            let destination = message.cmsgs().ok().and_then(|mut controls| {
                controls.find_map(|control| match control {
                    ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                        Some(SocketAddrV4::from(SockaddrIn::from(address)))
                    }
                    _ => None,
                })
            });
            let (length, source) = (message.bytes, message.address.map(SocketAddrV4::from));
            if let (Some(source), Some(destination)) = (source, destination) {
                self.open_flow(source, destination, &bytes[..length]);
            }
        }
    }

    fn open_flow(&mut self, source: SocketAddrV4, destination: SocketAddrV4, first: &[u8]) {
        let key = Key::Out(source, destination);
        if let Some(place) = self.flows.get(&key).copied() {
            // It came before the flow's own socket was connected.
            if let Some(Entity::Flow(flow)) = self.table.get(place)
                && let Some(outside) = &flow.outside
            {
                let _ = send(outside, first, SendFlags::DONTWAIT);
            }
            return;
        }
        let Some(to) = self.destination(destination) else { return };
        let opened = (|| {
            let inside = self.inside.socket(SocketType::DGRAM).map_err(|_| Errno::NFILE)?;
            bind(&inside, &destination)?;
            connect(&inside, &source)?;
            let outside = outside(SocketType::DGRAM).map_err(|_| Errno::NFILE)?;
            connect(&outside, &to)?;
            Ok::<_, Errno>((inside, outside))
        })();
        let Ok((inside, outside)) = opened else { return };
        let _ = send(&outside, first, SendFlags::DONTWAIT);
        let moved = [first.len() as u64, 0];
        self.add_flow(Flow { key, inside, outside: Some(outside), used: Instant::now(), to: None, moved });
    }

    fn add_flow(&mut self, flow: Flow) {
        if self.flows.len() >= FLOWS {
            self.evict_flow();
        }
        let key = flow.key;
        if let Some(place) = self.add(Entity::Flow(flow), EventFlags::IN) {
            self.flows.insert(key, place);
        }
    }

    fn evict_flow(&mut self) {
        let table = &mut self.table;
        let used = |place: &usize, table: &mut super::Table| match table.get(*place) {
            Some(Entity::Flow(flow)) => Some(flow.used),
            _ => None,
        };
        let oldest =
            self.flows.iter().min_by_key(|(_, place)| used(place, table)).map(|(key, place)| (*key, *place));
        if let Some((key, place)) = oldest {
            self.flows.remove(&key);
            self.remove(place);
        }
    }

    /// Datagrams of a flow, either way.
    pub(super) fn flow(&mut self, place: usize) {
        let Some(Entity::Flow(mut flow)) = self.table.take(place) else { return };
        flow.used = Instant::now();
        let mut bytes = vec![0; LARGEST];
        let mut alive = true;
        for _ in 0..TURNS {
            match recv(&flow.inside, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    flow.moved[0] += length as u64;
                    alive &= self.send_out(&flow, &bytes[..length]);
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                // The container has closed its socket and says so.
                Err(_) => {
                    alive = false;
                    break;
                }
            }
        }
        if let Some(outside) = &flow.outside {
            for _ in 0..TURNS {
                match recv(outside, &mut bytes[..], RecvFlags::DONTWAIT) {
                    Ok((length, _)) => {
                        flow.moved[1] += length as u64;
                        let _ = send(&flow.inside, &bytes[..length], SendFlags::DONTWAIT);
                    }
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    Err(_) => {
                        alive = false;
                        break;
                    }
                }
            }
        }
        if alive {
            self.table.put(place, Entity::Flow(flow));
        } else {
            self.table.forget(place);
            self.flows.remove(&flow.key);
        }
    }

    fn send_out(&mut self, flow: &Flow, bytes: &[u8]) -> bool {
        match (&flow.outside, flow.key) {
            (Some(outside), _) => {
                !matches!(send(outside, bytes, SendFlags::DONTWAIT), Err(Errno::CONNREFUSED))
            }
            (None, Key::In(port, client)) => match self.table.get(port) {
                Some(Entity::PublishedDatagrams { socket, .. }) => {
                    let _ = sendto(&*socket, bytes, SendFlags::DONTWAIT, &client);
                    true
                }
                _ => false,
            },
            (None, Key::Out(..)) => false,
        }
    }

    /// Datagrams of clients for a published port.
    pub(super) fn datagrams_of_clients(&mut self, place: usize) {
        let mut bytes = vec![0; LARGEST];
        for _ in 0..TURNS {
            let Some(Entity::PublishedDatagrams { socket, to }) = self.table.get(place) else { return };
            let to = *to;
            let Ok((length, _, from)) = recvfrom(&*socket, &mut bytes[..], RecvFlags::DONTWAIT) else {
                return;
            };
            let Some(client) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { continue };
            let key = Key::In(place, client);
            if !self.flows.contains_key(&key) {
                let Ok(inside) = self.inside.socket(SocketType::DGRAM) else { continue };
                let own = self.visible_client(client);
                if own.is_none_or(|own| bind(&inside, &own).is_err())
                    && self.bind_to_gateway(&inside).is_err()
                {
                    continue;
                }
                if connect(&inside, &to).is_err() {
                    continue;
                }
                self.add_flow(Flow {
                    key,
                    inside,
                    outside: None,
                    used: Instant::now(),
                    to: Some(to),
                    moved: [0; 2],
                });
            }
            if let Some(flow) = self.flows.get(&key).copied()
                && let Some(Entity::Flow(flow)) = self.table.get(flow)
            {
                flow.used = Instant::now();
                flow.moved[1] += length as u64;
                let _ = send(&flow.inside, &bytes[..length], SendFlags::DONTWAIT);
            }
        }
    }

    /// Ends the flows of clients to these ports, which are closed.
    pub(super) fn forget_clients_of(&mut self, ports: &[usize]) {
        let of_port = |key: &Key| matches!(key, Key::In(port, _) if ports.contains(port));
        let flows: Vec<_> =
            self.flows.iter().filter(|(key, _)| of_port(key)).map(|(k, p)| (*k, *p)).collect();
        for (key, place) in flows {
            self.flows.remove(&key);
            self.remove(place);
        }
    }

    pub(super) fn sweep_flows(&mut self, now: Instant) {
        let is_over = |entity: &Entity| match entity {
            Entity::Flow(flow) => now.duration_since(flow.used) > IDLE,
            _ => true,
        };
        for (key, place) in self.table.over(&self.flows, is_over) {
            self.flows.remove(&key);
            self.remove(place);
        }
    }
}
