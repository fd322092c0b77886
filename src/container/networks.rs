//! Which networks a container is on, and how its namespace is connected to them.
//!
//! What the user asked for is in the record; what `network connect` and `disconnect` have made of it since is in
//! `networks.json` beside it, and counts instead ([`load`]). The first network that is not internal is the *way*: the default
//! route, the name server and the published ports are its. A running container's monitor holds a [`Connection`] to each
//! network; it is told of a change and brings the container to what the file says ([`Connections::follow`]).

use super::Error;
use super::id::ContainerId;
use super::lifecycle;
use super::mounting::write_files;
use super::record::{Live, OnNetwork, Record, Started};
use super::rename::Names;
use super::request::{Joined, NetworkMode};
use super::session::{Companion, Ending, Failure};
use super::store::{Container, Places};
use crate::kernel::process::Child;
use crate::network::{Asked, Config, Lease, Member, Network, Networks, Publish, Wish};
use crate::sandbox::{self, AddressOf, Interface};
use crate::state::{self, Durability, Lock, Paths};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

fn file(places: &Places, rm: bool) -> PathBuf {
    places.record(rm).with_file_name("networks.json")
}

/// Brings the networks of a record up to date.
pub(super) fn load(record: &mut Record, places: &Places) -> Result<(), Error> {
    if matches!(record.network, NetworkMode::Default | NetworkMode::Named(_))
        && let Some(now) = state::read_json(&file(places, record.rm))?
    {
        record.network = NetworkMode::Named(now);
    }
    Ok(())
}

/// Writes down which networks a container is on from now on. The caller holds `locks/networks`.
pub(super) fn save(record: &Record, places: &Places, now: &[Joined]) -> Result<(), Error> {
    let durability = if record.rm { Durability::Process } else { Durability::PowerCut };
    Ok(state::write_json(&file(places, record.rm), &now, durability)?)
}

/// Puts a container on one more network, at once if it runs.
pub fn connect(paths: &Paths, container: &Container, joined: Joined) -> Result<(), Error> {
    let networks = Networks::new(paths);
    let _lock = networks.change()?;
    let network = networks.find(&joined.network)?;
    network.check_aliases(&joined.aliases)?;
    let joined = Joined { network: network.name, ..joined };
    change(paths, container, |now| {
        if now.iter().any(|other| other.network == joined.network) {
            let what =
                format!("container {} is connected to network {}", container.record.name, joined.network);
            return Err(Error::Request { what: format!("{what} already"), fix: None });
        }
        now.push(joined);
        Ok(())
    })
}

/// Takes a container from a network, at once if it runs.
pub fn disconnect(paths: &Paths, container: &Container, network: &str) -> Result<(), Error> {
    let networks = Networks::new(paths);
    let _lock = networks.change()?;
    // One that is gone can be left.
    let name = networks.find(network).map_or_else(|_| network.to_owned(), |network| network.name);
    change(paths, container, |now| {
        let before = now.len();
        now.retain(|joined| joined.network != name);
        if now.len() == before {
            let what = format!("container {} is not connected to network {name}", container.record.name);
            return Err(Error::Request { what, fix: None });
        }
        Ok(())
    })
}

/// Connects a running container anew to the networks whose process it has lost.
pub fn reload(paths: &Paths, container: &Container) -> Result<(), Error> {
    let container = lifecycle::settled(paths, container)?;
    lifecycle::init_of(paths, &container)?;
    follow(&container)
}

/// Lets the networks of a running container know the name that it has now.
pub fn follow_name(container: &Container) -> Result<(), Error> {
    match container.status.is_running() && !joined(&container.record.network).is_empty() {
        true => follow(container),
        false => Ok(()),
    }
}

/// The caller holds `locks/networks`, so that nobody else changes them meanwhile.
fn change(
    paths: &Paths,
    container: &Container,
    edit: impl FnOnce(&mut Vec<Joined>) -> Result<(), Error>,
) -> Result<(), Error> {
    // As it is by now: another may have changed it just before.
    let current = super::store::load(paths, &container.record.id)?;
    let container =
        lifecycle::settled(paths, &current.ok_or_else(|| Error::NotFound(container.record.name.clone()))?)?;
    let Container { record, places, .. } = &container;
    if !matches!(record.network, NetworkMode::Default | NetworkMode::Named(_)) {
        return Err(Error::Request {
            what: format!(
                "container {} is on the host's network, another container's or none, for good",
                record.name
            ),
            fix: Some("create it anew with --network".into()),
        });
    }
    let before = joined(&record.network);
    let mut now = before.clone();
    edit(&mut now)?;
    save(record, places, &now)?;
    if !container.status.is_running() {
        return Ok(());
    }
    let followed = follow(&container);
    if followed.is_err() {
        save(record, places, &before)?;
        // It has gone a part of the way.
        let _ = follow(&container);
    }
    followed
}

/// Lets the monitor of a running container do what is written down. One that ends meanwhile need not.
fn follow(container: &Container) -> Result<(), Error> {
    let Ok(client) = super::monitor::attach(&container.places) else { return Ok(()) };
    match client.change_networks() {
        Ok(Some(Ending::Failed(failure))) => Err(Error::from(failure)),
        Ok(_) => Ok(()),
        Err(e) => Err(Error::io("talk to the container's monitor")(e)),
    }
}

/// The networks that a container is on when it runs, in their order.
pub fn joined(mode: &NetworkMode) -> Vec<Joined> {
    match mode {
        NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) => Vec::new(),
        NetworkMode::Default => {
            vec![Joined { network: crate::network::DEFAULT.to_owned(), ..Joined::default() }]
        }
        NetworkMode::Named(networks) => networks.clone(),
    }
}

/// Addresses for a container that is about to start, on each of its networks.
pub(super) fn lease(paths: &Paths, record: &Record, places: &Places) -> Result<Vec<Lease>, Error> {
    let networks = joined(&record.network);
    if networks.is_empty() {
        return Ok(Vec::new());
    }
    let started: Option<Started> = match record.rm {
        true => None,
        false => state::read_json(&places.data.join("state.json")).unwrap_or_default(),
    };
    let mut leases = Vec::new();
    for (number, joined) in (0..).zip(&networks) {
        let had = started.as_ref().and_then(|started| started.address(&joined.network));
        leases.push(take(paths, record, joined, number, had)?);
    }
    if let Some(way) = way_of(leases.iter()) {
        leases[way].network().check_publish(&record.publish)?;
    }
    let ids: Vec<String> = leases.iter().map(|lease| lease.network().id.clone()).collect();
    for lease in &mut leases {
        lease.set_others(&ids);
    }
    Ok(leases)
}

/// What a container is called on a network.
fn names(record: &Record, joined: &Joined) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(joined.aliases.iter().cloned());
    // The whole id is longer than a part of a name may be (RFC 1035, 63 bytes).
    names.extend([record.spec.hostname.clone(), record.id.short().to_owned()]);
    names
}

fn take(
    paths: &Paths,
    record: &Record,
    joined: &Joined,
    number: u8,
    had: Option<std::net::Ipv4Addr>,
) -> Result<Lease, Error> {
    let network: Network = Networks::new(paths).find(&joined.network)?;
    let id = &record.id;
    let wish = Wish {
        owner: id.as_str().to_owned(),
        names: names(record, joined),
        address: match (joined.ip, had) {
            (Some(ip), _) => Asked::This(ip),
            (None, Some(had)) => Asked::Again(had),
            (None, None) => Asked::Any,
        },
        address6: joined.ip6,
        mac: joined.mac,
        number,
        interface: joined.interface.clone(),
    };
    // Who has an address and does not run has been killed.
    let runs = |owner: &str| {
        ContainerId::parse(owner)
            .is_some_and(|id| Lock::is_held(&Places::of(paths, &id).lock()).unwrap_or(true))
    };
    Ok(Lease::take(paths, network.config(), wish, runs)?)
}

/// Which of a container's networks, of which this says whether they are internal, is the way to everything else.
pub fn way(mut internal: impl Iterator<Item = bool> + Clone) -> Option<usize> {
    let any = internal.clone().next().map(|_| 0);
    internal.position(|internal| !internal).or(any)
}

/// The same, of addresses on networks.
pub(super) fn way_of<'a>(leases: impl Iterator<Item = &'a Lease> + Clone) -> Option<usize> {
    way(leases.map(|lease| lease.network().internal))
}

/// The network namespace of a container's first process. To be asked for before that goes on: later nobody may look
/// into it.
pub(super) fn namespace_of(child: &Child) -> Result<OwnedFd, Error> {
    let file = std::fs::File::open(format!("/proc/{}/ns/net", child.pid));
    Ok(file.map_err(Error::io("open the container's network"))?.into())
}

/// What its first process has to set up.
pub(super) fn interfaces(members: &[Member]) -> Vec<Interface> {
    let way = way_of(members.iter().map(Member::lease));
    members.iter().enumerate().map(|(i, member)| interface(member.lease(), way == Some(i))).collect()
}

fn interface(lease: &Lease, is_way: bool) -> Interface {
    let network = lease.network();
    Interface {
        index: lease.wish().index(),
        v4: AddressOf {
            address: lease.address().into(),
            prefix: network.subnet.prefix,
            gateway: is_way.then_some(network.gateway.into()),
        },
        v6: lease.address6().zip(network.v6).map(|(address, v6)| AddressOf {
            address: address.into(),
            prefix: v6.subnet.prefix,
            gateway: is_way.then_some(v6.gateway.into()),
        }),
    }
}

/// A container's connection to one of its networks.
struct Connection {
    member: Member,
    lost: bool,
}

impl Connection {
    fn network(&self) -> &Config {
        self.member.lease().network()
    }
}

/// A container's connections to its networks. One is made again when the network's process is killed: the container keeps its
/// address and its ports, and loses the connections that it had.
pub(super) struct Connections<'a> {
    paths: &'a Paths,
    record: &'a Record,
    places: &'a Places,
    namespace: OwnedFd,
    list: Vec<Connection>,
    published: Vec<Publish>,
}

impl<'a> Connections<'a> {
    /// Connects the network namespace of a new container.
    pub(super) fn make(
        paths: &'a Paths,
        record: &'a Record,
        places: &'a Places,
        members: Vec<Member>,
        namespace: OwnedFd,
    ) -> Result<Self, Error> {
        let list = members.into_iter().map(|member| Connection { member, lost: false }).collect();
        let mut made = Self { paths, record, places, namespace, list, published: record.publish.clone() };
        let way = made.way();
        for (i, connection) in made.list.iter_mut().enumerate() {
            match way == Some(i) {
                true => made.published = connection.member.attach(&made.namespace, &made.published)?,
                false => drop(connection.member.attach(&made.namespace, &[])?),
            }
        }
        Ok(made)
    }

    fn way(&self) -> Option<usize> {
        way_of(self.list.iter().map(|connection| connection.member.lease()))
    }

    /// Its ports, as they are on the host.
    pub(super) fn published(&self) -> Vec<Publish> {
        if self.list.is_empty() { Vec::new() } else { self.published.clone() }
    }

    /// What it has on each network, the way first.
    pub(super) fn networks(&self) -> Vec<OnNetwork> {
        let on = |connection: &Connection| {
            let lease = connection.member.lease();
            let network = lease.network();
            OnNetwork {
                network: network.name.clone(),
                id: network.id.clone(),
                interface: lease.wish().interface_name(),
                address: lease.address(),
                prefix: network.subnet.prefix,
                gateway: network.gateway,
                v6: lease.address6().zip(network.v6),
                mac: lease.mac(),
            }
        };
        let mut networks: Vec<_> = self.list.iter().map(on).collect();
        if let Some(way) = self.way() {
            networks[..=way].rotate_right(1);
        }
        networks
    }

    /// Connects it again by another process of the network.
    fn restore(&mut self, which: usize) -> Result<(), Error> {
        let is_way = self.way() == Some(which);
        let Some(connection) = self.list.get_mut(which) else { return Ok(()) };
        let published: &[Publish] = if is_way { &self.published } else { &[] };
        if connection.member.reattach(&self.namespace, published)? {
            let interface = interface(connection.member.lease(), is_way);
            sandbox::set_up_interfaces(&self.namespace, &[interface], &[])?;
        }
        connection.lost = false;
        Ok(())
    }

    /// Brings the container to the networks that are written down for it, by the name that it has now.
    fn follow(&mut self) -> Result<(), Error> {
        for which in 0..self.list.len() {
            if self.list[which].lost {
                self.restore(which)?;
            }
        }
        let mut record = self.record.clone();
        load(&mut record, self.places)?;
        record.name = Names::new(self.paths).of(&record.name, &record.id);
        let wanted = joined(&record.network);
        let way_before = self.way().map(|way| self.list[way].network().id.clone());
        let is_wanted = |network: &str| wanted.iter().any(|joined| joined.network == network);
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.list.drain(..).partition(|connection| is_wanted(&connection.network().name));
        self.list = kept;
        gone.into_iter().for_each(|connection| connection.member.detach());
        let mut added = Vec::new();
        for joined in &wanted {
            let is_it = |connection: &&mut Connection| connection.network().name == joined.network;
            if let Some(connection) = self.list.iter_mut().find(is_it) {
                connection.member.set_names(names(&record, joined))?;
                continue;
            }
            let taken = |number| self.list.iter().any(|c| c.member.lease().wish().number == number);
            let number = (0..=u8::MAX).find(|number| !taken(*number)).unwrap_or(u8::MAX);
            let mut member = take(self.paths, &record, joined, number, None)?.join()?;
            member.attach(&self.namespace, &[])?;
            added.push(interface(member.lease(), false));
            self.list.push(Connection { member, lost: false });
        }
        if !added.is_empty() {
            sandbox::set_up_interfaces(&self.namespace, &added, &[])?;
        }
        let ids: Vec<String> = self.list.iter().map(|connection| connection.network().id.clone()).collect();
        for connection in &mut self.list {
            connection.member.set_others(&ids)?;
        }
        if let Some(way) = self.way() {
            let Config { id, gateway, v6, .. } = self.list[way].network().clone();
            if way_before != Some(id) {
                // The ports go with it.
                if !self.published.is_empty() {
                    self.restore(way)?;
                }
                let v6 = v6.map(|v6| v6.gateway.into());
                let gateways: Vec<_> = std::iter::once(gateway.into()).chain(v6).collect();
                sandbox::set_up_interfaces(&self.namespace, &[], &gateways)?;
            }
        }
        self.tell(&record)
    }

    /// Writes down what there is now, for the container and for who asks about it.
    fn tell(&self, record: &Record) -> Result<(), Error> {
        // Written in place: the container has the files mounted.
        write_files(record, self.places, &self.leases())?;
        let file = self.places.run.join("live.json");
        if let Some(live) = state::read_json::<Live>(&file)? {
            let live = Live { networks: self.networks(), published: self.published(), ..live };
            state::write_json(&file, &live, Durability::Process)?;
        }
        Ok(())
    }

    fn leases(&self) -> Vec<&Lease> {
        self.list.iter().map(|connection| connection.member.lease()).collect()
    }
}

impl Companion for Connections<'_> {
    fn watch(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let watched = self.list.iter().enumerate().filter(|(_, connection)| !connection.lost);
        watched.map(|(i, connection)| (i, connection.member.watch())).collect()
    }

    fn ended(&mut self, which: usize) {
        // Without a network the container goes on, as a machine does whose cable was pulled.
        if self.restore(which).is_err()
            && let Some(connection) = self.list.get_mut(which)
        {
            connection.lost = true;
        }
    }

    fn changed(&mut self) -> Result<(), Failure> {
        self.follow().map_err(|error| Failure::of(&error))
    }
}
