//! `coracle completion`.

use super::args::{Given, operands};
use super::parse::Invalid;
use super::{Action, Context, Entry, Error};
use crate::output;
use clap::{ArgMatches, Command};
use clap_complete::Shell;

/// `coracle completion`.
pub const ENTRY: Entry = Entry {
    name: "completion",
    aliases: &[],
    about: "Print the completion script of a shell",
    usage: "bash|zsh|fish",
    action: Action::Leaf { define, unsupported: &["description", "file", "no-desc"], run },
};

fn define(command: Command) -> Command {
    command.arg(operands("SHELL", 1))
}

/// The completion script of `shell`.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::full(), "coracle", &mut text);
    text
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let shell = args.operands().concat();
    let shell = match shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            let invalid = Invalid::unknown("shell", other, &["bash", "zsh", "fish"]);
            return Err(Error::usage(invalid.why, invalid.fix.unwrap_or_default()).into());
        }
    };
    output::print(&String::from_utf8_lossy(&script(shell)))?;
    Ok(0)
}
