//! The flags that `run` and `create` share, and the request that they make.

use super::args::{Given, list, option, switch};
use super::image_options::ImageOptions;
use super::parse::{self, Host, Invalid};
use super::{Error, args, limit_flags};
use crate::container::request::{
    CreateRequest, Dns, LogOptions, MountRequest, NetworkMode, SeccompChoice, SecurityOptions,
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
}

/// Flags of both that are not there yet.
pub(super) const UNSUPPORTED: &[&str] = &[
    "annotation",
    "arch",
    "attach,a",
    "chrootdirs",
    "conmon-pidfile",
    "cpu-count",
    "cpu-percent",
    "decryption-key",
    "device",
    "device-cgroup-rule",
    "disable-content-trust",
    "domainname",
    "env-host",
    "env-merge",
    "expose",
    "gidmap",
    "gpus",
    "group-add",
    "group-entry",
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
    "hostuser",
    "http-proxy",
    "image-volume",
    "init-ctr",
    "init-path",
    "intel-rdt-closid",
    "ip",
    "ip6",
    "ipc",
    "isolation",
    "link",
    "link-local-ip",
    "mac-address",
    "net-alias",
    "network-alias",
    "no-healthcheck",
    "no-hostname",
    "no-hosts",
    "oom-score-adj",
    "os",
    "passwd",
    "passwd-entry",
    "personality",
    "pid",
    "pidfile",
    "pod",
    "pod-id-file",
    "preserve-fd",
    "preserve-fds",
    "publish,p",
    "publish-all,P",
    "rdt-class",
    "replace",
    "requires",
    "restart",
    "retry",
    "retry-delay",
    "rmi",
    "rootfs",
    "runtime",
    "sdnotify",
    "seccomp-policy",
    "secret",
    "shm-size-systemd",
    "storage-opt",
    "subgidname",
    "subuidname",
    "sysctl",
    "systemd",
    "timeout",
    "tz",
    "uidmap",
    "umask",
    "unsetenv-all",
    "use-api-socket",
    "uts",
    "variant",
    "volume-driver",
    "volumes-from",
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
        list("mount", "MOUNT").help("Mount type=bind|volume|tmpfs,source=...,target=DIR[,readonly...]"),
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
        option("userns", "MODE").help("User namespace: host (default) or keep-id[:uid=UID,gid=GID]"),
        list("ulimit", "NAME=SOFT[:HARD]").help("Set a resource limit"),
    ]);
    let to = to.next_help_heading("Network").args([
        list("network", "MODE").alias("net").help("Network: none or host"),
        list("add-host", "NAME:IP").help("Add a line to /etc/hosts"),
        list("dns", "IP").help("Use this name server"),
        list("dns-search", "DOMAIN").help("Search this domain; '.' for none"),
        list("dns-option", "OPTION").alias("dns-opt").help("Set an option of resolv.conf"),
    ]);
    let to = limit_flags::define(to);
    let to = ImageOptions::define(to.next_help_heading("Image"), "pull");
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
    Ok(CreateOptions { request, image: ImageOptions::of(args, "pull")?, cidfile })
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
    Ok(CreateRequest {
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
        userns: args.filled("userns", parse::userns)?.unwrap_or_default(),
        network: network(args)?,
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
        rlimits: args.each("ulimit", parse::ulimit)?,
        shm_size: args.filled("shm-size", parse::bytes)?,
        add_hosts: args.each("add-host", parse::add_host)?,
        dns: Dns {
            servers: args.each("dns", parse::dns_server)?,
            search: args.each("dns-search", parse::nonempty)?,
            options: args.each("dns-option", parse::nonempty)?,
        },
        log: log(args)?,
        limits,
        cgroup,
    })
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
    match parse::duplicate_destination(&mounts) {
        None => Ok(mounts),
        Some(twice) => {
            let what = format!("duplicate mount destination: {twice}");
            Err(Error::usage(what, "mount one thing there, or the other elsewhere"))
        }
    }
}

fn network(args: &ArgMatches) -> Result<NetworkMode, Error> {
    match args.each("network", parse::network)?[..] {
        [] => Ok(NetworkMode::Default),
        [ref only] => Ok(only.clone()),
        _ => Err(Error::usage(
            "none and host are whole networks: only one can be given",
            "give --network once",
        )),
    }
}

fn security(args: &ArgMatches, host: &Host) -> Result<SecurityOptions, Error> {
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
mod tests {
    use super::super::run::ENTRY;
    use super::super::{dispatch, parse::test_host};
    use super::*;
    use crate::container::request::{MountSource, UsernsMode};

    fn asked(words: &[&str]) -> Result<CreateRequest, String> {
        let args = dispatch::parse_for_test(&ENTRY, words).map_err(|e| e.to_string())?;
        request(&args, &test_host()).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_after_the_image_belongs_to_the_container() {
        let request =
            asked(&["-it", "--rm", "img", "--", "ls", "-it", "--rm=false", "-v", "--help"]).unwrap();
        assert!(request.interactive && request.tty && request.rm);
        assert_eq!(request.image, "img");
        assert_eq!(request.command, ["--", "ls", "-it", "--rm=false", "-v", "--help"]);
        assert_eq!(asked(&["--", "img", "a"]).unwrap().command, ["a"]);
    }

    #[test]
    fn short_flags_combine_and_take_their_values_attached() {
        let request = asked(&["-tie", "A=1", "-eB=2", "-e=C=3", "--env=D=4", "-v/a:/b", "-wi", "img"]);
        assert!(request.unwrap_err().contains("absolute"));
        let request = asked(&["-tie", "A=1", "-eB=2", "--env=D=4", "-v/a:/b", "-w/i", "img"]).unwrap();
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(request.env, [pair("A", "1"), pair("B", "2"), pair("D", "4")]);
        assert_eq!(request.mounts[0].destination, "/b");
        assert!(request.tty && request.interactive);
    }

    #[test]
    fn switches_take_dockers_truth_values_and_the_last_of_two_counts() {
        let request =
            asked(&["--rm=false", "-t=true", "--read-only-tmpfs=0", "--name", "a", "--name", "b", "i"]);
        let request = request.unwrap();
        assert!(!request.rm && request.tty && !request.read_only_tmpfs);
        assert_eq!(request.name.as_deref(), Some("b"));
        assert!(asked(&["--rm=maybe", "i"]).is_err());
    }

    #[test]
    fn mounts_keep_their_order_across_flags() {
        let request =
            asked(&["--tmpfs", "/t", "-v", "/a:/b", "--mount", "target=/m", "-v", "data:/d", "img"]).unwrap();
        let places: Vec<_> = request.mounts.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(places, ["/t", "/b", "/m", "/d"]);
        assert_eq!(request.mounts[2].source, MountSource::AnonymousVolume);
        assert!(asked(&["-v", "/a:/b", "--tmpfs", "/b", "img"]).unwrap_err().contains("duplicate"));
    }

    #[test]
    fn every_flag_reaches_the_request() {
        let request = asked(&[
            "--name=n",
            "--entrypoint=sh",
            "--unsetenv=U",
            "-w=/w",
            "-u=1:2",
            "-h=host",
            "-l=k=v",
            "--userns=keep-id",
            "--net=host",
            "--privileged",
            "--cap-add=sys_time",
            "--cap-drop=ALL",
            "--security-opt=seccomp=unconfined",
            "--read-only",
            "--detach-keys=ctrl-x",
            "--init",
            "--stop-signal=INT",
            "--stop-timeout=5",
            "--ulimit=core=0",
            "--shm-size=1m",
            "--add-host=a:1.1.1.1",
            "--dns=9.9.9.9",
            "--dns-search=x.org",
            "--dns-option=rotate",
            "--log-driver=none",
            "--log-opt=max-file=2",
            "img",
        ])
        .unwrap();
        assert_eq!(request.entrypoint.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!((request.unset_env.len(), request.workdir.as_deref()), (1, Some("/w")));
        assert_eq!((request.user.as_deref(), request.hostname.as_deref()), (Some("1:2"), Some("host")));
        assert_eq!(request.labels["k"], "v");
        assert_eq!(request.userns, UsernsMode::KeepId { uid: None, gid: None });
        assert_eq!(request.network, NetworkMode::Host);
        assert!(request.privileged && request.read_only && request.init && request.read_only_tmpfs);
        assert_eq!((request.cap_add, request.cap_drop), (vec!["CAP_SYS_TIME".into()], vec!["ALL".into()]));
        assert_eq!(request.security.seccomp, SeccompChoice::Unconfined);
        assert_eq!(request.detach_keys, [0x18]);
        assert_eq!((request.stop_signal, request.stop_timeout), (Some(2), Some(5)));
        assert_eq!((request.rlimits.len(), request.shm_size), (1, Some(1 << 20)));
        assert_eq!(request.add_hosts.len(), 1);
        assert_eq!(request.dns.servers.len() + request.dns.search.len() + request.dns.options.len(), 3);
        assert_eq!(request.log.max_file, 2);
    }

    #[test]
    fn an_empty_value_is_none() {
        let empty = ["--name=", "-h=", "-w=", "-u=", "--stop-signal=", "--userns=", "--network=", "img"];
        let request = asked(&empty).unwrap();
        assert!(request.name.is_none() && request.hostname.is_none() && request.workdir.is_none());
        assert!(request.user.is_none() && request.stop_signal.is_none());
        assert_eq!((request.userns, request.network), (UsernsMode::Default, NetworkMode::Default));
    }

    #[test]
    fn files_of_variables_come_before_the_flags() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        fs::write(&file, "A=file\nHOME\n").unwrap();
        let request = asked(&["-e", "A=flag", "--env-file", file.to_str().unwrap(), "img"]).unwrap();
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(request.env, [pair("A", "file"), pair("HOME", "/home/me"), pair("A", "flag")]);
        assert!(asked(&["--env-file", "/nowhere", "img"]).unwrap_err().contains("cannot read /nowhere"));
    }

    #[test]
    fn flags_that_are_not_there_yet_are_named() {
        for (words, expected) in [
            (&["-dp", "80:80", "img"][..], "--publish is not supported yet"),
            (&["--restart=always", "img"], "--restart is not supported yet"),
            (&["--frobnicate", "img"], "unknown flag: --frobnicate"),
            (&["--name"], "flag needs an argument: --name"),
            (&["-it"], "too few arguments"),
            (&["--network=web", "img"], "networks are not supported yet"),
        ] {
            let error = asked(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }
}
