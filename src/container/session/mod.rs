//! A session: one process in a container, its streams, and who listens to them.
//!
//! The monitor of a container runs a session for the container's first process; `exec` runs one for the process that
//! it starts. A session is a single thread in one poll(2) loop:
//!
//! ```text
//!   process ── pipes or terminal ──▶ log
//!                                └─▶ clients (frames on a stream socket): the CLI that started it,
//!   process ◀── pipe or terminal ─── clients                              and each `attach`
//! ```
//!
//! A client that reads slowly holds the process back, as a pipe would: output is read only while every client's outbox
//! is short, so that memory stays bounded. A client that is gone is forgotten. The session ends when the
//! process has ended and its streams are drained.

mod client;
mod pump;
mod wire;

pub use client::{Client, Ending, Interaction};
pub use pump::{Companion, Ended, Pump, Streams, Undelivered, make_streams};
pub use wire::Frame;

use crate::diagnose::{Diagnose, EXIT_OURS, TakenPort};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;

/// An error on its way from a session's process to the client's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    what: String,
    cause: Option<Box<Failure>>,
    fix: Option<String>,
    code: u8,
    taken_port: Option<TakenPort>,
}

impl Failure {
    /// From any room's error.
    pub fn of(error: &dyn Diagnose) -> Self {
        let (fix, code, taken_port) = (error.fix(), error.exit_code(), error.taken_port());
        Self { fix, code, taken_port, ..Self::bare(error) }
    }

    fn bare(error: &dyn Error) -> Self {
        let cause = error.source().map(|cause| Box::new(Self::bare(cause)));
        Self { what: error.to_string(), cause, fix: None, code: EXIT_OURS, taken_port: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn Error)
    }
}

impl Diagnose for Failure {
    fn fix(&self) -> Option<String> {
        self.fix.clone()
    }

    fn taken_port(&self) -> Option<TakenPort> {
        self.taken_port
    }

    fn exit_code(&self) -> u8 {
        self.code
    }
}
