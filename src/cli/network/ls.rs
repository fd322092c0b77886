//! `coracle network ls`.

use super::used_names;
use crate::cli::args::{Given, list, option, switch};
use crate::cli::{Action, Context, Entry, Error, ListOptions, parse, rows};
use crate::network::{Listed, Network, Networks};
use crate::output;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `coracle network ls`.
pub const ENTRY: Entry = Entry {
    name: "ls",
    aliases: &["list"],
    about: "List networks",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

const FILTERS: [&str; 6] = ["name", "id", "label", "driver", "scope", "dangling"];

fn define(command: Command) -> Command {
    command.args([
        list("filter", "KEY=VALUE")
            .short('f')
            .help("Show only: name=, id=, label=KEY[=VALUE], driver=, scope=, dangling=BOOL"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("no-trunc").help("Show whole ids"),
        switch("quiet").short('q').help("Show ids only"),
        switch("noheading").short('n').help("Leave out the column heads"),
    ])
}

fn filters(args: &ArgMatches) -> Result<Vec<(String, String)>, Error> {
    args.each("filter", |text| {
        let (key, value) = parse::filter(text, &FILTERS)?;
        if key == "dangling" {
            parse::boolean(&value)?;
        }
        Ok((key, value))
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let (filters, show) = (filters(args)?, ListOptions::of(args));
    let paths = context.paths()?;
    let (mut networks, mut broken) = (vec![Network::default_one()], Vec::new());
    for listed in Networks::new(&paths).list()? {
        match listed {
            Listed::Network(network) => networks.push(*network),
            Listed::Broken { name, error } => broken.push((name, error)),
        }
    }
    // Who uses what is only asked for where it matters.
    let used = match filters.iter().any(|(key, _)| key == "dangling") {
        true => used_names(&paths)?,
        false => BTreeSet::new(),
    };
    let mut shown = Vec::new();
    for network in &networks {
        let mut passes = true;
        for (key, value) in &filters {
            passes &= match key.as_str() {
                "name" => network.name.contains(value.as_str()),
                "id" => network.id.starts_with(value.as_str()),
                "driver" => value == "bridge",
                "scope" => value == "local",
                "dangling" => {
                    let unused = network.name != crate::network::DEFAULT && !used.contains(&network.name);
                    parse::boolean(value).is_ok_and(|wanted| wanted == unused)
                }
                // label
                _ => parse::has_label(&network.labels, value),
            };
        }
        if passes {
            shown.push(row(network, show.no_trunc));
        }
    }
    output::print(&rows::NETWORKS.render(&shown, show.style())?)?;
    for (name, error) in broken {
        output::warn(&format!(
            "network {name} cannot be read: {error}; 'coracle network rm {name}' removes it"
        ));
    }
    Ok(0)
}

fn row(network: &Network, whole: bool) -> Value {
    let id = if whole { &network.id } else { rows::shorten_id(&network.id) };
    let labels: Vec<_> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": id,
        "Name": network.name,
        "Driver": "bridge",
        "Scope": "local",
        "IPv4": "true",
        "IPv6": "false",
        "Internal": network.internal.to_string(),
        "CreatedAt": network.created.to_string(),
        "Labels": labels.join(","),
    })
}
