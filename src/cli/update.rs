//! `coracle update`.

use super::args::operands;
use super::engine::{self, Engine};
use super::selection::Selection;
use super::{Action, Context, Entry, Error, limit_flags};
use crate::container::resources;
use clap::{ArgMatches, Command};

/// `coracle update`.
pub const ENTRY: Entry = Entry {
    name: "update",
    aliases: &[],
    about: "Change the limits of containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["env,e", "latest,l", "restart", "unsetenv"], run },
};

fn define(command: Command) -> Command {
    limit_flags::define_limits(command).next_help_heading(None::<&str>).arg(operands("CONTAINER", 1..))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let limits = limit_flags::limits(args)?;
    let selection = Selection::of(args, "container")?;
    if limits.is_empty() {
        return Err(
            Error::usage("no limit to change", "name one, as in 'coracle update --memory 1g NAME'").into()
        );
    }
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&selection, |container| {
        resources::update(container, &limits)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
