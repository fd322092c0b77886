//! The flags of `build` about the containers of RUN. Those that `run` has too are defined there.

use super::args::{Given, list, switch};
use super::parse::{self, Host, Invalid};
use super::{Error, create_flags, limit_flags};
use crate::build::{RunOptions, SecretSource};
use crate::container::request::{CreateRequest, MountRequest, MountSource, NetworkMode, UsernsMode};
use crate::container::settings::NamespaceMode;
use clap::{Arg, ArgMatches, Command};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The flags of `run` that `build` has.
const OF_RUN: [&str; 27] = [
    "add-host",
    "cap-add",
    "cap-drop",
    "cgroup-parent",
    "cgroupns",
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "device",
    "dns",
    "dns-option",
    "dns-search",
    "group-add",
    "ipc",
    "memory",
    "memory-swap",
    "network",
    "no-hostname",
    "no-hosts",
    "pid",
    "security-opt",
    "shm-size",
    "ulimit",
    "userns",
    "uts",
];

/// Adds the flags.
pub(super) fn define(to: Command) -> Command {
    let of_run = create_flags::define(Command::new("run"));
    let shared = of_run.get_arguments().filter(|arg| OF_RUN.contains(&arg.get_id().as_str()));
    let shared: Vec<Arg> = shared.cloned().map(of_steps).collect();
    to.next_help_heading("Steps").args(shared).args([
        list("allow", "ENTITLEMENT").help("Let RUN use what it may not by itself: network.host"),
        list("secret", "id=ID[,src=FILE|env=NAME]").help("A secret for RUN --mount=type=secret"),
        switch("shell-on-failure").help("Open a shell in the state in which a failed RUN has left its files"),
        list("ssh", "default|ID[=SOCKET]")
            .help("An SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)"),
        list("volume", "PATH:DIR[:OPTIONS]").short('v').help(
            "Mount a file or folder of this machine into each RUN; the cache does not see what changes in it",
        ),
    ])
}

/// The flag with the values that it has for a step: no other container can lend it anything.
fn of_steps(flag: Arg) -> Arg {
    let help = match flag.get_id().as_str() {
        "userns" => "User namespace: host (the user's, which the image's files belong to)",
        "pid" => "Process namespace: private (default) or host",
        "ipc" => "IPC namespace: private (default), none or host",
        "uts" => "Host name's namespace: private (default) or host",
        _ => return flag,
    };
    flag.help(help)
}

/// What the flags ask for.
pub(super) fn options(args: &ArgMatches) -> Result<RunOptions, Error> {
    let network = create_flags::network(args)?;
    if let NetworkMode::Container(_) = network {
        return Err(Error::Unsupported { what: "build --network container:NAME".into() });
    }
    let (dns, no_resolv_conf) = create_flags::dns(args)?;
    let host = Host::here();
    let (limits, cgroup) = limit_flags::options(args)?;
    let (groups, keep_groups) = create_flags::groups(args)?;
    let mut container = CreateRequest {
        network,
        mounts: volumes(args, &host)?,
        devices: args.each("device", |text| parse::device(text, &host))?,
        security: create_flags::security(args, &host)?,
        pid: args.filled("pid", parse::pid)?.unwrap_or_default(),
        ipc: args.filled("ipc", parse::ipc)?.unwrap_or_default(),
        uts: args.filled("uts", parse::uts)?.unwrap_or_default(),
        cap_add: args.each("cap-add", parse::capabilities)?.concat(),
        cap_drop: args.each("cap-drop", parse::capabilities)?.concat(),
        rlimits: create_flags::rlimits(args)?,
        shm_size: args.filled("shm-size", parse::bytes)?,
        add_hosts: args.each("add-host", parse::add_host)?,
        dns,
        limits,
        cgroup,
        ..CreateRequest::default()
    };
    (container.attributes.groups, container.attributes.keep_groups) = (groups, keep_groups);
    let files = &mut container.settings.files;
    files.no_resolv_conf = no_resolv_conf;
    files.no_hosts = args.on("no-hosts");
    files.no_hostname = args.on("no-hostname");
    create_flags::check_hosts(&container)?;
    for (flag, mode) in [("pid", &container.pid), ("ipc", &container.ipc), ("uts", &container.uts)] {
        if let NamespaceMode::Container(_) = mode {
            return Err(Error::Unsupported { what: format!("build --{flag} container:NAME") });
        }
    }
    // The layers below a step and the one that it makes have the ids of this one.
    if args.filled("userns", parse::userns)?.is_some_and(|mode| mode != UsernsMode::Default) {
        let what = "steps of a build run in the user namespace that the image's files belong to";
        return Err(Error::usage(what, "leave out --userns, or say --userns host, which is this one"));
    }
    Ok(RunOptions {
        container,
        host_network: !args.each("allow", entitlement)?.is_empty(),
        secrets: args.each("secret", secret)?.into_iter().collect(),
        agents: args.each("ssh", agent)?.into_iter().collect(),
        shell_on_failure: args.on("shell-on-failure"),
    })
}

/// `--volume`: what is on this machine only. A volume would outlive the build, and nobody would know what is in it.
fn volumes(args: &ArgMatches, host: &Host) -> Result<Vec<MountRequest>, Error> {
    let volumes = args.each("volume", |text| {
        let mount = parse::volume(text, host)?;
        match mount.source {
            MountSource::Bind { .. } => Ok(mount),
            _ => Err(Invalid::new("it names no file or folder of this machine")
                .fix("write PATH:DIR, or RUN --mount=type=cache for what builds share")),
        }
    })?;
    create_flags::distinct(volumes)
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
