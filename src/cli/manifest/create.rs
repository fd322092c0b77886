//! `coracle manifest create`.

use super::annotation;
use crate::cli::args::{Given, list, operands, switch};
use crate::cli::engine::Engine;
use crate::cli::import::local_name;
use crate::cli::registry_flags;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry};
use crate::image::Sources;
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle manifest create`.
pub const ENTRY: Entry = Entry {
    name: "create",
    aliases: &[],
    about: "Make a list, of these images if any are named",
    usage: "[OPTIONS] LIST [IMAGE...]",
    action: Action::Leaf { define, unsupported: &["insecure"], run },
};

fn define(command: Command) -> Command {
    command.args(registry_flags::flags()).args([
        switch("all").help("Of images that are lists, add all, not only that for this machine"),
        switch("amend").short('a').help("If there is such a list, add to it"),
        list("annotation", "NAME=VALUE").help("Set an annotation of the list"),
        operands("LIST", 1..),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let words = args.operands();
    let Some((name, images)) = words.split_first() else { return Ok(0) };
    let annotations = args.each("annotation", annotation)?;
    let options = registry_flags::options(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let sources = Sources { images: &stores.images, layers: &stores.layers, options, all: args.on("all") };
    let _pin = stores.images.pin()?;
    // What is not there makes no list.
    let mut entries = Vec::new();
    for image in images {
        entries.extend(sources.find(image)?);
    }
    let list = stores.images.create_list(&local_name(name)?, args.on("amend"))?;
    let list = stores.images.change_list(&list.name, |list| {
        list.extend(entries);
        list.annotations.extend(annotations);
        Ok(())
    })?;
    output::print(&format!("{}\n", list.id().hex()))?;
    Ok(0)
}
