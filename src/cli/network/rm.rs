//! `coracle network rm`.

use super::{remove, users};
use crate::cli::args::{Given, operands, option, switch};
use crate::cli::engine::Engine;
use crate::cli::{Action, Context, Entry, Error, parse};
use crate::container::{self, lifecycle};
use crate::network::{self, DEFAULT, Networks};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle network rm`.
pub const ENTRY: Entry = Entry {
    name: "rm",
    aliases: &["remove"],
    about: "Remove networks",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `network rm` is asked for.
#[derive(Clone, Debug)]
pub struct NetworkRmOptions {
    /// The networks.
    pub networks: Vec<String>,
    /// `-f`: podman's, with the containers on them; one that is not there is no error.
    pub force: bool,
    /// `-t`: seconds before a container is killed, with `-f`.
    pub timeout: Option<u32>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force")
            .short('f')
            .help("Remove the containers on it too; a network that is not there is no error"),
        option("time", "SECONDS")
            .short('t')
            .alias("timeout")
            .help("With --force: seconds to wait before a container is killed, -1 for ever"),
        operands("NETWORK", 1..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<NetworkRmOptions, Error> {
    let options = NetworkRmOptions {
        networks: args.operands(),
        force: args.on("force"),
        timeout: args.parsed("time", parse::stop_timeout)?,
    };
    match options.timeout {
        Some(_) if !options.force => Err(Error::usage("--time needs --force", "add -f, or leave out -t")),
        _ => Ok(options),
    }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let mut worst = 0;
    for what in &options.networks {
        match remove_one(&engine, what, &options) {
            Ok(()) => output::print(&format!("{what}\n"))?,
            Err(error) => {
                let network = match error.downcast_ref() {
                    Some(container::Error::Network(error)) => Some(error),
                    _ => error.downcast_ref(),
                };
                // podman's codes.
                let code = match network {
                    Some(network::Error::Missing(_)) if options.force => continue,
                    Some(network::Error::Missing(_)) => Some(1),
                    Some(network::Error::InUse { .. }) => Some(2),
                    _ => None,
                };
                let ours = crate::cli::report(&error);
                worst = worst.max(code.unwrap_or(ours));
            }
        }
    }
    Ok(worst)
}

fn remove_one(engine: &Engine, what: &str, options: &NetworkRmOptions) -> anyhow::Result<()> {
    let Engine { paths, identity } = engine;
    let name = match Networks::new(paths).find(what) {
        Ok(network) => network.name,
        // One that cannot be read can be removed.
        Err(network::Error::State(_) | network::Error::Foreign(_)) => what.to_owned(),
        Err(error) => return Err(error.into()),
    };
    if name == DEFAULT {
        return Err(
            Error::usage("the default network bridge cannot be removed", "it takes nothing up").into()
        );
    }
    if options.force {
        for container in users(paths, &name)? {
            lifecycle::remove(paths, identity, &container, true, options.timeout, false)?;
        }
    }
    remove(paths, &name)
}
