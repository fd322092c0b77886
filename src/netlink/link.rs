//! Links, addresses, routes and rules, as requests (rtnetlink(7)).
//!
//! Indices of interfaces are chosen, not asked for: a network namespace of our own has no others, and so a whole network
//! is one list of messages.

use super::{CREATE, EXCLUSIVE, Message};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A hardware address.
pub type Mac = [u8; 6];

/// The loopback interface of every network namespace.
pub const LOOPBACK: i32 = 1;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const IFF_UP: u32 = 1;

fn link(what: &'static str, flags: u16, index: i32, up: bool) -> Message {
    let flag = if up { IFF_UP } else { 0 };
    let mut fixed = vec![0; 4];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(flag.to_ne_bytes());
    // The flags that change.
    fixed.extend(flag.to_ne_bytes());
    Message::new(what, RTM_NEWLINK, flags).fixed(&fixed)
}

/// Sets an interface up.
pub fn up(index: i32) -> Message {
    link("set an interface up", 0, index, true)
}

/// Sets an interface up, with this MTU.
pub fn up_with_mtu(index: i32, mtu: u32) -> Message {
    const IFLA_MTU: u16 = 4;
    link("set an interface up", 0, index, true).number(IFLA_MTU, mtu)
}

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// Gives an interface that is down its hardware address, MTU and queue.
pub fn hardware(index: i32, mac: Mac, mtu: u32, queue: u32) -> Message {
    const IFLA_TXQLEN: u16 = 13;
    link("set an interface's hardware address", 0, index, false)
        .attribute(IFLA_ADDRESS, &mac)
        .number(IFLA_MTU, mtu)
        .number(IFLA_TXQLEN, queue)
}

/// A bridge, up.
pub fn bridge(name: &str, index: i32, mac: Mac) -> Message {
    link("make a bridge", CREATE | EXCLUSIVE, index, true)
        .text(IFLA_IFNAME, name)
        .attribute(IFLA_ADDRESS, &mac)
        .nest(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"))
}

/// A cable from a bridge into another network namespace.
#[derive(Debug)]
pub struct Cable<'a> {
    /// Name of our end.
    pub name: &'a str,
    /// Index of our end.
    pub index: i32,
    /// The bridge that our end is a port of.
    pub bridge: i32,
    /// The namespace of the other end, if it is another.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Name of the other end.
    pub peer: &'a str,
    /// Index of the other end.
    pub peer_index: i32,
    /// Its address.
    pub peer_mac: Mac,
    /// MTU of both.
    pub mtu: u32,
}

/// A pair of veth(4) interfaces: our end up and a port of the bridge, the other where it belongs.
pub fn cable(cable: &Cable<'_>) -> Message {
    const VETH_INFO_PEER: u16 = 1;
    let mut peer = vec![0; 4];
    peer.extend(cable.peer_index.to_ne_bytes());
    peer.extend([0; 8]);
    link("connect a container", CREATE | EXCLUSIVE, cable.index, true)
        .text(IFLA_IFNAME, cable.name)
        .number(IFLA_MTU, cable.mtu)
        .number(IFLA_MASTER, cable.bridge.cast_unsigned())
        .nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    let m = m
                        .fixed(&peer)
                        .text(IFLA_IFNAME, cable.peer)
                        .attribute(IFLA_ADDRESS, &cable.peer_mac)
                        .number(IFLA_MTU, cable.mtu);
                    match &cable.namespace {
                        Some(namespace) => m.number(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned()),
                        None => m,
                    }
                })
            })
        })
}

/// Removes an interface.
pub fn remove(index: i32) -> Message {
    const RTM_DELLINK: u16 = 17;
    let mut fixed = vec![0; 4];
    fixed.extend(index.to_ne_bytes());
    fixed.extend([0; 8]);
    Message::new("disconnect a container", RTM_DELLINK, 0).fixed(&fixed)
}

/// Forbids a port of a bridge to talk to other such ports.
pub fn isolate(index: i32) -> Message {
    const IFLA_PROTINFO: u16 = 12;
    const IFLA_BRPORT_ISOLATED: u16 = 33;
    const AF_BRIDGE: u8 = 7;
    let mut fixed = vec![AF_BRIDGE, 0, 0, 0];
    fixed.extend(index.to_ne_bytes());
    fixed.extend([0; 8]);
    const RTM_SETLINK: u16 = 19;
    Message::new("isolate a container", RTM_SETLINK, 0)
        .fixed(&fixed)
        .nest(IFLA_PROTINFO, |m| m.attribute(IFLA_BRPORT_ISOLATED, &[1]))
}

/// Lets an interface ask for a neighbour's hardware address every 20 ms, for a second in all, instead of three times a second
/// apart (arp(7), `retrans_time_ms` and `mcast_solicit`): a bridge lets nothing through until the kernel has noticed, in its
/// own time, that a cable's two ends are up, and what is asked before that is lost.
pub fn patient_neighbours(index: i32, family: IpAddr) -> Message {
    const RTM_SETNEIGHTBL: u16 = 67;
    const NDTA_NAME: u16 = 1;
    const NDTA_PARMS: u16 = 6;
    const NDTPA_IFINDEX: u16 = 1;
    const NDTPA_RETRANS_TIME: u16 = 5;
    const NDTPA_MCAST_PROBES: u16 = 11;
    let name = if family.is_ipv4() { "arp_cache" } else { "ndisc_cache" };
    Message::new("set up neighbours", RTM_SETNEIGHTBL, 0)
        .fixed(&[octets(family).0, 0, 0, 0])
        .text(NDTA_NAME, name)
        .nest(NDTA_PARMS, |m| {
            m.number(NDTPA_IFINDEX, index.cast_unsigned())
                .attribute(NDTPA_RETRANS_TIME, &20u64.to_ne_bytes())
                .number(NDTPA_MCAST_PROBES, 50)
        })
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

/// Gives an interface an address.
pub fn address(index: i32, address: IpAddr, prefix: u8) -> Message {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_F_NODAD: u8 = 2;
    let (family, bytes) = octets(address);
    // Nobody else can have the address, so nobody is asked (IPv6 would wait a second for it).
    let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut fixed = vec![family, prefix, flags, 0];
    fixed.extend(index.to_ne_bytes());
    Message::new("set an address", RTM_NEWADDR, CREATE | EXCLUSIVE)
        .fixed(&fixed)
        .attribute(IFA_LOCAL, &bytes)
        .attribute(IFA_ADDRESS, &bytes)
}

/// Where a default route leads.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// To a router.
    Via(IpAddr),
    /// Out of an interface.
    Interface(i32),
    /// To this machine itself: everything is taken for its own (ip-route(8), type `local`).
    Here,
}

/// A default route in a routing table, for the family of `family`.
pub fn default_route(way: Way, table: u8, family: IpAddr) -> Message {
    route(way, table, family, CREATE | EXCLUSIVE)
}

/// The default route from now on, in place of another.
pub fn new_default_route(router: IpAddr) -> Message {
    const REPLACE: u16 = 0x100;
    route(Way::Via(router), MAIN_TABLE, router, CREATE | REPLACE)
}

fn route(way: Way, table: u8, family: IpAddr, flags: u16) -> Message {
    const RTPROT_BOOT: u8 = 3;
    const RT_SCOPE_UNIVERSE: u8 = 0;
    const RT_SCOPE_LINK: u8 = 253;
    const RT_SCOPE_HOST: u8 = 254;
    const RTN_UNICAST: u8 = 1;
    const RTN_LOCAL: u8 = 2;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    let (scope, kind) = match way {
        Way::Via(_) => (RT_SCOPE_UNIVERSE, RTN_UNICAST),
        Way::Interface(_) => (RT_SCOPE_LINK, RTN_UNICAST),
        Way::Here => (RT_SCOPE_HOST, RTN_LOCAL),
    };
    let (family, _) = octets(family);
    let message = Message::new("set a route", RTM_NEWROUTE, flags).fixed(&[
        family,
        0,
        0,
        0,
        table,
        RTPROT_BOOT,
        scope,
        kind,
        0,
        0,
        0,
        0,
    ]);
    match way {
        Way::Via(router) => message.attribute(RTA_GATEWAY, &octets(router).1),
        Way::Interface(index) => message.number(RTA_OIF, index.cast_unsigned()),
        Way::Here => message.number(RTA_OIF, LOOPBACK.cast_unsigned()),
    }
}

/// The table that routes are looked up in by everybody.
pub const MAIN_TABLE: u8 = 254;

/// Marked packets are looked up in another table.
pub fn marked_to_table(mark: u32, table: u8, family: IpAddr) -> Message {
    const FR_ACT_TO_TBL: u8 = 1;
    const FRA_PRIORITY: u16 = 6;
    const FRA_FWMARK: u16 = 10;
    let (family, _) = octets(family);
    Message::new("set a routing rule", RTM_NEWRULE, CREATE | EXCLUSIVE)
        .fixed(&[family, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0])
        .number(FRA_PRIORITY, 100)
        .number(FRA_FWMARK, mark)
}

/// The hardware address of a container with this address, as docker makes it: the same again after a restart.
pub fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// The link-local address that the kernel gives to an interface of this hardware address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let half = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, half(a ^ 2, b), half(c, 0xff), half(0xfe, d), half(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_follows_from_the_hardware_address() {
        let mac = [0x02, 0x42, 0x0a, 0x58, 0x00, 0x02];
        assert_eq!(link_local(mac).to_string(), "fe80::42:aff:fe58:2");
    }
}
