//! What a container may send into its network: frames from its own hardware address, with packets from its own address or ARP
//! for both. A container that has been
//! given CAP_NET_RAW or CAP_NET_ADMIN could otherwise speak for another, or draw another's frames to itself: a bridge
//! learns from any frame where its sender is (SECURITY row 15).

use crate::netlink::Message;
use crate::netlink::link::Mac;
use crate::netlink::nft::{self, Base, Expression, Family, Hook};
use std::net::Ipv4Addr;

/// Offsets in an Ethernet frame.
const SENDER: u32 = 6;
const ETHERTYPE: u32 = 12;
/// In an ARP packet for IPv4 over Ethernet, the sender's hardware address; its address follows.
const ARP_SENDER: u32 = 8;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

/// Drops whatever comes out of a cable under another address than the container's.
pub fn source_check(cable: &str, address: Ipv4Addr, mac: Mac) -> Vec<Message> {
    let kind = |kind: [u8; 2]| {
        [Expression::Bytes { base: Base::Link, offset: ETHERTYPE, length: 2 }, Expression::Is(kind.to_vec())]
    };
    let bytes = |base, offset, value: &[u8]| {
        let length = u32::try_from(value.len()).unwrap_or(0);
        [Expression::Bytes { base, offset, length }, Expression::Is(value.to_vec())]
    };
    let frame = bytes(Base::Link, SENDER, &mac);
    // In an IPv4 header the sender is at 12.
    let ipv4 = bytes(Base::Network, 12, &address.octets());
    let arp =
        [bytes(Base::Network, ARP_SENDER, &mac), bytes(Base::Network, ARP_SENDER + 6, &address.octets())]
            .concat();
    let rules = [
        [&kind(IPV4)[..], &frame, &ipv4, &[Expression::Accept]].concat(),
        [&kind(ARP)[..], &frame, &arp, &[Expression::Accept]].concat(),
        vec![Expression::Drop],
    ];
    nft::table(Family::Device, cable, &Hook::Ingress(cable), &rules)
}

/// Forgets the check of a cable that is gone.
pub fn forget(cable: &str) -> Vec<Message> {
    nft::remove_table(Family::Device, cable)
}
