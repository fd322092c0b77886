//! `coracle manifest remove`.

use crate::cli::args::{Given, operands};
use crate::cli::engine::Engine;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle manifest remove`.
pub const ENTRY: Entry = Entry {
    name: "remove",
    aliases: &[],
    about: "Take an image out of a list",
    usage: "LIST DIGEST",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("LIST", 2..=2))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let words = args.operands();
    let stores = Stores::open(&Engine::open(context)?);
    let name = stores.images.find_list(&words[0])?.name;
    let list = stores.images.change_list(&name, |list| {
        let digest = list.entry(&words[1])?.digest;
        list.entries.retain(|entry| entry.digest != digest);
        Ok(())
    })?;
    output::print(&format!("{}\n", list.id().hex()))?;
    Ok(0)
}
