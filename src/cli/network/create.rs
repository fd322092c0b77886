//! `coracle network create`.

use crate::cli::args::{Given, list, operands, option, switch};
use crate::cli::parse::{self, Invalid};
use crate::cli::{Action, Context, Entry, Error};
use crate::network::{self, Datapath, Networks, NewNetwork, Routes, Subnet};
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
            "ignore",
            "ingress",
            "interface-name",
            "ipam-driver",
            "ipam-opt",
            "ipv4",
            "route",
            "scope",
        ],
        run,
    },
};

fn define(command: Command) -> Command {
    command.args([
        option("driver", "DRIVER").short('d').help("The driver: bridge (default)"),
        list("subnet", "SUBNET")
            .help("Its addresses, as in 10.1.2.0/24 or fd00:1::/64 (default one that is free)"),
        list("gateway", "ADDRESS").help("The network's own address (default the first)"),
        option("ip-range", "SUBNET").help("Give containers IPv4 addresses of this part of it"),
        switch("ipv6").help("Give it IPv6 addresses, too"),
        switch("internal").help("Leave no way out, and none in but from its own containers"),
        switch("disable-dns").help("Do not find containers by their names"),
        list("dns", "ADDRESS")
            .help("Ask this name server for names that are not of the network, not the host's"),
        list("opt", "KEY=VALUE").short('o').help(
            "mtu=NUMBER (default the host's), datapath=auto|kernel|user (who carries packets, default auto)",
        ),
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
    let (subnet, subnet6) = of_families(
        args,
        "subnet",
        |text| text.parse().map_err(Invalid::new),
        |text| text.parse().map_err(Invalid::new),
    )?;
    let (gateway, gateway6) = of_families(args, "gateway", parse::ipv4, parse::ipv6)?;
    let (mtu, datapath) = opts(args)?;
    Ok(NewNetwork {
        name: args.operands().concat(),
        subnet,
        gateway,
        subnet6,
        gateway6,
        ipv6: args.on("ipv6"),
        range: args.filled("ip-range", |text| Subnet::parse_range(text).map_err(Invalid::new))?,
        mtu,
        datapath,
        internal: args.on("internal"),
        nameless: args.on("disable-dns"),
        dns: args.each("dns", |text| {
            text.parse().map_err(|_| Invalid::new(format!("'{text}' is not an address")))
        })?,
        labels: args.each("label", parse::label)?.into_iter().collect(),
    })
}

/// The values of a flag for each family, which may be given once; an empty one is not given.
fn of_families<A, B>(
    args: &ArgMatches,
    flag: &'static str,
    v4: impl Fn(&str) -> Result<A, Invalid>,
    v6: impl Fn(&str) -> Result<B, Invalid>,
) -> Result<(Option<A>, Option<B>), Error> {
    let (mut one, mut other) = (None, None);
    let once = |text: &str| {
        let kind = if text.contains(':') { "IPv6" } else { "IPv4" };
        Error::value(flag, text)(Invalid::new(format!("a network has one {kind} {flag} only")))
    };
    for text in args.texts(flag).into_iter().filter(|text| !text.is_empty()) {
        let is_second = match text.contains(':') {
            true => other.replace(v6(text).map_err(Error::value(flag, text))?).is_some(),
            false => one.replace(v4(text).map_err(Error::value(flag, text))?).is_some(),
        };
        if is_second {
            return Err(once(text));
        }
    }
    Ok((one, other))
}

/// What `--opt` may say.
enum Opt {
    Mtu(u16),
    Datapath(Datapath),
}

fn opt(text: &str) -> Result<Opt, Invalid> {
    match text.split_once('=') {
        // docker's name for it, too.
        Some(("mtu" | "com.docker.network.driver.mtu", number)) => {
            let mtu = number.parse().ok().filter(|mtu| *mtu >= network::MIN_MTU);
            let wrong = || Invalid::new(format!("an MTU is a number from {} to 65535", network::MIN_MTU));
            mtu.map(Opt::Mtu).ok_or_else(wrong)
        }
        Some(("datapath", way)) => way
            .parse()
            .map(Opt::Datapath)
            .map_err(|()| Invalid::unknown("datapath", way, &["auto", "kernel", "user"])),
        _ => {
            let key = text.split_once('=').map_or(text, |(key, _)| key);
            Err(Invalid::unknown("option of a network", key, &["mtu", "datapath"]))
        }
    }
}

/// The largest packet of the network, in bytes, and how packets are carried.
fn opts(args: &ArgMatches) -> Result<(Option<u16>, Datapath), Error> {
    let (mut mtu, mut datapath) = (None, Datapath::Auto);
    for opt in args.each("opt", opt)? {
        match opt {
            Opt::Mtu(bytes) => mtu = Some(bytes),
            Opt::Datapath(way) => datapath = way,
        }
    }
    Ok((mtu, datapath))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let new = options(args)?;
    let network = Networks::new(&context.paths()?).create(&new, &Routes::of_host())?;
    output::print(&format!("{}\n", network.id))?;
    Ok(0)
}
