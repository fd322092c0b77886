//! `coracle rename`.

use super::args::{Given, operands};
use super::engine::Engine;
use super::{Action, Context, Entry, Error};
use crate::container::rename::rename;
use clap::{ArgMatches, Command};

/// `coracle rename`.
pub const ENTRY: Entry = Entry {
    name: "rename",
    aliases: &[],
    about: "Give a container another name",
    usage: "CONTAINER NAME",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("CONTAINER", 2))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let [container, name] = &args.operands()[..] else {
        return Err(
            Error::usage("too few arguments", format!("usage: coracle rename {}", ENTRY.usage)).into()
        );
    };
    let engine = Engine::open(context)?;
    engine.tidy();
    let name = name.strip_prefix('/').unwrap_or(name);
    rename(&engine.paths, &engine.find(container)?, name)?;
    Ok(0)
}
