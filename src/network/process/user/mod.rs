//! The user-mode tier: a network without the kernel's help but for a tap(4) interface in each container, which everybody may
//! have. It is a switch and a router, and it ends the containers' TCP connections itself ([`tcb`]).
//!
//! ```text
//!   container ── tap ── switch ─┬─ another container's tap: the frame as it is
//!                               └─ router ─┬─ TCP: Stream, a Tcb and a socket of the host
//!                                          ├─ UDP: Flow, as in the other tier, with packets in the place of one socket
//!                                          └─ echo requests, questions to the name server
//! ```
//!
//! Frames carry up to 64 KiB and no checksums (virtio_net_hdr), so the kernel splits nothing and a stream costs two copies: from
//! the socket of the one side, and to that of the other.
//!
//! What must never happen: a frame of a container under another's address (`is_honest`, what the packet filter does in the
//! other tier), or one that reaches a container of a network whose containers are isolated.

mod frame;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod pieces;
mod segment;
mod stream;
#[cfg(any(test, feature = "fuzzing"))]
mod talk;
mod tcb;

#[cfg(feature = "fuzzing")]
pub use fuzzing::hear_for_fuzzing;
pub(super) use stream::Stream;

use super::{Config, Network};
use super::{ip, packet};
use crate::netlink::link::{Mac, link_local, mac_of};
use frame::{Arp, Carried, ETHERNET, Frame, PACKET, Packet, VNET};
use pieces::Pieces;
use rustix::io::{Errno, IoSlice, read, writev};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often streams that wait for an answer are looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Frames of one container before others have their turn.
const TURNS: usize = 64;
const BROADCAST: Mac = [0xff; 6];

/// A container's cable.
struct Port {
    tap: OwnedFd,
    mac: Mac,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
}

/// The two ends of what passes through a cable: the container's, and the other one as the container sees it.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// The network's switch and router.
pub(super) struct UserMode {
    ports: Vec<Option<Port>>,
    mac: Mac,
    config: Config,
    pub(super) mtu: u16,
    pub(super) streams: HashMap<Ends, usize>,
    /// Flows of datagrams.
    pub(super) flows: HashMap<Ends, usize>,
    pieces: Pieces,
    /// Streams to which something has happened.
    dirty: Vec<usize>,
    /// Streams that wait for an answer.
    waiting: HashSet<usize>,
    looked: Instant,
    buffer: Vec<u8>,
    /// Of packets that are sent in pieces.
    id: u32,
    next_port: u16,
    random: RandomState,
    began: Instant,
}

impl UserMode {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            ports: Vec::new(),
            mac: mac_of(config.gateway),
            config: config.clone(),
            mtu: config.mtu.unwrap_or_else(super::host_mtu),
            streams: HashMap::new(),
            flows: HashMap::new(),
            pieces: Pieces::default(),
            dirty: Vec::new(),
            waiting: HashSet::new(),
            looked: Instant::now(),
            buffer: Vec::new(),
            id: 0,
            next_port: 0,
            random: RandomState::new(),
            began: Instant::now(),
        }
    }

    /// Connects a container; the number of its port.
    pub(super) fn plug(&mut self, tap: OwnedFd, mac: Mac, v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> usize {
        let port = Some(Port { tap, mac, v4, v6 });
        match self.ports.iter().position(Option::is_none) {
            Some(free) => {
                self.ports[free] = port;
                free
            }
            None => {
                self.ports.push(port);
                self.ports.len() - 1
            }
        }
    }

    pub(super) fn unplug(&mut self, number: usize) {
        self.ports[number] = None;
    }

    pub(super) fn tap(&self, number: usize) -> Option<&OwnedFd> {
        self.ports.get(number)?.as_ref().map(|port| &port.tap)
    }

    /// Whether a stream waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Frees what is not needed while nothing happens.
    pub(super) fn trim(&mut self) {
        self.buffer = Vec::new();
    }

    fn port_of(&self, address: IpAddr) -> Option<&Port> {
        self.ports.iter().flatten().find(|port| port.has(address))
    }

    /// A number that nobody else can guess and that grows with time (RFC 6528, 3).
    fn first_number(&self, ends: Ends) -> u32 {
        let tick = self.began.elapsed().as_micros() / 4;
        let secret = self.random.hash_one(ends);
        u32::try_from(secret & 0xffff_ffff)
            .unwrap_or(0)
            .wrapping_add(u32::try_from(tick & 0xffff_ffff).unwrap_or(0))
    }

    /// Ends towards a container that nothing else has: `remote` as it is, or with another port if it is ours to choose.
    pub(super) fn free_ends(
        &mut self,
        container: SocketAddr,
        remote: SocketAddr,
        is_ours: bool,
    ) -> Option<Ends> {
        const EPHEMERAL: std::ops::Range<u16> = 32768..61000;
        let is_free = |remote: SocketAddr| {
            let ends = (container, remote);
            !self.streams.contains_key(&ends) && !self.flows.contains_key(&ends)
        };
        if !is_ours && is_free(remote) {
            return Some((container, remote));
        }
        let ip = if is_ours { remote.ip() } else { self.config.router(container.ip()) };
        // One after the other: the container's kernel remembers those of late (TIME_WAIT).
        let next = self.next_port.clamp(EPHEMERAL.start, EPHEMERAL.end);
        let port = (next..EPHEMERAL.end)
            .chain(EPHEMERAL.start..next)
            .find(|port| is_free(SocketAddr::new(ip, *port)))?;
        self.next_port = port + 1;
        Some((container, SocketAddr::new(ip, port)))
    }

    /// Whether an address is the router's own.
    fn is_router(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.config.gateway,
            IpAddr::V6(v6) => {
                self.config.v6.is_some_and(|own| own.gateway == v6) || v6 == link_local(self.mac)
            }
        }
    }

    /// Sends a packet, in pieces if it is too long, to the container that it is for.
    pub(super) fn send_packet(&mut self, bytes: &[u8]) {
        let framed = frame::whole([BROADCAST, self.mac], bytes);
        let Some(Frame { carried: Carried::Packet(packet), .. }) = frame::read(&framed[VNET..]) else {
            return;
        };
        self.id = self.id.wrapping_add(1);
        let Some(port) = self.port_of(packet.destination) else { return };
        let macs = [port.mac, self.mac];
        let ips = [packet.source, packet.destination];
        let Packet { protocol, payload, ttl, .. } = packet;
        for frame in frame::packet(macs, ips, protocol, payload, ttl, self.mtu, self.id) {
            port.send(&[&frame]);
        }
    }

    /// Sends a datagram to a container.
    pub(super) fn send_datagram(&mut self, (container, remote): Ends, bytes: &[u8]) {
        self.id = self.id.wrapping_add(1);
        let Some(port) = self.port_of(container.ip()) else { return };
        for frame in frame::udp([port.mac, self.mac], [remote, container], bytes, self.mtu, self.id) {
            port.send(&[&frame]);
        }
    }

    /// Lets frames for somebody else on the network go there.
    fn pass_on(&self, from: usize, frame: &Frame<'_>, bytes: &[u8]) {
        if self.config.isolated {
            return;
        }
        let is_for_many = frame.destination[0] & 1 != 0;
        for (number, port) in self.ports.iter().enumerate() {
            if let Some(port) = port
                && number != from
                && (is_for_many || port.mac == frame.destination)
            {
                port.send(&[bytes]);
            }
        }
    }
}

impl Port {
    fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.v4,
            IpAddr::V6(v6) => self.v6.is_some_and(|own| v6 == own || v6 == link_local(self.mac)),
        }
    }

    /// What has no room is lost, as on any cable.
    fn send(&self, parts: &[&[u8]]) {
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let _ = writev(&self.tap, &parts);
    }

    /// Whether a frame is from who it says.
    fn is_honest(&self, frame: &Frame<'_>) -> bool {
        let is_from_here = frame.source == self.mac;
        is_from_here
            && match &frame.carried {
                Carried::Arp(arp) => arp.mac == self.mac && arp.sender == self.v4,
                Carried::Packet(packet) => self.has(packet.source) && self.is_honest_about(packet),
            }
    }

    /// Whether an ICMP message says nothing of others: an error is about a packet that this container got, and what is said
    /// of neighbours is about itself. It does not say where routers are.
    fn is_honest_about(&self, packet: &Packet<'_>) -> bool {
        const HEADER: usize = 8;
        let message = packet.payload;
        let address = |at: usize| <[u8; 16]>::try_from(message.get(at..at + 16)?).ok().map(Ipv6Addr::from);
        let is_icmp = matches!(packet.protocol, ip::ICMP | ip::ICMPV6);
        match (packet.source, message.first().copied()) {
            _ if !is_icmp => true,
            // Nobody sends an error or a neighbour's message in pieces.
            (_, Some(kind)) if packet.piece.is_some() => {
                matches!(kind, 0 | 8 | 128 | 129) || packet.piece.is_some_and(|piece| piece.offset > 0)
            }
            (IpAddr::V4(_), Some(0 | 8)) | (IpAddr::V6(_), Some(128..=133 | 135 | 143)) => true,
            (IpAddr::V4(_), _) => {
                message.get(HEADER + 16..HEADER + 20).is_some_and(|about| about == self.v4.octets())
            }
            (IpAddr::V6(_), Some(136)) => address(HEADER).is_some_and(|about| self.has(about.into())),
            (IpAddr::V6(_), Some(..128)) => address(HEADER + 24).is_some_and(|about| self.has(about.into())),
            _ => false,
        }
    }
}

impl Network {
    /// The user-mode tier, if that is what this is.
    pub(super) fn user(&mut self) -> Option<&mut UserMode> {
        self.tier.user()
    }

    /// Reads what a container sends.
    pub(super) fn read_tap(&mut self, number: usize) {
        let Some(user) = self.user() else { return };
        let mut buffer = std::mem::take(&mut user.buffer);
        buffer.resize(frame::LARGEST, 0);
        for _ in 0..TURNS {
            let Some(user) = self.user() else { return };
            let Some(tap) = user.tap(number) else { break };
            match read(tap, &mut buffer[..]) {
                Ok(length) if length > PACKET => self.hear_frame(number, &buffer[..length]),
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if let Some(user) = self.user() {
            user.buffer = buffer;
        }
        self.run_dirty();
    }

    fn hear_frame(&mut self, number: usize, bytes: &[u8]) {
        let Some(user) = self.tier.user() else { return };
        let Some(frame) = frame::read(&bytes[VNET..]) else { return };
        let Some(port) = user.ports.get(number).and_then(Option::as_ref) else { return };
        if !port.is_honest(&frame) {
            return;
        }
        match &frame.carried {
            Carried::Arp(Arp { is_question: true, target, sender, mac })
                if *target == user.config.gateway =>
            {
                port.send(&[&frame::arp_answer(*mac, *sender, user.mac, *target)]);
            }
            Carried::Packet(packet) if frame.destination == user.mac => {
                if let Some(target) =
                    frame::solicited(packet).filter(|target| user.is_router((*target).into()))
                {
                    return user.advertise(number, packet.source, target);
                }
                self.hear_packet(packet);
            }
            Carried::Packet(packet) if frame::solicited(packet).is_some_and(|t| user.is_router(t.into())) => {
                if let Some(target) = frame::solicited(packet) {
                    user.advertise(number, packet.source, target);
                }
            }
            _ => user.pass_on(number, &frame, bytes),
        }
    }

    /// A packet to the router, or to somewhere behind it.
    fn hear_packet(&mut self, packet: &Packet<'_>) {
        let Some(user) = self.tier.user() else { return };
        if let Some(piece) = packet.piece {
            let Some(payload) = user.pieces.take(packet, piece, Instant::now()) else { return };
            let ips = [packet.source, packet.destination];
            let whole = frame::packet([[0; 6]; 2], ips, packet.protocol, &payload, packet.ttl, u16::MAX, 0);
            let Some(bytes) = whole.first().and_then(|whole| whole.get(VNET..)) else { return };
            if let Some(Frame { carried: Carried::Packet(whole), .. }) = frame::read(bytes)
                && whole.piece.is_none()
            {
                self.hear_packet(&whole);
            }
            return;
        }
        let is_router = user.is_router(packet.destination);
        if packet.ttl <= 1 && !is_router {
            let answer = packet::exceeded(user.config.router(packet.source), packet.source, packet.bytes);
            return user.send_packet(&answer);
        }
        match packet.protocol {
            ip::TCP => self.hear_segment(packet),
            ip::UDP => self.hear_datagram(packet, is_router),
            ip::ICMP | ip::ICMPV6 => self.hear_icmp(packet, is_router),
            _ => {}
        }
    }

    fn hear_datagram(&mut self, packet: &Packet<'_>, is_router: bool) {
        let Some((header, data)) = packet.payload.split_first_chunk::<8>() else { return };
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let length = usize::from(port(4)).checked_sub(8);
        let Some(data) = length.and_then(|length| data.get(..length)) else { return };
        let source = SocketAddr::new(packet.source, port(0));
        let destination = SocketAddr::new(packet.destination, port(2));
        let Some(user) = self.tier.user() else { return };
        match user.flows.get(&(source, destination)).copied() {
            Some(place) => self.datagram_of_container(place, data),
            None if is_router && destination.port() == 53 => self.question(data, source),
            None if is_router => {
                let answer = packet::port_unreachable(packet.destination, packet.source, packet.bytes);
                user.send_packet(&answer);
            }
            None => self.open_flow(source, destination, packet.ttl.saturating_sub(1), data),
        }
    }

    fn hear_icmp(&mut self, packet: &Packet<'_>, is_router: bool) {
        match packet::read(packet.bytes) {
            packet::Packet::Echo(echo) if is_router => {
                let answer = packet::echo_reply(&echo, echo.sequence, &packet.bytes[echo.payload..]);
                if let Some(user) = self.user() {
                    user.send_packet(&answer);
                }
            }
            // The router has let it pass; what is told of the next one is told by the same.
            packet::Packet::Echo(echo) => {
                self.echo(&packet::Echo { ttl: echo.ttl.saturating_sub(1), ..echo }, packet.bytes);
            }
            _ => {
                if let Some(ends) = packet::refused(packet.payload, packet.source) {
                    self.datagram_refused(ends);
                }
            }
        }
    }
}

impl UserMode {
    /// Says to who asked that an address is the router's.
    fn advertise(&mut self, number: usize, to: IpAddr, target: Ipv6Addr) {
        let Some(port) = self.ports.get(number).and_then(Option::as_ref) else { return };
        let ips = [IpAddr::V6(target), to];
        let mut message = frame::advertisement(self.mac, target);
        frame::icmp_checksum(ips, &mut message);
        for frame in frame::packet([port.mac, self.mac], ips, ip::ICMPV6, &message, 255, self.mtu, 0) {
            port.send(&[&frame]);
        }
    }
}

/// Bytes of a frame that are in front of a TCP payload at most, and how much payload fits behind that into 64 KiB.
const MOST_PAYLOAD: usize = (64 << 10) - 1 - 40 - 60 - ETHERNET;
