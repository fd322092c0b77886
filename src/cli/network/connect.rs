//! `coracle network connect`.

use crate::cli::args::{Given, list, operands, option};
use crate::cli::engine::Engine;
use crate::cli::{Action, Context, Entry, Error, parse};
use crate::container::networks;
use crate::container::request::Joined;
use clap::{ArgMatches, Command};

/// `coracle network connect`.
pub const ENTRY: Entry = Entry {
    name: "connect",
    aliases: &[],
    about: "Put a container on one more network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    action: Action::Leaf {
        define,
        unsupported: &["driver-opt", "gw-priority", "link", "link-local-ip"],
        run,
    },
};

fn define(command: Command) -> Command {
    command.args([
        list("alias", "NAME").help("Be found by this name on the network, too"),
        option("ip", "ADDRESS").help("Have this address on the network"),
        option("ip6", "ADDRESS").help("Have this IPv6 address on the network"),
        option("mac-address", "MAC").help("Have this hardware address on the network"),
        operands("NETWORK", 2),
    ])
}

/// What the flags ask for: how to join which network, and the container.
pub fn options(args: &ArgMatches) -> Result<(Joined, String), Error> {
    let mut operands = args.operands().into_iter();
    let network = operands.next().unwrap_or_default();
    let joined = Joined {
        network,
        ip: args.parsed("ip", parse::ipv4)?,
        ip6: args.parsed("ip6", parse::ipv6)?,
        aliases: args.texts("alias").into_iter().map(str::to_owned).collect(),
        mac: args.parsed("mac-address", parse::mac)?,
        interface: None,
    };
    Ok((joined, operands.next().unwrap_or_default()))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let (joined, container) = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    networks::connect(&engine.paths, &engine.find(&container)?, joined)?;
    Ok(0)
}
