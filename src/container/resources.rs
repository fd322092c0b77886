//! A container's cgroup over its life: when it gets one, where its name is kept, and how it goes.
//!
//! *When.* In a delegated tree it costs two system calls, so every container gets one. Elsewhere it takes the user's
//! systemd, some milliseconds: asked for limits (then it must work), for a container in the background (which people pause, watch and
//! leave running when they log out), and not for a plain foreground `run`, whose start would take longer for nothing it
//! uses. A container without one runs as well; `pause` and `update` say what it lacks.
//!
//! *Its name* is written to `cgroup.json` in the run folder before the cgroup is made, and [`release`] removes what is
//! named there when the container ends, however it ends ([`super::recover`]). A scope of systemd's goes by itself.
//!
//! *Limits* are in the record; `update` writes newer ones to `limits.json` beside it, which count from then on.

use super::Error;
use super::record::{Cgroup, Record};
use super::store::{Container, Places};
use crate::sandbox::cgroup::place::{self, Mode, Place};
use crate::sandbox::cgroup::systemd::{self, PendingScope, Scope, Systemd};
use crate::sandbox::cgroup::{self, Error as CgroupError, Group, Kind, Limits, Look};
use crate::state::{self, Durability};
use rustix::fs::FileType;
use std::path::PathBuf;

/// The leaf that holds who was in a place before it was divided.
const LEAF_OF_OTHERS: &str = "init";
/// The leaves of a scope.
const LEAF_OF_CONTAINER: &str = "container";
const LEAF_OF_MONITOR: &str = "monitor";
/// Podman's: what users start themselves.
const SLICE: &str = "user.slice";

/// What has been begun for a container's cgroup.
pub enum Preparation {
    /// It gets none.
    Without,
    /// One below a place that is ours.
    Below {
        /// The place.
        path: String,
        /// Controllers to hand down.
        enable: Vec<String>,
        /// Whether who is in it has to move.
        evacuate: bool,
    },
    /// systemd is making a scope.
    Scope {
        /// What it will say.
        pending: PendingScope,
        /// Its unit.
        unit: String,
        /// Whether the container cannot do without.
        is_needed: bool,
    },
}

/// A container's cgroup, made and limited.
pub struct Prepared {
    /// To clone into.
    pub group: Group,
    /// What is kept of it.
    pub kept: Cgroup,
}

/// What of a record cannot be had without a cgroup, in the flags' words; empty if nothing.
fn needs(record: &Record) -> String {
    let options = &record.cgroup;
    let flags = record.limits.flags();
    match (&options.parent, options.mode) {
        _ if !flags.is_empty() => flags,
        (Some(_), _) => "--cgroup-parent".to_owned(),
        (None, Mode::Split) => "--cgroups=split".to_owned(),
        _ => flags,
    }
}

/// Refuses what this machine cannot do until it is booted differently.
pub fn check_host(record: &Record) -> Result<(), Error> {
    let what = needs(record);
    match what.is_empty() || cgroup::kind() == Kind::Unified {
        true => Ok(()),
        false => Err(CgroupError::NoVersion2 { what, kind: cgroup::kind() }.into()),
    }
}

/// Decides where the cgroup goes, and asks systemd if need be, without waiting.
pub fn begin(record: &Record, background: bool) -> Result<Preparation, Error> {
    let (limits, options) = (&record.limits, &record.cgroup);
    check_host(record)?;
    if options.mode == Mode::Disabled || cgroup::kind() != Kind::Unified {
        return Ok(Preparation::Without);
    }
    let needed = limits.controllers();
    let parent = options.parent.as_deref();
    let what = needs(record);
    let is_needed = !what.is_empty();
    let slice = parent.filter(|parent| parent.ends_with(".slice"));
    let around = match (parent, slice) {
        (_, Some(_)) => cgroup::Around::default(),
        (Some(parent), None) => cgroup::Around { candidates: vec![given_parent(parent)?] },
        (None, None) => {
            let how = if needed.is_empty() { Look::Glance } else { Look::Closely };
            if options.mode == Mode::Split { cgroup::own(how) } else { cgroup::around(how) }
        }
    };
    let (missing, nearest) = match place::choose(&around, &needed) {
        Place::Below { path, enable, evacuate } => return Ok(Preparation::Below { path, enable, evacuate }),
        Place::Elsewhere { missing, nearest } => (missing, nearest),
    };
    let may_ask = options.mode != Mode::Split && (parent.is_none() || slice.is_some());
    let mut why = String::new();
    if may_ask && (is_needed || background) {
        let unit = format!("coracle-{}.scope", record.id);
        let scope = Scope {
            unit: unit.clone(),
            description: format!("coracle container {}", record.name),
            slice: slice.unwrap_or(SLICE).to_owned(),
            pid: std::process::id(),
        };
        let asked = Systemd::connect().and_then(|systemd| systemd.map(|s| s.request(scope)).transpose());
        match asked {
            Ok(Some(pending)) => return Ok(Preparation::Scope { pending, unit, is_needed }),
            Ok(None) => {
                why = "the user's systemd does not run, or XDG_RUNTIME_DIR does not lead to it".to_owned()
            }
            Err(e) => why = format!("the user's systemd cannot be reached: {e}"),
        }
    }
    match (is_needed, nearest) {
        (false, _) => Ok(Preparation::Without),
        (true, Some(place)) if !missing.is_empty() => {
            Err(CgroupError::NotDelegated { what, missing, place }.into())
        }
        (true, _) => Err(CgroupError::NoPlace { what, why }.into()),
    }
}

/// `--cgroup-parent` that is a path: from the top of the tree, or from the nearest place that is ours.
fn given_parent(parent: &str) -> Result<cgroup::Candidate, Error> {
    let path = match parent.strip_prefix('/') {
        Some(rest) => format!("/{}", rest.trim_matches('/')),
        None => {
            let around = cgroup::around(Look::Glance);
            let place = around.candidates.first().ok_or_else(|| CgroupError::NoPlace {
                what: "--cgroup-parent with a relative path".into(),
                why: String::new(),
            })?;
            format!("{}/{}", place.path, parent.trim_matches('/'))
        }
    };
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    for end in ends {
        if !cgroup::exists(&path[..end]) {
            Group::create(&path[..end])?;
        }
    }
    Ok(cgroup::Candidate::look(&path, Look::Closely))
}

impl Preparation {
    /// Makes the cgroup and sets its limits. The caller has held off everything that must not happen if that fails.
    pub fn finish(self, record: &Record, places: &Places) -> Result<Option<Prepared>, Error> {
        match self {
            Preparation::Without => Ok(None),
            Preparation::Below { path, enable, evacuate } => {
                // Should exec come from elsewhere, only systemd can move it here.
                let unit =
                    path.rsplit('/').next().filter(|n| n.ends_with(".scope") || n.ends_with(".service"));
                let unit = unit.map(str::to_owned);
                let kept = Cgroup { path: format!("{path}/coracle-{}", record.id), unit };
                keep(places, &kept)?;
                if evacuate || !enable.is_empty() {
                    let place = Group::open(&path)?;
                    if evacuate {
                        place.evacuate(LEAF_OF_OTHERS)?;
                    }
                    place.enable(&enable)?;
                }
                let group = Group::create_new(&kept.path)?;
                group.set(&settings(&record.limits)?)?;
                Ok(Some(Prepared { group, kept }))
            }
            Preparation::Scope { pending, unit, is_needed } => match divide(pending, &unit) {
                Ok(group) => {
                    let kept = Cgroup { path: group.path().to_owned(), unit: Some(unit) };
                    keep(places, &kept)?;
                    group.set(&settings(&record.limits)?)?;
                    Ok(Some(Prepared { group, kept }))
                }
                Err(error) if is_needed => Err(error.into()),
                // Nobody asked for it.
                Err(_) => Ok(None),
            },
        }
    }
}

/// Waits for a scope and makes its two leaves: this process in the one, the other for the container.
fn divide(pending: PendingScope, unit: &str) -> Result<Group, CgroupError> {
    pending.wait()?;
    let scope = cgroup::of_process("self").filter(|path| path.ends_with(unit));
    let scope = Group::open(&scope.ok_or_else(|| CgroupError::Systemd {
        action: "make a scope for the container",
        why: "this process has not been moved into it".into(),
    })?)?;
    Group::create(&format!("{}/{LEAF_OF_MONITOR}", scope.path()))?.adopt("0")?;
    scope.enable_all()?;
    Group::create(&format!("{}/{LEAF_OF_CONTAINER}", scope.path()))
}

fn settings(limits: &Limits) -> Result<Vec<cgroup::limits::Setting>, CgroupError> {
    limits.settings(|path| {
        let stat = rustix::fs::stat(path).map_err(|e| CgroupError::Invalid {
            what: format!("cannot look at the device {path}: {}", std::io::Error::from(e)),
            fix: "name a block device of this machine",
        })?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return Err(CgroupError::Invalid {
                what: format!("{path} is no block device"),
                fix: "name a block device of this machine, as 'lsblk -p' lists them",
            });
        }
        Ok((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
    })
}

fn note(places: &Places) -> PathBuf {
    places.run.join("cgroup.json")
}

/// Written in place: it counts only when it is whole, and what it names is made after that.
fn keep(places: &Places, cgroup: &Cgroup) -> Result<(), Error> {
    let path = note(places);
    let text = serde_json::to_vec(cgroup).unwrap_or_default();
    std::fs::write(&path, text).map_err(|source| state::Error::Io { action: "write", path, source }.into())
}

/// Kills what is in a container's cgroup and removes it. The caller holds the container's lock.
pub fn release(places: &Places) -> Result<(), Error> {
    // A torn note is of a write that was never finished, before anything was made.
    let Ok(Some(cgroup)) = state::read_json::<Cgroup>(&note(places)) else { return Ok(()) };
    if is_ours(&cgroup.path) {
        Group::remove(&cgroup.path)?;
    }
    Ok(())
}

/// The same for the monitor itself, if the note was lost with the run root, or torn.
pub fn release_unnoted(places: &Places, cgroup: &Cgroup) -> Result<(), Error> {
    if !matches!(state::read_json::<Cgroup>(&note(places)), Ok(Some(_))) {
        Group::remove(&cgroup.path)?;
    }
    Ok(())
}

/// A note that does not look like ours is not acted upon.
fn is_ours(path: &str) -> bool {
    path.starts_with('/')
        && path.contains("/coracle-")
        && !path.split('/').any(|part| part == ".." || part == ".")
}

/// A container's cgroup, for a further process in it (`exec`): opened, and this process put where it may clone into it.
pub fn enter(container: &Container) -> Result<Option<Group>, Error> {
    let Some(Cgroup { path, unit }) = container.live.as_ref().and_then(|live| live.cgroup.as_ref()) else {
        return Ok(None);
    };
    if cgroup::kind() != Kind::Unified {
        // Not visible from here (another mount namespace), so neither are its limits ours to keep.
        return Ok(None);
    }
    let group = Group::open(path)?;
    if group.may_be_entered() {
        return Ok(Some(group));
    }
    // From another session only systemd can move us.
    let moved = match (unit, Systemd::connect()) {
        (Some(unit), Ok(Some(systemd))) => {
            systemd.attach(unit, &format!("/{LEAF_OF_MONITOR}"), std::process::id()).map_err(Error::from)
        }
        _ => Err(CgroupError::NoPlace {
            what: format!("a process in container {}", container.record.name),
            why: "it runs in a cgroup of another session".into(),
        }
        .into()),
    };
    match moved {
        Ok(()) => Ok(Some(group)),
        Err(error) if !container.record.limits.is_empty() => Err(error),
        // Nothing is evaded, and it ends with the container all the same.
        Err(_) => Ok(None),
    }
}

/// The cgroup of a running container.
pub fn group_of(container: &Container, action: &str) -> Result<Group, Error> {
    match container.live.as_ref().and_then(|live| live.cgroup.as_ref()) {
        Some(cgroup) => Ok(Group::open(&cgroup.path)?),
        None => Err(Error::Request {
            what: format!("container {} cannot be {action}: it has no cgroup of its own", container.record.name),
            fix: Some(match cgroup::kind() {
                Kind::Unified if systemd::is_there() => {
                    "start it in the background ('-d', or 'coracle start'), or with a limit (--pids-limit 2048)".into()
                }
                _ => "'coracle doctor' tells what is missing on this machine".to_owned(),
            }),
        }),
    }
}

fn limits_file(record: &Record, places: &Places) -> PathBuf {
    places.record(record.rm).with_file_name("limits.json")
}

/// The limits that `update` has set since the container was created.
pub fn updated_limits(record: &Record, places: &Places) -> Result<Option<Limits>, Error> {
    Ok(state::read_json(&limits_file(record, places))?)
}

/// Changes a container's limits, now if it runs, and for its next starts.
pub fn update(container: &Container, newer: &Limits) -> Result<(), Error> {
    let Container { record, places, .. } = container;
    newer.check()?;
    let limits = record.limits.updated(newer);
    limits.check()?;
    if container.status.is_running() {
        let group = group_of(container, "updated")?;
        let above = group.path().rsplit_once('/').map_or("", |(above, _)| above);
        // What it was started without may be there to be handed down.
        let has = group.read("cgroup.controllers").unwrap_or_default();
        let lacks: Vec<String> =
            newer.controllers().into_iter().filter(|c| !has.split_whitespace().any(|h| h == c)).collect();
        if !lacks.is_empty() {
            let place = Group::open(above)?;
            let available = place.read("cgroup.controllers").unwrap_or_default();
            let (can, cannot): (Vec<_>, Vec<_>) =
                lacks.into_iter().partition(|c| available.split_whitespace().any(|a| a == c));
            if !cannot.is_empty() {
                let (what, place) = (newer.flags(), place.path().to_owned());
                return Err(CgroupError::NotDelegated { what, missing: cannot, place }.into());
            }
            if !place.read("cgroup.procs").unwrap_or_default().is_empty() {
                place.evacuate(LEAF_OF_OTHERS)?;
            }
            place.enable(&can)?;
        }
        group.set(&settings(&limits)?)?;
    }
    let durability = if record.rm { Durability::Process } else { Durability::PowerCut };
    Ok(state::write_json(&limits_file(record, places), &limits, durability)?)
}

/// Stops all processes of a running container until it is resumed.
pub fn pause(container: &Container) -> Result<(), Error> {
    group_of(container, "paused")?.freeze().map_err(Into::into)
}

/// Lets the processes of a paused container go on.
pub fn unpause(container: &Container) -> Result<(), Error> {
    group_of(container, "resumed")?.thaw().map_err(Into::into)
}
