//! Messages that carry descriptors (unix(7), SCM_RIGHTS).

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Sends one message, with at most one descriptor. A peer that is gone is `EPIPE`, not a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = raw.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let socket = socket.as_fd().as_raw_fd();
    sendmsg::<()>(socket, &[IoSlice::new(bytes)], rights.as_slice(), MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message, with the descriptor (close-on-exec) that came with it. A reset peer is the end of file.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!(RawFd);
    loop {
        let mut parts = [IoSliceMut::new(into)];
        let socket = socket.as_fd().as_raw_fd();
        match recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => {
                let fd = message.cmsgs()?.find_map(|control| match control {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                // SAFETY: the kernel has just installed this descriptor for us and nobody else knows its number.
                let fd = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                return Ok((message.bytes, fd));
            }
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::ECONNRESET) => return Ok((0, None)),
            Err(e) => return Err(e.into()),
        }
    }
}
