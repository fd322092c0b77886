//! Work that needs the user's namespace, in a child.

use super::Error;
use crate::container::create::ownership;
use crate::container::monitor;
use crate::container::session::Failure;
use crate::kernel::process::{self, Child, Side};
use crate::layers::LayerStore;
use crate::network::{self, Networks};
use crate::state::Paths;
use crate::userns::{self, Identity};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, set_parent_process_death_signal, waitid,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;

/// Keeps what every step needs there while a build goes on: the user's namespace, which whoever needs it next joins instead
/// of making another, which takes two helpers; and the networks that steps are on, whose processes would otherwise start
/// and end with each step. It ends with this, or with the build.
pub struct Keeper {
    child: Option<Child>,
    // Its end is what the keeper waits for; names of networks, a line each, are what it is told by it.
    orders: Option<PipeWriter>,
    networks: Vec<String>,
}

impl Keeper {
    /// Starts it. The caller has one thread. Where that cannot be, builds are slower.
    pub fn start(paths: &Paths, identity: &Identity) -> Self {
        let keeper = |child, orders| Keeper { child, orders, networks: Vec::new() };
        let Ok((listen, orders)) = std::io::pipe() else { return keeper(None, None) };
        let parent = getpid();
        match process::fork() {
            Err(_) => keeper(None, None),
            Ok(Side::Parent(child)) => keeper(Some(child), Some(orders)),
            Ok(Side::Child) => {
                drop(orders);
                // A Ctrl-C is not for it, and a network's process may outlive the build.
                if monitor::leave_cli("keeper of a build").is_ok()
                    && userns::enter_to_keep(paths, identity).is_ok()
                {
                    // The pipe may have been inherited by what lasts longer. Set only now: it is lost with a change of
                    // credentials.
                    end_with(parent);
                    let mut held = Vec::new();
                    for name in BufReader::new(listen).lines().map_while(Result::ok) {
                        // A step that cannot have it says why.
                        if let Ok(network) = Networks::new(paths).find(&name) {
                            held.extend(network::hold(paths, &network.config()));
                        }
                    }
                }
                process::exit_now(0)
            }
        }
    }

    /// Keeps a network, too.
    pub fn hold(&mut self, network: String) {
        if !self.networks.contains(&network)
            && let Some(orders) = &mut self.orders
        {
            let _ = orders.write_all(format!("{network}\n").as_bytes());
            self.networks.push(network);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(child) = self.child.take() {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// Does it as root in the user's namespace, and gives back what came of it. The caller has one thread. What is not done when
/// it ends is ended.
pub fn as_root<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    identity: &Identity,
    work: impl FnOnce(&LayerStore) -> Result<T, Failure>,
) -> Result<T, Error> {
    let (mut from, mut to) = std::io::pipe().map_err(Error::io("make a pipe"))?;
    let caller = getpid();
    match process::fork().map_err(Error::io("start a process"))? {
        Side::Child => {
            drop(from);
            let entered = userns::enter(paths, identity);
            // Only now, since a change of ids forgets it.
            end_with(caller);
            let done = entered
                .map_err(|error| Failure::of(&error))
                .and_then(|_| work(&LayerStore::open(paths, ownership(identity))));
            let sent = serde_json::to_vec(&done).map_err(std::io::Error::other);
            let sent = sent.and_then(|bytes| to.write_all(&bytes));
            process::exit_now(u8::from(sent.is_err()))
        }
        Side::Parent(child) => {
            drop(to);
            let mut answer = Vec::new();
            let read = from.read_to_end(&mut answer);
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
                .map_err(Error::io("wait for a process"))?;
            read.map_err(Error::io("read what a process says"))?;
            let done: Result<T, Failure> = serde_json::from_slice(&answer)
                .map_err(|_| Error::io("finish a step")(std::io::Error::other("its process was killed")))?;
            done.map_err(Error::Failed)
        }
    }
}

/// Has this process, which `parent` has just forked, ended by the kernel with it.
pub fn end_with(parent: Pid) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // It may have ended before that.
    if getppid() != Some(parent) {
        process::exit_now(1);
    }
}
