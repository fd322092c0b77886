//! Why a container's process does not run. These errors cross a process boundary ([`super::Channel`]), so they
//! carry numbers and text, not sources.

use crate::diagnose::{Diagnose, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_OURS};
use serde::{Deserialize, Serialize};
use std::io;

/// Why a container's process does not run.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// A step of the set-up failed.
    #[error("cannot {step}: {why}")]
    Step {
        /// The step.
        step: String,
        /// What the kernel said.
        why: String,
        /// Its number, 0 if there is none.
        errno: i32,
    },
    /// The command does not exist.
    #[error("cannot run {command:?}: executable file not found{}", if command.contains('/') { "" } else { " in $PATH" })]
    NotFound {
        /// The command.
        command: String,
    },
    /// The command exists and cannot be executed.
    #[error("cannot run {command:?}: {why}")]
    NotExecutable {
        /// The command.
        command: String,
        /// What the kernel said.
        why: String,
    },
    /// The user does not exist in the image.
    #[error("{0}")]
    User(String),
    /// The other side ended without a word.
    #[error("the container's first process ended before its command was started")]
    Vanished,
}

impl Error {
    /// For `map_err`: the step and the error number.
    pub(crate) fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Error {
        move |e| {
            let e: io::Error = e.into();
            Error::Step { step: step.into(), errno: e.raw_os_error().unwrap_or(0), why: plain(&e) }
        }
    }

    /// What a failed execve means.
    pub(crate) fn exec(command: &str, e: &io::Error) -> Error {
        use nix::libc::{ENOENT, ENOTDIR};
        let command = command.to_owned();
        match e.raw_os_error() {
            Some(ENOENT | ENOTDIR) => Error::NotFound { command },
            _ => Error::NotExecutable { command, why: plain(e) },
        }
    }
}

/// An error's text without Rust's "(os error N)".
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::NotFound { command } if command.contains('/') => Some(
                "check the path, and that the interpreter named in its first line is in the image".into(),
            ),
            Error::NotFound { .. } => {
                Some("check the command's spelling, or give its full path in the image".into())
            }
            Error::NotExecutable { .. } => Some(
                "check that it is a program for this machine's architecture and has its x bit set".into(),
            ),
            Error::Step { errno, .. } if *errno == nix::libc::ENOSPC => Some(
                "a disk or a kernel limit is full: free space, or raise the user.max_*_namespaces sysctls"
                    .into(),
            ),
            Error::Step { step, .. } if step.starts_with("set the limit") => {
                Some("ask for no more than this shell may have itself ('ulimit -H -a')".into())
            }
            Error::Step { step, errno, .. }
                if step.starts_with("change to the working directory") && *errno == nix::libc::ENOENT =>
            {
                Some("make it in the container first, or choose another with -w".into())
            }
            Error::User(_) => Some("use a user of the image's /etc/passwd, or a number".into()),
            Error::Step { .. } | Error::Vanished => {
                Some("'coracle doctor' checks what containers need".into())
            }
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::NotFound { .. } => EXIT_NOT_FOUND,
            Error::NotExecutable { .. } | Error::User(_) => EXIT_NOT_EXECUTABLE,
            Error::Step { .. } | Error::Vanished => EXIT_OURS,
        }
    }
}
