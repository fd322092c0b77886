//! `coracle run`.

use super::args::{Given, switch};
use super::create_flags::{self, CreateOptions};
use super::{Action, Context, Entry, Error};
use clap::{ArgMatches, Command};

/// `coracle run`.
pub const ENTRY: Entry = Entry {
    name: "run",
    aliases: &[],
    about: "Create a container and run a command in it",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    action: Action::Leaf { define, unsupported: create_flags::UNSUPPORTED, run },
};

/// What `run` is asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The container.
    pub create: CreateOptions,
    /// `-d`: in the background, its id printed.
    pub detach: bool,
    /// `--sig-proxy` (default true): signals that reach us go to the container.
    pub sig_proxy: bool,
}

fn define(command: Command) -> Command {
    create_flags::define(
        command
            .arg(switch("detach").short('d').help("Run in the background and print the container's id"))
            .arg(switch("sig-proxy").help("Pass signals on to the container (default true)")),
    )
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RunOptions, Error> {
    Ok(RunOptions {
        create: create_flags::options(args)?,
        detach: args.on("detach"),
        sig_proxy: args.maybe("sig-proxy").unwrap_or(true),
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}
