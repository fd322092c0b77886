//! Questions by TCP (RFC 7766), for answers that do not fit into a datagram: what is known here is answered, and a client that asks
//! for more is joined with one of the host's name servers, with what it has said so far.

use super::relay::{self, Relay};
use super::{Entity, Network};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, acceptfrom_with, recv, send};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Clients that have not asked yet, at once.
const CLIENTS: usize = 128;
/// After so long without a question a client is hung up on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nobody asks for more in one question: a name has 255 bytes.
const LONGEST: usize = 1024;

/// A client that has not asked for anything that is not known here.
pub(super) struct Asking {
    pub(super) client: OwnedFd,
    from: SocketAddr,
    said: Vec<u8>,
    since: Instant,
}

impl Asking {
    /// The first question that has come as a whole.
    fn question(&self) -> Option<&[u8]> {
        let (length, rest) = self.said.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*length)))
    }
}

impl Network {
    /// Clients come to ask by TCP.
    pub(super) fn accept_questions(&mut self) {
        loop {
            let Some(inside) = self.tier.kernel() else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&inside.dns_tcp, flags) {
                Ok((client, from)) => match from.and_then(|from| SocketAddr::try_from(from).ok()) {
                    Some(from) => self.begin_asking(client, from),
                    None => relay::reset(&client),
                },
                Err(error) => {
                    self.shed(error, |network| rustix::net::accept(&network.tier.kernel()?.dns_tcp).ok());
                    return;
                }
            }
        }
    }

    pub(super) fn has_room_for_asking(&self) -> bool {
        self.asking.len() < CLIENTS
    }

    /// A client that may ask.
    pub(super) fn begin_asking(&mut self, client: OwnedFd, from: SocketAddr) {
        if !self.has_room_for_asking() {
            return relay::reset(&client);
        }
        let asking = Asking { client, from, said: Vec::new(), since: Instant::now() };
        if let Some(place) = self.add(Entity::Asking(asking), EventFlags::IN | EventFlags::RDHUP) {
            self.asking.push(place);
        }
    }

    /// A client says something.
    pub(super) fn asked(&mut self, place: usize) {
        let Some(Entity::Asking(mut asking)) = self.table.take(place) else { return };
        let mut bytes = [0; LONGEST];
        match recv(&asking.client, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((length @ 1.., _)) => asking.said.extend(&bytes[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return self.table.put(place, Entity::Asking(asking)),
            _ => return self.forget_client(place),
        }
        while let Some(question) = asking.question() {
            let length = question.len();
            let Some(answer) = self.own_answer(question, asking.from) else {
                self.forget_client(place);
                let _ = epoll::delete(&self.epoll, &asking.client);
                return self.ask_by_tcp(asking);
            };
            let framed = [&u16::try_from(answer.len()).unwrap_or(0).to_be_bytes()[..], &answer].concat();
            // A client that does not read its answers need not get them.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            if send(&asking.client, &framed, flags) != Ok(framed.len()) {
                return self.forget_client(place);
            }
            asking.said.drain(..2 + length);
            asking.since = Instant::now();
        }
        match asking.said.len() > LONGEST {
            true => self.forget_client(place),
            false => self.table.put(place, Entity::Asking(asking)),
        }
    }

    fn ask_by_tcp(&mut self, asking: Asking) {
        if self.config.internal {
            return relay::reset(&asking.client);
        }
        let mut servers = self.resolvers.host.order().into_iter();
        match servers.find_map(|server| server.connect(SocketType::STREAM).ok()) {
            // A relay waits for a connection that is being made as it does for a slow one.
            Some(server) => self.join_relay(Relay::new(asking.client, server, None).after(asking.said)),
            None => relay::reset(&asking.client),
        }
    }

    fn forget_client(&mut self, place: usize) {
        self.table.forget(place);
        self.asking.retain(|asking| *asking != place);
    }

    pub(super) fn sweep_asking(&mut self, now: Instant) {
        for place in self.asking.clone() {
            if let Some(Entity::Asking(asking)) = self.table.get(place)
                && now.duration_since(asking.since) > PATIENCE
            {
                self.remove(place);
                self.asking.retain(|asking| *asking != place);
            }
        }
    }
}
