//! `-p [[IP:][HOST-PORT]:]CONTAINER-PORT[/tcp|/udp]`, with ranges.

use super::Invalid;
use crate::container::request::{Publish, Transport};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The ports of one `-p`. A host port that is not given is 0: one that is free.
pub fn publish(text: &str) -> Result<Vec<Publish>, Invalid> {
    let (ports, transport) = match text.rsplit_once('/') {
        None => (text, Transport::Tcp),
        Some((ports, transport)) => (ports, self::transport(transport)?),
    };
    let (host, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (ip, host) = match host.rsplit_once(':') {
        Some((ip, port)) => (ip, port),
        // "127.0.0.1::80" has an empty host port; "127.0.0.1:80" is no form of it.
        None => ("", host),
    };
    let host_ip = match ip {
        "" => None,
        ip => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
            let wrong = |_| Invalid::new(format!("invalid IP address: {ip}"));
            Some(bare.parse::<IpAddr>().map_err(wrong)?)
        }
    };
    let container = range(container)?;
    let host = if host.is_empty() { None } else { Some(range(host)?) };
    let count = container.clone().count();
    match host {
        None => Ok(container
            .map(|container_port| Publish { host_ip, host_port: 0, container_port, transport })
            .collect()),
        Some(host) if host.clone().count() == count => Ok(host
            .zip(container)
            .map(|(host_port, container_port)| Publish { host_ip, host_port, container_port, transport })
            .collect()),
        Some(_) => Err(Invalid::new("host and container have different numbers of ports")
            .fix("as in -p 8000-8010:80-90, or let the host's be chosen: -p 80-90")),
    }
}

fn transport(text: &str) -> Result<Transport, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        "sctp" => Err(Invalid::new("sctp is not supported").fix("publish tcp or udp")),
        _ => Err(Invalid::new(format!("invalid proto: {text}")).fix("tcp or udp")),
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, Invalid> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Invalid::new(format!("invalid port: {text}")).fix("a port is a number from 1 to 65535")),
    };
    match text.split_once('-') {
        None => port(text).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(Invalid::new(format!("invalid range of ports: {text}")));
            }
            Ok(first..=last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match publish(text) {
            Err(e) => e.why,
            Ok(ports) => ports
                .iter()
                .map(|p| format!("{}>{}/{:?}", p.host(), p.container_port, p.transport))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn all_of_dockers_forms_are_read() {
        for (text, expected) in [
            ("80", "0.0.0.0:0>80/Tcp"),
            ("8080:80", "0.0.0.0:8080>80/Tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1:8080>80/Udp"),
            ("127.0.0.1::80", "127.0.0.1:0>80/Tcp"),
            ("[::1]:1:2", "[::1]:1>2/Tcp"),
            ("7-8:1-2/TCP", "0.0.0.0:7>1/Tcp 0.0.0.0:8>2/Tcp"),
            ("1-2", "0.0.0.0:0>1/Tcp 0.0.0.0:0>2/Tcp"),
            ("7-9:1-2", "host and container have different numbers of ports"),
            ("0", "invalid port: 0"),
            ("65536:1", "invalid port: 65536"),
            ("x:1:2", "invalid IP address: x"),
            ("1:2/sctp", "sctp is not supported"),
            ("2-1", "invalid range of ports: 2-1"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
