//! What a container may send into its network: frames from its own hardware address, with packets from its own addresses or ARP
//! for both. A container that has been given CAP_NET_RAW or CAP_NET_ADMIN could otherwise speak for another, or draw another's
//! frames to itself: a bridge learns from any frame where its sender is (SECURITY row 15).
//!
//! An error about a packet (ICMP) must be about one that was sent to the container: it would end another's flow.
//!
//! With IPv6 there is more to forge: a router's advertisements and redirections (RFC 6104), which only routers send, and a
//! neighbour's advertisement for an address that is not its own. nf_tables finds the ICMPv6 header behind extension
//! headers, too, and the kernel takes none of these messages out of fragments (RFC 6980).

use crate::netlink::Message;
use crate::netlink::link::{Mac, link_local};
use crate::netlink::nft::{self, Base, Expression, Family, Hook};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Offsets in an Ethernet frame.
const SENDER: u32 = 6;
const ETHERTYPE: u32 = 12;
/// In an ARP packet for IPv4 over Ethernet, the sender's hardware address; its address follows.
const ARP_SENDER: u32 = 8;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Echo reply and request of ICMP; what else there is are errors, with the packet that they are about behind 8 bytes.
const ECHO: [u8; 2] = [0, 8];
const ABOUT: u32 = 8;
/// Types of ICMPv6 messages (RFC 4861).
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// In a neighbour advertisement, whose address it tells of.
const TARGET: u32 = 8;

/// Who a container is on its network.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its hardware address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// The same of IPv6, if the network has that.
    pub address6: Option<Ipv6Addr>,
}

fn bytes(base: Base, offset: u32, value: &[u8]) -> [Expression; 2] {
    let length = u32::try_from(value.len()).unwrap_or(0);
    [Expression::Bytes { base, offset, length }, Expression::Is(value.to_vec())]
}

fn not(expression: Expression) -> Expression {
    match expression {
        Expression::Is(value) => Expression::IsNot(value),
        other => other,
    }
}

fn kind(kind: [u8; 2]) -> [Expression; 2] {
    bytes(Base::Link, ETHERTYPE, &kind)
}

/// Drops whatever comes out of a cable under another address than the container's.
pub fn source_check(cable: &str, who: &Identity) -> Vec<Message> {
    let frame = bytes(Base::Link, SENDER, &who.mac);
    // In an IPv4 header the sender is at 12.
    let ipv4 = bytes(Base::Network, 12, &who.address.octets());
    let arp = [
        bytes(Base::Network, ARP_SENDER, &who.mac),
        bytes(Base::Network, ARP_SENDER + 6, &who.address.octets()),
    ]
    .concat();
    let about = bytes(Base::Transport, ABOUT + 16, &who.address.octets()).map(not);
    let is_error = [
        Expression::Bytes { base: Base::Transport, offset: 0, length: 1 },
        Expression::IsNot(vec![ECHO[0]]),
        Expression::IsNot(vec![ECHO[1]]),
    ];
    let mut rules = vec![
        [&kind(IPV4)[..], &nft::transport(ICMP), &is_error, &about, &[Expression::Drop]].concat(),
        [&kind(IPV4)[..], &frame, &ipv4, &[Expression::Accept]].concat(),
        [&kind(ARP)[..], &frame, &arp, &[Expression::Accept]].concat(),
    ];
    if let Some(address6) = who.address6 {
        rules.extend(check6(&frame, [address6, link_local(who.mac)]));
    }
    rules.push(vec![Expression::Drop]);
    nft::table(Family::Device, cable, &Hook::Ingress(cable), &rules)
}

/// What of IPv6 passes.
fn check6(frame: &[Expression], own: [Ipv6Addr; 2]) -> Vec<Vec<Expression>> {
    let icmp =
        |number| [&kind(IPV6)[..], &nft::transport(ICMPV6), &bytes(Base::Transport, 0, &[number])].concat();
    let at = |offset| Expression::Bytes { base: Base::Transport, offset, length: 16 };
    // Types of errors are those below 128 (RFC 4443, 2.1).
    let is_error = [
        &kind(IPV6)[..],
        &nft::transport(ICMPV6),
        &[Expression::Bytes { base: Base::Transport, offset: 0, length: 1 }],
        &[Expression::Mask(vec![0x80]), Expression::Is(vec![0])],
    ]
    .concat();
    let is_not = own.map(|own| Expression::IsNot(own.octets().to_vec()));
    let drop = [Expression::Drop];
    // In an IPv6 header the sender is at 8.
    let from = |own: Ipv6Addr| {
        [&kind(IPV6)[..], frame, &bytes(Base::Network, 8, &own.octets()), &[Expression::Accept]].concat()
    };
    vec![
        [&icmp(ROUTER_ADVERTISEMENT)[..], &drop].concat(),
        [&icmp(REDIRECT)[..], &drop].concat(),
        [&icmp(NEIGHBOUR_ADVERTISEMENT)[..], &[at(TARGET)], &is_not, &drop].concat(),
        // In the header that the error is about, the receiver is at 24.
        [&is_error[..], &[at(ABOUT + 24)], &is_not, &drop].concat(),
        from(own[0]),
        from(own[1]),
    ]
}

/// Forgets the check of a cable that is gone.
pub fn forget(cable: &str) -> Vec<Message> {
    nft::remove_table(Family::Device, cable)
}
