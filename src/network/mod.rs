//! Networks: what connects containers with the world, without root and without a helper.
//!
//! *A network is one process* ([`process`]). The first container on a network starts it, under the network's lock; it
//! is gone with the last. It has a network namespace of its own, R, with a bridge; each container has a cable (veth)
//! to that. TCP is terminated by the kernel in R and joined, by splice, with a connection that the host makes; so a
//! container's connections are the host's, with the host's routes, its VPN and its firewall.
//!
//! A monitor takes an address for its container ([`address`]), connects to the network's process, hands over the
//! container's network namespace ([`control`]), and keeps the connection for as long as the container lives. The address and
//! the routes inside are set by the container's first process itself, before it gives its privileges up.
//!
//! What must never happen: a network that outlives its containers; two processes for one network; a container that
//! reaches the host's loopback or another network, or speaks under another's address ([`guard`]).

mod address;
mod control;
mod guard;
mod member;
pub mod ports;
mod process;
mod record;
mod subnet6;
mod tap;

pub use crate::netlink::link::Mac;
pub use address::{HOST, Subnet};
pub use control::{Flow, Publish, Transport};
pub use member::Member;
pub use process::{Config, Datapath};
#[cfg(feature = "fuzzing")]
pub use process::{hear_for_fuzzing, read_for_fuzzing};
pub use record::{Listed, Network, Networks, NewNetwork, Routes};
pub use subnet6::{Subnet6, V6};

use crate::diagnose::{Diagnose, TakenPort};
use crate::kernel::process::{Side, close_all_from, exit_now, fork, set_title};
use crate::netlink::link::mac_of;
use crate::state::{self, Lock, Paths};
use control::Request;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Index of a container's first interface in the container; loopback is before it.
const FIRST_INTERFACE: i32 = 2;
/// The least that packets of a network must be able to have (RFC 8200: IPv6 needs so much).
pub const MIN_MTU: u16 = 1280;
/// Name of the network that containers are on when nothing is said.
pub const DEFAULT: &str = "bridge";

/// Whether this user can have networks at all, as far as one look tells.
pub fn is_possible() -> bool {
    use rustix::fs::Access;
    rustix::fs::access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// Why a network cannot be made or used, or a container is not connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// State on disk.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The network's process failed to do it.
    #[error("cannot {what}: {why}")]
    Process {
        /// What.
        what: String,
        /// What the kernel said.
        why: String,
        /// Its number.
        errno: i32,
    },
    /// Not a way in which packets can be carried.
    #[error("CORACLE_NETWORK_DATAPATH is '{0}', which is none")]
    Datapath(String),
    /// Not a name of a network.
    #[error(
        "'{0}' cannot be the name of a network: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed, at most 200 characters"
    )]
    Name(String),
    /// A name that means something else.
    #[error("'{0}' cannot be the name of a network: it has another meaning")]
    Reserved(String),
    /// The name is taken.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// There is no such network.
    #[error("no such network: {0}")]
    Missing(String),
    /// Several ids begin so.
    #[error("{0} is the start of more than one network's id")]
    Ambiguous(String),
    /// The record is another's.
    #[error("the record of network {0} has another name in it")]
    Foreign(String),
    /// Containers use it.
    #[error("network {name} is being used by container(s) {}", users.join(", "))]
    InUse {
        /// The network.
        name: String,
        /// Ids of the containers.
        users: Vec<String>,
    },
    /// Another network has these addresses.
    #[error("subnet {subnet} overlaps with {by}, which is {whose}")]
    SubnetTaken {
        /// What was asked for.
        subnet: String,
        /// The other one.
        by: String,
        /// Whose that is.
        whose: &'static str,
    },
    /// An address or a range from somewhere else.
    #[error("{what} {address} is not in the network's subnet {subnet}, or nobody can have it")]
    NotInSubnet {
        /// What it was to be.
        what: &'static str,
        /// The address.
        address: String,
        /// The network's.
        subnet: String,
    },
    /// Another container has the address.
    #[error("address {0} is already in use")]
    AddressTaken(IpAddr),
    /// Its addresses have another meaning.
    #[error("subnet {0} cannot be a network's: it has addresses for loopback, multicast or the host in it")]
    UnusableSubnet(String),
    /// The kernel was built or started without it.
    #[error("this kernel has no IPv6")]
    NoIpv6,
    /// An address of a kind that the network has not.
    #[error("network {0} has no IPv6 addresses")]
    OnlyIpv4(String),
    /// All are taken.
    #[error("no free subnet is left for another network")]
    NoSubnet,
    /// Names mean nothing there.
    #[error("containers of network {0} are not found by name, so they can have no aliases there")]
    Nameless(String),
    /// Nobody can come in there.
    #[error("ports of a container on the internal network {0} cannot be published")]
    PublishInternal(String),
    /// A port that was to be published is somebody else's.
    #[error("cannot publish port {0}: it is in use")]
    PortTaken(TakenPort),
    /// It cannot be talked to.
    #[error("cannot {action}")]
    Talk {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::State(e) => e.fix(),
            Error::Process { what, errno, .. } if what.contains("tun") => Some(match *errno {
                nix::libc::ENOENT | nix::libc::ENODEV => {
                    "the kernel has no tun device: an administrator can run 'modprobe tun'".into()
                }
                _ => "an administrator can run 'chmod 0666 /dev/net/tun', as udev's rules have it; \
                      or use --network host or --network none"
                    .into(),
            }),
            Error::PortTaken(_) => Some("choose another port on the host, or none: '-p CONTAINER_PORT'".into()),
            Error::Process { what, errno: nix::libc::EADDRINUSE, .. } if what.contains("port") => {
                Some("choose another port on the host; 'ss -lntup' tells who has this one".into())
            }
            Error::Process { what, errno: nix::libc::EACCES, .. } if what.contains("port") => Some(
                "ports below net.ipv4.ip_unprivileged_port_start (1024) are the administrator's, who can run \
                 'sysctl net.ipv4.ip_unprivileged_port_start=80'; or choose a higher port"
                    .into(),
            ),
            Error::Process { .. } => Some(
                "the kernel needs tun, bridge, veth and nf_tables with tproxy; --network host and --network none do without"
                    .into(),
            ),
            Error::Missing(_) => Some("'coracle network ls' lists those that there are".into()),
            Error::InUse { .. } => Some("remove the containers first, or 'coracle network rm -f'".into()),
            Error::SubnetTaken { .. } | Error::UnusableSubnet(_) | Error::NoSubnet => {
                Some("choose another --subnet, or leave it out; 'coracle network prune' removes unused ones".into())
            }
            Error::OnlyIpv4(_) => Some("leave --ip6 out, or make a network with 'network create --ipv6'".into()),
            Error::AddressTaken(_) => Some("choose another, or leave --ip out".into()),
            Error::PublishInternal(_) => Some("leave out -p, or use a network that is not internal".into()),
            Error::Datapath(_) => Some("set it to auto, kernel or user".into()),
            Error::Foreign(name) => Some(format!("'coracle network rm {name}' removes it")),
            Error::Name(_)
            | Error::Reserved(_)
            | Error::Exists(_)
            | Error::Ambiguous(_)
            | Error::NotInSubnet { .. }
            | Error::NoIpv6
            | Error::Talk { .. } => None,
            Error::Nameless(_) => Some("use a network that 'coracle network create' has made".into()),
        }
    }

    fn taken_port(&self) -> Option<TakenPort> {
        match self {
            Error::PortTaken(port) => Some(*port),
            _ => None,
        }
    }
}

/// What a container asks of a network.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The container's id.
    pub owner: String,
    /// What others on the network may call it.
    pub names: Vec<String>,
    /// Which address.
    pub address: Asked<Ipv4Addr>,
    /// The IPv6 address that it must have, if it must have a certain one.
    pub address6: Option<Ipv6Addr>,
    /// Its hardware address, if that does not follow from its address.
    pub mac: Option<Mac>,
    /// Its interface's number among the container's, from 0.
    pub number: u8,
    /// The name of its interface; `ethN`, if it is not given.
    pub interface: Option<String>,
}

/// Which address a container wants.
#[derive(Clone, Copy, Debug, Default)]
pub enum Asked<A> {
    /// Any.
    #[default]
    Any,
    /// One that it has had, if that is free.
    Again(A),
    /// This one and no other.
    This(A),
}

impl Wish {
    /// The name that its interface has in the container.
    pub fn interface_name(&self) -> String {
        self.interface.clone().unwrap_or_else(|| format!("eth{}", self.number))
    }

    /// The index of that.
    pub fn index(&self) -> i32 {
        FIRST_INTERFACE + i32::from(self.number)
    }
}

/// An address on a network, for as long as this lives.
#[derive(Debug)]
pub struct Lease {
    folder: PathBuf,
    config: Config,
    address: Ipv4Addr,
    address6: Option<Ipv6Addr>,
    wish: Wish,
    /// Ids of the container's other networks, whose names it may ask for too.
    others: Vec<String>,
}

fn talk(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Talk { action, source }
}

impl Lease {
    /// Takes an address for a container. `is_alive` tells whether the container (its id) that has an address still runs.
    pub fn take(
        paths: &Paths,
        config: Config,
        wish: Wish,
        is_alive: impl Fn(&str) -> bool,
    ) -> Result<Self, Error> {
        let folder = run_folder(paths, &config.id);
        let leases = folder.join("leases");
        state::create_dir_private(&leases)?;
        let _lock = leases_lock(&folder)?;
        let holder = address::Holder { id: &wish.owner, names: &wish.names };
        let address = take_address(&leases, &config, &wish, &holder, &is_alive)?;
        let address6 = take_address6(&leases, &config, &wish, (address, &holder), &is_alive);
        if address6.is_err() {
            let _ = address::release(&leases, address.into(), &wish.owner);
        }
        Ok(Self { folder, address6: address6?, config, address, wish, others: Vec::new() })
    }

    /// Says on which networks (their ids) the container is: names of the others are found too.
    pub fn set_others(&mut self, networks: &[String]) {
        self.others = networks.iter().filter(|id| **id != self.config.id).cloned().collect();
    }

    fn set_names(&mut self, names: Vec<String>) -> Result<(), Error> {
        let _lock = leases_lock(&self.folder)?;
        let holder = address::Holder { id: &self.wish.owner, names: &names };
        for address in self.addresses() {
            address::rename(&self.folder.join("leases"), address, &holder)?;
        }
        self.wish.names = names;
        Ok(())
    }

    /// What the container has asked for.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Its hardware address.
    pub fn mac(&self) -> Mac {
        self.wish.mac.unwrap_or_else(|| mac_of(self.address))
    }

    /// The container's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.address)).chain(self.address6.map(IpAddr::V6))
    }

    /// The same of IPv6, if the network has that.
    pub fn address6(&self) -> Option<Ipv6Addr> {
        self.address6
    }

    /// Its network.
    pub fn network(&self) -> &Config {
        &self.config
    }

    /// Connects to the network's process, which is started if there is none. The caller is root in the user's
    /// namespace and has one thread.
    pub fn join(self) -> Result<Member, Error> {
        Ok(Member::new(self.connect()?, self))
    }

    fn connect(&self) -> Result<OwnedFd, Error> {
        connect(&self.folder, &self.config)
    }
}

/// Has a network's process there for as long as this is open, whoever is on the network, so that containers that come and go
/// one after the other do not each start one. The caller is root in the user's namespace and has one thread.
pub fn hold(paths: &Paths, config: &Config) -> Result<OwnedFd, Error> {
    let folder = run_folder(paths, &config.id);
    state::create_dir_private(&folder)?;
    connect(&folder, config)
}

/// Connects to a network's process, which is started if there is none.
fn connect(folder: &std::path::Path, config: &Config) -> Result<OwnedFd, Error> {
    let connect = || control::connect(folder).map_err(talk("connect to the network's process"));
    if let Some(socket) = connect()? {
        return Ok(socket);
    }
    let _lock = Lock::exclusive(&folder.join("lock"))?;
    if let Some(socket) = connect()? {
        return Ok(socket);
    }
    let mut config = config.clone();
    if config.datapath == Datapath::Auto {
        config.datapath = Datapath::of_environment()?;
    }
    start(folder, &config)?;
    connect()?.ok_or_else(|| talk("start the network's process")(io::ErrorKind::NotFound.into()))
}

fn take_address(
    leases: &std::path::Path,
    config: &Config,
    wish: &Wish,
    holder: &address::Holder<'_>,
    is_alive: impl Fn(&str) -> bool,
) -> Result<Ipv4Addr, Error> {
    let Config { subnet, gateway, .. } = *config;
    let pool = address::Pool { subnet, range: config.range.unwrap_or(subnet), gateway };
    match wish.address {
        Asked::Any => Ok(address::lease(leases, pool, holder, None, is_alive)?),
        Asked::Again(address) => Ok(address::lease(leases, pool, holder, Some(address), is_alive)?),
        Asked::This(address) if !subnet.is_host(address) => {
            let (address, subnet) = (address.to_string(), subnet.to_string());
            Err(Error::NotInSubnet { what: "address", address, subnet })
        }
        Asked::This(address) => {
            match address != gateway && address::take(leases, address.into(), holder, is_alive)? {
                true => Ok(address),
                false => Err(Error::AddressTaken(address.into())),
            }
        }
    }
}

fn take_address6(
    leases: &std::path::Path,
    config: &Config,
    wish: &Wish,
    (beside, holder): (Ipv4Addr, &address::Holder<'_>),
    is_alive: impl Fn(&str) -> bool,
) -> Result<Option<Ipv6Addr>, Error> {
    // A program that is given an IPv6 address may take its time to find out that it leads nowhere.
    let is_wanted = config.name != DEFAULT || wish.address6.is_some() || subnet6::host_has_a_way();
    let Some(v6) = config.v6.filter(|_| is_wanted) else {
        return match wish.address6 {
            Some(_) => Err(Error::OnlyIpv4(config.name.clone())),
            None => Ok(None),
        };
    };
    match wish.address6 {
        Some(address) if !v6.subnet.is_host(address) => {
            let (address, subnet) = (address.to_string(), v6.subnet.to_string());
            Err(Error::NotInSubnet { what: "address", address, subnet })
        }
        Some(address) => {
            let is_taken =
                !v6.is_for_containers(address) || !address::take(leases, address.into(), holder, is_alive)?;
            if is_taken { Err(Error::AddressTaken(address.into())) } else { Ok(Some(address)) }
        }
        None => Ok(Some(address::lease6(leases, v6, (config.subnet, beside), holder, is_alive)?)),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without the lock it stays, and is taken over from who is dead.
        if let Ok(_lock) = leases_lock(&self.folder) {
            for address in self.addresses() {
                let _ = address::release(&self.folder.join("leases"), address, &self.wish.owner);
            }
        }
    }
}

/// The connections that pass through a network now; none if nobody is on it.
pub fn flows(paths: &Paths, network: &Network) -> Result<Vec<Flow>, Error> {
    let asked = || talk("ask the network for its connections");
    let Some(socket) = control::connect(&run_folder(paths, &network.id)).map_err(asked())? else {
        return Ok(Vec::new());
    };
    let (mut flows, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        control::send(&socket, &Request::Flows(from), None).map_err(asked())?;
        // It may end just now.
        let part = control::receive::<control::Flows>(&socket).map_err(asked())?;
        let (part, _) = part.unwrap_or_default();
        flows.extend(part.flows);
        next = part.next;
    }
    Ok(flows)
}

/// Between the look at who has an address and the taking of it nobody else may take it.
fn leases_lock(folder: &std::path::Path) -> Result<Lock, state::Error> {
    Lock::exclusive(&folder.join("leases.lock"))
}

/// What there is of a network for as long as it is used. By its id: another network may get its name.
fn run_folder(paths: &Paths, id: &str) -> PathBuf {
    paths.run().join("networks").join(id)
}

/// Starts the network's process. The caller holds the network's lock.
fn start(folder: &std::path::Path, config: &Config) -> Result<(), Error> {
    let listener = control::listen(folder).map_err(talk("listen for the network's containers"))?;
    let action = "start the network's process";
    match fork().map_err(talk(action))? {
        // It is nobody's child: a monitor's only one is its container's first process.
        Side::Parent(between) => {
            waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED)
                .map_err(|e| talk(action)(e.into()))?;
            Ok(())
        }
        Side::Child => {
            if let Ok(Side::Child) = fork() {
                // Nothing of the container's that is being started: its lock, above all.
                if let Ok(listener) = close_all_from(3, listener) {
                    let _ = rustix::process::setsid();
                    let _ = set_title(&format!("coracle: network {}", config.name));
                    let _lock = sign(folder);
                    process::serve(config.clone(), folder.to_owned(), listener);
                }
            }
            exit_now(0)
        }
    }
}

/// Says which process is the network's, for as long as it is.
fn sign(folder: &std::path::Path) -> Option<Lock> {
    let lock = Lock::exclusive(&folder.join("process")).ok()?;
    let pid = std::process::id().cast_signed();
    lock.sign(pid, crate::userns::start_time(pid)?).ok()?;
    Some(lock)
}
