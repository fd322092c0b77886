//! Paths that cannot leave a root, and a /proc that can be believed.
//!
//! A container's root file system is hostile: any name in it may be a symbolic link to anywhere, and a running
//! container can swap one for another while we look. A path inside it is therefore never joined to a string and
//! handed to the kernel. It is resolved from a descriptor of the root, as a process that had been chrooted there
//! would see it: absolute links start at the root, `..` at the root stays (SECURITY row 1).
//!
//! * [`Root`] does that in one of two ways, chosen once by a probe. Normally the kernel does it: openat2(2) with
//!   `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`. Where that call is missing (before Linux 5.6, or forbidden by an
//!   outer container's seccomp filter) we walk by hand: every component is opened on its own, relative to the
//!   descriptor before it and never through a link; links are read and their text is walked in turn; `..` drops the
//!   last descriptor instead of asking the kernel. No step can leave the directory it starts in, so no race can.
//! * The same walk makes missing directories ([`Root::create_dir_all`], [`Root::create_file`]). A dangling link on
//!   the way is followed and its target is made, inside the root: images do ship `/var/run -> /run` without `/run`.
//! * [`TrustedProc`] is a procfs of our own, or the mounted one after checks, because /proc inside a container's
//!   mount namespace may be anything, and what we write there (sysctls, labels) must not land in another file
//!   (CVE-2019-19921, CVE-2025-52881).
//!
//! What is returned is a descriptor; what is done next is done on it, not on the path again. Errors are plain
//! `io::Error`s: the caller knows which file of which container it asked for, and says so.
//!
//! Not protected against: a directory moved out of the root by somebody who may write outside it. That is not the
//! container.

mod follow;
mod proc;
mod root;
mod walk;

pub use follow::follow;
pub use proc::TrustedProc;
pub use root::Root;
