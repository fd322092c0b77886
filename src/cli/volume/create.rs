//! `coracle volume create`.

use crate::cli::args::{Given, list, operands, option, switch};
use crate::cli::parse::{self, Invalid};
use crate::cli::{Action, Context, Entry, Error};
use crate::output;
use crate::state::Durability;
use crate::volume::{NewVolume, Volumes};
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
}

fn define(command: Command) -> Command {
    command.args([
        list("label", "KEY=VALUE").short('l').help("Set a label"),
        option("driver", "DRIVER").short('d').help("The driver: local (default)"),
        switch("ignore").help("podman's; as with docker, a volume that is there already never is an error"),
        operands("NAME", 0..=1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumeCreateOptions, Error> {
    args.filled("driver", |driver| match driver {
        "local" => Ok(()),
        _ => Err(Invalid::new("only the 'local' driver is supported")),
    })?;
    Ok(VolumeCreateOptions {
        name: args.text("operands").map(str::to_owned),
        labels: args.each("label", parse::label)?.into_iter().collect(),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let VolumeCreateOptions { name, labels } = options(args)?;
    let new = match name.filter(|name| !name.is_empty()) {
        Some(name) => NewVolume::named(&name),
        None => NewVolume::anonymous(Durability::PowerCut)?,
    };
    let (volume, _) = Volumes::new(&context.paths()?).ensure(&NewVolume { labels, ..new })?;
    output::print(&format!("{}\n", volume.name))?;
    Ok(0)
}
