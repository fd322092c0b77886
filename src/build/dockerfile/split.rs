//! Arguments: words at blanks, or words with quotes.

use super::source::Text;

/// What separates words of a line. Not every white space is one.
pub fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The words of a text that is trimmed; quotes mean nothing.
pub fn blanks(text: &Text) -> Vec<Text> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match start {
            Some(from) if is_blank(c) => {
                words.push(text.part(from..at));
                start = None;
            }
            None if !is_blank(c) => start = Some(at),
            _ => {}
        }
    }
    words
}

/// The words of a text at white space that is neither quoted nor escaped. Quotes and escapes stay; an escape character
/// at the very end goes.
pub fn words(text: &Text, escape: char) -> Vec<Text> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = text.len();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let Some(from) = start else {
            if c.is_whitespace() {
                continue;
            }
            start = Some(at);
            quote = matches!(c, '"' | '\'').then_some(c);
            if c == escape && chars.next().is_none() {
                end = at;
            }
            continue;
        };
        match quote {
            None if c.is_whitespace() => {
                words.push(text.part(from..at));
                start = None;
            }
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some('\'') => {}
            _ if c == escape => end = if chars.next().is_some() { end } else { at },
            _ => {}
        }
    }
    if let Some(from) = start
        && from < end
    {
        words.push(text.part(from..end));
    }
    words
}
