//! `coracle kill`.

use super::args::{Given, operands, option};
use super::engine::{self, Engine};
use super::selection::{Selection, all, cidfile, latest};
use super::{Action, Context, Entry, Error, parse};
use crate::container::lifecycle;
use clap::{ArgMatches, Command};
use nix::libc::SIGKILL;

/// `coracle kill`.
pub const ENTRY: Entry = Entry {
    name: "kill",
    aliases: &[],
    about: "Send a signal to running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `kill` is asked for.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// The containers.
    pub containers: Selection,
    /// `-s`: the signal's number.
    pub signal: i32,
}

fn define(command: Command) -> Command {
    command.args([
        option("signal", "SIGNAL").short('s').help("The signal (default KILL)"),
        all().help("Signal all running containers"),
        latest(),
        cidfile(),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<KillOptions, Error> {
    let signal = args.parsed("signal", parse::signal)?.unwrap_or(SIGKILL);
    Ok(KillOptions { containers: Selection::of(args, "container")?, signal })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let errors = engine.each(&options.containers, |container| {
        if options.containers.is_sweeping() && !container.status.is_running() {
            return Ok(false);
        }
        lifecycle::kill(&engine.paths, container, options.signal)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
