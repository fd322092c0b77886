//! The flags of `build` about the containers of RUN. Those that `run` has too are defined there.

use super::args::{Given, list, switch};
use super::parse::{self, Invalid};
use super::{Error, create_flags, limit_flags};
use crate::build::{RunOptions, SecretSource};
use crate::container::request::{CreateRequest, NetworkMode};
use clap::{Arg, ArgMatches, Command};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The flags of `run` that `build` has.
const OF_RUN: [&str; 16] = [
    "add-host",
    "cap-add",
    "cap-drop",
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "dns",
    "dns-option",
    "dns-search",
    "memory",
    "memory-swap",
    "network",
    "shm-size",
    "ulimit",
];

/// Adds the flags.
pub(super) fn define(to: Command) -> Command {
    let of_run = create_flags::define(Command::new("run"));
    let shared = of_run.get_arguments().filter(|arg| OF_RUN.contains(&arg.get_id().as_str()));
    let shared: Vec<Arg> = shared.cloned().collect();
    to.next_help_heading("Steps").args(shared).args([
        list("allow", "ENTITLEMENT").help("Let RUN use what it may not by itself: network.host"),
        list("secret", "id=ID[,src=FILE|env=NAME]").help("A secret for RUN --mount=type=secret"),
        switch("shell-on-failure").help("Open a shell in the state in which a failed RUN has left its files"),
        list("ssh", "default|ID[=SOCKET]")
            .help("An SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)"),
    ])
}

/// What the flags ask for.
pub(super) fn options(args: &ArgMatches) -> Result<RunOptions, Error> {
    let network = create_flags::network(args)?;
    if let NetworkMode::Container(_) = network {
        return Err(Error::Unsupported { what: "build --network container:NAME".into() });
    }
    let (dns, no_resolv_conf) = create_flags::dns(args)?;
    let mut container = CreateRequest {
        network,
        cap_add: args.each("cap-add", parse::capabilities)?.concat(),
        cap_drop: args.each("cap-drop", parse::capabilities)?.concat(),
        rlimits: create_flags::rlimits(args)?,
        shm_size: args.filled("shm-size", parse::bytes)?,
        add_hosts: args.each("add-host", parse::add_host)?,
        dns,
        limits: limit_flags::limits(args)?,
        ..CreateRequest::default()
    };
    container.settings.files.no_resolv_conf = no_resolv_conf;
    Ok(RunOptions {
        container,
        host_network: !args.each("allow", entitlement)?.is_empty(),
        secrets: args.each("secret", secret)?.into_iter().collect(),
        agents: args.each("ssh", agent)?.into_iter().collect(),
        shell_on_failure: args.on("shell-on-failure"),
    })
}

fn entitlement(text: &str) -> Result<(), Invalid> {
    match text {
        "network.host" => Ok(()),
        "security.insecure" => Err(Invalid::new("steps run in the sandbox only")),
        other => Err(Invalid::unknown("entitlement", other, &["network.host"])),
    }
}

/// `--secret`, as docker reads it.
fn secret(text: &str) -> Result<(String, SecretSource), Invalid> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Invalid::new(format!("invalid field '{field}' must be a key=value pair")));
        };
        match key.to_ascii_lowercase().as_str() {
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => return Err(Invalid::unknown("type of a secret", value, &["file", "env"])),
            "id" => id = Some(value),
            "source" | "src" => file = Some(value),
            "env" => variable = Some(value),
            _ => return Err(Invalid::unknown("key", key, &["id", "src", "source", "env", "type"])),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
        Invalid::new("it has no id").fix("write --secret id=ID,src=FILE or --secret id=ID,env=NAME")
    })?;
    if kind == Some("env") && variable.is_none() {
        variable = file.take();
    }
    let source = match (file, variable) {
        (Some(_), Some(_)) => return Err(Invalid::new("it cannot come from a file and from a variable")),
        (Some(file), None) => SecretSource::File(file.into()),
        (None, Some(variable)) => SecretSource::Variable(variable.into()),
        (None, None) if kind != Some("file") && std::env::var_os(id).is_some() => {
            SecretSource::Variable(id.into())
        }
        (None, None) => SecretSource::File(id.into()),
    };
    if let SecretSource::File(path) = &source
        && let Err(error) = std::fs::metadata(path)
    {
        return Err(Invalid::new(format!("cannot read {}: {error}", path.display())));
    }
    Ok((id.to_owned(), source))
}

/// `--ssh`: an id, and the socket of its agent.
fn agent(text: &str) -> Result<(String, PathBuf), Invalid> {
    let (id, socket) = text.split_once('=').unwrap_or((text, ""));
    if id.is_empty() {
        return Err(Invalid::new("it has no id").fix("write --ssh default or --ssh ID=SOCKET"));
    }
    let socket = match socket {
        "" => std::env::var_os("SSH_AUTH_SOCK")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .ok_or_else(|| {
                Invalid::new("there is no SSH agent: SSH_AUTH_SOCK is not set")
                    .fix("start one: 'eval $(ssh-agent)' and 'ssh-add'")
            })?,
        path => PathBuf::from(path),
    };
    let kind = std::fs::metadata(&socket)
        .map_err(|error| Invalid::new(format!("cannot read {}: {error}", socket.display())))?
        .file_type();
    if !kind.is_socket() {
        return Err(Invalid::new(format!("{} is no agent's socket", socket.display()))
            .fix("give a key to an agent, whose socket is given here: 'ssh-agent', 'ssh-add KEY'"));
    }
    let socket = std::path::absolute(Path::new(&socket)).unwrap_or(socket);
    Ok((id.to_owned(), socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_dockers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let read = |text: &str| secret(&text.replace("FILE", path)).map_err(|invalid| invalid.why);
        let of_file = ("x".to_owned(), SecretSource::File(path.into()));
        let of_variable = ("x".to_owned(), SecretSource::Variable("V".into()));
        assert_eq!(read("id=x,src=FILE").as_ref(), Ok(&of_file));
        assert_eq!(read("type=file,source=FILE,id=x").as_ref(), Ok(&of_file));
        assert_eq!(read("id=x,env=V").as_ref(), Ok(&of_variable));
        assert_eq!(read("type=env,id=x,src=V").as_ref(), Ok(&of_variable));
        assert_eq!(read("id=PATH").unwrap().1, SecretSource::Variable("PATH".into()));
        for (text, why) in [
            ("src=FILE", "it has no id"),
            ("id=x", "cannot read x"),
            ("id=x,src=FILE,env=V", "cannot come from"),
            ("id=x,type=vault", "type of a secret"),
            ("x", "key=value"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{text}");
        }
    }
}
