//! What `build.rs` has left for this machine: filters, and the tables to make others.

use super::compiler::Arch;
use crate::sandbox::capabilities::CapSet;

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// The system calls, for [`super::compiler::tables`].
pub(super) const SYSCALLS: &str = include_str!(concat!(env!("OUT_DIR"), "/syscalls.txt"));
/// The error numbers, likewise.
pub(super) const ERRNOS: &str = include_str!(concat!(env!("OUT_DIR"), "/errnos.txt"));

/// The built-in profile's filter for these capabilities, if it was made in advance.
pub(super) fn filter(capabilities: CapSet) -> Option<&'static [u8]> {
    let relevant = capabilities.bits() & RELEVANT;
    PREPARED.iter().find(|(granted, _)| *granted == relevant).map(|(_, program)| *program)
}
