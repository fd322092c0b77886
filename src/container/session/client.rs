//! The user's side of a session: the terminal or pipes of the CLI, connected to the session's socket.

use super::Failure;
use super::wire::{Decoder, Frame, Outbox};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// How the user takes part.
#[derive(Clone, Debug, Default)]
pub struct Interaction {
    /// Standard input is passed on.
    pub stdin: bool,
    /// The session has a terminal: ours, if it is one, goes into raw mode and tells its size.
    pub terminal: bool,
    /// Keys that leave the session running; empty: none.
    pub detach_keys: Vec<u8>,
    /// Signals that reach us go to the process.
    pub proxy_signals: bool,
    /// Standard output is not shown.
    pub hide_stdout: bool,
    /// Standard error is not shown.
    pub hide_stderr: bool,
}

/// How it ended.
#[derive(Debug)]
pub enum Ending {
    /// The command ended with this code.
    Exited(i32),
    /// The user typed the detach keys.
    Detached,
    /// The command was not started.
    Failed(Failure),
    /// The session is gone without a word: its process was killed.
    Lost,
}

/// A connection to a session.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    decoder: Decoder,
}

impl Client {
    /// From a connected socket.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, decoder: Decoder::default() }
    }

    /// Waits until the command runs or is known not to.
    pub fn wait_started(&mut self) -> io::Result<Option<Ending>> {
        loop {
            while let Some(frame) = self.decoder.next()? {
                match frame {
                    Frame::Started => return Ok(None),
                    Frame::Failed(bytes) => return Ok(Some(Ending::Failed(serde_json::from_slice(&bytes)?))),
                    Frame::Exited(code) => return Ok(Some(Ending::Exited(code))),
                    _ => {}
                }
            }
            if !self.decoder.fill(&self.socket)? {
                return Ok(Some(Ending::Lost));
            }
        }
    }

    /// Tells the session that its container's networks have changed, and waits until it has followed; a failure of
    /// that, or `Lost` if it has ended.
    pub fn change_networks(mut self) -> io::Result<Option<Ending>> {
        let mut outbox = Outbox::default();
        outbox.push(&Frame::NetworksChanged);
        while !outbox.is_empty() {
            outbox.flush(&self.socket)?;
        }
        loop {
            while let Some(frame) = self.decoder.next()? {
                match frame {
                    Frame::Followed => return Ok(None),
                    Frame::Failed(bytes) => return Ok(Some(Ending::Failed(serde_json::from_slice(&bytes)?))),
                    _ => {}
                }
            }
            if !self.decoder.fill(&self.socket)? {
                return Ok(Some(Ending::Lost));
            }
        }
    }

    /// Waits for the end of the command without listening to it; `None` if nobody tells.
    pub fn wait_exit(mut self) -> io::Result<Option<i32>> {
        loop {
            while let Some(frame) = self.decoder.next()? {
                if let Frame::Exited(code) = frame {
                    return Ok(Some(code));
                }
            }
            if !self.decoder.fill(&self.socket)? {
                return Ok(None);
            }
        }
    }

    /// Connects the user's streams with the session until one side ends.
    pub fn interact(self, how: &Interaction) -> io::Result<Ending> {
        self.interact_to(how, &mut |is_error, bytes| match is_error {
            true => write_all(stderr(), bytes),
            false => write_all(stdout(), bytes),
        })
    }

    /// The same with somebody else than the user who gets what the session says on standard output (`false`) and error
    /// (`true`).
    pub fn interact_to(
        mut self,
        how: &Interaction,
        output: &mut dyn FnMut(bool, &[u8]) -> io::Result<()>,
    ) -> io::Result<Ending> {
        // Blocked before the first wait, so that none gets lost between it and the last.
        let signals = Signals::catch(how)?;
        let on_terminal = how.terminal && isatty(stdin());
        let _raw = if on_terminal { Some(RawMode::enter()?) } else { None };
        self.socket.set_nonblocking(true)?;
        let mut outbox = Outbox::default();
        if how.terminal {
            push_size(&mut outbox);
        }
        let mut keys = DetachKeys::new(if on_terminal { &how.detach_keys } else { &[] });
        let mut reads_stdin = how.stdin;
        loop {
            outbox.flush(&self.socket).or_else(gone)?;
            let mut set = vec![
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
            ];
            if !outbox.is_empty() {
                set[0].set_events(PollFlags::POLLIN | PollFlags::POLLOUT);
            } else if reads_stdin {
                set.push(PollFd::new(stdin(), PollFlags::POLLIN));
            }
            match poll(&mut set, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::Error::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let ready: Vec<_> = set.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            if ready[0] {
                let open = self.decoder.fill(&self.socket)?;
                while let Some(frame) = self.decoder.next()? {
                    match frame {
                        Frame::Stdout(_) if how.hide_stdout => {}
                        Frame::Stderr(_) if how.hide_stderr => {}
                        Frame::Stdout(bytes) => output(false, &bytes)?,
                        Frame::Stderr(bytes) => output(true, &bytes)?,
                        Frame::Exited(code) => return Ok(Ending::Exited(code)),
                        Frame::Failed(bytes) => return Ok(Ending::Failed(serde_json::from_slice(&bytes)?)),
                        _ => {}
                    }
                }
                if !open {
                    return Ok(Ending::Lost);
                }
            }
            if ready[1] {
                signals.pass_on(&mut outbox, how);
            }
            if ready.get(2) == Some(&true) {
                let mut buffer = [0; 16 << 10];
                match rustix::io::read(stdin(), &mut buffer) {
                    Ok(0) => {
                        reads_stdin = false;
                        outbox.push(&Frame::StdinClosed);
                    }
                    Ok(n) => match keys.pass(&buffer[..n]) {
                        Some(bytes) if bytes.is_empty() => {}
                        Some(bytes) => outbox.push(&Frame::Stdin(bytes)),
                        None => return Ok(Ending::Detached),
                    },
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    // A terminal whose session is gone answers EIO: the same as its end.
                    Err(_) => {
                        reads_stdin = false;
                        outbox.push(&Frame::StdinClosed);
                    }
                }
            }
        }
    }
}

/// A session that closed its end while we were sending has more to say: it is read next.
fn gone(e: io::Error) -> io::Result<()> {
    match e.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(e),
    }
}

fn push_size(outbox: &mut Outbox) {
    let size = [stdin(), stdout(), stderr()].into_iter().find_map(|fd| tcgetwinsize(fd).ok());
    if let Some(size) = size.filter(|s| s.ws_row > 0 && s.ws_col > 0) {
        outbox.push(&Frame::Resize { rows: size.ws_row, columns: size.ws_col });
    }
}

/// Writes everything, waiting where the descriptor is not ready (somebody may have made it non-blocking).
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            // Whoever read our output has gone (`| head`): the container goes on, as with docker.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::IO) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The user's terminal in raw mode; put back when dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Signals as events.
struct Signals(SignalFd);

impl Signals {
    fn catch(how: &Interaction) -> io::Result<Self> {
        let mut set = SigSet::empty();
        if how.proxy_signals {
            use Signal::*;
            for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT] {
                set.add(signal);
            }
        }
        if how.terminal {
            set.add(Signal::SIGWINCH);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    fn pass_on(&self, outbox: &mut Outbox, how: &Interaction) {
        while let Ok(Some(info)) = self.0.read_signal() {
            let number = info.ssi_signo.cast_signed();
            if number == Signal::SIGWINCH as i32 {
                push_size(outbox);
            } else if number == Signal::SIGCONT as i32 && how.terminal {
                // Back in the foreground: the size may be another.
                push_size(outbox);
            } else {
                outbox.push(&Frame::Signal(number));
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = SigSet::all().thread_unblock();
    }
}

/// Finds the detach keys in what is typed; what has begun to look like them is held back.
struct DetachKeys<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl<'a> DetachKeys<'a> {
    fn new(keys: &'a [u8]) -> Self {
        Self { keys, matched: 0 }
    }

    /// What of `bytes` (and of what was held back) goes on; `None` if the keys are complete.
    fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return None;
                }
                continue;
            }
            out.extend(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(&byte));
            if self.matched == 0 {
                out.push(byte);
            } else if self.keys.len() == 1 {
                return None;
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_anything_else_passes() {
        let mut keys = DetachKeys::new(&[16, 17]);
        assert_eq!(keys.pass(b"ab\x10"), Some(b"ab".to_vec()));
        assert_eq!(keys.pass(b"c"), Some(b"\x10c".to_vec()));
        assert_eq!(keys.pass(b"\x10"), Some(vec![]));
        assert_eq!(keys.pass(b"\x10"), Some(b"\x10".to_vec()));
        assert_eq!(keys.pass(b"\x11"), None);
        assert_eq!(DetachKeys::new(&[]).pass(b"\x10\x11"), Some(b"\x10\x11".to_vec()));
    }
}
