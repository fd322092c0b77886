//! `coracle network`: one file per command below it.

pub mod create;
pub mod exists;
pub mod ls;
pub mod prune;
pub mod rm;

use super::network_view::{mac_text, network_text};
use super::{Action, Entry, inspect};
use crate::container;
use crate::container::store::{self, Container};
use crate::network::Network;
use crate::state::Paths;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// `coracle network`.
pub const ENTRY: Entry = Entry {
    name: "network",
    aliases: &[],
    about: "Manage networks",
    usage: "COMMAND",
    action: Action::Group(&[
        create::ENTRY,
        ls::ENTRY,
        inspect::NETWORK,
        rm::ENTRY,
        prune::ENTRY,
        exists::ENTRY,
    ]),
};

/// The containers that can be read. One that cannot is taken to be on no network.
fn containers(paths: &Paths) -> Result<impl Iterator<Item = Container>, container::Error> {
    let whole = |entry| match entry {
        store::Entry::Whole(container) => Some(*container),
        store::Entry::Broken(..) => None,
    };
    Ok(store::list(paths)?.into_iter().filter_map(whole))
}

/// The containers that are on a network when they run.
fn users(paths: &Paths, name: &str) -> Result<Vec<Container>, container::Error> {
    Ok(containers(paths)?.filter(|container| network_text(&container.record) == name).collect())
}

/// The networks that any container is on.
fn used_names(paths: &Paths) -> Result<BTreeSet<String>, container::Error> {
    Ok(containers(paths)?.map(|container| network_text(&container.record).to_owned()).collect())
}

/// Removes a network that no container is on.
fn remove(paths: &Paths, name: &str) -> anyhow::Result<()> {
    Ok(crate::network::Networks::new(paths).remove::<container::Error>(name, || {
        Ok(users(paths, name)?.iter().map(|user| user.record.id.short().to_owned()).collect())
    })?)
}

/// What `inspect` shows of a network: docker's fields.
pub(super) fn inspect(paths: &Paths, network: &Network) -> Result<Value, container::Error> {
    let mut containers = Map::new();
    for user in users(paths, &network.name)? {
        let Some(address) = user.live.as_ref().and_then(|live| live.address) else { continue };
        let entry = json!({
            "Name": user.record.name,
            "EndpointID": "",
            "MacAddress": mac_text(address),
            "IPv4Address": format!("{address}/{}", network.subnet.prefix),
            "IPv6Address": "",
        });
        containers.insert(user.record.id.to_string(), entry);
    }
    let mut pool = json!({ "Subnet": network.subnet.to_string(), "Gateway": network.gateway.to_string() });
    if let (Some(range), Value::Object(pool)) = (network.range, &mut pool) {
        pool.insert("IPRange".into(), range.to_string().into());
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": {}, "Config": [pool] },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "DNSEnabled": network.names,
        "Containers": containers,
        "Options": {},
        "Labels": network.labels,
    }))
}
