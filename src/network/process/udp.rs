//! Datagrams: a flow has two connected sockets, one on each side, and ends when nothing has passed for a while.

use super::icmp::{self, Told};
use super::packet;
use super::publish::WayIn;
use super::tier::Tier;
use super::user::Ends;
use super::{Entity, FLOWS, Network, outside};
use nix::libc::sockaddr_in6;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ip_ttl, set_ipv6_unicast_hops};
use rustix::net::{RecvFlags, SendFlags, SocketType, bind, connect, recv, recvfrom, send, sendto};
use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// As long as netfilter remembers a flow that was answered (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// The largest datagram.
const LARGEST: usize = 64 << 10;
/// Whoever sends datagrams that may pass fewer routers wants to know where their time is up.
const LITTLE: u8 = 40;
/// The longest datagram that is kept for a second try.
const KEPT: usize = 2048;
/// Datagrams of one flow before others have their turn.
const TURNS: usize = 64;

/// Whose flow: the two ends as the container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A container's, to somewhere else.
    Out(SocketAddr, SocketAddr),
    /// A client's, to a published port: by the socket that it came to.
    In(usize, SocketAddr),
}

/// How a flow reaches its container.
enum Inner {
    /// By a socket of R that is connected to it.
    Socket(OwnedFd),
    /// By packets between these, in the user-mode tier.
    Cable(Ends),
}

/// A flow of datagrams.
pub(super) struct Flow {
    key: Key,
    inside: Inner,
    /// Towards the world; none of a published port, which answers by the port's own socket.
    outside: Option<OwnedFd>,
    used: Instant,
    /// Where the container's end of one that came from outside is.
    to: Option<SocketAddr>,
    /// Bytes that the container has sent, and got.
    moved: [u64; 2],
    /// Until the container has answered: its other ways in, and what goes there if this one is refused.
    unsure: Option<(Vec<WayIn>, Vec<u8>)>,
}

impl Flow {
    /// Its ends, the container's first, and whether it came from outside.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr, bool)> {
        match self.key {
            Key::Out(container, remote) => Some((container, remote, false)),
            Key::In(_, client) => {
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                Some((self.to?, client, true))
            }
        }
    }

    /// Bytes that the container has sent, and got.
    pub(super) fn moved(&self) -> [u64; 2] {
        self.moved
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let inside = match &self.inside {
            Inner::Socket(socket) => Some(socket.as_fd()),
            Inner::Cable(_) => None,
        };
        inside.into_iter().chain(self.outside.as_ref().map(AsFd::as_fd)).collect()
    }

    /// Where it is among the flows of the user-mode tier.
    pub(super) fn cable(&self) -> Option<Ends> {
        match self.inside {
            Inner::Socket(_) => None,
            Inner::Cable(ends) => Some(ends),
        }
    }

    /// Gives the container a datagram.
    fn send_in(&self, tier: &mut Tier, bytes: &[u8]) {
        match (&self.inside, tier) {
            (Inner::Socket(socket), _) => drop(send(socket, bytes, SendFlags::DONTWAIT)),
            (Inner::Cable(ends), Tier::User(user)) => user.send_datagram(*ends, bytes),
            (Inner::Cable(_), Tier::Kernel(_)) => {}
        }
    }
}

impl Network {
    /// Datagrams of containers for which there is no flow yet.
    pub(super) fn first_datagrams(&mut self, which: usize) {
        let mut bytes = vec![0; LARGEST];
        for _ in 0..TURNS {
            let mut space = nix::cmsg_space!(sockaddr_in6, i32);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let Some(inside) = self.tier.kernel() else { return };
            let received = recvmsg::<SockaddrStorage>(
                inside.families[which].udp.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::MSG_DONTWAIT,
            );
            let Ok(message) = received else { return };
            let controls = || message.cmsgs().into_iter().flatten();
            let (to, ttl) = (controls().find_map(destination), controls().find_map(ttl));
            let (length, source) = (message.bytes, message.address.as_ref().and_then(socket_address));
            if let (Some(source), Some(to)) = (source, to) {
                // The network is the first router on its way.
                let ttl = ttl.unwrap_or(64).saturating_sub(1);
                self.open_flow(source, to, ttl, &bytes[..length]);
            }
        }
    }

    /// Opens a flow for its first datagram, which may pass `ttl` routers more.
    pub(super) fn open_flow(&mut self, source: SocketAddr, destination: SocketAddr, ttl: u8, first: &[u8]) {
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
        if ttl == 0 {
            let about = packet::datagram(source, destination, first.len());
            let answer = packet::exceeded(self.config.router(source.ip()), source.ip(), &about);
            return self.write_inside(&answer);
        }
        let opened = (|| {
            let inside = match &mut self.tier {
                Tier::User(_) => Inner::Cable((source, destination)),
                Tier::Kernel(kernel) => {
                    let inside = kernel.socket(SocketType::DGRAM, source.ip()).map_err(|_| Errno::NFILE)?;
                    bind(&inside, &destination)?;
                    connect(&inside, &source)?;
                    Inner::Socket(inside)
                }
            };
            let outside = outside(SocketType::DGRAM, to.ip()).map_err(|_| Errno::NFILE)?;
            icmp::hear_errors(&outside, to.ip());
            if ttl < LITTLE {
                let _ = match to {
                    SocketAddr::V4(_) => set_ip_ttl(&outside, ttl.into()),
                    SocketAddr::V6(_) => set_ipv6_unicast_hops(&outside, Some(ttl)),
                };
            }
            connect(&outside, &to)?;
            Ok::<_, Errno>((inside, outside))
        })();
        let Ok((inside, outside)) = opened else { return };
        let _ = send(&outside, first, SendFlags::DONTWAIT);
        let moved = [first.len() as u64, 0];
        self.add_flow(Flow {
            key,
            inside,
            outside: Some(outside),
            used: Instant::now(),
            to: None,
            moved,
            unsure: None,
        });
    }

    fn add_flow(&mut self, flow: Flow) {
        if self.flows.len() >= FLOWS {
            self.evict_flow();
        }
        let (key, cable) = (flow.key, flow.cable());
        if let Some(place) = self.add(Entity::Flow(flow), EventFlags::IN) {
            self.flows.insert(key, place);
            if let (Some(user), Some(ends)) = (self.tier.user(), cable) {
                user.flows.insert(ends, place);
            }
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
            self.remove_flow(key, place);
        }
    }

    /// Datagrams of a flow, either way.
    pub(super) fn flow(&mut self, place: usize) {
        let Some(Entity::Flow(mut flow)) = self.table.take(place) else { return };
        flow.used = Instant::now();
        let mut bytes = vec![0; LARGEST];
        let mut alive = true;
        for _ in 0..TURNS {
            let Inner::Socket(inside) = &flow.inside else { break };
            match recv(inside, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    flow.moved[0] += length as u64;
                    flow.unsure = None;
                    alive &= self.send_out(&flow, &bytes[..length]);
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                // Nobody in the container receives it, by this family.
                Err(_) => {
                    alive = false;
                    break;
                }
            }
        }
        let mut told = Vec::new();
        if let Some(outside) = &flow.outside {
            for _ in 0..TURNS {
                match recv(outside, &mut bytes[..], RecvFlags::DONTWAIT) {
                    Ok((length, _)) => {
                        flow.moved[1] += length as u64;
                        flow.send_in(&mut self.tier, &bytes[..length]);
                    }
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    // What is in the error queue is told here first, once each.
                    Err(_) => match icmp::next_error(outside) {
                        Some(error) => told.push(error),
                        None => {
                            alive = false;
                            break;
                        }
                    },
                }
            }
            told.extend(std::iter::from_fn(|| icmp::next_error(outside)).take(TURNS));
        }
        told.into_iter().for_each(|told| self.tell_sender(&flow, told));
        match alive {
            true => self.table.put(place, Entity::Flow(flow)),
            false => self.end_flow(place, flow),
        }
    }

    /// Tells a container what somebody has said of a datagram of its: that nobody receives it, that it was too large, or that it has
    /// passed too many routers.
    fn tell_sender(&mut self, flow: &Flow, told: Told) {
        let Key::Out(source, destination) = flow.key else { return };
        let Some((router, kind, rest)) = told.by.filter(|by| by.0.is_ipv4() == source.is_ipv4()) else {
            return;
        };
        // The destination itself is shown as the container knows it.
        let is_it = self.destination(destination).is_some_and(|to| to.ip() == router);
        let router = if is_it { destination.ip() } else { router };
        let about = packet::datagram(source, destination, told.sent.len());
        let error = packet::error(router, source.ip(), kind, rest, &about);
        self.write_inside(&error);
    }

    /// Ends a flow that was taken out of this place, since somebody is not there: what came for it goes another way, if there is one.
    fn end_flow(&mut self, place: usize, flow: Flow) {
        self.table.forget(place);
        self.flows.remove(&flow.key);
        if let (Some(user), Some(ends)) = (self.tier.user(), flow.cable()) {
            user.flows.remove(&ends);
        }
        if let Some((ways, first)) = flow.unsure {
            self.lead_datagrams(flow.key, ways, &first);
        }
    }

    fn remove_flow(&mut self, key: Key, place: usize) {
        self.flows.remove(&key);
        if let Some(Entity::Flow(flow)) = self.remove(place)
            && let (Some(user), Some(ends)) = (self.tier.user(), flow.cable())
        {
            user.flows.remove(&ends);
        }
    }

    /// A container's datagram of a flow that there is, in the user-mode tier.
    pub(super) fn datagram_of_container(&mut self, place: usize, bytes: &[u8]) {
        let Some(Entity::Flow(mut flow)) = self.table.take(place) else { return };
        flow.used = Instant::now();
        flow.moved[0] += bytes.len() as u64;
        flow.unsure = None;
        match self.send_out(&flow, bytes) {
            true => self.table.put(place, Entity::Flow(flow)),
            false => self.end_flow(place, flow),
        }
    }

    /// Nobody in the container receives what came by this flow.
    pub(super) fn datagram_refused(&mut self, ends: Ends) {
        let Some(place) = self.tier.user().and_then(|user| user.flows.get(&ends).copied()) else { return };
        if let Some(Entity::Flow(flow)) = self.table.take(place) {
            self.end_flow(place, flow);
        }
    }

    fn send_out(&mut self, flow: &Flow, bytes: &[u8]) -> bool {
        match (&flow.outside, flow.key) {
            (Some(outside), _) => {
                // The first may only tell what is said of one before (udp(7)).
                let sent = send(outside, bytes, SendFlags::DONTWAIT);
                let _ = sent.or_else(|_| send(outside, bytes, SendFlags::DONTWAIT));
                true
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
            match self.flows.get(&key).copied().and_then(|flow| self.table.get(flow)) {
                Some(Entity::Flow(flow)) => {
                    flow.used = Instant::now();
                    flow.moved[1] += length as u64;
                    flow.send_in(&mut self.tier, &bytes[..length]);
                }
                _ => self.lead_datagrams(key, self.ways_in(&to, client), &bytes[..length]),
            }
        }
    }

    /// Opens a flow of a client into the container, by the first of these ways that can be opened.
    fn lead_datagrams(&mut self, key: Key, mut ways: Vec<WayIn>, first: &[u8]) {
        while !ways.is_empty() {
            let way = ways.remove(0);
            let Some(inside) = self.open_way(&way) else { continue };
            let (used, moved) = (Instant::now(), [0, first.len() as u64]);
            let is_kept = !ways.is_empty() && first.len() <= KEPT;
            let unsure = is_kept.then(|| (ways, first.to_vec()));
            let flow = Flow { key, inside, outside: None, used, to: Some(way.to), moved, unsure };
            flow.send_in(&mut self.tier, first);
            return self.add_flow(flow);
        }
    }

    fn open_way(&mut self, way: &WayIn) -> Option<Inner> {
        let router = SocketAddr::new(self.config.router(way.to.ip()), 0);
        match &mut self.tier {
            Tier::User(user) => {
                user.free_ends(way.to, way.own.unwrap_or(router), way.own.is_none()).map(Inner::Cable)
            }
            Tier::Kernel(kernel) => {
                let inside = kernel.socket(SocketType::DGRAM, way.to.ip()).ok()?;
                self.lead(&inside, way).ok()?;
                Some(Inner::Socket(inside))
            }
        }
    }

    /// Ends the flows of clients to these ports, which are closed.
    pub(super) fn forget_clients_of(&mut self, ports: &[usize]) {
        let of_port = |key: &Key| matches!(key, Key::In(port, _) if ports.contains(port));
        let flows: Vec<_> =
            self.flows.iter().filter(|(key, _)| of_port(key)).map(|(k, p)| (*k, *p)).collect();
        for (key, place) in flows {
            self.remove_flow(key, place);
        }
    }

    pub(super) fn sweep_flows(&mut self, now: Instant) {
        let is_over = |entity: &Entity| match entity {
            Entity::Flow(flow) => now.duration_since(flow.used) > IDLE,
            _ => true,
        };
        for (key, place) in self.table.over(&self.flows, is_over) {
            self.remove_flow(key, place);
        }
    }
}

/// Where a datagram was sent to (ip(7), IP_RECVORIGDSTADDR).
fn destination(control: ControlMessageOwned) -> Option<SocketAddr> {
    match control {
        ControlMessageOwned::Ipv4OrigDstAddr(to) => Some(SocketAddrV4::from(SockaddrIn::from(to)).into()),
        ControlMessageOwned::Ipv6OrigDstAddr(to) => Some(SocketAddrV6::from(SockaddrIn6::from(to)).into()),
        _ => None,
    }
}

/// How many routers a datagram may have passed yet (ip(7), IP_RECVTTL).
fn ttl(control: ControlMessageOwned) -> Option<u8> {
    match control {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}
