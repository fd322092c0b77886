//! The channel between a container's first process and who started it: a SOCK_SEQPACKET pair, one message a packet.
//!
//! Its end on the inside is close-on-exec. The stub that does the last exec writes the bare four bytes of an error
//! number to it if that exec fails; everything else from inside is a tagged message. So, seen from outside: end of
//! file means that the command runs.

use super::Error;
use crate::kernel::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What comes from inside.
#[derive(Debug)]
pub enum FromInit {
    /// The terminal's master side; from [`super::outside`], a tree.
    Terminal(OwnedFd),
    /// A pid in the namespace of the receiver (from a joining process).
    Pid(i32),
    /// It failed.
    Failed(Error),
    /// The last exec failed with this error number.
    ExecFailed(i32),
    /// End of file: the command runs (or the process is dead).
    Running,
}

const GO: u8 = b'g';
const TERMINAL: u8 = b't';
const PID: u8 = b'p';
const FAILED: u8 = b'f';

impl Channel {
    /// Both ends, close-on-exec.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Channel(a), Channel(b)))
    }

    /// Whether the other side is gone.
    pub(super) fn is_closed(&self) -> bool {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut set, PollTimeout::ZERO).is_ok()
            && set[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// Lets [`Channel::receive`] fail with [`io::ErrorKind::WouldBlock`] when nothing has come for so long.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?)
    }

    /// The descriptor's number: where the stub writes its error.
    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Lets the other side go on.
    pub fn send_go(&self) -> io::Result<()> {
        self.send(&[GO], None)
    }

    /// Waits for the other side's go; an error if it is gone.
    pub fn wait_go(&self) -> io::Result<()> {
        let mut byte = [0];
        match socket::receive(&self.0, &mut byte)? {
            (1, _) if byte[0] == GO => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(super) fn send_terminal(&self, master: &OwnedFd) -> io::Result<()> {
        self.send(&[TERMINAL], Some(master))
    }

    pub(super) fn send_pid(&self, pid: i32) -> io::Result<()> {
        let mut message = vec![PID];
        message.extend(pid.to_ne_bytes());
        self.send(&message, None)
    }

    pub(super) fn send_error(&self, error: &Error) -> io::Result<()> {
        let mut message = vec![FAILED];
        serde_json::to_writer(&mut message, &error.shortened())?;
        self.send(&message, None)
    }

    fn send(&self, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
        socket::send(&self.0, bytes, fd.map(AsFd::as_fd))
    }

    /// Waits for what comes next from inside.
    pub fn receive(&self) -> io::Result<FromInit> {
        let mut bytes = vec![0; 16 << 10];
        let (length, fd) = socket::receive(&self.0, &mut bytes)?;
        match (&bytes[..length], fd) {
            ([], _) => Ok(FromInit::Running),
            ([TERMINAL], Some(fd)) => Ok(FromInit::Terminal(fd)),
            ([PID, a, b, c, d], _) => Ok(FromInit::Pid(i32::from_ne_bytes([*a, *b, *c, *d]))),
            ([a, b, c, d], _) => Ok(FromInit::ExecFailed(i32::from_ne_bytes([*a, *b, *c, *d]))),
            ([FAILED, json @ ..], _) => Ok(FromInit::Failed(serde_json::from_slice(json)?)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_pids_and_descriptors_arrive_and_the_end_means_running() {
        let (outside, inside) = Channel::pair().unwrap();
        outside.send_go().unwrap();
        inside.wait_go().unwrap();
        inside.send_pid(7).unwrap();
        assert!(matches!(outside.receive().unwrap(), FromInit::Pid(7)));
        inside
            .send_terminal(
                &rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                    .unwrap(),
            )
            .unwrap();
        assert!(matches!(outside.receive().unwrap(), FromInit::Terminal(_)));
        inside.send_error(&Error::NotFound { command: "x".into() }).unwrap();
        assert!(matches!(outside.receive().unwrap(), FromInit::Failed(Error::NotFound { .. })));
        rustix::io::write(&inside.0, &13i32.to_ne_bytes()).unwrap();
        assert!(matches!(outside.receive().unwrap(), FromInit::ExecFailed(13)));
        outside.set_patience(Duration::from_millis(1)).unwrap();
        assert_eq!(outside.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!outside.is_closed());
        drop(inside);
        assert!(outside.is_closed());
        assert!(matches!(outside.receive().unwrap(), FromInit::Running));
    }
}
