//! `coracle untag`.

use super::args::{Given, operands};
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

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(args.operands())
}
