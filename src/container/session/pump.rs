//! The session's side: moves bytes between a process, its log and its clients until the process has ended.

use super::Failure;
use super::wire::{Decoder, Frame, Outbox};
use crate::sandbox::Stdio;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use rustix::termios::Winsize;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// A client may lag this many bytes behind before the process is held back.
const MAX_LAG: usize = 64 << 10;

/// Our ends of a process's streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input, if it is kept open.
    pub stdin: Option<File>,
    /// Standard output, or the terminal's master side (which is standard input too).
    pub stdout: Option<File>,
    /// Standard error.
    pub stderr: Option<File>,
    /// Whether `stdout` is a terminal.
    pub terminal: bool,
}

/// Pipes for a process without a terminal: its ends and ours. Without `interactive` its input is /dev/null.
pub fn make_streams(interactive: bool, terminal: bool) -> io::Result<(Stdio, Streams)> {
    let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    if terminal {
        let stdio = Stdio { stdin: null()?, stdout: null()?, stderr: null()? };
        return Ok((stdio, Streams { terminal, ..Streams::default() }));
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (stdout, their_stdout) = pipe()?;
    let (stderr, their_stderr) = pipe()?;
    let (their_stdin, stdin) = if interactive {
        let (theirs, ours) = pipe()?;
        (theirs, Some(File::from(ours)))
    } else {
        (null()?, None)
    };
    let stdio = Stdio { stdin: their_stdin, stdout: their_stdout, stderr: their_stderr };
    Ok((stdio, Streams { stdin, stdout: Some(stdout.into()), stderr: Some(stderr.into()), terminal }))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed, because its time was up (`--timeout`).
    TimedOut,
}

impl Ended {
    /// As shells and docker tell it: the code, or 128 + the signal.
    pub fn exit_code(self) -> i32 {
        match self {
            Ended::Code(code) => code,
            Ended::Signal(number) => 128 + number,
            // podman's.
            Ended::TimedOut => 255,
        }
    }
}

struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    outbox: Outbox,
}

/// What clients that are slow, or stopped, have still to hear when a session is over.
pub struct Undelivered(Vec<Connection>);

impl Undelivered {
    /// Whether everybody has heard everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for each client for as long as it is there.
    pub fn deliver(mut self) {
        while !self.0.is_empty() {
            let sockets = self.0.iter().map(|c| c.socket.as_fd());
            let mut set: Vec<_> = sockets.map(|fd| PollFd::new(fd, PollFlags::POLLOUT)).collect();
            if poll(&mut set, PollTimeout::NONE).is_err_and(|e| e != nix::Error::EINTR) {
                return;
            }
            self.0.retain_mut(|c| c.outbox.flush(&c.socket).is_ok() && !c.outbox.is_empty());
        }
    }
}

/// Something beside a session whose end is noticed and mended.
pub trait Companion {
    /// What becomes readable when a part of it has ended, by numbers of its own; none of what nothing can be done about.
    fn watch(&self) -> Vec<(usize, BorrowedFd<'_>)>;
    /// This part has ended.
    fn ended(&mut self, which: usize);
    /// What is written down about it has changed.
    fn changed(&mut self) -> Result<(), Failure>;
}

/// A session at work.
pub struct Pump<'a> {
    process: BorrowedFd<'a>,
    streams: Streams,
    stdin: Outbox,
    stdin_ends: bool,
    quiet: u16,
    listener: Option<UnixListener>,
    clients: Vec<Connection>,
    deadline: Option<Instant>,
    timed_out: bool,
    ends_with_clients: bool,
    log: &'a mut dyn FnMut(bool, &[u8]),
    companion: Option<&'a mut dyn Companion>,
}

/// A session in which nothing has happened for so long gives back its memory: soon after the start, since one that
/// lasts has done with starting, and seldom later.
const FIRST_QUIET_MS: u16 = 300;
const LATER_QUIET_MS: u16 = 10_000;

/// What a descriptor in the poll set is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Process,
    Stdin,
    Stdout,
    Stderr,
    Listener,
    Companion(usize),
    Client(usize),
}

impl<'a> Pump<'a> {
    /// For a child process (by pidfd) of the caller. `log` is given standard output (`false`) and error (`true`).
    pub fn new(
        process: BorrowedFd<'a>,
        streams: Streams,
        listener: Option<UnixListener>,
        log: &'a mut dyn FnMut(bool, &[u8]),
    ) -> io::Result<Self> {
        for stream in [&streams.stdin, &streams.stdout, &streams.stderr].into_iter().flatten() {
            rustix::io::ioctl_fionbio(stream, true)?;
        }
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        let (stdin, clients) = (Outbox::default(), Vec::new());
        Ok(Self {
            process,
            streams,
            stdin,
            stdin_ends: false,
            quiet: FIRST_QUIET_MS,
            listener,
            clients,
            deadline: None,
            timed_out: false,
            ends_with_clients: false,
            log,
            companion: None,
        })
    }

    /// Has the process killed if it is still there after so long.
    pub fn end_after(&mut self, time: Duration) {
        self.deadline = Instant::now().checked_add(time);
    }

    /// Has the process killed when nobody listens any more.
    pub fn end_with_clients(&mut self) {
        self.ends_with_clients = true;
    }

    /// Looks after something else too.
    pub fn set_companion(&mut self, companion: &'a mut dyn Companion) {
        self.companion = Some(companion);
    }

    /// Adds a client.
    pub fn add_client(&mut self, socket: UnixStream) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.clients.push(Connection { socket, decoder: Decoder::default(), outbox: Outbox::default() });
        Ok(())
    }

    /// Tells every client.
    pub fn tell(&mut self, frame: &Frame) {
        for client in &mut self.clients {
            client.outbox.push(frame);
        }
        self.flush_clients();
    }

    /// Runs until the process has ended and reaps it.
    pub fn run(&mut self) -> io::Result<Ended> {
        loop {
            if self.ends_with_clients && self.clients.is_empty() {
                // Before the first wait, too: they may have gone while the process was started. Done again as long as nobody
                // listens, which harms nothing.
                let _ = rustix::process::pidfd_send_signal(self.process, Signal::KILL);
            }
            for source in self.wait()? {
                match source {
                    Source::Process => {
                        // What it wrote last is in the pipes now. A client that does not read is not waited for.
                        while self.read_output(false) {}
                        while self.read_output(true) {}
                        return self.reap();
                    }
                    Source::Stdin => self.write_stdin(),
                    Source::Stdout => drop(self.read_output(false)),
                    Source::Stderr => drop(self.read_output(true)),
                    Source::Listener => self.accept(),
                    Source::Companion(which) => {
                        self.companion.iter_mut().for_each(|companion| companion.ended(which));
                    }
                    Source::Client(index) => self.read_client(index),
                }
            }
            self.flush_clients();
        }
    }

    /// Gives every client its last frames, as far as it reads now. The rest is the caller's to [`Undelivered::deliver`].
    pub fn finish(mut self, last: &Frame) -> Undelivered {
        self.tell(last);
        self.clients.retain(|client| !client.outbox.is_empty());
        Undelivered(self.clients)
    }

    fn wait(&mut self) -> io::Result<Vec<Source>> {
        let lagging = self.clients.iter().any(|c| c.outbox.len() > MAX_LAG);
        let mut sources = vec![Source::Process];
        let mut set = vec![PollFd::new(self.process, PollFlags::POLLIN)];
        let mut watch = |source, fd, flags| {
            sources.push(source);
            set.push(PollFd::new(fd, flags));
        };
        let terminal_in = self.streams.terminal.then_some(&self.streams.stdout);
        if let Some(stdin) =
            terminal_in.unwrap_or(&self.streams.stdin).as_ref().filter(|_| !self.stdin.is_empty())
        {
            watch(Source::Stdin, stdin.as_fd(), PollFlags::POLLOUT);
        }
        if !lagging {
            for (source, stream) in
                [(Source::Stderr, &self.streams.stderr), (Source::Stdout, &self.streams.stdout)]
            {
                if let Some(stream) = stream {
                    watch(source, stream.as_fd(), PollFlags::POLLIN);
                }
            }
        }
        if let Some(listener) = &self.listener {
            watch(Source::Listener, listener.as_fd(), PollFlags::POLLIN);
        }
        for (which, fd) in self.companion.iter().flat_map(|companion| companion.watch()) {
            watch(Source::Companion(which), fd, PollFlags::POLLIN);
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.stdin.len() <= MAX_LAG);
            flags.set(PollFlags::POLLOUT, !client.outbox.is_empty());
            watch(Source::Client(index), client.socket.as_fd(), flags);
        }
        let mut quiet = Some(self.quiet);
        loop {
            let left = self.deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                self.timed_out = rustix::process::pidfd_send_signal(self.process, Signal::KILL).is_ok();
                self.deadline = None;
            }
            match poll(&mut set, patience(quiet, left)) {
                // The time of the process is up, or nothing has happened. Waits on at once: whatever else ran in
                // between would be mapped again. That memory cannot be given back is no harm.
                Ok(0) if quiet.is_some() => {
                    self.quiet = LATER_QUIET_MS;
                    quiet = None;
                    let _ = crate::kernel::memory::trim();
                }
                Ok(0) => {}
                Ok(_) | Err(nix::Error::EINTR) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let ready = set.iter().map(|fd| fd.any().unwrap_or(true));
        let mut sources: Vec<_> =
            sources.into_iter().zip(ready).filter_map(|(s, ready)| ready.then_some(s)).collect();
        // The end of the process is looked at last, standard output before standard error, and clients from the last
        // to the first, since they may go.
        sources.reverse();
        Ok(sources)
    }

    /// Reads once from a stream to the log and the clients; whether there may be more.
    fn read_output(&mut self, is_error: bool) -> bool {
        let stream = if is_error { &mut self.streams.stderr } else { &mut self.streams.stdout };
        let Some(file) = stream else { return false };
        let mut buffer = [0; 16 << 10];
        match file.read(&mut buffer) {
            Ok(n) if n > 0 => {
                (self.log)(is_error, &buffer[..n]);
                if !self.clients.is_empty() {
                    let bytes = buffer[..n].to_vec();
                    self.tell(&if is_error { Frame::Stderr(bytes) } else { Frame::Stdout(bytes) });
                }
                true
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            // End of file; of a terminal, EIO: nobody has it open. Another process may open it again, but our input
            // goes there too, so it stays open for as long as the process lives.
            Err(_) if self.streams.terminal => {
                std::thread::sleep(std::time::Duration::from_millis(5));
                false
            }
            _ => {
                *stream = None;
                false
            }
        }
    }

    fn write_stdin(&mut self) {
        let stream = if self.streams.terminal { &self.streams.stdout } else { &self.streams.stdin };
        let Some(file) = stream else { return self.stdin.clear() };
        if self.stdin.flush(file).is_err() {
            self.streams.stdin = None;
            self.stdin.clear();
        }
        self.close_stdin();
    }

    fn close_stdin(&mut self) {
        if self.stdin_ends && self.stdin.is_empty() {
            self.streams.stdin = None;
        }
    }

    fn accept(&mut self) {
        let accepted = self.listener.as_ref().map(UnixListener::accept);
        if let Some(Ok((socket, _))) = accepted {
            let _ = self.add_client(socket);
            if let Some(client) = self.clients.last_mut() {
                client.outbox.push(&Frame::Started);
            }
        }
    }

    fn read_client(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let open = client.decoder.fill(&client.socket).unwrap_or(false);
        let mut frames = Vec::new();
        let valid = loop {
            match client.decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        let mut answers = Vec::new();
        for frame in frames {
            match frame {
                Frame::NetworksChanged => answers.push(self.follow()),
                frame => self.obey(frame),
            }
        }
        match self.clients.get_mut(index) {
            Some(client) if open && valid => answers.iter().for_each(|answer| client.outbox.push(answer)),
            _ => drop(self.clients.remove(index)),
        }
    }

    fn follow(&mut self) -> Frame {
        match self.companion.as_mut().map(|companion| companion.changed()) {
            Some(Err(failure)) => Frame::Failed(serde_json::to_vec(&failure).unwrap_or_default()),
            _ => Frame::Followed,
        }
    }

    fn obey(&mut self, frame: Frame) {
        match frame {
            Frame::Stdin(bytes) => {
                if self.streams.stdin.is_some() || self.streams.terminal {
                    self.stdin.push_bytes(&bytes);
                    self.write_stdin();
                }
            }
            Frame::StdinClosed => {
                self.stdin_ends = true;
                self.close_stdin();
            }
            Frame::Resize { rows, columns } => {
                if let Some(terminal) = self.streams.stdout.as_ref().filter(|_| self.streams.terminal) {
                    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    let _ = rustix::termios::tcsetwinsize(terminal, size);
                }
            }
            Frame::Signal(number) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = rustix::process::pidfd_send_signal(self.process, signal);
                }
            }
            // A client does not say these, or is answered.
            Frame::NetworksChanged
            | Frame::Followed
            | Frame::Started
            | Frame::Failed(_)
            | Frame::Stdout(_)
            | Frame::Stderr(_)
            | Frame::Exited(_) => {}
        }
    }

    fn flush_clients(&mut self) {
        self.clients.retain_mut(|c| c.outbox.flush(&c.socket).is_ok());
    }

    fn reap(&self) -> io::Result<Ended> {
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.process), WaitIdOptions::EXITED) {
                Ok(Some(_)) if self.timed_out => return Ok(Ended::TimedOut),
                Ok(Some(status)) => {
                    return Ok(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Ended::Code(code),
                        (None, signal) => Ended::Signal(signal.unwrap_or(9)),
                    });
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// How long to wait: until it has been quiet for so many milliseconds, or until the time of the process is up.
fn patience(quiet: Option<u16>, left: Option<Duration>) -> PollTimeout {
    let quiet = quiet.map(i32::from);
    // Rounded up; what is too long for poll(2) is waited for in parts.
    let left = left
        .filter(|left| !left.is_zero())
        .map(|left| i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX));
    let sooner = [quiet, left].into_iter().flatten().min();
    sooner.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX))
}

/// A terminal's master side as a session's stream.
impl From<OwnedFd> for Streams {
    fn from(master: OwnedFd) -> Self {
        Self { stdin: None, stdout: Some(master.into()), stderr: None, terminal: true }
    }
}
