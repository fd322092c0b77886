//! `coracle cp`.

use super::args::{Given, operands, switch};
use super::engine::Engine;
use super::{Action, Context, Entry, Error};
use crate::container::files::{Access, CopyOptions, Location, View, copy};
use crate::container::store::Container;
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use std::io::IsTerminal;
use std::path::PathBuf;

/// `coracle cp`.
pub const ENTRY: Entry = Entry {
    name: "cp",
    aliases: &[],
    about: "Copy files between containers and the host",
    usage: "[OPTIONS] CONTAINER:SOURCE DESTINATION|-\n       coracle cp [OPTIONS] SOURCE|- CONTAINER:DESTINATION\n       \
            coracle cp [OPTIONS] CONTAINER:SOURCE CONTAINER:DESTINATION",
    action: Action::Leaf { define, unsupported: &["extract", "pause"], run },
};

/// One end, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `-`
    Stream,
    /// A path.
    Host(PathBuf),
    /// `CONTAINER:PATH`
    Container(String, PathBuf),
}

/// What `cp` is asked for.
#[derive(Clone, Debug)]
pub struct CpOptions {
    /// What is copied.
    pub from: End,
    /// Where to.
    pub to: End,
    /// How.
    pub how: CopyOptions,
    /// `-q`.
    pub quiet: bool,
}

fn define(command: Command) -> Command {
    command.args([
        switch("archive").short('a').help("Keep the owners of the files"),
        switch("follow-link").short('L').help("Copy what a link leads to, if the source is one"),
        switch("overwrite").help("Let a file take the place of a directory and the other way round"),
        switch("quiet").short('q').help("Don't say how much was copied"),
        operands("SOURCE", 2),
    ])
}

/// An end for the copying; none if its container is missing.
fn locate<'a>(end: &End, view: Option<&'a View>) -> Option<Location<'a>> {
    match (end, view) {
        (End::Container(_, path), Some(view)) => Some(Location::Container(view, path.clone())),
        (End::Host(path), _) => Some(Location::Host(path.clone())),
        (End::Stream, _) => Some(Location::Stream),
        (End::Container(..), None) => None,
    }
}

/// docker's rule: an absolute path, or one that begins with a dot, is the host's, whatever is in it.
fn end(text: &str) -> End {
    match text.split_once(':') {
        _ if text == "-" => End::Stream,
        Some((name, path)) if !name.is_empty() && !text.starts_with(['/', '.']) => {
            End::Container(name.to_owned(), PathBuf::from(path))
        }
        _ => End::Host(PathBuf::from(text)),
    }
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<CpOptions, Error> {
    let [from, to] = &args.operands()[..] else {
        return Err(Error::usage("too few arguments", "name what is copied and where to"));
    };
    let (from, to) = (end(from), end(to));
    let advice = "write CONTAINER:PATH for what is in a container";
    match (&from, &to) {
        (End::Container(..), _) | (_, End::Container(..)) => {}
        _ => return Err(Error::usage("neither of the two is in a container", advice)),
    }
    for end in [&from, &to] {
        if matches!(end, End::Host(path) | End::Container(_, path) if path.as_os_str().is_empty()) {
            return Err(Error::usage("a path is empty", advice));
        }
    }
    let how = CopyOptions {
        archive: args.maybe("archive"),
        follow: args.on("follow-link"),
        overwrite: args.on("overwrite"),
    };
    Ok(CpOptions { from, to, how, quiet: args.on("quiet") })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    if options.to == End::Stream && std::io::stdout().is_terminal() {
        return Err(Error::usage("a tar stream is not written to a terminal", "redirect the output").into());
    }
    engine.tidy();
    // Both are found before this process leaves the user's own namespace.
    let container = |end: &End| match end {
        End::Container(name, _) => engine.find(name).map(Some),
        _ => Ok(None),
    };
    let (source, target) = (container(&options.from)?, container(&options.to)?);
    let open = |container: &Container, access| View::open(&engine.paths, &engine.identity, container, access);
    let into = target.as_ref().map(|container| open(container, Access::Write)).transpose()?;
    // One container has one view: its lock, and its writable layer, can be had once.
    let is_same = |other: &Container| target.as_ref().is_some_and(|t| t.record.id == other.record.id);
    let from = match &source {
        Some(container) if !is_same(container) => Some(open(container, Access::Read)?),
        _ => None,
    };
    let ends = (locate(&options.from, from.as_ref().or(into.as_ref())), locate(&options.to, into.as_ref()));
    let (Some(from), Some(to)) = ends else { return Ok(1) };
    let copied = copy(&from, &to, options.how, std::io::stdin().lock(), std::io::stdout().lock())?;
    if copied.skipped > 0 {
        output::warn(&format!("{} devices and sockets were left out", copied.skipped));
    }
    if !options.quiet && std::io::stderr().is_terminal() {
        let to = args.operands().pop().unwrap_or_default();
        output::note(&format!("copied {} to {to}", human::size(copied.bytes)));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn a_colon_names_a_container_unless_the_path_says_otherwise() {
        let container = |name: &str, path: &str| End::Container(name.into(), path.into());
        for (text, expected) in [
            ("web:/etc", container("web", "/etc")),
            ("web:a:b", container("web", "a:b")),
            ("./a:b", End::Host("./a:b".into())),
            ("/a:b", End::Host("/a:b".into())),
            ("a", End::Host("a".into())),
            (":a", End::Host(":a".into())),
            ("-", End::Stream),
        ] {
            assert_eq!(end(text), expected, "{text}");
        }
    }

    #[test]
    fn one_end_has_to_be_in_a_container() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        for words in
            [&["a", "b"][..], &["-", "b"], &["a", "-"], &["-", "-"], &["c:", "b"], &["a", "c:"], &["a"]]
        {
            assert!(of(words).is_err(), "{words:?}");
        }
        assert!(of(&["-aL", "c:x", "-"]).unwrap().how.follow);
        assert_eq!(of(&["c:x", "d:y"]).unwrap().how.archive, None);
    }
}
