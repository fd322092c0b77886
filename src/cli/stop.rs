//! `coracle stop`.

use super::args::{Given, operands, option};
use super::engine::{self, Engine};
use super::selection::{Selection, all, ignore};
use super::{Action, Context, Entry, Error, parse};
use crate::container::lifecycle;
use clap::{ArgMatches, Command};

/// `coracle stop`.
pub const ENTRY: Entry = Entry {
    name: "stop",
    aliases: &[],
    about: "Stop running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["cidfile", "filter,f", "latest,l", "signal,s"], run },
};

/// What `stop` is asked for.
#[derive(Clone, Debug)]
pub struct StopOptions {
    /// The containers.
    pub containers: Selection,
    /// `-t`: seconds before the kill, `u32::MAX` for ever; the container's own if not given.
    pub timeout: Option<u32>,
}

fn define(command: Command) -> Command {
    command.args([
        option("time", "SECONDS")
            .short('t')
            .alias("timeout")
            .help("Seconds to wait before the container is killed (default 10), -1 for ever"),
        all().help("Stop all running containers"),
        ignore(),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<StopOptions, Error> {
    Ok(StopOptions {
        containers: Selection::of(args, "container")?,
        timeout: args.parsed("time", parse::stop_timeout)?,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&options.containers, |container| {
        if options.containers.all && !container.status.is_running() {
            return Ok(false);
        }
        lifecycle::stop(&engine.paths, container, options.timeout)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
