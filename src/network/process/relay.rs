//! Two TCP connections joined: what one side sends goes to the other, until both have said that they are done.
//!
//! The kernel terminates both, so all that is left to do is to move bytes: little ones through a buffer that all share, and a
//! stream through a pipe with splice(2), without ever copying it. A pipe is taken from a pool when bytes are on their
//! way and given back when they have arrived, so that a thousand idle connections hold none. A receiver that does not
//! read fills its way and nothing else; the sender's own window then closes.

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of the buffer for little messages; a message that fills it is taken for the beginning of a stream.
pub const BUFFER: usize = 32 << 10;
/// How often a relay moves bytes before others have their turn.
const TURNS: usize = 32;

/// Pipes that wait for work.
#[derive(Debug, Default)]
pub struct Pipes {
    idle: Vec<Pipe>,
    large: usize,
    used: bool,
}

/// A pipe and how much it holds.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    capacity: usize,
    large: bool,
}

impl Pipes {
    /// So many pipes may be large: a user has `pipe-user-pages-soft` pages (pipe(7)), 64 MiB, for all of his.
    const LARGE: usize = 32;
    const LARGE_SIZE: usize = 512 << 10;
    const IDLE: usize = 16;

    /// Whether there are pipes that nobody uses.
    pub fn are_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Closes those, if nobody has asked for one since the last time.
    pub fn trim(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.large -= self.idle.drain(..).filter(|pipe| pipe.large).count();
        }
    }

    fn take(&mut self) -> Result<Pipe, Errno> {
        self.used = true;
        if let Some(pipe) = self.idle.pop() {
            return Ok(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let large = self.large < Self::LARGE && fcntl_setpipe_size(&into, Self::LARGE_SIZE).is_ok();
        self.large += usize::from(large);
        let capacity = fcntl_getpipe_size(&into)?;
        Ok(Pipe { out, into, capacity, large })
    }

    fn give(&mut self, pipe: Pipe) {
        if self.idle.len() < Self::IDLE {
            self.idle.push(pipe);
        } else {
            self.large -= usize::from(pipe.large);
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    pipe: Option<Pipe>,
    filled: usize,
    /// What a receiver has not taken of a little message: before anything else.
    rest: Vec<u8>,
    /// Whether all that there was to read has been read: more is told of.
    is_empty: bool,
    /// Whether an end may be behind what there is to read.
    ending: bool,
    stream: bool,
    ended: bool,
    told: bool,
    moved: u64,
}

/// Whose connection a relay is, as the container sees its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The container's end.
    pub container: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// Whether somebody outside began it.
    pub inwards: bool,
}

/// What is known to have happened at one end.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Which end: the container's is 0.
    pub end: usize,
    /// Whether it may have come to its end there: then a short read need not be the last one (epoll(7), edge-triggered).
    pub ending: bool,
}

/// Two connections, joined.
#[derive(Debug)]
pub struct Relay {
    ends: [OwnedFd; 2],
    ways: [Way; 2],
    whose: Option<Whose>,
}

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing until one of the two is ready again.
    Waiting,
    /// More, after the others.
    Busy,
    /// Nothing any more.
    Done,
}

impl Relay {
    /// Joins two connected, non-blocking sockets, the container's first. What is nobody's in particular is not shown.
    pub fn new(container: OwnedFd, remote: OwnedFd, whose: Option<Whose>) -> Self {
        Self { ends: [container, remote], ways: Default::default(), whose }
    }

    /// With what the container has said already.
    pub fn after(mut self, said: Vec<u8>) -> Self {
        self.ways[0].moved = said.len() as u64;
        self.ways[0].rest = said;
        self
    }

    /// Whose it is.
    pub fn whose(&self) -> Option<Whose> {
        self.whose
    }

    /// Both sockets.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.ends[0].as_fd(), self.ends[1].as_fd()]
    }

    /// Whether all that was said of late were short messages.
    pub fn is_talking(&self) -> bool {
        self.ways.iter().all(|way| !way.stream && way.rest.is_empty())
    }

    /// Bytes that went from the first to the second, and back.
    pub fn moved(&self) -> [u64; 2] {
        [self.ways[0].moved, self.ways[1].moved]
    }

    /// Moves what can be moved now, after this event; anything may have happened if none is given. An error is a connection
    /// that broke.
    pub fn run(
        &mut self,
        event: Option<Event>,
        pipes: &mut Pipes,
        buffer: &mut [u8; BUFFER],
    ) -> Result<State, Errno> {
        for (end, way) in self.ways.iter_mut().enumerate() {
            if event.is_none_or(|event| event.end == end) {
                way.is_empty = false;
                way.ending = event.is_none_or(|event| event.ending);
            }
        }
        for _ in 0..TURNS {
            let mut moved = false;
            for way in 0..2 {
                let [from, to] = if way == 0 { [0, 1] } else { [1, 0] };
                let way = &mut self.ways[way];
                moved |= way.step(&self.ends[from], &self.ends[to], pipes, buffer)?;
            }
            if !moved {
                let done = self.ways.iter().all(|way| way.told);
                return Ok(if done { State::Done } else { State::Waiting });
            }
        }
        Ok(State::Busy)
    }

    /// Gives the pipes back. With `broken`, both sides see a reset instead of an orderly end, as they would without us.
    pub fn close(self, pipes: &mut Pipes, broken: bool) {
        for way in self.ways {
            // What is in a pipe would be somebody else's.
            match way.pipe {
                Some(pipe) if way.filled == 0 => pipes.give(pipe),
                Some(pipe) => pipes.large -= usize::from(pipe.large),
                None => {}
            }
        }
        if broken {
            for end in &self.ends {
                reset(end);
            }
        }
    }
}

/// Lets the close of a socket be a reset (socket(7), SO_LINGER).
pub fn reset(socket: &OwnedFd) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

impl Way {
    fn step(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        pipes: &mut Pipes,
        buffer: &mut [u8; BUFFER],
    ) -> Result<bool, Errno> {
        let mut moved = false;
        if !self.rest.is_empty() {
            moved |= self.send_rest(to)?;
        } else if self.filled > 0 {
            moved |= self.drain(to)?;
        }
        if !self.ended && self.rest.is_empty() {
            moved |= if self.stream { self.fill(from, pipes)? } else { self.copy(from, to, buffer)? };
        }
        if self.filled == 0 && self.rest.is_empty() {
            if !self.stream
                && let Some(pipe) = self.pipe.take()
            {
                pipes.give(pipe);
            }
            if self.ended && !self.told {
                self.told = true;
                // It may be gone already.
                let _ = shutdown(to, Shutdown::Write);
            }
        }
        Ok(moved)
    }

    fn send_rest(&mut self, to: &OwnedFd) -> Result<bool, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = again(send(to, &self.rest, flags))?.unwrap_or(0);
        self.rest.drain(..sent);
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        Ok(sent > 0)
    }

    /// From the pipe to the receiver.
    fn drain(&mut self, to: &OwnedFd) -> Result<bool, Errno> {
        let Some(pipe) = &self.pipe else { return Ok(false) };
        match again(splice(
            &pipe.out,
            None,
            to,
            None,
            self.filled,
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        ))? {
            Some(n) => {
                self.filled -= n;
                Ok(n > 0)
            }
            None => Ok(false),
        }
    }

    /// From the sender into the pipe.
    fn fill(&mut self, from: &OwnedFd, pipes: &mut Pipes) -> Result<bool, Errno> {
        if self.pipe.is_none() {
            self.pipe = Some(pipes.take()?);
        }
        let Some(pipe) = &self.pipe else { return Ok(false) };
        let room = pipe.capacity.saturating_sub(self.filled);
        if room == 0 || self.is_empty {
            return Ok(false);
        }
        match again(splice(from, None, &pipe.into, None, room, SpliceFlags::MOVE | SpliceFlags::NONBLOCK))? {
            Some(0) => {
                self.ended = true;
                self.stream = false;
                Ok(true)
            }
            Some(n) => {
                self.filled += n;
                self.moved += n as u64;
                Ok(true)
            }
            None => {
                // Either the pipe is full, or nothing has come: what comes next may be little again.
                self.stream = self.filled > 0;
                self.is_empty = !self.stream;
                Ok(false)
            }
        }
    }

    /// Through the buffer, if nothing is before it.
    fn copy(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8; BUFFER]) -> Result<bool, Errno> {
        if self.filled > 0 || self.is_empty {
            return Ok(false);
        }
        let Some((n, _)) = again(recv(from, &mut buffer[..], RecvFlags::DONTWAIT))? else {
            self.is_empty = true;
            return Ok(false);
        };
        if n == 0 {
            self.ended = true;
            return Ok(true);
        }
        self.moved += n as u64;
        self.stream = n == BUFFER;
        self.is_empty = !self.stream && !self.ending;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = again(send(to, &buffer[..n], flags))?.unwrap_or(0);
        self.rest = buffer[sent..n].to_vec();
        Ok(true)
    }
}

/// `None` if it would have to wait.
fn again<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes a descriptor non-blocking.
pub fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A connection over loopback: both ends.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    fn joined() -> (TcpStream, TcpStream, Relay) {
        let ((client, a), (b, server)) = (connection(), connection());
        let ends = [a, b].map(|end| {
            end.set_nonblocking(true).unwrap();
            OwnedFd::from(end)
        });
        let [a, b] = ends;
        (client, server, Relay::new(a, b, None))
    }

    /// Runs a relay until it is done or broken; whether it broke.
    fn serve(mut relay: Relay) -> std::thread::JoinHandle<(bool, [u64; 2], usize)> {
        std::thread::spawn(move || {
            let (mut pipes, mut buffer) = (Pipes::default(), Box::new([0; BUFFER]));
            let broken = loop {
                match relay.run(None, &mut pipes, &mut buffer) {
                    Ok(State::Done) => break false,
                    Ok(_) => std::thread::sleep(std::time::Duration::from_micros(50)),
                    Err(_) => break true,
                }
            };
            let moved = relay.moved();
            relay.close(&mut pipes, broken);
            let idle = pipes.idle.len();
            // Used until just now, and then no more.
            pipes.trim();
            assert_eq!(pipes.idle.len(), idle);
            pipes.trim();
            assert_eq!((pipes.idle.len(), pipes.large), (0, 0));
            (broken, moved, idle)
        })
    }

    #[test]
    fn little_and_much_pass_both_ways_unchanged_and_the_ends_are_passed_on() {
        let (mut client, mut server, relay) = joined();
        let served = serve(relay);
        let much: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
        let sent = much.clone();
        let answering = std::thread::spawn(move || {
            let mut hello = [0; 5];
            server.read_exact(&mut hello).unwrap();
            server.write_all(&hello).unwrap();
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            // Half closed: the other way still works.
            server.write_all(&got).unwrap();
            got
        });
        client.write_all(b"hello").unwrap();
        let mut hello = [0; 5];
        client.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
        client.write_all(&sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == much && answering.join().unwrap() == much);
        let (broken, moved, idle) = served.join().unwrap();
        assert!(!broken && idle > 0);
        assert_eq!(moved, [8_000_005, 8_000_005]);
    }

    #[test]
    fn who_does_not_read_holds_back_who_sends() {
        let (mut client, mut server, relay) = joined();
        let served = serve(relay);
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let mut quiet = 0;
        while quiet < 20 {
            match client.write(&[7; 65536]) {
                Ok(n) => (sent, quiet) = (sent + n, 0),
                Err(_) => {
                    quiet += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = 0;
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = server.read(&mut buffer) {
            got += n;
        }
        drop(server);
        drop(client);
        assert_eq!(got, sent);
        assert!(!served.join().unwrap().0);
    }

    #[test]
    fn a_reset_is_passed_on() {
        let (client, mut server, relay) = joined();
        let served = serve(relay);
        reset(&OwnedFd::from(client));
        assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(served.join().unwrap().0);
    }
}
