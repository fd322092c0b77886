//! `exec`: another process in a running container.
//!
//! The CLI forks a session, which is the new process's parent and lives as long as it does: the CLI may detach.

use super::lifecycle::{init_of, not_running};
use super::monitor::{await_running, leave_cli};
use super::record::Status;
use super::request::ExecRequest;
use super::session::{Client, Failure, Frame, Pump, make_streams};
use super::store::Container;
use super::{Error, resources};
use crate::kernel::process::{self, Side};
use crate::sandbox::capabilities::CapSet;
use crate::sandbox::{self, JoinRequest, Process, SeccompProfile};
use crate::state::Paths;
use crate::userns::{Identity, Mode};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::Winsize;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The process for a request: the container's own, with what the request says.
fn plan(container: &Container, request: &ExecRequest) -> Process {
    let mut process = container.record.spec.process.clone();
    process.args.clone_from(&request.command);
    for (name, value) in &request.env {
        process.env.retain(|e| e.split_once('=').is_none_or(|(n, _)| n != name));
        process.env.push(format!("{name}={value}"));
    }
    if let Some(user) = &request.user {
        process.user.clone_from(user);
    }
    if let Some(workdir) = &request.workdir {
        process.cwd.clone_from(workdir);
    }
    process.terminal = request.tty;
    process.init = false;
    if request.privileged {
        process.capabilities = CapSet::ALL;
        process.added_capabilities = CapSet::ALL;
        process.seccomp = SeccompProfile::Unconfined;
    }
    process
}

/// Starts a process in a running container. The caller has one thread.
pub fn exec(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    request: &ExecRequest,
    window: Option<Winsize>,
) -> Result<Client, Error> {
    if let Status::Paused { .. } = container.status {
        return Err(Error::State {
            name: container.record.name.clone(),
            state: "paused",
            fix: "resume it first ('coracle unpause')",
        });
    }
    let init = init_of(paths, container)?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::io("make a socket pair"))?;
    match process::fork().map_err(Error::io("fork the session"))? {
        Side::Child => {
            drop(ours);
            let mut client = Some(theirs);
            if let Err(error) = session(identity, container, request, window, init, &mut client) {
                let json = serde_json::to_vec(&Failure::of(&error)).unwrap_or_default();
                let mut bytes = Vec::new();
                Frame::Failed(json).encode(&mut bytes);
                if let Some(mut client) = client {
                    let _ = client.write_all(&bytes);
                }
            }
            process::exit_now(0)
        }
        Side::Parent(_) => {
            close(&request.preserve_fds);
            Ok(Client::new(ours))
        }
    }
}

/// Closes descriptors that were handed in for the command.
fn close(numbers: &[i32]) {
    numbers.iter().for_each(|number| drop(process::inherited_fd(*number)));
}

fn session(
    identity: &Identity,
    container: &Container,
    request: &ExecRequest,
    window: Option<Winsize>,
    init: OwnedFd,
    client: &mut Option<UnixStream>,
) -> Result<(), Error> {
    let process = &plan(container, request);
    leave_cli(&format!("exec {}", container.record.name))?;
    let (stdio, mut streams) =
        make_streams(request.interactive, request.tty).map_err(Error::io("make pipes"))?;
    // It may have ended between our look at it and now: then that is what there is to say.
    let not_any_more =
        |error: Error| if is_ending(&init, &error) { not_running(&container.record) } else { error };
    let cgroup = resources::enter(container).map_err(not_any_more)?;
    let (child, channel) = sandbox::join(&JoinRequest {
        container: init.as_fd(),
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
        namespaces: container.record.spec.entered_namespaces(),
        process,
        stdio,
        window,
        single_id: matches!(identity.mode, Mode::Single { .. }),
        preserve_fds: &request.preserve_fds,
    })
    .map_err(|e| not_any_more(e.into()))?;
    // Whoever waits for the end of what was handed in waits for the command alone.
    close(&request.preserve_fds);
    await_running(&channel, &child, process, &mut streams).map_err(not_any_more)?;
    drop((channel, init));
    let mut no_log = |_: bool, _: &[u8]| {};
    let mut pump =
        Pump::new(child.pidfd.as_fd(), streams, None, &mut no_log).map_err(Error::io("run the session"))?;
    if let Some(client) = client.take() {
        pump.add_client(client).map_err(Error::io("run the session"))?;
    }
    pump.tell(&Frame::Started);
    let ended = pump.run().map_err(Error::io("run the session"))?;
    pump.finish(&Frame::Exited(ended.exit_code())).deliver();
    Ok(())
}

/// Whether a container (by its first process) has ended, or is about to: all that is in it is killed, and its cgroup can be
/// gone, before its first process is seen to have ended.
fn is_ending(init: &OwnedFd, error: &Error) -> bool {
    const SOON: u16 = 1000;
    let looks_so = matches!(
        error,
        Error::Cgroup(_)
            | Error::Sandbox(sandbox::Error::Vanished | sandbox::Error::Step { errno: nix::libc::ESRCH, .. })
    );
    let timeout = if looks_so { PollTimeout::from(SOON) } else { PollTimeout::ZERO };
    // A pidfd is readable once its process has ended (pidfd_open(2)).
    poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}
