//! `coracle stop`.

use super::args::{Given, operands, option};
use super::engine::{self, Engine};
use super::selection::{Selection, all, cidfile, filters, ignore, latest};
use super::{Action, Context, Entry, Error, parse};
use crate::container::lifecycle;
use clap::{ArgMatches, Command};

/// `coracle stop`.
pub const ENTRY: Entry = Entry {
    name: "stop",
    aliases: &[],
    about: "Stop running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `stop` is asked for.
#[derive(Clone, Debug)]
pub struct StopOptions {
    /// The containers.
    pub containers: Selection,
    /// `-t`: seconds before the kill, `u32::MAX` for ever; the container's own if not given.
    pub timeout: Option<u32>,
    /// `-s`: the signal that asks, by its number; the container's own if not given.
    pub signal: Option<i32>,
}

fn define(command: Command) -> Command {
    command.args([
        option("time", "SECONDS")
            .short('t')
            .alias("timeout")
            .help("Seconds to wait before the container is killed (default 10), -1 for ever"),
        option("signal", "SIGNAL").short('s').help("Ask with this signal (default the container's own)"),
        all().help("Stop all running containers"),
        latest(),
        cidfile(),
        filters().short('f'),
        ignore(),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<StopOptions, Error> {
    Ok(StopOptions {
        containers: Selection::of(args, "container")?,
        timeout: args.parsed("time", parse::stop_timeout)?,
        signal: args.parsed("signal", parse::signal)?,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&options.containers, |container| {
        if options.containers.is_sweeping() && !container.status.is_running() {
            return Ok(false);
        }
        lifecycle::stop(&engine.paths, container, options.timeout, options.signal)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
