//! `coracle start`.

use super::args::{Given, operands, option, switch};
use super::engine::{self, Engine};
use super::selection::{Selection, filters, latest};
use super::{Action, Context, Entry, Error, create_flags};
use crate::container::record::Status;
use crate::container::session::Interaction;
use crate::container::{self, lifecycle};
use clap::{ArgMatches, Command};

/// `coracle start`.
pub const ENTRY: Entry = Entry {
    name: "start",
    aliases: &[],
    about: "Start stopped containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["checkpoint", "checkpoint-dir"], run },
};

/// What `start` is asked for.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The containers.
    pub containers: Selection,
    /// `-a`: show its output, pass signals on, take its exit code.
    pub attach: bool,
    /// `-i`: pass standard input on too.
    pub interactive: bool,
    /// `--sig-proxy`.
    pub sig_proxy: bool,
    /// `--detach-keys`, if given: else the container's own.
    pub detach_keys: Option<Vec<u8>>,
}

fn define(command: Command) -> Command {
    command.args([
        switch("attach").short('a').help("Show the container's output and take its exit code"),
        switch("interactive").short('i').help("Pass standard input on to the container"),
        switch("sig-proxy").help("Pass signals on to the container (default true)"),
        option("detach-keys", "KEYS").help("Keys that detach from the container (default ctrl-p,ctrl-q)"),
        switch("all").help("Start all containers that do not run"),
        latest(),
        filters().short('f'),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<StartOptions, Error> {
    let options = StartOptions {
        containers: Selection::of(args, "container")?,
        attach: args.on("attach") || args.on("interactive"),
        interactive: args.on("interactive"),
        sig_proxy: args.maybe("sig-proxy").unwrap_or(true),
        detach_keys: create_flags::detach_keys_given(args)?,
    };
    if options.attach && (options.containers.is_sweeping() || options.containers.names.len() > 1) {
        return Err(Error::usage(
            "only one container can be attached to",
            "name one, or leave out -a and -i",
        ));
    }
    Ok(options)
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    if options.attach {
        let container = engine.one(&options.containers)?;
        let record = container.record.clone();
        let window = engine::window().filter(|_| record.spec.process.terminal);
        let client = lifecycle::start(&engine.paths, &engine.identity, &container, window)?;
        let how = Interaction {
            stdin: options.interactive && record.interactive,
            terminal: record.spec.process.terminal,
            detach_keys: options.detach_keys.unwrap_or(record.detach_keys),
            proxy_signals: options.sig_proxy,
            ..Interaction::default()
        };
        return engine::interact(client, &how);
    }
    let errors = engine.each(&options.containers, |container| {
        if let (Status::Paused { .. }, false) = (&container.status, options.containers.is_sweeping()) {
            return Err(container::Error::State {
                name: container.record.name.clone(),
                state: "paused",
                fix: "resume it with 'coracle unpause'",
            }
            .into());
        }
        if container.status.is_running() {
            return Ok(!options.containers.is_sweeping());
        }
        let window = engine::window().filter(|_| container.record.spec.process.terminal);
        let mut client = lifecycle::start(&engine.paths, &engine.identity, container, window)?;
        engine::started(&mut client)?;
        Ok(true)
    })?;
    Ok(engine::report_all(&errors))
}
