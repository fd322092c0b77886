//! The container's ends of its cables: their addresses, and the way to everything else.

use super::{AddressOf, Error, Interface};
use crate::kernel::process::{self, CloneFlags, Side};
use crate::netlink::{self, link};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Sets up interfaces that have come from outside, in this process's own network namespace.
pub(super) fn set_up(interfaces: &[Interface]) -> Result<(), Error> {
    let mut messages = vec![link::up(link::LOOPBACK)];
    for Interface { index, v4, .. } in interfaces {
        messages.extend(addressed(*index, v4));
        messages.push(link::up(*index));
    }
    messages.extend(interfaces.iter().filter_map(|interface| way_out(&interface.v4)));
    send(&messages)?;
    let v6: Vec<_> = interfaces.iter().filter_map(|i| Some((i.index, i.v6?))).collect();
    let mut messages: Vec<_> = v6.iter().flat_map(|(index, v6)| addressed(*index, v6)).collect();
    messages.extend(v6.iter().filter_map(|(_, v6)| way_out(v6)));
    match messages.is_empty() {
        true => Ok(()),
        false => send(&messages).or_else(|error| if is_without_ipv6() { Ok(()) } else { Err(error) }),
    }
}

fn addressed(index: i32, of: &AddressOf) -> [netlink::Message; 2] {
    [link::address(index, of.address, of.prefix), link::patient_neighbours(index, of.address)]
}

fn way_out(of: &AddressOf) -> Option<netlink::Message> {
    of.gateway.map(|way| link::default_route(link::Way::Via(way), link::MAIN_TABLE, way))
}

/// Whether IPv6 is switched off in new network namespaces, as the host's administrator may have it.
fn is_without_ipv6() -> bool {
    let off = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    off.is_ok_and(|off| off.trim() == "1")
}

fn send(messages: &[netlink::Message]) -> Result<(), Error> {
    let mut socket = netlink::Socket::route().map_err(Error::step("talk to the kernel"))?;
    socket.send(messages).map_err(|refused| Error::step(refused.what)(refused.source))
}

/// Sets up interfaces that have come into the network namespace of a running container, and lets everything else go by
/// these gateways from now on. The caller is root in U and has one thread.
pub fn set_up_interfaces(
    namespace: &OwnedFd,
    interfaces: &[Interface],
    gateways: &[IpAddr],
) -> Result<(), Error> {
    let step = "set up the container's interface";
    let work = || {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Error::step(step))?;
        set_up(interfaces)?;
        match gateways {
            [] => Ok(()),
            _ => send(&gateways.iter().copied().map(link::new_default_route).collect::<Vec<_>>()),
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
