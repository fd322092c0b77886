//! Namespaces, ids and what is set in them.

use super::super::args::{Given, list, option};
use super::super::{Error, parse};
use crate::container::request::{CreateRequest, UsernsMode};
use clap::{ArgMatches, Command};

pub(super) fn define(to: Command) -> Command {
    to.next_help_heading("Namespaces").args([
        option("userns", "MODE").help(
            "User namespace: host (default), keep-id[:uid=UID,gid=GID], auto[:size=N], nomap or container:NAME",
        ),
        list("uidmap", "ID:FROM:COUNT").help("Map COUNT user ids from ID on; FROM 0 is you, 1 your first subordinate id"),
        list("gidmap", "ID:FROM:COUNT").help("Map COUNT group ids from ID on"),
        option("pid", "MODE").help("Process namespace: private (default), host or container:NAME"),
        option("ipc", "MODE").help("IPC namespace: shareable (default), private, none, host or container:NAME"),
        option("uts", "MODE").help("Host name's namespace: private (default), host or container:NAME"),
        list("sysctl", "NAME=VALUE").help("Set a kernel setting of the container's own namespaces"),
    ])
}

pub(super) fn apply(args: &ArgMatches, to: &mut CreateRequest) -> Result<(), Error> {
    let uids = args.each("uidmap", parse::id_range)?;
    let gids = args.each("gidmap", parse::id_range)?;
    let userns = args.filled("userns", parse::userns)?;
    to.userns = match (userns, uids.is_empty() && gids.is_empty()) {
        (Some(_), false) => {
            return Err(Error::usage(
                "--userns and --uidmap/--gidmap cannot be set together",
                "leave out one of the two",
            ));
        }
        (None, false) => UsernsMode::Given { uids, gids },
        (userns, true) => userns.unwrap_or_default(),
    };
    to.pid = args.filled("pid", parse::pid)?.unwrap_or_default();
    to.ipc = args.filled("ipc", parse::ipc)?.unwrap_or_default();
    to.uts = args.filled("uts", parse::uts)?.unwrap_or_default();
    to.sysctls = args.each("sysctl", parse::sysctl)?;
    Ok(())
}
