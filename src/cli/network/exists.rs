//! `coracle network exists`.

use crate::cli::args::{Given, operands};
use crate::cli::{Action, Context, Entry};
use crate::network::{Error, Networks};
use clap::{ArgMatches, Command};

/// `coracle network exists`.
pub const ENTRY: Entry = Entry {
    name: "exists",
    aliases: &[],
    about: "Tell by the exit code whether there is a network: 0, or 1 if not",
    usage: "NETWORK",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("NETWORK", 1))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    match Networks::new(&context.paths()?).find(&args.operands().concat()) {
        Ok(_) => Ok(0),
        Err(Error::Missing(_)) => Ok(1),
        Err(error) => Err(error.into()),
    }
}
