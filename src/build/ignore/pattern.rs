//! One pattern: the language of Go's `filepath.Match`, and `**`.

/// A pattern, ready to match.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Vec<u8>,
    is_exception: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// No special character.
    Exact,
    /// `text**`
    Prefix,
    /// `**text`
    Suffix,
    /// Anything else.
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Char(Unit),
    /// `?`: any character but a slash.
    Any,
    /// `*`: any number of them.
    Star,
    /// `**` before more: nothing, or any text that ends with a slash.
    Folders,
    /// `**` at the end: any text.
    Rest,
    /// `[a-z]`, `[^a-z]`: a character of these, or of all others; a slash, too, if it is in there.
    Class { negated: bool, ranges: Vec<(Unit, Unit)> },
}

/// A character, or a byte that is none: then it is beyond all characters.
type Unit = u32;

const BYTE: Unit = 0x11_0000;
const SLASH: Unit = b'/' as Unit;

const SYNTAX: &str = "syntax error in pattern";

impl Pattern {
    /// From a text that is clean (see [`clean`]), without `!`.
    pub fn new(text: &[u8], is_exception: bool) -> Result<Pattern, &'static str> {
        if text.is_empty() {
            return Err("illegal exclusion pattern: \"!\"");
        }
        Ok(Pattern { text: text.to_vec(), is_exception, kind: parse(text)? })
    }

    /// `!pattern`
    pub fn is_exception(&self) -> bool {
        self.is_exception
    }

    /// Whether it leaves out all there is.
    pub fn is_everything(&self) -> bool {
        !self.is_exception && matches!(&self.text[..], b"*" | b"**" | b"**/*")
    }

    /// Whether it matches the path itself.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Kind::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|suffix| suffix == path)
            }
            Kind::Tokens(tokens) => run(tokens, path, b"").contains(&tokens.len()),
        }
    }

    /// Whether there is a path below `folder` that it matches.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact => {
                self.text.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/") && rest.len() > 1)
            }
            Kind::Prefix => {
                let prefix = &self.text[..self.text.len() - 2];
                folder.starts_with(prefix)
                    || prefix.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
            }
            Kind::Suffix => true,
            Kind::Tokens(tokens) => run(tokens, folder, b"/").iter().any(|state| *state < tokens.len()),
        }
    }
}

/// The first character of `bytes` and its length.
fn unit(bytes: &[u8]) -> (Unit, usize) {
    let Some(&first) = bytes.first() else { return (0, 0) };
    if first < 0x80 {
        return (Unit::from(first), 1);
    }
    // No character is longer than four bytes.
    let valid = match std::str::from_utf8(&bytes[..bytes.len().min(4)]) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => (Unit::from(c), c.len_utf8()),
        None => (BYTE + Unit::from(first), 1),
    }
}

fn parse(text: &[u8]) -> Result<Kind, &'static str> {
    let mut tokens = Vec::new();
    let mut is_exact = true;
    let mut kind = None;
    let mut at = 0;
    while at < text.len() {
        let start = at;
        let (c, length) = unit(&text[at..]);
        at += length;
        match text[start] {
            b'*' if text[at..].starts_with(b"*") => {
                at += 1;
                at += usize::from(text[at..].starts_with(b"/"));
                let is_last = at == text.len();
                // Several in a row are one.
                if tokens.last() == Some(&Token::Folders) {
                    tokens.pop();
                }
                tokens.push(if is_last { Token::Rest } else { Token::Folders });
                kind = if start == 0 {
                    Some(Kind::Suffix)
                } else if is_last && is_exact {
                    Some(Kind::Prefix)
                } else {
                    None
                };
                is_exact = false;
            }
            b'*' => {
                tokens.push(Token::Star);
                (is_exact, kind) = (false, None);
            }
            b'?' => {
                tokens.push(Token::Any);
                (is_exact, kind) = (false, None);
            }
            b'[' => {
                let (class, length) = class(&text[at..])?;
                tokens.push(class);
                at += length;
                (is_exact, kind) = (false, None);
            }
            b'\\' => {
                let (c, length) = unit(&text[at..]);
                if length == 0 {
                    return Err(SYNTAX);
                }
                at += length;
                tokens.push(Token::Char(c));
                (is_exact, kind) = (false, None);
            }
            _ => tokens.push(Token::Char(c)),
        }
    }
    Ok(if is_exact { Kind::Exact } else { kind.unwrap_or(Kind::Tokens(tokens)) })
}

/// A class after its `[`, and its length with the `]`.
fn class(text: &[u8]) -> Result<(Token, usize), &'static str> {
    let negated = text.starts_with(b"^");
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        if text.get(at) == Some(&b']') && !ranges.is_empty() {
            return Ok((Token::Class { negated, ranges }, at + 1));
        }
        let low = member(text, &mut at)?;
        let high = if text.get(at) == Some(&b'-') {
            at += 1;
            member(text, &mut at)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn member(text: &[u8], at: &mut usize) -> Result<Unit, &'static str> {
    match text.get(*at) {
        None | Some(b'-' | b']') => return Err(SYNTAX),
        Some(b'\\') => *at += 1,
        Some(_) => {}
    }
    let (c, length) = unit(&text[*at..]);
    *at += length;
    // A class must end, too; a byte that is no character has no order.
    if length == 0 || c >= BYTE || *at >= text.len() { Err(SYNTAX) } else { Ok(c) }
}

/// Which tokens can be next after `path` and `more` are read; the number of tokens means that all were.
fn run(tokens: &[Token], path: &[u8], more: &[u8]) -> Vec<usize> {
    // What begins otherwise is found out without any list.
    if let (Some(Token::Char(first)), Some(byte)) = (tokens.first(), path.first())
        && *byte < 0x80
        && *first != Unit::from(*byte)
    {
        return Vec::new();
    }
    let mut states =
        States { tokens, list: Vec::with_capacity(4), added: vec![0; tokens.len() + 1], round: 1 };
    let mut last = Vec::with_capacity(4);
    states.add(0, true);
    for mut bytes in [path, more] {
        while !bytes.is_empty() && !states.list.is_empty() {
            let (c, length) = unit(bytes);
            bytes = &bytes[length..];
            std::mem::swap(&mut states.list, &mut last);
            states.list.clear();
            states.round += 1;
            for &state in &last {
                match tokens.get(state) {
                    Some(Token::Char(own)) if *own == c => states.add(state + 1, true),
                    Some(Token::Any) if c != SLASH => states.add(state + 1, true),
                    Some(Token::Star) if c != SLASH => states.add(state, true),
                    Some(Token::Rest) => states.add(state, true),
                    // It can end after a slash only.
                    Some(Token::Folders) => states.add(state, c == SLASH),
                    Some(Token::Class { negated, ranges })
                        if ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated =>
                    {
                        states.add(state + 1, true);
                    }
                    _ => {}
                }
            }
        }
    }
    states.list
}

/// A set of places in a pattern.
struct States<'a> {
    tokens: &'a [Token],
    list: Vec<usize>,
    /// In which round each was added last: what tells whether it is in the list.
    added: Vec<usize>,
    round: usize,
}

impl States<'_> {
    /// Adds a state, and those that can be had from it for nothing: what stands for any text stands for none, too.
    fn add(&mut self, mut state: usize, may_end: bool) {
        loop {
            let is_new = self.added[state] != self.round;
            if is_new {
                self.added[state] = self.round;
                self.list.push(state);
            }
            match self.tokens.get(state) {
                // What follows these was added with them.
                Some(Token::Star | Token::Rest) if is_new => state += 1,
                Some(Token::Folders) if may_end => state += 1,
                _ => return,
            }
        }
    }
}

/// Without white space around it.
pub fn trim(bytes: &[u8]) -> &[u8] {
    // Unicode's white space, as Go's.
    let mut rest = bytes;
    while let (c, length @ 1..) = unit(rest)
        && char::from_u32(c).is_some_and(char::is_whitespace)
    {
        rest = &rest[length..];
    }
    while let Some(length) = (1..=rest.len().min(3)).find(|length| {
        let (c, all) = unit(&rest[rest.len() - length..]);
        all == *length && char::from_u32(c).is_some_and(char::is_whitespace)
    }) {
        rest = &rest[..rest.len() - length];
    }
    rest
}

/// Go's `filepath.Clean`: without empty parts, `.`, and `..` after a name.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let is_rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if is_rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (is_rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
