//! The JSON model of docker's and podman's profiles, which is that of the OCI runtime spec ("config-linux.md",
//! "Seccomp") and more: `archMap`, `includes`, `excludes`, and podman's `errno` names.

use super::Error;
use super::tables::Tables;
use serde::{Deserialize, Deserializer};

/// SECCOMP_FILTER_FLAG_SPEC_ALLOW.
pub const SPEC_ALLOW: u32 = 4;
/// SECCOMP_FILTER_FLAG_LOG.
const LOG: u32 = 2;

/// A profile.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub(super) default_action: Action,
    pub(super) default_errno_ret: Option<u16>,
    pub(super) default_errno: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) arch_map: Vec<ArchMap>,
    flags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    /// The rules.
    pub syscalls: Vec<Syscalls>,
}

/// An architecture of the machine and those whose programs it may run beside its own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchMap {
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) sub_architectures: Vec<String>,
}

/// A rule: what to do with some system calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscalls {
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    /// The form before `names`.
    name: Option<String>,
    pub(super) action: Action,
    pub(super) errno_ret: Option<u16>,
    pub(super) errno: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) args: Vec<Argument>,
    #[serde(default, deserialize_with = "null_is_empty")]
    /// It applies only where this holds.
    pub includes: Filter,
    #[serde(default, deserialize_with = "null_is_empty")]
    /// It does not apply where this holds.
    pub excludes: Filter,
}

/// A comparison of one argument.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub(super) index: u32,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: Op,
}

/// When a rule applies, or does not.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    #[serde(default, deserialize_with = "null_is_empty")]
    /// Capabilities.
    pub caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) arches: Vec<String>,
    #[serde(default)]
    pub(super) min_kernel: Option<String>,
}

/// How an argument is compared with `value`, as unsigned 64-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Op {
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// `argument & value == valueTwo`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// What happens to a call, without the number that some actions carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Action {
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

impl Action {
    /// Does the call happen (unless a tracer thinks otherwise)?
    pub(super) fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Trace)
    }
}

fn null_is_empty<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Profile {
    /// From JSON text.
    pub fn parse(json: &str) -> Result<Self, Error> {
        Ok(serde_json::from_str(json)?)
    }

    /// Flags for seccomp(2). Not given: the speculation mitigations that before Linux 5.16 came with every
    /// filter are left to the process, as runc does, because they cost more than they protect here.
    pub fn flags(&self) -> Result<u32, Error> {
        let Some(flags) = &self.flags else { return Ok(SPEC_ALLOW) };
        flags.iter().try_fold(0, |bits, flag| match flag.as_str() {
            // A container starts with one thread, so there is nothing to synchronise.
            "SECCOMP_FILTER_FLAG_TSYNC" => Ok(bits),
            "SECCOMP_FILTER_FLAG_LOG" => Ok(bits | LOG),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(bits | SPEC_ALLOW),
            _ => Err(Error::Flag(flag.clone())),
        })
    }
}

impl Syscalls {
    /// The system calls' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.name).map(String::as_str)
    }
}

/// The number that goes with an action: a name or number as text, which only podman has, comes first.
pub(super) fn errno(number: Option<u16>, text: Option<&str>, tables: &Tables<'_>) -> Result<u16, Error> {
    const EPERM: u16 = 1;
    /// The kernel answers no greater one (MAX_ERRNO).
    const MAX: u16 = 4095;
    let errno = match text {
        Some(text) if !text.is_empty() => text.parse().ok().or_else(|| tables.errno(text)),
        _ => Some(number.unwrap_or(EPERM)),
    };
    errno.filter(|errno| *errno <= MAX).ok_or_else(|| {
        Error::Errno(text.map_or_else(|| number.unwrap_or_default().to_string(), str::to_owned))
    })
}
