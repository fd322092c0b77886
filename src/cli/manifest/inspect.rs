//! `coracle manifest inspect`.

use crate::cli::args::{Given, operands};
use crate::cli::engine::Engine;
use crate::cli::registry_flags;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry, Error};
use crate::{image, output};
use clap::{ArgMatches, Command};
use serde_json::Value;

/// `coracle manifest inspect`.
pub const ENTRY: Entry = Entry {
    name: "inspect",
    aliases: &[],
    about: "Show a list of the store, or what a registry has under a name",
    usage: "[OPTIONS] LIST",
    action: Action::Leaf { define, unsupported: &["insecure", "verbose,v"], run },
};

fn define(command: Command) -> Command {
    command.args(registry_flags::flags()).arg(operands("LIST", 1..=1))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let what = args.operands().pop().unwrap_or_default();
    let options = registry_flags::options(args)?;
    let stores = Stores::open(&Engine::open(context)?);
    let bytes = image::inspect_list(&stores.images, &what, &options)?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::file("read", format!("the manifest of {what}"))(e.into()))?;
    output::print(&format!("{document:#}\n"))?;
    Ok(0)
}
