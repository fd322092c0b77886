//! `coracle volume create`.

use crate::cli::args::{Given, list, operands, option, switch};
use crate::cli::parse::{self, Invalid};
use crate::cli::{Action, Context, Entry, Error};
use clap::{ArgMatches, Command};
use std::collections::BTreeMap;

/// `coracle volume create`.
pub const ENTRY: Entry = Entry {
    name: "create",
    aliases: &[],
    about: "Create a volume",
    usage: "[OPTIONS] [NAME]",
    action: Action::Leaf {
        define,
        unsupported: &[
            "availability",
            "gid",
            "group",
            "limit-bytes",
            "name",
            "opt,o",
            "required-bytes",
            "scope",
            "secret",
            "sharing",
            "topology-preferred",
            "topology-required",
            "type",
            "uid",
        ],
        run,
    },
};

/// What `volume create` is asked for.
#[derive(Clone, Debug)]
pub struct VolumeCreateOptions {
    /// Its name; one is made up if there is none.
    pub name: Option<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--ignore`: a volume of this name that is there already is no error.
    pub ignore_existing: bool,
}

fn define(command: Command) -> Command {
    command.args([
        list("label", "KEY=VALUE").short('l').help("Set a label"),
        option("driver", "DRIVER").short('d').help("The driver: local (default)"),
        switch("ignore").help("A volume of this name that is there already is no error"),
        operands("NAME", 0..=1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumeCreateOptions, Error> {
    args.parsed("driver", |driver| match driver {
        "local" => Ok(()),
        _ => Err(Invalid::new("only the 'local' driver is supported")),
    })?;
    Ok(VolumeCreateOptions {
        name: args.parsed("operands", parse::name)?,
        labels: args.each("label", parse::label)?.into_iter().collect(),
        ignore_existing: args.on("ignore"),
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    crate::cli::pending(options(args)?)
}
