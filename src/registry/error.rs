//! What can go wrong with a registry.

use crate::diagnose::Diagnose;
use crate::digest::Digest;
use std::io;
use std::path::PathBuf;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers, or not to the end.
    #[error("cannot reach {host}")]
    Connect {
        /// `host[:port]`.
        host: String,
        /// What the network, the resolver or TLS said.
        #[source]
        source: io::Error,
    },
    /// The registry does not have it.
    #[error("{what} not found: {detail}")]
    NotFound {
        /// `manifest for NAME` or `blob DIGEST of NAME`.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry does not give it to us.
    #[error("access to {what} denied: {detail}")]
    Denied {
        /// What was asked for.
        what: String,
        /// By whom it was denied.
        host: String,
        /// The registry's words.
        detail: String,
        /// Whether credentials were sent.
        authenticated: bool,
    },
    /// Too many requests.
    #[error("{host} takes no more requests for now: {detail}")]
    RateLimit {
        /// Who.
        host: String,
        /// The registry's words.
        detail: String,
    },
    /// Any other answer that is none.
    #[error("{host} answered {status} when asked for {what}: {detail}")]
    Status {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words.
        detail: String,
    },
    /// An answer that makes no sense, or that we must not follow.
    #[error("{host} {why}")]
    Protocol {
        /// Who.
        host: String,
        /// What it did, as a verb phrase.
        why: String,
    },
    /// Other bytes than the ones asked for.
    #[error("{what} has the wrong digest: expected {expected}, got {got}")]
    Digest {
        /// What was asked for.
        what: String,
        /// Its digest.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// More bytes than we are ready to take.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A configuration, credentials or certificate file is bad.
    #[error("{}{}: {why}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, where known.
        line: Option<usize>,
        /// What is wrong with it.
        why: String,
    },
    /// `blocked = true` in `registries.conf`.
    #[error("{name} is blocked")]
    Blocked {
        /// What was to be fetched.
        name: String,
        /// The prefix that forbids it.
        prefix: String,
    },
    /// A short name that `registries.conf` wants to be completed by the user.
    #[error("short name {name} could be any of {}", candidates.join(", "))]
    ShortName {
        /// As typed.
        name: String,
        /// What it could mean.
        candidates: Vec<String>,
    },
    /// The registry does not know this user, or not with this password.
    #[error("logging in to {host}: invalid username or password")]
    Login {
        /// Which registry.
        host: String,
    },
    /// A credentials file cannot be written.
    #[error(transparent)]
    State(#[from] crate::state::Error),
    /// A credential helper failed.
    #[error("credential helper {helper} failed: {why}")]
    Helper {
        /// The program.
        helper: String,
        /// What it said (never its output of secrets).
        why: String,
    },
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        Some(match self {
            Error::Connect { host, source } => connect_fix(host, source),
            Error::NotFound { .. } => "check the name and the tag".into(),
            Error::Denied { authenticated: true, host, .. } => {
                format!("check the name, and that the user you are logged in to {host} as may do this")
            }
            Error::Denied { host, .. } => format!(
                "check the name; if it is private, log in first: coracle login {host} ('podman login' and 'docker login' count too)"
            ),
            Error::RateLimit { host, .. } => {
                format!("wait, or log in to {host}: known users usually have a higher limit")
            }
            Error::Login { .. } => {
                "check both; many registries want an access token instead of the password".into()
            }
            Error::State(error) => return error.fix(),
            Error::Blocked { prefix, .. } => {
                format!(
                    "the entry with prefix {prefix} in registries.conf says so; change it, or use another registry"
                )
            }
            Error::ShortName { .. } => "type the full name, or set short-name-mode in registries.conf".into(),
            Error::Helper { helper, .. } => {
                format!(
                    "see whether 'echo HOST | {helper} get' works, or take it out of the credentials file"
                )
            }
            Error::Digest { .. } => "try again; if it persists, the registry or a proxy is broken".into(),
            Error::Status { status: 500.., .. } => "try again later: the registry has a problem".into(),
            Error::Status { .. } | Error::Protocol { .. } | Error::TooLarge { .. } | Error::File { .. } => {
                return None;
            }
        })
    }
}

fn connect_fix(host: &str, source: &io::Error) -> String {
    let text = source.to_string();
    if source.kind() == io::ErrorKind::ConnectionRefused {
        format!("check that a registry listens on {host}")
    } else if text.contains("certificate") {
        format!(
            "put the registry's CA into ~/.config/containers/certs.d/{host}/ca.crt, or use --tls-verify=false"
        )
    } else if text.contains("corrupt message") || text.contains("InvalidContentType") {
        format!("if {host} speaks plain http, use --tls-verify=false or set insecure in registries.conf")
    } else if source.kind() == io::ErrorKind::TimedOut {
        format!("try again later, or take a mirror of {host} that is faster ('registries.conf')")
    } else {
        "check the name of the registry and the network".into()
    }
}

/// Words of a registry, fit for a terminal: one line, no control characters, not endless.
pub(super) fn clean(text: &str) -> String {
    let mut out: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_cannot_drive_the_terminal() {
        assert_eq!(clean("  no\x1b[2Jway\nhere \n"), "no [2Jway here");
        assert_eq!(clean(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn file_errors_name_the_line() {
        let error = Error::File { path: "/etc/x.conf".into(), line: Some(3), why: "bad".into() };
        assert_eq!(error.to_string(), "/etc/x.conf:3: bad");
        let error = Error::File { path: "/etc/x.conf".into(), line: None, why: "bad".into() };
        assert_eq!(error.to_string(), "/etc/x.conf: bad");
    }
}
