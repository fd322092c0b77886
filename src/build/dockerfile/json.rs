//! The exec form: a JSON array of texts.

use super::source::Text;

/// What follows a keyword, looked at as JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Json {
    /// An array of texts.
    Texts(Vec<Text>),
    /// An array of JSON, but not of texts only: docker refuses it.
    OtherArray,
    /// Anything else, which is the shell form.
    No,
}

/// Reads the array, if it is one and nothing follows it.
pub fn texts(text: &Text) -> Json {
    if !text.trim_start().starts_with('[') {
        return Json::No;
    }
    if let Some(texts) = read(text) {
        return Json::Texts(texts);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text.trim()) {
        Ok(values) if !values.iter().all(serde_json::Value::is_string) => Json::OtherArray,
        _ => Json::No,
    }
}

fn read(text: &Text) -> Option<Vec<Text>> {
    let mut out = Vec::new();
    let mut at = skip_blanks(text, text.find('[')? + 1);
    if text[at..].starts_with(']') {
        return text[at + 1..].trim().is_empty().then_some(out);
    }
    loop {
        let (value, end) = string(text, at)?;
        out.push(value);
        at = skip_blanks(text, end);
        match text[at..].chars().next()? {
            ',' => at = skip_blanks(text, at + 1),
            ']' => return text[at + 1..].trim().is_empty().then_some(out),
            _ => return None,
        }
    }
}

fn skip_blanks(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches([' ', '\t', '\r', '\n']).len()
}

/// A text in quotes at `at`, and where it ends.
fn string(text: &Text, at: usize) -> Option<(Text, usize)> {
    let mut chars = text[at..].char_indices();
    if chars.next()?.1 != '"' {
        return None;
    }
    let mut out = Text::empty_at(text.source(at + 1));
    while let Some((offset, c)) = chars.next() {
        let place = text.source(at + offset);
        match c {
            '"' => return Some((out, at + offset + 1)),
            '\\' => {
                let (_, escaped) = chars.next()?;
                let (c, length) = match escaped {
                    '"' | '\\' | '/' => (escaped, 2),
                    'b' => ('\u{8}', 2),
                    'f' => ('\u{c}', 2),
                    'n' => ('\n', 2),
                    'r' => ('\r', 2),
                    't' => ('\t', 2),
                    'u' => {
                        let (c, length) = unicode(&text[at + offset..])?;
                        // The first of the digits was not taken yet.
                        for _ in 2..length {
                            chars.next()?;
                        }
                        (c, length)
                    }
                    _ => return None,
                };
                out.push(c, place, length);
            }
            c if c < ' ' => return None,
            c => out.push(c, place, c.len_utf8()),
        }
    }
    None
}

/// `\uXXXX`, or two of them for a character beyond the first 65,536: the character and the length. Half of a pair alone is
/// the replacement character, as Go has it.
fn unicode(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        digits.chars().all(|c| c.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let first = unit(text)?;
    if let Some(Ok(c)) = char::decode_utf16([first]).next() {
        return Some((c, 6));
    }
    if let Some(second) = text.get(6..).and_then(unit)
        && let Some(Ok(c)) = char::decode_utf16([first, second]).next()
    {
        return Some((c, 12));
    }
    Some((char::REPLACEMENT_CHARACTER, 6))
}
