//! `coracle logs`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::{Action, Context, Entry, Error, parse};
use crate::container::logs::{self, LogQuery};
use crate::container::{lifecycle, store};
use anyhow::Context as _;
use clap::{ArgMatches, Command};
use std::time::SystemTime;

/// `coracle logs`.
pub const ENTRY: Entry = Entry {
    name: "logs",
    aliases: &[],
    about: "Show a container's output",
    usage: "[OPTIONS] CONTAINER",
    action: Action::Leaf { define, unsupported: &["color", "details", "latest,l", "names"], run },
};

/// What `logs` is asked for.
#[derive(Clone, Debug)]
pub struct LogsOptions {
    /// The container, as typed.
    pub container: String,
    /// `-f`: go on until the container ends.
    pub follow: bool,
    /// `-n`: only so many lines from the end.
    pub tail: Option<usize>,
    /// `--since`.
    pub since: Option<SystemTime>,
    /// `--until`.
    pub until: Option<SystemTime>,
    /// `-t`: each line with its time.
    pub timestamps: bool,
}

fn define(command: Command) -> Command {
    command.args([
        switch("follow").short('f').help("Go on with what is still to come"),
        option("tail", "LINES").short('n').help("Show only so many lines from the end (default all)"),
        option("since", "TIME").help("Show what is newer than a time in UTC or a span, as in 10m"),
        option("until", "TIME").help("Show what is older than a time in UTC or a span, as in 10m"),
        switch("timestamps").short('t').help("Show each line's time"),
        operands("CONTAINER", 1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<LogsOptions, Error> {
    let now = SystemTime::now();
    // docker: "all", and any negative number, is all.
    let tail = |text: &str| match text {
        "all" => Ok(None),
        _ if text.strip_prefix('-').is_some_and(|n| n.parse::<u64>().is_ok()) => Ok(None),
        _ => parse::number(text).map(Some),
    };
    Ok(LogsOptions {
        container: args.operands().concat(),
        follow: args.on("follow"),
        tail: args.parsed("tail", tail)?.flatten(),
        since: args.parsed("since", |text| parse::moment(text, now))?,
        until: args.parsed("until", |text| parse::moment(text, now))?,
        timestamps: args.on("timestamps"),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let container = engine.find(&options.container)?;
    let query = LogQuery {
        follow: options.follow,
        tail: options.tail,
        since: options.since.map(Into::into),
        until: options.until.map(Into::into),
        timestamps: options.timestamps,
    };
    let mut ended = || {
        !store::load(&engine.paths, &container.record.id)
            .is_ok_and(|found| found.is_some_and(|container| container.status.is_running()))
    };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    match logs::print(lifecycle::log_dir(&container), &query, &mut out, &mut err, &mut ended) {
        // Whoever read our output has gone.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        other => other.map(|()| 0).context("cannot read the container's log"),
    }
}
