//! `coracle rmi`.

use super::args::{operands, switch};
use super::selection::{Selection, all};
use super::{Action, Context, Entry, Error};
use crate::cli::args::Given;
use clap::{ArgMatches, Command};

/// `coracle rmi`.
pub const ENTRY: Entry = Entry {
    name: "rmi",
    aliases: &[],
    about: "Remove images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    action: Action::Leaf { define, unsupported: &["no-prune", "platform"], run },
};

/// What `rmi` is asked for.
#[derive(Clone, Debug)]
pub struct RmiOptions {
    /// The images.
    pub images: Selection,
    /// `-f`: with all their names, and although stopped containers are made from them.
    pub force: bool,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Remove all names of an image, and images of stopped containers"),
        all().help("Remove all images"),
        switch("ignore").short('i').help("An image that is not there is no error"),
        operands("IMAGE", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RmiOptions, Error> {
    Ok(RmiOptions { images: Selection::of(args)?, force: args.on("force") })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}
