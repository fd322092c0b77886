//! What monitors and the network's process say to each other: one message a packet on a SOCK_SEQPACKET socket in the
//! network's folder of the run root.
//!
//! A monitor connects, hands over its container's network namespace, and keeps the connection for as long as the
//! container lives: its end is how the process knows that the container is gone.

use crate::kernel::socket;
use crate::netlink::link::Mac;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// A port of a container that the host listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Address on the host; all that it has, IPv4 and IPv6, if it is not given.
    pub host_ip: Option<IpAddr>,
    /// Port on the host; 0: any that is free.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// Which transport.
    pub transport: Transport,
}

impl Publish {
    /// Where it is on the host, as it is shown.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.host_port)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a monitor asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// To connect its container; the container's network namespace comes with the message. It is answered.
    Attach(Attach),
    /// To let its container find names of these networks (their ids) too. It is not answered.
    Others(Vec<String>),
    /// To have its container called by these names from now on. It is not answered.
    Names(Vec<String>),
    /// To disconnect its container: answered by the end of the connection.
    Detach,
    /// To tell of the connections that there are, from this place on: answered by [`Flows`].
    Flows(usize),
}

/// A part of the connections that there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Flows {
    /// Some of them.
    pub flows: Vec<Flow>,
    /// Where the rest begins, if there is more.
    pub next: Option<usize>,
}

/// A connection, or datagrams between two, as the container sees its ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Which transport.
    pub transport: Transport,
    /// Whether somebody outside began it.
    pub inwards: bool,
    /// The container's end.
    pub container: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// What it is doing, by its TCP state towards the other end (RFC 9293); `open` for datagrams.
    pub state: String,
    /// Bytes that the container has sent.
    pub sent: u64,
    /// Bytes that it was sent.
    pub received: u64,
    /// Towards the other end, of TCP: microseconds that a round trip takes, smoothed.
    pub round_trip: Option<u32>,
    /// Segments that were sent again to the other end.
    pub retransmits: Option<u32>,
}

/// A container joins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// Name of the cable's end in R, unique in it.
    pub cable: String,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The same of IPv6, if the network has that.
    pub address6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Mac,
    /// What the cable's end is called in the container.
    pub interface: String,
    /// The index of that in there.
    pub index: i32,
    /// What others on the network may call it.
    pub names: Vec<String>,
    /// Ids of its other networks.
    pub others: Vec<String>,
    /// What is published.
    pub publish: Vec<Publish>,
    /// Whether a tap interface comes with the message instead of the namespace.
    pub tap: bool,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Attached {
    /// It is connected; the ports as they are now.
    Yes(Vec<Publish>),
    /// It wants a tap interface in the container's namespace, for packets of so many bytes.
    ByTap {
        /// Bytes.
        mtu: u32,
    },
    /// It is not.
    No {
        /// What failed.
        what: String,
        /// What the kernel said.
        why: String,
        /// Its number.
        errno: i32,
    },
}

const NAME: &str = "control";

/// A path in `sun_path` may have 107 bytes only, so it is named through its folder's descriptor.
fn address(folder: &File) -> io::Result<UnixAddr> {
    Ok(UnixAddr::new(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()).as_str())?)
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Listens in the network's folder, in place of a process that is gone. The caller holds the network's lock.
pub fn listen(folder: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(folder.join(NAME));
    let socket = new_socket()?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address(&File::open(folder)?)?)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join(NAME), mode)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects to the network's process; `None` if there is none.
pub fn connect(folder: &Path) -> io::Result<Option<OwnedFd>> {
    let opened = match File::open(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let socket = new_socket()?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &address(&opened)?) {
        Ok(()) => Ok(Some(socket)),
        Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Sends a message, with a descriptor if one goes with it.
pub fn send<T: Serialize>(socket: &OwnedFd, message: &T, fd: Option<&OwnedFd>) -> io::Result<()> {
    socket::send(socket, &serde_json::to_vec(message)?, fd.map(AsFd::as_fd))
}

/// Receives a message; `None` at the end.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: &OwnedFd) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; 64 << 10];
    let (length, fd) = socket::receive(socket, &mut bytes)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, fd)))
}
