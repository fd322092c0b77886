//! `coracle restart`.

use super::args::{Given, operands, option, switch};
use super::engine::{self, Engine};
use super::selection::{Selection, all, cidfile, filters, latest};
use super::{Action, Context, Entry, Error, parse};
use crate::container::lifecycle;
use clap::{ArgMatches, Command};

/// `coracle restart`.
pub const ENTRY: Entry = Entry {
    name: "restart",
    aliases: &[],
    about: "Stop containers and start them again",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `restart` is asked for.
#[derive(Clone, Debug)]
pub struct RestartOptions {
    /// The containers.
    pub containers: Selection,
    /// `-t`: seconds before the kill, `u32::MAX` for ever; the container's own if not given.
    pub timeout: Option<u32>,
    /// `-s`: the signal that asks, by its number; the container's own if not given.
    pub signal: Option<i32>,
    /// `--running`: all that run.
    pub running: bool,
}

fn define(command: Command) -> Command {
    command.args([
        option("time", "SECONDS")
            .short('t')
            .alias("timeout")
            .help("Seconds to wait before the container is killed (default 10), -1 for ever"),
        option("signal", "SIGNAL").short('s').help("Ask with this signal (default the container's own)"),
        all().help("Restart all containers"),
        switch("running").help("Restart all running containers"),
        latest(),
        cidfile(),
        filters().short('f'),
        switch("ignore").short('i').help("A container that is not there is no error"),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RestartOptions, Error> {
    let running = args.on("running");
    let containers = match running {
        true if args.operands().is_empty() => {
            Selection { all: true, ignore_missing: args.on("ignore"), ..Selection::default() }
        }
        true => {
            return Err(Error::usage("--running and names exclude each other", "leave out one of them"));
        }
        false => Selection::of(args, "container")?,
    };
    Ok(RestartOptions {
        containers,
        timeout: args.parsed("time", parse::stop_timeout)?,
        signal: args.parsed("signal", parse::signal)?,
        running,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&options.containers, |container| {
        if options.running && !container.status.is_running() {
            return Ok(false);
        }
        lifecycle::stop(&engine.paths, container, options.timeout, options.signal)?;
        let window = engine::window().filter(|_| container.record.spec.process.terminal);
        let mut client = lifecycle::start(&engine.paths, &engine.identity, container, window)?;
        engine::started(&mut client)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
