//! `coracle rm`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::selection::{Selection, all, ignore};
use super::{Action, Context, Entry, Error, parse};
use crate::container::{lifecycle, store};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle rm`.
pub const ENTRY: Entry = Entry {
    name: "rm",
    aliases: &["remove"],
    about: "Remove containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["cidfile", "depend", "filter", "latest", "link,l"], run },
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
        containers: Selection::of(args)?,
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
    let mut broken = Vec::new();
    for name in &selection.names {
        if engine.find(name).is_err_and(|e| e.is_broken_record()) {
            broken.push(name.clone());
            lifecycle::remove_broken(&engine.paths, &engine.identity, &store::find_id(&engine.paths, name)?)?;
            output::print(&format!("{name}\n"))?;
        }
    }
    selection.names.retain(|name| !broken.contains(name));
    engine.each(&selection, |container| {
        let (Engine { paths, identity }, timeout) = (&engine, options.timeout);
        lifecycle::remove(paths, identity, container, options.force, timeout, options.volumes).map(|()| true)
    })
}
