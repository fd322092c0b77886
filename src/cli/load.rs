//! `coracle load`.

use super::Error;
use super::args::{Given, option, switch};
use super::engine::Engine;
use super::stores::{self, Stores};
use super::{Action, Context, Entry};
use crate::image::{Input, load};
use crate::output;
use clap::{ArgMatches, Command};
use std::io::IsTerminal;
use std::path::PathBuf;

/// `coracle load`.
pub const ENTRY: Entry = Entry {
    name: "load",
    aliases: &[],
    about: "Get images from an archive that docker, podman or coracle saved",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["platform", "signature-policy"], run },
};

/// What `load` is asked for.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `-i`: the archive; standard input if not given.
    pub input: Option<PathBuf>,
    /// `-q`: no progress.
    pub quiet: bool,
}

fn define(command: Command) -> Command {
    command.args([
        option("input", "FILE").short('i').help("Read FILE, not standard input"),
        switch("quiet").short('q').help("Show no progress"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> LoadOptions {
    LoadOptions { input: args.path("input"), quiet: args.on("quiet") }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args);
    let engine = Engine::open(context)?;
    let input = match options.input {
        Some(path) => Input::Path(path),
        None if std::io::stdin().is_terminal() => {
            return Err(Error::usage(
                "standard input is a terminal, not an archive",
                "name a file with -i, or redirect one",
            )
            .into());
        }
        None => Input::Stream(Box::new(std::io::stdin())),
    };
    let stores = Stores::enter(&engine)?;
    let progress = output::progress::progress_of("loading", options.quiet);
    let loaded = load(&stores.images, &stores.layers, input, &*progress);
    for loaded in stores::unless_failed(&engine, loaded)? {
        match loaded.names.is_empty() {
            true => output::print(&format!("Loaded image ID: {}\n", loaded.image.id))?,
            false => {
                for name in loaded.names {
                    output::print(&format!("Loaded image: {}\n", name.familiar()))?;
                }
            }
        }
    }
    drop(progress);
    stores::settle(&stores, &engine);
    Ok(0)
}
