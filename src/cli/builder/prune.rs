//! `coracle builder prune`.

use super::kind;
use crate::build::cache::{Kind, Policy, Pruned};
use crate::cli::args::{Given, list, option, switch};
use crate::cli::engine::Engine;
use crate::cli::stores::{self, Stores};
use crate::cli::{Action, Context, Entry, Error, parse};
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use std::time::SystemTime;

/// `coracle builder prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove what builds keep for later ones",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["builder", "min-free-space", "timeout", "verbose"], run },
};

fn define(command: Command) -> Command {
    command.args([
        switch("all").short('a').help("Remove entries too whose layers images or containers need"),
        switch("force").short('f').help("Don't ask first"),
        list("filter", "KEY=VALUE").help(
            "Remove only: until=TIME (not used since), id=ID, type=regular|source.local|exec.cachemount",
        ),
        option("keep-storage", "SIZE").help("Keep so much of it, that which was used last"),
        option("max-used-space", "SIZE").help("The same, under docker's newer name"),
        option("reserved-space", "SIZE").help("The same, under another of docker's names"),
    ])
}

enum Filter {
    Id(String),
    Type(Kind),
    Until(SystemTime),
}

/// What the flags ask for.
pub fn policy(args: &ArgMatches, now: SystemTime) -> Result<Policy, Error> {
    let mut policy = Policy { all: args.on("all"), ..Policy::default() };
    let filters = args.each("filter", |text| {
        let (key, value) = parse::filter(text, &["until", "unused-for", "id", "type"])?;
        Ok::<_, parse::Invalid>(match key.as_str() {
            "id" => Filter::Id(value),
            "type" => Filter::Type(kind(&value)?),
            _ => Filter::Until(parse::moment(&value, now)?),
        })
    })?;
    for filter in filters {
        match filter {
            Filter::Id(id) => policy.ids.push(id),
            Filter::Type(kind) => policy.kinds.push(kind),
            Filter::Until(until) => policy.until = policy.until.into_iter().chain([until]).min(),
        }
    }
    for flag in ["keep-storage", "reserved-space", "max-used-space"] {
        if let Some(bytes) = args.filled(flag, parse::bytes)? {
            policy.keep = Some(policy.keep.map_or(bytes, |known| known.min(bytes)));
        }
    }
    Ok(policy)
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let policy = policy(args, SystemTime::now())?;
    let engine = Engine::open(context)?;
    let question = match policy.all {
        true => "This will remove all build cache.",
        false => "This will remove all dangling build cache.",
    };
    if !args.on("force") && !output::ask::confirm(question)? {
        return Ok(0);
    }
    let stores = Stores::enter(&engine)?;
    let pruned = stores::prune_cache(&engine, &stores, &policy)?;
    mention(&pruned);
    output::print(&format!("{}Total reclaimed space: {}\n", text(&pruned), human::size(pruned.bytes)))?;
    stores::settle(&stores, &engine);
    Ok(0)
}

/// docker's list of what is gone.
pub fn text(pruned: &Pruned) -> String {
    if pruned.records.is_empty() {
        return String::new();
    }
    let each: String = pruned.records.iter().map(|record| format!("{}\n", record.id)).collect();
    format!("Deleted build cache objects:\n{each}\n")
}

/// Tells why there is less room than may be expected.
pub fn mention(pruned: &Pruned) {
    if pruned.layers_stay {
        output::note(
            "an image is being pulled or built: layers that are not needed any more go with the next prune",
        );
    }
}
