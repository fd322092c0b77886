//! `coracle rename`.

use super::args::{Given, operands};
use super::engine::Engine;
use super::{Action, Context, Entry, Error};
use crate::container::networks;
use crate::container::rename::rename;
use crate::output;
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
    let container = engine.find(container)?;
    rename(&engine.paths, &container, name)?;
    // It has its name, and its networks learn it when it is started again.
    if let Err(error) = networks::follow_name(&container) {
        output::warn(&format!(
            "the container's networks go on calling it {}: {error}",
            container.record.name
        ));
    }
    Ok(0)
}
