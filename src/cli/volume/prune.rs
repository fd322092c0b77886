//! `coracle volume prune`.

use crate::cli::args::{Given, list, switch};
use crate::cli::{Action, Context, Entry, Error, parse};
use clap::{ArgMatches, Command};

/// `coracle volume prune`.
pub const ENTRY: Entry = Entry {
    name: "prune",
    aliases: &[],
    about: "Remove the volumes that no container uses",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `volume prune` is asked for.
#[derive(Clone, Debug)]
pub struct VolumePruneOptions {
    /// `-f`: don't ask.
    pub force: bool,
    /// `-a`: named ones too, not only anonymous ones.
    pub all: bool,
    /// `--filter label=…`, `label!=…`.
    pub filters: Vec<(String, String)>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Don't ask first"),
        switch("all").short('a').help("Remove named volumes too, not only anonymous ones"),
        list("filter", "KEY=VALUE").help("Remove only: label=KEY[=VALUE], label!=KEY[=VALUE]"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumePruneOptions, Error> {
    Ok(VolumePruneOptions {
        force: args.on("force"),
        all: args.on("all"),
        filters: args.each("filter", |text| parse::filter(text, &["label", "label!"]))?,
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    crate::cli::pending(options(args)?)
}
