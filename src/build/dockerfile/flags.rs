//! `--flag=value` between an instruction's keyword and its arguments.

use super::ast::{Literal, Word};
use super::problem::Problem;
use super::source::{Source, Text};
use super::suggest::did_you_mean;

/// How a flag is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `--flag`, `--flag=true`, `--flag=false`
    Bool,
    /// `--flag=value`, once.
    One,
    /// `--flag=value`, any number of times.
    Many,
}

/// The flags of one instruction.
#[derive(Debug)]
pub struct Flags {
    given: Vec<(&'static str, Text)>,
}

/// Cuts the flags off what follows a keyword: words that begin with `--`, up to one that does not or is `--` itself.
/// Quotes and escapes in them are taken away. Returns the words and the rest.
pub fn cut(line: &Text, escape: char) -> (Vec<Text>, Text) {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].len() - line[at..].trim_start().len();
        if !line[at..].starts_with("--") {
            return (words, line.part(at..line.len()));
        }
        let mut word = Text::empty_at(line.source(at));
        let mut quote = None;
        let mut chars = line[at..].char_indices();
        let mut length = line.len() - at;
        while let Some((offset, c)) = chars.next() {
            match quote {
                None if c.is_whitespace() => {
                    length = offset;
                    break;
                }
                None if matches!(c, '"' | '\'') => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ if c == escape => {
                    if let Some((offset, c)) = chars.next() {
                        word.push(c, line.source(at + offset), c.len_utf8());
                    }
                }
                _ => word.push(c, line.source(at + offset), c.len_utf8()),
            }
        }
        at += length;
        if &*word == "--" {
            return (words, line.part(at..line.len()));
        }
        words.push(word);
    }
}

impl Flags {
    /// Checks the words against the flags that the instruction has.
    pub fn parse(
        source: &Source,
        words: &[Text],
        known: &[(&'static str, Takes)],
    ) -> Result<Flags, Box<Problem>> {
        let mut flags = Flags { given: Vec::new() };
        for word in words {
            let problem = |message: String| Err(Box::new(Problem::new(source, word.span(), message)));
            let end = word.find('=');
            let flag = &word[..end.unwrap_or(word.len())];
            let name = flag.trim_start_matches('-');
            let Some((name, takes)) = known.iter().find(|(known, _)| flag.strip_prefix("--") == Some(known))
            else {
                let near = did_you_mean(name, known.iter().map(|(name, _)| *name), true);
                return problem(format!("unknown flag: {flag}{near}"));
            };
            if *takes != Takes::Many && flags.given.iter().any(|(given, _)| given == name) {
                return problem(format!("duplicate flag specified: {flag}"));
            }
            let value = match end {
                None if *takes == Takes::Bool => Text::at(word.source(0), "true"),
                None => return problem(format!("missing a value on flag: {flag}")),
                Some(end) => word.part(end + 1..word.len()),
            };
            if *takes == Takes::Bool {
                if value.is_empty() {
                    return problem(format!("missing a value on flag: {flag}"));
                }
                if !matches!(value.to_lowercase().as_str(), "true" | "false") {
                    return problem(format!("expecting boolean value for flag {flag}, not: {}", &*value));
                }
            }
            flags.given.push((name, value));
        }
        Ok(flags)
    }

    /// The value of a flag that is given once.
    pub fn one(&self, name: &str) -> Option<&Text> {
        self.many(name).next()
    }

    /// All values of a flag.
    pub fn many<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Text> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value)
    }

    /// A flag's value with variables; none if it is empty.
    pub fn word(&self, name: &str) -> Option<Word> {
        self.one(name).filter(|value| !value.is_empty()).map(|value| Word(value.clone()))
    }

    /// A flag's final value; none if it is empty.
    pub fn literal(&self, name: &str) -> Option<Literal> {
        self.one(name).filter(|value| !value.is_empty()).map(|value| Literal(value.clone()))
    }

    /// A flag that is on or off.
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.one(name).map(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// What Go reads as a truth value.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
