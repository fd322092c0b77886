//! Making the cache smaller: by hand, and to its budget after each build.
//!
//! What goes is chosen first ([`Policy::choose`]), that first which was not used for the longest time. Then entries are
//! removed, and last the layers that nobody needs any more: whoever is killed in between leaves layers that the next
//! collection of garbage finds. What writers left that were killed goes with each pruning. While somebody pulls or builds no layer goes; those stay till the next collection, too.
//! All of it is unlinks and renames.

use super::records::{Kind, Record, Usage, names};
use super::running::Closed;
use crate::digest::Digest;
use crate::image::{self, ImageStore};
use crate::layers::LayerStore;
use crate::state::{self, Lock, remove_file_if_there, trash};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Without any bytes of its own, something may lie there for so long: BuildKit's time for what is not used.
const LONGEST: Duration = Duration::from_secs(60 * 24 * 3600);

/// What is to go.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Also steps whose layers images or containers need, which frees nothing.
    pub all: bool,
    /// Only what was not used since.
    pub until: Option<SystemTime>,
    /// Only the ids that begin so.
    pub ids: Vec<String>,
    /// Only of these kinds.
    pub kinds: Vec<Kind>,
    /// No more than what makes the cache as small as this.
    pub keep: Option<u64>,
}

/// What went.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The things themselves.
    pub records: Vec<Record>,
    /// Bytes that are free now.
    pub bytes: u64,
    /// The layers are still there, since somebody pulls or builds.
    pub layers_stay: bool,
}

impl Policy {
    /// The rule that is kept after each build: no more than so many bytes, and nothing that is of no use.
    pub fn budget(bytes: u64) -> Policy {
        Policy { keep: Some(bytes), ..Policy::default() }
    }

    /// Which of the records go, sorted as [`Usage`] sorts them; the first to go comes first.
    fn choose(&self, usage: &Usage) -> Vec<usize> {
        let mut left = usage.own_size();
        let mut chosen = Vec::new();
        for (at, record) in usage.records.iter().enumerate().rev() {
            if self.keep.is_some_and(|keep| left <= keep) {
                break;
            }
            // With a size in mind, what frees nothing is no help.
            let is_wanted = if self.keep.is_some() { record.own_size() > 0 } else { true };
            if is_wanted && self.may_go(record) {
                left -= record.own_size();
                chosen.push(at);
            }
        }
        chosen
    }

    fn may_go(&self, record: &Record) -> bool {
        !record.is_in_use
            && (self.all || !record.is_shared)
            && self.until.is_none_or(|until| record.used < until)
            && (self.ids.is_empty() || self.ids.iter().any(|id| record.id.starts_with(id)))
            && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
    }
}

/// Steps that can never be found again, or that nobody asked for in a long time and that keep nothing.
fn is_stale(record: &Record, now: SystemTime) -> bool {
    let is_old = now.duration_since(record.used).is_ok_and(|age| age > LONGEST);
    record.kind == Kind::Step && record.own_size() == 0 && !record.is_in_use && is_old
}

/// Removes files that were not finished, from the cache's folders.
fn sweep(cache: &Path) -> Result<(), state::Error> {
    state::sweep_temporary(cache)?;
    for name in names(cache)? {
        state::sweep_temporary(&cache.join(name))?;
    }
    Ok(())
}

/// Whether a container needs a layer.
pub type Needs = Box<dyn Fn(Digest) -> bool>;

/// Removes what the policy says. `look` looks what containers need; it is asked once more when nobody else can begin to
/// need anything. The caller is root in the user's namespace.
pub fn prune(
    images: &ImageStore,
    layers: &LayerStore,
    look: &dyn Fn() -> Needs,
    policy: &Policy,
) -> Result<Pruned, image::Error> {
    let paths = images.paths();
    let mut pruned = Pruned::default();
    let mut is_a_step_gone = false;
    {
        let _closed = Closed::now(paths)?;
        sweep(&paths.build_cache())?;
        let usage = Usage::of(images, layers, &*look())?;
        let mut chosen = policy.choose(&usage);
        if policy.keep.is_some() {
            let now = SystemTime::now();
            let stale = (0..usage.records.len()).filter(|at| is_stale(&usage.records[*at], now));
            chosen.extend(stale);
        }
        let chosen: HashSet<usize> = chosen.into_iter().collect();
        for (at, record) in usage.records.into_iter().enumerate().rev() {
            if !chosen.contains(&at) {
                continue;
            }
            match record.kind {
                Kind::Mount => {
                    // Of a build that was killed, a step may still have it.
                    let Some(_locks) = taken(&record.path)? else { continue };
                    trash(paths, &record.path)?;
                }
                Kind::Step | Kind::Context => remove_file_if_there(&record.path)?,
            }
            is_a_step_gone |= record.layer.is_some();
            pruned.bytes += if record.layer.is_some() { 0 } else { record.size };
            pruned.records.push(record);
        }
    }
    if is_a_step_gone {
        let (needs, cached) = (OnceCell::new(), OnceCell::new());
        let in_use = |layer: Digest| {
            // What cannot be listed may need anything.
            let cached = cached.get_or_init(|| super::layers(paths).ok());
            needs.get_or_init(look)(layer) || cached.as_ref().is_none_or(|cached| cached.contains(&layer))
        };
        match images.collect_garbage(layers, &in_use)? {
            Some(collected) => pruned.bytes += collected.bytes,
            None => pruned.layers_stay = true,
        }
    }
    Ok(pruned)
}

/// The locks of a cache mount, as if it were to be used alone; `None` if somebody has it.
fn taken(mount: &Path) -> Result<Option<Vec<Lock>>, state::Error> {
    let mut locks = Vec::new();
    for number in names(mount)? {
        let lock = mount.join(number).join("lock");
        if lock.exists() {
            match Lock::try_exclusive(&lock)? {
                Some(lock) => locks.push(lock),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(locks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn record(id: &str, used: u64, size: u64) -> Record {
        Record {
            id: id.into(),
            kind: Kind::Step,
            text: String::new(),
            created: None,
            used: UNIX_EPOCH + Duration::from_secs(used),
            size,
            layer: None,
            is_shared: false,
            is_in_use: false,
            path: id.into(),
        }
    }

    fn chosen(policy: &Policy, records: &[Record]) -> Vec<String> {
        let usage = Usage { records: records.to_vec() };
        policy.choose(&usage).into_iter().map(|at| records[at].id.clone()).collect()
    }

    #[test]
    fn a_budget_takes_what_was_not_used_for_longest_and_no_more_than_it_must() {
        let records =
            [record("new", 30, 10), record("mid", 20, 10), record("empty", 15, 0), record("old", 10, 10)];
        assert_eq!(chosen(&Policy::budget(30), &records), [""; 0]);
        assert_eq!(chosen(&Policy::budget(29), &records), ["old"]);
        assert_eq!(chosen(&Policy::budget(15), &records), ["old", "mid"]);
        assert_eq!(chosen(&Policy::budget(0), &records), ["old", "mid", "new"]);
    }

    #[test]
    fn what_others_need_or_a_build_uses_stays() {
        let mut records = [record("a", 30, 10), record("b", 20, 10), record("c", 10, 10)];
        records[2].is_shared = true;
        records[1].is_in_use = true;
        assert_eq!(chosen(&Policy::default(), &records), ["a"]);
        assert_eq!(chosen(&Policy { all: true, ..Policy::default() }, &records), ["c", "a"]);
        assert_eq!(chosen(&Policy::budget(0), &records), ["a"]);
    }

    #[test]
    fn filters_must_all_hold() {
        let mut records = [record("ab", 30, 10), record("ac", 20, 10)];
        records[0].kind = Kind::Mount;
        let until = Some(UNIX_EPOCH + Duration::from_secs(25));
        assert_eq!(chosen(&Policy { until, ..Policy::default() }, &records), ["ac"]);
        let of = |ids: &[&str], kinds: &[Kind]| {
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            chosen(&Policy { ids, kinds: kinds.to_vec(), ..Policy::default() }, &records)
        };
        assert_eq!(of(&["a"], &[]), ["ac", "ab"]);
        assert_eq!(of(&["ab"], &[Kind::Step]), [""; 0]);
        assert_eq!(of(&[], &[Kind::Mount, Kind::Context]), ["ab"]);
    }
}
