//! `coracle container prune`.

use super::args::{Given, list, switch};
use super::engine::{self, Engine};
use super::filter::Filter;
use super::{Action, Context, Entry, Error, parse};
use crate::container::{lifecycle, store};
use crate::output::{self, human};
use crate::state;
use clap::{ArgMatches, Command};
use std::time::SystemTime;

/// `coracle container prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove all containers that do not run",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `container prune` is asked for.
#[derive(Clone, Debug)]
pub struct ContainerPruneOptions {
    /// `-f`: don't ask.
    pub force: bool,
    /// `--filter`: only those that pass.
    pub filters: Vec<(String, String)>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Don't ask first"),
        list("filter", "KEY=VALUE").help("Remove only: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<ContainerPruneOptions, Error> {
    let keys = ["until", "label", "label!"];
    let filters = args.each("filter", |text| parse::filter(text, &keys))?;
    Ok(ContainerPruneOptions { force: args.on("force"), filters })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let question = "This will remove all stopped containers.";
    if !options.force && !output::ask::confirm(question)? {
        return Ok(0);
    }
    // Looked at after the answer, which may take its time.
    let mut containers = Vec::new();
    for entry in store::list(&engine.paths)? {
        if let store::Entry::Whole(container) = entry {
            containers.push(*container);
        }
    }
    let filter = Filter::new(&engine, &options.filters, &containers, SystemTime::now())?;
    let (mut removed, mut reclaimed, mut errors) = (String::new(), 0, Vec::new());
    for container in containers.iter().filter(|c| !c.status.is_running() && filter.accepts(c)) {
        let size = state::tree_size(&container.places.data);
        match lifecycle::remove(&engine.paths, &engine.identity, container, false, None, false) {
            Ok(()) => {
                removed.push_str(&format!("{}\n", container.record.id));
                reclaimed += size;
            }
            // Started or removed by somebody else meanwhile.
            Err(crate::container::Error::State { .. } | crate::container::Error::NotFound(_)) => {}
            Err(error) => errors.push(error.into()),
        }
    }
    let head = if removed.is_empty() { String::new() } else { format!("Deleted Containers:\n{removed}\n") };
    output::print(&format!("{head}Total reclaimed space: {}\n", human::size(reclaimed)))?;
    Ok(engine::report_all(&errors))
}
