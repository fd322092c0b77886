//! Finishing what a killed process left: every folder whose lock is free and that is not at rest.
//!
//! A container at rest has a record in the data root and nothing in the run root. Anything else that nobody holds the
//! lock of is the trace of a monitor or a CLI that was killed, or of a machine that went down:
//!
//! | found | meaning | done |
//! |---|---|---|
//! | run folder with a `--rm` record | its monitor was killed | removed |
//! | run folder with `removing.json` | killed while it was removed | removed |
//! | run folder, record in the data root | its monitor was killed | exit.json says 137, run folder removed |
//! | run folder alone | killed while it was made or removed | removed |
//! | data folder without a record | the same | to the trash |
//! | name of a container that is not there | the same, or a power cut | removed |
//! | container without its name | a power cut | named again |
//! | staging folder, temporary file, lock of nothing | killed while something was made | removed |
//!
//! An init that outlived its monitor (it can have cleared PDEATHSIG by executing a set-id program) is killed first, and
//! whatever else is in the container's cgroup, which is removed.
//! [`is_needed`] looks at what costs little to look at; the rest goes whenever [`recover`] is run anyway, after a pull
//! and by each `prune` at the latest.

use super::Error;
use super::id::ContainerId;
use super::monitor;
use super::record::{Exit, Live, Record, Started};
use super::resources;
use super::store::{Folders, Places, folders, gone_name, mend_names, now, release_names};
use crate::image::ImageStore;
use crate::layers::{LayerStore, Ownership};
use crate::state::{self, Durability, Lock, Paths, read_json};
use crate::volume::Volumes;
use rustix::process::Signal;
use std::io::ErrorKind;
use std::path::Path;

/// Whether there is anything to recover: a look without a lock, cheap enough for every command.
pub fn is_needed(paths: &Paths) -> Result<bool, Error> {
    let Folders { found, gone, run_is_new } = folders(paths)?;
    if !gone.is_empty() || (run_is_new && !found.is_empty()) {
        return Ok(true);
    }
    for (id, is_in_run) in found {
        // Most are at rest, and cost one look.
        let at_rest = !is_in_run && Places::of(paths, &id).record(false).exists();
        if !at_rest && is_left_over(paths, &id)? {
            return Ok(true);
        }
    }
    let has_entries = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut e| e.next().is_some());
    Ok(has_entries(&paths.trash()) || layers(paths).has_leftovers()?)
}

/// For looking after the store: who owns what does not matter then.
fn layers(paths: &Paths) -> LayerStore {
    LayerStore::open(paths, Ownership::Mapped)
}

/// Whether this container is what a killed process left: not at rest, and nobody holds its lock.
pub fn is_left_over(paths: &Paths, id: &ContainerId) -> Result<bool, Error> {
    let places = Places::of(paths, id);
    let at_rest = !places.run.exists() && places.record(false).exists();
    Ok(!at_rest && !Lock::is_held(&places.lock())? && !Lock::is_kept(&places.data)?)
}

/// Recovers everything. The caller is root in the user's namespace. What cannot be recovered is left for the
/// next time; the first error is returned after the rest is done.
pub fn recover(paths: &Paths) -> Result<(), Error> {
    let mut first = Ok(());
    let mut note = |done: Result<(), Error>| {
        if first.is_ok() {
            first = done;
        }
    };
    let Folders { found, gone, run_is_new } = folders(paths)?;
    for id in found.into_keys() {
        note(recover_one(paths, &id));
    }
    for folder in gone {
        note(state::remove_tree(&folder).map_err(Into::into));
    }
    if paths.names().exists() {
        note(mend_names(paths, run_is_new));
    }
    note(layers(paths).collect().map(drop).map_err(Into::into));
    note(Volumes::new(paths).sweep().map_err(Into::into));
    note(ImageStore::open(paths).sweep().map_err(Into::into));
    for root in [paths.data(), paths.run()] {
        note(state::sweep_temporary(root).map_err(Into::into));
    }
    if run_is_new {
        note(state::create_dir_private(&paths.run_containers()).map_err(Into::into));
    }
    note(state::empty_trash(paths).map_err(Into::into));
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
    if run_folder_was_lost(&places)? {
        // This one is somebody else's attempt to start or remove it.
        return forget_run(&places);
    }
    kill_leftover(&places)?;
    if let Some(record) = being_removed(&places) {
        return monitor::remove(paths, &record, &places);
    }
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
        conclude(paths, &places)?;
    } else {
        state::trash(paths, &places.data)?;
        release_names(paths, id)?;
    }
    forget_run(&places)
}

/// Whether a container whose lock the caller holds runs nevertheless: its monitor holds one of the same name that was lost
/// with the run root.
pub(super) fn run_folder_was_lost(places: &Places) -> Result<bool, Error> {
    for _ in 0..20 {
        if !Lock::is_kept(&places.data)? {
            return Ok(false);
        }
        // Of a monitor that is just dying, the kernel closes one after the other.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(true)
}

/// The record of a container that somebody was removing who was killed.
pub(super) fn being_removed(places: &Places) -> Option<Record> {
    read_json(&places.removing()).ok().flatten()
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
pub(super) fn conclude(paths: &Paths, places: &Places) -> Result<(), Error> {
    // A record that cannot be read is shown as broken; there is nothing to conclude from it.
    let started: Option<Started> = read_json(&places.data.join("state.json")).unwrap_or_default();
    let exit: Option<Exit> = read_json(&places.data.join("exit.json")).unwrap_or_default();
    let Some(started) = started.filter(|s| exit.is_none_or(|e| e.started != s.started)) else {
        return Ok(());
    };
    let error = Some("its monitor was killed".to_owned());
    let exit = Exit { code: 137, finished: now(), started: started.started, error, oom_killed: false };
    write_exit(paths, places, &exit)
}

/// Writes down how a container ended, on a full disk too.
pub(super) fn write_exit(paths: &Paths, places: &Places, exit: &Exit) -> Result<(), Error> {
    let write = || state::write_json(&places.data.join("exit.json"), exit, Durability::PowerCut);
    Ok(state::with_ballast(paths, write)?)
}

/// Removes the run folder of a container whose lock the caller holds: moved aside first, with the lock in it, so that
/// nobody finds half of it with a lock that is free. Its cgroup goes first: the name of it is in there.
pub fn forget_run(places: &Places) -> Result<(), Error> {
    resources::release(places)?;
    let name = places.run.file_name().unwrap_or_default().to_string_lossy();
    let aside = places.run.with_file_name(gone_name(&name));
    match std::fs::rename(&places.run, &aside) {
        // It may have been moved aside by this process, before it became root and could remove what is in it.
        Err(e) if e.kind() == ErrorKind::NotFound && std::fs::symlink_metadata(&aside).is_err() => Ok(()),
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(state::Error::Io { action: "remove", path: places.run.clone(), source: e }.into())
        }
        _ => Ok(state::remove_tree(&aside)?),
    }
}
