//! Which containers a command is about.

use super::Error;
use super::args::{Given, switch};
use clap::{Arg, ArgMatches};

/// Which containers are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names, ids or the start of ids, as typed.
    pub names: Vec<String>,
    /// `-a`: all of them.
    pub all: bool,
    /// `-i`: a name that there is not is no error.
    pub ignore_missing: bool,
}

pub(super) fn all() -> Arg {
    switch("all").short('a')
}

pub(super) fn ignore() -> Arg {
    switch("ignore").short('i').help("A container that is not there is no error")
}

impl Selection {
    /// What was given: names, or all; `what` is the word for one.
    pub(super) fn of(args: &ArgMatches, what: &str) -> Result<Self, Error> {
        let names = args.operands();
        let all = args.on("all");
        match (all, names.is_empty()) {
            (true, false) => Err(Error::usage("--all and names exclude each other", "leave out one of them")),
            (false, true) => Err(Error::usage(format!("no {what} named"), "name one or more, or use --all")),
            _ => Ok(Self { names, all, ignore_missing: args.on("ignore") }),
        }
    }
}
