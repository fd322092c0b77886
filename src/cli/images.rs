//! `coracle images`.

use super::args::{Given, list, operands, option, switch};
use super::engine::Engine;
use super::rows::{self, ImageRow};
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, ListOptions, parse};
use crate::container::store::Container;
use crate::image::{ImageEntry, Listed, Name};
use crate::output;
use clap::{ArgMatches, Command};
use std::time::SystemTime;

/// `coracle images`.
pub const ENTRY: Entry = Entry {
    name: "images",
    aliases: &[],
    about: "List images",
    usage: "[OPTIONS] [NAME[:TAG]]",
    action: Action::Leaf { define, unsupported: &["history", "sort", "tree"], run },
};

/// What `images` is asked for.
#[derive(Clone, Debug)]
pub struct ImagesOptions {
    /// Only images of this name or `name:tag`.
    pub name: Option<String>,
    /// `-a`: intermediate ones too.
    pub all: bool,
    /// `--digests`: with a column of digests.
    pub digests: bool,
    /// `-f`: `reference`, `dangling`, `label`.
    pub filters: Vec<(String, String)>,
    /// How the rows are shown.
    pub show: ListOptions,
}

fn define(command: Command) -> Command {
    command.args([
        switch("all").short('a').help("Show intermediate images too"),
        switch("digests").help("Show digests"),
        list("filter", "KEY=VALUE")
            .short('f')
            .help("Show only: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE]"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("quiet").short('q').help("Show ids only"),
        switch("no-trunc").help("Show ids in full"),
        switch("noheading").short('n').help("Leave out the column heads"),
        operands("NAME", 0..=1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<ImagesOptions, Error> {
    Ok(ImagesOptions {
        name: args.operands().pop(),
        all: args.on("all"),
        digests: args.on("digests"),
        filters: args.each("filter", |text| {
            let (key, value) = parse::filter(text, &["reference", "dangling", "label"])?;
            if key == "dangling" {
                parse::boolean(&value)?;
            }
            Ok((key, value))
        })?,
        show: ListOptions::of(args),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let containers = stores::containers(&engine)?;
    let now = SystemTime::now();
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for listed in stores.images.list()? {
        match listed {
            Listed::Image(entry) if accepts(&entry, &options) => {
                rows.extend(lines(&entry, &options, &stores, &containers))
            }
            Listed::Image(_) => {}
            Listed::Broken { path, error } => broken.push((path, error)),
        }
    }
    // Newest first.
    rows.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row.fields(now, options.show.no_trunc)).collect();
    let listing = if options.digests { rows::IMAGES_AND_DIGESTS } else { rows::IMAGES };
    let text = listing.render(&rows, options.show.style())?;
    output::print(&if options.show.quiet { without_doubles(&text) } else { text })?;
    for (path, error) in broken {
        output::warn(&format!("{} cannot be read: {error}", path.display()));
    }
    Ok(0)
}

/// An image with several names has one id.
fn without_doubles(text: &str) -> String {
    let mut seen = std::collections::HashSet::new();
    text.lines().filter(|line| seen.insert(*line)).map(|line| format!("{line}\n")).collect()
}

fn accepts(entry: &ImageEntry, options: &ImagesOptions) -> bool {
    let one = |(key, value): &(String, String)| match key.as_str() {
        "dangling" => parse::boolean(value).is_ok_and(|wanted| wanted == entry.names.is_empty()),
        "label" => {
            let labels = &entry.image.config.config.labels;
            match value.split_once('=') {
                Some((name, wanted)) => labels.get(name).is_some_and(|v| v == wanted),
                None => labels.contains_key(value),
            }
        }
        _ => entry.names.iter().any(|name| matches_pattern(name, value)),
    };
    options.filters.iter().all(one)
}

/// docker's `reference` patterns: `*` within a part, matched against the name with and without tag and domain.
fn matches_pattern(name: &Name, pattern: &str) -> bool {
    let full = &name.reference;
    let tag = full.tag_or_digest();
    [full.name(), full.familiar_name(), full.path().rsplit('/').next().unwrap_or_default().to_owned()]
        .into_iter()
        .flat_map(|name| [format!("{name}{tag}"), name])
        .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
}

/// `*` is any run of characters but `/`, `?` any one of them.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text) || text.split_first().is_some_and(|(c, left)| *c != b'/' && glob(pattern, left))
        }
        (Some((p, rest)), Some((c, left))) => (p == c || (*p == b'?' && *c != b'/')) && glob(rest, left),
        _ => false,
    }
}

type Line = (Option<SystemTime>, OwnedRow);

/// A row of `images` that owns its texts.
struct OwnedRow {
    id: String,
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
    created: Option<SystemTime>,
    size: u64,
    containers: usize,
}

impl OwnedRow {
    fn fields(&self, now: SystemTime, no_trunc: bool) -> serde_json::Value {
        ImageRow {
            id: &self.id,
            repository: self.repository.as_deref(),
            tag: self.tag.as_deref(),
            digest: self.digest.clone(),
            created: self.created,
            size: self.size,
            containers: self.containers,
        }
        .fields(now, no_trunc)
    }
}

fn lines(
    entry: &ImageEntry,
    options: &ImagesOptions,
    stores: &Stores,
    containers: &[Container],
) -> Vec<Line> {
    let image = &entry.image;
    let created =
        image.config.created.as_deref().and_then(|text| parse::moment(text, SystemTime::now()).ok());
    let row = |name: Option<&Name>| {
        let row = OwnedRow {
            id: image.id.hex(),
            repository: name.map(|n| n.reference.familiar_name()),
            tag: name.and_then(|n| n.reference.tag()).map(str::to_owned),
            digest: name.and_then(|n| n.digest).map(|d| d.to_string()),
            created,
            size: image.size(&stores.layers),
            containers: containers.iter().filter(|c| c.record.image_id == Some(image.id)).count(),
        };
        (created, row)
    };
    let wanted = |name: &&Name| options.name.as_deref().is_none_or(|pattern| matches_pattern(name, pattern));
    match entry.names.is_empty() {
        true if options.name.is_none() => vec![row(None)],
        _ => entry.names.iter().filter(wanted).map(|name| row(Some(name))).collect(),
    }
}
