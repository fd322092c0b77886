//! A container's connection to a network, as its monitor holds it.

use super::control::{self, Attach, Attached, Publish, Request};
use super::{Error, Lease, ports, talk, tap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often the process may have gone just before a container came.
const ATTEMPTS: u32 = 10;

/// A container on a network, for as long as this lives.
#[derive(Debug)]
pub struct Member {
    socket: OwnedFd,
    lease: Lease,
    /// Its interface, where the network's process carries packets itself: it outlives that process with us.
    tap: Option<OwnedFd>,
}

impl Member {
    pub(super) fn new(socket: OwnedFd, lease: Lease) -> Self {
        Self { socket, lease, tap: None }
    }

    /// What it has on the network.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Lays the cable into the container's network namespace and opens its ports; these as they are now. What a process of the
    /// network that is gone had in the namespace, and what a container that has ended had in the network, is gone only
    /// when the kernel comes to it: that is waited for.
    pub fn attach(&mut self, namespace: &OwnedFd, publish: &[Publish]) -> Result<Vec<Publish>, Error> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_to_attach(namespace, publish) {
                Err(Error::Process { errno: nix::libc::EEXIST, .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    fn try_to_attach(&mut self, namespace: &OwnedFd, publish: &[Publish]) -> Result<Vec<Publish>, Error> {
        let Lease { address, address6, wish, others, .. } = &self.lease;
        let mut attach = Attach {
            // An interface's name has 15 bytes.
            cable: format!("c{:08x}", address.to_bits()),
            address: *address,
            address6: *address6,
            mac: self.lease.mac(),
            interface: wish.interface_name(),
            index: wish.index(),
            names: wish.names.clone(),
            others: others.clone(),
            publish: publish.to_vec(),
            tap: self.tap.is_some(),
        };
        let action = "connect the container to its network";
        for _ in 0..ATTEMPTS {
            let request = Request::Attach(attach.clone());
            let answer = control::send(&self.socket, &request, Some(self.tap.as_ref().unwrap_or(namespace)))
                .and_then(|()| control::receive::<Attached>(&self.socket));
            match answer {
                Ok(Some((Attached::ByTap { mtu }, _))) => {
                    let tap =
                        tap::make(namespace, &attach, mtu).map_err(talk("make the container's interface"))?;
                    self.tap = Some(tap);
                    attach.tap = true;
                }
                Ok(Some((Attached::Yes(publish), _))) => return Ok(publish),
                Ok(Some((Attached::No { what, why, errno }, _))) => {
                    let taken = ports::first_taken(publish).filter(|_| errno == nix::libc::EADDRINUSE);
                    return Err(taken.map_or(Error::Process { what, why, errno }, Error::PortTaken));
                }
                // Its last container had gone just before ours came.
                Ok(None) => self.socket = self.lease.connect()?,
                Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.socket = self.lease.connect()?;
                }
                Err(e) => return Err(talk(action)(e)),
            }
        }
        Err(talk(action)(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Becomes readable when the network's process has ended.
    pub fn watch(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Tells the network on which others the container is, so that its name server finds names of theirs.
    pub fn set_others(&mut self, networks: &[String]) -> Result<(), Error> {
        let action = "tell the network about the container's other networks";
        self.lease.set_others(networks);
        control::send(&self.socket, &Request::Others(self.lease.others.clone()), None).map_err(talk(action))
    }

    /// Has others on the network call the container by these names from now on.
    pub fn set_names(&mut self, names: Vec<String>) -> Result<(), Error> {
        if names == self.lease.wish.names {
            return Ok(());
        }
        self.lease.set_names(names)?;
        let request = Request::Names(self.lease.wish.names.clone());
        control::send(&self.socket, &request, None).map_err(talk("tell the network the container's names"))
    }

    /// Disconnects the container, and waits until its cable is gone. A process of the network that has ended has taken it along.
    pub fn detach(self) {
        if control::send(&self.socket, &Request::Detach, None).is_ok() {
            let _ = control::receive::<Attached>(&self.socket);
        }
    }

    /// Does it all again with another process of the network. Whether the interface in the container is a new one.
    pub fn reattach(&mut self, namespace: &OwnedFd, publish: &[Publish]) -> Result<bool, Error> {
        let is_kept = self.tap.is_some();
        self.socket = self.lease.connect()?;
        self.attach(namespace, publish).map(|_| !is_kept)
    }
}
