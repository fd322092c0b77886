//! `coracle load`.

use super::args::{Given, option, switch};
use super::{Action, Context, Entry};
use clap::{ArgMatches, Command};
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

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args))
}
