//! The host's name servers: which these are (resolv.conf(5)), in which order they are asked, and which bytes are an
//! answer of theirs. All but [`Host`] are pure functions, over what others wrote.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// resolv.conf(5), MAXNS.
const MAX_SERVERS: usize = 3;
/// A server that has left so many questions in a row to others is asked last.
const SILENT: u32 = 3;
/// For so long: then it may be there again, and the host's order counts.
const REST: Duration = Duration::from_secs(30);

/// One of the host's name servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    address: IpAddr,
    /// The interface of a link-local address, by its name or number.
    scope: Option<String>,
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('%') {
            None => Some(Self { address: text.parse().ok()?, scope: None }),
            Some((address, scope)) => Some(Self {
                address: IpAddr::V6(address.parse().ok()?),
                scope: Some(scope.to_owned()).filter(|scope| !scope.is_empty()),
            }),
        }
    }

    fn socket_address(&self) -> Option<SocketAddr> {
        Some(match (self.address, &self.scope) {
            (IpAddr::V4(address), _) => SocketAddrV4::new(address, 53).into(),
            (IpAddr::V6(address), None) => SocketAddrV6::new(address, 53, 0, 0).into(),
            (IpAddr::V6(address), Some(scope)) => {
                let number = scope.parse().ok().or_else(|| {
                    // The confined process may not ask by ioctl(2). One that has no address there cannot be asked anyway.
                    interface(&std::fs::read_to_string("/proc/net/if_inet6").ok()?, scope)
                })?;
                SocketAddrV6::new(address, 53, 0, number).into()
            }
        })
    }

    /// A non-blocking socket of the host towards it: connected, so that it gets nothing from others, or about to be.
    pub(super) fn connect(&self, kind: SocketType) -> Result<OwnedFd, Errno> {
        let address = self.socket_address().ok_or(Errno::NODEV)?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(e) => Err(e),
        }
    }
}

/// The number of an interface in `/proc/net/if_inet6`: address, number, prefix, scope, flags, name.
fn interface(text: &str, name: &str) -> Option<u32> {
    let number = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let number = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        (words.nth(3)? == name).then_some(number)
    };
    text.lines().find_map(number)
}

/// The name servers of a resolv.conf(5); without any, this machine's own.
pub(super) fn servers(text: &str) -> Vec<Server> {
    let server = |line: &str| {
        let mut words = line.split(['#', ';']).next()?.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        Server::parse(words.next()?)
    };
    let found: Vec<_> = text.lines().filter_map(server).take(MAX_SERVERS).collect();
    if found.is_empty() {
        return vec![Server { address: Ipv4Addr::LOCALHOST.into(), scope: None }];
    }
    // 0.0.0.0 and :: are this machine, too.
    found.into_iter().map(Server::named).collect()
}

impl Server {
    fn named(self) -> Self {
        let address = match self.address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        Self { address, scope: self.scope }
    }
}

/// The host's name servers, as they are now.
#[derive(Debug, Default)]
pub(super) struct Host {
    servers: Vec<Server>,
    /// Whether they are the network's own.
    fixed: bool,
    seen: Option<(u64, i64, i64)>,
    silent: HashMap<Server, (u32, Instant)>,
}

impl Host {
    /// Those of the network itself, if it has any.
    pub(super) fn new(servers: &[IpAddr]) -> Self {
        let servers: Vec<_> =
            servers.iter().map(|address| Server { address: *address, scope: None }.named()).collect();
        Self { fixed: !servers.is_empty(), servers, ..Self::default() }
    }

    /// In the order in which to ask them.
    pub(super) fn order(&mut self) -> Vec<Server> {
        if self.fixed {
            return self.sorted(Instant::now());
        }
        // A stat(2) per question; the file is read again when it is another.
        let seen = std::fs::metadata(RESOLV_CONF).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        if seen != self.seen || self.servers.is_empty() {
            self.servers = servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
            self.seen = seen;
            self.silent.clear();
        }
        self.sorted(Instant::now())
    }

    fn sorted(&self, now: Instant) -> Vec<Server> {
        let rests = |server: &Server| match self.silent.get(server) {
            Some((times, last)) => *times >= SILENT && now.duration_since(*last) < REST,
            None => false,
        };
        let mut servers = self.servers.clone();
        servers.sort_by_key(rests);
        servers
    }

    /// This one has not answered in time.
    pub(super) fn is_silent(&mut self, server: &Server, now: Instant) {
        if self.servers.contains(server) {
            let (times, last) = self.silent.entry(server.clone()).or_insert((0, now));
            (*times, *last) = (times.saturating_add(1), now);
        }
    }

    /// This one has.
    pub(super) fn answers(&mut self, server: &Server) {
        self.silent.remove(server);
    }
}

const HEADER: usize = 12;

/// Where the questions of a message end; `None` if it is none (RFC 1035, 4.1).
fn end_of_questions(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    for _ in 0..u16::from_be_bytes([*message.get(4)?, *message.get(5)?]) {
        loop {
            match *message.get(at)? {
                0 => break,
                // In a question there is nothing before it that a pointer could lead to.
                label @ 1..64 => at += 1 + usize::from(label),
                64.. => return None,
            }
        }
        at += 5;
    }
    (at <= message.len()).then_some(at)
}

/// Whether this may be passed on to a name server: a question, and not an answer.
pub(super) fn is_question(message: &[u8]) -> bool {
    end_of_questions(message).is_some() && message[2] & 0x80 == 0
}

/// What a name server has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The answer.
    Answer,
    /// It cannot or does not want to answer: SERVFAIL, NOTIMP, REFUSED. Another may.
    Failure,
    /// Not the answer to this question.
    Other,
}

/// What this is to a question that [`is_question`].
pub(super) fn reply(question: &[u8], bytes: &[u8]) -> Reply {
    let Some(end) = end_of_questions(question) else { return Reply::Other };
    let [id, other, flags, code, count, more, ..] = *bytes else { return Reply::Other };
    // An answer, and of the same operation.
    let is_reply = flags & 0x80 != 0 && (flags ^ question[2]) & 0x78 == 0;
    if [id, other] != question[..2] || !is_reply || bytes.len() < HEADER {
        return Reply::Other;
    }
    let failure = matches!(code & 15, 2 | 4 | 5);
    // A server that fails may leave the question out.
    let bare = failure && [count, more] == [0, 0];
    match bytes.get(HEADER..end) {
        _ if bare => Reply::Failure,
        Some(asked) if [count, more] == question[4..6] && is_same(asked, &question[HEADER..end]) => {
            if failure { Reply::Failure } else { Reply::Answer }
        }
        _ => Reply::Other,
    }
}

/// Whether two lists of questions of the same form are the same: names are, in whatever case.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    // Types and classes differ by more than a letter's case from any other that is in use.
    one.eq_ignore_ascii_case(other)
}

/// The gateway's own "server failure" to a question that nobody could be asked.
pub(super) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let mut answer = question.get(..end_of_questions(question)?)?.to_vec();
    answer[2] = (answer[2] & 0x79) | 0x80;
    answer[3] = 0x80 | 2;
    answer[6..HEADER].fill(0);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        let address = |server: Server| match server.scope {
            Some(scope) => format!("{}%{scope}", server.address),
            None => server.address.to_string(),
        };
        servers(text).into_iter().map(address).collect()
    }

    #[test]
    fn name_servers_are_those_of_the_file_and_three_at_most() {
        let text = "# x\nnameserver 10.0.0.1 # the first\n nameserver\t10.0.0.2 more words\nsearch a\nnameserver bad\n\
            nameserver\nnameserver10.9.9.9\n#nameserver 10.9.9.9\noptions timeout:1\nnameserver fe80::1%eth0;x\nnameserver 10.0.0.4\n";
        assert_eq!(addresses(text), ["10.0.0.1", "10.0.0.2", "fe80::1%eth0"]);
        assert_eq!(
            addresses("nameserver ::1\r\nnameserver 0.0.0.0\nnameserver ::\n"),
            ["::1", "127.0.0.1", "::1"]
        );
        for without in ["", "search a\n", "nameserver 10.0.0.1%eth0\n", "nameserver 10.0.0\n"] {
            assert_eq!(addresses(without), ["127.0.0.1"], "{without}");
        }
    }

    #[test]
    fn a_scope_is_the_number_of_an_interface() {
        let text = "fe80000000000000024211fffe000001 0c 40 20 80     eth0\n\
            00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!((interface(text, "eth0"), interface(text, "lo")), (Some(12), Some(1)));
        assert_eq!((interface(text, "eth"), interface("x", "eth0")), (None, None));
        let address = |text| Server::parse(text)?.socket_address();
        assert_eq!(
            address("fe80::1%7"),
            Some(SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 7).into())
        );
        assert_eq!(address("fe80::1%no-such-one"), None);
        assert_eq!(address("2001:db8::1").unwrap().to_string(), "[2001:db8::1]:53");
    }

    #[test]
    fn one_that_is_silent_again_and_again_is_asked_last_for_a_while() {
        let mut resolvers =
            Host { servers: servers("nameserver 10.0.0.1\nnameserver 10.0.0.2\n"), ..Default::default() };
        let (now, list) = (Instant::now(), resolvers.servers.clone());
        let turned = [list[1].clone(), list[0].clone()];
        for _ in 0..2 {
            resolvers.is_silent(&list[0], now);
        }
        assert_eq!(resolvers.sorted(now), list);
        resolvers.is_silent(&list[0], now);
        assert_eq!(resolvers.sorted(now), turned);
        assert_eq!(resolvers.sorted(now + REST), list);
        resolvers.answers(&list[0]);
        assert_eq!(resolvers.sorted(now), list);
        // Both: none of them is better.
        for server in list.iter().cycle().take(6) {
            resolvers.is_silent(server, now);
        }
        assert_eq!(resolvers.sorted(now), list);
        resolvers.is_silent(&Server::parse("10.0.0.3").unwrap(), now);
        assert_eq!(resolvers.silent.len(), 2);
    }

    /// `db.` of type A, id 7.
    const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02db\0\0\x01\0\x01";

    fn with(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = QUESTION.to_vec();
        for (at, value) in changes {
            bytes[*at] = *value;
        }
        bytes
    }

    #[test]
    fn only_the_answer_to_the_question_is_one() {
        assert!(is_question(QUESTION));
        let answer = with(&[(2, 0x81), (3, 0x80)]);
        assert_eq!(reply(QUESTION, &answer), Reply::Answer);
        assert_eq!(reply(QUESTION, &with(&[(2, 0x81), (3, 0x83), (13, b'D')])), Reply::Answer);
        for code in [2, 4, 5] {
            assert_eq!(reply(QUESTION, &with(&[(2, 0x81), (3, 0x80 | code)])), Reply::Failure);
            assert_eq!(reply(QUESTION, &with(&[(2, 0x81), (3, code), (5, 0)])[..HEADER]), Reply::Failure);
        }
        // Another id, not an answer, another operation, another count, name, type, class.
        for (at, value) in [(1, 8), (2, 1), (2, 0xa1), (5, 0), (5, 2), (13, b'x'), (17, 28), (19, 3)] {
            let other = with(&[(2, 0x81), (at, value)]);
            assert_eq!(reply(QUESTION, &other), Reply::Other, "{at}");
        }
        for end in 0..answer.len() {
            assert_eq!(reply(QUESTION, &answer[..end]), Reply::Other, "{end}");
            assert!(!is_question(&QUESTION[..end]), "{end}");
        }
        assert!(!is_question(&answer));
        // A pointer, and a label that is too long.
        for value in [0xc0, 64, 63] {
            assert!(!is_question(&with(&[(12, value)])), "{value}");
        }
        let failed = failure(QUESTION).unwrap();
        assert_eq!(reply(QUESTION, &failed), Reply::Failure);
        assert_eq!(failed, with(&[(2, 0x81), (3, 0x82)]));
    }
}
