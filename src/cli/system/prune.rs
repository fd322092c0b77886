//! `coracle system prune`.

use crate::build::cache::Policy;
use crate::cli::args::{Given, list, switch};
use crate::cli::engine::Engine;
use crate::cli::image_prune::{self, Filters, passes};
use crate::cli::stores::{self, Stores, Users};
use crate::cli::{Action, Context, Entry, builder, network, parse, volume};
use crate::container::lifecycle;
use crate::container::record::Status;
use crate::container::store::Container;
use crate::output::{self, human};
use crate::state::tree_size;
use clap::{ArgMatches, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `coracle system prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove stopped containers, unused networks and images, the build cache and, if asked, unused volumes",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["external"], run },
};

fn define(command: Command) -> Command {
    command.args([
        switch("all")
            .short('a')
            .help("Remove all images that no container uses, not only those without a name"),
        switch("build").help("Remove the build cache too, as is done anyway"),
        switch("volumes").help("Remove anonymous volumes that no container uses too"),
        switch("force").short('f').help("Don't ask first"),
        list("filter", "KEY=VALUE")
            .help("Remove only: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

fn question(all: bool, volumes: bool) -> String {
    let images = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let volumes = if volumes { "  - all anonymous volumes not used by at least one container\n" } else { "" };
    let cache = if all { "all build cache" } else { "unused build cache" };
    let networks = "  - all networks not used by at least one container\n";
    format!("This will remove:\n  - all stopped containers\n{networks}{volumes}  - {images}\n  - {cache}\n")
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let (all, volumes) = (args.on("all"), args.on("volumes"));
    let filters = image_prune::filters(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    if !args.on("force") && !output::ask::confirm(&question(all, volumes))? {
        return Ok(0);
    }
    // What goes is counted, and its files belong to ids of the namespace.
    let stores = Stores::enter(&engine)?;
    let now = SystemTime::now();
    let (mut bytes, mut worst) = (0, 0);
    let mut text = String::new();
    for container in Users::now(&engine)?.containers.iter().filter(|c| goes(c, &filters, now)) {
        let size = tree_size(&container.places.data.join("upper"));
        match lifecycle::remove(&engine.paths, &engine.identity, container, false, None, false) {
            Ok(()) => {
                bytes += size;
                text += &format!("{}\n", container.record.id);
            }
            // Somebody has started or removed it since.
            Err(error) if lifecycle::is_missing(&error) => {}
            Err(error) => worst = crate::cli::report(&error.into()),
        }
    }
    if !text.is_empty() {
        text = format!("Deleted Containers:\n{text}\n");
    }
    let (networks, failed) = network::prune::unused(&engine.paths, &filters, now)?;
    text += &networks;
    worst = worst.max(failed);
    if volumes {
        let pruned = volume::prune::unused(&engine, &filters)?;
        bytes += pruned.reclaimed;
        text += &volume::prune::list_of(&pruned);
        for (_, error) in pruned.failed {
            worst = crate::cli::report(&error.into());
        }
    }
    let pruned = stores::prune(&engine, &stores, &|entry| image_prune::wanted(entry, all, &filters, now))?;
    bytes += pruned.bytes;
    text += &image_prune::text(&pruned);
    if let Some(policy) = cache_policy(all, &filters, now) {
        let pruned = stores::prune_cache(&engine, &stores, &policy)?;
        builder::prune::mention(&pruned);
        bytes += pruned.bytes;
        text += &builder::prune::text(&pruned);
    }
    output::print(&format!("{text}Total reclaimed space: {}\n", human::size(bytes)))?;
    stores::settle(&stores, &engine);
    Ok(worst)
}

/// What goes of the build cache; nothing if labels are asked for, since there are none in it.
fn cache_policy(all: bool, filters: &Filters, now: SystemTime) -> Option<Policy> {
    let mut policy = Policy { all, ..Policy::default() };
    for (key, value) in filters {
        let until = (key == "until").then(|| parse::moment(value, now).ok())??;
        policy.until = Some(policy.until.map_or(until, |known| known.min(until)));
    }
    Some(policy)
}

/// Whether a container is at rest and passes the filters.
fn goes(container: &Container, filters: &Filters, now: SystemTime) -> bool {
    let made = UNIX_EPOCH + Duration::from_nanos(container.record.created);
    matches!(container.status, Status::Created | Status::Exited { .. })
        && passes(filters, Some(made), &container.record.labels, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_what_will_go() {
        assert!(!question(false, false).contains("volumes") && question(false, false).contains("dangling"));
        assert!(
            question(true, true).contains("anonymous volumes") && !question(true, true).contains("dangling")
        );
    }
}
