//! Which containers a command is about: by name, `--all`, `--latest`, `--cidfile`, `--filter`.

use super::args::{Given, list, switch};
use super::filter;
use super::{Error, parse};
use clap::{Arg, ArgMatches};
use std::fs;
use std::io::ErrorKind;

/// Which containers are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names, ids or the start of ids, as typed or as in the files of `--cidfile`.
    pub names: Vec<String>,
    /// `-a`: all of them.
    pub all: bool,
    /// `-l`: the one made last.
    pub latest: bool,
    /// `--filter`: those that pass.
    pub filters: Vec<(String, String)>,
    /// `-i`: a name that there is not is no error.
    pub ignore_missing: bool,
}

pub(super) fn all() -> Arg {
    switch("all").short('a')
}

pub(super) fn ignore() -> Arg {
    switch("ignore").short('i').help("A container that is not there is no error")
}

pub(super) fn latest() -> Arg {
    switch("latest").short('l').help("The container that was made last")
}

pub(super) fn cidfile() -> Arg {
    list("cidfile", "FILE").help("The container whose id is in FILE")
}

pub(super) fn filters() -> Arg {
    list("filter", "KEY=VALUE").help("The containers that pass, as 'coracle ps --filter' has them")
}

impl Selection {
    /// What was given: names (also by `--cidfile`), all, the latest, or a filter; `what` is the word for one.
    pub(super) fn of(args: &ArgMatches, what: &str) -> Result<Self, Error> {
        Self::named(args, what, args.operands())
    }

    /// [`Self::of`], where the operands are not all names.
    pub(super) fn named(args: &ArgMatches, what: &str, mut names: Vec<String>) -> Result<Self, Error> {
        let ignore_missing = args.on("ignore");
        names.extend(cids(args, ignore_missing)?);
        let (all, latest) = (args.on("all"), args.on("latest"));
        let filters = args.each("filter", |text| parse::filter(text, &filter::KEYS))?;
        let given =
            [("names", !names.is_empty()), ("--all", all || !filters.is_empty()), ("--latest", latest)];
        let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(word, _)| *word).collect();
        match given[..] {
            // The files of --cidfile may all be missing and ignored.
            [] if !args.texts("cidfile").is_empty() => {}
            [] => {
                let fix = "name one or more, or use one of the flags that '--help' lists";
                return Err(Error::usage(format!("no {what} named"), fix));
            }
            [_] => {}
            _ => {
                let what = match given[..] {
                    ["names", "--all"] if !all => "--filter and names exclude each other".to_owned(),
                    ["names", second, ..] => {
                        format!("{second} and names exclude each other")
                    }
                    _ => "--all and --latest exclude each other".to_owned(),
                };
                return Err(Error::usage(what, "leave out one of them"));
            }
        }
        Ok(Self { names, all, latest, filters, ignore_missing })
    }

    /// Whether a container that is not there is no error: it was said so, or it has gone since it was found.
    pub fn may_miss(&self) -> bool {
        self.ignore_missing || self.all || self.latest || !self.filters.is_empty()
    }

    /// Whether the containers were not named one by one: then those that are not in the right state are passed over.
    pub fn is_sweeping(&self) -> bool {
        self.all || !self.filters.is_empty()
    }
}

/// The ids in the files of `--cidfile`.
fn cids(args: &ArgMatches, ignore_missing: bool) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for file in args.texts("cidfile") {
        match fs::read_to_string(file) {
            Ok(text) => ids.push(text.lines().next().unwrap_or_default().trim().to_owned()),
            Err(e) if ignore_missing && e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::file("read", file)(e)),
        }
    }
    Ok(ids)
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
        assert!(of(&["-l"]).unwrap().latest);
        assert_eq!(of(&[]).unwrap_err().to_string(), "no container named");
        for words in [&["-a", "x"][..], &["-l", "x"], &["-a", "-l"], &["--filter", "name=x", "x"]] {
            assert!(of(words).unwrap_err().to_string().contains("exclude each other"), "{words:?}");
        }
        assert!(of(&["--filter", "nmae=x"]).is_err());
        let none = rmi::options(&parse_for_test(&rmi::ENTRY, &[]).unwrap()).unwrap_err();
        assert_eq!(none.to_string(), "no image named");
    }

    #[test]
    fn a_file_with_an_id_is_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cid");
        fs::write(&file, "abc\n").unwrap();
        let of = |words: &[&str]| Selection::of(&parse_for_test(&stop::ENTRY, words)?, "container");
        let file = file.to_str().unwrap();
        assert_eq!(of(&["--cidfile", file, "web"]).unwrap().names, ["web", "abc"]);
        assert!(of(&["--cidfile", "/nowhere/cid"]).unwrap_err().to_string().contains("cannot read"));
        assert!(of(&["-i", "--cidfile", "/nowhere/cid"]).unwrap().names.is_empty());
    }
}
