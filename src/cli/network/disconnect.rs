//! `coracle network disconnect`.

use crate::cli::args::{Given, operands, switch};
use crate::cli::engine::Engine;
use crate::cli::{Action, Context, Entry};
use crate::container::networks;
use clap::{ArgMatches, Command};

/// `coracle network disconnect`.
pub const ENTRY: Entry = Entry {
    name: "disconnect",
    aliases: &[],
    about: "Take a container from a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("No error if there is no such container"),
        operands("NETWORK", 2),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let [network, name] = &args.operands()[..] else { return Ok(0) };
    let engine = Engine::open(context)?;
    engine.tidy();
    match engine.find(name) {
        Ok(container) => networks::disconnect(&engine.paths, &container, network)?,
        Err(crate::container::Error::NotFound(_)) if args.on("force") => {}
        Err(error) => return Err(error.into()),
    }
    Ok(0)
}
