//! `coracle tag`.

use super::args::{Given, operands};
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

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(args.operands())
}
