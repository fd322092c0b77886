//! The few shapes that flags have, and how their values are got.

use super::Error;
use super::parse::{self, Invalid};
use clap::{Arg, ArgAction, ArgMatches};
use std::path::PathBuf;

/// `--name`, and as in docker `--name=true` and `--name=false`.
pub fn switch(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(|text: &str| parse::boolean(text).map_err(|invalid| invalid.why))
}

/// `--name[=VALUE]`; the last one counts. Without a value it is `true`.
pub fn optional(name: &'static str, value: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name(value).action(ArgAction::Set);
    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
}

/// `--name VALUE`; the last one counts.
pub fn option(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).action(ArgAction::Set).allow_hyphen_values(true)
}

/// `--name VALUE`, as often as wanted.
pub fn list(name: &'static str, value: &'static str) -> Arg {
    option(name, value).action(ArgAction::Append)
}

/// The operands: names, anywhere among the flags. The usage line shows them.
pub fn operands(value: &'static str, count: impl Into<clap::builder::ValueRange>) -> Arg {
    let count = count.into();
    Arg::new("operands").value_name(value).required(count.min_values() > 0).num_args(count).hide(true)
}

/// A word and all that follows it, flags included, untouched.
pub fn command_line(value: &'static str) -> Arg {
    Arg::new("operands").value_name(value).required(true).num_args(1..).trailing_var_arg(true).hide(true)
}

/// The form of an argument that help, man pages and completions show: a [`switch`] without its value.
pub(super) fn displayed(arg: Arg) -> Arg {
    if arg.is_require_equals_set() {
        arg.action(ArgAction::SetTrue).num_args(0).require_equals(false).default_missing_values([""; 0])
    } else {
        arg
    }
}

/// Typed access to what was given.
pub trait Given {
    /// Whether a [`switch`] is on.
    fn on(&self, name: &str) -> bool {
        self.maybe(name).unwrap_or(false)
    }
    /// A [`switch`], if it was given at all.
    fn maybe(&self, name: &str) -> Option<bool>;
    /// The value of an [`option`].
    fn text(&self, name: &str) -> Option<&str>;
    /// The values of a [`list`] or of the operands.
    fn texts(&self, name: &str) -> Vec<&str>;
    /// The operands.
    fn operands(&self) -> Vec<String> {
        self.texts("operands").into_iter().map(str::to_owned).collect()
    }
    /// The value of an [`option`] as a path.
    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).filter(|text| !text.is_empty()).map(PathBuf::from)
    }
    /// The value of an [`option`], parsed.
    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Option<T>, Error> {
        self.text(name).map(|text| parse(text).map_err(Error::value(name, text))).transpose()
    }
    /// The value of an [`option`], parsed; empty is docker's way to say that it is not given, as in `--name "$NAME"`.
    fn filled<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Option<T>, Error> {
        match self.text(name) {
            Some("") => Ok(None),
            _ => self.parsed(name, parse),
        }
    }
    /// The values of a [`list`], parsed.
    fn each<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Vec<T>, Error> {
        self.texts(name).into_iter().map(|text| parse(text).map_err(Error::value(name, text))).collect()
    }
    /// The values of several lists in the order in which they were typed, each with its list's name.
    fn in_order<'a>(&'a self, names: &[&'static str]) -> Vec<(&'static str, &'a str)>;
}

impl Given for ArgMatches {
    fn maybe(&self, name: &str) -> Option<bool> {
        // Commands that share code do not all share the switch.
        self.try_get_one(name).ok().flatten().copied()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.try_get_one::<String>(name).ok().flatten().map(String::as_str)
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        // Nor do they all share the list.
        let values = self.try_get_many::<String>(name).ok().flatten();
        values.into_iter().flatten().map(String::as_str).collect()
    }

    fn in_order<'a>(&'a self, names: &[&'static str]) -> Vec<(&'static str, &'a str)> {
        let mut found: Vec<(usize, &'static str, &str)> = names
            .iter()
            .flat_map(|name| {
                let places = self.indices_of(name).into_iter().flatten();
                places.zip(self.texts(name)).map(|(place, text)| (place, *name, text))
            })
            .collect();
        found.sort_by_key(|(place, ..)| *place);
        found.into_iter().map(|(_, name, text)| (name, text)).collect()
    }
}
