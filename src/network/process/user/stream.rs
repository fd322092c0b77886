//! A container's TCP connection, ended here, and the socket of the host that it is joined with.

use super::super::publish::WayIn;
use super::super::relay::{self, Whose};
use super::super::{Entity, Network, RELAYED, tcp, watch_end};
use super::frame::{self, Packet};
use super::segment::{self, Flags, Segment};
use super::tcb::{Heard, Out, Tcb};
use super::{Ends, MOST_PAYLOAD, TICK, UserMode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// How often a stream takes bytes from the host before others have their turn.
const TURNS: usize = 32;

/// A client that waits for the container's answer: who it is, and its other ways in.
type Arriving = (SocketAddr, VecDeque<WayIn>);

/// Two ends of a stream: a container's connection and a socket of the host.
pub(in super::super) struct Stream {
    tcb: Tcb,
    host: OwnedFd,
    ends: Ends,
    whose: Option<Whose>,
    arriving: Option<Arriving>,
    /// Whether the socket may have bytes for the container.
    is_readable: bool,
    /// Whether the socket has been told that the container has said all.
    is_told: bool,
    is_broken: bool,
    /// Whether the container is gone; what it has said is still passed on.
    is_orphan: bool,
    moved: [u64; 2],
}

impl Stream {
    fn new(tcb: Tcb, host: OwnedFd, ends: Ends, whose: Option<Whose>) -> Self {
        Self {
            tcb,
            host,
            ends,
            whose,
            arriving: None,
            is_readable: true,
            is_told: false,
            is_broken: false,
            is_orphan: false,
            moved: [0; 2],
        }
    }

    pub(in super::super) fn host(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }

    /// Whose it is, as for a relay.
    pub(in super::super) fn whose(&self) -> Option<Whose> {
        self.whose
    }

    /// The container's end.
    pub(in super::super) fn container(&self) -> SocketAddr {
        self.ends.0
    }

    /// Bytes from the container, and to it.
    pub(in super::super) fn moved(&self) -> [u64; 2] {
        self.moved
    }

    /// The container is gone. Whether it had said all.
    pub(in super::super) fn orphan(&mut self) -> bool {
        self.is_orphan = true;
        !self.tcb.is_open()
    }

    /// Passes bytes of the container on; how many were taken.
    fn pass(host: &OwnedFd, bytes: &[u8], is_broken: &mut bool) -> usize {
        match send(host, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                *is_broken = true;
                0
            }
        }
    }

    fn hear(&mut self, segment: &Segment<'_>) -> Heard {
        let Self { tcb, host, is_broken, moved, .. } = self;
        tcb.hear(segment, |bytes| {
            moved[0] += bytes.len() as u64;
            Self::pass(host, bytes, is_broken)
        })
    }

    /// Passes on what the host had no room for, and the end behind it.
    fn drain(&mut self) {
        while !self.tcb.rest().is_empty() {
            let count = Self::pass(&self.host, self.tcb.rest(), &mut self.is_broken);
            if count == 0 {
                return;
            }
            self.tcb.took(count);
        }
        if self.tcb.has_said_all() && !self.is_told {
            self.is_told = true;
            // It may be gone already.
            let _ = shutdown(&self.host, Shutdown::Write);
        }
    }

    /// Sends what is to be sent.
    fn send(&mut self, user: &UserMode, now: Instant) {
        let mss = self.tcb.mss();
        while let Some(out) = self.tcb.next(now) {
            user.send_segment(self.ends, &out, mss);
        }
    }

    /// Takes bytes of the host for the container; whether there may be more.
    fn fill(&mut self, buffer: &mut [u8], now: Instant) -> bool {
        for _ in 0..TURNS {
            if !self.is_readable {
                return false;
            }
            let room = self.tcb.room().min(MOST_PAYLOAD).min(buffer.len());
            if room == 0 {
                self.tcb.wait_for_room(now);
                return false;
            }
            match recv(&self.host, &mut buffer[..room], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.tcb.finish();
                    self.is_readable = false;
                }
                Ok((count, _)) => {
                    self.moved[1] += count as u64;
                    self.tcb.push(buffer[..count].to_vec());
                    return true;
                }
                Err(Errno::AGAIN) => self.is_readable = false,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.is_broken = true;
                    return false;
                }
            }
        }
        self.is_readable
    }
}

impl UserMode {
    fn send_segment(&self, (container, remote): Ends, out: &Out<'_>, mss: u16) {
        let Some(port) = self.port_of(container.ip()) else { return };
        let segment = Segment {
            source: remote.port(),
            destination: container.port(),
            sequence: out.sequence,
            acknowledged: out.acknowledged,
            flags: out.flags,
            window: out.window,
            mss: 0,
            scale: None,
            payload: out.payload,
        };
        let header =
            frame::tcp([port.mac, self.mac], [remote.ip(), container.ip()], &segment, out.offer, mss);
        port.send(&[&header, out.payload]);
    }

    /// Says that there is no such connection (RFC 9293, 3.10.7.1), or that it is broken.
    fn send_reset(&self, ends: Ends, sequence: u32, acknowledged: u32) {
        let flags = Flags::RST.with(Flags::ACK);
        let out = Out { sequence, acknowledged, flags, window: 0, offer: None, payload: &[] };
        self.send_segment(ends, &out, u16::MAX);
    }

    /// Bytes of a segment, by this family, in a packet of the network.
    fn mss(&self, container: SocketAddr) -> u16 {
        let headers = if container.is_ipv4() { 40 } else { 60 };
        self.mtu - headers
    }
}

impl Network {
    /// A segment of a container.
    pub(super) fn hear_segment(&mut self, packet: &Packet<'_>) {
        let Some(segment) = segment::read(packet.payload) else { return };
        let container = SocketAddr::new(packet.source, segment.source);
        let ends = (container, SocketAddr::new(packet.destination, segment.destination));
        let Some(user) = self.tier.user() else { return };
        let is_syn = segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK);
        let Some(place) = user.streams.get(&ends).copied() else {
            if segment.flags.has(Flags::RST) {
                return self.give_up(ends);
            }
            return match is_syn {
                true => self.hear_syn(ends, &segment, packet.bytes),
                // What is not known is not there.
                false => user.send_reset(ends, segment.acknowledged, segment.sequence),
            };
        };
        let Some(Entity::Stream(stream)) = self.table.get(place) else { return };
        match stream.hear(&segment) {
            Heard::Something => {}
            Heard::Connected => {
                stream.arriving = None;
                stream.is_readable = true;
            }
            Heard::Reset => return self.broken_by_container(place),
            Heard::Stale => {
                stream.tcb.ask_again();
                user.send_reset(ends, segment.acknowledged, segment.sequence);
            }
        }
        user.dirty.push(place);
    }

    fn hear_syn(&mut self, ends: Ends, syn: &Segment<'_>, packet: &[u8]) {
        let (source, destination) = ends;
        let has_room = self.has_room_for_asking();
        let Some(user) = self.tier.user() else { return };
        if !user.is_router(destination.ip()) {
            return self.hold(source, destination, syn.sequence, packet);
        }
        if destination.port() != 53 || !has_room {
            return user.send_reset(ends, 0, syn.sequence.wrapping_add(1));
        }
        // The name server is a client of its own: it talks to the other end of this.
        if let Ok((host, client)) = socket_pair() {
            self.begin_stream(ends, syn, host, None);
            self.begin_asking(client, source);
        }
    }

    /// The destination has answered: now the container is answered.
    pub(in super::super) fn answer_stream(&mut self, pending: tcp::Pending) {
        let (container, remote) = pending.key;
        let framed = frame::whole([[0; 6]; 2], &pending.syn);
        let read = frame::read(&framed[frame::VNET..]);
        let Some(frame::Frame { carried: frame::Carried::Packet(packet), .. }) = read else { return };
        let Some(syn) = segment::read(packet.payload) else { return };
        let whose = Whose { container, remote, inwards: false };
        self.begin_stream(pending.key, &syn, pending.socket, Some(whose));
    }

    fn begin_stream(&mut self, ends: Ends, syn: &Segment<'_>, host: OwnedFd, whose: Option<Whose>) {
        let Some(user) = self.tier.user() else { return };
        let tcb = Tcb::answer(syn, user.mss(ends.0), user.first_number(ends));
        self.add_stream(Stream::new(tcb, host, ends, whose));
    }

    fn add_stream(&mut self, stream: Stream) {
        let place = self.table.add(Entity::Tun);
        let ends = stream.ends;
        let watched = watch_end(&self.epoll, stream.host.as_fd(), place, 1, RELAYED);
        self.table.put(place, Entity::Stream(stream));
        if let Some(user) = self.tier.user() {
            user.streams.insert(ends, place);
        }
        match watched {
            Ok(()) => self.run_stream(place),
            Err(_) => self.break_stream(place),
        }
    }

    /// Asks the container for a connection for a client that has come.
    pub(in super::super) fn ask_container(
        &mut self,
        client: OwnedFd,
        peer: SocketAddr,
        mut ways: VecDeque<WayIn>,
    ) {
        let next = ways.pop_front();
        let Some(user) = self.tier.user() else { return };
        let ends = next.and_then(|way| {
            let own = way.own.unwrap_or(SocketAddr::new(user.config.router(way.to.ip()), 0));
            user.free_ends(way.to, own, way.own.is_none())
        });
        let Some(ends) = ends else { return relay::reset(&client) };
        let tcb = Tcb::ask(user.mss(ends.0), user.first_number(ends));
        let remote = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let whose = Whose { container: ends.0, remote, inwards: true };
        let mut stream = Stream::new(tcb, client, ends, Some(whose));
        stream.arriving = Some((peer, ways));
        self.add_stream(stream);
    }

    /// Something has happened at the host's socket of a stream.
    pub(in super::super) fn stream_event(&mut self, place: usize) {
        if let Some(Entity::Stream(stream)) = self.table.get(place) {
            stream.is_readable = true;
        }
        self.run_stream(place);
    }

    /// Runs the streams of which segments have come.
    pub(super) fn run_dirty(&mut self) {
        let Some(user) = self.tier.user() else { return };
        let mut dirty = std::mem::take(&mut user.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for place in &dirty {
            self.run_stream(*place);
        }
        dirty.clear();
        if let Some(user) = self.tier.user() {
            user.dirty = dirty;
        }
    }

    fn run_stream(&mut self, place: usize) {
        let now = Instant::now();
        let Some(Entity::Stream(stream)) = self.table.get(place) else { return };
        let Some(user) = self.tier.user() else { return };
        let mut has_more = false;
        if stream.arriving.is_none() {
            stream.drain();
            for _ in 0..TURNS {
                has_more = !stream.is_orphan && stream.fill(&mut self.buffer[..], now);
                stream.send(user, now);
                if !has_more || stream.is_broken {
                    break;
                }
            }
        } else {
            stream.send(user, now);
        }
        if stream.is_broken {
            return self.break_stream(place);
        }
        let is_of_no_use = match stream.whose {
            // The name server has said all: whoever does not end then must not be waited for.
            None => stream.tcb.is_end_known(),
            Some(_) => stream.is_orphan && stream.is_told,
        };
        if stream.tcb.is_over() || is_of_no_use {
            return self.end_stream(place);
        }
        match stream.tcb.deadline() {
            Some(_) => user.waiting.insert(place),
            None => user.waiting.remove(&place),
        };
        if has_more {
            self.busy.push(place);
        }
    }

    fn end_stream(&mut self, place: usize) {
        let Some(Entity::Stream(stream)) = self.remove(place) else { return };
        if let Some(user) = self.tier.user() {
            user.streams.remove(&stream.ends);
            user.waiting.remove(&place);
        }
    }

    /// The host's side broke, or gave up: the container sees a reset.
    pub(in super::super) fn break_stream(&mut self, place: usize) {
        if let Some(Entity::Stream(stream)) = self.table.get(place) {
            let ends = stream.ends;
            let (sequence, acknowledged) = stream.tcb.numbers();
            relay::reset(&stream.host);
            if let Some(user) = self.tier.user() {
                user.send_reset(ends, sequence, acknowledged);
            }
        }
        self.end_stream(place);
    }

    /// The container broke the connection, or refused it.
    fn broken_by_container(&mut self, place: usize) {
        let Some(Entity::Stream(stream)) = self.table.get(place) else { return };
        match stream.arriving.take() {
            Some((peer, ways)) => {
                let Some(Entity::Stream(stream)) = self.remove(place) else { return };
                if let Some(user) = self.tier.user() {
                    user.streams.remove(&stream.ends);
                    user.waiting.remove(&place);
                }
                let _ = rustix::event::epoll::delete(&self.epoll, &stream.host);
                match ways.is_empty() {
                    true => relay::reset(&stream.host),
                    false => self.ask_container(stream.host, peer, ways),
                }
            }
            None => {
                relay::reset(&stream.host);
                self.end_stream(place);
            }
        }
    }

    /// A container has given up a connection whose destination has not answered.
    fn give_up(&mut self, ends: Ends) {
        if let Some(place) = self.pending.remove(&ends) {
            self.remove(place);
        }
    }

    /// Looks after streams that have waited for an answer.
    pub(in super::super) fn sweep_streams(&mut self, now: Instant) {
        let Some(user) = self.tier.user() else { return };
        if now.duration_since(user.looked) < TICK {
            return;
        }
        user.looked = now;
        let waiting: Vec<usize> = user.waiting.iter().copied().collect();
        for place in waiting {
            let Some(Entity::Stream(stream)) = self.table.get(place) else { continue };
            match stream.tcb.is_late(now) {
                true => self.run_stream(place),
                false if stream.arriving.is_some() => self.broken_by_container(place),
                false => self.break_stream(place),
            }
        }
    }
}

/// Two sockets that are connected with one another.
fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}
