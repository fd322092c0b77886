//! `coracle tag`.

use super::args::{Given, operands};
use super::engine::Engine;
use super::stores::Stores;
use super::{Action, Context, Entry};
use clap::{ArgMatches, Command};

/// `coracle tag`.
pub const ENTRY: Entry = Entry {
    name: "tag",
    aliases: &[],
    about: "Give an image further names",
    usage: "IMAGE NAME [NAME...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("IMAGE", 2..))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let words = args.operands();
    let Some((source, targets)) = words.split_first() else { return Ok(0) };
    for target in targets {
        stores.images.tag(source, &target.parse()?)?;
    }
    Ok(0)
}
