//! The few packets that are read and made in user space: a TCP SYN, to be held until its connection is decided, the
//! answers to one that is refused, and ICMP echo. Pure functions over bytes that containers chose: they never index
//! beyond what is there.

use std::net::{Ipv4Addr, SocketAddrV4};

/// An IPv4 packet that a container sent to somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// It wants to connect.
    Syn {
        /// From.
        source: SocketAddrV4,
        /// To.
        destination: SocketAddrV4,
        /// Its sequence number.
        sequence: u32,
    },
    /// An ICMP echo request.
    Echo(Echo),
    /// Anything else.
    Other,
}

/// An echo request, or the reply to one (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// From.
    pub source: Ipv4Addr,
    /// To.
    pub destination: Ipv4Addr,
    /// Routers that it may pass.
    pub ttl: u8,
    /// Whose it is, to its sender.
    pub id: u16,
    /// Which one of his.
    pub sequence: u16,
    /// Where in the packet the message is that comes after these.
    pub payload: usize,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
/// An ICMP echo has its type, code, checksum, id and number before its payload.
const ECHO_HEADER: usize = 8;
const ECHO_REQUEST: u8 = 8;
const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;

/// Reads a packet. A fragment is never a SYN.
pub fn read(bytes: &[u8]) -> Packet {
    parse(bytes).unwrap_or(Packet::Other)
}

fn parse(bytes: &[u8]) -> Option<Packet> {
    let first = *bytes.first()?;
    let header = usize::from(first & 15) * 4;
    let fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x3fff;
    if first >> 4 != 4 || header < 20 || fragment != 0 {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    if *bytes.get(9)? == ICMP {
        let icmp = bytes.get(header..header + ECHO_HEADER)?;
        let is_echo = icmp[..2] == [ECHO_REQUEST, 0];
        return is_echo.then_some(Packet::Echo(Echo {
            source: address(12)?,
            destination: address(16)?,
            ttl: *bytes.get(8)?,
            id: u16::from_be_bytes([icmp[4], icmp[5]]),
            sequence: u16::from_be_bytes([icmp[6], icmp[7]]),
            payload: header + ECHO_HEADER,
        }));
    }
    if *bytes.get(9)? != TCP {
        return None;
    }
    let tcp = bytes.get(header..header + 20)?;
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    if tcp[13] & (SYN | ACK | RST) != SYN {
        return None;
    }
    Some(Packet::Syn {
        source: SocketAddrV4::new(address(12)?, port(0)),
        destination: SocketAddrV4::new(address(16)?, port(2)),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
    })
}

/// The answer of a destination that refuses: RST to a SYN of this sequence number (RFC 9293, 3.10.7.1).
pub fn reset(source: SocketAddrV4, destination: SocketAddrV4, sequence: u32) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend(destination.port().to_be_bytes());
    tcp.extend(source.port().to_be_bytes());
    tcp.extend(0u32.to_be_bytes());
    tcp.extend(sequence.wrapping_add(1).to_be_bytes());
    tcp.extend([0x50, RST | ACK, 0, 0, 0, 0, 0, 0]);
    let mut pseudo = Vec::with_capacity(32);
    pseudo.extend(destination.ip().octets());
    pseudo.extend(source.ip().octets());
    pseudo.extend([0, TCP, 0, 20]);
    pseudo.extend(&tcp);
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(*destination.ip(), *source.ip(), TCP, &tcp)
}

/// Why a destination cannot be reached (ICMP type 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Code 0.
    Network = 0,
    /// Code 1.
    Host = 1,
    /// Code 13.
    Prohibited = 13,
}

/// The answer of the router for a packet that goes nowhere: "destination unreachable" with the packet's beginning
/// (RFC 792).
pub fn unreachable(router: Ipv4Addr, to: Ipv4Addr, why: Unreachable, packet: &[u8]) -> Vec<u8> {
    const UNREACHABLE: u8 = 3;
    error(router, to, [UNREACHABLE, why as u8], [0; 4], packet)
}

/// An ICMP error of this type and code about a packet, whose beginning is sent back; `rest` is what the type has to say.
pub fn error(router: Ipv4Addr, to: Ipv4Addr, kind: [u8; 2], rest: [u8; 4], packet: &[u8]) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(usize::from(packet.first().map_or(0, |b| b & 15)) * 4 + 8)];
    let mut bytes = vec![kind[0], kind[1], 0, 0];
    bytes.extend(rest);
    bytes.extend(quoted);
    icmp(router, to, bytes)
}

/// The reply to an echo request, as the container's own.
pub fn echo_reply(request: &Echo, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(request.id.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(payload);
    icmp(request.destination, request.source, bytes)
}

fn icmp(source: Ipv4Addr, destination: Ipv4Addr, mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(source, destination, ICMP, &bytes)
}

fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Vec<u8> {
        let tcp = [0x9c, 0x40, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0];
        ip(Ipv4Addr::new(10, 88, 0, 2), Ipv4Addr::new(192, 0, 2, 1), TCP, &tcp)
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
        let packet = ip(Ipv4Addr::new(10, 88, 0, 2), Ipv4Addr::new(192, 0, 2, 1), ICMP, &request);
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
        let (source, destination) = ("10.88.0.2:40000".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        let answer = reset(source, destination, u32::MAX);
        assert_eq!(checksum(&answer[..20]), 0);
        let mut pseudo = [&answer[12..20], &[0, TCP, 0, 20]].concat();
        pseudo.extend(&answer[20..]);
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(answer[28..32], [0, 0, 0, 0]);
        let answer = unreachable(Ipv4Addr::new(10, 88, 0, 1), *source.ip(), Unreachable::Host, &syn());
        assert_eq!((checksum(&answer[..20]), checksum(&answer[20..])), (0, 0));
        assert_eq!(answer.len(), 20 + 8 + 28);
        assert_eq!(unreachable(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, Unreachable::Host, &[]).len(), 28);
    }
}
