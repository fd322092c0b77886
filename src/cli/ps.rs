//! `coracle ps`.

use super::args::{Given, list, option, switch};
use super::engine::Engine;
use super::{Action, Context, Entry, Error, parse};
use super::{container_view, rows, stores};
use crate::container::record::{MountKind, Status};
use crate::container::store;
use crate::output;
use clap::{ArgMatches, Command};
use regex::Regex;
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

const FILTERS: [&str; 12] = [
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network", "until",
    "command",
];

/// docker's: not all of them can be had here.
const STATES: [&str; 7] = ["restarting", "running", "removing", "paused", "dead", "created", "exited"];

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
    let filter = Filter::new(&options.filters, &containers, now)?;
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

/// `--filter`: all keys must hold, of several values of one key any.
struct Filter {
    terms: Vec<(String, Vec<Test>)>,
}

type Test = Box<dyn Fn(&store::Container) -> bool>;

impl Filter {
    fn new(filters: &[(String, String)], all: &[store::Container], now: SystemTime) -> anyhow::Result<Self> {
        let mut terms: Vec<(String, Vec<Test>)> = Vec::new();
        for (key, value) in filters {
            let test = test(key, value, all, now)?;
            match terms.iter_mut().find(|(k, _)| k == key) {
                // Every label asked for must be there.
                Some((_, tests)) if key != "label" => tests.push(test),
                _ => terms.push((key.clone(), vec![test])),
            }
        }
        Ok(Self { terms })
    }

    fn accepts(&self, container: &store::Container) -> bool {
        self.terms.iter().all(|(_, tests)| tests.iter().any(|test| test(container)))
    }
}

fn test(key: &str, value: &str, all: &[store::Container], now: SystemTime) -> anyhow::Result<Test> {
    let value = value.to_owned();
    let created = |name: &str| {
        let found = all.iter().find(|c| c.record.name == name || c.record.id.as_str().starts_with(name));
        found.map(|c| c.record.created).ok_or_else(|| crate::container::Error::NotFound(name.to_owned()))
    };
    Ok(match key {
        "id" => Box::new(move |c| c.record.id.as_str().starts_with(&value)),
        "name" => {
            let pattern = Regex::new(&value).map_err(|_| {
                Error::usage(
                    format!("name={value}: not a regular expression"),
                    "quote special characters with \\",
                )
            })?;
            // docker's names begin with a slash, and it matches with and without.
            Box::new(move |c| {
                pattern.is_match(&c.record.name) || pattern.is_match(&format!("/{}", c.record.name))
            })
        }
        "status" => match STATES.contains(&value.as_str()) {
            true => Box::new(move |c| c.status.word() == value),
            false => {
                let what = format!("status={value}: unknown container state");
                return Err(Error::usage(what, format!("one of: {}", STATES.join(", "))).into());
            }
        },
        "exited" => {
            let code: i32 = value
                .parse()
                .map_err(|_| Error::usage(format!("exited={value}: not an exit code"), "give a number"))?;
            Box::new(move |c| matches!(c.status, Status::Exited { code: ended, .. } if ended == code))
        }
        "ancestor" => Box::new(move |c| {
            c.record.image == value
                || c.record.image.split(':').next() == Some(&value)
                || c.record.image_id.to_string() == value
                || c.record.image_id.hex().starts_with(&value)
        }),
        "before" => {
            let limit = created(&value)?;
            Box::new(move |c| c.record.created < limit)
        }
        "since" => {
            let limit = created(&value)?;
            Box::new(move |c| c.record.created > limit)
        }
        "until" => {
            let limit = parse::moment(&value, now)
                .map_err(|e| Error::usage(format!("until={value}: {}", e.why), "give a time or a span"))?;
            Box::new(move |c| container_view::moment(c.record.created) < limit)
        }
        "volume" => Box::new(move |c| {
            c.record.mounts.iter().any(|m| match &m.kind {
                MountKind::Volume { name, .. } => *name == value || m.destination == value,
                MountKind::Bind { path } => path.to_str() == Some(&value) || m.destination == value,
                MountKind::Tmpfs { .. } => m.destination == value,
            })
        }),
        "network" => Box::new(move |c| {
            value == if c.record.spec.network == crate::sandbox::Network::Host { "host" } else { "none" }
        }),
        "command" => Box::new(move |c| c.record.spec.process.args.first() == Some(&value)),
        // label
        _ => Box::new(move |c| match value.split_once('=') {
            Some((name, wanted)) => c.record.labels.get(name).is_some_and(|v| v == wanted),
            None => c.record.labels.contains_key(&value),
        }),
    })
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

    #[test]
    fn states_are_dockers_and_patterns_regular_expressions() {
        let now = SystemTime::now();
        let is_good = |key: &str, value: &str| test(key, value, &[], now).is_ok();
        assert!(is_good("status", "exited") && is_good("status", "paused") && is_good("name", "^/?web$"));
        assert!(!is_good("status", "bogus") && !is_good("name", "(") && !is_good("exited", "x"));
        assert!(!is_good("before", "nobody"));
    }
}
