//! `coracle run`.

use super::args::{Given, switch};
use super::create_flags::{self, CreateOptions};
use super::engine::{self, Engine};
use super::{Action, Context, Entry, Error};
use crate::container::monitor;
use crate::container::session::Interaction;
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle run`.
pub const ENTRY: Entry = Entry {
    name: "run",
    aliases: &[],
    about: "Create a container and run a command in it",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    action: Action::Leaf { define, unsupported: create_flags::UNSUPPORTED, run },
};

/// What `run` is asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The container.
    pub create: CreateOptions,
    /// `-d`: in the background, its id printed.
    pub detach: bool,
    /// `--sig-proxy` (default true): signals that reach us go to the container.
    pub sig_proxy: bool,
}

fn define(command: Command) -> Command {
    create_flags::define(
        command
            .arg(switch("detach").short('d').help("Run in the background and print the container's id"))
            .arg(switch("sig-proxy").help("Pass signals on to the container (default true)")),
    )
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RunOptions, Error> {
    Ok(RunOptions {
        create: create_flags::options(args)?,
        detach: args.on("detach"),
        sig_proxy: args.maybe("sig-proxy").unwrap_or(true),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let created = super::create::make(&engine, &options.create)?;
    let record = &created.record;
    let (id, detach_keys) = (record.id.clone(), record.detach_keys.clone());
    let (tty, interactive) = (record.spec.process.terminal, record.interactive);
    let mut client = monitor::start(monitor::Start {
        paths: &engine.paths,
        identity: &engine.identity,
        record,
        places: &created.places,
        lock: created.lock,
        window: engine::window().filter(|_| tty),
        background: options.detach,
    })?;
    if options.detach {
        engine::started(&mut client)?;
        output::print(&format!("{id}\n"))?;
        return Ok(0);
    }
    let how =
        Interaction { stdin: interactive, terminal: tty, detach_keys, proxy_signals: options.sig_proxy };
    engine::interact(client, &how)
}
