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

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::super::{rmi, stop};
    use super::*;

    #[test]
    fn names_or_all_but_not_both_and_not_nothing() {
        let of = |words: &[&str]| Selection::of(&parse_for_test(&stop::ENTRY, words)?, "container");
        assert_eq!(of(&["a", "b"]).unwrap().names, ["a", "b"]);
        assert!(of(&["-a"]).unwrap().all && of(&["-i", "x"]).unwrap().ignore_missing);
        assert_eq!(of(&[]).unwrap_err().to_string(), "no container named");
        assert!(of(&["-a", "x"]).is_err());
        let none = rmi::options(&parse_for_test(&rmi::ENTRY, &[]).unwrap()).unwrap_err();
        assert_eq!(none.to_string(), "no image named");
    }
}
