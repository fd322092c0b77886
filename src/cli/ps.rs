//! `coracle ps`.

use super::args::{Given, list, option, switch};
use super::{Action, Context, Entry, Error, parse};
use clap::{ArgMatches, Command};

/// `coracle ps`.
pub const ENTRY: Entry = Entry {
    name: "ps",
    aliases: &[],
    about: "List containers",
    usage: "[OPTIONS]",
    action: Action::Leaf {
        define,
        unsupported: &["external", "ns", "pod,p", "storage", "sync", "watch,w"],
        run,
    },
};

const FILTERS: [&str; 12] = [
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network", "until",
    "command",
];

const SORTS: [&str; 8] = ["created", "command", "id", "image", "names", "runningfor", "size", "status"];

/// What `ps` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PsOptions {
    /// `-a`, or implied by `-n`, `-l` or a filter on the state: stopped ones too.
    pub all: bool,
    /// `-n`, `-l`: only the newest so many.
    pub last: Option<usize>,
    /// `-f`, all of which must hold, but of several values of one key any.
    pub filters: Vec<(String, String)>,
    /// `--sort`: a column, `created` if not given.
    pub sort: Option<String>,
    /// `-s`: with sizes.
    pub size: bool,
    /// How the rows are shown.
    pub show: super::ListOptions,
}

fn define(command: Command) -> Command {
    command.args([
        switch("all").short('a').help("Show stopped containers too"),
        option("last", "COUNT").short('n').help("Show the newest containers only, in any state"),
        switch("latest").short('l').help("Show the newest container only, in any state"),
        list("filter", "KEY=VALUE").short('f').help(
            "Show only: id=, name=, label=, status=, exited=, ancestor=, before=, since=, volume=, until=",
        ),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("quiet").short('q').help("Show ids only"),
        switch("no-trunc").help("Show ids and commands in full"),
        switch("size").short('s').help("Show the size of what each container has written"),
        option("sort", "COLUMN").help("Sort by created, command, id, image, names, size or status"),
        switch("noheading").help("Leave out the column heads"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<PsOptions, Error> {
    let last: Option<i64> = args.parsed("last", |text| match text.parse() {
        Ok(count) => Ok(count),
        Err(_) => Err(parse::Invalid::new("expected a whole number")),
    })?;
    // docker: a negative number is no limit.
    let last = match args.on("latest") {
        true => Some(1),
        false => last.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0),
    };
    let filters = args.each("filter", |text| parse::filter(text, &FILTERS))?;
    let on_state = filters.iter().any(|(key, _)| key == "status" || key == "exited");
    let sort = args.parsed("sort", |text| match SORTS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(parse::Invalid::unknown("column", text, &SORTS)),
    })?;
    Ok(PsOptions {
        all: args.on("all") || last.is_some() || on_state,
        last,
        filters,
        sort,
        size: args.on("size"),
        show: super::ListOptions::of(args),
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    fn asked(words: &[&str]) -> Result<PsOptions, Error> {
        options(&parse_for_test(&ENTRY, words)?)
    }

    #[test]
    fn asking_for_the_newest_or_a_state_is_asking_for_stopped_ones_too() {
        assert!(!asked(&[]).unwrap().all);
        assert!(asked(&["-aq"]).unwrap().all);
        assert_eq!(asked(&["-l"]).unwrap().last, Some(1));
        assert_eq!(asked(&["-n", "-1"]).unwrap().last, None);
        assert!(asked(&["-n2"]).unwrap().all && asked(&["-f", "status=exited"]).unwrap().all);
    }

    #[test]
    fn filters_and_columns_are_checked() {
        assert_eq!(asked(&["-f", "label=a=b"]).unwrap().filters, [("label".to_owned(), "a=b".to_owned())]);
        assert!(asked(&["-f", "nmae=x"]).is_err() && asked(&["--sort", "x"]).is_err());
    }
}
