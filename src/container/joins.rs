//! `--pid`, `--ipc`, `--uts`, `--network` and `--userns container:X`: which namespaces a new container shares, and with whom.
//!
//! Those of another container can be joined only together with its user namespace (see [`crate::sandbox`]), so all that
//! is joined is of one container. It must run when the new one is started.

use super::Error;
use super::record::Record;
use super::request::{CreateRequest, Dns, NetworkMode, UsernsMode};
use super::settings::NamespaceMode;
use super::store;
use crate::sandbox::{Network, Owner, Sharing};
use crate::state::Paths;

/// What may be set of a container with an IPC namespace of its own (docker's list); a dot at the end stands for all below.
const OF_IPC: [&str; 9] = [
    "fs.mqueue.",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

fn refused(what: impl Into<String>, fix: &str) -> Error {
    Error::Request { what: what.into(), fix: Some(fix.to_owned()) }
}

/// The container whose namespaces are asked for, if any.
pub(super) fn joined(paths: &Paths, request: &CreateRequest) -> Result<Option<Record>, Error> {
    let userns = match &request.userns {
        UsernsMode::Container(name) => Some(name),
        _ => None,
    };
    let modes = [&request.pid, &request.ipc, &request.uts].into_iter().filter_map(|mode| match mode {
        NamespaceMode::Container(name) => Some(name),
        _ => None,
    });
    let mut found: Option<Record> = None;
    let network = match &request.network {
        NetworkMode::Container(name) => Some(name),
        _ => None,
    };
    for name in modes.chain(userns).chain(network) {
        let container = store::find(paths, name)?;
        if !container.status.is_running() {
            return Err(Error::State {
                name: container.record.name,
                state: "not running, so its namespaces cannot be joined",
                fix: "start it first",
            });
        }
        match &found {
            Some(other) if other.id != container.record.id => {
                return Err(refused(
                    format!("the namespaces of both {} and {name} are to be joined", other.name),
                    "join those of one container: each has its own user namespace, and a process is in one",
                ));
            }
            _ => found = Some(container.record),
        }
    }
    Ok(found)
}

/// Whose namespaces a new container is in. What the joined one has of the host, or of a third, the new one has too.
pub(super) fn sharing(request: &CreateRequest, joined: Option<&Record>) -> Result<Sharing, Error> {
    let theirs = joined.map(|record| record.spec.sharing).unwrap_or_default();
    let owner = |mode: &NamespaceMode, theirs: Owner| match mode {
        NamespaceMode::Host => Owner::Host,
        NamespaceMode::Container(_) if theirs == Owner::Host => Owner::Host,
        NamespaceMode::Container(_) => Owner::Joined,
        _ => Owner::Own,
    };
    let sharing = Sharing {
        user: if joined.is_some() { Owner::Joined } else { Owner::Own },
        pid: owner(&request.pid, theirs.pid),
        ipc: owner(&request.ipc, theirs.ipc),
        no_shm: request.ipc == NamespaceMode::None,
        uts: owner(&request.uts, theirs.uts),
    };
    if let (Owner::Joined, Some(record)) = (sharing.ipc, joined)
        && matches!(record.settings.modes.ipc.as_str(), "private" | "none")
    {
        return Err(refused(
            format!("container {} does not share its IPC namespace", record.name),
            "make it with --ipc shareable",
        ));
    }
    let uts = match sharing.uts {
        Owner::Own => None,
        Owner::Host => Some("host's"),
        Owner::Joined => Some("other container's"),
    };
    if let Some(whose) = uts {
        let given =
            [(request.hostname.is_some(), "--hostname"), (request.domainname.is_some(), "--domainname")];
        if let Some((_, flag)) = given.iter().find(|(given, _)| *given) {
            return Err(refused(
                format!("cannot set {flag}: the container is in the {whose} UTS namespace"),
                "leave out one of the two",
            ));
        }
    }
    if sharing.ipc != Owner::Own && request.shm_size.is_some() {
        return Err(refused(
            "cannot set --shm-size: the container has no /dev/shm of its own",
            "leave out one of --shm-size and --ipc",
        ));
    }
    Ok(sharing)
}

/// The network of a new container.
pub(super) fn network(request: &CreateRequest, joined: Option<&Record>) -> Result<Network, Error> {
    let theirs = match &request.network {
        NetworkMode::Host => return Ok(Network::Host),
        NetworkMode::Container(_) => joined.map(|record| record.spec.network),
        _ => return Ok(Network::None),
    };
    for (given, what) in [
        (!request.publish.is_empty(), "ports cannot be published"),
        (!request.add_hosts.is_empty(), "names cannot be added to /etc/hosts"),
        (request.dns != Dns::default(), "name servers cannot be set"),
    ] {
        if given {
            return Err(refused(
                format!("{what}: the container is in another container's network"),
                "ask for it where that container is made",
            ));
        }
    }
    Ok(match theirs {
        Some(Network::Host) => Network::Host,
        _ => Network::Joined,
    })
}

/// Kernel settings count for a namespace: the container must have it for itself.
pub(super) fn check_sysctls(
    request: &CreateRequest,
    sharing: &Sharing,
    network: Network,
) -> Result<(), Error> {
    for (name, _) in &request.sysctls {
        let whose = if name.starts_with("net.") {
            (network != Network::None).then_some("network")
        } else if is_of_ipc(name) {
            (sharing.ipc != Owner::Own).then_some("IPC")
        } else {
            (sharing.uts != Owner::Own).then_some("UTS")
        };
        if let Some(namespace) = whose {
            return Err(refused(
                format!(
                    "sysctl {name} is not allowed: the container has no {namespace} namespace of its own"
                ),
                "set it where that namespace is, or give the container one of its own",
            ));
        }
    }
    Ok(())
}

fn is_of_ipc(name: &str) -> bool {
    OF_IPC.iter().any(|known| if known.ends_with('.') { name.starts_with(known) } else { name == *known })
}

/// Whether a kernel setting belongs to a namespace that a container can have for itself: those that podman takes.
pub fn is_namespaced(name: &str) -> bool {
    name.starts_with("net.") || is_of_ipc(name) || matches!(name, "kernel.domainname" | "kernel.hostname")
}
