//! `coracle manifest rm`.

use crate::cli::args::{Given, operands, switch};
use crate::cli::engine::{Engine, report_all};
use crate::cli::stores::{self, Stores};
use crate::cli::{Action, Context, Entry};
use crate::image::{Error, Removed};
use crate::{output, state};
use clap::{ArgMatches, Command};

/// `coracle manifest rm`.
pub const ENTRY: Entry = Entry {
    name: "rm",
    aliases: &[],
    about: "Remove lists; their images stay",
    usage: "LIST [LIST...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.args([
        switch("ignore").short('i').help("A list that is not there is no error"),
        operands("LIST", 1..),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let mut errors = Vec::new();
    for what in args.operands() {
        let removed = stores.images.find_list(&what).and_then(|list| {
            state::with_ballast(&engine.paths, || stores.images.remove_list(&list))?;
            Ok(Removed { deleted: Some(list.id()), untagged: vec![list.name], ..Removed::default() })
        });
        match removed {
            Ok(removed) => output::print(&stores::removed_text(&removed, true))?,
            Err(Error::NotFound(_)) if args.on("ignore") => {}
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(report_all(&errors))
}
