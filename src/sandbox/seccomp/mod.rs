//! The system call filter of a container.
//!
//! A filter narrows what of the kernel a container's programs can reach. The built-in profile, `default.json`, is
//! a list of what is allowed, grouped with reasons; everything else answers ENOSYS, or EPERM where a program
//! should know that it may not. What it allows is what docker and podman allow; the differences are listed, with
//! reasons, in a test. Some rules depend on the container's capabilities: who has `CAP_SYS_ADMIN` in its own user
//! namespace may mount there.
//!
//! ```text
//! build.rs:  default.json ── compiler ──▶ one filter for the default capabilities, one for none
//! run time:  Choice::Default ───────────▶ one of those, without any work
//!            Choice::Default, other capabilities; Choice::Profile(JSON) ── compiler ──▶ a new filter
//! ```
//!
//! [`filter`] makes the program, before anything else is done, so that a bad profile fails the command and
//! not the container; [`Filter::install`] is the last but one step of the container's first process. A filter is
//! for good and is inherited.
//!
//! Not a boundary by itself: 32-bit x86 programs reach any socket family through `socketcall`, whose arguments no
//! filter can see.

mod compiler;
mod prepared;

use crate::diagnose::Diagnose;
use crate::kernel;
use crate::sandbox::capabilities::CapSet;
use compiler::Machine;
use compiler::profile::Profile;
use compiler::tables::Tables;
use std::borrow::Cow;
use std::io;

pub use compiler::Error;

/// The built-in profile, in docker's JSON model.
pub const DEFAULT_PROFILE: &str = include_str!("default.json");

/// Which filter is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// The built-in profile.
    Default,
    /// None. Also for `--privileged`.
    Unconfined,
    /// A profile in docker's JSON format.
    Profile(&'a str),
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Cow<'static, [u8]>,
    flags: u32,
}

impl Filter {
    /// The program: an array of `struct sock_filter`.
    pub fn program(&self) -> &[u8] {
        &self.program
    }

    /// Subjects the calling thread, and all that it starts, to the filter. It must have `no_new_privs` or
    /// `CAP_SYS_ADMIN` in its user namespace.
    pub fn install(&self) -> io::Result<()> {
        kernel::seccomp::install(&self.program, self.flags)
    }
}

/// The filter for a container that is granted `capabilities`, if it is to have one.
pub fn filter(choice: Choice<'_>, capabilities: CapSet) -> Result<Option<Filter>, Error> {
    let json = match choice {
        Choice::Unconfined => return Ok(None),
        Choice::Default => {
            if let Some(program) = prepared::filter(capabilities) {
                return Ok(Some(Filter { program: program.into(), flags: DEFAULT_FLAGS }));
            }
            DEFAULT_PROFILE
        }
        Choice::Profile(json) => json,
    };
    let profile = Profile::parse(json)?;
    let tables = Tables::parse(prepared::SYSCALLS, prepared::ERRNOS);
    let machine = Machine { arch: prepared::ARCH, kernel: running_kernel(), tables: &tables };
    let program = compiler::compile(&profile, machine, capabilities.bits())?;
    Ok(Some(Filter { program: program.into(), flags: profile.flags()? }))
}

/// Those of a profile that says nothing of flags.
const DEFAULT_FLAGS: u32 = compiler::profile::SPEC_ALLOW;

/// Major and minor version; the oldest there is, if the kernel's name has another form.
fn running_kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Notify => "remove the rules with SCMP_ACT_NOTIFY: there is no agent to ask".to_owned(),
            Self::TooLong(_) => "make the profile shorter: compare fewer arguments".to_owned(),
            _ => "correct the file given with --security-opt seccomp=".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
