//! `coracle volume rm`.

use crate::cli::args::{Given, operands, option, switch};
use crate::cli::engine::Engine;
use crate::cli::selection::{Selection, all};
use crate::cli::{Action, Context, Entry, Error, parse, stores};
use crate::container::lifecycle;
use crate::output;
use crate::volume::{self, Listed, Volumes};
use clap::{ArgMatches, Command};

/// `coracle volume rm`.
pub const ENTRY: Entry = Entry {
    name: "rm",
    aliases: &["remove"],
    about: "Remove volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `volume rm` is asked for.
#[derive(Clone, Debug)]
pub struct VolumeRmOptions {
    /// The volumes; with `-f`, one that is not there is no error.
    pub volumes: Selection,
    /// `-f`: podman's, with the containers that use them.
    pub force: bool,
    /// `-t`: seconds before a container that uses one is killed, with `-f`.
    pub timeout: Option<u32>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force")
            .short('f')
            .help("Remove the containers that use it too; a volume that is not there is no error"),
        all().help("Remove all volumes"),
        option("time", "SECONDS")
            .short('t')
            .alias("timeout")
            .help("With --force: seconds to wait before a container is killed, -1 for ever"),
        operands("VOLUME", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<VolumeRmOptions, Error> {
    let force = args.on("force");
    let volumes = Selection { ignore_missing: force, ..Selection::of(args, "volume")? };
    let timeout = args.parsed("time", parse::stop_timeout)?;
    match timeout {
        Some(_) if !force => Err(Error::usage("--time needs --force", "add -f, or leave out -t")),
        _ => Ok(VolumeRmOptions { volumes, force, timeout }),
    }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let mut names = options.volumes.names.clone();
    if options.volumes.all {
        names.extend(Volumes::new(&engine.paths).list()?.into_iter().map(|listed| match listed {
            Listed::Volume(volume) => volume.name,
            Listed::Broken { name, .. } => name,
        }));
    }
    let mut worst = 0;
    for name in &names {
        match remove(&engine, name, &options) {
            Ok(()) => output::print(&format!("{name}\n"))?,
            Err(error) => {
                // podman's codes.
                let code = match error.downcast_ref() {
                    Some(volume::Error::Missing(_)) if options.volumes.ignore_missing => continue,
                    Some(volume::Error::Missing(_)) => Some(1),
                    Some(volume::Error::InUse { .. }) => Some(2),
                    _ => None,
                };
                let ours = crate::cli::report(&error);
                worst = worst.max(code.unwrap_or(ours));
            }
        }
    }
    stores::settle_as_root(&engine);
    Ok(worst)
}

fn remove(engine: &Engine, name: &str, options: &VolumeRmOptions) -> anyhow::Result<()> {
    let Engine { paths, identity } = engine;
    if options.force {
        for container in super::users(paths, name)? {
            lifecycle::remove(paths, identity, &container, true, options.timeout, false)?;
        }
    }
    let remove = || Volumes::new(paths).remove(name, |name| super::user_ids(paths, name));
    Ok(crate::state::with_ballast(paths, remove)?)
}
