//! Capabilities (capabilities(7)): which a container gets, and how a process in it takes them on.
//!
//! Names are those of the `caps` crate. A process is changed by rustix: the crate's functions drop only capabilities
//! that it has a name for, where a newer kernel may have more, and set one set at a time, reading all of them
//! back before (37 system calls for a container's root; 33 here, nearly all of which drop one capability from the
//! bounding set, for which the kernel has no other way).
//!
//! Changing the user id comes in between: [`ProcessCapabilities::limit`] needs CAP_SETPCAP, and
//! [`ProcessCapabilities::take`] must come after setresuid(2), which takes capabilities away.

use crate::diagnose::Diagnose;
use caps::Capability;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::str::FromStr;

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

/// Why capabilities can not be granted as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No capability has this name.
    #[error("unknown capability '{0}'")]
    Unknown(String),
    /// Both `--cap-add` and `--cap-drop` name it.
    #[error("capability '{0}' cannot be dropped and added")]
    AddedAndDropped(String),
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Self::Unknown(name) => nearest(name).map(|near| format!("did you mean {near}?")),
            Self::AddedAndDropped(name) => {
                Some(format!("remove {name} from one of --cap-add and --cap-drop"))
            }
        }
    }
}

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability that has a name.
    pub const ALL: Self = Self((1 << (Capability::CAP_CHECKPOINT_RESTORE as u8 + 1)) - 1);

    /// What a container gets if nothing else is said: podman's eleven. docker also gives NET_RAW, MKNOD and
    /// AUDIT_WRITE.
    pub const DEFAULT: Self = Self(
        1 << Capability::CAP_CHOWN as u8
            | 1 << Capability::CAP_DAC_OVERRIDE as u8
            | 1 << Capability::CAP_FOWNER as u8
            | 1 << Capability::CAP_FSETID as u8
            | 1 << Capability::CAP_KILL as u8
            | 1 << Capability::CAP_NET_BIND_SERVICE as u8
            | 1 << Capability::CAP_SETFCAP as u8
            | 1 << Capability::CAP_SETGID as u8
            | 1 << Capability::CAP_SETPCAP as u8
            | 1 << Capability::CAP_SETUID as u8
            | 1 << Capability::CAP_SYS_CHROOT as u8,
    );

    /// One bit for each capability, numbered as in linux/capability.h.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As a mask (capabilities(7)).
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Is it in the set?
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bitmask() != 0
    }

    /// Is nothing in the set?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names, in the order of the kernel's numbers.
    pub fn names(self) -> impl Iterator<Item = String> {
        known().filter(move |capability| self.contains(*capability)).map(|capability| capability.to_string())
    }

    /// Each as a set of its own, those without a name too, in the order of the kernel's numbers.
    fn each(self) -> impl Iterator<Item = CapabilitySet> {
        (0..u64::BITS)
            .map(|n| 1 << n)
            .filter(move |bit| self.0 & bit != 0)
            .map(CapabilitySet::from_bits_retain)
    }
}

/// Every capability, in the order of the kernel's numbers.
fn known() -> impl Iterator<Item = Capability> {
    let mut all: Vec<Capability> = caps::all().into_iter().collect();
    all.sort_by_key(Capability::index);
    all.into_iter()
}

/// One or more names, with or without `CAP_`, in either case, or `ALL`.
impl FromStr for CapSet {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::ALL);
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match full.parse::<Capability>() {
            Ok(capability) => Ok(Self(capability.bitmask())),
            Err(_) => Err(Error::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// A list of names.
impl Serialize for CapSet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for CapSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = Vec::<Cow<'de, str>>::deserialize(from)?;
        union(&names).map_err(de::Error::custom)
    }
}

fn union<S: AsRef<str>>(names: &[S]) -> Result<CapSet, Error> {
    names.iter().try_fold(CapSet::EMPTY, |all, name| Ok(all.with(name.as_ref().parse()?)))
}

/// `base` changed by `--cap-add` and `--cap-drop`, which podman resolves so: dropping ALL leaves what is added;
/// adding ALL leaves what is not dropped; nothing may be both added and dropped by name.
pub fn granted<S: AsRef<str>>(base: CapSet, add: &[S], drop: &[S]) -> Result<CapSet, Error> {
    let is_all = |name: &S| name.as_ref().eq_ignore_ascii_case("ALL");
    let (adds_all, drops_all) = (add.iter().any(is_all), drop.iter().any(is_all));
    let (add, drop) = (union(add)?, union(drop)?);
    match (adds_all, drops_all) {
        (true, true) => Err(Error::AddedAndDropped("ALL".to_owned())),
        (false, true) => Ok(add),
        (true, false) => Ok(CapSet::ALL.without(drop)),
        (false, false) => match add.common(drop).names().next() {
            Some(name) => Err(Error::AddedAndDropped(name)),
            None => Ok(base.without(drop).with(add)),
        },
    }
}

/// The capability whose name is most like `name`, if one is.
fn nearest(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    known()
        .map(|capability| capability.to_string())
        .map(|full| (distance(name, full.strip_prefix("CAP_").unwrap_or(&full)), full))
        .min()
        .filter(|(distance, _)| *distance <= 3 && *distance < name.len())
        .map(|(_, full)| full)
}

/// Levenshtein's: how many bytes to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessCapabilities {
    /// The most that it and its descendants can ever have.
    pub bounding: CapSet,
    /// What it has: permitted and effective.
    pub permitted: CapSet,
    /// What an exec by another user than root leaves it: ambient, and inheritable, which otherwise is empty
    /// (CVE-2022-24769).
    pub ambient: CapSet,
}

impl ProcessCapabilities {
    /// For a process of a container that is `granted` these capabilities, of which `added` were asked for by name:
    /// root has them all; another user has, as with podman, only those asked for, in a way that lasts through
    /// exec.
    pub fn new(granted: CapSet, added: CapSet, is_root: bool) -> Self {
        let added = added.common(granted);
        Self {
            bounding: granted,
            permitted: if is_root { granted } else { added },
            ambient: if is_root { CapSet::EMPTY } else { added },
        }
    }

    /// First step, while still root with CAP_SETPCAP: drops from the bounding set what the process may never have.
    /// A following setresuid(2) will leave the permitted set alone, until the next exec.
    pub fn limit(&self) -> io::Result<()> {
        // Not only those with a name: a newer kernel has more.
        for capability in CapSet(!self.bounding.0).each() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The first number that this kernel does not know.
                Err(Errno::INVAL) => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(rustix::thread::set_keep_capabilities(true)?)
    }

    /// Second step, as the user that the process will run as: sets the other four sets.
    pub fn take(&self) -> io::Result<()> {
        let permitted = CapabilitySet::from_bits_retain(self.permitted.0);
        let inheritable = CapabilitySet::from_bits_retain(self.ambient.0);
        let sets = CapabilitySets { effective: permitted, permitted, inheritable };
        // The kernel takes from the ambient set what is no longer inheritable; nothing else can be in it, as
        // making and joining a user namespace empty it (user_namespaces(7)).
        rustix::thread::set_capabilities(None, sets)?;
        for capability in self.ambient.each() {
            match rustix::thread::configure_capability_in_ambient_set(capability, true) {
                Ok(()) => {}
                // ALL on a kernel with fewer.
                Err(Errno::INVAL) => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> CapSet {
        union(names).unwrap()
    }

    #[test]
    fn the_default_is_podmans_eleven() {
        let names = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        assert_eq!(CapSet::DEFAULT, set(&names));
        assert_eq!(CapSet::DEFAULT.names().count(), 11);
        assert_eq!(CapSet::ALL.names().count(), caps::all().len());
    }

    #[test]
    fn names_are_taken_in_either_case_with_or_without_the_prefix() {
        for name in ["net_raw", "CAP_NET_RAW", "Cap_Net_Raw"] {
            assert!(name.parse::<CapSet>().unwrap().contains(Capability::CAP_NET_RAW), "{name}");
        }
        let all = "all".parse::<CapSet>();
        assert_eq!(all, Ok(CapSet::ALL));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        let fix = |name: &str| name.parse::<CapSet>().unwrap_err().fix();
        assert_eq!(fix("NETRAW").unwrap(), "did you mean CAP_NET_RAW?");
        assert_eq!(fix("cap_sys_admn").unwrap(), "did you mean CAP_SYS_ADMIN?");
        assert_eq!(fix("purple"), None);
        assert_eq!(fix(""), None);
    }

    #[test]
    fn adding_and_dropping_resolve_as_podmans() {
        let base = CapSet::DEFAULT;
        let granted = |add: &[&str], drop: &[&str]| granted(base, add, drop);
        assert_eq!(granted(&[], &[]), Ok(base));
        assert_eq!(
            granted(&["NET_RAW"], &["CHOWN"]),
            Ok(base.without(set(&["CHOWN"])).with(set(&["NET_RAW"])))
        );
        assert_eq!(granted(&[], &["all"]), Ok(CapSet::EMPTY));
        assert_eq!(granted(&["KILL"], &["ALL"]), Ok(set(&["KILL"])));
        assert_eq!(granted(&["ALL"], &["SYS_ADMIN"]), Ok(CapSet::ALL.without(set(&["SYS_ADMIN"]))));
        for (add, drop) in [("ALL", "ALL"), ("KILL", "KILL")] {
            assert!(matches!(granted(&[add], &[drop]), Err(Error::AddedAndDropped(_))), "{add}");
        }
        assert_eq!(granted(&["x"], &[]), Err(Error::Unknown("x".to_owned())));
    }

    #[test]
    fn only_root_has_all_that_is_granted_and_nobody_inherits_what_was_not_asked_for() {
        let granted = CapSet::DEFAULT.with(set(&["NET_RAW"]));
        let root = ProcessCapabilities::new(granted, set(&["NET_RAW"]), true);
        assert_eq!((root.bounding, root.permitted, root.ambient), (granted, granted, CapSet::EMPTY));
        let user = ProcessCapabilities::new(granted, set(&["NET_RAW"]), false);
        assert_eq!((user.bounding, user.permitted), (granted, set(&["NET_RAW"])));
        assert_eq!(user.ambient, set(&["NET_RAW"]));
    }

    #[test]
    fn a_set_is_kept_as_a_list_of_names() {
        let json = serde_json::to_string(&set(&["KILL", "CHOWN"])).unwrap();
        assert_eq!(json, r#"["CAP_CHOWN","CAP_KILL"]"#);
        assert_eq!(serde_json::from_str::<CapSet>(&json).unwrap(), set(&["KILL", "CHOWN"]));
        assert!(serde_json::from_str::<CapSet>(r#"["CAP_X"]"#).is_err());
    }

    /// `Cap*` lines of the calling thread.
    fn status() -> std::collections::HashMap<String, u64> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let lines = status.lines().filter(|line| line.starts_with("Cap"));
        lines
            .map(|line| {
                let (name, value) = line.split_once(":\t").unwrap();
                (name.to_owned(), u64::from_str_radix(value, 16).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_process_takes_on_exactly_its_sets() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root, or root in a user namespace");
            return;
        }
        for is_root in [true, false] {
            // Capabilities belong to threads, so no process needs to be made for this.
            std::thread::spawn(move || {
                let added = set(&["NET_RAW", "SYS_PTRACE"]);
                let wanted = ProcessCapabilities::new(CapSet::DEFAULT.with(added), added, is_root);
                wanted.limit().unwrap();
                if !is_root {
                    let id = rustix::process::Uid::from_raw(1000);
                    match rustix::thread::set_thread_res_uid(id, id, id) {
                        Err(Errno::INVAL) => {
                            eprintln!("SKIPPED: this user namespace has no second id");
                            return;
                        }
                        changed => changed.unwrap(),
                    }
                }
                wanted.take().unwrap();
                let now = status();
                assert_eq!(now["CapBnd"], wanted.bounding.bits());
                assert_eq!(now["CapPrm"], wanted.permitted.bits());
                assert_eq!(now["CapEff"], wanted.permitted.bits());
                assert_eq!(now["CapInh"], wanted.ambient.bits());
                assert_eq!(now["CapAmb"], wanted.ambient.bits());
            })
            .join()
            .unwrap();
        }
    }
}
