//! A container's network as JSON and in listings, with docker's field names.

use crate::container::record::Record;
use crate::container::request::NetworkMode;
use crate::container::store::Container;
use crate::netlink::link::mac_of;
use crate::network::{DEFAULT, Publish, Transport};
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, SocketAddr};

/// What its network is called.
pub(super) fn network_text(record: &Record) -> &str {
    match &record.network {
        NetworkMode::Default => DEFAULT,
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Named(joined) => &joined.network,
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
        (inside, SocketAddr::new(p.host_ip, p.host_port))
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
        let binding = json!({ "HostIp": p.host_ip.to_string(), "HostPort": p.host_port.to_string() });
        let key = format!("{}/{}", p.container_port, transport_text(p.transport));
        if let Some(list) = map.entry(key).or_insert_with(|| json!([])).as_array_mut() {
            list.push(binding);
        }
    }
    map.into()
}

/// The hardware address that goes with an address.
pub(super) fn mac_text(address: Ipv4Addr) -> String {
    mac_of(address).map(|byte| format!("{byte:02x}")).join(":")
}

/// docker's fields: scripts ask for them also where there is no address to tell.
pub(super) fn network_settings(container: &Container) -> Value {
    let live = container.live.as_ref();
    let address = live.and_then(|live| live.address);
    let way = live.and_then(|live| live.way);
    let addresses = || {
        json!({
            "Gateway": way.map_or_else(String::new, |(_, gateway)| gateway.to_string()),
            "IPAddress": address.map_or_else(String::new, |a| a.to_string()),
            "IPPrefixLen": way.map_or(0, |(prefix, _)| prefix),
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "MacAddress": address.map_or_else(String::new, mac_text),
        })
    };
    let mut value = addresses();
    if let Value::Object(fields) = &mut value {
        fields.insert("Bridge".into(), "".into());
        fields.insert("SandboxID".into(), "".into());
        fields.insert("SandboxKey".into(), "".into());
        fields.insert("Ports".into(), port_bindings(live.map_or(&[], |l| &l.published)));
        let mut own = addresses();
        if let (Value::Object(own), NetworkMode::Named(joined)) = (&mut own, &container.record.network) {
            own.insert("Aliases".into(), json!(joined.aliases));
        }
        fields.insert("Networks".into(), json!({ network_text(&container.record): own }));
    }
    value
}
