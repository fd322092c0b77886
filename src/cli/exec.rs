//! `coracle exec`.

use super::args::{self, Given, list, option, switch};
use super::engine::{self, Engine};
use super::parse::{self, Host};
use super::selection::{Selection, cidfile, latest};
use super::{Action, Context, Entry, Error, create_flags};
use crate::container::exec;
use crate::container::request::ExecRequest;
use crate::container::session::Interaction;
use clap::{ArgMatches, Command};

/// `coracle exec`.
pub const ENTRY: Entry = Entry {
    name: "exec",
    aliases: &[],
    about: "Run a command in a running container",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `exec` is asked for.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// The container.
    pub container: Selection,
    /// The process.
    pub request: ExecRequest,
    /// `-d`: don't wait for it.
    pub detach: bool,
}

fn define(command: Command) -> Command {
    command
        .args([
            switch("detach").short('d').help("Don't wait for the command"),
            switch("interactive").short('i').help("Keep standard input open"),
            switch("tty").short('t').help("Allocate a terminal"),
            list("env", "NAME[=VALUE]").short('e').help("Set a variable; without a value, pass it on"),
            list("env-file", "FILE").help("Read variables from FILE"),
            option("user", "USER[:GROUP]").short('u').help("User in the container"),
            option("workdir", "DIR").short('w').help("Working directory in the container"),
            switch("privileged").help("Give all the capabilities that the user namespace has"),
            option("detach-keys", "KEYS").help("Keys that detach from the command (default ctrl-p,ctrl-q)"),
            option("preserve-fds", "COUNT").help("Hand on so many open descriptors, from number 3 on"),
            list("preserve-fd", "N[,N...]").help("Hand on these open descriptors"),
            latest(),
            cidfile(),
        ])
        .arg(args::command_line("CONTAINER"))
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<ExecOptions, Error> {
    let mut command = args.operands();
    let is_named = !args.on("latest") && args.texts("cidfile").is_empty();
    let names = if is_named { vec![command.remove(0)] } else { Vec::new() };
    let container = Selection::named(args, "container", names)?;
    if command.is_empty() {
        return Err(Error::usage("no command to run", format!("usage: coracle exec {}", ENTRY.usage)));
    }
    let request = ExecRequest {
        command,
        env: create_flags::env(args, &Host::here())?,
        workdir: args.filled("workdir", parse::workdir)?,
        user: args.filled("user", parse::user)?,
        privileged: args.on("privileged"),
        tty: args.on("tty"),
        interactive: args.on("interactive"),
        detach_keys: create_flags::detach_keys(args)?,
        preserve_fds: engine::preserve_fds(args)?,
    };
    Ok(ExecOptions { container, request, detach: args.on("detach") })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let request = &options.request;
    let engine = Engine::open_keeping(context, &request.preserve_fds)?;
    let container = engine.one(&options.container)?;
    let window = engine::window().filter(|_| request.tty);
    let mut client = exec::exec(&engine.paths, &engine.identity, &container, request, window)?;
    if options.detach {
        engine::started(&mut client)?;
        return Ok(0);
    }
    let how = Interaction {
        stdin: request.interactive,
        terminal: request.tty,
        detach_keys: request.detach_keys.clone(),
        proxy_signals: true,
        ..Interaction::default()
    };
    engine::interact(client, &how)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn the_command_is_all_that_follows_the_container() {
        let args = parse_for_test(&ENTRY, &["-it", "-e", "A=1", "web", "ls", "-d", "--", "-u"]).unwrap();
        let options = options(&args).unwrap();
        assert_eq!(options.container.names, ["web"]);
        assert_eq!(options.request.command, ["ls", "-d", "--", "-u"]);
        assert!(options.request.tty && options.request.interactive && !options.detach);
        assert_eq!(options.request.env, [("A".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn a_container_alone_is_not_enough() {
        let args = parse_for_test(&ENTRY, &["web"]).unwrap();
        assert_eq!(options(&args).unwrap_err().to_string(), "no command to run");
    }
}
