//! From text to a tree.

use super::functions;
use serde_json::Value;

/// Nesting beyond this is refused: the parser and the walk call themselves.
const DEEPEST: usize = 100;

/// Part of the template's text.
pub type Span = (usize, usize);

/// A piece of a template.
#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Print(Pipe),
    If { condition: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

/// Nodes up to an `else` or `end`, and that with what is left of its words.
type Block = (Vec<Node>, Option<(Ending, Tokens)>);

/// `$a, $b := first args | second args`.
#[derive(Clone, Debug)]
pub struct Pipe {
    pub variables: Vec<String>,
    /// `=`, not `:=`.
    pub assigns: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
pub struct Operand {
    pub head: Head,
    /// `.A.B` after the head.
    pub fields: Vec<String>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Head {
    Dot,
    Literal(Value),
    Variable(String),
    Function(&'static str),
    Pipe(Pipe),
}

/// Why there is no tree.
pub struct Wrong {
    pub at: usize,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Field(String),
    Dot,
    Variable(String),
    Word(String),
    Literal(Value),
    Open,
    Close,
    Bar,
    Comma,
    Declare,
    Assign,
}

enum Piece {
    Text(String),
    Action { tokens: Vec<(Token, Span)>, at: usize },
}

type Result<T> = std::result::Result<T, Wrong>;

fn wrong<T>(at: usize, why: impl Into<String>) -> Result<T> {
    Err(Wrong { at, why: why.into() })
}

pub fn parse(text: &str) -> Result<Vec<Node>> {
    let pieces = pieces(text)?;
    let mut parser = Parser { pieces: pieces.into_iter(), loops: 0, depth: 0, end: text.len() };
    match parser.nodes()? {
        (nodes, None) => Ok(nodes),
        (_, Some((word, tokens))) => wrong(tokens.at, format!("unexpected {{{{{}}}}}", word.name())),
    }
}

/// Cuts the text into what is copied and the tokens of what is done.
fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    while at < text.len() {
        let open = text[at..].find("{{").map_or(text.len(), |found| at + found);
        let trims =
            text[open..].strip_prefix("{{-").is_some_and(|rest| rest.starts_with(char::is_whitespace));
        let mut copied = &text[at..open];
        if trim_next {
            copied = copied.trim_start();
        }
        if trims {
            copied = copied.trim_end();
        }
        if !copied.is_empty() {
            pieces.push(Piece::Text(copied.to_owned()));
        }
        if open == text.len() {
            break;
        }
        let start = open + if trims { 3 } else { 2 };
        let inside = text[start..].trim_start();
        let inside_at = text.len() - inside.len();
        let mut tokens = Vec::new();
        let end = if inside.starts_with("/*") {
            match inside.find("*/") {
                Some(found) => inside_at + found + 2,
                None => return wrong(open, "unclosed comment"),
            }
        } else {
            tokens_of(text, start, &mut tokens)?
        };
        let tail = text[end..].trim_start();
        let spaced = text[..text.len() - tail.len()].ends_with(char::is_whitespace);
        trim_next = spaced && tail.starts_with("-}}");
        let closing = if trim_next { "-}}" } else { "}}" };
        if !tail.starts_with(closing) {
            return wrong(open, "unclosed action");
        }
        at = text.len() - tail.len() + closing.len();
        if !inside.starts_with("/*") {
            pieces.push(Piece::Action { tokens, at: open });
        }
    }
    Ok(pieces)
}

/// Reads the tokens of one action from `at` on; where it ends.
fn tokens_of(text: &str, mut at: usize, tokens: &mut Vec<(Token, Span)>) -> Result<usize> {
    let name_end = |from: usize| {
        text[from..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(text.len(), |n| from + n)
    };
    loop {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { return wrong(at, "unclosed action") };
        if rest.starts_with("}}") || (rest.starts_with("-}}") && text[..at].ends_with(char::is_whitespace)) {
            return Ok(at);
        }
        let (token, end) = match first {
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '(' => (Token::Open, at + 1),
            ')' => (Token::Close, at + 1),
            '|' => (Token::Bar, at + 1),
            ',' => (Token::Comma, at + 1),
            ':' if rest.starts_with(":=") => (Token::Declare, at + 2),
            '=' => (Token::Assign, at + 1),
            '.' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                let end = name_end(at + 1);
                (Token::Field(text[at + 1..end].to_owned()), end)
            }
            '.' => (Token::Dot, at + 1),
            '$' => {
                let end = name_end(at + 1);
                (Token::Variable(text[at..end].to_owned()), end)
            }
            '"' | '`' | '\'' => {
                let (value, end) = quoted(text, at, first)?;
                (Token::Literal(value), end)
            }
            _ if first.is_ascii_digit() || first == '-' || first == '+' => {
                let end = text[at + 1..]
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_')
                    .map_or(text.len(), |n| at + 1 + n);
                match number(&text[at..end]) {
                    Some(value) => (Token::Literal(value), end),
                    None => return wrong(at, format!("bad number syntax: {:?}", &text[at..end])),
                }
            }
            _ if first.is_alphabetic() || first == '_' => {
                let end = name_end(at);
                (Token::Word(text[at..end].to_owned()), end)
            }
            _ => return wrong(at, format!("unexpected {first:?} in command")),
        };
        tokens.push((token, (at, end)));
        at = end;
    }
}

fn number(text: &str) -> Option<Value> {
    let text = text.replace('_', "");
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(Value::from);
    }
    text.parse::<i64>().map(Value::from).ok().or_else(|| text.parse::<f64>().map(Value::from).ok())
}

/// A string in double quotes or back quotes, or a character (whose value is a number, as in Go).
fn quoted(text: &str, at: usize, quote: char) -> Result<(Value, usize)> {
    let unclosed = || wrong(at, "unterminated quoted string");
    let mut value = String::new();
    let mut chars = text[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            _ if c == quote => {
                let end = at + 1 + offset + 1;
                let value = match quote {
                    '\'' => Value::from(value.chars().next().map_or(0, u32::from)),
                    _ => Value::from(value),
                };
                return Ok((value, end));
            }
            '\n' if quote != '`' => return unclosed(),
            '\\' if quote != '`' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some(c @ ('\\' | '"' | '\'')) => value.push(c),
                Some(kind @ ('x' | 'u' | 'U')) => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    match u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32) {
                        Some(c) => value.push(c),
                        None => return wrong(at, "invalid escape in a string"),
                    }
                }
                _ => return wrong(at, "invalid escape in a string"),
            },
            c => value.push(c),
        }
    }
    unclosed()
}

/// What ends a list of nodes.
enum Ending {
    End,
    Else,
}

impl Ending {
    fn name(&self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Else => "else",
        }
    }
}

struct Tokens {
    list: std::iter::Peekable<std::vec::IntoIter<(Token, Span)>>,
    at: usize,
    /// How many parentheses we are in.
    depth: usize,
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// How many `range` we are in.
    loops: usize,
    /// How many blocks we are in.
    depth: usize,
    end: usize,
}

impl Parser {
    /// Nodes up to the end of the text, or to an `end` or `else` and the rest of its tokens.
    fn nodes(&mut self) -> Result<Block> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let mut tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { tokens, at } => Tokens { list: tokens.into_iter().peekable(), at, depth: 0 },
            };
            let keyword = match tokens.list.peek() {
                Some((Token::Word(word), _)) => word.clone(),
                Some(_) => String::new(),
                None => return wrong(tokens.at, "missing value for command"),
            };
            let node = match keyword.as_str() {
                "if" | "with" | "range" | "end" | "else" | "break" | "continue" => {
                    tokens.list.next();
                    match keyword.as_str() {
                        "end" => return tokens.finish().map(|()| (nodes, Some((Ending::End, tokens)))),
                        "else" => return Ok((nodes, Some((Ending::Else, tokens)))),
                        "break" | "continue" if self.loops == 0 => {
                            return wrong(tokens.at, format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                        }
                        "break" => Node::Break,
                        "continue" => Node::Continue,
                        keyword => self.block(keyword, tokens)?,
                    }
                }
                "define" | "block" | "template" => {
                    return wrong(tokens.at, format!("{{{{{keyword}}}}} is not supported"));
                }
                _ => Node::Print(tokens.whole_pipe()?),
            };
            nodes.push(node);
        }
        Ok((nodes, None))
    }

    /// The rest of an `if`, `with` or `range`.
    fn block(&mut self, keyword: &str, mut tokens: Tokens) -> Result<Node> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return wrong(tokens.at, "blocks are nested too deeply");
        }
        let pipe = tokens.whole_pipe()?;
        let is_loop = keyword == "range";
        if pipe.variables.len() > 1 && !is_loop {
            return wrong(tokens.at, "too many declarations");
        }
        self.loops += usize::from(is_loop);
        let (then, ending) = self.nodes()?;
        self.loops -= usize::from(is_loop);
        let otherwise = match ending {
            None => return wrong(self.end, "unexpected EOF"),
            Some((Ending::End, _)) => Vec::new(),
            Some((Ending::Else, mut rest)) => match rest.list.next() {
                // `else if` is an `if` inside the `else`; both end at one `end`.
                Some((Token::Word(word), _)) if word == keyword && !is_loop => {
                    vec![self.block(keyword, rest)?]
                }
                Some((_, (at, _))) => return wrong(at, "unexpected text in {{else}}"),
                None => match self.nodes()? {
                    (nodes, Some((Ending::End, _))) => nodes,
                    (_, Some((Ending::Else, rest))) => return wrong(rest.at, "unexpected {{else}}"),
                    (_, None) => return wrong(self.end, "unexpected EOF"),
                },
            },
        };
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: pipe, then, otherwise },
            "with" => Node::With { value: pipe, then, otherwise },
            _ => Node::Range { over: pipe, body: then, otherwise },
        })
    }
}

impl Tokens {
    fn finish(&mut self) -> Result<()> {
        match self.list.next() {
            None => Ok(()),
            Some((_, (at, _))) => wrong(at, "unexpected text in {{end}}"),
        }
    }

    /// A pipeline that takes all tokens.
    fn whole_pipe(&mut self) -> Result<Pipe> {
        let pipe = self.pipe()?;
        match self.list.next() {
            None => Ok(pipe),
            Some((_, (at, _))) => wrong(at, "unexpected right paren"),
        }
    }

    fn pipe(&mut self) -> Result<Pipe> {
        let (variables, assigns) = self.declaration();
        let mut commands = Vec::new();
        loop {
            let mut command = Vec::new();
            while let Some(operand) = self.operand()? {
                command.push(operand);
            }
            if command.is_empty() {
                return wrong(self.at, "missing value for command");
            }
            let literal = |operand: &Operand| matches!(operand.head, Head::Literal(_));
            if !commands.is_empty() && command.first().is_some_and(literal) {
                return wrong(command[0].span.0, "non executable command in pipeline");
            }
            commands.push(command);
            match self.list.peek() {
                Some((Token::Bar, _)) => self.list.next(),
                Some((Token::Close, _)) | None => return Ok(Pipe { variables, assigns, commands }),
                Some((_, (at, _))) => return wrong(*at, "unexpected token in command"),
            };
        }
    }

    /// `$a :=`, `$a, $b :=` or `$a =` if the tokens begin so.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let mut ahead = self.list.clone();
        let mut names = Vec::new();
        while let Some((Token::Variable(name), _)) = ahead.next() {
            names.push(name);
            match ahead.next() {
                Some((Token::Comma, _)) if names.len() == 1 => {}
                Some((token @ (Token::Declare | Token::Assign), _)) => {
                    self.list = ahead;
                    return (names, token == Token::Assign);
                }
                _ => break,
            }
        }
        (Vec::new(), false)
    }

    fn operand(&mut self) -> Result<Option<Operand>> {
        let Some((token, mut span)) =
            self.list.next_if(|(t, _)| !matches!(t, Token::Bar | Token::Close | Token::Comma))
        else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        let head = match token {
            Token::Dot => Head::Dot,
            Token::Field(name) => {
                fields.push(name);
                Head::Dot
            }
            Token::Variable(name) => Head::Variable(name),
            Token::Literal(value) => Head::Literal(value),
            Token::Word(word) => match word.as_str() {
                "true" => Head::Literal(Value::Bool(true)),
                "false" => Head::Literal(Value::Bool(false)),
                "nil" => Head::Literal(Value::Null),
                name => match functions::known(name) {
                    Some(name) => Head::Function(name),
                    None => return wrong(span.0, format!("function {name:?} not defined")),
                },
            },
            Token::Open => {
                self.depth += 1;
                if self.depth > DEEPEST {
                    return wrong(span.0, "parentheses are nested too deeply");
                }
                let pipe = self.pipe()?;
                self.depth -= 1;
                match self.list.next() {
                    Some((Token::Close, (_, end))) => span.1 = end,
                    _ => return wrong(span.0, "unclosed left paren"),
                }
                Head::Pipe(pipe)
            }
            Token::Bar | Token::Close | Token::Comma | Token::Declare | Token::Assign => {
                return wrong(span.0, "unexpected token in operand");
            }
        };
        // Only what touches is a chain: `.A .B` are two operands.
        while let Some((Token::Field(name), (_, end))) =
            self.list.next_if(|(t, (start, _))| matches!(t, Token::Field(_)) && *start == span.1)
        {
            fields.push(name);
            span.1 = end;
        }
        Ok(Some(Operand { head, fields, span }))
    }
}
