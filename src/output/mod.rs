//! What the user sees.
//!
//! Rooms below return values and errors; this one turns them into text, and nothing else prints. The forms
//! are docker's, because scripts read them: aligned tables, `--format` templates over the same fields, sizes and
//! times in its words.

pub mod ask;
pub mod build;
pub mod error;
pub mod human;
pub mod listing;
pub mod progress;
pub mod table;
pub mod template;
pub mod yaml;

use std::io::{ErrorKind, Write};

/// Writes to standard output. A reader that has gone away (`coracle ps | head -1`) ends the program quietly,
/// as SIGPIPE would have.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Tells the user something that is no error, on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Tells the user of something wrong that the command got past.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}
