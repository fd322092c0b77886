//! The monitor: the one process of ours that a running container has.
//!
//! A fork of the CLI, without exec, so it costs no start-up and shares its pages. In order: it leaves the CLI's session
//! and streams, becomes root in the user's namespace, makes the writable layer, spawns the container's first process,
//! writes `live.json`, and runs the session. When the process has ended it writes `exit.json` (or removes
//! everything, for `--rm`), tells the clients, and is gone; the end of its process releases the lock.
//!
//! The CLI stays outside of the user's namespace, from where the set-uid helpers can write its id map, and waits.

use super::leftovers::MountNamespace;
pub use super::mounting::ExtraMount;
use super::mounting::{Mounting, in_one_line, write_files};
use super::networks::{self, Connections};
use super::record::{Exit, Live, MountKind, MountUse, ProcessId, Record, Started};
use super::rename::release_name_of;
use super::request::NetworkMode;
use super::session::{Client, Ended, Failure, Frame, Pump, Streams, Undelivered, make_streams};
use super::store::{Entry, Places, load, now};
use super::{Error, logs, recover, resources};
use crate::kernel::process::{self, Side};
use crate::network::Lease;
use crate::rooted_fs::Root;
use crate::sandbox::{self, FromInit, Hooks, Owner, Process};
use crate::state::{self, Durability, Lock, Paths};
use crate::userns::{self, IdMap, Identity, Mapper, Mode};
use crate::volume::{self, Volumes};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Everything a start needs.
pub struct Start<'a> {
    /// Where state is.
    pub paths: &'a Paths,
    /// Who starts it.
    pub identity: &'a Identity,
    /// The container.
    pub record: &'a Record,
    /// Its places.
    pub places: &'a Places,
    /// Its lock, held.
    pub lock: Lock,
    /// That its data folder is in use, if somebody has said so already.
    pub kept: Option<Lock>,
    /// The first size of its terminal.
    pub window: Option<rustix::termios::Winsize>,
    /// Whether it is meant to go on when its caller has gone.
    pub background: bool,
    /// Descriptors from 3 on that its command gets (`--preserve-fds`).
    pub preserved: Vec<OwnedFd>,
    /// What is mounted in it that its record does not tell of.
    pub extra: &'a [ExtraMount<'a>],
}

/// Starts a container: forks its monitor and returns the first client's end of its session. The caller has one thread.
/// Whether the command runs is the first thing that the session tells.
pub fn start(start: Start<'_>) -> Result<Client, Error> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::io("make a socket pair"))?;
    let (mut map_request, map_side) = UnixStream::pair().map_err(Error::io("make a socket pair"))?;
    match process::fork().map_err(Error::io("fork the monitor"))? {
        Side::Child => {
            drop((ours, map_request));
            monitor(start, theirs, map_side);
            process::exit_now(0)
        }
        Side::Parent(monitor) => {
            drop((theirs, map_side, start.lock, start.preserved));
            // One byte asks for the id map; the end of the socket means that none is needed.
            let mut byte = [0];
            if map_request.read(&mut byte).unwrap_or(0) == 1 {
                let answer = match Mapper::new(start.identity, monitor.pid).map() {
                    Ok(()) => Vec::new(),
                    Err(e) => serde_json::to_vec(&Failure::of(&e)).unwrap_or_default(),
                };
                let _ = map_request.write_all(&answer);
            }
            Ok(Client::new(ours))
        }
    }
}

fn monitor(mut start: Start<'_>, client: UnixStream, map_side: UnixStream) {
    let mut client = Some(client);
    let preserved = std::mem::take(&mut start.preserved);
    let undelivered = match supervise(&start, &mut client, map_side, preserved) {
        Ok(undelivered) => undelivered,
        Err(error) => {
            let failure = Failure::of(&error);
            undo(&start, &failure);
            if let (Some(mut client), Ok(json)) = (client, serde_json::to_vec(&failure)) {
                let mut bytes = Vec::new();
                Frame::Failed(json).encode(&mut bytes);
                let _ = client.write_all(&bytes);
            }
            return;
        }
    };
    // A client that does not read, because it is stopped or its own reader is slow, must not keep the container: what
    // it has still to hear comes from a process that holds nothing of it.
    if !undelivered.is_empty()
        && let Ok(Side::Child) = process::fork()
    {
        drop(start.lock);
        let _ = process::set_title(&format!("coracle: last words of {}", start.record.name));
        undelivered.deliver();
    }
}

/// Leaves nothing half-made of a container that did not start.
fn undo(start: &Start<'_>, failure: &Failure) {
    let Start { paths, record, places, .. } = start;
    if record.rm {
        let _ = remove(paths, record, places);
    } else {
        let started: Option<Started> = state::read_json(&places.data.join("state.json")).ok().flatten();
        if let Some(started) = started {
            let code = i32::from(crate::diagnose::Diagnose::exit_code(failure));
            let (started, error) = (started.started, Some(failure.to_string()));
            let exit = Exit { code, finished: now(), started, error, oom_killed: false };
            let _ = recover::write_exit(paths, places, &exit);
        }
        let _ = recover::forget_run(places);
    }
}

fn supervise(
    start: &Start<'_>,
    client: &mut Option<UnixStream>,
    map_side: UnixStream,
    preserved: Vec<OwnedFd>,
) -> Result<Undelivered, Error> {
    let Start { paths, identity, record, places, .. } = start;
    leave_cli(&format!("monitor {}", record.name))?;
    let monitor = ProcessId::of(std::process::id().cast_signed());
    if let Some(ProcessId { pid, start_time }) = monitor {
        // Whoever wants to stop what does not get to run must know whom to stop.
        start.lock.sign(pid, start_time)?;
    }
    // The run root can be lost while we run (a log-out takes it away): this says then that we do.
    let _kept = if start.kept.is_none() { Lock::keep(&places.data).ok() } else { None };
    let cgroup = resources::begin(record, start.background)?;
    let leases = networks::lease(paths, record, places)?;
    let (files, listener, pipes) = enter_userns(paths, identity, map_side, || {
        let pipes = make_streams(record.interactive, record.spec.process.terminal);
        Ok((
            write_files(record, places, &leases.iter().collect::<Vec<_>>())?,
            listen(places)?,
            pipes.map_err(Error::io("make pipes"))?,
        ))
    })?;
    let addresses = leases.iter().map(|lease| (lease.network().name.clone(), lease.address())).collect();
    let members = leases.into_iter().map(Lease::join).collect::<Result<Vec<_>, _>>()?;
    let (stdio, mut streams) = pipes;

    let joins = joined(paths, record)?;
    let shm = match (&joins, record.spec.sharing.ipc) {
        (Some(other), Owner::Joined) => Some(sandbox::outside::shm_of(other.as_fd())?),
        _ => None,
    };
    let mounting = Mounting::prepare(paths, identity, record, places, files, start.extra)?;
    let furnish = |root: &Root, maps| super::create::furnish(paths, identity, record, root, maps);
    let made = mounting.make(&|root| furnish(root, Some(&mounting.maps)))?;
    if mounting.is_outside() {
        give_away(&stdio, &mounting.maps);
    }
    let started = now();
    if !record.rm {
        let state = Started { started, boot_id: state::boot_id()?, monitor, addresses };
        state::write_json(&places.data.join("state.json"), &state, Durability::PowerCut)?;
    }

    let cgroup = cgroup.finish(record, places)?;
    let (child, channel) = sandbox::spawn(
        &record.spec,
        &Hooks {
            root: &|| match &made.root {
                Some(root) => root.try_clone().map_err(|e| e.to_string()),
                None => mounting.mount_root(),
            },
            place: &mounting.place(places),
            mounts: mounting.mounts.clone(),
            ready: made.ready,
            joins,
            shm,
            copy: &volume::copy_contents,
            preserved: &preserved,
            maps: mounting.maps.clone(),
            single_id: matches!(identity.mode, Mode::Single { .. }),
            cgroup: cgroup.as_ref().map(|made| made.group.as_fd()),
            stdio,
            window: start.window,
            interfaces: &networks::interfaces(&members),
            furnish: &|root| match mounting.is_outside() {
                true => Ok(()),
                false => furnish(root, None).map_err(|e| in_one_line(&e)),
            },
        },
    )?;
    // Of a process that has ended nothing could be looked at.
    let namespace = match record.spec.sharing.pid {
        Owner::Own => None,
        _ => Some(MountNamespace::of(&child)?),
    };
    let is_connected = matches!(record.network, NetworkMode::Default | NetworkMode::Named(_));
    let network = is_connected.then(|| networks::namespace_of(&child)).transpose()?;
    channel.send_go().map_err(Error::io("start the container's first process"))?;
    let mut connections = None;
    if let Some(namespace) = network {
        let is_waiting = !members.is_empty();
        connections = Some(Connections::make(paths, record, places, members, namespace)?);
        if is_waiting {
            // If it has failed meanwhile, it says so below.
            let _ = channel.send_go();
        }
    }
    await_running(&channel, &child, &record.spec.process, &mut streams)?;
    drop((channel, made.root, preserved));
    let init = ProcessId::of(child.pid);
    if let (Some(init), Some(monitor)) = (init, monitor) {
        let kept = cgroup.as_ref().map(|made| made.kept.clone());
        let networks = connections.as_ref().map(Connections::networks).unwrap_or_default();
        let published = connections.as_ref().map(Connections::published).unwrap_or_default();
        let live =
            Live { monitor, init, started, boot_id: state::boot_id()?, cgroup: kept, networks, published };
        state::write_json(&places.run.join("live.json"), &live, Durability::Process)?;
    }

    if let Some(path) = &record.settings.pidfile {
        fs::write(path, child.pid.to_string()).map_err(|source| state::Error::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
    }

    let mut log = logs::LogWriter::open(&places.data, &record.log);
    let mut sink = |is_error: bool, bytes: &[u8]| {
        // A log that cannot be written (a full disk) must not hurt the container; the log itself notes the gap.
        let _ = log.write(if is_error { logs::Stream::Stderr } else { logs::Stream::Stdout }, bytes);
    };
    let mut pump = Pump::new(child.pidfd.as_fd(), streams, Some(listener), &mut sink)
        .map_err(Error::io("run the session"))?;
    if let Some(client) = client.take() {
        pump.add_client(client).map_err(Error::io("run the session"))?;
    }
    if let Some(connections) = &mut connections {
        pump.set_companion(connections);
    }
    pump.tell(&Frame::Started);
    // Nobody waits for us now. What cannot be cleaned up stays for the next command.
    if recover::is_needed(paths).unwrap_or(false) {
        let _ = recover::recover(paths);
    }
    if record.settings.timeout > 0 {
        pump.end_after(Duration::from_secs(record.settings.timeout.into()));
    }
    if record.settings.build_step {
        pump.end_with_clients();
    }
    let ended = pump.run().map_err(Error::io("run the session"))?;
    if let Some(namespace) = namespace {
        namespace.end();
    }
    let oom_killed = cgroup.as_ref().is_some_and(|made| made.group.oom_kills() > 0);
    if let Some(made) = &cgroup {
        let _ = resources::release_unnoted(places, &made.kept);
    }
    let concluded = conclude(start, started, ended, oom_killed);
    Ok(pump.finish(&match &concluded {
        Ok(()) => Frame::Exited(ended.exit_code()),
        Err(error) => Frame::Failed(serde_json::to_vec(&Failure::of(error)).unwrap_or_default()),
    }))
}

/// The first process of the container that is joined, if one is.
fn joined(paths: &Paths, record: &Record) -> Result<Option<OwnedFd>, Error> {
    let Some(id) = &record.settings.joins else { return Ok(None) };
    let container = load(paths, id)?.ok_or_else(|| Error::NotFound(id.to_string()))?;
    match super::lifecycle::init_of(paths, &container) {
        Ok(init) => Ok(Some(init)),
        Err(Error::State { name, .. }) => Err(Error::State {
            name,
            state: "not running, so its namespaces cannot be joined",
            fix: "start it first",
        }),
        Err(e) => Err(e),
    }
}

/// The pipes are the user's, whom the container does not know: its root is to open /dev/stdout, and pass it on.
fn give_away(stdio: &sandbox::Stdio, maps: &(IdMap, IdMap)) {
    let (Some(uid), Some(gid)) = (maps.0.outside(0), maps.1.outside(0)) else { return };
    for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Fifo);
        if is_pipe {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            let _ = rustix::fs::fchown(stream, Some(uid), Some(gid));
        }
    }
}

/// A process that outlives the CLI is nobody's job: its own session, no terminal, no working directory that could be in the way.
pub fn leave_cli(title: &str) -> Result<(), Error> {
    rustix::process::setsid().map_err(Error::io("make a session"))?;
    rustix::process::chdir("/").map_err(Error::io("change to /"))?;
    // Its files and its socket are the user's alone (SECURITY row 16), whatever the CLI's umask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(Error::io("open /dev/null"))?;
    for target in 0..=2 {
        process::replace_stdio(null.as_fd(), target).map_err(Error::io("leave the terminal"))?;
    }
    process::set_title(&format!("coracle: {title}")).map_err(Error::io("set the title"))
}

/// Becomes root in U. Where the CLI has to write the id map first, `meanwhile` is done while its helpers run: it
/// needs no ids but the user's own.
fn enter_userns<T>(
    paths: &Paths,
    identity: &Identity,
    mut map_side: UnixStream,
    meanwhile: impl Fn() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut done = None;
    userns::enter_to_stay(paths, identity, || {
        Ok(Box::new(|| {
            let step = |source| userns::Error::Step { action: "ask for the id map", source };
            map_side.write_all(&[1]).map_err(step)?;
            map_side.shutdown(std::net::Shutdown::Write).map_err(step)?;
            done = Some(meanwhile());
            let mut answer = Vec::new();
            map_side.read_to_end(&mut answer).map_err(step)?;
            match serde_json::from_slice::<Failure>(&answer) {
                Err(_) => Ok(()),
                Ok(failure) => Err(userns::Error::of_helper(&failure.to_string())),
            }
        }))
    })?;
    done.unwrap_or_else(meanwhile)
}

/// The socket for `attach`, named through its folder's descriptor: a path in `sun_path` may have 107 bytes only.
fn listen(places: &Places) -> Result<UnixListener, Error> {
    let folder = fs::File::open(&places.run).map_err(Error::io("open the run directory"))?;
    let path = places.run.join("attach");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/attach", folder.as_raw_fd()))
        .map_err(Error::io("make the attach socket"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, mode).map_err(Error::io("protect the attach socket"))?;
    Ok(listener)
}

/// Connects to a running container's session.
pub fn attach(places: &Places) -> Result<Client, Error> {
    let folder = fs::File::open(&places.run).map_err(Error::io("open the run directory"))?;
    UnixStream::connect(format!("/proc/self/fd/{}/attach", folder.as_raw_fd()))
        .map(Client::new)
        .map_err(Error::io("connect to the container's monitor"))
}

/// Follows a new process until its command runs.
pub(super) fn await_running(
    channel: &sandbox::Channel,
    child: &process::Child,
    process: &Process,
    streams: &mut Streams,
) -> Result<(), Error> {
    /// Seconds in which a joining process has to tell something.
    const PATIENCE: u32 = 30;
    let mut waited = 0;
    loop {
        let received = match channel.receive() {
            // Somebody inside may have stopped it.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && waited < PATIENCE => {
                waited += 1;
                let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::CONT);
                continue;
            }
            Err(e) => {
                let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
                return Err(Error::io("start the command")(e));
            }
            Ok(received) => received,
        };
        match received {
            FromInit::Running => return Ok(()),
            FromInit::Terminal(master) => *streams = Streams::from(master),
            FromInit::Failed(error) => return Err(error.into()),
            FromInit::ExecFailed(errno) => {
                let command = process.args.first().map_or("", String::as_str);
                return Err(sandbox::Error::exec(command, &std::io::Error::from_raw_os_error(errno)).into());
            }
            FromInit::Pid(_) => {}
        }
    }
}

/// Records how the container ended, or removes it.
fn conclude(start: &Start<'_>, started: u64, ended: Ended, oom_killed: bool) -> Result<(), Error> {
    let Start { paths, record, places, .. } = start;
    if record.settings.build_step && !record.spec.process.only_waits() {
        // Its build wants what it has written, and knows how it ended.
        return recover::forget_run(places);
    }
    if record.rm {
        return remove(paths, record, places);
    }
    let exit = Exit { code: ended.exit_code(), finished: now(), started, error: None, oom_killed };
    recover::write_exit(paths, places, &exit)?;
    recover::forget_run(places)
}

/// Removes a container that is not running: its writable layer, its volumes of its own, its name, its folders. The
/// caller holds its lock and is root in the user's namespace. It may have been begun by somebody who was killed.
pub fn remove(paths: &Paths, record: &Record, places: &Places) -> Result<(), Error> {
    if record.rm && !places.record(false).exists() {
        state::remove_tree(&places.data)?;
    } else {
        // The record goes first, so that there is no half container; what else is to go is then known from this. A run
        // root that is full does not keep the container.
        match state::write_json(&places.removing(), record, Durability::Process) {
            // The run folder is gone already when all of this is done again, as root.
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
            Err(error) if !state::is_out_of_space(&error) => return Err(error.into()),
            _ => {}
        }
        state::trash(paths, &places.data)?;
    }
    for used in &record.mounts {
        if let MountKind::Volume { name, anonymous: true } = &used.kind {
            // Another container may have it by --volumes-from: then it stays, as with docker.
            let users = |name: &str| Ok(other_users(paths, record, name));
            match Volumes::new(paths).remove(name, users) {
                Err(volume::Error::Missing(_) | volume::Error::InUse { .. }) => {}
                other => other?,
            }
        }
    }
    release_name_of(paths, record)?;
    recover::forget_run(places)?;
    // Also what this process could not delete before it became root. Of a --rm container there is nothing there.
    if record.rm { Ok(()) } else { Ok(state::empty_trash(paths)?) }
}

/// The other containers that have a volume.
fn other_users(paths: &Paths, record: &Record, volume: &str) -> Vec<String> {
    let has = |m: &MountUse| matches!(&m.kind, MountKind::Volume { name, .. } if name == volume);
    let entries = super::store::list_with_steps(paths).unwrap_or_default().into_iter();
    entries
        .filter_map(|entry| match entry {
            Entry::Whole(other) if other.record.id != record.id => Some(other.record),
            _ => None,
        })
        .filter(|other| other.mounts.iter().any(has))
        .map(|other| other.name)
        .collect()
}
