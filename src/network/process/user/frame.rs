//! What is on a container's cable: Ethernet frames behind a virtio_net_hdr (linux/virtio_net.h), by which its kernel and
//! we spare each other checksums and segmentation. Reading them, and building those that we send. Pure functions over bytes
//! that containers chose.

use super::segment::{self, Offer, Segment};
use crate::netlink::link::Mac;
use crate::network::process::ip::{
    self, FRAGMENT, HEADER_4, HEADER_6, Header, ICMPV6, Piece, TCP, UDP, folded, pseudo, sum,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a virtio_net_hdr.
pub const VNET: usize = 10;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Where a frame's packet begins.
pub const PACKET: usize = VNET + ETHERNET;
/// The largest frame: a packet has 64 KiB at most.
pub const LARGEST: usize = PACKET + (64 << 10);

const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_4: u8 = 1;
const SEGMENTS_6: u8 = 4;

const ETHERTYPE_4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_6: u16 = 0x86dd;
/// Extension headers (RFC 8200, 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const OPTIONS: u8 = 60;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried<'a> {
    /// A question or an answer for a hardware address.
    Arp(Arp),
    /// An IP packet.
    Packet(Packet<'a>),
}

/// An Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// To.
    pub destination: Mac,
    /// From.
    pub source: Mac,
    /// What is in it.
    pub carried: Carried<'a>,
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it asks.
    pub is_question: bool,
    /// Its sender's hardware address.
    pub mac: Mac,
    /// Its sender's address.
    pub sender: Ipv4Addr,
    /// Whose hardware address it is about.
    pub target: Ipv4Addr,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// Routers that it may pass.
    pub ttl: u8,
    /// What is in it; of IPv6 what follows its header, or the one that says that it is a piece.
    pub protocol: u8,
    /// Which piece it is, if it is one.
    pub piece: Option<Piece>,
    /// What is in it.
    pub payload: &'a [u8],
    /// As a whole.
    pub bytes: &'a [u8],
}

/// Reads what came from a cable, without the virtio_net_hdr; `None` if it is nothing that we know.
pub fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let (header, rest) = bytes.split_first_chunk::<ETHERNET>()?;
    let mac = |at: usize| header[at..at + 6].try_into().unwrap_or_default();
    let carried = match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_ARP => Carried::Arp(read_arp(rest)?),
        ETHERTYPE_4 => Carried::Packet(read_4(rest)?),
        ETHERTYPE_6 => Carried::Packet(read_6(rest)?),
        _ => return None,
    };
    Some(Frame { destination: mac(0), source: mac(6), carried })
}

fn read_arp(bytes: &[u8]) -> Option<Arp> {
    let bytes = bytes.first_chunk::<28>()?;
    // Ethernet, IPv4, and their lengths.
    (bytes[..6] == [0, 1, 8, 0, 6, 4]).then_some(())?;
    let operation = u16::from_be_bytes([bytes[6], bytes[7]]);
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    matches!(operation, 1 | 2).then_some(Arp {
        is_question: operation == 1,
        mac: bytes[8..14].try_into().unwrap_or_default(),
        sender: address(14),
        target: address(24),
    })
}

fn read_4(bytes: &[u8]) -> Option<Packet<'_>> {
    let fixed = bytes.first_chunk::<HEADER_4>()?;
    let header = usize::from(fixed[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // A length of 0 is one of more than 64 KiB, by segmentation that was spared.
    let total = if total == 0 { bytes.len() } else { total };
    (fixed[0] >> 4 == 4 && header >= HEADER_4 && header <= total).then_some(())?;
    let bytes = bytes.get(..total)?;
    let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
    let (more, offset) = (flags & 0x2000 != 0, usize::from(flags & 0x1fff) * 8);
    let id = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    Some(Packet {
        source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        ttl: fixed[8],
        protocol: fixed[9],
        piece: (more || offset > 0).then_some(Piece { id, offset, more }),
        payload: &bytes[header..],
        bytes,
    })
}

fn read_6(bytes: &[u8]) -> Option<Packet<'_>> {
    let fixed = bytes.first_chunk::<HEADER_6>()?;
    (fixed[0] >> 4 == 6).then_some(())?;
    let length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let total = if length == 0 { bytes.len() } else { HEADER_6 + length };
    let bytes = bytes.get(..total)?;
    let address = |at: usize| <[u8; 16]>::try_from(&fixed[at..at + 16]).map(Ipv6Addr::from);
    let (mut protocol, mut payload, mut piece) = (fixed[6], &bytes[HEADER_6..], None);
    // What is behind other headers is what counts, as it does for its receiver.
    while matches!(protocol, HOP_BY_HOP | ROUTING | OPTIONS | FRAGMENT) {
        let (header, _) = payload.split_first_chunk::<8>()?;
        let mut length = 8;
        if protocol == FRAGMENT {
            let flags = u16::from_be_bytes([header[2], header[3]]);
            let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let offset = usize::from(flags & 0xfff8);
            piece = Some(Piece { id, offset, more: flags & 1 != 0 });
        } else {
            length += usize::from(header[1]) * 8;
        }
        payload = payload.get(length..)?;
        protocol = header[0];
        if piece.is_some_and(|piece| piece.offset > 0) {
            break;
        }
    }
    Some(Packet {
        source: address(8).ok()?.into(),
        destination: address(24).ok()?.into(),
        ttl: fixed[7],
        protocol,
        piece,
        payload,
        bytes,
    })
}

/// What begins a frame that carries something of this kind.
fn begin(vnet: [u8; VNET], [destination, source]: [Mac; 2], ethertype: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PACKET + 60);
    bytes.extend(vnet);
    bytes.extend(destination);
    bytes.extend(source);
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

/// The answer to a question for a hardware address.
pub fn arp_answer(to: Mac, asker: Ipv4Addr, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = begin([0; VNET], [to, mac], ETHERTYPE_ARP);
    bytes.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    bytes.extend(mac);
    bytes.extend(address.octets());
    bytes.extend(to);
    bytes.extend(asker.octets());
    bytes
}

/// What a neighbour solicitation asks for (RFC 4861, 4.3).
pub fn solicited(packet: &Packet<'_>) -> Option<Ipv6Addr> {
    const SOLICITATION: u8 = 135;
    let message = packet.payload.first_chunk::<24>()?;
    let is_one = packet.protocol == ICMPV6
        && packet.ttl == 255
        && packet.piece.is_none()
        && message[..2] == [SOLICITATION, 0];
    let target = <[u8; 16]>::try_from(&message[8..24]).ok()?;
    is_one.then_some(target.into())
}

/// The payload of an answer to that (RFC 4861, 4.4): a router that was asked.
pub fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![136, 0, 0, 0, 0xe0, 0, 0, 0];
    bytes.extend(address.octets());
    bytes.extend([2, 1]);
    bytes.extend(mac);
    bytes
}

/// Puts a packet as it is into a frame.
pub fn whole(macs: [Mac; 2], packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet.first().is_some_and(|b| b >> 4 == 6) { ETHERTYPE_6 } else { ETHERTYPE_4 };
    let mut bytes = begin([0; VNET], macs, ethertype);
    bytes.extend(packet);
    bytes
}

fn ethertype(address: IpAddr) -> u16 {
    if address.is_ipv4() { ETHERTYPE_4 } else { ETHERTYPE_6 }
}

/// The frame of a TCP segment up to its payload. A payload that is longer than `mss` is for the kernel to split.
pub fn tcp(
    macs: [Mac; 2],
    ips: [IpAddr; 2],
    segment: &Segment<'_>,
    offer: Option<Offer>,
    mss: u16,
) -> Vec<u8> {
    let [source, destination] = ips;
    let header = segment::header(segment, offer);
    let at = ETHERNET + if source.is_ipv4() { HEADER_4 } else { HEADER_6 };
    let mut vnet = [0; VNET];
    vnet[0] = NEEDS_CHECKSUM;
    if segment.payload.len() > usize::from(mss) {
        vnet[1] = if source.is_ipv4() { SEGMENTS_4 } else { SEGMENTS_6 };
        vnet[2..4].copy_from_slice(&short(at + header.len()).to_ne_bytes());
        vnet[4..6].copy_from_slice(&mss.to_ne_bytes());
    }
    vnet[6..8].copy_from_slice(&short(at).to_ne_bytes());
    vnet[8..10].copy_from_slice(&16u16.to_ne_bytes());
    let mut bytes = begin(vnet, macs, ethertype(source));
    let payload = header.len() + segment.payload.len();
    ip::header(&mut bytes, &Header { source, destination, protocol: TCP, payload, ttl: 64, piece: None });
    let at = bytes.len();
    bytes.extend(header);
    // The kernel completes it (NEEDS_CHECKSUM).
    let partial = folded(pseudo(ips, TCP, payload));
    bytes[at + 16..at + 18].copy_from_slice(&partial.to_be_bytes());
    bytes
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The frames of a datagram: one, or pieces of it where it does not fit into a packet of the network.
pub fn udp(
    macs: [Mac; 2],
    [source, destination]: [SocketAddr; 2],
    data: &[u8],
    mtu: u16,
    id: u32,
) -> Vec<Vec<u8>> {
    let mut datagram = Vec::with_capacity(8 + data.len());
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend(short(8 + data.len()).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let ips = [source.ip(), destination.ip()];
    let sum = match !folded(sum(pseudo(ips, UDP, datagram.len()), &datagram)) {
        // None is said by zero (RFC 768).
        0 => u16::MAX,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(macs, ips, UDP, &datagram, 64, mtu, id)
}

/// The frames of a packet with this payload.
pub fn packet(
    macs: [Mac; 2],
    [source, destination]: [IpAddr; 2],
    protocol: u8,
    payload: &[u8],
    ttl: u8,
    mtu: u16,
    id: u32,
) -> Vec<Vec<u8>> {
    let header = if source.is_ipv4() { HEADER_4 } else { HEADER_6 };
    let frame = |part: &[u8], piece: Option<Piece>| {
        let mut bytes = begin([0; VNET], macs, ethertype(source));
        ip::header(&mut bytes, &Header { source, destination, protocol, payload: part.len(), ttl, piece });
        bytes.extend(part);
        bytes
    };
    if header + payload.len() <= usize::from(mtu) {
        return vec![frame(payload, None)];
    }
    // Pieces are multiples of 8 bytes long; the header that says which one it is has 8 by IPv6.
    let extra = if source.is_ipv4() { 0 } else { 8 };
    let most = (usize::from(mtu) - header - extra) / 8 * 8;
    let mut frames = Vec::new();
    for (number, part) in payload.chunks(most).enumerate() {
        let offset = number * most;
        frames.push(frame(part, Some(Piece { id, offset, more: offset + part.len() < payload.len() })));
    }
    frames
}

/// Puts the checksum into an ICMP message between two addresses.
pub fn icmp_checksum(ips: [IpAddr; 2], message: &mut [u8]) {
    let over = if ips[0].is_ipv4() { 0 } else { pseudo(ips, ICMPV6, message.len()) };
    let sum = !folded(sum(over, message));
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segment::Flags;

    const MACS: [Mac; 2] = [[2, 0x42, 10, 0, 0, 2], [2, 0x42, 10, 0, 0, 1]];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// What a packet's payload sums up to with what counts of its header: nothing if its checksum is right.
    fn left(packet: &Packet<'_>) -> u16 {
        !folded(sum(
            pseudo([packet.source, packet.destination], packet.protocol, packet.payload.len()),
            packet.payload,
        ))
    }

    fn packet(bytes: &[u8]) -> Packet<'_> {
        match read(&bytes[VNET..]).unwrap() {
            Frame { destination, source, carried: Carried::Packet(packet) } => {
                assert_eq!([destination, source], MACS);
                packet
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written_whole_or_in_pieces() {
        for (from, to) in [("192.0.2.1", "10.0.0.2"), ("2001:db8::1", "fd00::2")] {
            let ends = [SocketAddr::new(address(from), 53), SocketAddr::new(address(to), 4000)];
            let frames = udp(MACS, ends, b"hello", 1400, 1);
            let read = packet(&frames[0]);
            assert_eq!((frames.len(), read.source, read.destination), (1, address(from), address(to)));
            assert_eq!((left(&read), read.protocol, &read.payload[8..]), (0, UDP, &b"hello"[..]));
            let long = vec![5; 4000];
            let frames = udp(MACS, ends, &long, 1400, 1);
            let sizes: Vec<_> = frames.iter().map(|frame| packet(frame).payload.len()).collect();
            assert_eq!((frames.len(), sizes.iter().sum::<usize>()), (3, 4008), "{sizes:?}");
            assert!(frames.iter().all(|frame| frame.len() <= PACKET + 1400 && packet(frame).piece.is_some()));
        }
    }

    #[test]
    fn a_segment_leaves_its_checksum_and_its_parts_to_the_kernel() {
        let payload = vec![1; 5000];
        let segment = Segment {
            source: 80,
            destination: 4000,
            sequence: 1,
            acknowledged: 2,
            flags: Flags::ACK,
            window: 3,
            mss: 536,
            scale: None,
            payload: &payload,
        };
        for (from, to, kind, start) in [("192.0.2.1", "10.0.0.2", 1, 34), ("2001:db8::1", "fd00::2", 4, 54)] {
            let ips = [address(from), address(to)];
            let mut bytes = tcp(MACS, ips, &segment, None, 1360);
            let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
            assert_eq!((bytes[0], bytes[1], number(2), number(4)), (1, kind, start + 20, 1360));
            assert_eq!((number(6), number(8)), (start, 16));
            // What the kernel does: the sum over all from there on goes where it says.
            bytes.extend(&payload);
            let at = VNET + usize::from(start);
            let sum = !folded(sum(0, &bytes[at..]));
            bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
            let read = packet(&bytes);
            assert_eq!(left(&read), 0);
            assert_eq!(segment::read(read.payload).unwrap().payload, payload);
        }
    }

    #[test]
    fn what_is_behind_other_headers_is_what_counts() {
        let ips = [address("fe80::1"), address("ff02::1")];
        let plain = super::packet(MACS, ips, ICMPV6, &[134; 16], 255, 1400, 0).remove(0);
        assert_eq!(packet(&plain).protocol, ICMPV6);
        let mut options = vec![ICMPV6, 0, 1, 4, 0, 0, 0, 0];
        options.extend([134; 16]);
        let hidden = super::packet(MACS, ips, HOP_BY_HOP, &options, 255, 1400, 0).remove(0);
        let read = packet(&hidden);
        assert_eq!((read.protocol, read.payload), (ICMPV6, &[134; 16][..]));
        // Options that say that they are longer than all that there is.
        options[1] = 200;
        let broken = super::packet(MACS, ips, HOP_BY_HOP, &options, 255, 1400, 0).remove(0);
        assert_eq!(super::read(&broken[VNET..]), None);
    }

    #[test]
    fn a_cut_off_frame_is_none() {
        let whole = udp(MACS, ["192.0.2.1:1", "10.0.0.2:2"].map(|end| end.parse().unwrap()), b"x", 1400, 0);
        for end in VNET..whole[0].len() {
            assert_eq!(read(&whole[0][VNET..end]), None, "{end}");
        }
    }
}
