//! `coracle logs`.

use super::args::{Given, operands, option, switch};
use super::engine::{self, Engine};
use super::selection::{Selection, latest};
use super::{Action, Context, Entry, Error, parse};
use crate::container::lifecycle;
use crate::container::logs::{self, LogQuery};
use crate::container::store::{self, Container};
use crate::state::Paths;
use anyhow::Context as _;
use clap::{ArgMatches, Command};
use std::io::{ErrorKind, Write};
use std::time::SystemTime;

/// `coracle logs`.
pub const ENTRY: Entry = Entry {
    name: "logs",
    aliases: &[],
    about: "Show the output of containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["details"], run },
};

/// What `logs` is asked for.
#[derive(Clone, Debug)]
pub struct LogsOptions {
    /// The containers.
    pub containers: Selection,
    /// `--names`: of several, each line begins with the container's name, not its id.
    pub names: bool,
    /// `--color`: and that in a colour of its own.
    pub color: bool,
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
        switch("names").help("With several containers: begin each line with the name, not the id"),
        switch("color").help("With several containers: show each in a colour of its own"),
        latest(),
        operands("CONTAINER", 0..),
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
        containers: Selection::of(args, "container")?,
        names: args.on("names"),
        color: args.on("color"),
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
    if options.containers.names.len() < 2 {
        let container = engine.one(&options.containers)?;
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        show(&engine.paths, &container, &options, &mut out, &mut err)?;
        return Ok(0);
    }
    let (mut containers, mut errors) = (Vec::new(), Vec::new());
    for name in &options.containers.names {
        match engine.find(name) {
            Ok(container) => containers.push(container),
            Err(error) => errors.push(error.into()),
        }
    }
    show_all(&engine.paths, &containers, &options)?;
    Ok(engine::report_all(&errors))
}

/// Shows the log of one container.
fn show(
    paths: &Paths,
    container: &Container,
    options: &LogsOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<()> {
    let query = LogQuery {
        follow: options.follow,
        tail: options.tail,
        since: options.since.map(Into::into),
        until: options.until.map(Into::into),
        timestamps: options.timestamps,
    };
    let mut ended = || {
        !store::load(paths, &container.record.id)
            .is_ok_and(|found| found.is_some_and(|container| container.status.is_running()))
    };
    match logs::print(lifecycle::log_dir(container), &query, out, err, &mut ended) {
        // Whoever read our output has gone.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot read the container's log"),
    }
}

/// Shows the logs of several containers, at the same time where they are followed.
fn show_all(paths: &Paths, containers: &[Container], options: &LogsOptions) -> anyhow::Result<()> {
    let one = |(number, container): (usize, &Container)| {
        let prefix = prefix(container, number, options);
        let mut out = Prefixed::new(&prefix, std::io::stdout());
        let mut err = Prefixed::new(&prefix, std::io::stderr());
        show(paths, container, options, &mut out, &mut err)?;
        out.finish().and_then(|()| err.finish()).or_else(|e| match e.kind() {
            ErrorKind::BrokenPipe => Ok(()),
            _ => Err(e.into()),
        })
    };
    if !options.follow {
        return containers.iter().enumerate().try_for_each(one);
    }
    std::thread::scope(|scope| {
        let one = &one;
        let all: Vec<_> = containers.iter().enumerate().map(|item| scope.spawn(move || one(item))).collect();
        // A thread that panicked has said so.
        all.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}

/// What the lines of one of several containers begin with: as podman's, a short id or a name, and a colour by its turn.
fn prefix(container: &Container, number: usize, options: &LogsOptions) -> String {
    let name = if options.names { &container.record.name } else { container.record.id.short() };
    match options.color {
        // SGR 31 to 36 are the colours but black and white.
        true => format!("\x1b[{}m{name}\x1b[0m ", 31 + number % 6),
        false => format!("{name} "),
    }
}

/// Begins each line with a prefix and writes whole lines only, so that those of several containers do not mix.
struct Prefixed<'a, W> {
    prefix: &'a str,
    line: Vec<u8>,
    to: W,
}

impl<'a, W: Write> Prefixed<'a, W> {
    fn new(prefix: &'a str, to: W) -> Self {
        Self { prefix, line: Vec::new(), to }
    }

    /// Writes a last line without its end.
    fn finish(mut self) -> std::io::Result<()> {
        if !self.line.is_empty() {
            self.write_all(b"\n")?;
        }
        self.flush()
    }
}

impl<W: Write> Write for Prefixed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            if self.line.is_empty() {
                self.line.extend_from_slice(self.prefix.as_bytes());
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.to.write_all(&self.line)?;
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_containers_begin_with_whose_they_are() {
        let mut out = Vec::new();
        let mut prefixed = Prefixed::new("web ", &mut out);
        for part in ["a", "b\nc\n\n", "d"] {
            prefixed.write_all(part.as_bytes()).unwrap();
        }
        prefixed.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "web ab\nweb c\nweb \nweb d\n");
    }
}
