//! `coracle unshare`.

use super::args::Given;
use super::engine::Engine;
use super::{Action, Context, Entry, Error, args};
use crate::userns;
use anyhow::Context as _;
use clap::{ArgMatches, Command};
use std::os::unix::process::CommandExt;

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

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let words = command(args);
    let (program, rest) = words.split_first().map_or(("/bin/sh", &[][..]), |(p, rest)| (p.as_str(), rest));
    userns::enter(&engine.paths, &engine.identity)?;
    // A mount namespace too, as podman's: what is mounted there is gone with it.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let error = std::process::Command::new(program).args(rest).exec();
    Err(Error::Execute { command: program.to_owned(), source: error }.into())
}
