//! `coracle manifest annotate`.

use super::{Said, entry_flags};
use crate::cli::args::{Given, operands, switch};
use crate::cli::engine::Engine;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry, Error};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle manifest annotate`.
pub const ENTRY: Entry = Entry {
    name: "annotate",
    aliases: &[],
    about: "Change what a list says of one of its images, or of itself",
    usage: "[OPTIONS] LIST IMAGE|DIGEST",
    action: Action::Leaf { define, unsupported: &["subject"], run },
};

fn define(command: Command) -> Command {
    command.args(entry_flags()).args([
        switch("index").help("Set annotations of the list itself, and name no image"),
        operands("LIST", 1..=2),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let words = args.operands();
    let said = Said::of(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let name = stores.images.find_list(&words[0])?.name;
    let list = match (args.on("index"), words.get(1)) {
        (true, None) => stores.images.change_list(&name, |list| {
            list.annotations.extend(said.annotations);
            Ok(())
        })?,
        (false, Some(image)) => stores.images.change_list(&name, |list| {
            said.apply(list.entry(image)?);
            Ok(())
        })?,
        (true, Some(_)) => {
            return Err(
                Error::usage("--index and an image exclude each other", "leave out one of them").into()
            );
        }
        (false, None) => {
            let fix = "name one by its digest ('coracle manifest inspect LIST' shows them), or use --index";
            return Err(Error::usage("no image of the list is named", fix).into());
        }
    };
    output::print(&format!("{}\n", list.id().hex()))?;
    Ok(0)
}
