//! What a container wrote, kept in files and shown again.
//!
//! The format is Kubernetes' CRI text format, podman's `k8s-file`, one entry per line:
//!
//! ```text
//! 2025-01-31T12:00:00.123456789Z stdout F a whole line
//! 2025-01-31T12:00:01.000000000Z stderr P a line whose end has not been written yet
//! ```
//!
//! *F* entries end a line, *P* entries are followed by the rest of theirs. The bytes are the container's own, UTF-8
//! or not; only the newline has a meaning. Times are UTC, one clock reading per chunk of output.
//!
//! * [`LogWriter`] belongs to the monitor. `ctr.log` is made with the first byte, so a silent container costs no
//!   file. When an entry would carry it over `max_size`, it becomes `ctr.log.1`, that `ctr.log.2` and so on, and of
//!   `max_file` files the oldest goes. It never syncs, takes no lock and waits for no reader. When the disk is full,
//!   output is dropped, not the container: the file is cut back to its last whole entry, and once there is room
//!   again an entry on stderr says how much was lost.
//! * [`print`] belongs to `logs`. It reads the files from the oldest on, or from the place that [`LogQuery::tail`]
//!   says, found by reading backwards. Following is inotify on the folder, where it can be had, and a look every
//!   fifth of a second. A rotation is noticed by the inode of `ctr.log`; the files between the one being read and
//!   the new one are read in order.
//!
//! Writer and reader share nothing but the files. An entry that does not parse (torn by a power cut) is skipped.

mod entry;
mod files;
mod reader;
mod writer;

pub use entry::Stream;
pub use reader::{LogQuery, print};
pub use writer::LogWriter;
