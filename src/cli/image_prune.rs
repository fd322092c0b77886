//! `coracle image prune`.

use super::args::{Given, list, switch};
use super::engine::Engine;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, builder, parse};
use crate::build::cache::{Kind, Policy};
use crate::image::{ImageEntry, Pruned};
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// `coracle image prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove images without a name, or all that no container uses",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["external"], run },
};

fn define(command: Command) -> Command {
    command.args([
        switch("all")
            .short('a')
            .help("Remove all images that no container uses, not only those without a name"),
        switch("build-cache").help("Remove what RUN --mount=type=cache keeps for later builds too"),
        switch("force").short('f').help("Don't ask first"),
        list("filter", "KEY=VALUE")
            .help("Remove only: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

/// `--filter` of the prune commands.
pub type Filters = Vec<(String, String)>;

/// The filters, checked.
pub fn filters(args: &ArgMatches) -> Result<Filters, Error> {
    args.each("filter", |text| {
        let (key, value) = parse::filter(text, &["until", "label", "label!"])?;
        if key == "until" {
            parse::moment(&value, SystemTime::now())?;
        }
        Ok((key, value))
    })
}

/// Whether something that was made at a time and has labels passes all filters. What does not say when it was made
/// passes no `until`.
pub fn passes(
    filters: &Filters,
    made: Option<SystemTime>,
    labels: &BTreeMap<String, String>,
    now: SystemTime,
) -> bool {
    filters.iter().all(|(key, value)| match key.as_str() {
        "until" => made.zip(parse::moment(value, now).ok()).is_some_and(|(made, until)| made < until),
        key => parse::has_label(labels, value) == (key == "label"),
    })
}

/// Whether an image is to go, if nobody uses it.
pub fn wanted(entry: &ImageEntry, all: bool, filters: &Filters, now: SystemTime) -> bool {
    let config = &entry.image.config;
    let made = config.created.as_deref().and_then(|text| parse::moment(text, now).ok());
    (all || entry.names.is_empty()) && passes(filters, made, &config.config.labels, now)
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let (all, filters) = (args.on("all"), filters(args)?);
    let engine = Engine::open(context)?;
    let question = match all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    if !args.on("force") && !output::ask::confirm(question)? {
        return Ok(0);
    }
    let stores = Stores::open(&engine);
    let now = SystemTime::now();
    if args.on("build-cache") {
        // What a mount holds belongs to ids of the namespace.
        stores::in_child(&engine, |stores| {
            let policy = Policy { kinds: vec![Kind::Mount], ..Policy::default() };
            let pruned = stores::prune_cache(&engine, stores, &policy)?;
            output::print(&builder::prune::text(&pruned))?;
            Ok(())
        })?;
    }
    let pruned = stores::prune(&engine, &stores, &|entry| wanted(entry, all, &filters, now))?;
    output::print(&format!("{}Total reclaimed space: {}\n", text(&pruned), human::size(pruned.bytes)))?;
    stores::settle_as_root(&engine);
    Ok(0)
}

/// docker's list of what is gone.
pub fn text(pruned: &Pruned) -> String {
    if pruned.removed.is_empty() {
        return String::new();
    }
    let each: String = pruned.removed.iter().map(|removed| stores::removed_text(removed, false)).collect();
    format!("Deleted Images:\n{each}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn filters_of_age_and_labels_must_all_hold() {
        let now = UNIX_EPOCH + Duration::from_secs(100_000);
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let made = Some(now - Duration::from_secs(7200));
        for (filters, made, expected) in [
            (&[][..], None, true),
            (&[("until", "1h")], made, true),
            (&[("until", "3h")], made, false),
            (&[("until", "1h")], None, false),
            (&[("label", "a"), ("until", "1h")], made, true),
            (&[("label", "a=2")], made, false),
            (&[("label!", "a=2")], made, true),
            (&[("label!", "a")], made, false),
        ] {
            let filters = filters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            assert_eq!(passes(&filters, made, &labels, now), expected, "{filters:?}");
        }
    }
}
