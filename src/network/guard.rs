//! What a container may send into its network: packets from its own address, and ARP for it. A container that has been
//! given CAP_NET_RAW or CAP_NET_ADMIN could otherwise speak for another (SECURITY row 15).

use crate::netlink::Message;
use crate::netlink::nft::{self, Base, Expression, Family, Hook};
use std::net::Ipv4Addr;

/// Offsets in an Ethernet frame: the type, the sender of an IPv4 packet, and of an ARP packet.
const ETHERTYPE: u32 = 12;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

/// Drops whatever comes out of a cable under another address than the container's.
pub fn source_check(cable: &str, address: Ipv4Addr) -> Vec<Message> {
    let kind = |kind: [u8; 2]| {
        [Expression::Bytes { base: Base::Link, offset: ETHERTYPE, length: 2 }, Expression::Is(kind.to_vec())]
    };
    let sender = |offset| {
        [
            Expression::Bytes { base: Base::Network, offset, length: 4 },
            Expression::Is(address.octets().to_vec()),
            Expression::Accept,
        ]
    };
    // In an IPv4 header the sender is at 12, in an ARP packet for IPv4 at 14.
    let rules = [
        [&kind(IPV4)[..], &sender(12)].concat(),
        [&kind(ARP)[..], &sender(14)].concat(),
        vec![Expression::Drop],
    ];
    nft::table(Family::Device, cable, &Hook::Ingress(cable), &rules)
}
