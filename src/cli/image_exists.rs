//! `coracle image exists`.

use super::args::{Given, operands};
use super::engine::Engine;
use super::stores::Stores;
use super::{Action, Context, Entry};
use crate::image::Error;
use clap::{ArgMatches, Command};

/// `coracle image exists`.
pub const ENTRY: Entry = Entry {
    name: "exists",
    aliases: &[],
    about: "Ask whether an image is here: the exit code is 0 if it is, 1 if not",
    usage: "IMAGE",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("IMAGE", 1..=1))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let stores = Stores::open(&Engine::open(context)?);
    let what = args.operands().pop().unwrap_or_default();
    if stores.images.list_named(&what)?.is_some() {
        return Ok(0);
    }
    match stores.images.resolve(&what) {
        Ok(_) => Ok(0),
        // What is no image's name is none's.
        Err(Error::NotFound(_) | Error::Reference(_)) => Ok(1),
        Err(error) => Err(error.into()),
    }
}
