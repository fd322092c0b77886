//! `coracle port`.

use super::args::{Given, operands};
use super::engine::{self, Engine};
use super::network_view::published;
use super::selection::{Selection, all, latest};
use super::{Action, Context, Entry, Error, parse};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle port`.
pub const ENTRY: Entry = Entry {
    name: "port",
    aliases: &[],
    about: "Show where a container's ports are published",
    usage: "[OPTIONS] CONTAINER [PORT[/PROTOCOL]]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `port` is asked for.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// The containers.
    pub containers: Selection,
    /// The port in the container, and its protocol.
    pub port: Option<(u16, String)>,
}

fn define(command: Command) -> Command {
    command.args([all().help("Show the ports of all containers"), latest(), operands("CONTAINER", 0..=2)])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<PortOptions, Error> {
    let mut names = args.operands();
    let is_swept = args.on("all") || args.on("latest");
    let port = if names.len() > usize::from(!is_swept) { names.pop() } else { None };
    let port = port.map(|text| port_of(&text).map_err(Error::value("port", &text))).transpose()?;
    Ok(PortOptions { containers: Selection::named(args, "container", names)?, port })
}

/// `80`, `80/udp`.
fn port_of(text: &str) -> Result<(u16, String), parse::Invalid> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = number.parse().ok().filter(|n| *n > 0);
    match (number, protocol) {
        (Some(number), "tcp" | "udp" | "sctp") => Ok((number, protocol.to_owned())),
        _ => Err(parse::Invalid::new("expected a port such as 80 or 53/udp")),
    }
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let errors = engine.each(&options.containers, |container| {
        let is_sweeping = options.containers.is_sweeping();
        let mut shown = String::new();
        for (inside, outside) in published(container) {
            match &options.port {
                Some((number, protocol)) if inside != format!("{number}/{protocol}") => {}
                Some(_) => shown.push_str(&format!("{outside}\n")),
                None if is_sweeping => {
                    shown.push_str(&format!("{}\t{inside} -> {outside}\n", container.record.id.short()));
                }
                None => shown.push_str(&format!("{inside} -> {outside}\n")),
            }
        }
        match &options.port {
            Some((number, protocol)) if shown.is_empty() && !is_sweeping => Err(Error::usage(
                format!("no public port '{number}/{protocol}' published for {}", container.record.name),
                "ports are published when a container is made, with -p",
            )
            .into()),
            _ => output::print(&shown).map(|()| false).map_err(Into::into),
        }
    })?;
    // docker's code.
    Ok(engine::report_all(&errors).min(1))
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn a_port_follows_the_container_or_what_stands_for_it() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        assert_eq!(of(&["c"]).unwrap().port, None);
        assert_eq!(of(&["c", "80"]).unwrap().port, Some((80, "tcp".into())));
        assert_eq!(of(&["-l", "53/udp"]).unwrap().port, Some((53, "udp".into())));
        for words in [&[][..], &["c", "x"], &["c", "80/icmp"], &["-a", "c", "80"], &["c", "0"]] {
            assert!(of(words).is_err(), "{words:?}");
        }
    }
}
