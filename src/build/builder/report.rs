//! What the process of a stage says to the one that started it: lines of JSON on a pipe.
//!
//! A stage has one step at a time, so no message names its step. A pipe that is full holds the stage back, and its step's
//! container with it.

use super::Stage;
use crate::build::Error;
use crate::build::dockerfile::{Dockerfile, Problem, Span};
use crate::build::progress::{Outcome, StepKind};
use crate::container::session::Failure;
use crate::diagnose::Diagnose;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io::{self, PipeReader, PipeWriter, Read, Write};

/// A message.
#[derive(Serialize, Deserialize)]
pub(super) enum Said {
    /// A step with this name begins.
    Begun(StepKind, String),
    /// What it is doing, of how many bytes.
    Note(String, Option<u64>),
    /// It says something on standard error or output.
    Output {
        is_error: bool,
        /// Base64.
        data: String,
    },
    /// It will be on these networks.
    Connecting(Vec<String>),
    /// A cache elsewhere has failed, for this reason.
    Useless {
        /// Its place among them.
        cache: usize,
        why: String,
    },
    /// The step is over.
    Ended(Outcome),
    /// The stage is: nothing comes after it.
    Finished(Box<Result<Stage, Broken>>),
}

/// An [`Error`] on its way. It is about the build's one Dockerfile, if it is about a Dockerfile.
#[derive(Serialize, Deserialize)]
pub(super) struct Broken {
    problem: Option<(usize, usize, String, Option<String>)>,
    cause: Option<Failure>,
}

impl Broken {
    pub(super) fn of(error: Error) -> Broken {
        let place = |problem: &Problem| {
            let Span { start, end } = problem.span();
            Some((start, end, problem.message().to_owned(), problem.fix()))
        };
        match error {
            Error::Problem(problem) => Broken { problem: place(&problem), cause: None },
            Error::Step { problem, source } => Broken { problem: place(&problem), cause: Some(source) },
            Error::Failed(failure) => Broken { problem: None, cause: Some(failure) },
            other => Broken { problem: None, cause: Some(Failure::of(&other)) },
        }
    }

    pub(super) fn into_error(self, file: &Dockerfile) -> Error {
        let problem = self.problem.map(|(start, end, message, hint)| {
            let problem = Problem::new(&file.source, Span { start, end }, message);
            Box::new(match hint {
                Some(hint) => problem.hint(hint),
                None => problem,
            })
        });
        match (problem, self.cause) {
            (Some(problem), Some(source)) => Error::Step { problem, source },
            (Some(problem), None) => Error::Problem(problem),
            (None, Some(failure)) => Error::Failed(failure),
            (None, None) => lost(),
        }
    }
}

/// A stage's process is gone without a word.
pub(super) fn lost() -> Error {
    Error::io("finish a stage")(io::Error::other("its process was killed"))
}

/// The stage's end. That nobody listens is no error here: the process is ended then.
pub(super) struct Reporter(PipeWriter);

impl Reporter {
    pub(super) fn new(pipe: PipeWriter) -> Reporter {
        Reporter(pipe)
    }

    pub(super) fn say(&self, said: &Said) -> io::Result<()> {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        (&self.0).write_all(&line)
    }

    pub(super) fn output(&self, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        self.say(&Said::Output { is_error, data: STANDARD.encode(bytes) })
    }
}

/// The other end.
pub(super) struct Listener {
    pub(super) pipe: PipeReader,
    buffer: Vec<u8>,
}

impl Listener {
    pub(super) fn new(pipe: PipeReader) -> io::Result<Listener> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Listener { pipe, buffer: Vec::new() })
    }

    /// Reads what is there, a bounded piece of it; whether there may be more.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 64 << 10];
        match self.pipe.read(&mut piece) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The whole messages so far.
    pub(super) fn take(&mut self) -> io::Result<Vec<Said>> {
        let Some(end) = self.buffer.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let lines: Vec<u8> = self.buffer.drain(..=end).collect();
        lines[..end].split(|byte| *byte == b'\n').map(|line| Ok(serde_json::from_slice(line)?)).collect()
    }
}

/// What an [`Said::Output`] carries.
pub(super) fn decoded(data: &str) -> Vec<u8> {
    STANDARD.decode(data).unwrap_or_default()
}
