//! `coracle create`.

use super::create_flags::{self, CreateOptions};
use super::{Action, Context, Entry, Error};
use clap::ArgMatches;

/// `coracle create`.
pub const ENTRY: Entry = Entry {
    name: "create",
    aliases: &[],
    about: "Create a container without starting it",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    action: Action::Leaf { define: create_flags::define, unsupported: create_flags::UNSUPPORTED, run },
};

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<CreateOptions, Error> {
    create_flags::options(args)
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}
