//! `coracle volume rm`.

use crate::cli::args::{Given, operands, switch};
use crate::cli::selection::{Selection, all};
use crate::cli::{Action, Context, Entry, Error};
use clap::{ArgMatches, Command};

/// `coracle volume rm`.
pub const ENTRY: Entry = Entry {
    name: "rm",
    aliases: &["remove"],
    about: "Remove volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    action: Action::Leaf { define, unsupported: &["time,t"], run },
};

/// What `volume rm` is asked for.
#[derive(Clone, Debug)]
pub struct VolumeRmOptions {
    /// The volumes; with `-f`, one that is not there is no error.
    pub volumes: Selection,
    /// `-f`: podman's, with the containers that use them.
    pub force: bool,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("A volume that is not there is no error"),
        all().help("Remove all volumes that no container uses"),
        operands("VOLUME", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumeRmOptions, Error> {
    let force = args.on("force");
    let volumes = Selection { ignore_missing: force, ..Selection::of(args)? };
    Ok(VolumeRmOptions { volumes, force })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    crate::cli::pending(options(args)?)
}
