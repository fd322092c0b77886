//! `coracle network prune`.

use super::{remove, used_names};
use crate::cli::args::{Given, list, switch};
use crate::cli::image_prune::{self, Filters, passes};
use crate::cli::{Action, Context, Entry};
use crate::network::{Listed, Networks};
use crate::output;
use crate::state::Paths;
use clap::{ArgMatches, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        list("filter", "KEY=VALUE")
            .help("Remove only: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let filters = image_prune::filters(args)?;
    let question = "This will remove all custom networks not used by at least one container.";
    if !args.on("force") && !output::ask::confirm(question)? {
        return Ok(0);
    }
    let (removed, worst) = unused(&context.paths()?, &filters, SystemTime::now())?;
    output::print(&removed)?;
    Ok(worst)
}

/// Removes the networks that no container is on, if they pass these filters. What to say of it, in docker's words, and the exit code if
/// one could not be removed.
pub fn unused(paths: &Paths, filters: &Filters, now: SystemTime) -> anyhow::Result<(String, u8)> {
    let used = used_names(paths)?;
    let (mut removed, mut worst) = (String::new(), 0);
    for listed in Networks::new(paths).list()? {
        // What cannot be read is removed only by who names it.
        let Listed::Network(network) = listed else { continue };
        let seconds = u64::try_from(network.created.unix_seconds()).unwrap_or_default();
        let made = UNIX_EPOCH + Duration::new(seconds, network.created.nanos());
        if used.contains(&network.name) || !passes(filters, Some(made), &network.labels, now) {
            continue;
        }
        match remove(paths, &network.name) {
            Ok(()) => removed.push_str(&format!("{}\n", network.name)),
            Err(error) => worst = crate::cli::report(&error),
        }
    }
    if !removed.is_empty() {
        removed = format!("Deleted Networks:\n{removed}\n");
    }
    Ok((removed, worst))
}
