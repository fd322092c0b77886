//! Getting into U.

use super::ids::find_helper;
use super::{Error, Identity, Mode};
use crate::kernel::process::{self, Side};
use crate::state::{self, Durability, Lock, Paths};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::DumpableBehavior;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a process came into U.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// It was there.
    Already,
    /// It joined another process's.
    Joined,
    /// It made a new one: [`advertise`] it if this process lives on.
    Made,
}

/// The note that says which processes, by pid and [`start_time`], are in U and last: who made it, and who keeps it.
#[derive(Default, Serialize, Deserialize)]
struct Note {
    processes: Vec<(i32, u64)>,
}

/// Whether this process is root in a user namespace that is not the host's.
pub fn is_inside() -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
            super::IdMap::parse(&map).0 != [super::IdRange { inside: 0, outside: 0, count: u32::MAX }]
        })
}

/// Writes the id maps of a namespace from outside it: the half of [`enter`] that the entering process cannot do.
#[derive(Debug)]
pub struct Mapper {
    commands: Option<[Command; 2]>,
}

const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

impl Mapper {
    /// For the process `pid`, which has left or is about to leave for a new namespace.
    pub fn new(identity: &Identity, pid: i32) -> Self {
        let Mode::Subordinate { uids, gids } = &identity.mode else { return Self { commands: None } };
        let command = |helper: &str, map: &super::IdMap| {
            let mut command = Command::new(find_helper(helper).unwrap_or_else(|| PathBuf::from(helper)));
            command.arg(pid.to_string());
            command.args(map.0.iter().flat_map(|r| [r.inside, r.outside, r.count]).map(|n| n.to_string()));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            command
        };
        Self { commands: Some([command(HELPERS[0], uids), command(HELPERS[1], gids)]) }
    }

    /// Runs both helpers at once and waits for them. Does nothing in single-id mode.
    pub fn map(self) -> Result<(), Error> {
        let Some(commands) = self.commands else { return Ok(()) };
        let started = commands.map(|mut command| command.spawn());
        for (helper, child) in HELPERS.into_iter().zip(started) {
            let failed = |message: String| Error::Helper { helper, message };
            let mut child = child.map_err(|e| failed(e.to_string()))?;
            let status = child.wait().map_err(|e| failed(e.to_string()))?;
            if !status.success() {
                let mut message = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    let _ = stderr.read_to_string(&mut message);
                }
                let message = message.trim().trim_start_matches(helper).trim_start_matches(": ");
                return Err(failed(if message.is_empty() { status.to_string() } else { message.to_owned() }));
            }
        }
        Ok(())
    }
}

/// Makes this process root in U. It must have one thread.
pub fn enter(paths: &Paths, identity: &Identity) -> Result<Namespace, Error> {
    if let Some(found) = find(paths, identity)? {
        return Ok(found);
    }
    // Who is making one that lasts will be done sooner than we.
    if making(paths).is_ok()
        && let Some(found) = find(paths, identity)?
    {
        return Ok(found);
    }
    make(identity, || mapped_by_child(identity))
}

/// [`enter`] for a process that lasts and is no container's monitor: later ones may join it, whoever made the namespace.
pub fn enter_to_keep(paths: &Paths, identity: &Identity) -> Result<(), Error> {
    let _lock = making(paths)?;
    if find(paths, identity)?.is_none() {
        make(identity, || mapped_by_child(identity))?;
    }
    advertise(paths)
}

/// The helpers have no power over a namespace from within it: a child stays outside and runs them.
fn mapped_by_child<'a>(identity: &Identity) -> Result<WriteMaps<'a>, Error> {
    let (mut ours, mut theirs) =
        std::os::unix::net::UnixStream::pair().map_err(Error::step("create a socket pair"))?;
    let target = std::process::id().cast_signed();
    match process::fork().map_err(Error::step("fork"))? {
        Side::Child => {
            drop(ours);
            let mut go = [0];
            if theirs.read_exact(&mut go).is_ok() {
                let answer = match Mapper::new(identity, target).map() {
                    Ok(()) => String::new(),
                    Err(e) => e.to_string(),
                };
                let _ = theirs.write_all(answer.as_bytes());
                process::exit_now(0);
            }
            process::exit_now(1)
        }
        Side::Parent(child) => {
            drop(theirs);
            Ok(Box::new(move || {
                ours.write_all(&[1]).map_err(Error::step("start the id map helper"))?;
                let mut answer = String::new();
                ours.read_to_string(&mut answer).map_err(Error::step("wait for the id map helper"))?;
                let _ = rustix::process::waitid(
                    rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&child.pidfd)),
                    rustix::process::WaitIdOptions::EXITED,
                );
                if answer.is_empty() { Ok(()) } else { Err(Error::of_helper(&answer)) }
            }))
        }
    }
}

/// Makes this process root in the namespace of another process of this user: of a monitor, to have power over its
/// container. [`enter`] may lead to another one with the same map, once the process that left the note is gone.
pub fn join(process: &OwnedFd) -> Result<(), Error> {
    if is_inside() {
        return Ok(());
    }
    setns(process, CloneFlags::CLONE_NEWUSER).map_err(Error::step("join the user namespace"))?;
    become_root()
}

/// What writes the maps of the namespace that this process has just made.
pub type WriteMaps<'a> = Box<dyn FnOnce() -> Result<(), Error> + 'a>;

/// [`enter`] for a process that lasts, and that later ones may join, with the maps of a new namespace written by whoever
/// `prepare` (called before leaving the old one) arranges. Of several that come at once one makes the namespace and the
/// others wait for it: what is in one has no power over what is nested in another.
pub fn enter_to_stay<'a>(
    paths: &Paths,
    identity: &Identity,
    prepare: impl FnOnce() -> Result<WriteMaps<'a>, Error>,
) -> Result<Namespace, Error> {
    if let Some(found) = find(paths, identity)? {
        return Ok(found);
    }
    let _lock = making(paths)?;
    if let Some(found) = find(paths, identity)? {
        return Ok(found);
    }
    let made = make(identity, prepare)?;
    advertise(paths)?;
    Ok(made)
}

/// While this is held nobody else makes a namespace.
fn making(paths: &Paths) -> Result<Lock, Error> {
    Lock::exclusive(&paths.run().join("userns.lock"))
        .map_err(|e| Error::step("wait for the user namespace")(io::Error::other(e)))
}

/// The namespace that this process is in already, or another process's, joined; none if there is none.
fn find(paths: &Paths, identity: &Identity) -> Result<Option<Namespace>, Error> {
    if is_inside() {
        return Ok(Some(Namespace::Already));
    }
    // One that has ended and that nobody has waited for yet looks as if it could be joined, and cannot.
    if !joinable_processes(paths, identity).any(|process| setns(&process, CloneFlags::CLONE_NEWUSER).is_ok())
    {
        return Ok(None);
    }
    become_root()?;
    Ok(Some(Namespace::Joined))
}

fn make<'a>(
    identity: &Identity,
    prepare: impl FnOnce() -> Result<WriteMaps<'a>, Error>,
) -> Result<Namespace, Error> {
    let write_maps = prepare()?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| Error::Refused(e.into()))?;
    dumpable()?;
    match &identity.mode {
        Mode::Subordinate { .. } => write_maps()?,
        Mode::Single { .. } => {
            let write = |file: &str, text: &str| {
                fs::write(format!("/proc/self/{file}"), text).map_err(Error::step("write the id map"))
            };
            write("setgroups", "deny")?;
            write("uid_map", &format!("0 {} 1\n", identity.uid))?;
            write("gid_map", &format!("0 {} 1\n", identity.gid))?;
        }
    }
    become_root()?;
    Ok(Namespace::Made)
}

/// Uid and gid 0 of the namespace are the caller's own ids, so nothing changes but that the capabilities count
/// and files are made as root's; the extra call is for a caller whose real ids were mapped elsewhere.
fn become_root() -> Result<(), Error> {
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).map_err(Error::step("become root in the user namespace"))?;
    setresuid(uid, uid, uid).map_err(Error::step("become root in the user namespace"))?;
    dumpable()
}

fn dumpable() -> Result<(), Error> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Error::step("stay visible"))
}

fn note_path(paths: &Paths) -> PathBuf {
    paths.run().join("userns.json")
}

/// Tells later processes of this user that they may join this one's namespace, for as long as it lives. The caller holds the
/// lock.
fn advertise(paths: &Paths) -> Result<(), Error> {
    let path = note_path(paths);
    // One that cannot be read is as good as none.
    let mut note: Note = state::read_json(&path).ok().flatten().unwrap_or_default();
    note.processes.retain(|(pid, start)| start_time(*pid) == Some(*start));
    let pid = std::process::id().cast_signed();
    let start =
        start_time(pid).ok_or_else(|| Error::step("read /proc")(io::Error::from(io::ErrorKind::NotFound)))?;
    note.processes.push((pid, start));
    state::write_json(&path, &note, Durability::Process)
        .map_err(|e| Error::step("leave a note")(io::Error::other(e)))
}

/// The processes of this user in a namespace with the map that we would make: who has left a note; and for when those are
/// gone, all that have joined it and last: the monitor of every container, the process of every network. Looked for one
/// after another, as they are asked for.
fn joinable_processes(paths: &Paths, identity: &Identity) -> impl Iterator<Item = OwnedFd> {
    let note: Option<Note> = state::read_json(&note_path(paths)).ok().flatten();
    let signed = |folder: PathBuf, lock: &'static str| {
        let entries = std::iter::once_with(move || fs::read_dir(folder).into_iter().flatten().flatten());
        entries.flatten().filter_map(move |entry| Lock::holder(&entry.path().join(lock)))
    };
    let monitors = signed(paths.run_containers(), "lock");
    let networks = signed(paths.run().join("networks"), "process");
    note.unwrap_or_default()
        .processes
        .into_iter()
        .chain(monitors)
        .chain(networks)
        .filter_map(|(pid, start)| joinable(pid, start, identity))
}

/// A process, if it is the one that started then, and in such a namespace.
fn joinable(pid: i32, start: u64, identity: &Identity) -> Option<OwnedFd> {
    let number = rustix::process::Pid::from_raw(pid)?;
    let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()).ok()?;
    // The descriptor pins the process; only now can its number be trusted to be the one that was noted.
    if start_time(pid)? != start {
        return None;
    }
    // Both: of a namespace that is being made the one may be there before the other.
    let map =
        |file: &str| Some(super::IdMap::parse(&fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?));
    let (uid_map, gid_map) = (map("uid_map")?, map("gid_map")?);
    let one = |id| super::IdMap(vec![super::IdRange { inside: 0, outside: id, count: 1 }]);
    let same = match &identity.mode {
        Mode::Subordinate { uids, gids } => uid_map == *uids && gid_map == *gids,
        Mode::Single { .. } => uid_map == one(identity.uid) && gid_map == one(identity.gid),
    };
    same.then_some(pidfd)
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22): with the boot id, tells a
/// process from a later one that got the same pid.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(22 - 3)?.parse().ok()
}
