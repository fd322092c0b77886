//! The container's ends of its cables: their addresses, and the way to everything else.

use super::{Error, Interface};
use crate::kernel::process::{self, CloneFlags, Side};
use crate::netlink::{self, link};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Sets up interfaces that have come from outside, in this process's own network namespace.
pub(super) fn set_up(interfaces: &[Interface]) -> Result<(), Error> {
    let mut messages = vec![link::up(link::LOOPBACK)];
    for Interface { index, address, prefix, .. } in interfaces {
        messages.extend([
            link::address(*index, *address, *prefix),
            link::patient_neighbours(*index),
            link::up(*index),
        ]);
    }
    let gateways = interfaces.iter().filter_map(|interface| interface.gateway);
    messages.extend(gateways.map(|way| link::default_route(link::Way::Via(way), link::MAIN_TABLE, way)));
    send(&messages)
}

fn send(messages: &[netlink::Message]) -> Result<(), Error> {
    let mut socket = netlink::Socket::route().map_err(Error::step("talk to the kernel"))?;
    socket.send(messages).map_err(|refused| Error::step(refused.what)(refused.source))
}

/// Sets up interfaces that have come into the network namespace of a running container, and lets everything else go by
/// `gateway` from now on, if that is given. The caller is root in U and has one thread.
pub fn set_up_interfaces(
    namespace: &OwnedFd,
    interfaces: &[Interface],
    gateway: Option<IpAddr>,
) -> Result<(), Error> {
    let step = "set up the container's interface";
    let work = || {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Error::step(step))?;
        set_up(interfaces)?;
        match gateway {
            Some(gateway) => send(&[link::new_default_route(gateway)]),
            None => Ok(()),
        }
    };
    match process::fork().map_err(Error::step(step))? {
        Side::Child => process::exit_now(u8::from(work().is_err())),
        Side::Parent(child) => {
            let ended = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
            match ended.map_err(Error::step(step))?.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                _ => Err(Error::step(step)(io::Error::other("it did not take its address"))),
            }
        }
    }
}
