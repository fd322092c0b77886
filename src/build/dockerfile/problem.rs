//! What is wrong in a Dockerfile, and where.

use super::source::{Position, Source, Span};
use crate::diagnose::Diagnose;
use std::fmt::{self, Write};

/// How many lines of an instruction are shown at most.
const MOST_LINES: usize = 5;

/// An error in a Dockerfile. Shown as `FILE:LINE:COLUMN: MESSAGE` and the lines with the place marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    source: Source,
    span: Span,
    message: String,
    hint: Option<String>,
}

impl Problem {
    /// A problem of what `span` covers. The message is docker's, where docker has one.
    pub fn new(source: &Source, span: Span, message: impl Into<String>) -> Problem {
        Problem { source: source.clone(), span, message: message.into(), hint: None }
    }

    /// With the fix.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// The same at another place: what is wrong in a base image's trigger is shown at the FROM that names the image.
    #[must_use]
    pub fn moved(mut self, source: &Source, span: Span) -> Problem {
        self.source = source.clone();
        self.span = span;
        self
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The text that it is in.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What it is about.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Where it begins.
    pub fn position(&self) -> Position {
        self.source.position(self.span.start)
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The lines that it is about, each with its number, and carets below the place.
    pub fn excerpt(&self) -> String {
        excerpt(&self.source, self.span)
    }
}

/// The lines that `span` covers, with their numbers; where it is within one line, carets below it.
pub fn excerpt(source: &Source, span: Span) -> String {
    let (first, last) = source.lines(span);
    let width = last.to_string().len();
    let mut out = String::new();
    for number in (first..=last).take(MOST_LINES) {
        let line = source.line(number).trim_start_matches('\u{feff}').replace('\t', " ");
        let _ = writeln!(out, "  {number:width$} | {}", line.trim_end());
    }
    if last - first >= MOST_LINES {
        let _ = writeln!(out, "  {:width$} | ...", "");
    }
    if first == last {
        let column = source.position(span.start).column;
        let carets = source.slice(span).trim_end().chars().count().max(1);
        let _ = writeln!(out, "  {:width$} | {:indent$}{}", "", "", "^".repeat(carets), indent = column - 1);
    }
    out.truncate(out.trim_end().len());
    out
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position();
        write!(f, "{}:{line}:{column}: {}\n{}", self.file(), self.message, self.excerpt())
    }
}

impl std::error::Error for Problem {}

impl Diagnose for Problem {
    fn fix(&self) -> Option<String> {
        self.hint.clone()
    }
}

// It is handed around in a box, which is an error of its own to who looks for its kind.
impl Diagnose for Box<Problem> {
    fn fix(&self) -> Option<String> {
        self.hint.clone()
    }
}
