//! Published ports: the host listens, and the container sees its client's own address.

use super::super::control::{Publish, Transport};
use super::super::subnet6::is_special;
use super::host::{family, go_uncongested};
use super::relay::Whose;
use super::{Entity, Member, Network, Refused, relay};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, connect, getpeername, getsockname,
};
use rustix::net::{listen, socket_with};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Where in a container a published port leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    port: u16,
}

/// A way for a client into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WayIn {
    /// To.
    pub(super) to: SocketAddr,
    /// The client's own address, if the container can see it; else the gateway's.
    pub(super) own: Option<SocketAddr>,
}

/// A client whose container is being connected to.
pub(super) struct Arriving {
    /// Towards the container.
    pub(super) inside: OwnedFd,
    pub(super) client: OwnedFd,
    peer: SocketAddr,
    pub(super) to: SocketAddr,
    /// Other ways, if this one is refused.
    rest: VecDeque<WayIn>,
}

/// Binds a new socket of the host: to both families, where the kernel has both and no address is asked for.
fn bound(publish: &Publish, kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = |ip: IpAddr, v6_only: bool| {
        let socket = socket_with(family(ip), kind, flags, None)?;
        if family(ip) == AddressFamily::INET6 {
            rustix::net::sockopt::set_ipv6_v6only(&socket, v6_only)?;
        }
        if kind == SocketType::STREAM {
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &SocketAddr::new(ip, publish.host_port))?;
        Ok(socket)
    };
    match publish.host_ip {
        Some(ip) => open(ip, true),
        None => match open(Ipv6Addr::UNSPECIFIED.into(), false) {
            // The kernel was built without IPv6, or it is switched off.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => open(Ipv4Addr::UNSPECIFIED.into(), true),
            other => other,
        },
    }
}

impl Network {
    /// Begins to listen for a container; the port as it is now.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        (v4, v6): (Ipv4Addr, Option<Ipv6Addr>),
        member: &mut Member,
    ) -> Result<Publish, Refused> {
        let (kind, what) = match publish.transport {
            Transport::Tcp => (SocketType::STREAM, "listen on the published port"),
            Transport::Udp => (SocketType::DGRAM, "receive on the published port"),
        };
        let opened = bound(publish, kind).and_then(|socket| {
            if kind == SocketType::STREAM {
                // Its connections have it from here.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                listen(&socket, 4096)?;
            }
            let port = SocketAddr::try_from(getsockname(&socket)?).map_or(publish.host_port, |a| a.port());
            Ok((socket, port))
        });
        let (socket, port) = opened.map_err(Refused::to(what))?;
        let to = Port { v4, v6, port: publish.container_port };
        let entity = match publish.transport {
            Transport::Tcp => Entity::Published { listener: socket, to },
            Transport::Udp => Entity::PublishedDatagrams { socket, to },
        };
        let place = self.add(entity, EventFlags::IN).ok_or(Errno::NOMEM).map_err(Refused::to(what))?;
        member.published.push(place);
        Ok(Publish { host_port: port, ..*publish })
    }

    /// Clients have come to a published port.
    pub(super) fn accept_clients(&mut self, place: usize) {
        for _ in 0..64 {
            let Some(Entity::Published { listener, to }) = self.table.get(place) else { return };
            let to = *to;
            let accepted = acceptfrom_with(&*listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            let (client, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    let again = |network: &mut Self| match network.table.places.get(place)? {
                        Some(Entity::Published { listener, .. }) => rustix::net::accept(listener).ok(),
                        _ => None,
                    };
                    self.shed(error, again);
                    return;
                }
            };
            let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
            go_uncongested(&client);
            let ways = self.ways_in(&to, peer).into();
            match self.tier.user() {
                Some(_) => self.ask_container(client, peer, ways),
                None => self.lead_in(client, peer, ways),
            }
        }
    }

    /// The ways for a client to a published port, the best first: with its own address where the container can answer to that, and
    /// so of its own family; else as the gateway. A program in the container may know one family only.
    pub(super) fn ways_in(&self, port: &Port, client: SocketAddr) -> Vec<WayIn> {
        let own = self.visible_client(client);
        let addresses = [Some(IpAddr::V4(port.v4)), port.v6.map(IpAddr::V6)];
        let mut ways: Vec<_> = addresses
            .into_iter()
            .flatten()
            .map(|address| WayIn {
                to: SocketAddr::new(address, port.port),
                own: own.filter(|own| own.is_ipv4() == address.is_ipv4()),
            })
            .collect();
        ways.sort_by_key(|way| own.is_some() && way.own.is_none());
        ways
    }

    /// Connects a client on, by the first of these ways that is open.
    fn lead_in(&mut self, client: OwnedFd, peer: SocketAddr, mut ways: VecDeque<WayIn>) {
        while let Some(way) = ways.pop_front() {
            let Some(kernel) = self.tier.kernel() else { break };
            let Ok(inside) = kernel.socket(SocketType::STREAM, way.to.ip()) else { break };
            match self.lead(&inside, &way) {
                Ok(true) => return self.join_in(inside, way.to, client, peer),
                Ok(false) => {
                    let arriving = Arriving { inside, client, peer, to: way.to, rest: ways };
                    self.add(Entity::Arriving(arriving), EventFlags::OUT | EventFlags::ET);
                    return;
                }
                Err(_) => {}
            }
        }
        relay::reset(&client);
    }

    fn join_in(&mut self, inside: OwnedFd, container: SocketAddr, client: OwnedFd, peer: SocketAddr) {
        let remote = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.join(inside, client, Some(Whose { container, remote, inwards: true }));
    }

    /// Sends a new socket of R on this way; whether it has arrived already.
    pub(super) fn lead(&self, inside: &OwnedFd, way: &WayIn) -> Result<bool, Errno> {
        // The same client may have a connection to another of the container's published ports: then it has another port.
        if way.own.is_none_or(|own| bind(inside, &own).is_err()) {
            // The port is chosen when it connects, so that one that another connection had a moment ago is no hindrance.
            let _ = setsockopt(inside, sockopt::IpBindAddressNoPort, &true);
            bind(inside, &SocketAddr::new(self.config.router(way.to.ip()), 0))?;
        }
        match connect(inside, &way.to) {
            Ok(()) => Ok(true),
            Err(Errno::INPROGRESS) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The client's address, unless it means something else to the container: loopback, or the network itself.
    fn visible_client(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let address = peer.ip().to_canonical();
        let means_something_else = match address {
            IpAddr::V4(v4) => v4.is_loopback(),
            IpAddr::V6(v6) => is_special(v6),
        };
        let is_visible = !means_something_else && !self.config.contains(address);
        is_visible.then_some(SocketAddr::new(address, peer.port()))
    }

    /// The container has answered, or not.
    pub(super) fn arrived(&mut self, place: usize) {
        let Some(Entity::Arriving(arriving)) = self.table.take(place) else { return };
        match rustix::net::sockopt::socket_error(&arriving.inside) {
            Ok(Ok(())) if getpeername(&arriving.inside).is_err() => {
                self.table.put(place, Entity::Arriving(arriving));
            }
            Ok(Ok(())) => {
                self.table.forget(place);
                let _ = epoll::delete(&self.epoll, &arriving.inside);
                let Arriving { inside, to, client, peer, .. } = arriving;
                self.join_in(inside, to, client, peer);
            }
            refused => {
                self.table.forget(place);
                let Arriving { client, peer, rest, .. } = arriving;
                match refused {
                    Ok(Err(Errno::CONNREFUSED)) => self.lead_in(client, peer, rest),
                    _ => relay::reset(&client),
                }
            }
        }
    }
}
