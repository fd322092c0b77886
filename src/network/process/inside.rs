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
use super::host::family;
use crate::kernel::net::open_tun;
use crate::netlink::nft::{self, Expression, Hook};
use crate::netlink::{self, Refused, link};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{SocketFlags, SocketType, bind, listen, socket_with};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    /// Where the rest arrives: IPv4, then IPv6 if the network has that.
    pub families: Vec<Family>,
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
    ask: Sender<(SocketType, IpAddr, usize)>,
    answer: Receiver<std::io::Result<Vec<OwnedFd>>>,
    /// Sockets that were made beforehand: asking for one takes two switches to another thread.
    spare: HashMap<(SocketType, bool), Vec<OwnedFd>>,
    /// How many to make at once: the more the more often they are asked for.
    batch: usize,
    used: bool,
}

/// Sockets of a kind that are kept in store at most.
const SPARE: usize = 8;

/// R's sockets of one family.
#[derive(Debug)]
pub struct Family {
    /// Where connections that have been let through arrive.
    pub tcp: OwnedFd,
    /// Where datagrams of new flows arrive.
    pub udp: OwnedFd,
}

impl Inside {
    /// Makes R. Its thread, and with it R, lives as long as this.
    pub fn make(config: &Config) -> Result<Self, Refused> {
        let (ask, asked) = channel::<(SocketType, IpAddr, usize)>();
        let (reply, answer) = channel();
        let (made, ready) = channel();
        let mtu = config.mtu.unwrap_or_else(super::host_mtu);
        let config = config.clone();
        std::thread::Builder::new()
            .name("inside".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let parts = prepare(&config, mtu.into()).and_then(|parts| confine(true).map(|()| parts));
                let works = parts.is_ok();
                if made.send(parts).is_err() || !works {
                    return;
                }
                for (kind, to, count) in asked {
                    if reply.send((0..count).map(|_| transparent(kind, to)).collect()).is_err() {
                        return;
                    }
                }
            })
            .map_err(Refused::to("start the network's thread"))?;
        let gone = || Refused::to("start the network's thread")(std::io::ErrorKind::BrokenPipe);
        let parts = ready.recv().map_err(|_| gone())??;
        let Parts { tun, families, dns_udp, dns_tcp, route, filter } = parts;
        Ok(Self {
            tun,
            families,
            dns_udp,
            dns_tcp,
            route,
            filter,
            mtu,
            ask,
            answer,
            spare: HashMap::new(),
            batch: 1,
            used: false,
        })
    }

    /// A new, unbound, non-blocking socket in R that may be bound to any address, of this one's family.
    pub fn socket(&mut self, kind: SocketType, family: IpAddr) -> std::io::Result<OwnedFd> {
        self.used = true;
        let spare = self.spare.entry((kind, family.is_ipv6())).or_default();
        if let Some(socket) = spare.pop() {
            return Ok(socket);
        }
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.ask.send((kind, family, self.batch)).map_err(|_| gone())?;
        self.batch = (self.batch * 2).min(SPARE);
        *spare = self.answer.recv().map_err(|_| gone())??;
        spare.pop().ok_or_else(gone)
    }

    /// Whether there are sockets that nobody uses.
    pub fn has_spare(&self) -> bool {
        self.spare.values().any(|sockets| !sockets.is_empty())
    }

    /// Closes those that nobody has asked for since the last time.
    pub fn trim(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.spare.clear();
            self.batch = 1;
        }
    }
}

struct Parts {
    tun: OwnedFd,
    families: Vec<Family>,
    dns_udp: OwnedFd,
    dns_tcp: OwnedFd,
    route: netlink::Socket,
    filter: netlink::Socket,
}

fn transparent(kind: SocketType, to: IpAddr) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family(to), kind, flags, None)?;
    // One flag for both families (linux/net/ipv6/ipv6_sockglue.c, IPV6_TRANSPARENT), which the kernel lets be set by either name.
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if kind == SocketType::STREAM {
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
    }
    Ok(socket)
}

fn bound(kind: SocketType, to: SocketAddr) -> std::io::Result<OwnedFd> {
    let socket = transparent(kind, to.ip())?;
    if to.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &to)?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn prepare(config: &Config, mtu: u32) -> Result<Parts, Refused> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(Refused::to("make a network namespace"))?;
    let set = |setting: &str, value: &str| std::fs::write(format!("/proc/sys/net/{setting}"), value);
    if config.v6.is_some() {
        // The only link-local address that is needed is the bridge's, and taking one takes a second each.
        for (setting, value) in
            [("all/disable_ipv6", "0"), ("default/disable_ipv6", "0"), ("default/addr_gen_mode", "1")]
        {
            set(&format!("ipv6/conf/{setting}"), value).map_err(Refused::to("set up IPv6"))?;
        }
    }
    let tun = open_tun(TUN_NAME, TUN).map_err(Refused::to("make a tun interface"))?;
    let gateway = config.gateway;
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
    let mut messages = vec![
        link::up(link::LOOPBACK),
        link::bridge("br0", BRIDGE, link::mac_of(gateway)),
        anchor,
        link::up(ANCHOR + 1),
        link::address(BRIDGE, gateway.into(), config.subnet.prefix),
        link::up_with_mtu(TUN, mtu),
    ];
    if let Some(v6) = config.v6 {
        messages.push(link::address(BRIDGE, v6.gateway.into(), v6.subnet.prefix));
        // Neighbours are asked for under this one when a client's own address is not R's.
        let own = link::link_local(link::mac_of(gateway));
        messages.push(link::address(BRIDGE, own.into(), 64));
    }
    for any in any_addresses(config) {
        messages.extend([
            link::default_route(link::Way::Interface(TUN), link::MAIN_TABLE, any),
            link::default_route(link::Way::Here, LOCAL_TABLE, any),
            link::marked_to_table(MARK, LOCAL_TABLE, any),
        ]);
    }
    route.send(&messages)?;
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
    match config.v6 {
        Some(_) => {
            let _ = set("bridge/bridge-nf-call-ip6tables", "0");
            set("ipv6/conf/all/forwarding", "1").map_err(Refused::to("set up IPv6"))?;
        }
        None => drop(set("ipv6/conf/all/disable_ipv6", "1")),
    }
    // Between a container and us there is no network that could be congested, and an estimate of one costs speed.
    let _ = set("ipv4/tcp_congestion_control", "reno");
    let mut filter = netlink::Socket::netfilter().map_err(Refused::to("talk to the kernel"))?;
    filter.send(&nft::table(nft::Family::Inet, "coracle", &Hook::Prerouting, &rules(config)))?;
    let sockets = (|| {
        let mut families = Vec::new();
        for any in any_addresses(config) {
            let tcp = bound(SocketType::STREAM, SocketAddr::new(any, TCP_PORT))?;
            let udp = bound(SocketType::DGRAM, SocketAddr::new(any, UDP_PORT))?;
            match any {
                IpAddr::V4(_) => {
                    setsockopt(&udp, sockopt::Ipv4OrigDstAddr, &true)?;
                    setsockopt(&udp, sockopt::Ipv4RecvTtl, &true)?;
                }
                IpAddr::V6(_) => {
                    setsockopt(&udp, sockopt::Ipv6OrigDstAddr, &true)?;
                    setsockopt(&udp, sockopt::Ipv6RecvHopLimit, &true)?;
                }
            }
            families.push(Family { tcp, udp });
        }
        let name_server = SocketAddr::new(gateway.into(), 53);
        let [dns_udp, dns_tcp] = [SocketType::DGRAM, SocketType::STREAM].map(|kind| bound(kind, name_server));
        Ok((families, dns_udp?, dns_tcp?))
    })();
    let (families, dns_udp, dns_tcp) =
        sockets.map_err(|e: std::io::Error| Refused::to("make the network's sockets")(e))?;
    Ok(Parts { tun, families, dns_udp, dns_tcp, route, filter })
}

/// "Any address" of each family that the network has.
fn any_addresses(config: &Config) -> impl Iterator<Item = IpAddr> {
    let v6 = config.v6.map(|_| IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    std::iter::once(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).chain(v6)
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What packets go to our own sockets.
fn rules(config: &Config) -> Vec<Vec<Expression>> {
    let version = |number| [Expression::Load(nft::Property::Protocol), Expression::Is(vec![number])];
    let ours = [Expression::Mark(MARK), Expression::Accept];
    let transparent = [Expression::LoadTransparent, Expression::Is(vec![1])];
    // tcp flags & (syn | ack | rst)
    let flags = [
        Expression::Bytes { base: nft::Base::Transport, offset: 13, length: 1 },
        Expression::Mask(vec![0x16]),
    ];
    let syn = vec![0x02];
    let mut rules = vec![
        // What a connection that has ended left (TIME_WAIT) is not asked about one that begins.
        [&nft::transport(TCP)[..], &flags, &[Expression::IsNot(syn.clone())], &transparent, &ours].concat(),
        [&nft::transport(UDP)[..], &transparent, &ours].concat(),
        // Errors about what a socket has sent (the filter reads in them what they are about).
        [&nft::transport(ICMP)[..], &transparent, &ours].concat(),
        [&nft::transport(ICMPV6)[..], &transparent, &ours].concat(),
    ];
    for any in any_addresses(config) {
        let (number, elsewhere) = match any {
            IpAddr::V4(_) => (2, nft::destination(config.subnet.network.into(), config.subnet.prefix, false)),
            IpAddr::V6(_) => match config.v6 {
                Some(v6) => (10, nft::destination(v6.subnet.network.into(), v6.subnet.prefix, false)),
                None => continue,
            },
        };
        let redirect = |port| Expression::Redirect { v6: any.is_ipv6(), port };
        rules.push(
            [
                &version(number)[..],
                &nft::transport(TCP),
                &nft::input(TUN_NAME),
                &flags,
                &[Expression::Is(syn.clone()), redirect(TCP_PORT)],
                &ours,
            ]
            .concat(),
        );
        rules.push(
            [
                &version(number)[..],
                &nft::transport(UDP),
                &nft::input("br0"),
                &elsewhere,
                &[redirect(UDP_PORT)],
                &ours,
            ]
            .concat(),
        );
    }
    rules
}
