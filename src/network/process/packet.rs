//! The few packets that are read and made in user space: a TCP SYN, to be held until its connection is decided, the
//! answers to one that is refused, and ICMP echo; of IPv4 and IPv6. Pure functions over bytes that containers chose: they
//! never index beyond what is there.

use super::ip::{self, HEADER_4, HEADER_6, ICMP, ICMPV6, TCP, UDP};
use std::net::{IpAddr, SocketAddr};

/// A packet that a container sent to somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// It wants to connect.
    Syn {
        /// From.
        source: SocketAddr,
        /// To.
        destination: SocketAddr,
        /// Its sequence number.
        sequence: u32,
    },
    /// An ICMP echo request.
    Echo(Echo),
    /// Anything else.
    Other,
}

/// An echo request, or the reply to one (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// Routers that it may pass.
    pub ttl: u8,
    /// Whose it is, to its sender.
    pub id: u16,
    /// Which one of his.
    pub sequence: u16,
    /// Where in the packet the message is that comes after these.
    pub payload: usize,
}

/// An ICMP echo has its type, code, checksum, id and number before its payload.
const ECHO_HEADER: usize = 8;
const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;

/// The type of an echo request in ICMP of this address's family.
pub const fn echo_request(family: IpAddr) -> u8 {
    if family.is_ipv4() { 8 } else { 128 }
}

/// The same of the reply to one.
pub const fn echo_reply_to(family: IpAddr) -> u8 {
    if family.is_ipv4() { 0 } else { 129 }
}

/// What is in front of the payload of a packet.
struct Header {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    protocol: u8,
    length: usize,
}

/// Reads a packet. A fragment is never a SYN.
pub fn read(bytes: &[u8]) -> Packet {
    parse(bytes).unwrap_or(Packet::Other)
}

fn header(bytes: &[u8]) -> Option<Header> {
    match bytes.first()? >> 4 {
        4 => {
            let length = usize::from(bytes[0] & 15) * 4;
            let fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x3fff;
            let address = |at: usize| Some(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?.into());
            (length >= HEADER_4 && fragment == 0).then_some(())?;
            let (source, destination) = (address(12)?, address(16)?);
            Some(Header { source, destination, ttl: bytes[8], protocol: bytes[9], length })
        }
        6 => {
            // What comes with extension headers is neither a SYN nor an echo that anybody sends.
            let address = |at: usize| Some(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?.into());
            let (source, destination) = (address(8)?, address(24)?);
            Some(Header { source, destination, ttl: bytes[7], protocol: bytes[6], length: HEADER_6 })
        }
        _ => None,
    }
}

fn parse(bytes: &[u8]) -> Option<Packet> {
    let Header { source, destination, ttl, protocol, length } = header(bytes)?;
    let icmp = if source.is_ipv4() { ICMP } else { ICMPV6 };
    if protocol == icmp {
        let icmp = bytes.get(length..length + ECHO_HEADER)?;
        let is_echo = icmp[..2] == [echo_request(source), 0];
        return is_echo.then_some(Packet::Echo(Echo {
            source,
            destination,
            ttl,
            id: u16::from_be_bytes([icmp[4], icmp[5]]),
            sequence: u16::from_be_bytes([icmp[6], icmp[7]]),
            payload: length + ECHO_HEADER,
        }));
    }
    if protocol != TCP {
        return None;
    }
    let tcp = bytes.get(length..length + 20)?;
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    if tcp[13] & (SYN | ACK | RST) != SYN {
        return None;
    }
    Some(Packet::Syn {
        source: SocketAddr::new(source, port(0)),
        destination: SocketAddr::new(destination, port(2)),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
    })
}

/// The answer of a destination that refuses: RST to a SYN of this sequence number (RFC 9293, 3.10.7.1).
pub fn reset(source: SocketAddr, destination: SocketAddr, sequence: u32) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend(destination.port().to_be_bytes());
    tcp.extend(source.port().to_be_bytes());
    tcp.extend(0u32.to_be_bytes());
    tcp.extend(sequence.wrapping_add(1).to_be_bytes());
    tcp.extend([0x50, RST | ACK, 0, 0, 0, 0, 0, 0]);
    let sum = checksum_with(destination.ip(), source.ip(), TCP, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(destination.ip(), source.ip(), TCP, &tcp)
}

/// Why a destination cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route leads there.
    Network,
    /// Nobody is there.
    Host,
    /// It is forbidden.
    Prohibited,
}

impl Unreachable {
    /// The type and the code (RFC 792 and 1812; RFC 4443, 3.1).
    fn kind(self, family: IpAddr) -> [u8; 2] {
        match (family, self) {
            (IpAddr::V4(_), Self::Network) => [3, 0],
            (IpAddr::V4(_), Self::Host) => [3, 1],
            (IpAddr::V4(_), Self::Prohibited) => [3, 13],
            (IpAddr::V6(_), Self::Network) => [1, 0],
            (IpAddr::V6(_), Self::Host) => [1, 3],
            (IpAddr::V6(_), Self::Prohibited) => [1, 1],
        }
    }
}

/// The answer of the router for a packet that goes nowhere: "destination unreachable" with the packet's beginning.
pub fn unreachable(router: IpAddr, to: IpAddr, why: Unreachable, packet: &[u8]) -> Vec<u8> {
    error(router, to, why.kind(to), [0; 4], packet)
}

/// The answer of the router for a packet that has passed too many.
pub fn exceeded(router: IpAddr, to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let kind = if to.is_ipv4() { 11 } else { 3 };
    error(router, to, [kind, 0], [0; 4], packet)
}

/// The headers of a datagram of this many bytes, as its sender knows it, for an error about it.
pub fn datagram(source: SocketAddr, destination: SocketAddr, length: usize) -> Vec<u8> {
    let length = u16::try_from(8 + length).unwrap_or(u16::MAX);
    let ports = [source.port(), destination.port(), length, 0].map(u16::to_be_bytes);
    packet(source.ip(), destination.ip(), UDP, ports.as_flattened())
}

/// The answer of a host for a datagram to a port where nobody receives.
pub fn port_unreachable(host: IpAddr, to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let kind = if to.is_ipv4() { [3, 3] } else { [1, 4] };
    error(host, to, kind, [0; 4], packet)
}

/// The ends of the flow, the container's first, about whose datagram an ICMP message of this family says that nobody
/// receives it.
pub fn refused(message: &[u8], family: IpAddr) -> Option<(SocketAddr, SocketAddr)> {
    let kind = if family.is_ipv4() { [3, 3] } else { [1, 4] };
    let about = message.get(8..).filter(|_| message[..2] == kind)?;
    let Header { source, destination, protocol, length, .. } = header(about)?;
    let ports = about.get(length..length + 4).filter(|_| protocol == UDP)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((SocketAddr::new(destination, port(2)), SocketAddr::new(source, port(0))))
}

/// An ICMP error of this type and code about a packet, whose beginning is sent back; `rest` is what the type has to say.
pub fn error(router: IpAddr, to: IpAddr, kind: [u8; 2], rest: [u8; 4], packet: &[u8]) -> Vec<u8> {
    let quoted = match to {
        IpAddr::V4(_) => usize::from(packet.first().map_or(0, |b| b & 15)) * 4 + 8,
        // As much as fits into the least that everybody takes (RFC 4443, 3.1).
        IpAddr::V6(_) => usize::from(crate::network::MIN_MTU) - HEADER_6 - 8,
    };
    let mut bytes = vec![kind[0], kind[1], 0, 0];
    bytes.extend(rest);
    bytes.extend(&packet[..packet.len().min(quoted)]);
    icmp(router, to, bytes)
}

/// The reply to an echo request, as the container's own.
pub fn echo_reply(request: &Echo, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![echo_reply_to(request.source), 0, 0, 0];
    bytes.extend(request.id.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(payload);
    icmp(request.destination, request.source, bytes)
}

fn icmp(source: IpAddr, destination: IpAddr, mut bytes: Vec<u8>) -> Vec<u8> {
    let (protocol, sum) = match source {
        IpAddr::V4(_) => (ICMP, checksum(&bytes)),
        IpAddr::V6(_) => (ICMPV6, checksum_with(source, destination, ICMPV6, &bytes)),
    };
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(source, destination, protocol, &bytes)
}

/// A packet between two addresses of one family.
fn packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_6 + payload.len());
    let of = ip::Header { source, destination, protocol, payload: payload.len(), ttl: 64, piece: None };
    ip::header(&mut packet, &of);
    packet.extend(payload);
    packet
}

/// The checksum of what is between two addresses: these count, too.
fn checksum_with(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    !ip::folded(ip::sum(ip::pseudo([source, destination], protocol, payload.len()), payload))
}

fn checksum(bytes: &[u8]) -> u16 {
    !ip::folded(ip::sum(0, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN_HEADER: [u8; 20] =
        [0x9c, 0x40, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn syn() -> Vec<u8> {
        super::packet(address("10.88.0.2"), address("192.0.2.1"), TCP, &SYN_HEADER)
    }

    fn syn_6() -> Vec<u8> {
        super::packet(address("fd00::2"), address("2001:db8::1"), TCP, &SYN_HEADER)
    }

    #[test]
    fn a_syn_is_read_and_nothing_else_is_taken_for_one() {
        let packet = syn();
        let Packet::Syn { source, destination, sequence } = read(&packet) else { panic!() };
        assert_eq!(source, "10.88.0.2:40000".parse().unwrap());
        assert_eq!(destination, "192.0.2.1:80".parse().unwrap());
        assert_eq!(sequence, 0x0102_0304);
        for (at, value) in
            [(33, SYN | ACK), (33, ACK), (33, SYN | RST), (9, 17), (0, 0x65), (0, 0x44), (7, 1), (6, 0x20)]
        {
            let mut other = packet.clone();
            other[at] = value;
            assert_eq!(read(&other), Packet::Other, "{at}");
        }
        for end in 0..packet.len() {
            assert_eq!(read(&packet[..end]), Packet::Other);
        }
        // A header with options moves everything behind it.
        let mut options = packet.clone();
        options[0] = 0x4f;
        assert_eq!(read(&options), Packet::Other);
    }

    #[test]
    fn an_echo_request_is_read_and_answered() {
        let request = [8, 0, 0, 0, 0x12, 0x34, 0, 7, b'x', b'y'];
        let packet = super::packet(address("10.88.0.2"), address("192.0.2.1"), ICMP, &request);
        let Packet::Echo(echo) = read(&packet) else { panic!() };
        assert_eq!((echo.id, echo.sequence, echo.ttl, &packet[echo.payload..]), (0x1234, 7, 64, &b"xy"[..]));
        for (at, value) in [(20, 0), (21, 1), (9, 2), (7, 1)] {
            let mut other = packet.clone();
            other[at] = value;
            assert_eq!(read(&other), Packet::Other, "{at}");
        }
        let reply = echo_reply(&echo, 7, b"xy");
        assert_eq!((checksum(&reply[..20]), checksum(&reply[20..])), (0, 0));
        assert_eq!((&reply[12..16], &reply[16..20]), (&packet[16..20], &packet[12..16]));
        assert_eq!(reply[20..22], [0, 0]);
        assert_eq!(reply[24..], request[4..]);
    }

    #[test]
    fn answers_have_right_checksums() {
        let (source, destination): (SocketAddr, SocketAddr) =
            ("10.88.0.2:40000".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        let answer = reset(source, destination, u32::MAX);
        assert_eq!(checksum(&answer[..20]), 0);
        let mut pseudo = [&answer[12..20], &[0, TCP, 0, 20]].concat();
        pseudo.extend(&answer[20..]);
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(answer[28..32], [0, 0, 0, 0]);
        let answer = unreachable(address("10.88.0.1"), source.ip(), Unreachable::Host, &syn());
        assert_eq!((checksum(&answer[..20]), checksum(&answer[20..])), (0, 0));
        assert_eq!(answer.len(), 20 + 8 + 28);
        assert_eq!(unreachable(source.ip(), source.ip(), Unreachable::Host, &[]).len(), 28);
    }

    /// What the checksum of an IPv6 packet's payload comes to: zero if it is right.
    fn sum_6(packet: &[u8]) -> u16 {
        let next = packet[6];
        let length = u32::try_from(packet.len() - HEADER_6).unwrap().to_be_bytes();
        assert_eq!(packet[4..6], length[2..]);
        checksum(&[&packet[8..40], &length, &[0, 0, 0, next], &packet[40..]].concat())
    }

    #[test]
    fn packets_of_ipv6_are_read_and_answered() {
        let packet = syn_6();
        let Packet::Syn { source, destination, sequence } = read(&packet) else { panic!() };
        assert_eq!((source, sequence), ("[fd00::2]:40000".parse().unwrap(), 0x0102_0304));
        for end in 0..packet.len() {
            assert_eq!(read(&packet[..end]), Packet::Other);
        }
        for (at, value) in [(53, SYN | ACK), (6, 17), (6, 0), (6, 44), (0, 0x45)] {
            let mut other = packet.clone();
            other[at] = value;
            assert_eq!(read(&other), Packet::Other, "{at}");
        }
        let answer = reset(source, destination, sequence);
        assert_eq!((sum_6(&answer), &answer[8..24], &answer[24..40]), (0, &packet[24..40], &packet[8..24]));
        for (why, kind) in
            [(Unreachable::Network, [1, 0]), (Unreachable::Host, [1, 3]), (Unreachable::Prohibited, [1, 1])]
        {
            let answer = unreachable(address("fd00::1"), source.ip(), why, &packet);
            assert_eq!((sum_6(&answer), &answer[40..42], &answer[48..]), (0, &kind[..], &packet[..]));
        }
        // An error is never longer than what everybody takes.
        assert_eq!(exceeded(address("fd00::1"), source.ip(), &[0; 9000]).len(), 1280);
        let request =
            super::packet(source.ip(), destination.ip(), ICMPV6, &[128, 0, 0, 0, 0x12, 0x34, 0, 7, b'x']);
        let Packet::Echo(echo) = read(&request) else { panic!() };
        assert_eq!((echo.id, echo.sequence, echo.ttl, echo.payload), (0x1234, 7, 64, 48));
        let reply = echo_reply(&echo, 7, b"x");
        assert_eq!((sum_6(&reply), reply[40], &reply[44..]), (0, 129, &request[44..]));
    }
}
