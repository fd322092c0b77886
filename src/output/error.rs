//! The one place that prints errors: what failed, why, and what to do about it.

use crate::diagnose::{Diagnose, EXIT_OURS};
use crate::network::ports;
use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Finds the [`Diagnose`] side of an error.
pub type Lookup = for<'a> fn(&'a (dyn Error + 'static)) -> Option<&'a dyn Diagnose>;

macro_rules! first_of {
    ($error:expr, $($kind:ty),+ $(,)?) => {
        $(if let Some(error) = $error.downcast_ref::<$kind>() { return Some(error); })+
    };
}

/// The [`Diagnose`] side of the errors of the rooms below. A new room's error type is added here.
pub fn known<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn Diagnose> {
    first_of!(
        error,
        crate::build::dockerfile::Problem,
        Box<crate::build::dockerfile::Problem>,
        crate::build::Error,
        crate::container::Error,
        crate::container::files::Error,
        crate::image::Error,
        crate::registry::Error,
        crate::layers::Error,
        crate::union::Error,
        crate::output::template::Error,
        crate::sandbox::Error,
        crate::userns::Error,
        crate::volume::Error,
        crate::network::Error,
        crate::state::Error,
    );
    None
}

/// Prints `error` on standard error; the exit code that it asks for.
pub fn report(error: &anyhow::Error, lookup: Lookup) -> u8 {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let page = page(error, lookup, colour);
    // Where standard error is closed there is nobody left to tell.
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), page.as_bytes());
    exit_code(error, lookup)
}

/// The exit code that the outermost error with an opinion asks for.
pub fn exit_code(error: &anyhow::Error, lookup: Lookup) -> u8 {
    error
        .chain()
        .filter_map(lookup)
        .map(|error| error.exit_code())
        .find(|code| *code != EXIT_OURS)
        .unwrap_or(EXIT_OURS)
}

/// The text of [`report`].
pub fn page(error: &anyhow::Error, lookup: Lookup, colour: bool) -> String {
    let (red, bold, plain) = if colour { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut page = String::new();
    let mut above = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let text = tidy(&cause.to_string());
        if depth == 0 {
            let _ = writeln!(page, "{red}Error:{plain} {text}");
        } else if !above.ends_with(&text) {
            let _ = writeln!(page, "  {bold}cause:{plain} {text}");
        }
        above = text;
    }
    if let Some(port) = error.chain().filter_map(lookup).find_map(|error| error.taken_port())
        && let Some((pid, name)) = ports::owner(&port)
    {
        let _ = writeln!(page, "  {bold}cause:{plain} {} (pid {pid}) has it", tidy(&name));
    }
    if let Some(fix) = error.chain().filter_map(lookup).find_map(|error| error.fix()) {
        let _ = writeln!(page, "  {bold}fix:{plain} {}", fix.replace('\n', "\n       "));
    }
    page
}

/// One error's text in the house style. Control characters (an error may quote a file's name or a registry's
/// answer) are shown, not obeyed by the terminal.
fn tidy(text: &str) -> String {
    let text = match text.rsplit_once(" (os error ") {
        // `No such file or directory (os error 2)`: the number says nothing to a user.
        Some((before, number)) if number.trim_end_matches(')').bytes().all(|b| b.is_ascii_digit()) => {
            let mut chars = before.chars();
            let first = chars.next().map(|c| c.to_ascii_lowercase());
            first.into_iter().chain(chars).collect()
        }
        _ => text.to_owned(),
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' => shown.push_str("\n  "),
            _ if c.is_control() => shown.extend(c.escape_default()),
            _ => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state;
    use anyhow::Context as _;

    fn missing() -> anyhow::Error {
        let source = std::io::Error::from_raw_os_error(13);
        state::Error::Io { action: "read", path: "/data/x".into(), source }.into()
    }

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Err::<(), _>(missing()).context("cannot list containers").unwrap_err();
        assert_eq!(
            page(&error, known, false),
            "Error: cannot list containers\n  cause: cannot read /data/x\n  cause: permission denied\n  \
             fix: check who owns /data/x, or choose another place with --root\n"
        );
        assert_eq!(exit_code(&error, known), 125);
    }

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let error = anyhow::anyhow!("timed out").context("cannot pull: timed out");
        assert_eq!(page(&error, known, false), "Error: cannot pull: timed out\n");
    }

    #[test]
    fn a_terminal_does_not_obey_what_an_error_quotes() {
        let error = anyhow::anyhow!("registry said \x1b[2J");
        assert_eq!(page(&error, known, false), "Error: registry said \\u{1b}[2J\n");
    }

    #[test]
    fn colour_marks_the_labels_only() {
        assert!(page(&missing(), known, true).starts_with("\x1b[1;31mError:\x1b[0m cannot read"));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no such command")]
    struct NotFound;

    impl Diagnose for NotFound {
        fn exit_code(&self) -> u8 {
            127
        }
    }

    #[test]
    fn an_inner_error_decides_the_exit_code_where_the_outer_has_no_opinion() {
        fn lookup<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn Diagnose> {
            first_of!(error, NotFound);
            known(error)
        }
        let error = anyhow::Error::new(NotFound).context("cannot start");
        assert_eq!(exit_code(&error, lookup), 127);
    }
}
