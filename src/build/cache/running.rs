//! The builds that run: `locks/build-<id>`, each held by its build and gone with it. Its time is when the build began.
//!
//! Whoever begins one passes the gate, `locks/builds`, which who prunes keeps shut: what a build has used before the
//! pruning began is known by its time, and nothing can be used while it goes on but by builds that are known.

use crate::state::{self, Lock, Paths, create_dir_private, random_id, remove_file_if_there};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PREFIX: &str = "build-";

/// Beside them: the rights to make steps.
pub const CLAIM: &str = "step-";

/// More than the steps of one build are apart in time.
pub const SLACK: Duration = Duration::from_secs(1);

/// A build that runs.
pub struct Running {
    _lock: Lock,
    path: PathBuf,
    since: SystemTime,
}

impl Running {
    pub fn begin(paths: &Paths) -> Result<Running, state::Error> {
        create_dir_private(&paths.locks())?;
        let _gate = Lock::shared(&gate(paths))?;
        let id = random_id().map_err(state::Error::io("name", &paths.locks()))?;
        let path = paths.locks().join(format!("{PREFIX}{id}"));
        let lock = Lock::exclusive(&path)?;
        // Of one clock, and of one file system, with what is compared with it.
        let since = time_of(&path)?;
        Ok(Running { _lock: lock, path, since })
    }

    /// Since when.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If this fails, the next pruning does it.
        let _ = remove_file_if_there(&self.path);
    }
}

/// No build begins while this is held.
pub struct Closed {
    _gate: Lock,
}

impl Closed {
    /// Shuts the gate, and removes what killed builds left.
    pub fn now(paths: &Paths) -> Result<Closed, state::Error> {
        create_dir_private(&paths.locks())?;
        let closed = Closed { _gate: Lock::exclusive(&gate(paths))? };
        for path in files(paths, PREFIX)? {
            if !Lock::is_held(&path)? {
                remove_file_if_there(&path)?;
            }
        }
        for path in files(paths, CLAIM)? {
            // Held while it goes, since builds that run may want it.
            if let Some(_lock) = Lock::try_exclusive(&path)? {
                remove_file_if_there(&path)?;
            }
        }
        Ok(closed)
    }
}

/// Since when the oldest build runs, if any does.
pub fn oldest(paths: &Paths) -> Result<Option<SystemTime>, state::Error> {
    let mut oldest: Option<SystemTime> = None;
    for path in files(paths, PREFIX)? {
        // It may end meanwhile.
        if Lock::is_held(&path)?
            && let Ok(since) = time_of(&path)
        {
            oldest = Some(oldest.map_or(since, |known| known.min(since)));
        }
    }
    Ok(oldest)
}

fn files(paths: &Paths, prefix: &str) -> Result<Vec<PathBuf>, state::Error> {
    let names = super::records::names(&paths.locks())?.into_iter();
    Ok(names.filter(|name| name.starts_with(prefix)).map(|name| paths.locks().join(name)).collect())
}

fn time_of(path: &Path) -> Result<SystemTime, state::Error> {
    path.symlink_metadata().and_then(|meta| meta.modified()).map_err(state::Error::io("read", path))
}

fn gate(paths: &Paths) -> PathBuf {
    paths.locks().join("builds")
}
