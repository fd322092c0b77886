//! Headers of IP packets that are built, and the Internet checksum: what the packets of both tiers share.

use std::net::IpAddr;

/// Protocol numbers.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
/// The extension header of a piece (RFC 8200, 4.5).
pub const FRAGMENT: u8 = 44;
/// Bytes of an IPv4 header without options.
pub const HEADER_4: usize = 20;
/// Bytes of an IPv6 header.
pub const HEADER_6: usize = 40;

/// A part of a packet that was sent in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which packet of its sender's.
    pub id: u32,
    /// Where it belongs, in bytes.
    pub offset: usize,
    /// Whether there are more behind it.
    pub more: bool,
}

/// What of an IP header is not the same everywhere.
pub struct Header {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// What follows.
    pub protocol: u8,
    /// Bytes that follow.
    pub payload: usize,
    /// Routers that it may pass.
    pub ttl: u8,
    /// Which piece it is, if it is one.
    pub piece: Option<Piece>,
}

/// Appends a header between two addresses of one family, the one that says which piece it is included.
pub fn header(bytes: &mut Vec<u8>, of: &Header) {
    match (of.source, of.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let at = bytes.len();
            let (id, flags) = match of.piece {
                Some(piece) => {
                    let offset = u16::try_from(piece.offset / 8).unwrap_or(0) & 0x1fff;
                    (piece.id.to_be_bytes(), offset | u16::from(piece.more) << 13)
                }
                None => ([0; 4], 0x4000),
            };
            let total = u16::try_from(HEADER_4 + of.payload).unwrap_or(u16::MAX);
            bytes.extend([0x45, 0]);
            bytes.extend(total.to_be_bytes());
            bytes.extend([id[2], id[3]]);
            bytes.extend(flags.to_be_bytes());
            bytes.extend([of.ttl, of.protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            let sum = !folded(sum(0, &bytes[at..]));
            bytes[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        }
        (source, destination) => {
            let extra = if of.piece.is_some() { 8 } else { 0 };
            let length = u16::try_from(of.payload + extra).unwrap_or(u16::MAX);
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([if of.piece.is_some() { FRAGMENT } else { of.protocol }, of.ttl]);
            for address in [source, destination] {
                bytes.extend(octets_6(address));
            }
            if let Some(piece) = of.piece {
                let offset = u16::try_from(piece.offset).unwrap_or(0) & 0xfff8;
                bytes.extend([of.protocol, 0]);
                bytes.extend((offset | u16::from(piece.more)).to_be_bytes());
                bytes.extend(piece.id.to_be_bytes());
            }
        }
    }
}

fn octets_6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The sum of what of a packet's header counts for the checksum of what is in it (RFC 9293, 3.1; RFC 8200, 8.1), not folded.
pub fn pseudo([source, destination]: [IpAddr; 2], protocol: u8, length: usize) -> u64 {
    let add = |to: u64, address: IpAddr| match address {
        IpAddr::V4(v4) => sum(to, &v4.octets()),
        IpAddr::V6(v6) => sum(to, &v6.octets()),
    };
    add(add(u64::from(protocol) + length as u64, source), destination)
}

/// The Internet checksum's sum (RFC 1071), not folded.
pub fn sum(to: u64, bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let last = last.first().map_or(0, |last| u64::from(*last) << 8);
    to + last + pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>()
}

/// The sum's 16 bits; the checksum is their complement.
pub fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}
