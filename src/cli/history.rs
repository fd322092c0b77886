//! `coracle history`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::rows::{ellipsis, shorten_id};
use super::stores::Stores;
use super::{Action, Context, Entry, ListOptions, parse};
use crate::image::Image;
use crate::output::listing::Listing;
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::time::SystemTime;

/// `coracle history`.
pub const ENTRY: Entry = Entry {
    name: "history",
    aliases: &[],
    about: "Show how an image was made",
    usage: "[OPTIONS] IMAGE",
    action: Action::Leaf { define, unsupported: &["platform"], run },
};

const HISTORY: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "ID",
    heads: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
    ],
};

/// The same with moments and bytes as they are.
const EXACT: Listing<'static> =
    Listing { table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", ..HISTORY };

/// How many characters of an instruction are shown.
const WIDTH: usize = 45;

fn define(command: Command) -> Command {
    command.args([
        switch("human").short('H').help("Show times and sizes for people (default true)"),
        switch("quiet").short('q').help("Show ids only"),
        switch("no-trunc").help("Show everything in full"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        operands("IMAGE", 1..=1),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let image = stores.images.resolve(&args.operands().pop().unwrap_or_default())?;
    let show = ListOptions::of(args);
    let human = args.maybe("human").unwrap_or(true);
    let sizes =
        image.diff_ids().iter().map(|layer| stores.layers.size(*layer).unwrap_or(0)).collect::<Vec<_>>();
    let rows = steps(&image, &sizes, human, show.no_trunc, SystemTime::now());
    let listing = if human { HISTORY } else { EXACT };
    output::print(&listing.render(&rows, show.style())?)?;
    Ok(0)
}

/// The steps, the last one first. Layers without a step, of tools that write no history, come as steps that say nothing.
fn steps(image: &Image, sizes: &[u64], human: bool, no_trunc: bool, now: SystemTime) -> Vec<Value> {
    let mut left = sizes.iter();
    let mut all: Vec<(&str, &str, &str, u64)> = Vec::new();
    for step in &image.config.history {
        let size = if step.empty_layer { 0 } else { left.next().copied().unwrap_or(0) };
        all.push((step.created.as_deref().unwrap_or_default(), &step.created_by, &step.comment, size));
    }
    all.extend(left.map(|size| ("", "", "", *size)));
    let id = image.id.to_string();
    let shown_id = if no_trunc { id.as_str() } else { shorten_id(&id["sha256:".len()..]) };
    let row = |(place, (created, by, comment, size)): (usize, &(&str, &str, &str, u64))| {
        let moment = parse::moment(created, now).ok();
        let by = by.replace('\t', " ");
        json!({
            "ID": if place == 0 { shown_id } else { "<missing>" },
            "CreatedAt": moment.map_or_else(|| (*created).to_owned(), human::rfc3339),
            "CreatedSince": moment.map_or_else(|| "N/A".to_owned(), |moment| human::ago(moment, now)),
            "CreatedBy": if no_trunc { by } else { ellipsis(&by, WIDTH) },
            "Size": if human { human::size(*size) } else { size.to_string() },
            "Comment": comment,
        })
    };
    all.iter().rev().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::{History, ImageConfig};
    use crate::output::listing::Style;

    #[test]
    fn steps_without_a_layer_have_no_size_and_layers_without_a_step_are_shown() {
        let step = |by: &str, empty| History {
            created: Some("2026-01-02T03:04:05Z".into()),
            created_by: by.into(),
            empty_layer: empty,
            ..History::default()
        };
        let long = "RUN ".to_owned() + &"x".repeat(50);
        let config =
            ImageConfig { history: vec![step("ADD", false), step(&long, true)], ..ImageConfig::default() };
        let image = Image { id: Digest::of(b""), manifest: None, index: None, name: None, config };
        let now = SystemTime::UNIX_EPOCH;
        let rows = steps(&image, &[1500, 20], false, false, now);
        let text = EXACT.render(&rows, Style { no_heading: true, ..Style::default() }).unwrap();
        let cut = format!("RUN {}…", "x".repeat(40));
        let expected = [
            "e3b0c44298fc                           ",
            "20",
            "<missing>      2026-01-02T03:04:05Z   ",
            "0",
            "<missing>      2026-01-02T03:04:05Z   ADD",
            "1500",
        ];
        for (line, words) in text.lines().zip(expected.chunks(2)) {
            assert!(line.starts_with(words[0].trim_end()) && line.trim_end().ends_with(words[1]), "{text}");
        }
        assert!(text.contains(&cut) && text.lines().count() == 3, "{text}");
        let full = steps(&image, &[1500, 20], true, true, now);
        assert_eq!(full[0]["ID"], image.id.to_string());
        assert_eq!((&full[1]["CreatedBy"], &full[2]["Size"]), (&json!(long), &json!("1.5kB")));
    }
}
