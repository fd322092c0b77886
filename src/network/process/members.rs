//! Containers that come and go: the connections of their monitors, and their cables.

use super::super::control::{self, Attach, Attached, Request};
use super::super::guard::{self, Identity};
use super::events::watch;
use super::tier::{Datapath, Tier};
use super::user::UserMode;
use super::{Cable, Entity, Member, Network, inside, names, no};
use crate::netlink::{Refused, link};
use rustix::event::epoll;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

impl Network {
    pub(super) fn accept_member(&mut self) {
        use rustix::net::SocketFlags;
        while let Ok(socket) =
            rustix::net::accept_with(&self.control, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            let member = Entity::Member(Member { socket, published: Vec::new(), cable: None });
            if self.add(member, epoll::EventFlags::IN).is_some() {
                self.members += 1;
            }
        }
    }

    pub(super) fn hear_member(&mut self, place: usize) {
        let Some(Entity::Member(mut member)) = self.table.take(place) else { return };
        match control::receive::<Request>(&member.socket) {
            Ok(Some((Request::Attach(attach), Some(_)))) if !attach.tap && self.tier.user().is_some() => {
                let answer = Attached::ByTap { mtu: self.tier.mtu().into() };
                let _ = control::send(&member.socket, &answer, None);
                self.table.put(place, Entity::Member(member));
            }
            Ok(Some((Request::Attach(attach), Some(fd)))) => {
                let answer = match self.attach(&attach, fd, &mut member) {
                    Ok(None) => Attached::ByTap { mtu: self.tier.mtu().into() },
                    Ok(Some(published)) => {
                        let names = names::folded(&attach.names);
                        let others = attach.others;
                        let v6 = attach.address6.map(IpAddr::from);
                        let addresses = std::iter::once(attach.address.into()).chain(v6).collect();
                        self.names.push(names::Names { owner: place, addresses, names, others });
                        Attached::Yes(published)
                    }
                    Err(error) => no(&error),
                };
                let _ = control::send(&member.socket, &answer, None);
                self.table.put(place, Entity::Member(member));
            }
            Ok(Some((Request::Others(others), None))) => {
                for names in self.names.iter_mut().filter(|names| names.owner == place) {
                    names.others.clone_from(&others);
                }
                self.table.put(place, Entity::Member(member));
            }
            Ok(Some((Request::Names(told), None))) => {
                for names in self.names.iter_mut().filter(|names| names.owner == place) {
                    names.names = names::folded(&told);
                }
                self.table.put(place, Entity::Member(member));
            }
            Ok(Some((Request::Flows(from), None))) => {
                let _ = control::send(&member.socket, &self.flows_from(from), None);
                self.table.put(place, Entity::Member(member));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.table.put(place, Entity::Member(member)),
            _ => {
                self.table.forget(place);
                self.members -= 1;
                if let Some(its) = self.names.iter().position(|names| names.owner == place) {
                    let its = self.names.swap_remove(its);
                    self.end_flows_of(&its.addresses);
                }
                self.swollen = true;
                // The next to be there must not get its clients.
                self.forget_clients_of(&member.published);
                for published in member.published {
                    self.remove(published);
                }
                self.cut(member.cable);
            }
        }
    }

    /// Whether it now goes the other way, since the kernel's does not work after all: its first cable could not be laid.
    fn falls_back(&mut self, refused: &Refused, member: &mut Member) -> bool {
        // What is there already is another's, and goes.
        let is_in_the_way = refused.source.kind() == io::ErrorKind::AlreadyExists;
        if self.config.datapath != Datapath::Auto || self.cables > 1 || is_in_the_way {
            return false;
        }
        member.cable = None;
        self.cables = 0;
        self.tier = Tier::User(Box::new(UserMode::new(&self.config)));
        true
    }

    fn cut(&mut self, cable: Option<Cable>) {
        match (cable, &mut self.tier) {
            (Some(Cable::Kernel(index, name)), Tier::Kernel(inside)) => {
                // It is gone already where the container's namespace is.
                let _ = inside.route.send(&[link::remove(index)]);
                let _ = inside.filter.send(&guard::forget(&name));
            }
            (Some(Cable::User { port, place }), Tier::User(user)) => {
                user.unplug(port);
                self.remove(place);
            }
            _ => {}
        }
    }

    /// `fd` is the container's network namespace; in the user-mode tier it is the tap interface in that. `None` if that is
    /// what it takes.
    fn attach(
        &mut self,
        attach: &Attach,
        fd: OwnedFd,
        member: &mut Member,
    ) -> Result<Option<Vec<control::Publish>>, Refused> {
        self.cables += 1;
        self.swollen = true;
        let Attach { address, address6, .. } = *attach;
        member.cable = Some(match self.tier {
            Tier::Kernel(_) => match self.lay_cable(attach, &fd, member) {
                Err(refused) if self.falls_back(&refused, member) => return Ok(None),
                laid => laid?,
            },
            Tier::User(_) => self.plug_in(attach, fd).map_err(Refused::to("connect the container's tap"))?,
        });
        let ports = attach.publish.iter().map(|publish| self.publish(publish, (address, address6), member));
        ports.collect::<Result<_, _>>().map(Some)
    }

    fn plug_in(&mut self, attach: &Attach, tap: OwnedFd) -> io::Result<Cable> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let user = self.tier.user().ok_or_else(gone)?;
        let port = user.plug(tap, attach.mac, attach.address, attach.address6);
        let place = self.table.add(Entity::Tap(port));
        let tap = self.tier.user().and_then(|user| user.tap(port)).ok_or_else(gone)?;
        watch(&self.epoll, tap.as_fd(), place, epoll::EventFlags::IN)?;
        Ok(Cable::User { port, place })
    }

    fn lay_cable(
        &mut self,
        attach: &Attach,
        namespace: &OwnedFd,
        member: &mut Member,
    ) -> Result<Cable, Refused> {
        let (isolated, number) = (self.config.isolated, self.cables);
        let Some(inside) = self.tier.kernel() else {
            return Err(Refused::to("lay a cable")(io::ErrorKind::NotFound));
        };
        let index = 100 + number;
        let cable = link::cable(&link::Cable {
            name: &attach.cable,
            index,
            bridge: inside::BRIDGE,
            namespace: Some(namespace.as_fd()),
            peer: &attach.interface,
            peer_index: attach.index,
            peer_mac: attach.mac,
            mtu: inside.mtu.into(),
        });
        let mut messages = vec![cable];
        if isolated {
            messages.push(link::isolate(index));
        }
        inside.route.send(&messages)?;
        // It is cut with the member, also if the rest fails.
        member.cable = Some(Cable::Kernel(index, attach.cable.clone()));
        let Attach { mac, address, address6, .. } = *attach;
        let check = guard::source_check(&attach.cable, &Identity { mac, address, address6 });
        inside.filter.send(&check)?;
        Ok(Cable::Kernel(index, attach.cable.clone()))
    }
}
