//! `<<NAME`: which words of a line stand for the lines that follow it.

use super::ast::Heredoc;
use super::words::{Lexer, NoVariables};
use std::sync::Arc;

/// The heredocs that a line names, in order, without content. A line with quotes that do not close names none.
pub fn of_line(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let words = Lexer::for_splitting().expand(line, &NoVariables).map(|expanded| expanded.words);
    words.unwrap_or_default().iter().filter_map(|word| of_word(word)).collect()
}

/// The heredoc that a word is: an optional number, `<<`, an optional `-`, blanks, and one more word.
pub fn of_word(word: &str) -> Option<Heredoc> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let rest = word[digits..].strip_prefix("<<")?;
    let (rest, strips_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let names =
        |keep| Lexer::for_heredoc_name(keep).expand(rest, &NoVariables).ok().map(|expanded| expanded.words);
    let ([name], [quoted]) = (&names(false)?[..], &names(true)?[..]) else { return None };
    Some(Heredoc {
        name: name.clone(),
        descriptor: word[..digits].parse().unwrap_or_default(),
        expands: quotes(name) == quotes(quoted),
        strips_tabs,
        content: Arc::default(),
    })
}
