//! `--ssh`: an SSH agent, passed on.
//!
//! An agent answers nobody but its own user (ssh-agent(1)), and its socket's owner is not ours to change. So a step gets
//! a socket of ours, with the owner and mode that its mount asks for, and behind it is a process that connects to the agent
//! anew for each connection, and passes bytes on. It ends with the step, or with the build if that is killed. No key is
//! seen by it or by the build.

use crate::kernel::process::{self, Side};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections at the same time; those above it are closed at once.
const MOST: usize = 64;

/// What a mount's socket is called.
pub fn socket_name(number: usize) -> String {
    format!("ssh-{number}")
}

/// The process behind a socket. Dropped, it is ended.
pub struct Forwarder(process::Child);

impl Forwarder {
    /// Makes a socket with this name in a folder and passes what comes there on to the agent. The caller has one thread.
    pub fn start(folder: &Path, name: &str, agent: &Path) -> io::Result<Self> {
        let held = File::open(folder)?;
        // A path in `sun_path` may have 107 bytes only.
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", held.as_raw_fd()))?;
        let parent = rustix::process::getpid();
        match process::fork()? {
            Side::Parent(child) => Ok(Self(child)),
            Side::Child => {
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                // A Ctrl-C is the step's, which may want to end well.
                let _ = rustix::process::setsid();
                let _ = process::set_title("coracle: SSH agent of a build");
                if rustix::process::getppid() == Some(parent) {
                    pass_on(&listener, agent);
                }
                process::exit_now(0)
            }
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let child = &self.0;
        let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

fn pass_on(listener: &UnixListener, agent: &Path) {
    let count = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        let (Ok(client), Ok(agent)) = (connection, UnixStream::connect(agent)) else { continue };
        if count.fetch_add(1, Ordering::Relaxed) >= MOST {
            count.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let count = Arc::clone(&count);
        std::thread::spawn(move || {
            if let (Ok(from_client), Ok(to_agent)) = (client.try_clone(), agent.try_clone()) {
                std::thread::spawn(move || copy(from_client, to_agent));
                copy(agent, client);
            }
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
