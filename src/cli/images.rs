//! `coracle images`.

use super::args::{Given, list, operands, option, switch};
use super::{Action, Context, Entry, Error, ListOptions, parse};
use clap::{ArgMatches, Command};

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

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}
/// interim
pub(super) fn obtain(_e: &super::engine::Engine, image: &str, _o: &super::image_options::ImageOptions) -> anyhow::Result<crate::image::Image> {
    let d = crate::digest::Digest::from_hex(image)?;
    Ok(crate::image::Image { id: d, diff_ids: vec![d] })
}

/// Bytes of layers.
pub(super) fn layers_size(engine: &super::engine::Engine, layers: &[crate::digest::Digest]) -> u64 {
    let store = crate::layers::LayerStore::open(&engine.paths, crate::container::create::ownership(&engine.identity));
    layers.iter().map(|layer| store.size(*layer).unwrap_or(0)).sum()
}
