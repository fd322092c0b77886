//! `coracle restart`.

use super::args::{Given, operands, option, switch};
use super::engine::{self, Engine};
use super::selection::{Selection, all};
use super::{Action, Context, Entry, Error, parse};
use crate::container::lifecycle;
use clap::{ArgMatches, Command};

/// `coracle restart`.
pub const ENTRY: Entry = Entry {
    name: "restart",
    aliases: &[],
    about: "Stop containers and start them again",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf {
        define,
        unsupported: &["cidfile", "filter,f", "latest,l", "running", "signal,s"],
        run,
    },
};

/// What `restart` is asked for.
#[derive(Clone, Debug)]
pub struct RestartOptions {
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
        all().help("Restart all containers"),
        switch("ignore").short('i').help("A container that is not there is no error"),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RestartOptions, Error> {
    Ok(RestartOptions {
        containers: Selection::of(args, "container")?,
        timeout: args.parsed("time", parse::stop_timeout)?,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&options.containers, |container| {
        lifecycle::stop(&engine.paths, container, options.timeout)?;
        let window = engine::window().filter(|_| container.record.spec.process.terminal);
        let mut client = lifecycle::start(&engine.paths, &engine.identity, container, window)?;
        engine::started(&mut client)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
