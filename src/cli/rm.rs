//! `coracle rm`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::selection::{Selection, all, cidfile, filters, ignore, latest};
use super::{Action, Context, Entry, Error, parse};
use crate::container::{self, lifecycle, store};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle rm`.
pub const ENTRY: Entry = Entry {
    name: "rm",
    aliases: &["remove"],
    about: "Remove containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["depend", "link"], run },
};

/// What `rm` is asked for.
#[derive(Clone, Debug)]
pub struct RmOptions {
    /// The containers.
    pub containers: Selection,
    /// `-f`: running ones too.
    pub force: bool,
    /// `-v`: with their anonymous volumes.
    pub volumes: bool,
    /// `-t`: seconds to wait before a running one is killed, with `-f`.
    pub timeout: Option<u32>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Stop and remove running containers too"),
        switch("volumes").short('v').help("Remove the containers' anonymous volumes too"),
        all().help("Remove all containers"),
        latest(),
        cidfile(),
        filters(),
        ignore(),
        option("time", "SECONDS")
            .short('t')
            .alias("timeout")
            .help("With --force: seconds to wait before the container is killed, -1 for ever"),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RmOptions, Error> {
    let options = RmOptions {
        containers: Selection::of(args, "container")?,
        force: args.on("force"),
        volumes: args.on("volumes"),
        timeout: args.parsed("time", parse::stop_timeout)?,
    };
    match options.timeout {
        Some(_) if !options.force => Err(Error::usage("--time needs --force", "add -f, or leave out -t")),
        _ => Ok(options),
    }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let mut selection = options.containers.clone();
    // As with docker's and rm(1), what is not there is as removed as can be.
    selection.ignore_missing |= options.force;
    let mut worst = 0;
    for name in engine.names(&selection)? {
        match remove(&engine, &name, &options) {
            Ok(()) => output::print(&format!("{name}\n"))?,
            Err(error) if selection.may_miss() && lifecycle::is_missing(&error) => {}
            Err(error) => {
                // podman's codes.
                let code = match error {
                    container::Error::NotFound(_) => Some(1),
                    container::Error::State { .. } => Some(2),
                    _ => None,
                };
                let ours = super::report(&error.into());
                worst = worst.max(code.unwrap_or(ours));
            }
        }
    }
    Ok(worst)
}

fn remove(engine: &Engine, name: &str, options: &RmOptions) -> Result<(), container::Error> {
    let Engine { paths, identity } = engine;
    match engine.find(name) {
        Ok(found) => {
            lifecycle::remove(paths, identity, &found, options.force, options.timeout, options.volumes)
        }
        Err(error) if error.is_broken_record() => {
            lifecycle::remove_broken(paths, identity, &store::find_id(paths, name)?)
        }
        Err(error) => Err(error),
    }
}
