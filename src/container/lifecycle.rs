//! What is done to containers that exist: stop, kill, wait, remove, restart.

use super::id::ContainerId;
use super::monitor;
use super::record::{Live, ProcessId, Record, Status};
use super::session::Client;
use super::store::{Container, Places, find, load, release_names};
use super::{Error, recover, resources};
use crate::diagnose::Diagnose;
use crate::state::{self, Lock, Paths};
use crate::userns::{self, Identity};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::Signal;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Takes a stopped container's lock, for starting or removing it.
pub fn lock(container: &Container) -> Result<Lock, Error> {
    let until = Instant::now() + STARTING;
    loop {
        state::create_dir_private(&container.places.run)?;
        match Lock::try_exclusive(&container.places.lock()) {
            Ok(Some(lock)) => return Ok(lock),
            // Somebody starts it, or is copying into it: that will be over, the one way or the other.
            Ok(None) if !container.places.run.join("live.json").exists() && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(None) => return Err(running(container)),
            Err(e) if e.io_kind() == Some(ErrorKind::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn running(container: &Container) -> Error {
    Error::State {
        name: container.record.name.clone(),
        state: "running",
        fix: "stop it first ('coracle stop'), or use --force where the command has it",
    }
}

/// Starts a container that is not running. The caller talks to the session that comes back.
pub fn start(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    window: Option<rustix::termios::Winsize>,
) -> Result<Client, Error> {
    let lock = lock(container)?;
    // Between the look and the lock it may have run, or been removed.
    let Some(container) = load(paths, &container.record.id)? else {
        return Err(Error::NotFound(container.record.name.clone()));
    };
    if recover::run_folder_was_lost(&container.places)? {
        recover::forget_run(&container.places)?;
        return Err(running(&container));
    }
    if let Some(record) = recover::being_removed(&container.places) {
        // Whoever removed it was killed: this start comes too late.
        as_root(paths, identity, || monitor::remove(paths, &record, &container.places))?;
        return Err(Error::NotFound(record.name));
    }
    recover::conclude(paths, &container.places)?;
    let Container { record, places, .. } = &container;
    let preserved = Vec::new();
    monitor::start(monitor::Start {
        paths,
        identity,
        record,
        places,
        lock,
        kept: None,
        window,
        background: true,
        preserved,
        extra: &[],
    })
}

/// The processes of a running container: its first one and its monitor, both verified.
struct Running {
    init: OwnedFd,
    monitor: OwnedFd,
}

fn open_running(container: &Container) -> Option<Running> {
    let live: &Live = container.live.as_ref()?;
    Some(Running { init: live.init.open()?, monitor: live.monitor.open()? })
}

/// The monitor of a container that runs or is being started.
fn monitor_of(container: &Container) -> Option<OwnedFd> {
    let signed = || {
        let (pid, start_time) = Lock::holder(&container.places.lock())?;
        Some(ProcessId { pid, start_time })
    };
    container.live.as_ref().map(|live| live.monitor).or_else(signed)?.open()
}

pub(super) fn not_running(record: &Record) -> Error {
    Error::State { name: record.name.clone(), state: "not running", fix: "start it with 'coracle start'" }
}

/// A descriptor of a running container's first process. One that is just being started is waited for.
pub fn init_of(paths: &Paths, container: &Container) -> Result<OwnedFd, Error> {
    let container = settled(paths, container)?;
    open_running(&container).map(|r| r.init).ok_or_else(|| not_running(&container.record))
}

/// How long a container may take from its lock to its command, before a stop takes it for one that never gets there.
const STARTING: Duration = Duration::from_secs(5);

/// The container once it is not in the middle of being started any more.
pub(super) fn settled(paths: &Paths, container: &Container) -> Result<Container, Error> {
    let until = Instant::now() + STARTING;
    let mut container = container.clone();
    while container.status == Status::Starting && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
        container = load(paths, &container.record.id)?
            .ok_or_else(|| Error::NotFound(container.record.name.clone()))?;
    }
    Ok(container)
}

/// Sends a signal to a container's first process.
pub fn kill(paths: &Paths, container: &Container, signal: i32) -> Result<(), Error> {
    let init = init_of(paths, container)?;
    let signal = Signal::from_named_raw(signal).ok_or_else(|| Error::Request {
        what: format!("{signal} is no signal that can be sent"),
        fix: Some("use a name or number of signal(7)".into()),
    })?;
    rustix::process::pidfd_send_signal(&init, signal).map_err(Error::io("send the signal"))?;
    // As docker: a paused container is resumed to end, and only for that.
    if signal == Signal::KILL || signal.as_raw() == container.record.stop_signal {
        thaw(container);
    }
    Ok(())
}

/// Asks a container to stop, by `signal` (its own if none), and kills it if it does not within `timeout` seconds (its
/// own if none). Returns when everything is recorded. One that is not running is stopped already.
pub fn stop(
    paths: &Paths,
    container: &Container,
    timeout: Option<u32>,
    signal: Option<i32>,
) -> Result<(), Error> {
    let container = settled(paths, container)?;
    let Some(running) = open_running(&container) else {
        return match (&container.live, monitor_of(&container)) {
            (None, Some(monitor)) if container.status == Status::Starting => {
                // The machine is too busy, or something that it waits for does not answer. Nothing runs yet that could
                // be asked; the next command, or the caller, finishes what its monitor leaves.
                let _ = rustix::process::pidfd_send_signal(&monitor, Signal::KILL);
                wait_for(&monitor, None)?;
                wait_for_lock(&container)
            }
            // It has just ended by itself, and its monitor is about to write that down.
            (Some(_), Some(monitor)) => wait_for(&monitor, None).map(drop),
            _ => Ok(()),
        };
    };
    let record = &container.record;
    let seconds = timeout.unwrap_or(record.stop_timeout);
    let send = |signal| {
        if let Some(signal) = Signal::from_named_raw(signal) {
            // It may have ended by itself: then there is nothing to stop.
            let _ = rustix::process::pidfd_send_signal(&running.init, signal);
        }
    };
    if seconds > 0 {
        send(signal.unwrap_or(record.stop_signal));
        thaw(&container);
        if wait_for(&running.monitor, Some(Duration::from_secs(seconds.into())))? {
            return Ok(());
        }
    }
    send(Signal::KILL.as_raw());
    thaw(&container);
    wait_for(&running.monitor, None).map(drop)
}

/// Waits until nobody holds the lock of a container whose monitor is dead: its first process has a copy of it until
/// its command runs, and dies of its monitor's death a moment later.
fn wait_for_lock(container: &Container) -> Result<(), Error> {
    let until = Instant::now() + STARTING;
    while Lock::is_held(&container.places.lock())? && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Freezes all processes of a running container.
pub fn pause(paths: &Paths, container: &Container) -> Result<(), Error> {
    let container = settled(paths, container)?;
    let name = || container.record.name.clone();
    match container.status {
        Status::Running { .. } => resources::pause(&container),
        Status::Paused { .. } => Err(Error::State {
            name: name(),
            state: "already paused",
            fix: "resume it with 'coracle unpause'",
        }),
        _ => Err(not_running(&container.record)),
    }
}

/// Lets a paused container go on.
pub fn unpause(paths: &Paths, container: &Container) -> Result<(), Error> {
    let container = settled(paths, container)?;
    match container.status {
        Status::Paused { .. } => resources::unpause(&container),
        _ => Err(Error::State { name: container.record.name.clone(), state: "not paused", fix: "" }),
    }
}

/// Resumes a paused container; that it has ended meanwhile is fine.
fn thaw(container: &Container) {
    if let Status::Paused { .. } = container.status {
        let _ = resources::unpause(container);
    }
}

/// Waits for a process to end; whether it did.
fn wait_for(process: &OwnedFd, timeout: Option<Duration>) -> Result<bool, Error> {
    let until = timeout.map(|t| Instant::now() + t);
    loop {
        let left = until.map(|u| u.saturating_duration_since(Instant::now()));
        let left = left.map_or(PollTimeout::NONE, |l| {
            PollTimeout::try_from(l.as_millis().min(1 << 30) + 1).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(Error::io("wait for the container")(e)),
        }
    }
}

/// Waits until a container has ended and returns its exit code; of one that is removed when it ends, none.
pub fn wait(paths: &Paths, container: &Container) -> Result<Option<i32>, Error> {
    let container = settled(paths, container)?;
    let mut code = None;
    // The first process may have ended already: what counts is that the monitor has written it down.
    if let Some(monitor) = container.live.as_ref().and_then(|live| live.monitor.open()) {
        // The session tells the code even of a container that leaves no record.
        if let Ok(client) = monitor::attach(&container.places) {
            code = client.wait_exit().ok().flatten();
        }
        wait_for(&monitor, None)?;
    }
    match load(paths, &container.record.id)? {
        Some(Container { status: super::record::Status::Exited { code, .. }, .. }) => Ok(Some(code)),
        Some(_) if code.is_none() => Err(not_running(&container.record)),
        _ => Ok(code),
    }
}

/// Removes a container; with `force` a running one too, which then is killed.
pub fn remove(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    force: bool,
    timeout: Option<u32>,
    volumes: bool,
) -> Result<(), Error> {
    if container.status.is_running() {
        if !force {
            return Err(Error::State {
                name: container.record.name.clone(),
                state: "running",
                fix: "stop it first, or remove it with -f",
            });
        }
        stop(paths, container, timeout, None)?;
        if load(paths, &container.record.id)?.is_none() {
            return Ok(());
        }
    }
    let _lock = lock(container)?;
    // Anonymous volumes go with a --rm container, and with any other only when asked (-v), as docker's.
    let mut record = container.record.clone();
    if !volumes && !record.rm {
        record.mounts.clear();
    }
    as_root(paths, identity, || monitor::remove(paths, &record, &container.places))
}

/// Removes what is left of a container whose record cannot be read, unless it runs.
pub fn remove_broken(paths: &Paths, identity: &Identity, id: &ContainerId) -> Result<(), Error> {
    let places = Places::of(paths, id);
    state::create_dir_private(&places.run)?;
    let Some(_lock) = Lock::try_exclusive(&places.lock())? else {
        return Err(Error::State {
            name: id.short().to_owned(),
            state: "running",
            fix: "stop it first ('coracle stop')",
        });
    };
    as_root(paths, identity, || {
        state::trash(paths, &places.data)?;
        release_names(paths, id)?;
        recover::forget_run(&places)?;
        Ok(state::empty_trash(paths)?)
    })
}

/// Does something that makes room: as the user, and if files of subordinate ids are in the way, as root of the user's
/// namespace (which this process then stays in).
pub fn as_root(
    paths: &Paths,
    identity: &Identity,
    mut work: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let mut work = || state::with_ballast(paths, &mut work);
    match work() {
        Err(Error::Disk(state::Error::Io { source, .. }))
            if source.kind() == ErrorKind::PermissionDenied && !userns::is_inside() =>
        {
            userns::enter(paths, identity)?;
            work()
        }
        other => other,
    }
}

/// Makes this process root in the user's namespace: in the one that a container is nested in, if it runs.
pub(super) fn enter_its(paths: &Paths, identity: &Identity, container: &Container) -> Result<(), Error> {
    match container.live.as_ref().and_then(|live| live.monitor.open()) {
        Some(monitor) => userns::join(&monitor)?,
        None => drop(userns::enter(paths, identity)?),
    }
    Ok(())
}

/// Finishes what killed processes left, if there is anything.
pub fn tidy(paths: &Paths, identity: &Identity) -> Result<(), Error> {
    if recover::is_needed(paths)? {
        as_root(paths, identity, || recover::recover(paths))?;
    }
    Ok(())
}

/// Does something to each of several containers; an error with one does not keep the others from it. Returns the
/// names done, and the errors.
pub fn each(
    paths: &Paths,
    names: &[String],
    mut work: impl FnMut(&Container) -> Result<(), Error>,
) -> (Vec<String>, Vec<Error>) {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match find(paths, name).and_then(|container| work(&container)) {
            Ok(()) => done.push(name.clone()),
            Err(e) => errors.push(e),
        }
    }
    (done, errors)
}

/// Whether an error says that there is no such container.
pub fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound(_))
}

/// The places of a container, for its log.
pub fn log_dir(container: &Container) -> &std::path::Path {
    let Places { data, .. } = &container.places;
    data
}

/// The exit code for a set of errors.
pub fn worst(errors: &[Error]) -> u8 {
    errors.iter().map(Diagnose::exit_code).max().unwrap_or(0)
}
