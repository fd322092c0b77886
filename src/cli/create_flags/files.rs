//! Files that a container gets besides its image's: devices, volumes of others, what lies in /etc.

use super::super::Error;
use super::super::args::{Given, list, option, switch};
use super::super::parse::{self, Host, Invalid};
use crate::container::request::CreateRequest;
use crate::container::settings::Files;
use clap::{ArgMatches, Command};

pub(super) fn define(to: Command) -> Command {
    let to = to.next_help_heading("Files").args([
        list("volumes-from", "CONTAINER[:OPTIONS]")
            .help("Mount what another container mounts; options ro, rw, z"),
        option("image-volume", "KIND")
            .help("What the image's volumes are: anonymous (default), tmpfs or ignore"),
        list("device", "PATH[:PATH]").help("Add a device of the host, or a folder of them"),
        switch("rootfs")
            .help("The first argument is a folder to run instead of an image; PATH:O keeps it as it is"),
        option("tz", "ZONE").help("Time zone: 'local' for this machine's, or a name such as Europe/Paris"),
        switch("no-hosts").help("Leave the image's /etc/hosts alone"),
        switch("no-hostname").help("Leave the image's /etc/hostname alone"),
        list("hostuser", "USER").help("Add a user of the host to /etc/passwd"),
        switch("passwd").help("Add the container's user to /etc/passwd and /etc/group (default true)"),
        option("passwd-entry", "LINE")
            .help("What is added to /etc/passwd; $USERNAME, $UID, $GID, $NAME, $HOME"),
        option("group-entry", "LINE").help("What is added to /etc/group; $GROUPNAME, $GID, $USERLIST"),
        option("pidfile", "FILE").help("Write the pid of the container's first process to FILE"),
    ]);
    to.next_help_heading("Container").args([
        option("domainname", "NAME").help("NIS domain name of the container"),
        list("annotation", "KEY=VALUE").help("Record an annotation"),
        list("expose", "PORT").help("Record that the container listens on a port or a range"),
        switch("replace").help("Remove a container of the same name first"),
        // Of docker and podman, and without a meaning here: said by name.
        option("init-path", "PATH").hide(true),
        option("conmon-pidfile", "FILE").hide(true),
    ])
}

pub(super) fn apply(args: &ArgMatches, host: &Host, to: &mut CreateRequest) -> Result<(), Error> {
    for (flag, why, fix) in [
        ("init-path", "the init of a container is part of coracle", "use --init alone"),
        (
            "conmon-pidfile",
            "there is no conmon",
            "'coracle inspect --format {{.State.MonitorPid}}' tells the monitor's pid",
        ),
    ] {
        if args.text(flag).is_some() {
            return Err(Error::usage(format!("--{flag} has no meaning: {why}"), fix));
        }
    }
    to.volumes_from = args.each("volumes-from", parse::volumes_from)?;
    to.image_volumes = args.filled("image-volume", parse::image_volumes)?.unwrap_or_default();
    to.devices = args.each("device", |text| parse::device(text, host))?;
    to.domainname = args.filled("domainname", parse::domainname)?;
    let settings = &mut to.settings;
    settings.volumes_from = to.volumes_from.iter().map(|from| from.text.clone()).collect();
    settings.timezone = args.filled("tz", parse::timezone)?;
    settings.annotations = args
        .each("annotation", |text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Invalid::new("annotations must be in the form of KEY=VALUE")),
        })?
        .into_iter()
        .collect();
    settings.exposed = args.each("expose", parse::expose)?.concat();
    settings.pidfile = args.path("pidfile").map(|path| host.cwd.join(path));
    settings.files = Files {
        no_hosts: args.on("no-hosts"),
        no_hostname: args.on("no-hostname"),
        no_resolv_conf: settings.files.no_resolv_conf,
        no_passwd: args.maybe("passwd") == Some(false),
        passwd_entry: args.filled("passwd-entry", parse::entry)?,
        group_entry: args.filled("group-entry", parse::entry)?,
        host_users: args.each("hostuser", parse::nonempty)?,
    };
    check_hosts(to)?;
    if args.on("rootfs") {
        let rootfs = parse::rootfs(&to.image, host).map_err(Error::value("rootfs", &to.image))?;
        to.settings.rootfs = Some(rootfs);
        to.image = String::new();
    }
    Ok(())
}

/// Names cannot go into a file that is not there.
pub(in crate::cli) fn check_hosts(request: &CreateRequest) -> Result<(), Error> {
    if request.settings.files.no_hosts && !request.add_hosts.is_empty() {
        return Err(Error::usage(
            "--no-hosts and --add-host cannot be set together",
            "leave out one of the two",
        ));
    }
    Ok(())
}
