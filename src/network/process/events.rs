//! What epoll(7) tells: an event names a place of the table, and which of its two descriptors it is about.

use super::relay;
use rustix::event::epoll;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// How the ends of a relay are watched.
pub(super) const RELAYED: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// A place of the table, and what an event says of it.
pub(super) type Happened = (usize, Option<relay::Event>);

pub(super) fn look(epoll: &OwnedFd, timeout: Option<Duration>) -> Result<Vec<Happened>, rustix::io::Errno> {
    let mut events: [std::mem::MaybeUninit<epoll::Event>; 256] = [std::mem::MaybeUninit::uninit(); 256];
    let timeout = timeout.map(|t| rustix::event::Timespec {
        tv_sec: i64::try_from(t.as_secs()).unwrap_or(1),
        tv_nsec: t.subsec_nanos().into(),
    });
    let (events, _) = epoll::wait(epoll, &mut events, timeout.as_ref())?;
    Ok(events.iter().filter_map(event).collect())
}

/// The place that an event is for, and what it says.
fn event(event: &epoll::Event) -> Option<Happened> {
    use epoll::EventFlags;
    // Copies: the structure is packed.
    let (data, flags) = (event.data, event.flags);
    let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
    let data = usize::try_from(data.u64()).ok()?;
    Some((data >> 1, Some(relay::Event { end: data & 1, ending })))
}

pub(super) fn watch(
    epoll: &OwnedFd,
    fd: BorrowedFd<'_>,
    place: usize,
    flags: epoll::EventFlags,
) -> io::Result<()> {
    watch_end(epoll, fd, place, 0, flags)
}

/// Watches one of the two descriptors of a place.
pub(super) fn watch_end(
    epoll: &OwnedFd,
    fd: BorrowedFd<'_>,
    place: usize,
    end: usize,
    flags: epoll::EventFlags,
) -> io::Result<()> {
    let data = (place as u64) << 1 | end as u64;
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(data), flags)?)
}
