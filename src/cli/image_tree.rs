//! `coracle image tree`.

use super::args::{Given, operands, switch};
use super::engine::Engine;
use super::rows::ellipsis;
use super::stores::Stores;
use super::{Action, Context, Entry};
use crate::digest::Digest;
use crate::image::{Image, ImageEntry, Listed, Name};
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use std::fmt::Write as _;

/// `coracle image tree`.
pub const ENTRY: Entry = Entry {
    name: "tree",
    aliases: &[],
    about: "Show the layers of an image, what made each, and which other images have it",
    usage: "[OPTIONS] IMAGE",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// How many characters of an instruction are shown.
const WIDTH: usize = 72;

fn define(command: Command) -> Command {
    command.args([
        switch("whatrequires").help("Show the images that are built upon this one"),
        operands("IMAGE", 1..=1),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let stores = Stores::open(&Engine::open(context)?);
    let image = stores.images.resolve(&args.operands().pop().unwrap_or_default())?;
    let all: Vec<ImageEntry> = stores
        .images
        .list()?
        .into_iter()
        .filter_map(|listed| match listed {
            Listed::Image(entry) => Some(entry),
            Listed::Broken { .. } => None,
        })
        .collect();
    let size = |layer: Digest| stores.layers.size(layer).unwrap_or(0);
    let names = stores.images.names(image.id)?;
    let mut text = format!(
        "Image ID: {}\nTags:     {}\nSize:     {}\n",
        image.id.short(),
        tags(&names),
        human::size(image.size(&stores.layers)),
    );
    match args.on("whatrequires") {
        true => above(&mut text, &all, image.diff_ids(), &size, ""),
        false => layers(&mut text, &all, &image, &size),
    }
    output::print(&text)?;
    Ok(0)
}

/// As Go shows a list.
fn tags(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(|name| name.reference.familiar()).collect();
    format!("[{}]", names.join(" "))
}

/// podman's tree: each layer hangs below the one before it. What made it, and who else has it, is told too.
fn layers(text: &mut String, all: &[ImageEntry], image: &Image, size: &dyn Fn(Digest) -> u64) {
    text.push_str("Image Layers\n");
    let diff_ids = image.diff_ids();
    let steps = image.config.history.iter().filter(|step| !step.empty_layer);
    let mut made_by = steps.map(|step| &step.created_by);
    for (at, layer) in diff_ids.iter().enumerate() {
        let branch = if at + 1 == diff_ids.len() { "└──" } else { "├──" };
        let _ = write!(text, "{branch} ID: {} Size: {}", layer.short(), human::size(size(*layer)));
        let ends = all.iter().filter(|other| other.image.diff_ids() == &diff_ids[..=at]);
        let names: Vec<String> =
            ends.flat_map(|other| &other.names).map(|name| name.reference.familiar()).collect();
        if !names.is_empty() {
            let _ = write!(text, " Top Layer of: [{}]", names.join(" "));
        }
        let shares = |other: &&ImageEntry| {
            let layers = other.image.diff_ids();
            other.image.id != image.id && layers.contains(layer) && layers != &diff_ids[..=at]
        };
        let sharing = all.iter().filter(shares).map(|other| match &other.names[..] {
            [] => other.image.id.short(),
            names => names.iter().map(|name| name.reference.familiar()).collect::<Vec<_>>().join(" "),
        });
        let sharing: Vec<String> = sharing.collect();
        if !sharing.is_empty() {
            let _ = write!(text, " Shared with: [{}]", sharing.join(" "));
        }
        if let Some(step) = made_by.next().filter(|step| !step.is_empty()) {
            let _ = write!(text, " Made by: {}", ellipsis(&step.replace(['\t', '\n'], " "), WIDTH));
        }
        text.push('\n');
    }
}

/// The images whose layers go on from `below`, each with those that go on from it.
fn above(
    text: &mut String,
    all: &[ImageEntry],
    below: &[Digest],
    size: &dyn Fn(Digest) -> u64,
    indent: &str,
) {
    let goes_on = |entry: &&ImageEntry, from: &[Digest]| {
        let layers = entry.image.diff_ids();
        layers.len() > from.len() && layers.starts_with(from)
    };
    let candidates: Vec<&ImageEntry> = all.iter().filter(|entry| goes_on(entry, below)).collect();
    // The nearest ones: those that go on from no other candidate.
    let nearest: Vec<&&ImageEntry> = candidates
        .iter()
        .filter(|entry| !candidates.iter().any(|other| goes_on(entry, other.image.diff_ids())))
        .collect();
    for (at, entry) in nearest.iter().enumerate() {
        let is_last = at + 1 == nearest.len();
        let (branch, deeper) = if is_last { ("└──", "    ") } else { ("├──", "│   ") };
        let layers = entry.image.diff_ids();
        let top = layers.last().copied();
        let _ = writeln!(
            text,
            "{indent}{branch} ID: {} Size: {} Top Layer of: {}",
            top.map_or_else(String::new, |layer| layer.short()),
            human::size(top.map_or(0, size)),
            tags(&entry.names),
        );
        above(text, all, layers, size, &format!("{indent}{deeper}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{History, ImageConfig};

    fn entry(name: &str, layers: &[&str]) -> ImageEntry {
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = layers.iter().map(|l| Digest::of(l.as_bytes())).collect();
        let image =
            Image { id: Digest::of(name.as_bytes()), manifest: None, index: None, name: None, config };
        let names = vec![Name { reference: name.parse().unwrap(), digest: None, since: 0 }];
        ImageEntry { image, names }
    }

    #[test]
    fn a_tree_names_the_images_that_end_with_a_layer_and_those_built_upon_one() {
        let mut all = [
            entry("base", &["1"]),
            entry("app", &["1", "2", "3"]),
            entry("other", &["1", "4"]),
            entry("deep", &["1", "2", "3", "5"]),
        ];
        let step =
            |by: &str, empty_layer| History { created_by: by.into(), empty_layer, ..History::default() };
        all[1].image.config.history =
            vec![step("RUN\tone", false), step("ENV a=b", true), step("", false), step("COPY three", false)];
        let short = |layer: &str| Digest::of(layer.as_bytes()).short();
        let mut text = String::new();
        layers(&mut text, &all, &all[1].image, &|_| 1000);
        let expected = format!(
            "Image Layers\n├── ID: {} Size: 1kB Top Layer of: [base:latest] Shared with: [other:latest deep:latest] \
             Made by: RUN one\n├── ID: {} Size: 1kB Shared with: [deep:latest]\n\
             └── ID: {} Size: 1kB Top Layer of: [app:latest] Shared with: [deep:latest] Made by: COPY three\n",
            short("1"),
            short("2"),
            short("3")
        );
        assert_eq!(text, expected);
        let mut text = String::new();
        above(&mut text, &all, all[0].image.diff_ids(), &|_| 1000, "");
        let expected = format!(
            "├── ID: {} Size: 1kB Top Layer of: [app:latest]\n│   └── ID: {} Size: 1kB Top Layer of: [deep:latest]\n\
             └── ID: {} Size: 1kB Top Layer of: [other:latest]\n",
            short("3"),
            short("5"),
            short("4")
        );
        assert_eq!(text, expected);
    }
}
