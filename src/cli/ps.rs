//! `coracle ps`.

use super::args::{Given, list, option, switch};
use super::engine::Engine;
use super::filter::{self, Filter};
use super::{Action, Context, Entry, Error, parse};
use super::{container_view, rows, stores};
use crate::container::store;
use crate::output;
use clap::{ArgMatches, Command};
use std::time::SystemTime;

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
            "Show only: id=, name=, label=, status=, exited=, ancestor=, before=, since=, volume=, network=, until=",
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
    let filters = args.each("filter", |text| parse::filter(text, &filter::KEYS))?;
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

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let now = SystemTime::now();
    let (mut containers, mut broken) = (Vec::new(), Vec::new());
    for entry in store::list(&engine.paths)? {
        match entry {
            store::Entry::Whole(container) => containers.push(*container),
            store::Entry::Broken(id, error) => broken.push((id, error)),
        }
    }
    let filter = Filter::new(&engine, &options.filters, &containers, now)?;
    containers.retain(|c| (options.all || c.status.is_running()) && filter.accepts(c));
    containers.truncate(options.last.unwrap_or(usize::MAX));
    sort(&mut containers, options.sort.as_deref());
    let size = |c: &store::Container| {
        options.size.then(|| {
            let own = crate::state::tree_size(&c.places.data.join("upper"));
            (own, own + stores::layers_size(&engine, &c.record.layers))
        })
    };
    let mut lines: Vec<_> =
        containers.iter().map(|c| container_view::row(c, now, options.show.no_trunc, size(c))).collect();
    if options.all && options.filters.is_empty() {
        lines.extend(
            broken.iter().map(|(id, _)| container_view::broken_row(id.as_str(), now, options.show.no_trunc)),
        );
    }
    let listing = if options.size { rows::CONTAINERS_AND_SIZES } else { rows::CONTAINERS };
    output::print(&listing.render(&lines, options.show.style())?)?;
    for (id, error) in broken {
        output::warn(&format!(
            "container {} cannot be read: {error}; 'coracle rm {}' removes it",
            id.short(),
            id.short()
        ));
    }
    Ok(0)
}

fn sort(containers: &mut [store::Container], by: Option<&str>) {
    let key = |c: &store::Container| match by {
        Some("command") => c.record.spec.process.args.join(" "),
        Some("id") => c.record.id.as_str().to_owned(),
        Some("image") => c.record.image.clone(),
        Some("names") => c.record.name.clone(),
        Some("status") => c.status.word().to_owned(),
        Some("size") => format!("{:020}", crate::state::tree_size(&c.places.data.join("upper"))),
        // As they come: newest first.
        _ => String::new(),
    };
    containers.sort_by_cached_key(key);
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
