//! A container's network as JSON and in listings, with docker's field names.

use crate::container::record::{OnNetwork, Record};
use crate::container::request::NetworkMode;
use crate::container::store::Container;
use crate::network::{DEFAULT, Mac, Publish, Transport};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;

/// What its networks are called.
pub(super) fn network_names(record: &Record) -> Vec<String> {
    match &record.network {
        NetworkMode::Default => vec![DEFAULT.to_owned()],
        NetworkMode::None => vec!["none".to_owned()],
        NetworkMode::Host => vec!["host".to_owned()],
        NetworkMode::Named(networks) => networks.iter().map(|joined| joined.network.clone()).collect(),
        NetworkMode::Container(id) => vec![format!("container:{id}")],
    }
}

fn transport_text(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// The ports of a running container, as `80/tcp`, and where the host listens for each.
pub(super) fn published(container: &Container) -> impl Iterator<Item = (String, SocketAddr)> {
    container.live.iter().flat_map(|live| &live.published).map(|p| {
        let inside = format!("{}/{}", p.container_port, transport_text(p.transport));
        (inside, p.host())
    })
}

/// What is published, as `ps` shows it: `0.0.0.0:8080->80/tcp`.
pub(super) fn ports_text(container: &Container) -> String {
    let port = |(inside, outside): (String, SocketAddr)| format!("{outside}->{inside}");
    published(container).map(port).collect::<Vec<_>>().join(", ")
}

/// docker's map from a container's port to those of the host.
pub(super) fn port_bindings(published: &[Publish]) -> Value {
    let mut map = Map::new();
    for p in published {
        let host = p.host();
        let binding = json!({ "HostIp": host.ip().to_string(), "HostPort": host.port().to_string() });
        let key = format!("{}/{}", p.container_port, transport_text(p.transport));
        if let Some(list) = map.entry(key).or_insert_with(|| json!([])).as_array_mut() {
            list.push(binding);
        }
    }
    map.into()
}

/// A hardware address as it is usually written.
pub(super) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn addresses(on: Option<&OnNetwork>) -> Map<String, Value> {
    let text = |part: &dyn Fn(&OnNetwork) -> String| on.map_or_else(String::new, part);
    let v6 = on.and_then(|on| on.v6);
    [
        ("Gateway", text(&|on| on.gateway.to_string()).into()),
        ("IPAddress", text(&|on| on.address.to_string()).into()),
        ("IPPrefixLen", on.map_or(0, |on| on.prefix).into()),
        ("IPv6Gateway", v6.map_or_else(String::new, |(_, of)| of.gateway.to_string()).into()),
        ("GlobalIPv6Address", v6.map_or_else(String::new, |(address, _)| address.to_string()).into()),
        ("GlobalIPv6PrefixLen", v6.map_or(0, |(_, of)| of.subnet.prefix).into()),
        ("MacAddress", text(&|on| mac_text(on.mac)).into()),
    ]
    .into_iter()
    .map(|(key, value): (&str, Value)| (key.to_owned(), value))
    .collect()
}

/// docker's fields: scripts ask for them also where there is no address to tell.
pub(super) fn network_settings(container: &Container) -> Value {
    let live = container.live.as_ref();
    let on = live.map_or(&[][..], |live| &live.networks);
    let mut fields = addresses(on.first());
    fields.insert("Bridge".into(), "".into());
    fields.insert("SandboxID".into(), "".into());
    fields.insert("SandboxKey".into(), "".into());
    fields.insert("Ports".into(), port_bindings(live.map_or(&[], |l| &l.published)));
    let joined = match &container.record.network {
        NetworkMode::Named(joined) => joined.as_slice(),
        _ => &[],
    };
    let mut networks = Map::new();
    for name in network_names(&container.record).into_iter().filter(|name| !name.starts_with("container:")) {
        let on = on.iter().find(|on| on.network == name);
        let mut own = addresses(on);
        own.insert("NetworkID".into(), on.map_or("", |on| &on.id).into());
        if let Some(joined) = joined.iter().find(|joined| joined.network == name) {
            own.insert("Aliases".into(), json!(joined.aliases));
        }
        networks.insert(name, own.into());
    }
    fields.insert("Networks".into(), networks.into());
    fields.into()
}
