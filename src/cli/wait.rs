//! `coracle wait`.

use super::args::{Given, operands, option, switch};
use super::engine::{self, Engine};
use super::parse::{self, Invalid};
use super::{Action, Context, Entry, Error};
use crate::container::lifecycle;
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle wait`.
pub const ENTRY: Entry = Entry {
    name: "wait",
    aliases: &[],
    about: "Wait until containers stop and print their exit codes",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["exit-first-match", "latest,l", "return-on-first"], run },
};

/// What `wait` is asked for.
#[derive(Clone, Debug)]
pub struct WaitOptions {
    /// The containers, as typed.
    pub names: Vec<String>,
    /// `--ignore`: a name that there is not is no error, its code -1.
    pub ignore_missing: bool,
}

fn define(command: Command) -> Command {
    command.args([
        option("condition", "STATE").help("What to wait for: stopped or exited, which are one here"),
        option("interval", "TIME")
            .short('i')
            .help("podman's time between two looks; coracle is woken and never later than that"),
        switch("ignore").help("A container that is not there is no error"),
        operands("CONTAINER", 1..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<WaitOptions, Error> {
    args.parsed("condition", |text| match text {
        "stopped" | "exited" => Ok(()),
        "running" | "created" | "configured" | "paused" | "removing" | "healthy" | "unhealthy" => {
            Err(Invalid::new(format!("waiting until a container is {text} is not supported yet")))
        }
        _ => Err(Invalid::unknown("condition", text, &["stopped", "exited"])),
    })?;
    args.parsed("interval", parse::interval)?;
    Ok(WaitOptions { names: args.operands(), ignore_missing: args.on("ignore") })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let mut errors = Vec::new();
    for name in &options.names {
        match engine.find(name).and_then(|container| lifecycle::wait(&engine.paths, &container)) {
            Ok(code) => output::print(&format!("{}\n", code.unwrap_or(-1)))?,
            Err(error) if options.ignore_missing && lifecycle::is_missing(&error) => output::print("-1\n")?,
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(engine::report_all(&errors))
}
