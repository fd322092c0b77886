//! `.dockerignore`, and the patterns of `--exclude`.
//!
//! A path is left out if the last pattern that matches it or a folder above it is no exception (`!`). A walk goes from the
//! top down and carries what is known of the folder: [`Ignore::enter`] once for each folder, [`Ignore::ignores_in`] for
//! what is in it; so each pattern looks at each path once. [`Folder::may_be_skipped`] says when no exception can match
//! anything below, and the walk need not go in at all.
//!
//! Paths are bytes, relative, with `/` between, without `.` and `..`. The semantics are those of docker's walk
//! (moby/patternmatcher), with two oddities that files in the wild may rely on: `**x` matches names that end in
//! `x` while `**x?` wants whole names; and in a walk, an exception for a folder does nothing for what is in it, unless the
//! folder itself was left out before.

mod pattern;
#[cfg(test)]
mod tests;

use super::dockerfile::{Problem, Source, Span};
use pattern::Pattern;
pub(super) use pattern::clean;

/// Patterns, in order.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// What a walk knows of a folder that it is in.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Which patterns matched it or a folder above.
    matched: Vec<bool>,
    is_ignored: bool,
    may_be_skipped: bool,
}

impl Folder {
    /// Whether the folder itself is left out.
    pub fn is_ignored(&self) -> bool {
        self.is_ignored
    }

    /// Whether everything below is left out, too.
    pub fn may_be_skipped(&self) -> bool {
        self.may_be_skipped
    }
}

/// Where the patterns of a build are, the first file that is there: beside the Dockerfile with its name, else at the
/// context's root.
pub fn candidates(dockerfile: &str) -> [String; 2] {
    [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()]
}

impl Ignore {
    /// Reads a file. `name` is what an error calls it.
    pub fn parse(name: &str, content: &[u8]) -> Result<Ignore, Box<Problem>> {
        let mut patterns = Vec::new();
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
            if line.starts_with(b"#") {
                continue;
            }
            let line = pattern::trim(line);
            let (is_exception, text) = match line.strip_prefix(b"!") {
                Some(text) => (true, pattern::trim(text)),
                None => (false, line),
            };
            if text.is_empty() && !is_exception {
                continue;
            }
            let clean = pattern::clean(text);
            let text = if clean.len() > 1 { clean.strip_prefix(b"/").unwrap_or(&clean) } else { &clean };
            let text = if is_exception && line.len() == 1 { b"" } else { text };
            patterns.push(
                Pattern::new(text, is_exception).map_err(|message| wrong(name, content, number, message))?,
            );
        }
        Ok(Ignore { patterns })
    }

    /// The patterns of `--exclude`. An error is the pattern that is none, and why.
    pub fn from_patterns<'a>(
        texts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Ignore, (&'a [u8], &'static str)> {
        let mut patterns = Vec::new();
        for text in texts {
            let trimmed = pattern::trim(text);
            if trimmed.is_empty() {
                continue;
            }
            let clean = pattern::clean(trimmed);
            let (is_exception, rest) = match clean.strip_prefix(b"!") {
                Some(rest) => (true, rest),
                None => (false, &clean[..]),
            };
            patterns.push(Pattern::new(rest, is_exception).map_err(|message| (text, message))?);
        }
        Ok(Ignore { patterns })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there are exceptions.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(Pattern::is_exception)
    }

    /// Whether a pattern says that everything is left out: `*`, `**` or `**/*`.
    pub fn ignores_everything(&self) -> bool {
        self.patterns.iter().any(Pattern::is_everything)
    }

    /// Whether a path is left out, asked for without a walk: a path below a folder that matches is, too.
    pub fn ignores(&self, path: &[u8]) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.is_exception() == ignored && with_parents(path).any(|path| pattern.matches(path)) {
                ignored = !pattern.is_exception();
            }
        }
        ignored
    }

    /// The root of a walk, which is never left out.
    pub fn root(&self) -> Folder {
        let matched = vec![false; self.patterns.len()];
        Folder { matched, is_ignored: false, may_be_skipped: false }
    }

    /// Whether a walk that is in `folder` leaves out `path`, which is right in there.
    pub fn ignores_in(&self, folder: &Folder, path: &[u8]) -> bool {
        self.judge(folder, path, |_, _| {})
    }

    /// A walk goes from `parent` into the folder `path`, which is right in there.
    pub fn enter(&self, parent: &Folder, path: &[u8]) -> Folder {
        let mut matched = vec![false; self.patterns.len()];
        let mut last = 0;
        let is_ignored = self.judge(parent, path, |number, does_match| {
            matched[number] = does_match;
            if does_match {
                last = number;
            }
        });
        // Only an exception after the pattern that decided can bring anything back, and only what it matches itself.
        let may_be_skipped = is_ignored
            && !self.patterns[last..]
                .iter()
                .any(|pattern| pattern.is_exception() && pattern.may_match_below(path));
        Folder { matched, is_ignored, may_be_skipped }
    }

    /// Whether a pattern that is no exception matches something below a folder, perhaps.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| !pattern.is_exception() && pattern.may_match_below(folder))
    }

    fn judge(&self, parent: &Folder, path: &[u8], mut tell: impl FnMut(usize, bool)) -> bool {
        let mut ignored = false;
        for (number, pattern) in self.patterns.iter().enumerate() {
            let above = parent.matched.get(number).copied().unwrap_or(false);
            // What would change nothing is not even looked at; docker forgets it for what is below, too.
            let does_match = above || (pattern.is_exception() == ignored && pattern.matches(path));
            tell(number, does_match);
            if does_match {
                ignored = !pattern.is_exception();
            }
        }
        ignored
    }
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
fn with_parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end])
}

fn wrong(name: &str, content: &[u8], line: usize, message: &str) -> Box<Problem> {
    let source = Source::from_bytes(name, content);
    let text = source.text();
    let start = text.match_indices('\n').map(|(at, _)| at + 1).nth(line.wrapping_sub(1)).unwrap_or(0);
    let length = text[start..].lines().next().map_or(0, str::len);
    let span = Span { start, end: start + length };
    Box::new(Problem::new(&source, span, message).hint("write a backslash before [ ] * ? and \\ in names"))
}
