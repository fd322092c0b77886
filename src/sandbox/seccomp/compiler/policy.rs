//! Step two: which rules apply, and what they say about every system call number.

use super::profile::{self, Op, Profile, Syscalls};
use super::tables::Numbers;
use super::{Arch, Error, Machine};
use std::collections::BTreeMap;

/// Numbers from here on are the x32 ABI's on x86-64 (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;
const ENOSYS: u16 = 38;

/// What a filter returns: SECCOMP_RET_* with its data (linux/seccomp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict(pub(super) u32);

impl Verdict {
    pub(super) const KILL_PROCESS: Self = Self(0x8000_0000);
    const KILL_THREAD: Self = Self(0);
    const TRAP: Self = Self(0x0003_0000);
    const LOG: Self = Self(0x7ffc_0000);
    pub(super) const ALLOW: Self = Self(0x7fff_0000);

    pub(super) fn errno(errno: u16) -> Self {
        Self(0x0005_0000 | u32::from(errno))
    }

    fn trace(message: u16) -> Self {
        Self(0x7ff0_0000 | u32::from(message))
    }
}

/// A comparison of one argument with constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u32,
    pub(super) op: Op,
    pub(super) value: u64,
    pub(super) value_two: u64,
}

/// A verdict for calls whose arguments meet all the conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: Verdict,
}

/// What becomes of a system call: the verdict of the first case that fits, or else the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) cases: Vec<Case>,
    pub(super) otherwise: Verdict,
}

/// The decisions for one architecture's programs.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) arch: Arch,
    /// Each holds from its number up to the next one's. The first is number 0; neighbours differ.
    pub(super) ranges: Vec<(u32, Decision)>,
}

/// All decisions. Programs of an architecture that is not here are killed.
#[derive(Debug)]
pub struct Policy {
    /// The native architecture first.
    pub(super) calls: Vec<Calls>,
}

/// The rules of one kind for one call so far, in the profile's order.
#[derive(Default)]
struct Rules {
    cases: Vec<Case>,
    /// The first rule without conditions.
    always: Option<Verdict>,
}

/// All rules for one call so far.
#[derive(Default)]
struct Draft {
    refusing: Rules,
    letting_through: Rules,
}

impl Draft {
    fn add(&mut self, rule: &Syscalls, cases: &[Case], verdict: Verdict) {
        let rules = if rule.action.lets_through() { &mut self.letting_through } else { &mut self.refusing };
        if cases.is_empty() {
            rules.always.get_or_insert(verdict);
        } else {
            rules.cases.extend_from_slice(cases);
        }
    }

    fn decide(self, default: Verdict) -> Decision {
        let Self { refusing, letting_through } = self;
        let mut cases = refusing.cases;
        if let Some(otherwise) = refusing.always {
            return Decision { cases, otherwise };
        }
        cases.extend(letting_through.cases);
        Decision { cases, otherwise: letting_through.always.unwrap_or(default) }
    }
}

impl Policy {
    /// Decides what `profile` means on `machine` for a process with the capabilities `granted`.
    pub fn resolve(profile: &Profile, machine: Machine<'_>, granted: u64) -> Result<Self, Error> {
        let default = verdict(
            profile.default_action,
            profile.default_errno_ret,
            profile.default_errno.as_deref(),
            machine,
        )?;
        let compat = machine.arch.compat().filter(|compat| serves(profile, machine.arch, *compat));
        let mut native_drafts = BTreeMap::new();
        let mut compat_drafts = BTreeMap::new();
        for rule in &profile.syscalls {
            if !applies(rule, machine, granted)? {
                continue;
            }
            let verdict = verdict(rule.action, rule.errno_ret, rule.errno.as_deref(), machine)?;
            let cases = cases(rule, verdict)?;
            for name in rule.names() {
                let Some(Numbers { native, compat }) = machine.tables.syscall(name) else {
                    if profile.default_action.lets_through() && !rule.action.lets_through() {
                        return Err(Error::UnknownSyscall(name.to_owned()));
                    }
                    continue; // One of a newer kernel than we know: the default holds for it.
                };
                for (number, drafts) in [(native, &mut native_drafts), (compat, &mut compat_drafts)] {
                    let Some(number) = number else { continue };
                    let draft: &mut Draft = drafts.entry(number).or_default();
                    draft.add(rule, &cases, verdict);
                }
            }
        }
        // To calls that are newer than a profile of the strict kind its author would have said ENOSYS, by which
        // programs know to do without; runc reads profiles so too.
        let refuses_all = !profile.default_action.lets_through() && default != Verdict::errno(ENOSYS);
        let ranges = |arch, drafts| ranges(arch, drafts, default, refuses_all);
        let mut calls = vec![Calls { arch: machine.arch, ranges: ranges(machine.arch, native_drafts) }];
        calls.extend(compat.map(|arch| Calls { arch, ranges: ranges(arch, compat_drafts) }));
        Ok(Self { calls })
    }
}

/// Are 32-bit programs to be served as well?
fn serves(profile: &Profile, native: Arch, compat: Arch) -> bool {
    let mapped = profile.arch_map.iter().filter(|map| map.architecture == native.scmp_name());
    mapped
        .flat_map(|map| &map.sub_architectures)
        .chain(&profile.architectures)
        .any(|a| a == compat.scmp_name())
}

/// Does the rule hold for this machine and these capabilities? A rule needs all the capabilities that it includes,
/// and none of those that it excludes.
fn applies(rule: &Syscalls, machine: Machine<'_>, granted: u64) -> Result<bool, Error> {
    let has = |name: &String| {
        name.parse::<caps::Capability>().is_ok_and(|capability| granted & capability.bitmask() != 0)
    };
    let is_ours = |name: &String| name == machine.arch.go_name();
    let at_least = |version: &String| version_of(version).map(|version| machine.kernel >= version);
    let (includes, excludes) = (&rule.includes, &rule.excludes);
    Ok(includes.caps.iter().all(has)
        && (includes.arches.is_empty() || includes.arches.iter().any(is_ours))
        && includes.min_kernel.as_ref().map_or(Ok(true), at_least)?
        && !excludes.caps.iter().any(has)
        && !excludes.arches.iter().any(is_ours)
        && !excludes.min_kernel.as_ref().map_or(Ok(false), at_least)?)
}

fn version_of(text: &str) -> Result<(u32, u32), Error> {
    text.split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| Error::KernelVersion(text.to_owned()))
}

fn verdict(
    action: profile::Action,
    number: Option<u16>,
    text: Option<&str>,
    machine: Machine<'_>,
) -> Result<Verdict, Error> {
    let number = || profile::errno(number, text, machine.tables);
    Ok(match action {
        profile::Action::KillThread => Verdict::KILL_THREAD,
        profile::Action::KillProcess => Verdict::KILL_PROCESS,
        profile::Action::Trap => Verdict::TRAP,
        profile::Action::Errno => Verdict::errno(number()?),
        profile::Action::Trace => Verdict::trace(number()?),
        profile::Action::Log => Verdict::LOG,
        profile::Action::Allow => Verdict::ALLOW,
        profile::Action::Notify => return Err(Error::Notify),
    })
}

/// The cases that a rule makes: none if it has no conditions. All conditions must hold, except that a rule which
/// looks at one argument twice is as many rules, as runc and crun read it.
fn cases(rule: &Syscalls, verdict: Verdict) -> Result<Vec<Case>, Error> {
    let conditions = rule
        .args
        .iter()
        .map(|a| match a.index {
            0..=5 => {
                // libseccomp does not ask whether the expected bits lie in the mask.
                let value_two = if a.op == Op::MaskedEq { a.value_two & a.value } else { 0 };
                Ok(Condition { index: a.index, op: a.op, value: a.value, value_two })
            }
            _ => Err(Error::ArgumentIndex(a.index)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let twice =
        conditions.iter().enumerate().any(|(i, c)| conditions[..i].iter().any(|d| d.index == c.index));
    Ok(if conditions.is_empty() {
        Vec::new()
    } else if twice {
        conditions.iter().map(|c| Case { conditions: vec![*c], verdict }).collect()
    } else {
        vec![Case { conditions, verdict }]
    })
}

/// Fills the gaps between the numbers that rules speak of, and joins neighbours of the same decision.
fn ranges(
    arch: Arch,
    drafts: BTreeMap<u32, Draft>,
    default: Verdict,
    newer_is_enosys: bool,
) -> Vec<(u32, Decision)> {
    let plain = |otherwise| Decision { cases: Vec::new(), otherwise };
    // The kernel of an ordinary distribution has no x32 ABI, and a second set of numbers is a second set of holes.
    let end = if arch == Arch::X86_64 { X32 } else { u32::MAX };
    let mut ranges = Vec::new();
    let mut next = 0;
    for (number, draft) in drafts.into_iter().filter(|(number, _)| *number < end) {
        if number > next {
            ranges.push((next, plain(default)));
        }
        ranges.push((number, draft.decide(default)));
        next = number + 1;
    }
    // A profile without a single rule for this architecture has no newest call.
    let newer = if newer_is_enosys && next > 0 { Verdict::errno(ENOSYS) } else { default };
    ranges.push((next, plain(newer)));
    if arch == Arch::X86_64 {
        ranges.push((X32, plain(Verdict::errno(ENOSYS))));
    }
    ranges.dedup_by(|right, left| right.1 == left.1);
    ranges
}
