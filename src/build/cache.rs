//! What the steps of earlier builds made: `build-cache/steps/<key>`.
//!
//! An entry says which layer a step made, if any, and when: the time is part of the image's config, and a build that
//! finds all its steps here makes the same image again. The layer may be gone since; then there is no entry. What is not
//! here is looked for in the caches that the user named ([`elsewhere`]), and is an entry here from then on.
//!
//! When a step was used last is the time of its file. All steps of a build have nearly the same, that of its beginning, but
//! an earlier step a later one: what builds on others goes before them ([`prune`]). A layer stays for as long as an
//! entry names it, whatever becomes of images.
//!
//! Who makes a step holds `locks/step-<key>`: whoever wants the same step, in another stage or another build, waits and
//! finds it made, or makes it if the other failed.

mod elsewhere;
mod prune;
mod records;
mod running;

pub use prune::{Needs, Policy, Pruned, prune};
pub use records::{Kind, Record, Usage};

use crate::digest::Digest;
use crate::image::StepCache;
use crate::layers::LayerStore;
use crate::state::{self, Durability, Lock, Paths, create_dir_private, read_json, write_json};
use crate::userns::Identity;
use elsewhere::Elsewhere;
use running::Running;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a step made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its layer; none if it changed no file.
    pub layer: Option<Digest>,
    /// When (RFC 3339).
    pub created: String,
    /// The step's key, if a build asked.
    #[serde(skip)]
    pub key: Option<Digest>,
}

/// `steps/<key>`
#[derive(Serialize, Deserialize)]
struct Step {
    #[serde(flatten)]
    made: Made,
    /// The instruction, for who looks at the cache.
    #[serde(default)]
    text: String,
}

/// The index, as a build uses it: nothing that it has used is pruned while this is held.
pub struct Cache<'a> {
    folder: PathBuf,
    locks: PathBuf,
    running: Running,
    used: AtomicU32,
    elsewhere: Option<Elsewhere<'a>>,
}

/// The right to make a step, until it is dropped. A process that is forked meanwhile has it, too.
pub struct Claim {
    path: PathBuf,
    _lock: Lock,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is held: who waits for the lock sees that it has no name any more, and makes another.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl<'a> Cache<'a> {
    /// For one build.
    pub fn open(paths: &Paths) -> Result<Self, state::Error> {
        let running = Running::begin(paths)?;
        Ok(Cache {
            folder: steps(paths),
            locks: paths.locks(),
            running,
            used: AtomicU32::new(0),
            elsewhere: None,
        })
    }

    /// Waits until nobody makes the step with this key.
    pub fn claim(&self, key: Digest) -> Result<Claim, state::Error> {
        let path = self.locks.join(format!("{}{}", running::CLAIM, key.hex()));
        Ok(Claim { _lock: Lock::exclusive(&path)?, path })
    }

    /// Does not ask a cache elsewhere again; false if that was so.
    pub fn give_up(&self, at: usize) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.give_up(at))
    }

    /// For a stage before which others have so many steps: its own are used later.
    pub fn go_on_after(&self, steps: usize) {
        self.used.store(u32::try_from(steps).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Looks in these caches, too.
    pub fn with(self, paths: &'a Paths, identity: &'a Identity, caches: &'a [StepCache]) -> Self {
        let elsewhere = Elsewhere { paths, identity, caches, broken: RefCell::default() };
        Cache { elsewhere: Some(elsewhere), ..self }
    }

    /// What the step with this key made; `text` is its instruction. What cannot be read counts as not there. `warn` is told
    /// of a cache elsewhere that fails, by its place among them.
    pub fn find(
        &self,
        key: Digest,
        layers: &LayerStore,
        text: &str,
        warn: &dyn Fn(usize, &str),
    ) -> Option<Made> {
        self.find_here(key, layers).or_else(|| {
            let made = self.elsewhere.as_ref()?.find(key, layers, warn)?;
            // That it cannot be kept costs time only.
            let _ = self.remember(key, &made, text);
            Some(made)
        })
    }

    /// What it made, if that is known here.
    pub fn find_here(&self, key: Digest, layers: &LayerStore) -> Option<Made> {
        let path = self.folder.join(key.hex());
        let made = read_json::<Step>(&path).ok()??.made;
        if made.layer.is_some_and(|layer| !layers.contains(layer)) {
            return None;
        }
        self.note_use(&path);
        Some(made)
    }

    /// Remembers it; `text` is the instruction.
    pub fn remember(&self, key: Digest, made: &Made, text: &str) -> Result<(), state::Error> {
        create_dir_private(&self.folder)?;
        let path = self.folder.join(key.hex());
        let step = Step { made: made.clone(), text: text.to_owned() };
        write_json(&path, &step, Durability::Process)?;
        self.note_use(&path);
        Ok(())
    }

    /// That it cannot be noted makes it go sooner, and is no reason to fail.
    fn note_use(&self, path: &Path) {
        let earlier = Duration::from_micros(self.used.fetch_add(1, Ordering::Relaxed).into());
        touch(path, self.running.since().checked_sub(earlier).unwrap_or(UNIX_EPOCH));
    }
}

/// The layers that the cache has.
pub fn layers(paths: &Paths) -> Result<HashSet<Digest>, state::Error> {
    let steps = records::names(&steps(paths))?.into_iter();
    // What cannot be read is no step that could be found again.
    let read = |name: String| read_json::<Step>(&self::steps(paths).join(name)).ok()??.made.layer;
    Ok(steps.filter_map(read).collect())
}

fn steps(paths: &Paths) -> PathBuf {
    paths.build_cache().join("steps")
}

/// Sets when a file was changed last. What fails has no consequence but a wrong order.
fn touch(path: &Path, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let last_modification = Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or_default(),
        tv_nsec: since.subsec_nanos().into(),
    };
    let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification };
    let _ = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
}

/// Layers as one of a key's texts.
pub fn layers_text(layers: &[Digest]) -> String {
    layers.iter().map(Digest::hex).collect::<Vec<_>>().join(" ")
}

/// A key over texts, none of which can be taken for another or for two.
pub fn key(parts: &[&str]) -> Digest {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }
}
