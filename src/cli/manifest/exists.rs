//! `coracle manifest exists`.

use crate::cli::args::{Given, operands};
use crate::cli::engine::Engine;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry};
use crate::image::Error;
use clap::{ArgMatches, Command};

/// `coracle manifest exists`.
pub const ENTRY: Entry = Entry {
    name: "exists",
    aliases: &[],
    about: "Ask whether a list is here: the exit code is 0 if it is, 1 if not",
    usage: "LIST",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("LIST", 1..=1))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let stores = Stores::open(&Engine::open(context)?);
    match stores.images.find_list(&args.operands().pop().unwrap_or_default()) {
        Ok(_) => Ok(0),
        Err(Error::NotFound(_)) => Ok(1),
        Err(error) => Err(error.into()),
    }
}
