//! `coracle pause` and `coracle unpause`.

use super::args::operands;
use super::engine::{self, Engine};
use super::selection::{Selection, all};
use super::{Action, Context, Entry};
use crate::container::record::Status;
use crate::container::{lifecycle, store};
use clap::{ArgMatches, Command};

const UNSUPPORTED: &[&str] = &["cidfile", "filter,f", "latest,l"];

/// `coracle pause`.
pub const ENTRY: Entry = Entry {
    name: "pause",
    aliases: &[],
    about: "Freeze all processes of running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define: define_pause, unsupported: UNSUPPORTED, run: pause },
};

/// `coracle unpause`.
pub const UNPAUSE: Entry = Entry {
    name: "unpause",
    aliases: &[],
    about: "Let paused containers go on",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define: define_unpause, unsupported: UNSUPPORTED, run: unpause },
};

fn define_pause(command: Command) -> Command {
    command.args([all().help("Freeze all running containers"), operands("CONTAINER", 0..)])
}

fn define_unpause(command: Command) -> Command {
    command.args([all().help("Let all paused containers go on"), operands("CONTAINER", 0..)])
}

fn pause(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let is_running = |status: &Status| matches!(status, Status::Starting | Status::Running { .. });
    change(context, args, is_running, |engine, container| lifecycle::pause(&engine.paths, container))
}

fn unpause(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let is_paused = |status: &Status| matches!(status, Status::Paused { .. });
    change(context, args, is_paused, |engine, container| lifecycle::unpause(&engine.paths, container))
}

fn change(
    context: &Context,
    args: &ArgMatches,
    applies: impl Fn(&Status) -> bool,
    work: impl Fn(&Engine, &store::Container) -> Result<(), crate::container::Error>,
) -> anyhow::Result<u8> {
    let selection = Selection::of(args, "container")?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let errors = engine.each(&selection, |container| {
        if selection.all && !applies(&container.status) {
            return Ok(false);
        }
        work(&engine, container)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
