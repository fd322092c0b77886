//! From lines of text to the lines that instructions are on: comments away, continuations joined.

use super::directive;
use super::problem::Problem;
use super::source::{Source, Span, Text};

/// The lines of a file one after the other, and what the head of the file says about them.
pub struct Lines<'a> {
    source: &'a Source,
    at: usize,
    directives: directive::Reader,
    comments: Vec<Text>,
}

/// What one instruction is on.
#[derive(Debug)]
pub struct Logical {
    /// The lines joined, without leading blanks.
    pub text: Text,
    /// Its last line, if an empty line is within it.
    pub empty_line: Option<Span>,
    /// The comments above, without the `#` and blanks.
    pub comments: Vec<Text>,
}

impl<'a> Lines<'a> {
    /// From the start of the file.
    pub fn new(source: &'a Source) -> Lines<'a> {
        let at = if source.text().starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Lines { source, at, directives: directive::Reader::default(), comments: Vec::new() }
    }

    /// The directives. All are known once the first [`Logical`] is.
    pub fn directives(&self) -> &super::ast::Directives {
        &self.directives.found
    }

    /// The next line as it is, with its end, and where it starts.
    pub fn raw(&mut self) -> Option<(&'a str, usize)> {
        let start = self.at;
        let rest = &self.source.text()[start..];
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.at += length;
        (length > 0).then(|| (&rest[..length], start))
    }

    /// The place of the next line.
    pub fn place(&self) -> usize {
        self.at
    }

    /// The next instruction's line.
    pub fn logical(&mut self) -> Result<Option<Logical>, Box<Problem>> {
        while let Some((raw, start)) = self.raw() {
            let text = raw.trim_end_matches(['\r', '\n']);
            let indent = text.len() - text.trim_start().len();
            let line = Text::at(start + indent, &text[indent..]);
            if self.directives.take(self.source, &line)? {
                continue;
            }
            if line.starts_with('#') {
                let comment = line.part(1..line.len()).trimmed();
                if comment.is_empty() {
                    self.comments.clear();
                } else {
                    self.comments.push(comment);
                }
                continue;
            }
            let (mut text, mut goes_on) = self.without_continuation(line);
            if !goes_on && text.is_empty() {
                continue;
            }
            let (mut has_empty_line, mut last_line) = (false, text.span());
            while goes_on && let Some((raw, start)) = self.raw() {
                let line = raw.trim_end_matches(['\r', '\n']);
                last_line = Span { start, end: start + line.len() };
                if line.trim_start().starts_with('#') {
                    continue;
                }
                if line.trim().is_empty() {
                    has_empty_line = true;
                    continue;
                }
                let (part, more) = self.without_continuation(Text::at(start, line));
                text.push_str(&part, part.source(0));
                goes_on = more;
            }
            let empty_line = has_empty_line.then_some(last_line);
            return Ok(Some(Logical { text, empty_line, comments: std::mem::take(&mut self.comments) }));
        }
        Ok(None)
    }

    /// The line without an escape character at its end, and whether there was one. One that is itself escaped does not count.
    fn without_continuation(&self, line: Text) -> (Text, bool) {
        let escape = self.directives.found.escape_character();
        let Some(before) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
            return (line, false);
        };
        if before.ends_with(escape) {
            return (line, false);
        }
        let length = before.len();
        (line.part(0..length), true)
    }
}
