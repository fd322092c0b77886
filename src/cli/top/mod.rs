//! `coracle top`: docker's, with options of ps(1), and podman's, with names of columns.
//!
//! Nothing of it is done by a `ps`, neither the image's nor the host's: a container may have none.

mod columns;
mod format;

use super::args::{self, Given, switch};
use super::engine::Engine;
use super::selection::{Selection, latest};
use super::{Action, Context, Entry, Error};
use crate::container::processes::processes;
use crate::output;
use clap::{ArgMatches, Command};
use format::Format;

/// `coracle top`.
pub const ENTRY: Entry = Entry {
    name: "top",
    aliases: &[],
    about: "Show the processes of a container",
    usage: "[OPTIONS] CONTAINER [PS-OPTIONS|COLUMN...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `top` is asked for.
#[derive(Clone, Debug)]
pub struct TopOptions {
    /// The container.
    pub container: Selection,
    /// What is shown.
    format: Format,
}

fn define(command: Command) -> Command {
    command
        .args([latest(), switch("list-descriptors").hide(true)])
        .arg(args::command_line("CONTAINER").required(false))
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<TopOptions, Error> {
    let mut words = args.operands();
    let names = match args.on("latest") || words.is_empty() {
        true => Vec::new(),
        false => vec![words.remove(0)],
    };
    Ok(TopOptions { container: Selection::named(args, "container", names)?, format: Format::parse(&words)? })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    // podman's: what can be asked for.
    if args.on("list-descriptors") {
        output::print(&format!("{}\n", format::descriptors().join("\n")))?;
        return Ok(0);
    }
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let container = engine.one(&options.container)?;
    let found = processes(&engine.paths, &engine.identity, &container)?;
    output::print(&options.format.table(&found))?;
    Ok(0)
}
