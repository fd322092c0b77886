//! What an error owes its reader: beside *what failed* and *why* (`Display` and `source`), the *fix*, and
//! the exit code. Every room's error type implements [`Diagnose`]; the only place that prints errors,
//! [`crate::output::error`], asks for it.

/// Exit code of docker and podman for an error of the tool itself.
pub const EXIT_OURS: u8 = 125;
/// Exit code when the command is there and cannot be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code when the command does not exist.
pub const EXIT_NOT_FOUND: u8 = 127;

/// An error that can say how to get past it.
pub trait Diagnose: std::error::Error + Send + Sync + 'static {
    /// What the user can do about it: one or two lower-case sentences or commands, where we know any.
    fn fix(&self) -> Option<String> {
        None
    }

    /// The exit code of a command that ends with this error.
    fn exit_code(&self) -> u8 {
        EXIT_OURS
    }
}
