//! `coracle version`.

use super::args::{Given, option};
use super::{Action, Context, Entry};
use crate::output::{self, template};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

/// `coracle version`.
pub const ENTRY: Entry = Entry {
    name: "version",
    aliases: &[],
    about: "Show the version",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(option("format", "FORMAT").short('f').help("Show it by a template, or as 'json'"))
}

/// The processor's architecture, as OCI names it (GOARCH).
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Scripts ask docker's client or its server: there is one program here, which is both.
fn fields() -> Value {
    let one = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "OsArch": format!("{}/{}", std::env::consts::OS, architecture()),
    });
    json!({ "Client": one, "Server": one })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let text = match args.text("format").filter(|format| !format.is_empty()) {
        Some(format) => template::format(Some(format), &fields())?,
        None => format!(
            "coracle\n Version:  {}\n OS/Arch:  {}/{}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            architecture()
        ),
    };
    output::print(&format!("{text}\n"))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_version_where_docker_has_it() {
        for format in ["{{.Client.Version}}", "{{.Server.Version}}"] {
            assert_eq!(template::format(Some(format), &fields()).unwrap(), env!("CARGO_PKG_VERSION"));
        }
    }
}
