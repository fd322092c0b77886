//! `coracle network prune`.

use super::{remove, used_names};
use crate::cli::args::{Given, list, switch};
use crate::cli::{Action, Context, Entry, parse};
use crate::network::{Listed, Networks};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle network prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove the networks that no container is on",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Don't ask first"),
        list("filter", "KEY=VALUE").help("Remove only: label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let filters = args.each("filter", |text| parse::filter(text, &["label", "label!"]))?;
    let question = "This will remove all custom networks not used by at least one container.";
    if !args.on("force") && !output::ask::confirm(question)? {
        return Ok(0);
    }
    let paths = context.paths()?;
    let used = used_names(&paths)?;
    let (mut removed, mut worst) = (String::new(), 0);
    for listed in Networks::new(&paths).list()? {
        // What cannot be read is removed only by who names it.
        let Listed::Network(network) = listed else { continue };
        let passes =
            |(key, value): &(String, String)| parse::has_label(&network.labels, value) == (key == "label");
        if !filters.iter().all(passes) || used.contains(&network.name) {
            continue;
        }
        match remove(&paths, &network.name) {
            Ok(()) => removed.push_str(&format!("{}\n", network.name)),
            Err(error) => worst = crate::cli::report(&error),
        }
    }
    if !removed.is_empty() {
        // docker's text.
        output::print(&format!("Deleted Networks:\n{removed}\n"))?;
    }
    Ok(worst)
}
