//! Names to addresses without the C library: the binary is static, and glibc's `getaddrinfo` loads shared NSS
//! modules. Literals and `localhost` directly, then `/etc/hosts` (hosts(5)), then the name servers of
//! `/etc/resolv.conf` (resolv.conf(5)) by UDP, or TCP where an answer did not fit.
//!
//! A and AAAA are asked at once. IPv4 addresses are put first: ureq tries addresses in turn, not side by side as
//! RFC 8305 wants, and a broken IPv6 route is more often met than a missing IPv4 one (which fails at once).

use super::url::{bare, is_loopback};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// ureq takes this many.
const MAX_ADDRESSES: usize = 16;

/// A resolver that remembers, shared by all agents of a client: ureq asks it before each request, even when it
/// has an open connection.
#[derive(Clone, Default)]
pub(super) struct Dns {
    known: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns")
    }
}

impl Resolver for Dns {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = bare(uri.host().ok_or(ureq::Error::HostNotFound)?);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let deadline = timeout.not_zero().map(|left| Instant::now() + *left);
        let addresses = self.addresses(host, deadline).map_err(ureq::Error::Io)?;
        let mut out = self.empty();
        for ip in addresses.into_iter().take(MAX_ADDRESSES) {
            out.push(SocketAddr::new(ip, port));
        }
        Ok(out)
    }
}

impl Dns {
    fn addresses(&self, host: &str, deadline: Option<Instant>) -> io::Result<Vec<IpAddr>> {
        if let Some(direct) = without_asking(host) {
            return Ok(direct);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addresses) = known.get(host) {
            return Ok(addresses.clone());
        }
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let addresses = match in_hosts(&hosts, host) {
            found if !found.is_empty() => found,
            _ => {
                let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
                lookup(&Conf::parse(&conf), host, deadline)?
            }
        };
        known.insert(host.to_owned(), addresses.clone());
        Ok(addresses)
    }
}

fn without_asking(host: &str) -> Option<Vec<IpAddr>> {
    match host.parse() {
        Ok(ip) => Some(vec![ip]),
        Err(_) => is_loopback(host).then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
    }
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

/// What resolv.conf(5) says.
#[derive(Debug, PartialEq, Eq)]
struct Conf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Conf {
    fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // resolv.conf(5): MAXNS is 3, further ones are ignored.
                    if let Some(server) = words.next().and_then(server).filter(|_| conf.servers.len() < 3) {
                        conf.servers.push(server);
                    }
                }
                Some("search" | "domain") => conf.search = words.map(Into::into).collect(),
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }
}

/// `ADDRESS` or, for a link-local one, `ADDRESS%INTERFACE`.
fn server(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => Some(SocketAddr::new(text.parse().ok()?, 53)),
        Some((ip, interface)) => {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
            let scope = rustix::net::netdevice::name_to_index(&socket, interface).ok()?;
            Some(SocketAddrV6::new(ip.parse().ok()?, 53, 0, scope).into())
        }
    }
}

/// The full names that `host` may mean, in the order in which they are tried.
fn expand(conf: &Conf, host: &str) -> Vec<String> {
    if let Some(absolute) = host.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let searched =
        conf.search.iter().filter(|d| *d != ".").map(|d| format!("{host}.{}", d.trim_end_matches('.')));
    if host.matches('.').count() >= conf.ndots {
        std::iter::once(host.to_owned()).chain(searched).collect()
    } else {
        searched.chain([host.to_owned()]).collect()
    }
}

fn lookup(conf: &Conf, host: &str, deadline: Option<Instant>) -> io::Result<Vec<IpAddr>> {
    let mut last = None;
    for name in expand(conf, host) {
        let Ok(mut name) = Name::from_ascii(&name) else { continue };
        name.set_fqdn(true);
        match ask_servers(conf, &name, deadline) {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.sort_by_key(IpAddr::is_ipv6);
                return Ok(addresses);
            }
            Ok(_) => {}
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::NotFound, format!("there is no host {host}"))))
}

/// The addresses of one name, none if it does not exist; an error if no server could say.
fn ask_servers(conf: &Conf, name: &Name, deadline: Option<Instant>) -> io::Result<Vec<IpAddr>> {
    let mut last = None;
    for _ in 0..conf.attempts {
        for server in &conf.servers {
            let mut until = Instant::now() + conf.timeout;
            if let Some(deadline) = deadline {
                if deadline <= Instant::now() {
                    return Err(last.unwrap_or_else(|| ErrorKind::TimedOut.into()));
                }
                until = until.min(deadline);
            }
            match ask(*server, name, until) {
                Ok(addresses) => return Ok(addresses),
                Err(e) => last = Some(io::Error::new(e.kind(), format!("name server {}: {e}", server.ip()))),
            }
        }
    }
    Err(last.unwrap_or_else(|| ErrorKind::TimedOut.into()))
}

const KINDS: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// Asks one server for A and AAAA.
fn ask(server: SocketAddr, name: &Name, until: Instant) -> io::Result<Vec<IpAddr>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // A connected socket takes datagrams from this server only.
    socket.connect(server)?;
    let queries = KINDS.map(|kind| query(name, kind));
    for query in &queries {
        socket.send(&query.to_vec().map_err(io::Error::other)?)?;
    }
    let mut answers: [Option<Answer>; 2] = [None, None];
    let mut until = until;
    let mut buffer = [0; 4096];
    while answers.iter().any(Option::is_none) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let size = match socket.recv(&mut buffer) {
            Ok(size) => size,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        for (query, answer) in queries.iter().zip(&mut answers) {
            if let Some(found) = read_answer(query, &buffer[..size]) {
                let found = match found {
                    Answer::Truncated => ask_by_tcp(server, query, until)?,
                    other => other,
                };
                if matches!(&found, Answer::Addresses(a) if !a.is_empty()) {
                    // Some servers never answer for AAAA: what we have is enough to go on.
                    until = until.min(Instant::now() + Duration::from_millis(500));
                }
                *answer = Some(found);
            }
        }
    }
    let mut addresses = Vec::new();
    let (mut answered, mut refusal) = (false, None);
    for answer in answers.into_iter().flatten() {
        match answer {
            Answer::Addresses(found) => {
                answered = true;
                addresses.extend(found);
            }
            Answer::Refused(code) => refusal = Some(code),
            Answer::Truncated => {}
        }
    }
    match refusal {
        _ if answered => Ok(addresses),
        Some(code) => Err(io::Error::other(code.to_str())),
        None => Err(io::Error::new(ErrorKind::TimedOut, "no answer")),
    }
}

enum Answer {
    /// What there is; a name without such addresses, or that is not there at all, has none.
    Addresses(Vec<IpAddr>),
    Truncated,
    Refused(ResponseCode),
}

fn query(name: &Name, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    message
}

/// `None` if these bytes do not answer this query.
fn read_answer(query: &Message, bytes: &[u8]) -> Option<Answer> {
    let answer = Message::from_vec(bytes).ok()?;
    let same_question = match (query.queries.first(), answer.queries.first()) {
        (Some(ours), Some(theirs)) => {
            ours.name() == theirs.name() && ours.query_type() == theirs.query_type()
        }
        _ => false,
    };
    if answer.metadata.id != query.metadata.id || !same_question {
        return None;
    }
    let kind = query.queries.first()?.query_type();
    Some(match answer.metadata.response_code {
        ResponseCode::NXDomain => Answer::Addresses(Vec::new()),
        ResponseCode::NoError if answer.metadata.truncation => Answer::Truncated,
        ResponseCode::NoError => Answer::Addresses(
            // The server has followed the aliases (CNAME): the addresses at the end of the chain are ours.
            answer
                .answers
                .iter()
                .filter_map(|record| match (&record.data, kind) {
                    (RData::A(a), RecordType::A) => Some(IpAddr::V4(a.0)),
                    (RData::AAAA(a), RecordType::AAAA) => Some(IpAddr::V6(a.0)),
                    _ => None,
                })
                .collect(),
        ),
        code => Answer::Refused(code),
    })
}

fn ask_by_tcp(server: SocketAddr, query: &Message, until: Instant) -> io::Result<Answer> {
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&server, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())?;
    stream.set_read_timeout(Some(left()?))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    read_answer(query, &answer)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "an answer to another question"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA};
    use std::net::TcpListener;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn literals_and_localhost_ask_nobody() {
        assert_eq!(without_asking("10.0.0.1"), Some(vec![ip("10.0.0.1")]));
        assert_eq!(without_asking("fe80::1"), Some(vec![ip("fe80::1")]));
        assert_eq!(without_asking("x.localhost"), Some(vec![ip("127.0.0.1"), ip("::1")]));
        assert_eq!(without_asking("example.com"), None);
    }

    #[test]
    fn the_hosts_file_is_read_as_hosts_5_says() {
        let text = "# comment\n10.0.0.1 a.b A # c\n::1 a\nbad line\n10.0.0.1 a\n";
        assert_eq!(in_hosts(text, "a"), [ip("10.0.0.1"), ip("::1")]);
        assert_eq!(in_hosts(text, "A.B."), [ip("10.0.0.1")]);
        assert!(in_hosts(text, "c").is_empty());
    }

    #[test]
    fn resolv_conf_is_read_as_its_page_says() {
        let conf = Conf::parse(
            "; c\nnameserver 10.0.0.1\nnameserver ::1 # c\nnameserver junk\nsearch a.b c.d.\noptions ndots:2 timeout:0 attempts:99 rotate\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n",
        );
        assert_eq!(conf.servers, ["10.0.0.1:53", "[::1]:53", "1.1.1.1:53"].map(|s| s.parse().unwrap()));
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (2, 1, 5));
        assert_eq!(expand(&conf, "x.y"), ["x.y.a.b", "x.y.c.d", "x.y"]);
        assert_eq!(expand(&conf, "x.y.z"), ["x.y.z", "x.y.z.a.b", "x.y.z.c.d"]);
        assert_eq!(expand(&conf, "x."), ["x"]);
        assert_eq!(Conf::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(Conf::parse("nameserver fe80::1%lo").servers.len(), 1);
    }

    /// A name server on an ephemeral port: `big` does not fit into UDP, `v4` never answers for AAAA, `broken`
    /// fails, `two` has both.
    fn name_server() -> SocketAddr {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let reply = |bytes: &[u8], by_tcp: bool| -> Option<Vec<u8>> {
            let query = Message::from_vec(bytes).unwrap();
            let question = query.queries[0].clone();
            let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
            message.add_query(question.clone());
            let mut add = |data| message.answers.push(Record::from_rdata(question.name().clone(), 60, data));
            match (question.name().to_ascii().as_str(), question.query_type()) {
                ("big.", RecordType::A) if !by_tcp => message.metadata.truncation = true,
                ("v4.", RecordType::AAAA) => return None,
                ("two.", RecordType::AAAA) => add(RData::AAAA(AAAA("fd00::1".parse().unwrap()))),
                ("broken.", _) => message.metadata.response_code = ResponseCode::ServFail,
                ("two." | "v4." | "big." | "short.dom.", RecordType::A) => add(RData::A(A::new(10, 0, 0, 9))),
                ("big.", _) => {}
                _ => message.metadata.response_code = ResponseCode::NXDomain,
            }
            Some(message.to_vec().unwrap())
        };
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((size, from)) = udp.recv_from(&mut buffer) {
                // A forged answer first: the wrong id must not be believed.
                let mut forged = buffer[..size].to_vec();
                forged[0] ^= 1;
                udp.send_to(&forged, from).unwrap();
                if let Some(answer) = reply(&buffer[..size], false) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes).unwrap();
                let answer = reply(&bytes, true).unwrap();
                stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        address
    }

    #[test]
    fn names_are_looked_up_by_udp_by_tcp_and_through_the_search_list() {
        let good = name_server();
        let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let conf = Conf {
            servers: vec![dead, good],
            search: vec!["dom".into()],
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 1,
        };
        assert_eq!(lookup(&conf, "two", None).unwrap(), [ip("10.0.0.9"), ip("fd00::1")]);
        assert_eq!(lookup(&conf, "big", None).unwrap(), [ip("10.0.0.9")]);
        assert_eq!(lookup(&conf, "short", None).unwrap(), [ip("10.0.0.9")]);
        let start = Instant::now();
        assert_eq!(lookup(&conf, "v4", None).unwrap(), [ip("10.0.0.9")]);
        assert!(start.elapsed() < Duration::from_millis(1500));
        assert_eq!(lookup(&conf, "none", None).unwrap_err().kind(), ErrorKind::NotFound);
        let error = lookup(&conf, "broken.", None).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn bytes_of_any_kind_are_no_answer() {
        let query = query(&Name::from_ascii("a.").unwrap(), RecordType::A);
        let good = query.to_vec().unwrap();
        for cut in 0..good.len() {
            read_answer(&query, &good[..cut]);
            let mut flipped = good.clone();
            flipped[cut] ^= 0xff;
            read_answer(&query, &flipped);
        }
    }
}
