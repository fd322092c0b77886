//! The text of a Dockerfile, and pieces of it that know where they came from.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// The text of a Dockerfile and the name it is spoken of by. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

/// A range of bytes in the text of a [`Source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A place as people speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl Source {
    /// `name` is what errors call the file: `Dockerfile`, say.
    pub fn new(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    /// A file's content. Bytes that are not UTF-8 are replaced: a comment in an old encoding does no harm, and elsewhere
    /// the replacement is seen where it matters.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Source {
        Source::new(name, &String::from_utf8_lossy(bytes))
    }

    /// What errors call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part of the text that `span` covers; empty where the span is none of this text's.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// Where the byte at `offset` is. An offset past the end is the place after the last byte.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[start..].trim_start_matches('\u{feff}').chars().count() + 1,
        }
    }

    /// The first and the last line of `span`, counted from 1.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = if span.end > span.start { span.end - 1 } else { span.start };
        (self.position(span.start).line, self.position(last).line)
    }

    /// The text of a line counted from 1, without its end.
    pub fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default()
    }
}

/// A text taken from a [`Source`], perhaps with parts left out (line continuations, quotes, escapes), that knows for
/// each byte where it was. Reads as a `str`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    value: String,
    /// Where runs of bytes that are neighbours in both texts begin: (here, in the source). The first is at 0 here.
    runs: Vec<(usize, usize)>,
    /// The place after the last byte in the source.
    end: usize,
}

impl Text {
    /// An empty text that is at a place.
    pub fn empty_at(source: usize) -> Text {
        Text { value: String::new(), runs: vec![(0, source)], end: source }
    }

    /// A text that stands at one place of the source as it is here.
    pub fn at(source: usize, value: &str) -> Text {
        let mut text = Text::empty_at(source);
        text.push_str(value, source);
        text
    }

    /// Appends what is at `source` in the source.
    pub fn push_str(&mut self, value: &str, source: usize) {
        if value.is_empty() {
            return;
        }
        if self.value.is_empty() {
            self.runs.clear();
        }
        if self.runs.last().is_none_or(|run| run.1 + (self.value.len() - run.0) != source) {
            self.runs.push((self.value.len(), source));
        }
        self.value.push_str(value);
        self.end = source + value.len();
    }

    /// Appends one character that stands for the `length` bytes at `source`.
    pub fn push(&mut self, value: char, source: usize, length: usize) {
        self.push_str(value.encode_utf8(&mut [0; 4]), source);
        self.end = source + length;
    }

    /// Where the byte at `at` is in the source; for the length of the text, the place after it.
    pub fn source(&self, at: usize) -> usize {
        if at >= self.value.len() {
            return self.end;
        }
        let run = self.runs.partition_point(|run| run.0 <= at);
        self.runs.get(run.saturating_sub(1)).map_or(self.end, |run| run.1 + (at - run.0))
    }

    /// What the text covers in the source, with anything that was left out between.
    pub fn span(&self) -> Span {
        let start = self.runs.first().map_or(self.end, |run| run.1);
        Span { start, end: self.end.max(start) }
    }

    /// What the bytes in `range` cover in the source.
    pub fn span_of(&self, range: Range<usize>) -> Span {
        let start = self.source(range.start);
        let end = if range.end > range.start && range.end <= self.value.len() {
            self.source(range.end - 1) + 1
        } else {
            start
        };
        Span { start, end: end.max(start) }
    }

    /// A part of the text. The range must lie on boundaries of characters, as for a `str`.
    pub fn part(&self, range: Range<usize>) -> Text {
        let mut part = Text::empty_at(self.source(range.start));
        let mut run = self.runs.partition_point(|run| run.0 <= range.start).saturating_sub(1);
        let mut at = range.start;
        while at < range.end {
            let next = self.runs.get(run + 1).map_or(self.value.len(), |run| run.0).min(range.end);
            part.push_str(&self.value[at..next], self.source(at));
            at = next;
            run += 1;
        }
        // A character may stand for more bytes than it has.
        if range.end == self.value.len() && !part.value.is_empty() {
            part.end = self.end;
        }
        part
    }

    /// Without white space around it.
    pub fn trimmed(&self) -> Text {
        let start = self.value.len() - self.value.trim_start().len();
        let end = self.value.trim_end().len().max(start);
        self.part(start..end)
    }

    /// As a plain text.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}
