//! Which network a container is on, and how its namespace is connected to it.

use super::Error;
use super::id::ContainerId;
use super::record::Record;
use super::request::NetworkMode;
use super::session::Companion;
use super::store::Places;
use crate::kernel::process::Child;
use crate::network::{INTERFACE, Lease, Member, Network, Networks, Publish};
use crate::sandbox::{self, Interface};
use crate::state::{Lock, Paths};
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// An address for a container that is about to start, if it is on a network.
pub(super) fn lease(paths: &Paths, record: &Record) -> Result<Option<Lease>, Error> {
    let (network, joined) = match &record.network {
        NetworkMode::None | NetworkMode::Host => return Ok(None),
        NetworkMode::Default => (Network::default_one(), None),
        NetworkMode::Named(joined) => (Networks::new(paths).find(&joined.network)?, Some(joined)),
    };
    network.check_publish(&record.publish)?;
    let id = &record.id;
    let mut names = vec![record.name.clone()];
    names.extend(joined.into_iter().flat_map(|joined| joined.aliases.clone()));
    // The whole id is longer than a part of a name may be (RFC 1035, 63 bytes).
    names.extend([record.spec.hostname.clone(), id.short().to_owned()]);
    let wanted = joined.and_then(|joined| joined.ip);
    // Who has an address and does not run has been killed.
    let runs = |owner: &str| {
        ContainerId::parse(owner)
            .is_some_and(|id| Lock::is_held(&Places::of(paths, &id).lock()).unwrap_or(true))
    };
    Ok(Some(Lease::take(paths, network.config(), id.as_str(), names, wanted, runs)?))
}

/// The network namespace of a container's first process. To be asked for before that goes on: later nobody may look
/// into it.
pub(super) fn namespace_of(child: &Child) -> Result<OwnedFd, Error> {
    let file = std::fs::File::open(format!("/proc/{}/ns/net", child.pid));
    Ok(file.map_err(Error::io("open the container's network"))?.into())
}

/// What its first process has to set up.
pub(super) fn interface(member: &Member) -> Interface {
    let network = member.network();
    Interface {
        index: INTERFACE,
        address: member.address().into(),
        prefix: network.subnet.prefix,
        gateway: network.gateway.into(),
    }
}

/// A container's connection to its network, which is made again when the network's process is killed: the container keeps its
/// address and its ports, and loses the connections that it had.
pub(super) struct Connection {
    member: Member,
    namespace: OwnedFd,
    published: Vec<Publish>,
    lost: bool,
}

impl Connection {
    /// Connects the network namespace of a new container.
    pub(super) fn make(mut member: Member, namespace: OwnedFd, publish: &[Publish]) -> Result<Self, Error> {
        let published = member.attach(&namespace, publish)?;
        Ok(Self { member, namespace, published, lost: false })
    }

    /// The container's address.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.member.address()
    }

    /// The bits of its network, and the way out.
    pub(super) fn way(&self) -> (u8, Ipv4Addr) {
        let network = self.member.network();
        (network.subnet.prefix, network.gateway)
    }

    /// Its ports, as they are on the host.
    pub(super) fn published(&self) -> &[Publish] {
        &self.published
    }

    fn restore(&mut self) -> Result<(), Error> {
        self.member.reattach(&self.namespace, &self.published)?;
        Ok(sandbox::set_up_interface(&self.namespace, interface(&self.member))?)
    }
}

impl Companion for Connection {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        (!self.lost).then(|| self.member.watch())
    }

    fn ended(&mut self) {
        // Without a network the container goes on, as a machine does whose cable was pulled.
        self.lost = self.restore().is_err();
    }
}
