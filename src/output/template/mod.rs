//! Go templates for `--format`, as far as docker's and podman's users use them.
//!
//! The language is that of Go's text/template: fields, variables, pipelines, `if`, `with`, `range` with `else`,
//! comments and `{{-` trimming, its built-in functions, and docker's own (`json`, `join`, `split`, `title`, `lower`,
//! `upper`, `pad`, `truncate`). There are no named templates: nobody can define one on a command line.
//!
//! Values are JSON, where Go has structs and maps. A field that is not there is an error for a struct and
//! `<no value>` for a map; here a name in the style of an exported field (`.State.Satus`) is taken for a struct's,
//! any other (`.Config.Labels.owner`) for a map's key. As docker does, by trying its struct first and its JSON
//! second, `.Id` and `.ID` find the same field.
//!
//! [`parse`](Template::parse) makes a tree ([`parse`] the file), [`eval`] walks it, [`functions`] holds the functions.
//! Nothing here does I/O, nesting is bounded, and a template cannot loop for ever.

mod eval;
mod functions;
mod parse;

use crate::diagnose::Diagnose;
use serde_json::Value;

/// A template, parsed.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    nodes: Vec<parse::Node>,
}

/// Why a template cannot be parsed or carried out, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no template.
    #[error("template parsing error: template: :{line}: {why}")]
    Parse {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It does not fit the value.
    #[error("template parsing error: template: :{line}:{column}: executing \"\" at <{at}>: {why}")]
    Execute {
        /// The line, from 1.
        line: usize,
        /// The column, from 0, as Go counts.
        column: usize,
        /// The part of the template.
        at: String,
        /// What is wrong.
        why: String,
    },
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Self::Parse { .. } => {
                Some("see https://pkg.go.dev/text/template for what a template can be".into())
            }
            Self::Execute { .. } => Some("--format json, or {{json .}}, shows all fields".into()),
        }
    }
}

impl Template {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let nodes = parse::parse(text)
            .map_err(|wrong| Error::Parse { line: line_of(text, wrong.at), why: wrong.why })?;
        Ok(Self { text: text.to_owned(), nodes })
    }

    /// The text that it makes of `value`.
    pub fn render(&self, value: &Value) -> Result<String, Error> {
        eval::render(&self.nodes, value).map_err(|wrong| {
            let (start, end) = wrong.span;
            let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
            Error::Execute {
                line: line_of(&self.text, start),
                column: start - line_start,
                at: self.text[start..end].to_owned(),
                why: wrong.why,
            }
        })
    }
}

/// `--format` of `inspect`, `info` and `version`: nothing and `json` are JSON, anything else is a template.
pub fn format(format: Option<&str>, value: &Value) -> Result<String, Error> {
    match format {
        None | Some("") => Ok(serde_json::to_string_pretty(value).unwrap_or_default()),
        Some("json") => Ok(value.to_string()),
        Some(text) => Template::parse(text)?.render(value),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

#[cfg(test)]
mod tests;
