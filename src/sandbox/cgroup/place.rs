//! Where a container's cgroup goes: a decision from what is around, pure.

use super::host::{Around, Candidate};
use serde::{Deserialize, Serialize};

/// `--cgroups`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One is made where it can be.
    #[default]
    Enabled,
    /// None is made.
    Disabled,
    /// It is made below the caller's own, which must be delegated; systemd is not asked.
    Split,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below this cgroup.
    Below {
        /// Its path.
        path: String,
        /// Controllers to enable for its children first.
        enable: Vec<String>,
        /// Whether the processes in it have to move to a leaf first.
        evacuate: bool,
    },
    /// Not in what is around: controllers are missing there, or nothing is delegated.
    Elsewhere {
        /// What is missing at the nearest place, if there is one.
        missing: Vec<String>,
        /// The nearest place.
        nearest: Option<String>,
    },
}

/// What a container is counted by, if it costs nothing to have it.
const USEFUL: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Decides. `needed` are the controllers without which it is an error.
///
/// Best is a place whose children have all that is needed already, of several the one with most of what is useful; then
/// one where that can be enabled without moving anybody; then the nearest whose processes can be moved to a leaf of it.
pub fn choose(around: &Around, needed: &[String]) -> Place {
    let has_all = |list: &[String]| needed.iter().all(|name| list.contains(name));
    let useful = |list: &[String]| USEFUL.iter().filter(|name| list.iter().any(|has| has == *name)).count();
    let ready = around.candidates.iter().filter(|c| has_all(&c.enabled));
    // Of equals the first, which is the nearest.
    if let Some(best) = ready.rev().max_by_key(|c| useful(&c.enabled)) {
        return Place::Below { path: best.path.clone(), enable: Vec::new(), evacuate: false };
    }
    let able = || around.candidates.iter().filter(|c| has_all(&c.available));
    match able().find(|c| !c.is_populated).or_else(|| able().next()) {
        Some(c) => {
            Place::Below { path: c.path.clone(), enable: to_enable(c, needed), evacuate: c.is_populated }
        }
        None => {
            let nearest = around.candidates.first();
            let missing = needed.iter().filter(|name| nearest.is_none_or(|c| !c.available.contains(name)));
            Place::Elsewhere { missing: missing.cloned().collect(), nearest: nearest.map(|c| c.path.clone()) }
        }
    }
}

/// All that is needed or useful, in one order.
fn to_enable(candidate: &Candidate, needed: &[String]) -> Vec<String> {
    let wanted = |name: &&String| needed.contains(name) || USEFUL.contains(&name.as_str());
    candidate
        .available
        .iter()
        .filter(wanted)
        .filter(|name| !candidate.enabled.contains(name))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn candidate(path: &str, available: &str, enabled: &str, is_populated: bool) -> Candidate {
        Candidate { path: path.into(), available: words(available), enabled: words(enabled), is_populated }
    }

    fn below(path: &str, enable: &str, evacuate: bool) -> Place {
        Place::Below { path: path.into(), enable: words(enable), evacuate }
    }

    #[test]
    fn without_limits_the_nearest_place_is_taken_as_it_is() {
        let around = Around {
            candidates: vec![
                candidate("/a/run", "memory pids", "", true),
                candidate("/a", "memory pids", "", false),
            ],
        };
        assert_eq!(choose(&around, &[]), below("/a/run", "", false));
        assert_eq!(choose(&Around::default(), &[]), Place::Elsewhere { missing: vec![], nearest: None });
    }

    #[test]
    fn a_place_that_counts_already_is_better_than_a_nearer_one() {
        let around = Around {
            candidates: vec![
                candidate("/s/init", "", "", true),
                candidate("/s", "cpu memory pids", "cpu memory pids", false),
            ],
        };
        assert_eq!(choose(&around, &[]), below("/s", "", false));
        assert_eq!(choose(&around, &words("memory")), below("/s", "", false));
    }

    #[test]
    fn limits_go_where_nobody_has_to_move_before_where_somebody_has_to() {
        let own = candidate("/a/run", "cpuset memory pids", "", true);
        let above = candidate("/a", "cpuset memory pids", "", false);
        let alone = Around { candidates: vec![own.clone()] };
        assert_eq!(choose(&alone, &words("memory")), below("/a/run", "memory pids", true));
        let both = Around { candidates: vec![own, above] };
        assert_eq!(choose(&both, &words("cpuset")), below("/a", "cpuset memory pids", false));
    }

    #[test]
    fn a_controller_that_is_not_there_is_named() {
        let around = Around { candidates: vec![candidate("/a", "pids", "", true)] };
        let expected = Place::Elsewhere { missing: words("memory"), nearest: Some("/a".into()) };
        assert_eq!(choose(&around, &words("memory pids")), expected);
    }
}
