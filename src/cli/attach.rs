//! `coracle attach`.

use super::args::{Given, operands, option, switch};
use super::{Action, Context, Entry, Error, create_flags};
use clap::{ArgMatches, Command};

/// `coracle attach`.
pub const ENTRY: Entry = Entry {
    name: "attach",
    aliases: &[],
    about: "Connect this terminal to a running container",
    usage: "[OPTIONS] CONTAINER",
    action: Action::Leaf { define, unsupported: &["latest,l"], run },
};

/// What `attach` is asked for.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// The container, as typed.
    pub container: String,
    /// Whether standard input is passed on (not with `--no-stdin`).
    pub stdin: bool,
    /// `--sig-proxy`.
    pub sig_proxy: bool,
    /// `--detach-keys`, if given: else the container's own.
    pub detach_keys: Option<Vec<u8>>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("no-stdin").help("Don't pass standard input on"),
        switch("sig-proxy").help("Pass signals on to the container (default true)"),
        option("detach-keys", "KEYS").help("Keys that detach from the container (default ctrl-p,ctrl-q)"),
        operands("CONTAINER", 1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<AttachOptions, Error> {
    Ok(AttachOptions {
        container: args.operands().concat(),
        stdin: !args.on("no-stdin"),
        sig_proxy: args.maybe("sig-proxy").unwrap_or(true),
        detach_keys: create_flags::detach_keys_given(args)?,
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}
