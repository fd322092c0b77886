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
//! That is what happens where the kernel can do it. Where it cannot, this process carries packets itself ([`user`]), behind the same
//! interface ([`tier`]).
//!
//! What it must never do: let a container reach the host's loopback, or another network's containers; forge an answer
//! for who did not give one; hold more for a container than its share ([`FLOWS`], [`PENDING`]).

mod awake;
mod confine;
mod dns;
mod dns_tcp;
mod events;
mod flows;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod host;
mod icmp;
mod inside;
mod ip;
mod members;
mod names;
mod packet;
mod publish;
mod relay;
mod resolvers;
mod table;
mod tcp;
mod tier;
mod udp;
mod user;

#[cfg(feature = "fuzzing")]
pub use fuzzing::read_for_fuzzing;
#[cfg(feature = "fuzzing")]
pub use user::hear_for_fuzzing;

use super::address::{HOST, Subnet};
use super::control::{self, Attached, Request};
use super::subnet6::{V6, is_special};
use crate::kernel::memory::Program;
use crate::netlink::Refused;
use events::{Happened, RELAYED, look, watch, watch_end};
use host::{host_address, host_mtu, outside};
use relay::{BUFFER, Pipes, Relay, Whose};
use rustix::event::epoll;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::Table;
pub use tier::Datapath;
use tier::Tier;

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
    /// What it has of IPv6.
    pub v6: Option<V6>,
    /// Of its packets, in bytes; the host's, if it is not set.
    pub mtu: Option<u16>,
    /// Whether its containers cannot talk to one another.
    pub isolated: bool,
    /// Whether there is no way out.
    pub internal: bool,
    /// Whether its containers are found by their names.
    pub names: bool,
    /// Which way packets are carried.
    pub datapath: Datapath,
    /// Whom to ask for other names; the host's name servers if there is nobody.
    pub dns: Vec<IpAddr>,
}

impl Config {
    /// Whether an address is of this network.
    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.subnet.contains(v4),
            IpAddr::V6(v6) => self.v6.is_some_and(|own| own.subnet.contains(v6)),
        }
    }

    /// The network's own address of this one's family.
    fn router(&self, family: IpAddr) -> IpAddr {
        match (family, self.v6) {
            (IpAddr::V6(_), Some(v6)) => v6.gateway.into(),
            _ => self.gateway.into(),
        }
    }

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
    /// Of one of R's families, by number.
    Listener(usize),
    Datagrams(usize),
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
        to: publish::Port,
    },
    /// A published UDP port.
    PublishedDatagrams {
        socket: OwnedFd,
        to: publish::Port,
    },
    /// Two connections, joined.
    Relay(Relay),
    /// A flow of datagrams.
    Flow(udp::Flow),
    /// A container's cable, in the user-mode tier.
    Tap(usize),
    /// A connection that ends here, in the user-mode tier.
    Stream(user::Stream),
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
    cable: Option<Cable>,
}

/// A container's cable: in R, by its index and name, or a port of the user-mode tier and where that is in the table.
enum Cable {
    Kernel(i32, String),
    User { port: usize, place: usize },
}

/// The network at work.
pub(super) struct Network {
    config: Config,
    /// In the run root; those of other networks are beside it.
    folder: PathBuf,
    tier: Tier,
    epoll: OwnedFd,
    table: Table,
    pending: HashMap<(SocketAddr, SocketAddr), usize>,
    /// Connections that containers have made: their places, and the numbers that their SYNs had.
    connections: HashMap<(SocketAddr, SocketAddr), (usize, u32)>,
    flows: HashMap<udp::Key, usize>,
    echoes: HashMap<icmp::Key, usize>,
    asking: Vec<usize>,
    resolvers: dns::Resolvers,
    pipes: Pipes,
    buffer: Box<[u8; BUFFER]>,
    busy: Vec<usize>,
    /// Whether the last thing that was done was to pass a message on.
    talking: bool,
    awake: awake::Awake,
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
        let tier = match Tier::make(&config) {
            Ok(tier) => tier,
            Err(error) => return Err((control, error)),
        };
        let epoll = match epoll::create(epoll::CreateFlags::CLOEXEC) {
            Ok(epoll) => epoll,
            Err(e) => return Err((control, Refused::to("wait for events")(e))),
        };
        let resolvers = dns::Resolvers::new(&config.dns);
        let mut network = Self {
            config,
            folder,
            tier,
            epoll,
            table: Table::default(),
            pending: HashMap::new(),
            connections: HashMap::new(),
            flows: HashMap::new(),
            echoes: HashMap::new(),
            asking: Vec::new(),
            resolvers,
            pipes: Pipes::default(),
            buffer: Box::new([0; BUFFER]),
            busy: Vec::new(),
            talking: false,
            awake: awake::Awake::default(),
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
        let is_kernel = network.tier.user().is_none();
        match confine::confine(is_kernel) {
            Ok(()) => Ok(network),
            Err(refused) => Err((network.control, refused)),
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut swept = Instant::now();
        loop {
            let timeout = if !self.busy.is_empty() {
                Some(Duration::ZERO)
            } else if self.tier.user().is_some_and(|user| user.is_waiting()) {
                Some(user::TICK)
            } else if self.members == 0
                || self.swollen
                || self.tier.has_spare()
                || self.pipes.are_idle()
                || !self.pending.is_empty()
                || self.table_times()
            {
                Some(SWEEP)
            } else {
                None
            };
            let ready = match self.wait(timeout) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let busy = std::mem::take(&mut self.busy);
            for (place, event) in ready.into_iter().chain(busy.into_iter().map(|place| (place, None))) {
                self.ready(place, event);
            }
            self.sweep_streams(Instant::now());
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep(swept);
            }
            if self.members == 0 && (self.since.elapsed() >= UNUSED || self.cables > 0) {
                return Ok(());
            }
        }
    }

    /// What has happened, for no longer than this.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Happened>, rustix::io::Errno> {
        // Others than two who talk do not wait for us.
        if !std::mem::take(&mut self.talking) || timeout == Some(Duration::ZERO) {
            return look(&self.epoll, timeout);
        }
        let since = Instant::now();
        if let Some(until) = self.awake.until(since) {
            while Instant::now() < until {
                let ready = look(&self.epoll, Some(Duration::ZERO))?;
                if !ready.is_empty() {
                    return Ok(ready);
                }
            }
        }
        let ready = look(&self.epoll, timeout)?;
        self.awake.came_after(since.elapsed());
        Ok(ready)
    }

    /// Whether anything in the table has a time at which it ends by itself.
    fn table_times(&self) -> bool {
        !self.flows.is_empty()
            || !self.echoes.is_empty()
            || !self.asking.is_empty()
            || self.resolvers.are_asked()
    }

    fn ready(&mut self, place: usize, event: Option<relay::Event>) {
        match self.table.get(place) {
            None => {}
            Some(Entity::Tun) => self.read_tun(),
            Some(Entity::Listener(which)) => {
                let which = *which;
                self.accept_held(which);
            }
            Some(Entity::Datagrams(which)) => {
                let which = *which;
                self.first_datagrams(which);
            }
            Some(Entity::DnsDatagrams) => self.questions(),
            Some(Entity::DnsListener) => self.accept_questions(),
            Some(Entity::Control) => self.accept_member(),
            Some(Entity::Member(_)) => self.hear_member(place),
            Some(Entity::Pending(_)) => self.connected(place),
            Some(Entity::Arriving(_)) => self.arrived(place),
            Some(Entity::Published { .. }) => self.accept_clients(place),
            Some(Entity::PublishedDatagrams { .. }) => self.datagrams_of_clients(place),
            Some(Entity::Relay(_)) => self.relay(place, event),
            Some(Entity::Flow(_)) => self.flow(place),
            Some(Entity::Tap(port)) => {
                let port = *port;
                self.read_tap(port);
            }
            Some(Entity::Stream(_)) => self.stream_event(place),
            Some(Entity::Echo(_)) => self.echoed(place),
            Some(Entity::Asking(_)) => self.asked(place),
            Some(Entity::Question(_)) => self.answered(place),
        }
    }

    fn relay(&mut self, place: usize, event: Option<relay::Event>) {
        let Some(Entity::Relay(mut relay)) = self.table.take(place) else { return };
        match relay.run(event, &mut self.pipes, &mut self.buffer) {
            Ok(relay::State::Waiting) => {
                self.talking = relay.is_talking();
                self.table.put(place, Entity::Relay(relay));
            }
            Ok(relay::State::Busy) => {
                self.table.put(place, Entity::Relay(relay));
                self.busy.push(place);
            }
            Ok(relay::State::Done) => self.end_relay(place, relay, false),
            Err(_) => self.end_relay(place, relay, true),
        }
    }

    /// Ends a relay that was taken out of this place; with `broken` as one that broke.
    fn end_relay(&mut self, place: usize, relay: Relay, broken: bool) {
        if let Some(Whose { container, remote, inwards: false }) = relay.whose() {
            let key = (container, remote);
            if self.connections.get(&key).is_some_and(|(other, _)| *other == place) {
                self.connections.remove(&key);
            }
        }
        relay.close(&mut self.pipes, broken);
        let _ = self.table.take(place);
        self.table.forget(place);
    }

    /// Joins two connected sockets, the container's first. Neither is watched yet.
    fn join(&mut self, container: OwnedFd, remote: OwnedFd, whose: Option<Whose>) {
        self.join_relay(Relay::new(container, remote, whose));
    }

    fn join_relay(&mut self, relay: Relay) {
        let place = self.table.add(Entity::Tun);
        self.begin_relay(place, relay, &[0, 1]);
    }

    /// Lets a relay have this place of the table, whose ends of these numbers are not watched there yet.
    fn begin_relay(&mut self, place: usize, relay: Relay, unwatched: &[usize]) {
        let ends = relay.ends();
        if unwatched
            .iter()
            .try_for_each(|end| watch_end(&self.epoll, ends[*end], place, *end, RELAYED))
            .is_err()
        {
            return self.end_relay(place, relay, true);
        }
        self.table.put(place, Entity::Relay(relay));
        // What came before it was watched.
        self.relay(place, None);
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
    fn shed(&mut self, error: rustix::io::Errno, accept: impl Fn(&mut Self) -> Option<OwnedFd>) -> bool {
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
        self.tier.trim();
        self.pipes.trim();
        if std::mem::take(&mut self.swollen)
            && let Some(program) = &self.program
        {
            // What is not given back is only memory.
            let _ = program.trim();
        }
    }
}

impl Entity {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Entity::Tun
            | Entity::Tap(_)
            | Entity::Listener(_)
            | Entity::Datagrams(_)
            | Entity::DnsDatagrams
            | Entity::DnsListener
            | Entity::Control => Vec::new(),
            Entity::Member(member) => vec![member.socket.as_fd()],
            Entity::Pending(pending) => vec![pending.socket.as_fd()],
            Entity::Arriving(arriving) => vec![arriving.inside.as_fd()],
            Entity::Published { listener: socket, .. } | Entity::PublishedDatagrams { socket, .. } => {
                vec![socket.as_fd()]
            }
            Entity::Stream(stream) => vec![stream.host()],
            Entity::Relay(relay) => relay.ends().to_vec(),
            Entity::Flow(flow) => flow.descriptors(),
            Entity::Asking(asking) => vec![asking.client.as_fd()],
            Entity::Echo(echo) => vec![echo.socket.as_fd()],
            Entity::Question(question) => question.descriptors(),
        }
    }
}

impl Network {
    /// Where a container's packet for this address goes to from the host; `None` if that is forbidden or leads nowhere:
    /// the host's loopback, and the network's own addresses, which the bridge serves.
    fn destination(&self, address: SocketAddr) -> Option<SocketAddr> {
        let ip = address.ip();
        if ip == HOST && !self.config.internal {
            return Some(SocketAddr::new(host_address()?.into(), address.port()));
        }
        let means_something_else = match ip {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
            }
            IpAddr::V6(v6) => is_special(v6),
        };
        let forbidden = self.config.internal || means_something_else || self.config.contains(ip);
        (!forbidden).then_some(address)
    }
}
