//! `coracle attach`.

use super::args::{Given, operands, option, switch};
use super::engine::{self, Engine};
use super::selection::{Selection, latest};
use super::{Action, Context, Entry, Error, create_flags};
use crate::container::session::Interaction;
use crate::container::{lifecycle, monitor};
use clap::{ArgMatches, Command};

/// `coracle attach`.
pub const ENTRY: Entry = Entry {
    name: "attach",
    aliases: &[],
    about: "Connect this terminal to a running container",
    usage: "[OPTIONS] CONTAINER",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `attach` is asked for.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// The container.
    pub container: Selection,
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
        latest(),
        operands("CONTAINER", 0..=1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<AttachOptions, Error> {
    Ok(AttachOptions {
        container: Selection::of(args, "container")?,
        stdin: !args.on("no-stdin"),
        sig_proxy: args.maybe("sig-proxy").unwrap_or(true),
        detach_keys: create_flags::detach_keys_given(args)?,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let container = engine.one(&options.container)?;
    let record = &container.record;
    // Asked first, since what is not running has no socket either, and this error says so.
    lifecycle::init_of(&engine.paths, &container)?;
    let client = monitor::attach(&container.places)?;
    let how = Interaction {
        stdin: options.stdin && record.interactive,
        terminal: record.spec.process.terminal,
        detach_keys: options.detach_keys.unwrap_or_else(|| record.detach_keys.clone()),
        proxy_signals: options.sig_proxy,
        ..Interaction::default()
    };
    engine::interact(client, &how)
}
