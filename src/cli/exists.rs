//! `coracle container exists`.

use super::args::{Given, operands};
use super::engine::Engine;
use super::{Action, Context, Entry};
use crate::container::lifecycle;
use clap::{ArgMatches, Command};

/// `coracle container exists`.
pub const CONTAINER: Entry = Entry {
    name: "exists",
    aliases: &[],
    about: "Tell by the exit code whether there is a container: 0, or 1 if not",
    usage: "CONTAINER",
    action: Action::Leaf { define, unsupported: &["external"], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("CONTAINER", 1))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    match engine.find(&args.operands().concat()) {
        Ok(_) => Ok(0),
        Err(error) if lifecycle::is_missing(&error) => Ok(1),
        // There is something, which a name cannot be given to and which 'rm' removes.
        Err(error) if error.is_broken_record() => Ok(0),
        Err(error) => Err(error.into()),
    }
}
