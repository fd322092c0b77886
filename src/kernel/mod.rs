//! System calls that rustix and nix do not have, and all of the library's unsafe code.
//!
//! One thin function per call: it takes owned or borrowed descriptors and references instead of numbers and
//! pointers, and answers `io::Result`. No policy lives here. Every `unsafe` block states why it is sound; a
//! wrapper whose soundness depends on its caller does not exist here: what must hold is checked
//! (see [`process::fork`], which refuses to fork a process with several threads).

pub mod keyring;
pub mod memory;
pub mod mount;
pub mod net;
pub mod process;
pub mod seccomp;
pub mod socket;
pub mod stub;
