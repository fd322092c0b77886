//! The files that a container gets from us instead of from its image: `/etc/hosts`, `/etc/resolv.conf` and
//! `/etc/hostname`. Pure functions but for [`HostFiles::read`]. Whatever comes from a user is checked for what could
//! start a second line.

use super::request::Dns;
use crate::diagnose::Diagnose;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

/// More of a host's file is ignored.
const MAX_HOST_FILE: u64 = 1 << 20;

/// What docker puts into every container's file.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Docker's resolvers for a host that has none that a container could reach.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Why a file cannot be made as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// `--add-host NAME:host-gateway`.
    #[error(
        "unable to replace \"host-gateway\" of host entry \"{0}:host-gateway\": host containers internal IP address is empty"
    )]
    HostGateway(String),
    /// Not an address.
    #[error("invalid IP address '{address}' in {option}")]
    Address {
        /// The option that has it.
        option: &'static str,
        /// What was given.
        address: String,
    },
    /// A name, domain or option with blanks, control characters or nothing in it.
    #[error("invalid value '{}' for {option}", value.escape_default())]
    Value {
        /// The option that has it.
        option: &'static str,
        /// What was given.
        value: String,
    },
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Self::HostGateway(_) => {
                Some("give the address of the host that the container's network can reach".into())
            }
            Self::Address { .. } | Self::Value { .. } => None,
        }
    }
}

/// The host's own files, as far as containers inherit from them. A file that is missing is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFiles {
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/run/systemd/resolve/resolv.conf`: the resolvers behind systemd-resolved's local one.
    pub systemd_resolv_conf: String,
}

impl HostFiles {
    /// Reads them.
    pub fn read() -> Self {
        let read = |path| {
            let mut bytes = Vec::new();
            if let Ok(file) = std::fs::File::open(path) {
                // A part of the file is better than none.
                let _ = file.take(MAX_HOST_FILE).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            hosts: read("/etc/hosts"),
            resolv_conf: read("/etc/resolv.conf"),
            systemd_resolv_conf: read("/run/systemd/resolve/resolv.conf"),
        }
    }
}

/// What goes into a container's `/etc/hosts`.
#[derive(Clone, Copy, Debug)]
pub struct Hosts<'a> {
    /// The host's file, for a container in the host's network: its entries are kept.
    pub host: Option<&'a str>,
    /// `--add-host`. They come first, because resolvers take the first entry of a name. Several names for one
    /// address are separated by semicolons, as podman has it.
    pub add_hosts: &'a [(String, String)],
    /// The container's names: hostname, then name. With none there is no entry for them.
    pub names: &'a [&'a str],
    /// The container's addresses; without any its names mean 127.0.0.1.
    pub addresses: &'a [IpAddr],
    /// What the host is called by, for a container on a network.
    pub host_address: Option<IpAddr>,
}

impl Hosts<'_> {
    /// The file.
    pub fn text(&self) -> Result<String, Error> {
        const OPTION: &str = "--add-host";
        let mut text = String::new();
        for (names, address) in self.add_hosts {
            let address: IpAddr = match (address.as_str(), self.host_address) {
                ("host-gateway", Some(host)) => host,
                ("host-gateway", None) => return Err(Error::HostGateway(names.clone())),
                _ => address
                    .parse()
                    .map_err(|_| Error::Address { option: OPTION, address: address.clone() })?,
            };
            let names: Vec<_> = names.split(';').map(|name| word(OPTION, name)).collect::<Result<_, _>>()?;
            text.push_str(&format!("{address}\t{}\n", names.join(" ")));
        }
        let base = self.host.unwrap_or(LOCALHOST);
        text.push_str(base);
        if !base.is_empty() && !base.ends_with('\n') {
            text.push('\n');
        }
        let mut names: Vec<&str> = Vec::new();
        for name in self.names {
            let name = word("the container's name", name)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            let localhost = [Ipv4Addr::LOCALHOST.into()];
            for address in if self.addresses.is_empty() { &localhost } else { self.addresses } {
                text.push_str(&format!("{address}\t{}\n", names.join(" ")));
            }
        }
        if let Some(host) = self.host_address {
            text.push_str(&format!("{host}\thost.containers.internal host.docker.internal\n"));
        }
        Ok(text)
    }
}

/// A container's `/etc/resolv.conf`: the host's, changed by `--dns`, `--dns-search` and `--dns-option`. Outside the
/// host's network, resolvers on the host's loopback cannot be reached: those behind systemd-resolved take their place, or
/// docker's public ones.
///
/// `gateway` is the name server of the container's network, which asks the host's.
pub fn resolv_conf(
    host: &HostFiles,
    dns: &Dns,
    host_network: bool,
    gateway: Option<IpAddr>,
) -> Result<String, Error> {
    let gateway = gateway.map(|address| address.to_string());
    if host_network && dns.servers.is_empty() && dns.search.is_empty() && dns.options.is_empty() {
        return Ok(host.resolv_conf.clone());
    }
    let mut inherited = Resolv::parse(&host.resolv_conf);
    if !host_network {
        let had_some = !inherited.servers.is_empty();
        inherited.servers.retain(|server| is_reachable(server));
        if had_some && inherited.servers.is_empty() {
            let behind = Resolv::parse(&host.systemd_resolv_conf);
            inherited.servers = behind.servers.into_iter().filter(|server| is_reachable(server)).collect();
            if !behind.search.is_empty() {
                inherited.search = behind.search;
            }
        }
    }
    let servers = match dns.servers.as_slice() {
        [] if gateway.is_some() => gateway.iter().map(String::as_str).collect(),
        [] if inherited.servers.is_empty() && !host_network => FALLBACK_SERVERS.to_vec(),
        [] => inherited.servers,
        given => given.iter().map(|server| address("--dns", server)).collect::<Result<_, _>>()?,
    };
    let words = |option, given: &'_ [String]| {
        given.iter().map(|value| word(option, value).map(str::to_owned)).collect::<Result<Vec<_>, _>>()
    };
    let own = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
    let search = match dns.search.as_slice() {
        [] => own(inherited.search),
        [none] if none == "." => Vec::new(),
        given => words("--dns-search", given)?,
    };
    let options = match dns.options.as_slice() {
        [] => own(inherited.options),
        given => words("--dns-option", given)?,
    };
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    Ok(text)
}

/// A container's `/etc/hostname`.
pub fn hostname(name: &str) -> Result<String, Error> {
    Ok(format!("{}\n", word("--hostname", name)?))
}

/// What matters of a resolv.conf (resolv.conf(5)).
#[derive(Default)]
struct Resolv<'a> {
    servers: Vec<&'a str>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> Resolv<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => parsed.servers.extend(words.next()),
                // The last of them counts.
                Some("search" | "domain") => parsed.search = words.collect(),
                Some("options") => parsed.options.extend(words),
                _ => {}
            }
        }
        parsed
    }
}

/// Whether a resolver of the host can be one of a container in a network of its own. A zone (`fe80::1%eth0`)
/// names an interface of the host.
fn is_reachable(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

fn address<'a>(option: &'static str, text: &'a str) -> Result<&'a str, Error> {
    let without_zone = text.split_once('%').map_or(text, |(address, _)| address);
    match without_zone.parse::<IpAddr>() {
        Ok(_) if word(option, text).is_ok() => Ok(text),
        _ => Err(Error::Address { option, address: text.to_owned() }),
    }
}

/// A text that cannot end its line or be two words or a comment.
fn word<'a>(option: &'static str, text: &'a str) -> Result<&'a str, Error> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    if !text.is_empty() && text.chars().all(plain) {
        Ok(text)
    } else {
        Err(Error::Value { option, value: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn pairs(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|&(name, address)| (name.to_owned(), address.to_owned())).collect()
    }

    #[test]
    fn hosts_has_added_entries_then_localhost_then_the_container() {
        let add = pairs(&[("db", "10.0.0.2"), ("a;b", "fd00::1")]);
        let ours = [[10, 0, 0, 9], [10, 1, 0, 9]].map(IpAddr::from);
        for (host, add_hosts, names, addresses, expected) in [
            (None, &[][..], &[][..], &[][..], LOCALHOST.to_owned()),
            (None, &[], &["web", "web"], &[], format!("{LOCALHOST}127.0.0.1\tweb\n")),
            (
                None,
                &add,
                &["host", "web"],
                &ours,
                format!("10.0.0.2\tdb\nfd00::1\ta b\n{LOCALHOST}10.0.0.9\thost web\n10.1.0.9\thost web\n"),
            ),
            (Some("127.0.0.1 me"), &add[..1], &[], &[], "10.0.0.2\tdb\n127.0.0.1 me\n".into()),
            (Some(""), &[], &[], &[], String::new()),
        ] {
            assert_eq!(
                Hosts { host, add_hosts, names, addresses, host_address: None }.text().unwrap(),
                expected
            );
        }
    }

    #[test]
    fn bad_host_entries_are_refused() {
        for (name, address) in [
            ("db", "10.0.0"),
            ("db", ""),
            ("db", "10.0.0.1\n1.1.1.1 evil"),
            ("", "10.0.0.1"),
            ("a;", "10.0.0.1"),
            ("a b", "10.0.0.1"),
            ("a\nb", "10.0.0.1"),
            ("#a", "10.0.0.1"),
            ("db", "host-gateway"),
        ] {
            let add_hosts = &pairs(&[(name, address)]);
            let hosts = Hosts { host: None, add_hosts, names: &[], addresses: &[], host_address: None };
            assert!(hosts.text().is_err(), "{name:?} {address:?}");
        }
        let hosts =
            Hosts { host: None, add_hosts: &[], names: &["a\nb"], addresses: &[], host_address: None };
        assert!(hosts.text().is_err());
    }

    const SYSTEMD: &str = "# comment\nnameserver 192.168.1.1\nnameserver fe80::1%eth0\nsearch home.arpa\n";

    #[test]
    fn resolv_conf_is_the_host_s_without_what_cannot_be_reached() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
        for (resolv_conf, systemd, host_network, expected) in [
            ("nameserver 1.1.1.1\n", "", false, "nameserver 1.1.1.1\n"),
            ("nameserver 1.1.1.1 # x\n;c\nfoo\n", "", true, "nameserver 1.1.1.1 # x\n;c\nfoo\n"),
            (stub, SYSTEMD, true, stub),
            (stub, SYSTEMD, false, "search home.arpa\nnameserver 192.168.1.1\noptions edns0 trust-ad\n"),
            (stub, "", false, "search .\nnameserver 8.8.8.8\nnameserver 8.8.4.4\noptions edns0 trust-ad\n"),
            ("nameserver ::1\nnameserver 9.9.9.9\n", SYSTEMD, false, "nameserver 9.9.9.9\n"),
            ("nameserver 0.0.0.0\n", "", false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
            ("", SYSTEMD, false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
            (
                "domain a\nsearch b  c\nnameserver\nnameserver x\noptions ndots:2\noptions rotate\nnameserver fd00::1",
                "",
                false,
                "search b c\nnameserver fd00::1\noptions ndots:2 rotate\n",
            ),
        ] {
            let host = HostFiles {
                resolv_conf: resolv_conf.into(),
                systemd_resolv_conf: systemd.into(),
                ..HostFiles::default()
            };
            assert_eq!(super::resolv_conf(&host, &Dns::default(), host_network, None).unwrap(), expected);
        }
    }

    #[test]
    fn options_replace_their_part_of_resolv_conf() {
        let host = HostFiles {
            resolv_conf: "search a\nnameserver 127.0.0.1\noptions x\n".into(),
            ..HostFiles::default()
        };
        for (servers, search, options, expected) in [
            (
                &["1.1.1.1", "fd00::53"][..],
                &[][..],
                &[][..],
                "search a\nnameserver 1.1.1.1\nnameserver fd00::53\noptions x\n",
            ),
            (&[], &["."], &[], "nameserver 127.0.0.1\noptions x\n"),
            (&[], &["b", "c"], &["ndots:1", "y"], "search b c\nnameserver 127.0.0.1\noptions ndots:1 y\n"),
            (&["fe80::1%eth0"], &["."], &["y"], "nameserver fe80::1%eth0\noptions y\n"),
        ] {
            let dns = Dns { servers: strings(servers), search: strings(search), options: strings(options) };
            assert_eq!(resolv_conf(&host, &dns, true, None).unwrap(), expected);
        }
    }

    #[test]
    fn bad_dns_values_are_refused() {
        for (servers, search, options) in [
            (&["dns.example"][..], &[][..], &[][..]),
            (&["1.1.1.1\nx"], &[], &[]),
            (&["fe80::1%a\nb"], &[], &[]),
            (&[""], &[], &[]),
            (&[], &["a b"], &[]),
            (&[], &[""], &[]),
            (&[], &[], &["a\nnameserver 6.6.6.6"]),
        ] {
            let dns = Dns { servers: strings(servers), search: strings(search), options: strings(options) };
            assert!(resolv_conf(&HostFiles::default(), &dns, false, None).is_err(), "{dns:?}");
        }
    }

    #[test]
    fn hostname_is_one_line() {
        assert_eq!(hostname("web").unwrap(), "web\n");
        assert!(hostname("a\nb").is_err() && hostname("").is_err());
    }
}
