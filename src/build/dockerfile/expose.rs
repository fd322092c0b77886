//! What EXPOSE names, once it is expanded: `PORT[-PORT][/PROTOCOL]`. docker still takes what `run -p` takes and drops
//! the address and the host's port.

use std::net::IpAddr;

/// The protocols there are.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Ports that an image listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// In lower case.
    pub protocol: &'static str,
    /// The protocol was written otherwise.
    pub has_odd_case: bool,
    /// There was an address or a port of the host.
    pub has_mapping: bool,
}

impl Ports {
    /// Reads one word. The error is docker's.
    pub fn parse(text: &str) -> Result<Ports, String> {
        let mut parts = text.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let host = parts.next().unwrap_or_default();
        let address = parts.next().unwrap_or_default();
        let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
        if ports.is_empty() {
            return Err(format!("invalid port: {text:?}: no port specified"));
        }
        let known = PROTOCOLS.into_iter().find(|known| known.eq_ignore_ascii_case(protocol));
        let known = if protocol.is_empty() { Some("tcp") } else { known };
        let Some(known) = known else {
            return Err(format!("invalid port: {text:?}: invalid proto: {protocol}"));
        };
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        if !address.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
        let (first, last) = range(ports).ok_or_else(|| format!("invalid containerPort: {ports}"))?;
        if !host.is_empty() {
            let (host_first, host_last) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
            if first != last && last - first != host_last - host_first {
                return Err(format!(
                    "invalid ranges specified for container and host Ports: {ports} and {host}"
                ));
            }
        }
        Ok(Ports {
            first,
            last,
            protocol: known,
            has_odd_case: protocol.chars().any(char::is_uppercase),
            has_mapping: !address.is_empty() || !host.is_empty(),
        })
    }

    /// `PORT/PROTOCOL` for each, as an image's configuration has it.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let protocol = self.protocol;
        (self.first..=self.last).map(move |port| format!("{port}/{protocol}"))
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.strip_prefix('+').unwrap_or(text).parse::<u16>().ok();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}
