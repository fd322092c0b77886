//! `coracle unshare`.

use super::args::Given;
use super::{Action, Context, Entry, args};
use clap::{ArgMatches, Command};

/// `coracle unshare`.
pub const ENTRY: Entry = Entry {
    name: "unshare",
    aliases: &[],
    about: "Run a command in the user's own namespace, where container files have their owners",
    usage: "[COMMAND] [ARG...]",
    action: Action::Leaf { define, unsupported: &["rootless-netns"], run },
};

fn define(command: Command) -> Command {
    command.arg(args::command_line("COMMAND").required(false))
}

/// The command to run: the user's shell if none is given.
pub fn command(args: &ArgMatches) -> Vec<String> {
    match args.operands() {
        words if words.is_empty() => vec![std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into())],
        words => words,
    }
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(command(args))
}
