//! A container's interface on a network whose process carries packets itself: a tap(4), made in the container's network
//! namespace by who has that, its monitor.

use super::control::Attach;
use crate::kernel::net::open_tap;
use crate::netlink::{self, link};
use nix::sched::{CloneFlags, setns};
use std::io;
use std::os::fd::OwnedFd;

/// Frames that wait in it at most: an end of a stream that is slow for a moment must not lose them.
const QUEUE: u32 = 4000;

/// Makes the interface. The caller is root in the user's namespace, and stays in its own network namespace: a thread goes
/// there. As long as the descriptor is open, the interface is there.
pub fn make(namespace: &OwnedFd, attach: &Attach, mtu: u32) -> io::Result<OwnedFd> {
    let work = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let tap = open_tap(&attach.interface, attach.index)?;
        let mut route = netlink::Socket::route()?;
        route
            .send(&[link::hardware(attach.index, attach.mac, mtu, QUEUE)])
            .map_err(|refused| refused.source)?;
        Ok(tap)
    };
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| io::Error::other("its thread ended"))?
}
