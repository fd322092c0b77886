//! Why an image cannot be built.

use super::dockerfile::Problem;
use crate::container::session::Failure;
use crate::diagnose::Diagnose;
use std::io;
use std::path::{Path, PathBuf};

/// Why an image cannot be built. As docker's, they end the command with 1, or with 128 and the signal's number.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile, or what one of its instructions came to.
    #[error(transparent)]
    Problem(#[from] Box<Problem>),
    /// An instruction could not be carried out.
    #[error("{problem}")]
    Step {
        /// Which, and where.
        problem: Box<Problem>,
        /// Why.
        source: Failure,
    },
    /// `--target` names no stage.
    #[error("target stage \"{0}\" could not be found")]
    Target(String),
    /// The context.
    #[error(transparent)]
    Context(#[from] super::context::Error),
    /// A file of a context.
    #[error("{0} changed while it was copied")]
    Changed(String),
    /// Something that had to be fetched.
    #[error(transparent)]
    Fetch(#[from] super::fetch::Error),
    /// The image.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// The cache's folder.
    #[error(transparent)]
    State(#[from] crate::state::Error),
    /// A signal asked for its end.
    #[error("the build was interrupted")]
    Interrupted(i32),
    /// Warnings, where the Dockerfile says that they are errors.
    #[error("{0}")]
    Check(String),
    /// Reported by the process in which it happened.
    #[error(transparent)]
    Failed(Failure),
    /// What comes out cannot be written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A process cannot be made or asked.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Io { action, source: source.into() }
    }

    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// In one line, without the place.
    pub(super) fn summary(&self) -> String {
        match self {
            Error::Problem(problem) => problem.message().to_owned(),
            Error::Step { problem, source } => format!("{}: {source}", problem.message()),
            other => other.to_string(),
        }
    }

    /// What it is about in the Dockerfile.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Error::Problem(problem) | Error::Step { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// The same as what became of an instruction.
    pub(super) fn at(self, problem: Problem) -> Error {
        let problem = Box::new(problem);
        match self {
            Error::Failed(source) => Error::Step { problem, source },
            Error::Context(error) => Error::Step { problem, source: Failure::of(&error) },
            Error::Fetch(error) => Error::Step { problem, source: Failure::of(&error) },
            other => other,
        }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Problem(problem) => problem.fix(),
            Error::Step { source, .. } | Error::Failed(source) => source.fix(),
            Error::Target(_) => Some("name a stage by what follows AS in its FROM, or by its number".into()),
            Error::Context(error) => error.fix(),
            Error::Fetch(error) => error.fix(),
            Error::Image(error) => error.fix(),
            Error::State(error) => error.fix(),
            Error::Changed(_) => Some("build again".into()),
            Error::Check(_) => {
                Some("mend what the warnings say, or take error=true out of the check directive".into())
            }
            Error::Io { .. } | Error::File { .. } | Error::Interrupted(_) => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(1),
            _ => 1,
        }
    }
}
