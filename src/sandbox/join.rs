//! A second process in a running container.
//!
//! Three processes: the caller, who becomes the new process's parent; a joiner, which enters the container's
//! namespaces and can then only fork into its pid namespace; and the new process, cloned with CLONE_PARENT so
//! that the caller can wait for it. The joiner is not dumpable before it enters (CVE-2016-9962).

use super::init::{become_root, set_oom_score};
use super::launch::{self, Entry};
use super::mounts::make_terminal;
use super::{Channel, Error, FromInit, Process, Stdio};
use crate::kernel::process::{self, Child, CloneFlags, Side};
use crate::rooted_fs::Root;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions};
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// What to start and where.
pub struct JoinRequest<'a> {
    /// The container's first process, verified to be it.
    pub container: BorrowedFd<'a>,
    /// Which of its namespaces to enter ([`super::Spec::entered_namespaces`]).
    pub namespaces: CloneFlags,
    /// The container's cgroup, if it has one and this process may clone into it.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What to start.
    pub process: &'a Process,
    /// Streams; unused with a terminal.
    pub stdio: Stdio,
    /// The terminal's first size.
    pub window: Option<Winsize>,
    /// Whether the container's namespace forbids setgroups(2).
    pub single_id: bool,
    /// Descriptors of the caller that the process gets under the same numbers.
    pub preserve_fds: &'a [i32],
}

/// How long a receive from the channel of a joining process waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the process. The caller has one thread and reads on from the channel until [`FromInit::Running`]; when nothing
/// has come for a second, receiving fails with [`io::ErrorKind::WouldBlock`].
pub fn join(request: &JoinRequest<'_>) -> Result<(Child, Channel), Error> {
    let (outside, inside) = Channel::pair().map_err(Error::step("make a channel"))?;
    match process::clone(CloneFlags::empty(), request.cgroup).map_err(Error::step("fork"))? {
        Side::Child => {
            drop(outside);
            match enter(request, &inside) {
                Ok(()) => process::exit_now(0),
                Err(error) => {
                    let _ = inside.send_error(&error);
                    process::exit_now(1)
                }
            }
        }
        Side::Parent(joiner) => {
            drop(inside);
            let child = adopt(&outside, &joiner)?;
            // It is among the container's processes, which may stop it: nobody should wait for that for ever.
            outside.set_patience(PATIENCE).map_err(Error::step("start the process"))?;
            outside.send_go().map_err(|e| match e.kind() {
                // Killed with all that is in its container.
                io::ErrorKind::BrokenPipe => Error::Vanished,
                _ => Error::step("start the process")(e),
            })?;
            Ok((child, outside))
        }
    }
}

/// The process that a joiner has cloned for us, and that waits for [`Channel::send_go`].
pub(super) fn adopt(outside: &Channel, joiner: &Child) -> Result<Child, Error> {
    let first = first_word(outside, joiner);
    let _ = rustix::process::waitid(WaitId::PidFd(joiner.pidfd.as_fd()), WaitIdOptions::EXITED);
    match first? {
        FromInit::Pid(pid) => {
            // It is our child and not waited for yet, so the number is still its own.
            let gone = || Error::step("start the process")(io::Error::from(io::ErrorKind::NotFound));
            let number = Pid::from_raw(pid).ok_or_else(gone)?;
            let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty())
                .map_err(Error::step("start the process"))?;
            Ok(Child { pid, pidfd })
        }
        FromInit::Failed(error) => Err(error),
        _ => Err(Error::Vanished),
    }
}

/// What the joiner says. One that is killed before it says anything has cloned a child that we do not know, or has not: that
/// child would keep the channel open and wait for us, as we for it. It ends when the caller, with [`Error::Vanished`],
/// lets go of the channel.
fn first_word(outside: &Channel, joiner: &Child) -> Result<FromInit, Error> {
    let step = || Error::step("start the process");
    let ready = |fds: &mut [PollFd<'_>], timeout: PollTimeout| loop {
        match poll(fds, timeout) {
            Err(nix::Error::EINTR) => {}
            Err(e) => break Err(step()(io::Error::from(e))),
            Ok(_) => break Ok(fds[0].any() == Some(true)),
        }
    };
    let channel = || PollFd::new(outside.as_fd(), PollFlags::POLLIN);
    let mut both = [channel(), PollFd::new(joiner.pidfd.as_fd(), PollFlags::POLLIN)];
    // It may have spoken and ended between the looks at the one and the other.
    if ready(&mut both, PollTimeout::NONE)? || ready(&mut [channel()], PollTimeout::ZERO)? {
        outside.receive().map_err(step())
    } else {
        Err(Error::Vanished)
    }
}

fn enter(request: &JoinRequest<'_>, channel: &Channel) -> Result<(), Error> {
    set_oom_score(request.process)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Error::step("hide from the container"))?;
    nix::sched::setns(request.container, request.namespaces).map_err(Error::step("enter the container"))?;
    become_root(request.process, request.single_id)?;
    match process::clone(CloneFlags::CLONE_PARENT, None).map_err(Error::step("fork into the container"))? {
        Side::Parent(child) => channel.send_pid(child.pid).map_err(Error::step("report the process")),
        Side::Child => {
            let error = start(request, channel);
            let _ = channel.send_error(&error);
            process::exit_now(1)
        }
    }
}

fn start(request: &JoinRequest<'_>, channel: &Channel) -> Error {
    let prepared = (|| {
        channel.wait_go().map_err(Error::step("wait for the start"))?;
        rustix::process::setsid().map_err(Error::step("make a session"))?;
        let root = Root::open_dir(Path::new("/")).map_err(Error::step("open the container's root"))?;
        let slave = if request.process.terminal {
            let terminal = make_terminal(&root).map_err(Error::step("make a terminal"))?;
            channel.send_terminal(&terminal.master).map_err(Error::step("hand out the terminal"))?;
            Some(terminal.slave)
        } else {
            None
        };
        Ok((root, slave))
    })();
    match prepared {
        Ok((root, slave)) => launch::launch(Entry {
            process: request.process,
            root: &root,
            stdio: &request.stdio,
            slave,
            window: request.window,
            single_id: request.single_id,
            init_binary: None,
            preserve_fds: request.preserve_fds,
            channel,
        }),
        Err(e) => e,
    }
}
