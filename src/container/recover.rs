//! Finishing what a killed process left: every folder whose lock is free and that is not at rest.
//!
//! A container at rest has a record in the data root and nothing in the run root. Anything else that nobody holds the
//! lock of is the trace of a monitor or a CLI that was killed, or of a machine that went down:
//!
//! | found | meaning | done |
//! |---|---|---|
//! | run folder with a `--rm` record | its monitor was killed | removed |
//! | run folder, record in the data root | its monitor was killed | exit.json says 137, run folder removed |
//! | run folder alone | killed while it was made or removed | removed |
//! | data folder without a record | the same | to the trash |
//!
//! An init that outlived its monitor (it can have cleared PDEATHSIG by executing a set-id program) is killed first, and
//! whatever else is in the container's cgroup, which is removed.

use super::Error;
use super::id::ContainerId;
use super::monitor;
use super::record::{Exit, Live, Record, Started};
use super::resources;
use super::store::{Places, ids, now};
use crate::state::{self, Durability, Lock, Paths, read_json};
use rustix::process::Signal;
use std::io::ErrorKind;

/// What the names of run folders that are on their way out begin with: no id does.
const GONE: &str = ".gone-";

/// Whether there is anything to recover: a look without a lock, cheap enough for every command.
pub fn is_needed(paths: &Paths) -> Result<bool, Error> {
    for id in ids(paths)? {
        if is_left_over(paths, &id)? {
            return Ok(true);
        }
    }
    Ok(std::fs::read_dir(paths.trash()).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Whether this container is what a killed process left: not at rest, and nobody holds its lock.
pub fn is_left_over(paths: &Paths, id: &ContainerId) -> Result<bool, Error> {
    let places = Places::of(paths, id);
    let at_rest = !places.run.exists() && places.record(false).exists();
    Ok(!at_rest && !Lock::is_held(&places.lock())?)
}

/// Recovers everything. The caller is root in the user's namespace. One that cannot be recovered is left for the
/// next time; its error is returned after the others are done.
pub fn recover(paths: &Paths) -> Result<(), Error> {
    let mut first = Ok(());
    for id in ids(paths)? {
        let done = recover_one(paths, &id);
        if first.is_ok() {
            first = done;
        }
    }
    sweep_gone(paths)?;
    state::empty_trash(paths)?;
    first
}

fn recover_one(paths: &Paths, id: &ContainerId) -> Result<(), Error> {
    let places = Places::of(paths, id);
    if !places.run.exists() {
        if places.record(false).exists() {
            return Ok(());
        }
        // Whoever makes a container makes the run folder first.
        state::create_dir_private(&places.run)?;
    }
    let Some(_lock) = Lock::try_exclusive(&places.lock())? else { return Ok(()) };
    kill_leftover(&places)?;
    if let Ok(Some(record)) = read_json::<Record>(&places.record(true)) {
        return monitor::remove(paths, &record, &places);
    }
    // Of 'create --rm': it rests in the data root until it is started, and goes when it ends.
    let was_started = places.run.join("live.json").exists();
    if let Ok(Some(record)) = read_json::<Record>(&places.record(false))
        && record.rm
        && was_started
    {
        return monitor::remove(paths, &record, &places);
    }
    if places.record(false).exists() {
        conclude(&places)?;
    } else {
        state::trash(paths, &places.data)?;
    }
    forget_run(&places)
}

/// Kills an init whose monitor is gone.
fn kill_leftover(places: &Places) -> Result<(), Error> {
    resources::release(places)?;
    let live: Option<Live> = read_json(&places.run.join("live.json")).unwrap_or_default();
    let Some(live) = live else { return Ok(()) };
    if live.boot_id == state::boot_id()?
        && let Some(init) = live.init.open()
    {
        let _ = rustix::process::pidfd_send_signal(&init, Signal::KILL);
    }
    Ok(())
}

/// Says how a container ended that nobody saw ending.
pub fn conclude(places: &Places) -> Result<(), Error> {
    let started: Option<Started> = read_json(&places.data.join("state.json"))?;
    let exit: Option<Exit> = read_json(&places.data.join("exit.json")).unwrap_or_default();
    let Some(started) = started.filter(|s| exit.is_none_or(|e| e.started != s.started)) else {
        return Ok(());
    };
    let error = Some("its monitor was killed".to_owned());
    let exit = Exit { code: 137, finished: now(), started: started.started, error, oom_killed: false };
    Ok(state::write_json(&places.data.join("exit.json"), &exit, Durability::PowerCut)?)
}

/// Removes the run folder of a container whose lock the caller holds: moved aside first, with the lock in it, so that
/// nobody finds half of it with a lock that is free. Its cgroup goes first: the name of it is in there.
pub fn forget_run(places: &Places) -> Result<(), Error> {
    resources::release(places)?;
    let name = places.run.file_name().unwrap_or_default().to_string_lossy();
    let aside = places.run.with_file_name(format!("{GONE}{name}.{}", std::process::id()));
    match std::fs::rename(&places.run, &aside) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(state::Error::Io { action: "remove", path: places.run.clone(), source }.into()),
        Ok(()) => Ok(state::remove_tree(&aside)?),
    }
}

/// Removes run folders that were moved aside by somebody who was killed before they were removed.
fn sweep_gone(paths: &Paths) -> Result<(), Error> {
    for entry in std::fs::read_dir(paths.run_containers()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(GONE) {
            state::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
