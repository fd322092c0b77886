//! R, the network's own namespace: how it is made, and the thread that lives there.
//!
//! ```text
//!   container ── veth ── bridge "br0" ─┬─ packets of a connection that we hold: a transparent socket of ours
//!                                      ├─ a new connection: routed out by the tun "out", where its SYN is read
//!                                      └─ a datagram to somewhere else: the transparent socket for all of them
//! ```
//!
//! A SYN that is written back to the tun goes to the transparent listener (nf_tables `tproxy`), and the kernel answers
//! it. A socket stays in the namespace that it was made in, whoever uses it: so the thread makes sockets, and the
//! main thread, which never leaves the host's network, does all else with them.

use super::Config;
use super::confine::confine;
use crate::kernel::net::open_tun;
use crate::netlink::nft::{self, Expression, Family, Hook};
use crate::netlink::{self, Refused, link};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Index of the bridge in R.
pub const BRIDGE: i32 = 2;
/// Index of the cable that keeps the bridge up.
const ANCHOR: i32 = 4;
/// Index of the tun in R.
const TUN: i32 = 3;
const TUN_NAME: &str = "out";
/// Marks packets that are for our own sockets, whatever their destination says.
const MARK: u32 = 1;
const LOCAL_TABLE: u8 = 100;
/// Where new connections and datagrams are redirected to in R. A container that connects there itself is hung up on.
const TCP_PORT: u16 = 50080;
const UDP_PORT: u16 = 50081;
const BACKLOG: i32 = 4096;

/// R's sockets, and the way to more.
#[derive(Debug)]
pub struct Inside {
    /// Where connections begin.
    pub tun: OwnedFd,
    /// Where connections that have been let through arrive.
    pub tcp: OwnedFd,
    /// Where datagrams of new flows arrive.
    pub udp: OwnedFd,
    /// The gateway's name server, datagrams.
    pub dns_udp: OwnedFd,
    /// The same, connections.
    pub dns_tcp: OwnedFd,
    /// For links.
    pub route: netlink::Socket,
    /// For packet filters.
    pub filter: netlink::Socket,
    /// Of the cables and the tun, in bytes: datagrams leave as they are, so it is that of the host's way out.
    pub mtu: u16,
    ask: Sender<SocketType>,
    answer: Receiver<std::io::Result<OwnedFd>>,
}

impl Inside {
    /// Makes R. Its thread, and with it R, lives as long as this.
    pub fn make(config: &Config) -> Result<Self, Refused> {
        let (ask, asked) = channel::<SocketType>();
        let (reply, answer) = channel();
        let (made, ready) = channel();
        let mtu = config.mtu.unwrap_or_else(super::host_mtu);
        let config = config.clone();
        std::thread::Builder::new()
            .name("inside".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let parts = prepare(&config, mtu.into()).and_then(|parts| confine().map(|()| parts));
                let works = parts.is_ok();
                if made.send(parts).is_err() || !works {
                    return;
                }
                for kind in asked {
                    if reply.send(transparent(kind)).is_err() {
                        return;
                    }
                }
            })
            .map_err(Refused::to("start the network's thread"))?;
        let gone = || Refused::to("start the network's thread")(std::io::ErrorKind::BrokenPipe);
        let parts = ready.recv().map_err(|_| gone())??;
        let Parts { tun, tcp, udp, dns_udp, dns_tcp, route, filter } = parts;
        Ok(Self { tun, tcp, udp, dns_udp, dns_tcp, route, filter, mtu, ask, answer })
    }

    /// A new, unbound, non-blocking socket in R that may be bound to any address.
    pub fn socket(&self, kind: SocketType) -> std::io::Result<OwnedFd> {
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.ask.send(kind).map_err(|_| gone())?;
        self.answer.recv().map_err(|_| gone())?
    }
}

struct Parts {
    tun: OwnedFd,
    tcp: OwnedFd,
    udp: OwnedFd,
    dns_udp: OwnedFd,
    dns_tcp: OwnedFd,
    route: netlink::Socket,
    filter: netlink::Socket,
}

fn transparent(kind: SocketType) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if kind == SocketType::STREAM {
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
    }
    Ok(socket)
}

fn bound(kind: SocketType, to: SocketAddrV4) -> std::io::Result<OwnedFd> {
    let socket = transparent(kind)?;
    bind(&socket, &to)?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn prepare(config: &Config, mtu: u32) -> Result<Parts, Refused> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(Refused::to("make a network namespace"))?;
    let tun = open_tun(TUN_NAME, TUN).map_err(Refused::to("make a tun interface"))?;
    let gateway = config.gateway;
    let any = Ipv4Addr::UNSPECIFIED.into();
    let mut route = netlink::Socket::route().map_err(Refused::to("talk to the kernel"))?;
    // A bridge without a port is down, and when it gets its first one the kernel takes its time to bring it up; what is sent
    // meanwhile is lost. This cable from the bridge to nowhere keeps it up.
    let anchor = link::cable(&link::Cable {
        name: "anchor",
        index: ANCHOR,
        bridge: BRIDGE,
        namespace: None,
        peer: "ground",
        peer_index: ANCHOR + 1,
        peer_mac: [0x02, 0x42, 0, 0, 0, 1],
        mtu,
    });
    route.send(&[
        link::up(link::LOOPBACK),
        link::bridge("br0", BRIDGE, link::mac_of(gateway)),
        anchor,
        link::up(ANCHOR + 1),
        link::address(BRIDGE, gateway.into(), config.subnet.prefix),
        link::up_with_mtu(TUN, mtu),
        link::default_route(link::Way::Interface(TUN), link::MAIN_TABLE, any),
        link::default_route(link::Way::Here, LOCAL_TABLE, any),
        link::marked_to_table(MARK, LOCAL_TABLE, any),
    ])?;
    let set = |setting: &str, value: &str| std::fs::write(format!("/proc/sys/net/{setting}"), value);
    // What comes back from the tun, and what is for addresses that are not ours, is as it should be here.
    for (setting, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/br0/rp_filter", "0"),
        ("ipv4/conf/out/rp_filter", "0"),
        // Errors of the gateway's come from there.
        ("ipv4/conf/out/accept_local", "1"),
        // The other end of the bridge's anchor must not answer for the gateway: what is sent there does not come by the bridge.
        ("ipv4/conf/ground/arp_ignore", "8"),
    ] {
        set(setting, value).map_err(Refused::to("set up routing"))?;
    }
    // Where the module br_netfilter is loaded (docker loads it), packets would pass our filter already on the bridge, and
    // lose there the socket that it gives them.
    let _ = set("bridge/bridge-nf-call-iptables", "0");
    let _ = set("ipv6/conf/all/disable_ipv6", "1");
    // Between a container and us there is no network that could be congested, and an estimate of one costs speed.
    let _ = set("ipv4/tcp_congestion_control", "reno");
    let mut filter = netlink::Socket::netfilter().map_err(Refused::to("talk to the kernel"))?;
    filter.send(&nft::table(Family::Inet, "coracle", &Hook::Prerouting, &rules(config)))?;
    let sockets = (|| {
        let tcp = bound(SocketType::STREAM, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, TCP_PORT))?;
        let udp = bound(SocketType::DGRAM, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, UDP_PORT))?;
        setsockopt(&udp, sockopt::Ipv4OrigDstAddr, &true)?;
        let name_server = SocketAddrV4::new(gateway, 53);
        Ok((tcp, udp, bound(SocketType::DGRAM, name_server)?, bound(SocketType::STREAM, name_server)?))
    })();
    let (tcp, udp, dns_udp, dns_tcp) =
        sockets.map_err(|e: std::io::Error| Refused::to("make the network's sockets")(e))?;
    Ok(Parts { tun, tcp, udp, dns_udp, dns_tcp, route, filter })
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What packets go to our own sockets.
fn rules(config: &Config) -> Vec<Vec<Expression>> {
    let version_4 = [Expression::Load(nft::Property::Protocol), Expression::Is(vec![2])];
    let ours = [Expression::Mark(MARK), Expression::Accept];
    let transparent = [Expression::LoadTransparent, Expression::Is(vec![1])];
    // tcp flags & (syn | ack | rst)
    let flags = [
        Expression::Bytes { base: nft::Base::Transport, offset: 13, length: 1 },
        Expression::Mask(vec![0x16]),
    ];
    let syn = vec![0x02];
    let redirect = |port| Expression::Redirect { v6: false, port };
    let elsewhere = nft::destination(config.subnet.network, config.subnet.prefix, false);
    vec![
        // What a connection that has ended left (TIME_WAIT) is not asked about one that begins.
        [&nft::transport(TCP)[..], &flags, &[Expression::IsNot(syn.clone())], &transparent, &ours].concat(),
        [&nft::transport(UDP)[..], &transparent, &ours].concat(),
        [
            &version_4[..],
            &nft::transport(TCP),
            &nft::input(TUN_NAME),
            &flags,
            &[Expression::Is(syn), redirect(TCP_PORT)],
            &ours,
        ]
        .concat(),
        [&version_4[..], &nft::transport(UDP), &nft::input("br0"), &elsewhere, &[redirect(UDP_PORT)], &ours]
            .concat(),
    ]
}
