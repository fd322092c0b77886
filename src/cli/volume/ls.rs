//! `coracle volume ls`.

use crate::cli::args::{Given, list, option, switch};
use crate::cli::{Action, Context, Entry, Error, ListOptions, parse};
use clap::{ArgMatches, Command};

/// `coracle volume ls`.
pub const ENTRY: Entry = Entry {
    name: "ls",
    aliases: &["list"],
    about: "List volumes",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["cluster"], run },
};

/// What `volume ls` is asked for.
#[derive(Clone, Debug)]
pub struct VolumeLsOptions {
    /// `-f`: `name`, `label`, `driver`, `dangling`.
    pub filters: Vec<(String, String)>,
    /// How the rows are shown.
    pub show: ListOptions,
}

fn define(command: Command) -> Command {
    command.args([
        list("filter", "KEY=VALUE")
            .short('f')
            .help("Show only: name=, label=KEY[=VALUE], driver=, dangling=BOOL"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("quiet").short('q').help("Show names only"),
        switch("noheading").short('n').help("Leave out the column heads"),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumeLsOptions, Error> {
    Ok(VolumeLsOptions {
        filters: args.each("filter", |text| {
            let (key, value) = parse::filter(text, &["name", "label", "driver", "dangling"])?;
            if key == "dangling" {
                parse::boolean(&value)?;
            }
            Ok((key, value))
        })?,
        show: ListOptions::of(args),
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    crate::cli::pending(options(args)?)
}
