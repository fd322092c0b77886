//! The gateway's name server: questions go on, as they are, to the host's own name servers, asked from the host's
//! network. Which these are is looked up again when the host's resolv.conf has changed (a VPN, another Wi-Fi).

use super::{Entity, Network, names, outside, relay};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, connect, recv, recvfrom, send, sendto,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// A name server that has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions on their way at once.
const QUESTIONS: usize = 1024;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// resolv.conf(5), MAXNS.
const MAX_SERVERS: usize = 3;

/// A question of a container to a name server.
pub(super) struct Question {
    /// Towards the name server.
    pub(super) socket: OwnedFd,
    client: SocketAddr,
    server: usize,
    since: Instant,
}

/// The host's name servers.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    servers: Vec<Ipv4Addr>,
    seen: Option<(u64, i64, i64)>,
    /// The one that is asked first: one that does not answer gives way.
    first: usize,
    asked: Vec<usize>,
}

impl Resolvers {
    /// Whether a question is on its way.
    pub(super) fn are_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The name server to ask now, as it is called in the list and its address.
    fn current(&mut self) -> Option<(usize, SocketAddrV4)> {
        // A stat(2) per question; the file is read again when it is another.
        let seen = std::fs::metadata(RESOLV_CONF).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        if seen != self.seen || self.servers.is_empty() {
            let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
            self.servers = servers(&text);
            self.seen = seen;
            self.first = 0;
        }
        let server = self.first.checked_rem(self.servers.len())?;
        Some((server, SocketAddrV4::new(self.servers[server], 53)))
    }

    fn does_not_answer(&mut self, server: usize) {
        if self.first == server && !self.servers.is_empty() {
            self.first = (server + 1) % self.servers.len();
        }
    }
}

/// The IPv4 name servers of a resolv.conf(5); without any, this machine's own.
fn servers(text: &str) -> Vec<Ipv4Addr> {
    let server = |line: &str| match line.trim().strip_prefix("nameserver")?.trim().parse().ok()? {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    };
    let found: Vec<_> = text.lines().filter_map(server).take(MAX_SERVERS).collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST] } else { found }
}

impl Network {
    /// Containers ask.
    pub(super) fn questions(&mut self) {
        let mut bytes = [0; 4096];
        for _ in 0..64 {
            let received = recvfrom(&self.inside.dns_udp, &mut bytes[..], RecvFlags::DONTWAIT);
            let Ok((length, _, Some(from))) = received else { return };
            let Ok(client) = SocketAddr::try_from(from) else { continue };
            let question = &bytes[..length];
            let known =
                if self.config.names { names::answer(question, &self.names, self.turn) } else { None };
            let known = known.or_else(|| self.known_elsewhere(question, client));
            let answer = known.or_else(|| self.config.internal.then(|| names::refusal(question)).flatten());
            self.turn = self.turn.wrapping_add(1);
            if let Some(answer) = answer {
                let _ = sendto(&self.inside.dns_udp, &answer, SendFlags::DONTWAIT, &client);
            } else if !self.config.internal && self.resolvers.asked.len() < QUESTIONS {
                let _ = self.ask(client, &bytes[..length]);
            }
        }
    }

    /// The answer of another network that the client is on.
    fn known_elsewhere(&self, question: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        let asker = self.names.iter().find(|names| IpAddr::V4(names.address) == client.ip())?;
        let folder = self.folder.parent().filter(|_| !asker.others.is_empty())?;
        names::answer(question, &names::of_others(folder, &asker.others), self.turn)
    }

    fn ask(&mut self, client: SocketAddr, question: &[u8]) -> Result<(), Errno> {
        let (server, address) = self.resolvers.current().ok_or(Errno::NETUNREACH)?;
        let socket = outside(SocketType::DGRAM).map_err(|_| Errno::NFILE)?;
        connect(&socket, &address)?;
        if let Err(e) = send(&socket, question, SendFlags::DONTWAIT) {
            self.resolvers.does_not_answer(server);
            return Err(e);
        }
        let question = Entity::Question(Question { socket, client, server, since: Instant::now() });
        if let Some(place) = self.add(question, EventFlags::IN) {
            self.resolvers.asked.push(place);
        }
        Ok(())
    }

    /// A name server has answered, or the host says that nobody is there.
    pub(super) fn answered(&mut self, place: usize) {
        let Some(Entity::Question(question)) = self.table.take(place) else { return };
        let mut bytes = vec![0; 64 << 10];
        match recv(&question.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let _ = sendto(&self.inside.dns_udp, &bytes[..length], SendFlags::DONTWAIT, &question.client);
            }
            Err(Errno::AGAIN | Errno::INTR) => return self.table.put(place, Entity::Question(question)),
            // The client asks again, and then another one is asked.
            Err(_) => self.resolvers.does_not_answer(question.server),
        }
        self.table.forget(place);
        self.resolvers.asked.retain(|asked| *asked != place);
    }

    /// Questions whose answers do not fit into a datagram.
    pub(super) fn accept_questions(&mut self) {
        while let Ok(client) = accept_with(&self.inside.dns_tcp, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            if self.config.internal {
                relay::reset(&client);
                continue;
            }
            let server = (|| {
                let (_, address) = self.resolvers.current().ok_or(Errno::NETUNREACH)?;
                let socket = outside(SocketType::STREAM).map_err(|_| Errno::NFILE)?;
                match connect(&socket, &address) {
                    Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                    Err(e) => Err(e),
                }
            })();
            match server {
                // A relay waits for a connection that is being made as it does for a slow one.
                Ok(server) => self.join(client, server, None),
                Err(_) => relay::reset(&client),
            }
        }
    }

    pub(super) fn sweep_questions(&mut self, now: Instant) {
        let mut late = Vec::new();
        for place in self.resolvers.asked.clone() {
            match self.table.get(place) {
                Some(Entity::Question(question)) if now.duration_since(question.since) <= PATIENCE => {}
                Some(Entity::Question(question)) => late.push((place, question.server)),
                _ => {}
            }
        }
        for (place, server) in late {
            self.resolvers.does_not_answer(server);
            self.resolvers.asked.retain(|asked| *asked != place);
            self.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_those_of_the_file_and_three_at_most() {
        let text = "# x\nnameserver 10.0.0.1\n nameserver\t10.0.0.2\nnameserver fe80::1\nsearch a\nnameserver bad\n\
            nameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        assert_eq!(servers(text), [1, 2, 3].map(|n| Ipv4Addr::new(10, 0, 0, n)));
        assert_eq!(servers(""), [Ipv4Addr::LOCALHOST]);
    }
}
