//! `coracle images`.

use super::args::{Given, list, operands, option, switch};
use super::engine::Engine;
use super::image_filter::{self, Filter, accepts, matches_pattern};
use super::rows::{self, ImageRow};
use super::stores::{Stores, Users};
use super::{Action, Context, Entry, Error, ListOptions, parse};
use crate::image::{ImageEntry, List, Listed, ManifestStyle, Name};
use crate::output;
use clap::{ArgMatches, Command};
use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `coracle images`.
pub const ENTRY: Entry = Entry {
    name: "images",
    aliases: &[],
    about: "List images",
    usage: "[OPTIONS] [NAME[:TAG]]",
    action: Action::Leaf { define, unsupported: &["history", "tree"], run },
};

/// What `images` is asked for.
#[derive(Clone, Debug)]
pub struct ImagesOptions {
    /// Only images of this name or `name:tag`.
    pub name: Option<String>,
    /// `--digests`: with a column of digests.
    pub digests: bool,
    /// `-f`.
    pub filters: Vec<(String, String)>,
    /// `--sort`: by which column.
    pub sort: Option<String>,
    /// How the rows are shown.
    pub show: ListOptions,
}

const SORTS: [&str; 5] = ["created", "id", "repository", "size", "tag"];

fn define(command: Command) -> Command {
    command.args([
        switch("all").short('a').help("Show intermediate images too; there are none, so this changes nothing"),
        switch("digests").help("Show digests"),
        list("filter", "KEY=VALUE").short('f').help(
            "Show only: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, \
             id=ID, containers=BOOL",
        ),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        option("sort", "COLUMN").help("Sort by created (default), id, repository, size or tag"),
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
        digests: args.on("digests"),
        filters: args.each("filter", image_filter::check)?,
        sort: args.filled("sort", |text| match SORTS.contains(&text) {
            true => Ok(text.to_owned()),
            false => Err(parse::Invalid::unknown("column", text, &SORTS)),
        })?,
        show: ListOptions::of(args),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let users = Users::now(&engine)?;
    let now = SystemTime::now();
    let filters = options.filters.iter().map(|(key, value)| Filter::of(key, value, &stores, now));
    let filters: Vec<Filter> = filters.collect::<anyhow::Result<_>>()?;
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for listed in stores.images.list()? {
        match listed {
            Listed::Image(entry) => {
                let created = entry.image.config.created.as_deref();
                let created = created.and_then(|text| parse::moment(text, now).ok());
                if accepts(&filters, &entry, created, &users) {
                    rows.extend(lines(&entry, created, &options, &stores, &users));
                }
            }
            Listed::Broken { path, error } => broken.push((path, error)),
        }
    }
    for list in stores.images.lists()? {
        rows.extend(of_list(&list, &options));
    }
    sort(&mut rows, options.sort.as_deref());
    let rows: Vec<_> = rows.into_iter().map(|row| row.fields(now, options.show.no_trunc)).collect();
    let listing = if options.digests { rows::IMAGES_AND_DIGESTS } else { rows::IMAGES };
    let text = listing.render(&rows, options.show.style())?;
    output::print(&if options.show.quiet { without_doubles(&text) } else { text })?;
    for (path, error) in broken {
        output::warn(&format!(
            "{} cannot be read: {error}; 'coracle store verify' says more",
            path.display()
        ));
    }
    Ok(0)
}

/// An image with several names has one id.
fn without_doubles(text: &str) -> String {
    let mut seen = std::collections::HashSet::new();
    text.lines().filter(|line| seen.insert(*line)).map(|line| format!("{line}\n")).collect()
}

/// podman's columns; the newest come first where nothing else is asked for.
fn sort(rows: &mut [OwnedRow], by: Option<&str>) {
    match by {
        Some("id") => rows.sort_by(|a, b| a.id.cmp(&b.id)),
        Some("repository") => rows.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag))),
        Some("size") => rows.sort_by_key(|row| row.size),
        Some("tag") => rows.sort_by(|a, b| a.tag.cmp(&b.tag)),
        _ => rows.sort_by_key(|row| Reverse(row.created)),
    }
}

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

/// A list of images has a line, too, if nothing is asked for that only an image has.
fn of_list(list: &List, options: &ImagesOptions) -> Option<OwnedRow> {
    let id = list.id();
    let name = Name { reference: list.name.clone(), digest: Some(id), since: list.since };
    let passes = options.filters.iter().all(|(key, value)| match key.as_str() {
        "reference" => matches_pattern(&name, value),
        "reference!" => !matches_pattern(&name, value),
        "id" => id.hex().starts_with(value.strip_prefix("sha256:").unwrap_or(value)),
        "manifest" => parse::boolean(value) == Ok(true),
        "dangling" | "containers" | "intermediate" | "readonly" => parse::boolean(value) == Ok(false),
        _ => false,
    });
    let is_meant = options.name.as_deref().is_none_or(|pattern| matches_pattern(&name, pattern));
    (passes && is_meant).then(|| OwnedRow {
        id: id.hex(),
        repository: Some(list.name.familiar_name()),
        tag: list.name.tag().map(str::to_owned),
        digest: Some(id.to_string()),
        created: Some(UNIX_EPOCH + Duration::from_secs(list.since)),
        size: list.document(ManifestStyle::Oci).len() as u64,
        containers: 0,
    })
}

fn lines(
    entry: &ImageEntry,
    created: Option<SystemTime>,
    options: &ImagesOptions,
    stores: &Stores,
    users: &Users,
) -> Vec<OwnedRow> {
    let image = &entry.image;
    let row = |name: Option<&Name>| OwnedRow {
        id: image.id.hex(),
        repository: name.map(|n| n.reference.familiar_name()),
        tag: name.and_then(|n| n.reference.tag()).map(str::to_owned),
        digest: name.map_or(image.manifest, |n| n.digest).map(|d| d.to_string()),
        created,
        size: image.size(&stores.layers),
        containers: users.count_of(image.id),
    };
    let wanted = |name: &&Name| options.name.as_deref().is_none_or(|pattern| matches_pattern(name, pattern));
    match entry.names.is_empty() {
        true if options.name.is_none() => vec![row(None)],
        _ => entry.names.iter().filter(wanted).map(|name| row(Some(name))).collect(),
    }
}
