//! The gateway's name server: questions go on, as they are, to the host's own name servers, asked from the host's
//! network: to the first, and to the next one too when that fails or takes its time. The first answer counts. Which
//! they are is looked up again when the host's resolv.conf has changed (a VPN, another Wi-Fi).

use super::resolvers::{self, Host, Reply, Server};
use super::tier::Tier;
use super::{Entity, Network, names, watch};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, recvfrom, send, sendto};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Name servers that have not answered by then do not.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this the next one is asked, too. Found by the sweep, so it takes up to a second more: three have been asked when a
/// client's own five seconds (resolv.conf(5), `timeout`) are over.
const NEXT: Duration = Duration::from_secs(1);
/// Questions on their way at once.
const QUESTIONS: usize = 1024;
/// And of one container.
const QUESTIONS_OF_ONE: usize = 256;
/// Datagrams that one name server sends before others have their turn.
const TURNS: usize = 16;

/// A question of a container to the host's name servers.
pub(super) struct Question {
    client: SocketAddr,
    bytes: Vec<u8>,
    /// Those that may still answer, and the sockets towards them.
    asked: Vec<(Server, OwnedFd)>,
    /// Those that have not been asked.
    left: VecDeque<Server>,
    /// The last failure that one of them reported.
    failure: Option<Vec<u8>>,
    since: Instant,
    /// When the last of them was asked.
    last: Instant,
}

impl Question {
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.asked.iter().map(|(_, socket)| socket.as_fd()).collect()
    }

    /// Asks the next one that can be asked; whether there was one. Its socket is the last.
    fn ask(&mut self) -> bool {
        while let Some(server) = self.left.pop_front() {
            let socket = server.connect(SocketType::DGRAM);
            if let Ok(socket) = socket
                && send(&socket, &self.bytes, SendFlags::DONTWAIT).is_ok()
            {
                self.last = Instant::now();
                self.asked.push((server, socket));
                return true;
            }
        }
        false
    }

    /// Reads what has come: the answer and who gave it. Whoever fails is not waited for any more.
    fn read(&mut self) -> Option<(Server, Vec<u8>)> {
        let mut buffer = vec![0; 64 << 10];
        let mut answer = None;
        let (question, failure) = (&self.bytes, &mut self.failure);
        self.asked.retain(|(server, socket)| {
            for _ in 0..TURNS {
                match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((length, _)) => match resolvers::reply(question, &buffer[..length]) {
                        Reply::Answer => {
                            answer = Some((server.clone(), buffer[..length].to_vec()));
                            return true;
                        }
                        Reply::Failure => {
                            *failure = Some(buffer[..length].to_vec());
                            return false;
                        }
                        Reply::Other => {}
                    },
                    Err(Errno::AGAIN | Errno::INTR) => return true,
                    // The host says that nobody is there.
                    Err(_) => return false,
                }
            }
            true
        });
        answer
    }
}

/// The host's name servers, and who waits for them.
#[derive(Debug)]
pub(super) struct Resolvers {
    pub(super) host: Host,
    asked: Vec<(usize, IpAddr)>,
}

impl Resolvers {
    /// These; the host's if there are none.
    pub(super) fn new(servers: &[IpAddr]) -> Self {
        Self { host: Host::new(servers), asked: Vec::new() }
    }

    /// Whether a question is on its way.
    pub(super) fn are_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether this container may ask one more.
    fn have_room(&self, client: IpAddr) -> bool {
        let own = self.asked.iter().filter(|(_, asker)| *asker == client).count();
        self.asked.len() < QUESTIONS && own < QUESTIONS_OF_ONE
    }
}

impl Network {
    /// Containers ask.
    pub(super) fn questions(&mut self) {
        let mut bytes = [0; 4096];
        for _ in 0..64 {
            let Some(inside) = self.tier.kernel() else { return };
            let received = recvfrom(&inside.dns_udp, &mut bytes[..], RecvFlags::DONTWAIT);
            let Ok((length, _, Some(from))) = received else { return };
            let Ok(client) = SocketAddr::try_from(from) else { continue };
            self.question(&bytes[..length], client);
        }
    }

    /// A container asks this.
    pub(super) fn question(&mut self, question: &[u8], client: SocketAddr) {
        let answer = self.own_answer(question, client).map(|answer| names::fitting(question, answer));
        self.turn = self.turn.wrapping_add(1);
        if let Some(answer) = answer {
            self.tell(client, &answer);
        } else if !self.config.internal
            && resolvers::is_question(question)
            && self.resolvers.have_room(client.ip())
        {
            self.ask(client, question);
        }
    }

    /// What is known here, or that nobody can be asked.
    pub(super) fn own_answer(&self, question: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        let known = if self.config.names { &self.names[..] } else { &[] };
        names::answer(question, known, !self.config.internal, self.turn)
            .or_else(|| self.known_elsewhere(question, client))
            .or_else(|| self.config.internal.then(|| names::refusal(question)).flatten())
    }

    /// The answer of another network that the client is on.
    fn known_elsewhere(&self, question: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        let asker = self.names.iter().find(|names| names.addresses.contains(&client.ip()))?;
        let folder = self.folder.parent().filter(|_| !asker.others.is_empty())?;
        names::answer(question, &names::of_others(folder, &asker.others), false, self.turn)
    }

    fn tell(&mut self, client: SocketAddr, answer: &[u8]) {
        let own = SocketAddr::new(self.config.router(client.ip()), 53);
        match &mut self.tier {
            Tier::Kernel(inside) => drop(sendto(&inside.dns_udp, answer, SendFlags::DONTWAIT, &client)),
            Tier::User(user) => user.send_datagram((client, own), answer),
        }
    }

    fn ask(&mut self, client: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        let mut question = Question {
            client,
            bytes: bytes.to_vec(),
            asked: Vec::new(),
            left: self.resolvers.host.order().into(),
            failure: None,
            since: now,
            last: now,
        };
        if !question.ask() {
            return self.tell_failure(&question);
        }
        if let Some(place) = self.add(Entity::Question(question), EventFlags::IN) {
            self.resolvers.asked.push((place, client.ip()));
        }
    }

    /// A client that hears nothing would wait and ask again.
    fn tell_failure(&mut self, question: &Question) {
        let own = || resolvers::failure(&question.bytes);
        if let Some(failure) = question.failure.clone().or_else(own) {
            self.tell(question.client, &failure);
        }
    }

    /// A name server has answered, or the host says that nobody is there.
    pub(super) fn answered(&mut self, place: usize) {
        let Some(Entity::Question(mut question)) = self.table.take(place) else { return };
        let waited_for = question.asked.len();
        if let Some((server, answer)) = question.read() {
            self.resolvers.host.answers(&server);
            self.tell(question.client, &answer);
            return self.forget_question(place);
        }
        // In the place of one that failed, at once.
        if question.asked.len() < waited_for {
            self.ask_next(&mut question, place);
        }
        if question.asked.is_empty() {
            self.tell_failure(&question);
            return self.forget_question(place);
        }
        self.table.put(place, Entity::Question(question));
    }

    /// Asks one more about a question that was taken out of this place.
    fn ask_next(&self, question: &mut Question, place: usize) {
        if question.ask()
            && let Some((_, socket)) = question.asked.last()
            && watch(&self.epoll, socket.as_fd(), place, EventFlags::IN).is_err()
        {
            question.asked.pop();
        }
    }

    /// Forgets a question that was taken out of this place.
    fn forget_question(&mut self, place: usize) {
        self.table.forget(place);
        self.resolvers.asked.retain(|(asked, _)| *asked != place);
    }

    pub(super) fn sweep_questions(&mut self, now: Instant) {
        for (place, _) in self.resolvers.asked.clone() {
            let Some(Entity::Question(mut question)) = self.table.take(place) else { continue };
            if now.duration_since(question.since) > PATIENCE {
                self.tell_failure(&question);
                self.forget_question(place);
                continue;
            }
            if now.duration_since(question.last) >= NEXT && !question.left.is_empty() {
                if let Some((server, _)) = question.asked.last() {
                    self.resolvers.host.is_silent(server, now);
                }
                self.ask_next(&mut question, place);
            }
            self.table.put(place, Entity::Question(question));
        }
    }
}
