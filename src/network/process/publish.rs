//! Published ports: the host listens, and the container sees its client's own address.

use super::super::control::{Publish, Transport};
use super::relay::Whose;
use super::{Entity, Member, Network, Refused, relay};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, getpeername, getsockname,
};
use rustix::net::{listen, socket_with};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

/// A client whose container is being connected to.
pub(super) struct Arriving {
    /// Towards the container.
    pub(super) inside: OwnedFd,
    client: OwnedFd,
    to: SocketAddrV4,
}

impl Network {
    /// Begins to listen for a container; the port as it is now.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        address: Ipv4Addr,
        member: &mut Member,
    ) -> Result<Publish, Refused> {
        let to = SocketAddrV4::new(address, publish.container_port);
        let at = SocketAddr::new(publish.host_ip, publish.host_port);
        let (kind, what) = match publish.transport {
            Transport::Tcp => (SocketType::STREAM, "listen on the published port"),
            Transport::Udp => (SocketType::DGRAM, "receive on the published port"),
        };
        let family = match publish.host_ip {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let opened = (|| {
            let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
            if kind == SocketType::STREAM {
                rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            }
            bind(&socket, &at)?;
            if kind == SocketType::STREAM {
                listen(&socket, 4096)?;
            }
            let port = SocketAddr::try_from(getsockname(&socket)?).map_or(publish.host_port, |a| a.port());
            Ok::<_, Errno>((socket, port))
        })();
        let (socket, port) = opened.map_err(Refused::to(what))?;
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
            let accepted = accept_with(&*listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            let client = match accepted {
                Ok(client) => client,
                Err(error) => {
                    let again = |network: &Self| match network.table.places.get(place)? {
                        Some(Entity::Published { listener, .. }) => rustix::net::accept(listener).ok(),
                        _ => None,
                    };
                    self.shed(error, again);
                    return;
                }
            };
            let _ = rustix::net::sockopt::set_tcp_nodelay(&client, true);
            if self.lead_in(&client, to).is_err() {
                relay::reset(&client);
            }
        }
    }

    /// Connects a client on, with its own address where a container can answer to that.
    fn lead_in(&mut self, client: &OwnedFd, to: SocketAddrV4) -> Result<(), Errno> {
        let inside = self.inside.socket(SocketType::STREAM).map_err(|_| Errno::NFILE)?;
        let peer = getpeername(client)?.and_then(|peer| SocketAddr::try_from(peer).ok());
        let own = peer.and_then(|peer| self.visible_client(peer));
        // The same client may have a connection to another of the container's published ports: then it has another port.
        if own.is_none_or(|own| bind(&inside, &own).is_err()) {
            self.bind_to_gateway(&inside)?;
        }
        match connect(&inside, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(e) => return Err(e),
        }
        let client = rustix::io::fcntl_dupfd_cloexec(client, 3)?;
        let arriving = Entity::Arriving(Arriving { inside, client, to });
        self.add(arriving, EventFlags::OUT | EventFlags::ET).map(drop).ok_or(Errno::NOMEM)
    }

    /// Lets a socket be the gateway's; its port is chosen when it connects, so that one that another connection had a moment ago
    /// is no hindrance.
    pub(super) fn bind_to_gateway(&self, socket: &OwnedFd) -> Result<(), Errno> {
        let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
        bind(socket, &SocketAddrV4::new(self.config.gateway, 0))
    }

    /// The client's address, unless it means something else to the container: loopback, or the network itself.
    pub(super) fn visible_client(&self, peer: SocketAddr) -> Option<SocketAddrV4> {
        let SocketAddr::V4(v4) = peer else { return None };
        (!v4.ip().is_loopback() && !self.config.subnet.contains(*v4.ip())).then_some(v4)
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
                let remote = getpeername(&arriving.client).ok().flatten();
                let whose = remote.and_then(|remote| SocketAddr::try_from(remote).ok()).map(|remote| Whose {
                    container: arriving.to.into(),
                    remote,
                    inwards: true,
                });
                self.join(arriving.inside, arriving.client, whose);
            }
            _ => {
                self.table.forget(place);
                relay::reset(&arriving.client);
            }
        }
    }
}
