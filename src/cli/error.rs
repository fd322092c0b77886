//! What is wrong with a command line, before any work has begun.

use super::parse::Invalid;
use crate::diagnose::{Diagnose, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_OURS};
use std::path::{Path, PathBuf};

/// Why a command line cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not parse.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What would be right.
        fix: String,
    },
    /// docker or podman have it, we do not yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// The flag or command.
        what: String,
    },
    /// A flag's value is none.
    #[error("invalid argument \"{value}\" for \"--{flag}\" flag: {}", invalid.why)]
    Value {
        /// The flag, without dashes.
        flag: String,
        /// What was given.
        value: String,
        /// Why not.
        invalid: Invalid,
    },
    /// A program of the host cannot be executed.
    #[error("cannot execute {command}")]
    Execute {
        /// The program.
        command: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Another process has reported it already; only the exit code is left to tell.
    #[error("")]
    Reported(u8),
    /// A file named on the command line cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// A usage error with advice.
    pub fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), fix: fix.into() }
    }

    pub(super) fn value(flag: &str, value: &str) -> impl FnOnce(Invalid) -> Self {
        move |invalid| Self::Value { flag: flag.to_owned(), value: value.to_owned(), invalid }
    }

    pub(super) fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.as_ref().to_owned(), source }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Self::Usage { fix, .. } => Some(fix.clone()),
            Self::Value { invalid, .. } => invalid.fix.clone(),
            Self::Unsupported { .. } | Self::File { .. } | Self::Execute { .. } | Self::Reported(_) => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Reported(code) => *code,
            Self::Execute { source, .. } if source.kind() == std::io::ErrorKind::NotFound => EXIT_NOT_FOUND,
            Self::Execute { .. } => EXIT_NOT_EXECUTABLE,
            _ => EXIT_OURS,
        }
    }
}
