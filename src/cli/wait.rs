//! `coracle wait`.

use super::args::{Given, list, operands, option, switch};
use super::engine::{self, Engine};
use super::parse::{self, Invalid};
use super::selection::{Selection, latest};
use super::{Action, Context, Entry, Error};
use crate::container::record::Status;
use crate::container::store::{self, Container};
use crate::container::{self, lifecycle};
use crate::output;
use clap::{ArgMatches, Command};
use std::time::Duration;

/// `coracle wait`.
pub const ENTRY: Entry = Entry {
    name: "wait",
    aliases: &[],
    about: "Wait until containers stop and print their exit codes",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["exit-first-match", "return-on-first"], run },
};

/// What `wait` is asked for.
#[derive(Clone, Debug)]
pub struct WaitOptions {
    /// The containers.
    pub containers: Selection,
    /// `--condition`: any of these.
    pub until: Vec<Condition>,
    /// `--interval`: the time between two looks, where nobody wakes us.
    pub interval: Duration,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// That it does not run any more.
    Stopped,
    /// That it is in this state, in docker's word.
    Is(&'static str),
    /// That it is gone.
    Removed,
}

fn define(command: Command) -> Command {
    command.args([
        list("condition", "STATE")
            .help("What to wait for: stopped (default), exited, created, running, paused or removing"),
        option("interval", "TIME")
            .short('i')
            .help("Time between two looks for other states than stopped (default 250ms)"),
        switch("ignore").help("A container that is not there is no error"),
        latest(),
        operands("CONTAINER", 0..),
    ])
}

fn condition(text: &str) -> Result<Condition, Invalid> {
    match text {
        "stopped" | "exited" => Ok(Condition::Stopped),
        "created" | "configured" | "initialized" => Ok(Condition::Is("created")),
        "running" => Ok(Condition::Is("running")),
        "paused" => Ok(Condition::Is("paused")),
        "removing" | "removed" => Ok(Condition::Removed),
        "healthy" | "unhealthy" => {
            Err(Invalid::new(format!("waiting until a container is {text} is not supported yet")))
        }
        _ => {
            let known = ["stopped", "exited", "created", "running", "paused", "removing"];
            Err(Invalid::unknown("condition", text, &known))
        }
    }
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<WaitOptions, Error> {
    let mut until = args.each("condition", condition)?;
    if until.is_empty() {
        until.push(Condition::Stopped);
    }
    let interval = args.parsed("interval", parse::interval)?.unwrap_or(Duration::from_millis(250));
    Ok(WaitOptions { containers: Selection::of(args, "container")?, until, interval })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let mut errors = Vec::new();
    for name in engine.names(&options.containers)? {
        match engine.find(&name).and_then(|container| wait(&engine, &container, &options)) {
            Ok(code) => output::print(&format!("{}\n", code.unwrap_or(-1)))?,
            Err(error) if options.containers.ignore_missing && lifecycle::is_missing(&error) => {
                output::print("-1\n")?;
            }
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(engine::report_all(&errors))
}

/// Waits; the exit code of a container that has one.
fn wait(
    engine: &Engine,
    container: &Container,
    options: &WaitOptions,
) -> Result<Option<i32>, container::Error> {
    if options.until == [Condition::Stopped] {
        // Its monitor tells, and at once.
        return lifecycle::wait(&engine.paths, container);
    }
    loop {
        let found = store::load(&engine.paths, &container.record.id)?;
        let status = found.as_ref().map(|found| &found.status);
        let code = match status {
            Some(Status::Exited { code, .. }) => Some(*code),
            _ => None,
        };
        let is_so = |condition: &Condition| match (condition, status) {
            (Condition::Removed, status) => status.is_none(),
            (Condition::Is(word), Some(status)) => status.word() == *word,
            (Condition::Stopped, Some(status)) => matches!(status, Status::Exited { .. }),
            (_, None) => false,
        };
        if options.until.iter().any(is_so) {
            return Ok(code);
        }
        if status.is_none() {
            return Err(container::Error::NotFound(container.record.name.clone()));
        }
        std::thread::sleep(options.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn states_are_podmans_and_several_can_be_waited_for() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        assert_eq!(of(&["c"]).unwrap().until, [Condition::Stopped]);
        let two = of(&["--condition", "running", "--condition=exited", "-i", "1s", "c"]).unwrap();
        assert_eq!(two.until, [Condition::Is("running"), Condition::Stopped]);
        assert_eq!(two.interval, Duration::from_secs(1));
        assert!(
            of(&["--condition", "rnning", "c"]).is_err() && of(&["--condition", "healthy", "c"]).is_err()
        );
    }
}
