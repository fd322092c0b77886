//! `coracle builder du`.

use super::{kind, row};
use crate::build::cache::{Record, Usage};
use crate::cli::args::{Given, list, option, switch};
use crate::cli::engine::Engine;
use crate::cli::stores::{self, Stores};
use crate::cli::{Action, Context, Entry, Error, ListOptions, parse};
use crate::output::listing::Listing;
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use std::time::SystemTime;

/// `coracle builder du`.
pub const ENTRY: Entry = Entry {
    name: "du",
    aliases: &[],
    about: "Show what builds keep for later ones",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["builder", "timeout"], run },
};

const ROWS: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedSince}}",
    quiet: "ID",
    heads: &[("LastUsedSince", "LAST ACCESSED")],
};

fn define(command: Command) -> Command {
    command.args([
        list("filter", "KEY=VALUE")
            .help("Show only: until=TIME (not used since), id=ID, type=regular|source.local|exec.cachemount, shared=BOOL, inuse=BOOL"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("verbose").short('v').help("Show all that is known of each"),
    ])
}

type Filter = Box<dyn Fn(&Record) -> bool>;

fn filters(args: &ArgMatches, now: SystemTime) -> Result<Vec<Filter>, Error> {
    args.each("filter", |text| {
        let (key, value) =
            parse::filter(text, &["until", "unused-for", "id", "type", "shared", "inuse", "description"])?;
        Ok::<Filter, parse::Invalid>(match key.as_str() {
            "id" => Box::new(move |record| record.id.starts_with(&value)),
            "type" => {
                let wanted = kind(&value)?;
                Box::new(move |record| record.kind == wanted)
            }
            "description" => Box::new(move |record| record.text.contains(&value)),
            "shared" => {
                let wanted = parse::boolean(&value)?;
                Box::new(move |record| record.is_shared == wanted)
            }
            "inuse" => {
                let wanted = parse::boolean(&value)?;
                Box::new(move |record| record.is_in_use == wanted)
            }
            _ => {
                let until = parse::moment(&value, now)?;
                Box::new(move |record| record.used < until)
            }
        })
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let now = SystemTime::now();
    let (filters, show) = (filters(args, now)?, ListOptions::of(args));
    let engine = Engine::open(context)?;
    // What a cache mount holds belongs to ids of the namespace.
    let stores = Stores::enter(&engine)?;
    let needs = stores::needs_of_containers(&engine);
    let mut usage = Usage::of(&stores.images, &stores.layers, &*needs)?;
    usage.records.retain(|record| filters.iter().all(|filter| filter(record)));
    let text = match (&show.format, args.on("verbose")) {
        (None, true) => usage.records.iter().map(|record| verbose(record, now)).collect(),
        _ => {
            let no_trunc = show.format.is_some();
            let rows: Vec<_> = usage.records.iter().map(|record| row(record, now, no_trunc)).collect();
            ROWS.render(&rows, show.style())?
        }
    };
    let text =
        if show.format.is_some() { text } else { format!("{text}{}", sums(&usage, args.on("verbose"))) };
    output::print(&text)?;
    Ok(0)
}

/// BuildKit's lines.
fn verbose(record: &Record, now: SystemTime) -> String {
    let created = record.created.map_or_else(|| "unknown".into(), human::rfc3339);
    format!(
        "ID:\t\t{}\nCreated at:\t{created}\nReclaimable:\t{}\nShared:\t\t{}\nSize:\t\t{}\nDescription:\t{}\n\
         Last used:\t{}\nType:\t\t{}\n\n",
        record.id,
        !record.is_in_use,
        record.is_shared,
        human::size(record.size),
        record.text,
        human::ago(record.used, now),
        record.kind.word(),
    )
}

fn sums(usage: &Usage, with_shared: bool) -> String {
    let sum = |size: &dyn Fn(&Record) -> u64| human::size(usage.records.iter().map(size).sum());
    let shared = match with_shared {
        true => format!(
            "Shared:\t\t{}\nPrivate:\t{}\n",
            sum(&|record| record.size - record.own_size()),
            sum(&Record::own_size)
        ),
        false => String::new(),
    };
    let reclaimable = sum(&|record| if record.is_in_use { 0 } else { record.own_size() });
    format!("{shared}Reclaimable:\t{reclaimable}\nTotal:\t\t{}\n", human::size(usage.own_size()))
}
