//! `coracle manifest add`.

use super::{Said, entry_flags};
use crate::cli::args::{Given, operands, switch};
use crate::cli::engine::Engine;
use crate::cli::registry_flags;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry};
use crate::image::Sources;
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle manifest add`.
pub const ENTRY: Entry = Entry {
    name: "add",
    aliases: &[],
    about: "Add images to a list",
    usage: "[OPTIONS] LIST IMAGE [IMAGE...]",
    action: Action::Leaf {
        define,
        unsupported: &[
            "artifact",
            "artifact-annotation",
            "artifact-config",
            "artifact-config-type",
            "artifact-exclude-titles",
            "artifact-layer-type",
            "artifact-subject",
            "artifact-type",
        ],
        run,
    },
};

fn define(command: Command) -> Command {
    command.args(registry_flags::flags()).args(entry_flags()).args([
        switch("all").help("Of an image that is a list, add all, not only that for this machine"),
        operands("LIST", 2..),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let words = args.operands();
    let Some((name, images)) = words.split_first() else { return Ok(0) };
    let (said, options) = (Said::of(args)?, registry_flags::options(args)?);
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let list = stores.images.find_list(name)?;
    let sources = Sources { images: &stores.images, layers: &stores.layers, options, all: args.on("all") };
    let _pin = stores.images.pin()?;
    let mut entries = Vec::new();
    for image in images {
        entries.extend(sources.find(image)?);
    }
    entries.iter_mut().for_each(|entry| said.apply(entry));
    let list = stores.images.change_list(&list.name, |list| {
        list.extend(entries);
        Ok(())
    })?;
    output::print(&format!("{}\n", list.id().hex()))?;
    Ok(0)
}
