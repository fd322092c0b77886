//! The container's end of its cable: an address, and the way to everything else.

use super::{Error, Interface};
use crate::kernel::process::{self, CloneFlags, Side};
use crate::netlink::{self, link};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Sets up an interface that has come from outside, in this process's own network namespace.
pub(super) fn set_up(interface: &Interface) -> Result<(), Error> {
    let Interface { index, address, prefix, gateway } = *interface;
    let mut socket = netlink::Socket::route().map_err(Error::step("talk to the kernel"))?;
    let messages = [
        link::up(link::LOOPBACK),
        link::address(index, address, prefix),
        link::patient_neighbours(index),
        link::up(index),
        link::default_route(link::Way::Via(gateway), link::MAIN_TABLE, gateway),
    ];
    socket.send(&messages).map_err(|refused| Error::step(refused.what)(refused.source))
}

/// Sets up an interface that has come again into the network namespace of a running container. The caller is root in U
/// and has one thread.
pub fn set_up_interface(namespace: &OwnedFd, interface: Interface) -> Result<(), Error> {
    let step = "set up the container's interface";
    match process::fork().map_err(Error::step(step))? {
        Side::Child => {
            let entered = nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).is_ok();
            process::exit_now(u8::from(!entered || set_up(&interface).is_err()))
        }
        Side::Parent(child) => {
            let ended = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
            match ended.map_err(Error::step(step))?.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                _ => Err(Error::step(step)(io::Error::other("it did not take its address"))),
            }
        }
    }
}
