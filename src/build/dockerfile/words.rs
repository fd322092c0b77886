//! Words as the shell sees them: quotes, escapes and variables.
//!
//! BuildKit's lexer, which is nearly sh's. One pass from left to right over the word; what is inside `${…}` is read by
//! the same function, down to a limit of nesting. What comes out is both the whole text and, for EXPOSE and the
//! like, the words that it splits into: text that came from quotes does not split, text from variables does.

use super::ast::Word;
use super::problem::Problem;
use super::shell_pattern;
use super::source::{Source, Text};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// How deep `${a:-${b:-…}}` may go.
const DEEPEST: usize = 100;
/// How much longer than its text a word may become, in bytes: variables that double each other would fill the memory.
const MOST_GROWTH: usize = 1 << 20;

/// Where the values of variables come from.
pub trait Variables {
    /// The value; none if it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self(name).map(Cow::Owned)
    }
}

/// No variable at all is set.
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// How a word is read. [`Lexer::new`] is what instructions want; the rest is for special cases.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    escape: char,
    keep_quotes: bool,
    keep_escapes: bool,
    plain_quotes: bool,
    keep_unset: bool,
}

/// What a word became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// All of it as one text.
    pub text: String,
    /// The same, split at white space that is not quoted.
    pub words: Vec<String>,
    /// The variables that it names and that are set.
    pub used: Vec<String>,
    /// The variables that it names and that are not set, with the place of the `$` in the word; each name once.
    pub unset: Vec<(String, usize)>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordError {
    /// What is wrong, in BuildKit's words.
    pub message: String,
    /// The byte of the word where it is noticed.
    pub at: usize,
}

impl Lexer {
    /// For a file with this escape character ([`super::ast::Directives::escape_character`]).
    pub fn new(escape: char) -> Lexer {
        Lexer { escape, keep_quotes: false, keep_escapes: false, plain_quotes: false, keep_unset: false }
    }

    /// The escape character.
    pub fn escape(&self) -> char {
        self.escape
    }

    /// For the content of a heredoc of COPY and ADD: quotes are nothing special and the escape is a backslash always.
    pub fn for_heredoc() -> Lexer {
        Lexer { plain_quotes: true, ..Lexer::new('\\') }
    }

    /// For what is shown of a step: quotes and variables that are not set stay as they were written.
    pub fn for_display(escape: char) -> Lexer {
        Lexer { keep_quotes: true, keep_unset: true, ..Lexer::new(escape) }
    }

    /// For finding the words of a line, changing nothing.
    pub(super) fn for_splitting() -> Lexer {
        Lexer { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Lexer::new('\\') }
    }

    /// For a heredoc's name.
    pub(super) fn for_heredoc_name(keep_quotes: bool) -> Lexer {
        Lexer { keep_quotes, keep_unset: true, ..Lexer::new('\\') }
    }

    /// Expands a text.
    pub fn expand(&self, text: &str, variables: &dyn Variables) -> Result<Expanded, WordError> {
        let (found, seen) = (Expanded::default(), BTreeSet::new());
        let mut reader = Reader { lexer: *self, text, at: 0, depth: 0, grown: 0, variables, found, seen };
        let (text, words) = reader.read_until(None, self.keep_escapes)?;
        Ok(Expanded { text, words, ..reader.found })
    }

    /// Expands a word of a Dockerfile; an error says where in it.
    pub fn expand_word(
        &self,
        source: &Source,
        word: &Word,
        variables: &dyn Variables,
    ) -> Result<Expanded, Box<Problem>> {
        self.expand_text(source, &word.0, variables)
    }

    /// The same for any text: a heredoc's content.
    pub fn expand_text(
        &self,
        source: &Source,
        text: &Text,
        variables: &dyn Variables,
    ) -> Result<Expanded, Box<Problem>> {
        self.expand(text, variables).map_err(|error| {
            let span = text.span_of(error.at..text.len());
            let shown: String = text.chars().take(80).collect();
            Box::new(Problem::new(source, span, format!("failed to process {shown:?}: {}", error.message)))
        })
    }
}

/// Collects the words that a text splits into.
#[derive(Default)]
struct Splitter {
    words: Vec<String>,
    word: String,
}

impl Splitter {
    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn add(&mut self, c: char) {
        if c.is_whitespace() { self.end_word() } else { self.word.push(c) }
    }

    fn finish(mut self) -> Vec<String> {
        self.end_word();
        self.words
    }
}

struct Reader<'a> {
    lexer: Lexer,
    text: &'a str,
    at: usize,
    depth: usize,
    /// Bytes that came from variables so far.
    grown: usize,
    variables: &'a dyn Variables,
    found: Expanded,
    /// The names in `found`.
    seen: BTreeSet<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, WordError> {
        Err(WordError { message: message.into(), at: at.min(self.text.len()) })
    }

    /// Reads on until `stop`, which is taken, too, or the end if there is none.
    fn read_until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), WordError> {
        let mut out = String::new();
        let mut words = Splitter::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += c.len_utf8();
                return Ok((out, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.add(c));
                    out.push_str(&value);
                }
                '<' => {
                    let redirection = self.redirection();
                    words.word.push_str(redirection);
                    out.push_str(redirection);
                }
                '\'' if !self.lexer.plain_quotes => {
                    let value = self.single_quotes()?;
                    words.word.push_str(value);
                    out.push_str(value);
                }
                '"' if !self.lexer.plain_quotes => {
                    let value = self.double_quotes(keep_escapes)?;
                    words.word.push_str(&value);
                    out.push_str(&value);
                }
                c if c == self.lexer.escape => {
                    self.at += c.len_utf8();
                    if keep_escapes {
                        words.word.push(c);
                        out.push(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    words.word.push(escaped);
                    out.push(escaped);
                }
                c => {
                    self.at += c.len_utf8();
                    words.add(c);
                    out.push(c);
                }
            }
        }
        match stop {
            None => Ok((out, words.finish())),
            Some(stop) => {
                self.error(self.at, format!("unexpected end of statement while looking for matching {stop}"))
            }
        }
    }

    /// `<`, or `<<` with the blanks after it: a heredoc's name may stand apart from it.
    fn redirection(&mut self) -> &str {
        let start = self.at;
        self.at += 1;
        if self.peek() == Some('<') {
            self.at += 1;
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.at += 1;
            }
        }
        &self.text[start..self.at]
    }

    fn single_quotes(&mut self) -> Result<&str, WordError> {
        let start = self.at;
        let Some(length) = self.text[start + 1..].find('\'') else {
            return self.error(start, "unexpected end of statement while looking for matching single-quote");
        };
        self.at = start + length + 2;
        Ok(if self.lexer.keep_quotes {
            &self.text[start..self.at]
        } else {
            &self.text[start + 1..self.at - 1]
        })
    }

    fn double_quotes(&mut self, keep_escapes: bool) -> Result<String, WordError> {
        let start = self.at;
        let mut out = String::new();
        self.at += 1;
        if self.lexer.keep_quotes {
            out.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    return self
                        .error(start, "unexpected end of statement while looking for matching double-quote");
                }
                Some('"') => {
                    self.at += 1;
                    if self.lexer.keep_quotes {
                        out.push('"');
                    }
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) if c == self.lexer.escape => {
                    self.at += c.len_utf8();
                    if keep_escapes {
                        out.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == c => {
                            self.at += escaped.len_utf8();
                            out.push(escaped);
                        }
                        // Any other character stays, and so does the escape.
                        Some(_) => out.push(c),
                    }
                }
                Some(c) => {
                    self.at += c.len_utf8();
                    out.push(c);
                }
            }
        }
    }

    fn value(&mut self, name: &str, at: usize) -> Result<Option<String>, WordError> {
        let Some(value) = self.variables.get(name) else {
            if self.seen.insert(name.to_owned()) {
                self.found.unset.push((name.to_owned(), at));
            }
            return Ok(None);
        };
        self.grown += value.len();
        if self.grown > MOST_GROWTH {
            return self.error(at, "the values of the variables are too long together");
        }
        if self.seen.insert(name.to_owned()) {
            self.found.used.push(name.to_owned());
        }
        Ok(Some(value.into_owned()))
    }

    /// A name; or one of the shell's parameters, which are never set here.
    fn name(&mut self) -> &str {
        let start = self.at;
        match self.peek() {
            Some(first) if first.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.next();
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.next();
                }
            }
        }
        &self.text[start..self.at]
    }

    /// A variable, from its `$` on.
    fn dollar(&mut self) -> Result<String, WordError> {
        let start = self.at;
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name().to_owned();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name, start)?;
            return Ok(match value {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return self.error(start, "syntax error: missing '}'"),
            Some('{' | '}' | ':') => return self.error(start, "syntax error: bad substitution"),
            Some(_) => {}
        }
        if self.depth == DEEPEST {
            return self.error(start, "variables are nested too deeply");
        }
        self.depth += 1;
        let value = self.braces(start);
        self.depth -= 1;
        value
    }

    /// What follows `${`.
    fn braces(&mut self, start: usize) -> Result<String, WordError> {
        let name = self.name().to_owned();
        let modifier_at = self.at;
        match self.next() {
            None => self.error(start, "syntax error: missing '}'"),
            Some('}') => Ok(match self.value(&name, start)? {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replacement(&name, start),
            Some(':') => {
                let Some(modifier) = self.next() else {
                    return self.error(start, "syntax error: missing '}'");
                };
                if matches!(modifier, '#' | '%') {
                    return self
                        .error(modifier_at, format!("unsupported modifier (:{modifier}) in substitution"));
                }
                self.modified(&name, start, modifier_at, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => {
                self.modified(&name, start, modifier_at, modifier, false)
            }
            Some(other) => self.error(modifier_at, format!("unsupported modifier ({other}) in substitution")),
        }
    }

    /// A part of `${…}` up to `stop`; where the text ends before it, the error is `missing`.
    fn part(
        &mut self,
        start: usize,
        stop: char,
        keep_escapes: bool,
        missing: &str,
    ) -> Result<String, WordError> {
        match self.read_until(Some(stop), keep_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.at >= self.text.len() => self.error(start, missing),
            Err(error) => Err(error),
        }
    }

    /// `${name-word}` and its kin. With `colon`, empty counts as not set.
    fn modified(
        &mut self,
        name: &str,
        start: usize,
        modifier_at: usize,
        modifier: char,
        colon: bool,
    ) -> Result<String, WordError> {
        let is_pattern = matches!(modifier, '#' | '%');
        let word = self.part(start, '}', is_pattern, "syntax error: missing '}'")?;
        let value = self.value(name, start)?;
        let shown = if colon { format!(":{modifier}") } else { modifier.to_string() };
        if self.lexer.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{shown}{word}}}"));
        }
        let has_value = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        let is_set = value.is_some();
        let value = value.unwrap_or_default();
        match modifier {
            '-' => Ok(if has_value { value } else { word }),
            '+' => Ok(if has_value { word } else { String::new() }),
            '?' if has_value => Ok(value),
            '?' => {
                let state = if is_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let message = if word.is_empty() { state } else { &word };
                self.error(start, format!("{name}: {message}"))
            }
            '#' | '%' => {
                let (pattern, longest) = match word.strip_prefix(modifier) {
                    Some(pattern) => (pattern, true),
                    None => (word.as_str(), false),
                };
                let cut = if modifier == '#' {
                    shell_pattern::without_prefix
                } else {
                    shell_pattern::without_suffix
                };
                cut(pattern, &value, longest).or_else(|error| {
                    self.error(modifier_at, format!("invalid pattern ({pattern}) in substitution: {error}"))
                })
            }
            _ => self.error(modifier_at, format!("unsupported modifier ({shown}) in substitution")),
        }
    }

    /// `${name/pattern/text}`, `${name//pattern/text}`, after the first slash.
    fn replacement(&mut self, name: &str, start: usize) -> Result<String, WordError> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let pattern_at = self.at;
        let pattern = self.part(start, '/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.part(start, '}', true, "syntax error: missing '}'")?;
        let Some(value) = self.value(name, start)? else {
            return Ok(if self.lexer.keep_unset {
                format!("${{{name}/{pattern}/{replacement}}}")
            } else {
                String::new()
            });
        };
        let replaced = shell_pattern::replace(&pattern, &value, &replacement, all).or_else(|error| {
            self.error(pattern_at, format!("invalid pattern ({pattern}) in substitution: {error}"))
        })?;
        self.grown += replaced.len();
        if self.grown > MOST_GROWTH {
            return self.error(start, "the values of the variables are too long together");
        }
        Ok(replaced)
    }
}
