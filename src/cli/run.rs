//! `coracle run`.

use super::args::{Given, list, option, switch};
use super::create_flags::{self, CreateOptions};
use super::engine::{self, Engine};
use super::parse::Invalid;
use super::{Action, Context, Entry, Error};
use crate::container::monitor;
use crate::container::session::Interaction;
use crate::kernel::process;
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
    /// `-a`: the streams that are connected; all if none is named.
    pub attach: Vec<Stream>,
    /// `--preserve-fds`, `--preserve-fd`: the descriptors that the command gets.
    pub preserve_fds: Vec<i32>,
    /// `--rmi`: the image goes too when the container has ended.
    pub rmi: bool,
    /// `--sig-proxy` (default true): signals that reach us go to the container.
    pub sig_proxy: bool,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Input.
    Stdin,
    /// Output.
    Stdout,
    /// Errors.
    Stderr,
}

fn stream(text: &str) -> Result<Stream, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err(Invalid::new("valid streams are stdin, stdout and stderr")),
    }
}

fn define(command: Command) -> Command {
    create_flags::define(
        command
            .arg(switch("detach").short('d').help("Run in the background and print the container's id"))
            .arg(list("attach", "STREAM").short('a').help("Connect only stdin, stdout or stderr"))
            .arg(option("preserve-fds", "N").help("Pass N descriptors from 3 on to the container"))
            .arg(list("preserve-fd", "N[,N...]").help("Pass these open descriptors to the container"))
            .arg(switch("rmi").help("Remove the image too when the container exits; implies --rm"))
            .arg(switch("sig-proxy").help("Pass signals on to the container (default true)")),
    )
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RunOptions, Error> {
    let mut options = RunOptions {
        create: create_flags::options(args)?,
        detach: args.on("detach"),
        attach: args.each("attach", stream)?,
        preserve_fds: engine::preserve_fds(args)?,
        rmi: args.on("rmi"),
        sig_proxy: args.maybe("sig-proxy").unwrap_or(true),
    };
    if options.detach && !options.attach.is_empty() {
        return Err(Error::usage(
            "conflicting options: --attach and --detach cannot be set together",
            "leave out -a or -d",
        ));
    }
    if options.detach && options.rmi {
        return Err(Error::usage(
            "--rmi waits for the end of the container, and --detach does not",
            "leave out -d, or remove the image with 'coracle rmi' later",
        ));
    }
    options.create.request.rm |= options.rmi;
    Ok(options)
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let preserved = process::preserved_fds(&options.preserve_fds)?;
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
        kept: created.kept,
        window: engine::window().filter(|_| tty),
        background: options.detach,
        preserved,
        extra: &[],
    })?;
    if options.detach {
        engine::started(&mut client)?;
        output::print(&format!("{id}\n"))?;
        return Ok(0);
    }
    let shows = |stream| options.attach.is_empty() || options.attach.contains(&stream);
    let how = Interaction {
        stdin: interactive && shows(Stream::Stdin),
        terminal: tty,
        detach_keys,
        proxy_signals: options.sig_proxy,
        hide_stdout: !shows(Stream::Stdout),
        hide_stderr: !shows(Stream::Stderr),
    };
    let code = engine::interact(client, &how)?;
    if options.rmi {
        super::rmi::unless_used(&engine, &options.create.request.image)?;
    }
    Ok(code)
}
