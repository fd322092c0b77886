//! `coracle network`: one file per command below it.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod exists;
pub mod flows;
pub mod ls;
pub mod prune;
pub mod reload;
pub mod rm;

use super::network_view::{mac_text, network_names};
use super::{Action, Entry, inspect};
use crate::container;
use crate::container::store::{self, Container};
use crate::network::{Datapath, Network};
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
        connect::ENTRY,
        disconnect::ENTRY,
        reload::ENTRY,
        flows::ENTRY,
    ]),
};

/// The containers that can be read. One that cannot is taken to be on no network.
fn containers(paths: &Paths) -> Result<impl Iterator<Item = Container>, container::Error> {
    let whole = |entry| match entry {
        store::Entry::Whole(container) => Some(*container),
        store::Entry::Broken(..) => None,
    };
    Ok(store::list_with_steps(paths)?.into_iter().filter_map(whole))
}

/// The containers that are on a network when they run.
fn users(paths: &Paths, name: &str) -> Result<Vec<Container>, container::Error> {
    Ok(containers(paths)?
        .filter(|container| network_names(&container.record).iter().any(|other| other == name))
        .collect())
}

/// The networks that any container is on.
fn used_names(paths: &Paths) -> Result<BTreeSet<String>, container::Error> {
    Ok(containers(paths)?.flat_map(|container| network_names(&container.record)).collect())
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
        let mut on = user.live.iter().flat_map(|live| &live.networks);
        let Some(on) = on.find(|on| on.id == network.id) else { continue };
        let entry = json!({
            "Name": user.record.name,
            "EndpointID": "",
            "MacAddress": mac_text(on.mac),
            "IPv4Address": format!("{}/{}", on.address, on.prefix),
            "IPv6Address": on.v6.map_or_else(String::new, |(ip, of)| format!("{ip}/{}", of.subnet.prefix)),
        });
        containers.insert(user.record.id.to_string(), entry);
    }
    let mut pool = json!({ "Subnet": network.subnet.to_string(), "Gateway": network.gateway.to_string() });
    if let (Some(range), Value::Object(pool)) = (network.range, &mut pool) {
        pool.insert("IPRange".into(), range.to_string().into());
    }
    let mut pools = vec![pool];
    if let Some(v6) = network.v6 {
        pools.push(json!({ "Subnet": v6.subnet.to_string(), "Gateway": v6.gateway.to_string() }));
    }
    let mtu = network.mtu.iter().map(|mtu| ("mtu".to_owned(), Value::from(mtu.to_string())));
    let datapath = Some(network.datapath).filter(|way| *way != Datapath::Auto);
    let datapath = datapath.iter().map(|way| ("datapath".to_owned(), way.name().into()));
    let options: Map<String, Value> = mtu.chain(datapath).collect();
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": network.v6.is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": pools },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "DNSEnabled": network.names,
        "DNSServers": network.dns,
        "Containers": containers,
        "Options": options,
        "Labels": network.labels,
    }))
}
