//! Finding containers: names, ids, listings, states.

use super::Error;
use super::id::ContainerId;
use super::record::{Exit, FORMAT, Live, ProcessId, Record, Started, Status};
use super::rename::Names;
use crate::state::{self, Durability, Lock, Paths, read_json};
use crate::userns::start_time;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The places of one container.
#[derive(Clone, Debug)]
pub struct Places {
    /// In the data root: records and the writable layer.
    pub data: PathBuf,
    /// In the run root: lock, socket, live state; and the record of a `--rm` container.
    pub run: PathBuf,
}

impl Places {
    /// Of the container with this id.
    pub fn of(paths: &Paths, id: &ContainerId) -> Self {
        Self { data: paths.containers().join(id.as_str()), run: paths.run_containers().join(id.as_str()) }
    }

    /// The lock that its monitor holds.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// Whether there is anything of it: it is being made or removed, or is there, or is left over.
    pub fn exist(&self) -> bool {
        self.data.exists() || self.run.exists()
    }

    /// While it is being removed: its record, with the volumes that go too.
    pub(super) fn removing(&self) -> PathBuf {
        self.run.join("removing.json")
    }

    /// Where its record is.
    pub fn record(&self, rm: bool) -> PathBuf {
        if rm { self.run.join("spec.json") } else { self.data.join("spec.json") }
    }
}

/// One container as found on disk.
#[derive(Clone, Debug)]
pub struct Container {
    /// What it is.
    pub record: Record,
    /// Where it is.
    pub places: Places,
    /// What it does.
    pub status: Status,
    /// Its processes, if it runs.
    pub live: Option<Live>,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}

/// An entry of a listing: a container, or one whose record cannot be read.
#[derive(Debug)]
pub enum Entry {
    /// A container.
    Whole(Box<Container>),
    /// Its id and why it cannot be read.
    Broken(ContainerId, Error),
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

impl ProcessId {
    /// Of a process that is alive now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// A descriptor of it, if it is still that process.
    pub fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // The descriptor pins whatever has the number now; then it is compared.
        (start_time(self.pid) == Some(self.start_time)).then_some(pidfd)
    }
}

/// Reads one container. `Ok(None)` if there is none with this id.
pub fn load(paths: &Paths, id: &ContainerId) -> Result<Option<Container>, Error> {
    load_named(paths, id, |given| Names::new(paths).of(given, id))
}

/// [`load`], with the name that the container has now, which is told from the one that it was given.
fn load_named(
    paths: &Paths,
    id: &ContainerId,
    name: impl FnOnce(&str) -> String,
) -> Result<Option<Container>, Error> {
    let places = Places::of(paths, id);
    let record: Option<Record> = match read_json(&places.record(false))? {
        Some(record) => Some(record),
        None => read_json(&places.record(true))?,
    };
    let Some(mut record) = record else { return Ok(None) };
    if record.format != FORMAT {
        return Err(Error::Format { id: id.clone(), format: record.format });
    }
    if let Some(limits) = super::resources::updated_limits(&record, &places)? {
        record.limits = limits;
    }
    super::networks::load(&mut record, &places)?;
    record.name = name(&record.name);
    let (status, live, exit) = status(&places)?;
    Ok(Some(Container { record, places, status, live, exit }))
}

/// What a container does is derived, never stored: it runs if and only if its monitor holds the lock.
fn status(places: &Places) -> Result<(Status, Option<Live>, Option<Exit>), Error> {
    if Lock::is_held(&places.lock())? {
        // One that cannot be read is as good as none: the lock says who the monitor is.
        let live: Option<Live> = read_json(&places.run.join("live.json")).unwrap_or_default();
        let status = live.as_ref().map_or(Status::Starting, running);
        // Between start and end of the look the monitor may have ended; then the lock is free now.
        if Lock::is_held(&places.lock())? {
            return Ok((status, live, None));
        }
    }
    let exit: Option<Exit> = read_json(&places.data.join("exit.json"))?;
    let started: Option<Started> = read_json(&places.data.join("state.json"))?;
    let status = match (&started, &exit) {
        (None, _) => Status::Created,
        (Some(started), Some(exit)) if exit.started == started.started => {
            Status::Exited { code: exit.code, started: exit.started, finished: exit.finished }
        }
        // Its monitor was killed, the machine went down, or the run root is lost.
        (Some(started), _) if Lock::is_kept(&places.data)? && started.boot_id == state::boot_id()? => {
            let live = started.monitor.and_then(|monitor| of_monitor(started, monitor));
            let status = live.as_ref().map_or(Status::Starting, running);
            return Ok((status, live, None));
        }
        (Some(started), _) => Status::Exited { code: 137, started: started.started, finished: 0 },
    };
    Ok((status, None, exit))
}

/// What `live.json` would say: a monitor has one child.
fn of_monitor(started: &Started, monitor: ProcessId) -> Option<Live> {
    let _held = monitor.open()?;
    let pid = monitor.pid;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let init = children.split_whitespace().find_map(|child| ProcessId::of(child.parse().ok()?))?;
    let (started, boot_id) = (started.started, started.boot_id.clone());
    Some(Live { monitor, init, started, boot_id, cgroup: None, networks: Vec::new(), published: Vec::new() })
}

/// Whether a cgroup is frozen is for the kernel to tell.
fn running(live: &Live) -> Status {
    let started = live.started;
    match &live.cgroup {
        Some(cgroup) if crate::sandbox::cgroup::is_frozen(&cgroup.path) => Status::Paused { started },
        _ => Status::Running { started },
    }
}

/// Every container but the steps of builds, newest first: what a user is shown, and means by all. One bad record is one broken
/// entry.
pub fn list(paths: &Paths) -> Result<Vec<Entry>, Error> {
    let is_step =
        |entry: &Entry| matches!(entry, Entry::Whole(container) if container.record.settings.build_step);
    let mut entries = list_with_steps(paths)?;
    entries.retain(|entry| !is_step(entry));
    Ok(entries)
}

/// The same with the steps of builds, which need layers, volumes, ids and addresses like all others.
pub fn list_with_steps(paths: &Paths) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let names = Names::new(paths);
    for id in ids(paths)? {
        match load_named(paths, &id, |given| names.of(given, &id)) {
            Ok(Some(container)) => entries.push(Entry::Whole(Box::new(container))),
            // Being made or removed at this moment, or left over: nothing to show.
            Ok(None) => {}
            Err(e) => entries.push(Entry::Broken(id, e)),
        }
    }
    entries.sort_by_key(|entry| match entry {
        Entry::Whole(container) => std::cmp::Reverse(container.record.created),
        Entry::Broken(..) => std::cmp::Reverse(0),
    });
    Ok(entries)
}

/// The ids of all folders, in the data root and in the run root.
pub fn ids(paths: &Paths) -> Result<Vec<ContainerId>, Error> {
    Ok(folders(paths)?.found.into_keys().collect())
}

/// The name that a run folder gets before it is removed: no id begins so.
pub(super) fn gone_name(id: &str) -> String {
    format!(".gone-{id}.{}", std::process::id())
}

/// The number of the process that removes what has this name.
fn is_gone(name: &str) -> Option<&str> {
    name.strip_prefix(".gone-")?.split('.').next_back()
}

/// What is in the folders of containers.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// The ids, in the data root and in the run root, and whether there is one in the latter.
    pub(super) found: BTreeMap<ContainerId, bool>,
    /// Run folders that were set aside to be removed, and whose remover is dead.
    pub(super) gone: Vec<PathBuf>,
    /// Whether the run root has had no container yet: after a reboot, or when it was lost.
    pub(super) run_is_new: bool,
}

/// Reads both folders of containers.
pub(super) fn folders(paths: &Paths) -> Result<Folders, Error> {
    let mut found = Folders::default();
    for (folder, is_run) in [(paths.containers(), false), (paths.run_containers(), true)] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                found.run_is_new |= is_run;
                continue;
            }
            Err(e) => return Err(state::Error::Io { action: "read", path: folder, source: e }.into()),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = ContainerId::parse(name) {
                found.found.insert(id, is_run);
            } else if let Some(Ok(pid)) = is_gone(name).map(str::parse::<u32>)
                && !state::is_alive(pid)
            {
                found.gone.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// The container that the user means: by name, by id, or by the start of its id.
pub fn find(paths: &Paths, what: &str) -> Result<Container, Error> {
    let id = find_id(paths, what)?;
    // What was found by its name has it.
    let found = match id.as_str().starts_with(what) {
        false => load_named(paths, &id, |_| what.to_owned()),
        true => load(paths, &id),
    };
    found?.ok_or_else(|| Error::NotFound(what.to_owned()))
}

/// The id of the container that the user means, whether its record can be read or not.
pub fn find_id(paths: &Paths, what: &str) -> Result<ContainerId, Error> {
    let missing = || Error::NotFound(what.to_owned());
    if let Some(id) = ContainerId::parse(what) {
        return Ok(id);
    }
    let by_name = || ContainerId::parse(fs::read_link(paths.names().join(what)).ok()?.to_str()?);
    if let Some(id) = is_name(what).then(by_name).flatten() {
        return Ok(id);
    }
    if what.is_empty() || !what.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(missing());
    }
    let mut matching = ids(paths)?.into_iter().filter(|id| id.as_str().starts_with(what));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::Ambiguous(what.to_owned())),
        (None, _) => Err(missing()),
    }
}

/// Whether a text can be a container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub fn is_name(text: &str) -> bool {
    state::is_name(text, 255)
}

/// Takes a name for a container: an exclusive link, so that two can never have the same.
pub fn take_name(paths: &Paths, name: &str, id: &ContainerId) -> Result<(), Error> {
    state::create_dir_private(&paths.names())?;
    let link = paths.names().join(name);
    for _ in 0..3 {
        match std::os::unix::fs::symlink(id.as_str(), &link) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(state::Error::Io { action: "create", path: link, source: e }.into()),
        }
        // Taken. If its owner is gone without a trace (a --rm container when the machine went down), it is free.
        state::create_dir_private(&paths.locks())?;
        let _lock = Lock::exclusive(&paths.locks().join("names"))?;
        if let Some(by) = owner_of(paths, name)? {
            return Err(Error::NameTaken { name: name.to_owned(), by });
        }
    }
    Err(Error::NameTaken { name: name.to_owned(), by: id.clone() })
}

/// Whose a name is. One whose container is gone is freed. The caller holds the lock of the names.
pub(super) fn owner_of(paths: &Paths, name: &str) -> Result<Option<ContainerId>, Error> {
    let link = fs::read_link(paths.names().join(name));
    let Some(owner) = link.ok().and_then(|id| ContainerId::parse(id.to_str()?)) else { return Ok(None) };
    if Places::of(paths, &owner).exist() {
        return Ok(Some(owner));
    }
    release_name(paths, name, &owner).map(|()| None)
}

/// Gives a name back, if it is this container's.
pub fn release_name(paths: &Paths, name: &str, id: &ContainerId) -> Result<(), Error> {
    let link = paths.names().join(name);
    if fs::read_link(&link).is_ok_and(|owner| owner.to_str() == Some(id.as_str())) {
        state::remove_file_if_there(&link)?;
    }
    Ok(())
}

/// Takes away names of containers that are gone, and gives containers their names that have none: a power cut may have
/// taken a link that was not on the disk yet. That is looked at if `was_cut`.
pub(super) fn mend_names(paths: &Paths, was_cut: bool) -> Result<(), Error> {
    state::create_dir_private(&paths.locks())?;
    let _lock = Lock::exclusive(&paths.locks().join("names"))?;
    for entry in fs::read_dir(paths.names()).into_iter().flatten().flatten() {
        let owner = fs::read_link(entry.path()).ok().and_then(|id| ContainerId::parse(id.to_str()?));
        // Whoever takes a name has the run folder already.
        if owner.is_some_and(|id| !Places::of(paths, &id).exist()) {
            state::remove_file_if_there(&entry.path())?;
        }
    }
    for id in if was_cut { ids(paths)? } else { Vec::new() } {
        let Ok(Some(Container { record, .. })) = load(paths, &id) else { continue };
        let link = paths.names().join(&record.name);
        match is_name(&record.name).then(|| std::os::unix::fs::symlink(id.as_str(), &link)) {
            // Taken by another meanwhile: it is still known by its id.
            Some(Err(e)) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(state::Error::Io { action: "create", path: link, source: e }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives back all names that are this container's: for one whose record cannot tell.
pub fn release_names(paths: &Paths, id: &ContainerId) -> Result<(), Error> {
    for entry in fs::read_dir(paths.names()).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str() {
            release_name(paths, name, id)?;
        }
    }
    Ok(())
}

/// Writes a record where it belongs.
pub fn save(places: &Places, record: &Record) -> Result<(), Error> {
    let durability = if record.rm { Durability::Process } else { Durability::PowerCut };
    Ok(state::write_json(&places.record(record.rm), record, durability)?)
}
