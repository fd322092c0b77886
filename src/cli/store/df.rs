//! `coracle store df`: the disk that each part of the store takes.

use crate::build::cache;
use crate::cli::args::option;
use crate::cli::args::switch;
use crate::cli::engine::Engine;
use crate::cli::stores::{Stores, Users};
use crate::cli::{Action, Context, Entry, ListOptions};
use crate::image::Usage;
use crate::output::listing::Listing;
use crate::output::{self, human};
use crate::volume::disk_usage;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::path::PathBuf;

/// `coracle store df`.
pub const ENTRY: Entry = Entry {
    name: "df",
    aliases: &[],
    about: "Show the disk space that layers, containers, volumes, the build cache and what is being deleted take",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

const ROWS: Listing<'static> = Listing {
    table: "{{.Type}}\t{{.Total}}\t{{.Size}}\t{{.Reclaimable}}\t{{.Path}}",
    quiet: "Size",
    heads: &[],
};

fn define(command: Command) -> Command {
    command.args([
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("noheading").short('n').help("Leave out the column heads"),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let show = ListOptions::of(args);
    let engine = Engine::open(context)?;
    let stores = Stores::enter(&engine)?;
    let rows = rows(&engine, &stores)?;
    output::print(&ROWS.render(&rows, show.style())?)?;
    Ok(0)
}

/// Blocks on disk, tables and all: more than the sums of files that `system df` shows.
fn rows(engine: &Engine, stores: &Stores) -> anyhow::Result<Vec<Value>> {
    let paths = &engine.paths;
    let usage = Usage::of(&stores.images, &stores.layers)?;
    let users = Users::now(engine)?;
    let cached = cache::layers(paths)?;
    let garbage = stores.layers.list()?.into_iter().filter(|layer| {
        let of_image = usage.images.iter().any(|image| image.entry.image.diff_ids().contains(layer));
        !of_image && !users.need_layer(*layer) && !cached.contains(layer)
    });
    let garbage: u64 = garbage.map(|layer| stores.layers.size(layer).unwrap_or(0)).sum();
    let shifted = paths.layers().join("shifted");
    let of = |kind: &str, path: PathBuf, total: usize, size: u64, reclaimable: u64| {
        json!({
            "Type": kind,
            "Total": total.to_string(),
            "Size": human::size(size),
            "Reclaimable": human::size(reclaimable),
            "Path": path.display().to_string(),
        })
    };
    let simple = |kind: &str, path: PathBuf, is_garbage: bool| {
        let size = disk_usage(&path);
        of(kind, path.clone(), entries(&path), size, if is_garbage { size } else { 0 })
    };
    let (layers, shifted_size) = (disk_usage(&paths.layers()), disk_usage(&shifted));
    Ok(vec![
        of(
            "Layers",
            paths.layers(),
            usage.layers.0 + usage.others.0,
            layers.saturating_sub(shifted_size),
            garbage,
        ),
        of("Shifted images", shifted.clone(), entries(&shifted), shifted_size, 0),
        simple("Manifests and configs", paths.blobs(), false),
        simple("Containers", paths.containers(), false),
        simple("Volumes", paths.volumes(), false),
        simple("Build cache", paths.build_cache(), true),
        simple("Being made", paths.staging(), false),
        simple("Being deleted", paths.trash(), true),
    ])
}

fn entries(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
