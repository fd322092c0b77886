//! `coracle network flows`.

use crate::cli::args::{Given, operands, option, switch};
use crate::cli::{Action, Context, Entry, ListOptions, rows};
use crate::network::{self, DEFAULT, Flow, Networks, Transport};
use crate::output::{self, human};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

/// `coracle network flows`.
pub const ENTRY: Entry = Entry {
    name: "flows",
    aliases: &[],
    about: "Show the connections that pass through a network now",
    usage: "[OPTIONS] [NETWORK]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.args([
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        switch("json").help("The same as --format json"),
        switch("noheading").short('n').help("Leave out the column heads"),
        operands("NETWORK", 0..=1),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let mut show = ListOptions::of(args);
    if args.on("json") {
        show.format = Some("json".into());
    }
    let paths = context.paths()?;
    let operands = args.operands();
    let network = Networks::new(&paths).find(operands.first().map_or(DEFAULT, String::as_str))?;
    let flows: Vec<_> = network::flows(&paths, &network)?.iter().map(row).collect();
    output::print(&rows::FLOWS.render(&flows, show.style())?)?;
    Ok(0)
}

fn row(flow: &Flow) -> Value {
    json!({
        "Protocol": match flow.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        },
        "Direction": if flow.inwards { "in" } else { "out" },
        "Container": flow.container.to_string(),
        "Remote": flow.remote.to_string(),
        "State": flow.state,
        "Sent": human::size(flow.sent),
        "Received": human::size(flow.received),
        "SentBytes": flow.sent,
        "ReceivedBytes": flow.received,
        "RTT": flow.round_trip.map_or_else(String::new, |us| format!("{:.1}ms", f64::from(us) / 1000.0)),
        "RTTMicroseconds": flow.round_trip,
        "Retransmits": flow.retransmits,
    })
}
