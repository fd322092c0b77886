//! Talking to the kernel about links, addresses, routes and packet filters (netlink(7)).
//!
//! One message writer serves both families that a network needs, rtnetlink ([`link`]) and nf_tables ([`nft`]): a header, the
//! family's own fixed part, attributes. A list of messages goes out in one datagram, so that a whole network is made
//! with a handful of system calls, and every message is answered: an error names the message that caused it.

pub mod link;
pub mod nft;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::os::fd::OwnedFd;

const NLMSG_ERROR: u16 = 2;
/// linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// Make it; with `EXCL`, it must not be there.
pub const CREATE: u16 = 0x400;
/// See [`CREATE`].
pub const EXCLUSIVE: u16 = 0x200;
/// Add to the end (nf_tables rules).
pub const APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// A message being written. Numbers are in the machine's byte order unless an attribute says otherwise.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    what: &'static str,
}

impl Message {
    /// A request of this type; `what` is for its error, as in "cannot WHAT". Some messages are answered only when
    /// they fail (the ends of an nf_tables batch): those are made with [`Message::silent`].
    pub fn new(what: &'static str, kind: u16, flags: u16) -> Self {
        Self::silent(what, kind, flags | NLM_F_ACK)
    }

    /// A request that the kernel does not acknowledge.
    pub fn silent(what: &'static str, kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        Self { bytes, what }
    }

    /// Appends the fixed part of a family's message.
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        // Payloads are addresses, names and numbers: far below the 64 KiB that an attribute can have.
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(payload);
        self.pad();
        self
    }

    /// Appends a number.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network order, as nf_tables has them.
    pub fn number_be(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends a text with its final NUL.
    pub fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute that contains what `inside` appends.
    pub fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        let mut this = inside(self);
        let length = u16::try_from(this.bytes.len() - start).unwrap_or(u16::MAX);
        this.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        this.bytes[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        this
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn is_acknowledged(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & NLM_F_ACK != 0
    }

    fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct Refused {
    /// What was to be done.
    pub what: &'static str,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl Refused {
    /// For `map_err`.
    pub fn to<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Refused {
        move |e| Refused { what, source: e.into() }
    }
}

/// A netlink socket of the calling thread's network namespace, which it keeps when the thread moves on.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// For links, addresses and routes (rtnetlink(7)).
    pub fn route() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        Self::open(None)
    }

    /// For packet filters.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends the messages in one datagram and waits for the answers. The kernel does one after the other; those after
    /// one that fails are done too (but for an nf_tables batch, which is all or nothing). The first error is returned.
    pub fn send(&mut self, messages: &[Message]) -> Result<(), Refused> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            datagram.extend(message.finish(self.sequence));
        }
        let what = messages.first().map_or("talk to the kernel", |m| m.what);
        sendto(&self.fd, &datagram, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
            .map_err(Refused::to(what))?;
        let mut waiting = messages.iter().filter(|m| m.is_acknowledged()).count();
        let mut result = Ok(());
        while waiting > 0 {
            let mut buffer = [0; 32 << 10];
            let (length, _) = recv(&self.fd, &mut buffer, RecvFlags::empty()).map_err(Refused::to(what))?;
            for (sequence, error) in answers(&buffer[..length]) {
                let Some(message) =
                    usize::try_from(sequence.wrapping_sub(first)).ok().and_then(|i| messages.get(i))
                else {
                    continue;
                };
                // A batch that fails answers also for messages that asked for none.
                if message.is_acknowledged() || error != 0 {
                    waiting = waiting.saturating_sub(usize::from(message.is_acknowledged()));
                    if error != 0 && result.is_ok() {
                        let source = io::Error::from_raw_os_error(-error);
                        result = Err(Refused { what: message.what, source });
                    }
                    if error != 0 && !message.is_acknowledged() {
                        return result;
                    }
                }
            }
        }
        result
    }
}

/// The answers in a datagram: sequence number and error (0 is success).
fn answers(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let number = |at: &[u8]| at.try_into().map(u32::from_ne_bytes).unwrap_or_default();
    let mut found = Vec::new();
    while bytes.len() >= HEADER + 4 {
        let length = usize::try_from(number(&bytes[..4])).unwrap_or(usize::MAX);
        if length < HEADER {
            break;
        }
        if u16::from_ne_bytes([bytes[4], bytes[5]]) == NLMSG_ERROR {
            found.push((number(&bytes[8..12]), number(&bytes[16..20]).cast_signed()));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_wants_it() {
        let message = Message::new("try", 16, CREATE)
            .fixed(&[1, 2, 3])
            .text(3, "br0")
            .nest(18, |m| m.attribute(1, b"x"));
        let bytes = message.finish(7);
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()), 40);
        assert_eq!(u16::from_ne_bytes([bytes[6], bytes[7]]), CREATE | NLM_F_REQUEST | NLM_F_ACK);
        assert_eq!(bytes[16..20], [1, 2, 3, 0]);
        assert_eq!(bytes[20..28], [8, 0, 3, 0, b'b', b'r', b'0', 0]);
        assert_eq!(bytes[28..32], [12, 0, 18, 0x80]);
        assert_eq!(bytes[32..40], [5, 0, 1, 0, b'x', 0, 0, 0]);
    }

    #[test]
    fn answers_of_any_bytes_are_read_without_a_panic() {
        let mut answer = vec![36, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        answer.extend((-17i32).to_ne_bytes());
        answer.extend([0; 16]);
        assert_eq!(answers(&answer), [(9, -17)]);
        for end in 0..answer.len() {
            let _ = answers(&answer[..end]);
        }
        assert_eq!(answers(&[0; 64]), []);
    }
}
