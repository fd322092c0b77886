//! `coracle network reload`.

use crate::cli::args::operands;
use crate::cli::engine::{self, Engine};
use crate::cli::selection::{self, Selection};
use crate::cli::{Action, Context, Entry};
use crate::container::networks;
use clap::{ArgMatches, Command};

/// `coracle network reload`.
pub const ENTRY: Entry = Entry {
    name: "reload",
    aliases: &[],
    about: "Connect running containers again to networks whose process they have lost",
    usage: "[OPTIONS] [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.args([
        selection::all().help("All running containers"),
        selection::latest(),
        operands("CONTAINER", 0..),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let selection = Selection::of(args, "container")?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&selection, |container| {
        if selection.is_sweeping() && !container.status.is_running() {
            return Ok(false);
        }
        networks::reload(&engine.paths, container)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
