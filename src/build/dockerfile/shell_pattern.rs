//! The patterns of `${v#p}`, `${v%p}` and `${v/p/t}`: `*`, `?` and backslash escapes; no brackets, as in BuildKit.

use regex::{NoExpand, Regex, RegexBuilder};

/// Characters of a pattern by characters of a value.
const MOST_WORK: usize = 1 << 26;

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Star,
    Any,
    Char(char),
}

fn tokens(pattern: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => match chars.next() {
                // The braces and slashes of the substitution itself are escaped, too.
                Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(escaped),
                Some(other) => return Err(format!("invalid escape '\\{other}'")),
                None => return Err("invalid escape '\\'".to_owned()),
            },
            other => Token::Char(other),
        });
    }
    // Several stars say no more than one, and cost more.
    out.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
    Ok(out)
}

/// Compiles a pattern for a value of `length` bytes. Matching costs their product at worst, so that has a bound.
fn compile(tokens: &[Token], length: usize, longest: bool, anchored: bool) -> Result<Regex, String> {
    if tokens.len().saturating_mul(length) > MOST_WORK {
        return Err("too long".to_owned());
    }
    let mut text = String::from(if anchored { "^" } else { "" });
    for token in tokens {
        match token {
            Token::Star => text.push_str(if longest { ".*" } else { ".*?" }),
            Token::Any => text.push('.'),
            Token::Char(c) => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    RegexBuilder::new(&text).build().map_err(|_| "too long".to_owned())
}

fn prefix_length(tokens: &[Token], value: &str, longest: bool) -> Result<usize, String> {
    Ok(compile(tokens, value.len(), longest, true)?.find(value).map_or(0, |found| found.end()))
}

/// `value` without the shortest or longest match of `pattern` at its start.
pub fn without_prefix(pattern: &str, value: &str, longest: bool) -> Result<String, String> {
    let length = prefix_length(&tokens(pattern)?, value, longest)?;
    Ok(value[length..].to_owned())
}

/// `value` without the shortest or longest match of `pattern` at its end.
pub fn without_suffix(pattern: &str, value: &str, longest: bool) -> Result<String, String> {
    // The shortest match at the end is the first one only when read backwards.
    let mut tokens = tokens(pattern)?;
    tokens.reverse();
    let backwards: String = value.chars().rev().collect();
    let length = prefix_length(&tokens, &backwards, longest)?;
    Ok(value[..value.len() - length].to_owned())
}

/// `value` with the first match of `pattern`, or all, replaced.
pub fn replace(pattern: &str, value: &str, replacement: &str, all: bool) -> Result<String, String> {
    let pattern = compile(&tokens(pattern)?, value.len(), true, false)?;
    let limit = if all { 0 } else { 1 };
    Ok(pattern.replacen(value, limit, NoExpand(replacement)).into_owned())
}
