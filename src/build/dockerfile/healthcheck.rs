//! HEALTHCHECK.

use super::ast::{CommandLine, Healthcheck, Literal};
use super::flags::{Flags, Takes};
use super::json::{self, Json};
use super::problem::Problem;
use super::source::{Source, Span, Text};
use crate::timestamp::parse_go_duration;
use std::time::Duration;

/// Its flags.
pub const FLAGS: [(&str, Takes); 5] = [
    ("interval", Takes::One),
    ("timeout", Takes::One),
    ("start-period", Takes::One),
    ("start-interval", Takes::One),
    ("retries", Takes::One),
];

/// Reads its arguments.
pub fn parse(
    source: &Source,
    keyword: Span,
    arguments: &Text,
    flags: &Flags,
) -> Result<Healthcheck, Box<Problem>> {
    if arguments.is_empty() {
        return wrong(source, keyword, "HEALTHCHECK requires at least one argument".to_owned());
    }
    let end = arguments.find(char::is_whitespace).unwrap_or(arguments.len());
    let (kind, rest) = (arguments.part(0..end), arguments.part(end..arguments.len()).trimmed());
    if kind.eq_ignore_ascii_case("NONE") {
        if !rest.is_empty() {
            return wrong(source, rest.span(), "HEALTHCHECK NONE takes no arguments".to_owned());
        }
        return Ok(Healthcheck::None);
    }
    if !kind.eq_ignore_ascii_case("CMD") {
        let message = format!("Unknown type {:?} in HEALTHCHECK (try CMD)", kind.to_uppercase());
        return wrong(source, kind.span(), message);
    }
    let command = match json::texts(&rest) {
        Json::Texts(words) => CommandLine::Exec(words.into_iter().map(Literal).collect()),
        Json::No => CommandLine::Shell(Literal(rest.clone())),
        Json::OtherArray => {
            let message = "when using JSON array syntax, arrays must be comprised of strings only";
            return wrong(source, rest.span(), message.to_owned());
        }
    };
    if command.is_empty() {
        return wrong(source, arguments.span(), "Missing command after HEALTHCHECK CMD".to_owned());
    }
    let interval = |name: &str| -> Result<Option<Duration>, Box<Problem>> {
        let Some(text) = flags.one(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let nanos = if &**text == "0" { Some(0) } else { parse_go_duration(text) };
        match nanos {
            None => wrong(source, text.span(), format!("time: invalid duration {:?}", &**text)),
            Some(0) => Ok(None),
            Some(nanos) if nanos < 1_000_000 => {
                wrong(source, text.span(), format!("Interval {name:?} cannot be less than 1ms"))
            }
            Some(nanos) => Ok(Some(Duration::from_nanos(nanos.unsigned_abs()))),
        }
    };
    let retries = match flags.one("retries").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match text.parse::<i32>() {
            Ok(count) if count < 0 => {
                return wrong(source, text.span(), format!("--retries cannot be negative ({count})"));
            }
            Ok(0) => None,
            Ok(count) => Some(count.unsigned_abs()),
            Err(_) => return wrong(source, text.span(), format!("--retries={:?} is no number", &**text)),
        },
    };
    Ok(Healthcheck::Check {
        command,
        interval: interval("interval")?,
        timeout: interval("timeout")?,
        start_period: interval("start-period")?,
        start_interval: interval("start-interval")?,
        retries,
    })
}

fn wrong<T>(source: &Source, span: Span, message: impl Into<String>) -> Result<T, Box<Problem>> {
    Err(Box::new(Problem::new(source, span, message)))
}
