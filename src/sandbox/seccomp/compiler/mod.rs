//! The compiler: a seccomp profile in docker's JSON model becomes a classic BPF program.
//!
//! Used in two places: `build.rs` includes this folder by path and compiles the built-in profile for the target
//! machine; at run time the same code compiles a user's profile, and the built-in one for unusual capabilities.
//! It therefore depends on nothing else of this crate.
//!
//! Three steps, each a pure function:
//! 1. [`profile`]: the JSON as types;
//! 2. [`policy`]: the rules that apply here (capabilities, architecture, kernel), names looked up in the
//!    [`tables`], as a map from ranges of system call numbers to decisions, one for each architecture whose
//!    programs the kernel runs;
//! 3. [`emit`]: that map as a binary search in BPF.
//!
//! Why not seccompiler: it has one action for what matches and one for what does not, so it can't answer EPERM to
//! some calls and ENOSYS to others, and it kills 32-bit programs on a 64-bit kernel.
//!
//! Of several rules that fit a call, one that refuses it beats one that lets it through, so that a refusal added
//! anywhere in a profile holds; among equals a rule with conditions comes before one without, and then the first.
//! (libseccomp lets the first rule without conditions beat all others: podman's own profile allows `setns`, and
//! then refuses it without effect.)

pub mod emit;
pub mod policy;
pub mod profile;
pub mod tables;

#[cfg(test)]
pub(super) mod tests;

use policy::Policy;
use profile::Profile;
use tables::Tables;

/// The longest program that the kernel takes (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// Why a profile can not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of docker's form.
    #[error("the seccomp profile is malformed")]
    Syntax(#[from] serde_json::Error),
    /// A rule refuses a call that no table knows: it would silently not be refused.
    #[error("the seccomp profile refuses an unknown system call '{0}'")]
    UnknownSyscall(String),
    /// System calls have six arguments.
    #[error("the seccomp profile compares argument {0}, but arguments are numbered 0 to 5")]
    ArgumentIndex(u32),
    /// An error number, as number or name, that is none.
    #[error("'{0}' in the seccomp profile is not an error number")]
    Errno(String),
    /// A `minKernel` that is no version.
    #[error("'{0}' in the seccomp profile is not a kernel version")]
    KernelVersion(String),
    /// A flag that we can not honour.
    #[error("the seccomp profile's flag '{0}' is not supported")]
    Flag(String),
    /// The action that hands calls to another process.
    #[error("the seccomp profile's action SCMP_ACT_NOTIFY is not supported")]
    Notify,
    /// More than the kernel takes.
    #[error("the seccomp profile needs {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

/// An architecture whose programs we can filter.
// Each build makes only its own machine's.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm (EABI).
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// The architecture of the 32-bit programs that such a kernel may run beside its own.
    pub fn compat(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::I386),
            Self::Aarch64 => Some(Self::Arm),
            _ => None,
        }
    }

    /// `seccomp_data.arch`: AUDIT_ARCH_* of linux/audit.h.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xC000_00B7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xC000_00F3,
        }
    }

    /// The name in a profile's `architectures` and `archMap`.
    pub(super) fn scmp_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::I386 => "SCMP_ARCH_X86",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// The name in a rule's `includes.arches` and `excludes.arches`, which means the machine's architecture.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::I386 => "x86",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
        }
    }
}

/// What a profile's rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The architecture.
    pub arch: Arch,
    /// Major and minor version of the running kernel.
    pub kernel: (u32, u32),
    /// The names and numbers of system calls and errors.
    pub tables: &'a Tables<'a>,
}

/// The program for this machine and for a process that may have the capabilities `granted` (a bit each): an array
/// of `struct sock_filter` in little-endian, as all the machines that we know are.
pub fn compile(profile: &Profile, machine: Machine<'_>, granted: u64) -> Result<Vec<u8>, Error> {
    let program = emit::emit(&Policy::resolve(profile, machine, granted)?);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(program.iter().flat_map(|instruction| instruction.to_bytes()).collect())
}
