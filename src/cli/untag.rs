//! `coracle untag`.

use super::args::{Given, operands};
use super::engine::Engine;
use super::stores::Stores;
use super::{Action, Context, Entry};
use clap::{ArgMatches, Command};

/// `coracle untag`.
pub const ENTRY: Entry = Entry {
    name: "untag",
    aliases: &[],
    about: "Take names from an image",
    usage: "IMAGE [NAME...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("IMAGE", 1..))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let words = args.operands();
    let Some((image, names)) = words.split_first() else { return Ok(0) };
    if names.is_empty() {
        let id = stores.images.resolve(image)?.id;
        for name in stores.images.names(id)? {
            stores.images.untag(&name.reference.to_string())?;
        }
    }
    for name in names {
        stores.images.untag(name)?;
    }
    Ok(0)
}
