//! `coracle volume`: one file per command below it.

pub mod create;
pub mod ls;
pub mod prune;
pub mod rm;

use super::{Action, Entry, inspect};
use crate::container;
use crate::container::record::MountKind;
use crate::container::store::{self, Container};
use crate::state::Paths;
use crate::volume::{self, Volume};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `coracle volume`.
pub const ENTRY: Entry = Entry {
    name: "volume",
    aliases: &[],
    about: "Manage volumes",
    usage: "COMMAND",
    action: Action::Group(&[create::ENTRY, ls::ENTRY, inspect::VOLUME, rm::ENTRY, prune::ENTRY]),
};

/// The containers that can be read. What one that cannot be read uses cannot be told: prune does not begin while there
/// is one, and who names a volume means it.
fn containers(paths: &Paths) -> Result<impl Iterator<Item = Container>, container::Error> {
    let whole = |entry| match entry {
        store::Entry::Whole(container) => Some(*container),
        store::Entry::Broken(..) => None,
    };
    Ok(store::list_with_steps(paths)?.into_iter().filter_map(whole))
}

/// The volumes of a container.
fn names_in(container: &Container) -> impl Iterator<Item = &str> {
    container.record.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => Some(name.as_str()),
        _ => None,
    })
}

/// The volumes that are mounted in any container.
fn used_names(paths: &Paths) -> Result<BTreeSet<String>, container::Error> {
    Ok(containers(paths)?.flat_map(|c| names_in(&c).map(str::to_owned).collect::<Vec<_>>()).collect())
}

/// The containers that a volume is mounted in, running or not.
fn users(paths: &Paths, name: &str) -> Result<Vec<Container>, container::Error> {
    Ok(containers(paths)?.filter(|container| names_in(container).any(|used| used == name)).collect())
}

/// The ids of [`users`], as the volumes' room asks for them when nobody else can begin to use the volume.
fn user_ids(paths: &Paths, name: &str) -> Result<Vec<String>, volume::Error> {
    match users(paths, name) {
        Ok(users) => Ok(users.iter().map(|user| user.record.id.to_string()).collect()),
        Err(container::Error::Disk(error)) => Err(error.into()),
        Err(other) => Err(volume::Error::Io {
            action: "find the users of",
            path: paths.volumes().join(name),
            source: std::io::Error::other(other),
        }),
    }
}

/// What `inspect` shows of a volume: docker's fields, and podman's `Anonymous`.
pub(super) fn inspect(volume: &Volume) -> Value {
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.data(),
        "CreatedAt": volume.created,
        "Labels": volume.labels,
        "Scope": "local",
        "Options": {},
        "Anonymous": volume.anonymous,
    })
}
