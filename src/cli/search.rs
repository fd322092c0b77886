//! `coracle search`.

use super::args::{Given, list, operands, option, switch};
use super::registry_flags;
use super::rows::ellipsis;
use super::{Action, Context, Entry, Error, ListOptions, parse};
use crate::image::{self, SearchHit};
use crate::output;
use crate::output::listing::Listing;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

/// `coracle search`.
pub const ENTRY: Entry = Entry {
    name: "search",
    aliases: &[],
    about: "Look for images in registries",
    usage: "[OPTIONS] [REGISTRY/]TERM",
    action: Action::Leaf { define, unsupported: &[], run },
};

const HITS: Listing<'static> = Listing {
    table: "{{.Name}}\t{{.Description}}",
    quiet: "Name",
    heads: &[("StarCount", "STARS"), ("IsOfficial", "OFFICIAL"), ("IsAutomated", "AUTOMATED")],
};

/// docker's table.
const COMPATIBLE: Listing<'static> = Listing {
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}\t{{.IsAutomated}}",
    ..HITS
};

const TAGS: Listing<'static> = Listing { table: "{{.Name}}\t{{.Tag}}", quiet: "Tag", heads: &[] };

/// How many answers of each registry are shown, as in docker.
const LIMIT: usize = 25;
/// How much of a description is shown.
const WIDTH: usize = 44;

fn define(command: Command) -> Command {
    command.args(registry_flags::flags()).args([
        option("limit", "NUMBER").help("Show at most NUMBER answers of each registry (default 25)"),
        list("filter", "KEY=VALUE")
            .short('f')
            .help("Show only: stars=NUMBER, is-official=BOOL, is-automated=BOOL"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("no-trunc").help("Show descriptions in full"),
        switch("noheading").short('n').help("Leave out the column heads"),
        switch("compatible").help("Show stars, official and automated, as docker does"),
        switch("list-tags").help("List the tags of the repository that is named"),
        operands("TERM", 1..=1),
    ])
}

/// `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Stars(u64),
    Official(bool),
    Automated(bool),
}

fn filter(text: &str) -> Result<Filter, parse::Invalid> {
    // docker takes `is-official` for `is-official=true`.
    let text = if text.contains('=') { text.to_owned() } else { format!("{text}=true") };
    let (key, value) = parse::filter(&text, &["stars", "is-official", "is-automated"])?;
    Ok(match key.as_str() {
        "stars" => Filter::Stars(value.parse().map_err(|_| parse::Invalid::new("expected a whole number"))?),
        "is-official" => Filter::Official(parse::boolean(&value)?),
        _ => Filter::Automated(parse::boolean(&value)?),
    })
}

impl Filter {
    fn holds(&self, hit: &SearchHit) -> bool {
        match self {
            Self::Stars(least) => hit.found.stars >= *least,
            Self::Official(wanted) => hit.found.official == *wanted,
            Self::Automated(wanted) => hit.found.automated == *wanted,
        }
    }
}

fn limit(text: &str) -> Result<usize, parse::Invalid> {
    match text.parse() {
        Ok(0) => Ok(LIMIT),
        Ok(limit @ 1..=100_000) => Ok(limit),
        _ => Err(parse::Invalid::new("expected a number up to 100000")),
    }
}

fn run(_: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let term = args.operands().pop().unwrap_or_default();
    let filters = args.each("filter", filter)?;
    let show = ListOptions { quiet: false, ..ListOptions::of(args) };
    let limit = args.filled("limit", limit)?;
    let options = registry_flags::options(args)?;
    if args.on("list-tags") {
        if !filters.is_empty() {
            let what = "--filter and --list-tags exclude each other: tags have no stars";
            return Err(Error::usage(what, "leave out one of them").into());
        }
        let (name, mut tags) = image::tags(&term, &options)?;
        tags.truncate(limit.unwrap_or(usize::MAX));
        output::print(&tags_text(&name.name(), &tags, &show)?)?;
        return Ok(0);
    }
    let result = image::search(&term, limit.unwrap_or(LIMIT), &options)?;
    let hits = result.hits.iter().filter(|hit| filters.iter().all(|filter| filter.holds(hit)));
    let rows: Vec<Value> = hits.map(|hit| row(hit, show.no_trunc)).collect();
    let listing = if args.on("compatible") { COMPATIBLE } else { HITS };
    // Nothing found, or nobody answered: the heads alone would look like an answer.
    if !rows.is_empty() || result.failed.is_empty() {
        output::print(&listing.render(&rows, show.style())?)?;
    }
    let mut worst = 0;
    for (registry, error) in result.failed {
        worst = super::report(&anyhow::Error::new(error).context(format!("cannot search {registry}")));
    }
    Ok(worst)
}

/// docker's fields, and podman's names for the same.
fn row(hit: &SearchHit, no_trunc: bool) -> Value {
    let found = &hit.found;
    // One line, whatever somebody has written there.
    let description = found.description.split_whitespace().collect::<Vec<_>>().join(" ");
    let ok = |is: bool| if is { "[OK]" } else { "" };
    json!({
        "Index": hit.registry,
        "Name": hit.name,
        "Description": if no_trunc { description } else { ellipsis(&description, WIDTH) },
        "StarCount": found.stars,
        "Stars": found.stars,
        "IsOfficial": ok(found.official),
        "Official": ok(found.official),
        "IsAutomated": ok(found.automated),
        "Automated": ok(found.automated),
    })
}

/// podman's: a line for each tag; as JSON, one object with all of them.
fn tags_text(name: &str, tags: &[String], show: &ListOptions) -> anyhow::Result<String> {
    if show.format.as_deref() == Some("json") {
        return Ok(format!("{:#}\n", json!([{ "Name": name, "Tags": tags }])));
    }
    let rows: Vec<Value> = tags.iter().map(|tag| json!({ "Name": name, "Tag": tag })).collect();
    Ok(TAGS.render(&rows, show.style())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Found;

    #[test]
    fn a_hit_is_one_line_with_dockers_and_podmans_fields() {
        let description = format!("two\nlines {}", "x".repeat(60));
        let found = Found { name: "app".into(), description, stars: 7, official: true, automated: false };
        let hit = SearchHit { registry: "docker.io".into(), name: "docker.io/library/app".into(), found };
        let row = row(&hit, false);
        assert_eq!(
            (&row["StarCount"], &row["Official"], &row["Automated"]),
            (&json!(7), &json!("[OK]"), &json!(""))
        );
        assert!(row["Description"].as_str().unwrap().ends_with('…'));
        for (text, expected) in
            [("stars=7", true), ("stars=8", false), ("is-official", true), ("is-automated=true", false)]
        {
            assert_eq!(filter(text).unwrap().holds(&hit), expected, "{text}");
        }
        assert!(filter("stars=many").is_err() && filter("size=1").is_err());
    }
}
