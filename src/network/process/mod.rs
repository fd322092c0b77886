//! The network's process: everything that happens on a network between the kernel's own doings.
//!
//! One thread does all the work, in one epoll(7) loop, in the host's network namespace: sockets towards the world are its
//! own, sockets towards containers come from the thread in R ([`inside`]). Whatever waits for a descriptor is an
//! [`Entity`] in a table; an event names its place.
//!
//! ```text
//!   SYN of a container ─ tun ─▶ Pending: connect() to the destination, from the host
//!        refused ─▶ RST back;  unreachable ─▶ ICMP back;  connected ─▶ the SYN goes on, the kernel answers it,
//!        accept() ─▶ Relay: both connections joined (splice)
//!   datagram of a container ─▶ Flow: two connected sockets, forgotten when idle
//!   client of a published port ─▶ Arriving: connect() to the container, with the client's own address ─▶ Relay
//! ```
//!
//! What it must never do: let a container reach the host's loopback, or another network's containers; forge an answer
//! for who did not give one; hold more for a container than its share ([`FLOWS`], [`PENDING`]).

mod confine;
mod dns;
mod dns_tcp;
mod flows;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod host;
mod icmp;
mod inside;
mod names;
mod packet;
mod publish;
mod relay;
mod resolvers;
mod table;
mod tcp;
mod udp;

#[cfg(feature = "fuzzing")]
pub use fuzzing::read_for_fuzzing;

use super::address::{HOST, Subnet};
use super::control::{self, Attach, Attached, Request};
use crate::kernel::memory::Program;
use crate::netlink::{Refused, link};
use host::{host_address, host_mtu, outside};
use inside::Inside;
use relay::{BUFFER, Pipes, Relay, Whose};
use rustix::event::epoll;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::Table;

/// What a network is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub subnet: Subnet,
    /// The one that is its own: where its name server is, and the way out.
    pub gateway: Ipv4Addr,
    /// Those that containers get unless they ask for another; all, if it is not set.
    pub range: Option<Subnet>,
    /// Of its packets, in bytes; the host's, if it is not set.
    pub mtu: Option<u16>,
    /// Whether its containers cannot talk to one another.
    pub isolated: bool,
    /// Whether there is no way out.
    pub internal: bool,
    /// Whether its containers are found by their names.
    pub names: bool,
}

impl Config {
    /// Whether ports of its containers can be published.
    pub fn check_publish(&self, ports: &[control::Publish]) -> Result<(), super::Error> {
        match self.internal && !ports.is_empty() {
            true => Err(super::Error::PublishInternal(self.name.clone())),
            false => Ok(()),
        }
    }
}

/// Connections that may be on their way at once.
const PENDING: usize = 8192;
/// Flows of datagrams at once; the one that has been idle for the longest gives way.
const FLOWS: usize = 4096;
/// Nobody has come for so long: whoever started this process is dead.
const UNUSED: Duration = Duration::from_secs(10);
/// How often what has timed out is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Something that waits for its descriptors.
enum Entity {
    Tun,
    Listener,
    Datagrams,
    DnsDatagrams,
    DnsListener,
    Control,
    /// The connection to a monitor.
    Member(Member),
    /// A connection of a container whose destination is being connected to.
    Pending(tcp::Pending),
    /// A client of a published port, to whose container is being connected.
    Arriving(publish::Arriving),
    /// A published TCP port.
    Published {
        listener: OwnedFd,
        to: SocketAddrV4,
    },
    /// A published UDP port.
    PublishedDatagrams {
        socket: OwnedFd,
        to: SocketAddrV4,
    },
    /// Two connections, joined.
    Relay(Relay),
    /// A flow of datagrams.
    Flow(udp::Flow),
    /// Echo requests of a container to one destination.
    Echo(icmp::Echo),
    /// A question to one of the host's name servers.
    Question(dns::Question),
    /// A client of the name server, by TCP.
    Asking(dns_tcp::Asking),
}

struct Member {
    socket: OwnedFd,
    published: Vec<usize>,
    cable: Option<(i32, String)>,
}

/// The network at work.
pub(super) struct Network {
    config: Config,
    /// In the run root; those of other networks are beside it.
    folder: PathBuf,
    inside: Inside,
    epoll: OwnedFd,
    table: Table,
    pending: HashMap<(SocketAddrV4, SocketAddrV4), usize>,
    flows: HashMap<udp::Key, usize>,
    echoes: HashMap<icmp::Key, usize>,
    asking: Vec<usize>,
    resolvers: dns::Resolvers,
    pipes: Pipes,
    buffer: Box<[u8; BUFFER]>,
    busy: Vec<usize>,
    control: OwnedFd,
    members: usize,
    cables: i32,
    since: Instant,
    /// Given up to accept and reset what there is no descriptor for: it would wake us up for ever.
    spare: Option<OwnedFd>,
    /// Whether memory has been used that waiting does not need.
    swollen: bool,
    program: Option<Program>,
    names: Vec<names::Names>,
    /// Counts answers.
    turn: usize,
}

/// Serves the network until its last container is gone. `control` is its listening socket.
pub fn serve(config: Config, folder: PathBuf, control: OwnedFd) {
    // Two for each connection; the usual soft limit is for programs that use select(2).
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    match Network::make(config, folder, control) {
        Ok(mut network) => {
            // A loop that cannot go on ends, and the monitors start another.
            let _ = network.run();
        }
        Err((control, error)) => refuse(&control, &error),
    }
}

/// Tells the first who comes why there is no network.
fn refuse(control: &OwnedFd, error: &Refused) {
    let mut set = [nix::poll::PollFd::new(control.as_fd(), nix::poll::PollFlags::POLLIN)];
    let _ = nix::poll::poll(&mut set, nix::poll::PollTimeout::from(5000u16));
    if let Ok(socket) = rustix::net::accept(control) {
        let _ = control::receive::<Request>(&socket);
        let _ = control::send(&socket, &no(error), None);
    }
}

fn no(error: &Refused) -> Attached {
    Attached::No {
        what: error.what.to_owned(),
        why: error.source.to_string(),
        errno: error.source.raw_os_error().unwrap_or(0),
    }
}

impl Network {
    fn make(config: Config, folder: PathBuf, control: OwnedFd) -> Result<Self, (OwnedFd, Refused)> {
        let inside = match Inside::make(&config) {
            Ok(inside) => inside,
            Err(error) => return Err((control, error)),
        };
        let epoll = match epoll::create(epoll::CreateFlags::CLOEXEC) {
            Ok(epoll) => epoll,
            Err(e) => return Err((control, Refused::to("wait for events")(e))),
        };
        let mut network = Self {
            config,
            folder,
            inside,
            epoll,
            table: Table::default(),
            pending: HashMap::new(),
            flows: HashMap::new(),
            echoes: HashMap::new(),
            asking: Vec::new(),
            resolvers: dns::Resolvers::default(),
            pipes: Pipes::default(),
            buffer: Box::new([0; BUFFER]),
            busy: Vec::new(),
            control,
            members: 0,
            cables: 0,
            since: Instant::now(),
            spare: None,
            swollen: false,
            program: Program::find().ok(),
            names: Vec::new(),
            turn: 0,
        };
        network.spare = rustix::io::fcntl_dupfd_cloexec(&network.epoll, 3).ok();
        if let Err(e) = network.watch_fixed() {
            return Err((network.control, Refused::to("wait for events")(e)));
        }
        match confine::confine() {
            Ok(()) => Ok(network),
            Err(refused) => Err((network.control, refused)),
        }
    }

    fn watch_fixed(&mut self) -> io::Result<()> {
        relay::set_nonblocking(&self.control)?;
        for entity in [
            Entity::Tun,
            Entity::Listener,
            Entity::Datagrams,
            Entity::DnsDatagrams,
            Entity::DnsListener,
            Entity::Control,
        ] {
            let fd = match &entity {
                Entity::Tun => &self.inside.tun,
                Entity::Listener => &self.inside.tcp,
                Entity::Datagrams => &self.inside.udp,
                Entity::DnsDatagrams => &self.inside.dns_udp,
                Entity::DnsListener => &self.inside.dns_tcp,
                _ => &self.control,
            };
            let fd = fd.as_fd();
            watch(&self.epoll, fd, self.table.places.len(), epoll::EventFlags::IN)?;
            self.table.add(entity);
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        let mut swept = Instant::now();
        loop {
            let timeout = if !self.busy.is_empty() {
                Some(Duration::ZERO)
            } else if self.members == 0 || self.swollen || !self.pending.is_empty() || self.table_times() {
                Some(SWEEP)
            } else {
                None
            };
            let timeout = timeout.map(|t| rustix::event::Timespec {
                tv_sec: i64::try_from(t.as_secs()).unwrap_or(1),
                tv_nsec: t.subsec_nanos().into(),
            });
            let mut events: [std::mem::MaybeUninit<epoll::Event>; 256] =
                [std::mem::MaybeUninit::uninit(); 256];
            let ready: Vec<(usize, bool)> = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok((events, _)) => events.iter().filter_map(event).collect(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let busy = std::mem::take(&mut self.busy);
            for (place, ending) in ready.into_iter().chain(busy.into_iter().map(|place| (place, true))) {
                self.ready(place, ending);
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep(swept);
            }
            if self.members == 0 && (self.since.elapsed() >= UNUSED || self.cables > 0) {
                return Ok(());
            }
        }
    }

    /// Whether anything in the table has a time at which it ends by itself.
    fn table_times(&self) -> bool {
        !self.flows.is_empty()
            || !self.echoes.is_empty()
            || !self.asking.is_empty()
            || self.resolvers.are_asked()
    }

    fn ready(&mut self, place: usize, ending: bool) {
        match self.table.get(place) {
            None => {}
            Some(Entity::Tun) => self.read_tun(),
            Some(Entity::Listener) => self.accept_held(),
            Some(Entity::Datagrams) => self.first_datagrams(),
            Some(Entity::DnsDatagrams) => self.questions(),
            Some(Entity::DnsListener) => self.accept_questions(),
            Some(Entity::Control) => self.accept_member(),
            Some(Entity::Member(_)) => self.hear_member(place),
            Some(Entity::Pending(_)) => self.connected(place),
            Some(Entity::Arriving(_)) => self.arrived(place),
            Some(Entity::Published { .. }) => self.accept_clients(place),
            Some(Entity::PublishedDatagrams { .. }) => self.datagrams_of_clients(place),
            Some(Entity::Relay(_)) => self.relay(place, ending),
            Some(Entity::Flow(_)) => self.flow(place),
            Some(Entity::Echo(_)) => self.echoed(place),
            Some(Entity::Asking(_)) => self.asked(place),
            Some(Entity::Question(_)) => self.answered(place),
        }
    }

    fn relay(&mut self, place: usize, ending: bool) {
        let Some(Entity::Relay(mut relay)) = self.table.take(place) else { return };
        match relay.run(ending, &mut self.pipes, &mut self.buffer) {
            Ok(relay::State::Waiting) => self.table.put(place, Entity::Relay(relay)),
            Ok(relay::State::Busy) => {
                self.table.put(place, Entity::Relay(relay));
                self.busy.push(place);
            }
            Ok(relay::State::Done) => {
                relay.close(&mut self.pipes, false);
                self.table.forget(place);
            }
            Err(_) => {
                relay.close(&mut self.pipes, true);
                self.table.forget(place);
            }
        }
    }

    /// Joins two connected sockets, the container's first. Neither is watched yet.
    fn join(&mut self, container: OwnedFd, remote: OwnedFd, whose: Option<Whose>) {
        self.join_relay(Relay::new(container, remote, whose));
    }

    fn join_relay(&mut self, relay: Relay) {
        let place = self.table.add(Entity::Tun);
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let watched = relay.ends().into_iter().try_for_each(|end| watch(&self.epoll, end, place, flags));
        if watched.is_err() {
            relay.close(&mut self.pipes, true);
            let _ = self.table.take(place);
            self.table.forget(place);
            return;
        }
        self.table.put(place, Entity::Relay(relay));
        // What came before it was watched.
        self.relay(place, true);
    }

    /// Puts an entity into the table and watches its descriptor.
    fn add(&mut self, entity: Entity, flags: epoll::EventFlags) -> Option<usize> {
        let place = self.table.add(entity);
        let watched = match self.table.places[place].as_ref() {
            Some(entity) => {
                entity.descriptors().into_iter().try_for_each(|fd| watch(&self.epoll, fd, place, flags))
            }
            None => Ok(()),
        };
        if watched.is_ok() {
            return Some(place);
        }
        self.remove(place);
        None
    }

    /// Whether a connection was reset for want of descriptors, after accepting one failed.
    fn shed(&mut self, error: rustix::io::Errno, accept: impl Fn(&Self) -> Option<OwnedFd>) -> bool {
        use rustix::io::{Errno, fcntl_dupfd_cloexec};
        if !matches!(error, Errno::MFILE | Errno::NFILE) || self.spare.take().is_none() {
            return false;
        }
        let shed = accept(self).inspect(relay::reset).is_some();
        self.spare = fcntl_dupfd_cloexec(&self.epoll, 3).ok();
        shed
    }

    fn remove(&mut self, place: usize) -> Option<Entity> {
        let entity = self.table.take(place)?;
        self.table.forget(place);
        Some(entity)
    }

    fn sweep(&mut self, now: Instant) {
        self.sweep_pending(now);
        self.sweep_flows(now);
        self.sweep_echoes(now);
        self.sweep_asking(now);
        self.sweep_questions(now);
        if std::mem::take(&mut self.swollen)
            && let Some(program) = &self.program
        {
            // What is not given back is only memory.
            let _ = program.trim();
        }
    }

    // --- containers that come and go -----------------------------------------------------------------------------

    fn accept_member(&mut self) {
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

    fn hear_member(&mut self, place: usize) {
        let Some(Entity::Member(mut member)) = self.table.take(place) else { return };
        match control::receive::<Request>(&member.socket) {
            Ok(Some((Request::Attach(attach), Some(namespace)))) => {
                let answer = match self.attach(&attach, &namespace, &mut member) {
                    Ok(published) => {
                        let names = attach.names.iter().map(|name| name.to_ascii_lowercase()).collect();
                        let others = attach.others;
                        self.names.push(names::Names {
                            owner: place,
                            address: attach.address,
                            names,
                            others,
                        });
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
            Ok(Some((Request::Flows(from), None))) => {
                let _ = control::send(&member.socket, &self.flows_from(from), None);
                self.table.put(place, Entity::Member(member));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.table.put(place, Entity::Member(member)),
            _ => {
                self.table.forget(place);
                self.members -= 1;
                self.names.retain(|names| names.owner != place);
                // The next to be there must not get its clients.
                self.forget_clients_of(&member.published);
                for published in member.published {
                    self.remove(published);
                }
                if let Some((index, name)) = member.cable {
                    // It is gone already where the container's namespace is.
                    let _ = self.inside.route.send(&[link::remove(index)]);
                    let _ = self.inside.filter.send(&super::guard::forget(&name));
                }
            }
        }
    }

    fn attach(
        &mut self,
        attach: &Attach,
        namespace: &OwnedFd,
        member: &mut Member,
    ) -> Result<Vec<control::Publish>, Refused> {
        self.cables += 1;
        self.swollen = true;
        let index = 100 + self.cables;
        let cable = link::cable(&link::Cable {
            name: &attach.cable,
            index,
            bridge: inside::BRIDGE,
            namespace: Some(namespace.as_fd()),
            peer: &attach.interface,
            peer_index: attach.index,
            peer_mac: attach.mac,
            mtu: self.inside.mtu.into(),
        });
        let mut messages = vec![cable];
        if self.config.isolated {
            messages.push(link::isolate(index));
        }
        self.inside.route.send(&messages)?;
        member.cable = Some((index, attach.cable.clone()));
        let check = super::guard::source_check(&attach.cable, attach.address, attach.mac);
        self.inside.filter.send(&check)?;
        attach.publish.iter().map(|publish| self.publish(publish, attach.address, member)).collect()
    }
}

impl Entity {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Entity::Tun
            | Entity::Listener
            | Entity::Datagrams
            | Entity::DnsDatagrams
            | Entity::DnsListener
            | Entity::Control => Vec::new(),
            Entity::Member(member) => vec![member.socket.as_fd()],
            Entity::Pending(pending) => vec![pending.socket.as_fd()],
            Entity::Arriving(arriving) => vec![arriving.inside.as_fd()],
            Entity::Published { listener: socket, .. } | Entity::PublishedDatagrams { socket, .. } => {
                vec![socket.as_fd()]
            }
            Entity::Relay(relay) => relay.ends().to_vec(),
            Entity::Flow(flow) => flow.descriptors(),
            Entity::Asking(asking) => vec![asking.client.as_fd()],
            Entity::Echo(echo) => vec![echo.socket.as_fd()],
            Entity::Question(question) => question.descriptors(),
        }
    }
}

/// The place that an event is for, and whether something may have come to its end there.
fn event(event: &epoll::Event) -> Option<(usize, bool)> {
    use epoll::EventFlags;
    // Copies: the structure is packed.
    let (data, flags) = (event.data, event.flags);
    let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
    Some((usize::try_from(data.u64()).ok()?, ending))
}

fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, place: usize, flags: epoll::EventFlags) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(place as u64), flags)?)
}

impl Network {
    /// Where a container's packet for this address goes to from the host; `None` if that is forbidden or leads nowhere:
    /// the host's loopback, and the network's own addresses, which the bridge serves.
    fn destination(&self, address: SocketAddrV4) -> Option<SocketAddrV4> {
        let ip = *address.ip();
        if ip == HOST && !self.config.internal {
            return Some(SocketAddrV4::new(host_address()?, address.port()));
        }
        let forbidden = self.config.internal
            || ip.is_loopback()
            || ip.is_unspecified()
            || ip.is_multicast()
            || ip.is_broadcast()
            || self.config.subnet.contains(ip);
        (!forbidden).then_some(address)
    }
}
