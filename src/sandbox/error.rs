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
    #[error("the process was killed before its command was started")]
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

    /// The same with no text too long for a message of the channel.
    pub(super) fn shortened(&self) -> Self {
        let mut error = self.clone();
        match &mut error {
            Error::Step { step, why, .. } => {
                shorten(step);
                shorten(why);
            }
            Error::NotFound { command } => shorten(command),
            Error::NotExecutable { command, why } => {
                shorten(command);
                shorten(why);
            }
            Error::User(text) => shorten(text),
            Error::Vanished => {}
        }
        error
    }

    /// What a failed execve means.
    pub(crate) fn exec(command: &str, e: &io::Error) -> Error {
        use nix::libc::{ENOENT, ENOTDIR};
        let mut command = command.to_owned();
        shorten(&mut command);
        match e.raw_os_error() {
            Some(ENOENT | ENOTDIR) => Error::NotFound { command },
            _ => Error::NotExecutable { command, why: plain(e) },
        }
    }
}

/// What is shown of a text that somebody made very long.
const SHOWN: usize = 512;

fn shorten(text: &mut String) {
    if text.len() > SHOWN {
        let total = text.len();
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push_str(&format!("… ({total} bytes)"));
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
            Error::NotExecutable { why, .. } if why.starts_with("file name too long") => {
                Some("a path has at most 4095 bytes, and a name in it 255".into())
            }
            Error::NotExecutable { why, .. } if why.starts_with("argument list too long") => {
                Some("make the command or its environment shorter: one word may have 128 KiB (execve(2))".into())
            }
            Error::NotExecutable { why, .. } if why.starts_with("exec format error") => Some(
                "it is no program, or one for another architecture, which an emulator can run: install \
                 qemu-user-static, which registers itself with binfmt_misc (flag F)"
                    .into(),
            ),
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
            Error::Step { step, .. } if step.starts_with("set the OOM score") => Some(
                "only an administrator can go below what this shell has (/proc/self/oom_score_adj)".into(),
            ),
            Error::Step { step, errno, .. } if step.starts_with("set the sysctl") => {
                Some(match *errno {
                    nix::libc::ENOENT => "check its name: 'sysctl -a' lists those of this kernel".into(),
                    nix::libc::EINVAL => "give it a value that it takes".into(),
                    _ => "an ordinary user's container may set only those of its own network and IPC namespaces".into(),
                })
            }
            Error::Step { step, .. } if step.ends_with("on /etc/hosts") => Some(
                "this image has something odd there: --no-hosts leaves it alone, or mount a file on it with -v".into(),
            ),
            Error::Step { step, .. } if step.ends_with("on /etc/hostname") => Some(
                "this image has something odd there: --no-hostname leaves it alone, or mount a file on it with -v".into(),
            ),
            Error::Step { step, .. } if step.ends_with("on /etc/resolv.conf") => Some(
                "this image has something odd there: --dns none leaves it alone, or mount a file on it with -v".into(),
            ),
            Error::Step { step, .. } if step.starts_with("bind the device") => {
                Some("check the path on the host, and that this user may see it".into())
            }
            Error::Step { step, why, .. } if step.starts_with("become user") && why.contains("ids of the container") => Some(
                "use a smaller id, or have an administrator give more: usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 $USER"
                    .into(),
            ),
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
