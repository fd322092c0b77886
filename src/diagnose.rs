//! What an error owes its reader: beside *what failed* and *why* (`Display` and `source`), the *fix*, and
//! the exit code. Every room's error type implements [`Diagnose`]; the only place that prints errors,
//! [`crate::output::error`], asks for it.

use std::fmt;
use std::net::SocketAddr;

/// Exit code of docker and podman for an error of the tool itself.
pub const EXIT_OURS: u8 = 125;
/// Exit code when the command is there and cannot be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code when the command does not exist.
pub const EXIT_NOT_FOUND: u8 = 127;

/// A port of the host that somebody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TakenPort {
    /// Where it was to be opened.
    pub address: SocketAddr,
    /// On all addresses of the host, of both families.
    pub any_family: bool,
    /// TCP's; else UDP's.
    pub is_tcp: bool,
}

impl fmt::Display for TakenPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = if self.is_tcp { "tcp" } else { "udp" };
        match self.any_family {
            true => write!(f, "{}/{transport}", self.address.port()),
            false => write!(f, "{}/{transport}", self.address),
        }
    }
}

/// An error that can say how to get past it.
pub trait Diagnose: std::error::Error + Send + Sync + 'static {
    /// What the user can do about it: one or two lower-case sentences or commands, where we know any.
    fn fix(&self) -> Option<String> {
        None
    }

    /// The port, where it is that somebody has one: whoever prints the error may be able to tell who.
    fn taken_port(&self) -> Option<TakenPort> {
        None
    }

    /// The exit code of a command that ends with this error.
    fn exit_code(&self) -> u8 {
        EXIT_OURS
    }
}
