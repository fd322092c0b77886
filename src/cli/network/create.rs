//! `coracle network create`.

use crate::cli::args::{Given, list, operands, option, switch};
use crate::cli::parse::{self, Invalid};
use crate::cli::{Action, Context, Entry, Error};
use crate::network::{self, Networks, NewNetwork, Subnet, routes};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle network create`.
pub const ENTRY: Entry = Entry {
    name: "create",
    aliases: &[],
    about: "Create a network, whose containers find one another by name",
    usage: "[OPTIONS] NETWORK",
    action: Action::Leaf {
        define,
        unsupported: &[
            "attachable",
            "aux-address",
            "config-from",
            "config-only",
            "dns",
            "ignore",
            "ingress",
            "interface-name",
            "ipam-driver",
            "ipam-opt",
            "ipv4",
            "ipv6",
            "route",
            "scope",
        ],
        run,
    },
};

fn define(command: Command) -> Command {
    command.args([
        option("driver", "DRIVER").short('d').help("The driver: bridge (default)"),
        option("subnet", "SUBNET").help("Its addresses, as in 10.1.2.0/24 (default one that is free)"),
        option("gateway", "ADDRESS").help("The network's own address (default the first)"),
        option("ip-range", "SUBNET").help("Give containers addresses of this part of it"),
        switch("internal").help("Leave no way out, and none in but from its own containers"),
        switch("disable-dns").help("Do not find containers by their names"),
        list("opt", "KEY=VALUE").short('o').help("mtu=NUMBER (default the host's)"),
        list("label", "KEY=VALUE").help("Set a label"),
        operands("NETWORK", 1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<NewNetwork, Error> {
    args.filled("driver", |driver| match driver {
        "bridge" => Ok(()),
        _ => Err(Invalid::new("only the 'bridge' driver is supported")),
    })?;
    let subnet = |text: &str| text.parse().map_err(Invalid::new);
    Ok(NewNetwork {
        name: args.operands().concat(),
        subnet: args.filled("subnet", subnet)?,
        gateway: args.filled("gateway", parse::ipv4)?,
        range: args.filled("ip-range", |text| Subnet::parse_range(text).map_err(Invalid::new))?,
        mtu: mtu(args)?,
        internal: args.on("internal"),
        nameless: args.on("disable-dns"),
        labels: args.each("label", parse::label)?.into_iter().collect(),
    })
}

/// The largest packet of the network, in bytes.
fn mtu(args: &ArgMatches) -> Result<Option<u16>, Error> {
    let options = args.each("opt", |text| match text.split_once('=') {
        // docker's name for it, too.
        Some(("mtu" | "com.docker.network.driver.mtu", number)) => {
            let mtu = number.parse().ok().filter(|mtu| *mtu >= network::MIN_MTU);
            mtu.ok_or_else(|| Invalid::new(format!("an MTU is a number from {} to 65535", network::MIN_MTU)))
        }
        _ => {
            let key = text.split_once('=').map_or(text, |(key, _)| key);
            Err(Invalid::unknown("option of a network", key, &["mtu"]))
        }
    })?;
    Ok(options.last().copied())
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let new = options(args)?;
    let network = Networks::new(&context.paths()?).create(&new, &routes())?;
    output::print(&format!("{}\n", network.id))?;
    Ok(0)
}
