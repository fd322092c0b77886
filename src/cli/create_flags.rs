//! The flags that `run` and `create` share, and the request that they make.

mod files;
mod namespaces;
mod process;

pub(super) use files::check_hosts;
pub(super) use process::{groups, limits as rlimits};

use super::args::{Given, list, option, switch};
use super::image_options::{ImageOptions, platform_flags};
use super::parse::{self, Host, Invalid};
use super::{Error, args, limit_flags};
use crate::container;
use crate::container::request::{
    CreateRequest, Dns, Joined, LogOptions, MountRequest, NetworkMode, SeccompChoice, SecurityOptions,
};
use clap::{ArgMatches, Command};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What both commands parse to.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The container.
    pub request: CreateRequest,
    /// How its image is got.
    pub image: ImageOptions,
    /// `--cidfile`: where its id is written; checked not to exist.
    pub cidfile: Option<PathBuf>,
    /// `--replace`: a container of its name is removed first.
    pub replace: bool,
    /// `--publish-all`.
    pub publish_all: bool,
}

/// Flags of both that are not there yet.
pub(super) const UNSUPPORTED: &[&str] = &[
    "chrootdirs",
    "cpu-count",
    "cpu-percent",
    "decryption-key",
    "device-cgroup-rule",
    "disable-content-trust",
    "gpus",
    "health-cmd",
    "health-interval",
    "health-log-destination",
    "health-max-log-count",
    "health-max-log-size",
    "health-on-failure",
    "health-retries",
    "health-start-interval",
    "health-start-period",
    "health-startup-cmd",
    "health-timeout",
    "hosts-file",
    "init-ctr",
    "intel-rdt-closid",
    "isolation",
    "link",
    "link-local-ip",
    "no-healthcheck",
    "pod",
    "pod-id-file",
    "rdt-class",
    "requires",
    "restart",
    "retry",
    "retry-delay",
    "runtime",
    "sdnotify",
    "seccomp-policy",
    "secret",
    "shm-size-systemd",
    "storage-opt",
    "subgidname",
    "subuidname",
    "use-api-socket",
    "volume-driver",
];

/// Adds the flags.
pub(super) fn define(to: Command) -> Command {
    let to = to.next_help_heading("Container").args([
        option("name", "NAME").help("Name the container"),
        switch("interactive").short('i').help("Keep standard input open"),
        switch("tty").short('t').help("Allocate a terminal"),
        switch("rm").help("Remove the container when it exits"),
        switch("init").help("Run a small init as process 1 that forwards signals and reaps processes"),
        option("entrypoint", "COMMAND").help("Replace the image's entrypoint: a JSON array or one word"),
        option("workdir", "DIR").short('w').help("Working directory in the container"),
        option("user", "USER[:GROUP]").short('u').help("User in the container"),
        option("hostname", "NAME").short('h').help("Host name of the container"),
        list("label", "KEY=VALUE").short('l').help("Set a label"),
        list("label-file", "FILE").help("Read labels from FILE, one per line"),
        option("stop-signal", "SIGNAL").help("Signal that stops the container"),
        option("stop-timeout", "SECONDS").help("Seconds that a stop waits before it kills, -1 for ever"),
        option("detach-keys", "KEYS").help("Keys that detach from the container (default ctrl-p,ctrl-q)"),
        option("cidfile", "FILE").help("Write the container's id to FILE"),
        option("log-driver", "DRIVER").help("Where output is kept: k8s-file (default) or none"),
        list("log-opt", "KEY=VALUE").help("Option of the log: max-size=SIZE, max-file=COUNT"),
    ]);
    let to = to.next_help_heading("Environment").args([
        list("env", "NAME[=VALUE]").short('e').help("Set a variable; without a value, pass it on"),
        list("env-file", "FILE").help("Read variables from FILE"),
        list("unsetenv", "NAME").help("Remove a variable of the image"),
    ]);
    let to = to.next_help_heading("Files").args([
        list("volume", "VOLUME")
            .short('v')
            .help("Mount [SOURCE:]DIR[:OPTIONS], the source a path or a volume"),
        list("mount", "MOUNT")
            .help("Mount type=bind|volume|tmpfs|image|ramfs|devpts|glob,source=...,target=DIR[,readonly...]"),
        list("tmpfs", "TMPFS").help("Mount a tmpfs at DIR[:size=SIZE,mode=MODE...]"),
        switch("read-only").help("Mount the container's root read-only"),
        switch("read-only-tmpfs")
            .help("With --read-only: /run, /tmp and /var/tmp are writable (default true)"),
        option("shm-size", "SIZE").help("Size of /dev/shm (default 64m)"),
    ]);
    let to = to.next_help_heading("Security").args([
        switch("privileged").help("Give all the capabilities that the user namespace has, and hide nothing"),
        list("cap-add", "CAPABILITY").help("Add a capability, or ALL"),
        list("cap-drop", "CAPABILITY").help("Drop a capability, or ALL"),
        list("security-opt", "OPTION")
            .help("no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable"),
    ]);
    let to = to.next_help_heading("Network").args([
        list("network", "MODE")
            .alias("net")
            .help("Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)"),
        option("ip", "ADDRESS").help("Have this address on the network"),
        option("ip6", "ADDRESS").help("Have this IPv6 address on the network"),
        option("mac-address", "MAC").help("Have this hardware address on the network"),
        list("network-alias", "NAME").alias("net-alias").help("Be found by this name on the network, too"),
        list("publish", "PORTS").short('p').help("Publish [[IP:][HOST-PORT]:]PORT[/tcp|/udp] on the host"),
        switch("publish-all")
            .short('P')
            .help("Publish all ports that the image or --expose names, each on a port of the host that is free"),
        list("add-host", "NAME:IP").help("Add a line to /etc/hosts"),
        list("dns", "IP").help("Use this name server; 'none' leaves /etc/resolv.conf alone"),
        list("dns-search", "DOMAIN").help("Search this domain; '.' for none"),
        list("dns-option", "OPTION").alias("dns-opt").help("Set an option of resolv.conf"),
    ]);
    let to = limit_flags::define(to);
    let to = files::define(process::define(namespaces::define(to)));
    let to = ImageOptions::define(to.next_help_heading("Image"), "pull").args(platform_flags());
    to.next_help_heading(None::<&str>).arg(args::command_line("IMAGE"))
}

/// The request that the flags make on this host.
pub(super) fn options(args: &ArgMatches) -> Result<CreateOptions, Error> {
    let cidfile = args.path("cidfile");
    if let Some(path) = cidfile.as_ref().filter(|path| path.exists()) {
        return Err(Error::usage(
            format!("container ID file {} is there already", path.display()),
            "make sure that no other container is using it, and remove it",
        ));
    }
    let request = request(args, &Host::here())?;
    let replace = args.on("replace");
    if replace && request.name.is_none() {
        return Err(Error::usage("cannot replace container without --name being set", "add --name NAME"));
    }
    let image = ImageOptions::of(args, "pull")?;
    Ok(CreateOptions { request, image, cidfile, replace, publish_all: args.on("publish-all") })
}

/// Writes `--cidfile`: a file that nobody else has made meanwhile.
pub fn write_cidfile(path: &Path, id: &str) -> Result<(), Error> {
    fs::File::create_new(path)
        .and_then(|mut file| file.write_all(id.as_bytes()))
        .map_err(Error::file("write", path))
}

/// The container that the flags ask for.
pub(super) fn request(args: &ArgMatches, host: &Host) -> Result<CreateRequest, Error> {
    let mut words = args.operands().into_iter();
    let image = words.next().unwrap_or_default();
    if image.is_empty() {
        return Err(Error::usage("the image's name is empty", "name an image, as in 'coracle run debian'"));
    }
    let (limits, cgroup) = limit_flags::options(args)?;
    let (dns, no_resolv_conf) = dns(args)?;
    let mut request = CreateRequest {
        image,
        command: words.collect(),
        name: args.filled("name", parse::name)?,
        entrypoint: args.text("entrypoint").map(parse::entrypoint),
        env: env(args, host)?,
        unset_env: args.each("unsetenv", parse::nonempty)?,
        workdir: args.filled("workdir", parse::workdir)?,
        user: args.filled("user", parse::user)?,
        hostname: args.filled("hostname", parse::hostname)?,
        labels: labels(args)?.into_iter().collect(),
        mounts: mounts(args, host)?,
        network: network(args)?,
        publish: args.each("publish", parse::publish)?.concat(),
        privileged: args.on("privileged"),
        cap_add: args.each("cap-add", parse::capabilities)?.concat(),
        cap_drop: args.each("cap-drop", parse::capabilities)?.concat(),
        security: security(args, host)?,
        read_only: args.on("read-only"),
        read_only_tmpfs: args.maybe("read-only-tmpfs").unwrap_or(true),
        tty: args.on("tty"),
        interactive: args.on("interactive"),
        detach_keys: detach_keys(args)?,
        init: args.on("init"),
        rm: args.on("rm"),
        stop_signal: args.filled("stop-signal", parse::signal)?,
        stop_timeout: args.parsed("stop-timeout", parse::stop_timeout)?,
        shm_size: args.filled("shm-size", parse::bytes)?,
        add_hosts: args.each("add-host", parse::add_host)?,
        dns,
        log: log(args)?,
        limits,
        cgroup,
        ..CreateRequest::default()
    };
    request.settings.files.no_resolv_conf = no_resolv_conf;
    namespaces::apply(args, &mut request)?;
    process::apply(args, host, &mut request)?;
    files::apply(args, host, &mut request)?;
    Ok(request)
}

/// `--detach-keys`, by default docker's and podman's.
pub(super) fn detach_keys(args: &ArgMatches) -> Result<Vec<u8>, Error> {
    let keys = args.text("detach-keys").unwrap_or("ctrl-p,ctrl-q");
    parse::detach_keys(keys).map_err(Error::value("detach-keys", keys))
}

/// `--detach-keys`, if given.
pub(super) fn detach_keys_given(args: &ArgMatches) -> Result<Option<Vec<u8>>, Error> {
    args.parsed("detach-keys", parse::detach_keys)
}

/// `--env-file` first, then `-e`: a variable given twice has its last value.
pub(super) fn env(args: &ArgMatches, host: &Host) -> Result<Vec<(String, String)>, Error> {
    let mut env = Vec::new();
    for file in args.texts("env-file") {
        let text = fs::read(file).map_err(Error::file("read", file))?;
        env.extend(parse::env_file(&text, host).map_err(Error::value("env-file", file))?);
    }
    env.extend(args.each("env", |text| parse::env_word(text, host))?.concat());
    Ok(env)
}

fn labels(args: &ArgMatches) -> Result<Vec<(String, String)>, Error> {
    let mut labels = Vec::new();
    for file in args.texts("label-file") {
        let text = fs::read(file).map_err(Error::file("read", file))?;
        labels.extend(parse::label_file(&text).map_err(Error::value("label-file", file))?);
    }
    labels.extend(args.each("label", parse::label)?);
    Ok(labels)
}

fn mounts(args: &ArgMatches, host: &Host) -> Result<Vec<MountRequest>, Error> {
    let mounts = args
        .in_order(&["volume", "mount", "tmpfs"])
        .into_iter()
        .map(|(flag, text)| {
            let parsed = match flag {
                "volume" => parse::volume(text, host),
                "mount" => parse::mount(text, host),
                _ => parse::tmpfs(text),
            };
            parsed.map_err(Error::value(flag, text))
        })
        .collect::<Result<Vec<_>, _>>()?;
    distinct(mounts)
}

/// Refuses two mounts in one place.
pub(super) fn distinct(mounts: Vec<MountRequest>) -> Result<Vec<MountRequest>, Error> {
    match parse::duplicate_destination(&mounts) {
        None => Ok(mounts),
        Some(twice) => {
            let what = format!("duplicate mount destination: {twice}");
            Err(Error::usage(what, "mount one thing there, or the other elsewhere"))
        }
    }
}

/// `--dns` and its relatives, and whether /etc/resolv.conf is left alone.
pub(super) fn dns(args: &ArgMatches) -> Result<(Dns, bool), Error> {
    let servers = args.texts("dns");
    let no_resolv_conf = servers == ["none"];
    if servers.contains(&"none") && !no_resolv_conf {
        return Err(Error::usage(
            "--dns none leaves /etc/resolv.conf alone",
            "give --dns none alone, or servers",
        ));
    }
    let dns = Dns {
        servers: if no_resolv_conf { Vec::new() } else { args.each("dns", parse::dns_server)? },
        search: args.each("dns-search", parse::nonempty)?,
        options: args.each("dns-option", parse::nonempty)?,
    };
    Ok((dns, no_resolv_conf))
}

/// `--network` and what goes with it.
pub(super) fn network(args: &ArgMatches) -> Result<NetworkMode, Error> {
    let texts = args.texts("network").into_iter();
    // Several in one word, as podman has it.
    let words =
        texts.flat_map(|text| if text.contains(':') { vec![text] } else { text.split(',').collect() });
    let modes = words.map(|text| parse::network(text).map_err(Error::value("network", text)));
    let mut mode = match &modes.collect::<Result<Vec<_>, _>>()?[..] {
        [] => NetworkMode::Default,
        [only] => only.clone(),
        several => NetworkMode::Named(together(several)?),
    };
    let ip = args.parsed("ip", parse::ipv4)?;
    let ip6 = args.parsed("ip6", parse::ipv6)?;
    let mac = args.parsed("mac-address", parse::mac)?;
    let one_only = ip.is_some() || ip6.is_some() || mac.is_some();
    let aliases: Vec<_> = args.texts("network-alias").into_iter().map(str::to_owned).collect();
    if mac.is_some() && mode == NetworkMode::Default {
        mode = NetworkMode::Named(container::networks::joined(&mode));
    }
    match &mut mode {
        NetworkMode::Named(several) if several.len() > 1 && one_only => Err(Error::usage(
            "--ip, --ip6 and --mac-address are for a container on one network",
            "write --network NAME:ip=ADDRESS,mac=ADDRESS for each",
        )),
        NetworkMode::Named(several) => {
            for joined in several {
                joined.ip = ip.or(joined.ip);
                joined.ip6 = ip6.or(joined.ip6);
                joined.mac = mac.or(joined.mac);
                joined.aliases.extend(aliases.clone());
            }
            Ok(mode)
        }
        // docker: addresses and names are for networks that the user has made.
        _ if one_only || !aliases.is_empty() => Err(Error::usage(
            "--ip and --network-alias are for networks that were made by 'coracle network create'",
            "give such a network with --network, or leave them out",
        )),
        _ => Ok(mode),
    }
}

/// The networks of a container that is on several.
fn together(modes: &[NetworkMode]) -> Result<Vec<Joined>, Error> {
    let mut all: Vec<Joined> = Vec::new();
    for mode in modes {
        if matches!(mode, NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_)) {
            return Err(Error::usage(
                "a container on the host's network, another container's or none cannot be on others too",
                "give --network none, host or container:NAME alone",
            ));
        }
        for joined in container::networks::joined(mode) {
            if all.iter().any(|other| other.network == joined.network) {
                return Err(Error::usage(
                    format!("network {} is given twice", joined.network),
                    "give each network once",
                ));
            }
            all.push(joined);
        }
    }
    Ok(all)
}

/// `--security-opt`.
pub(super) fn security(args: &ArgMatches, host: &Host) -> Result<SecurityOptions, Error> {
    let mut options = SecurityOptions { seccomp: SeccompChoice::Default, ..SecurityOptions::default() };
    for text in args.texts("security-opt") {
        let read = |file: &str| {
            fs::read_to_string(host.cwd.join(file))
                .map_err(|e| Invalid::new(format!("cannot read {file}: {e}")))
        };
        parse::security_opt(text, host, &mut options, read).map_err(Error::value("security-opt", text))?;
    }
    Ok(options)
}

fn log(args: &ArgMatches) -> Result<LogOptions, Error> {
    let driver = args.filled("log-driver", parse::log_driver)?.unwrap_or_default();
    let mut options = LogOptions { driver, ..LogOptions::default() };
    for text in args.texts("log-opt") {
        parse::log_opt(text, &mut options).map_err(Error::value("log-opt", text))?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
