//! Networks that users make: what is kept of each, `networks/<name>.json` in the data root.
//!
//! Whoever makes or removes one holds `locks/networks`, so that a name belongs to one maker and two never choose the same
//! addresses. A record is written whole or not at all, and never changed.

use super::address::Subnet;
use super::process::Config;
use super::process::Datapath;
use super::subnet6::{self, Subnet6, V6};
use super::{DEFAULT, Error};
use crate::digest::Digest;
use crate::state::{self, Durability, Lock, Paths};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// So that a name with what we put around it stays below NAME_MAX.
const MAX_NAME: usize = 200;
/// Names that mean something else.
const RESERVED: [&str; 7] = [DEFAULT, "none", "host", "default", "container", "private", "ns"];
/// Automatic networks are of this size, podman's.
const PREFIX: u8 = 24;
/// The first automatic network and the first beyond the last, podman's `default_subnet_pools`.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 89, 0, 0), Ipv4Addr::new(11, 0, 0, 0));

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its addresses.
    pub subnet: Subnet,
    /// The network's own one.
    pub gateway: Ipv4Addr,
    /// Those that containers get unless they ask for another.
    #[serde(default)]
    pub range: Option<Subnet>,
    /// What it has of IPv6.
    #[serde(default)]
    pub v6: Option<V6>,
    /// `--opt mtu=`; the host's if it is not given.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// `--opt datapath=`.
    #[serde(default)]
    pub datapath: Datapath,
    /// Whether there is no way out.
    #[serde(default)]
    pub internal: bool,
    /// Whether containers are found by their names.
    pub names: bool,
    /// `--dns`; the host's name servers if there are none.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A network to be made.
#[derive(Clone, Debug, Default)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// `--subnet`; one that is free if it is not given.
    pub subnet: Option<Subnet>,
    /// `--gateway`; the first address if it is not given.
    pub gateway: Option<Ipv4Addr>,
    /// `--ip-range`.
    pub range: Option<Subnet>,
    /// `--ipv6`: whether it has IPv6 also where no addresses of that are given.
    pub ipv6: bool,
    /// `--subnet` of IPv6.
    pub subnet6: Option<Subnet6>,
    /// `--gateway` of IPv6; the first address if it is not given.
    pub gateway6: Option<Ipv6Addr>,
    /// `--opt mtu=`.
    pub mtu: Option<u16>,
    /// `--opt datapath=`.
    pub datapath: Datapath,
    /// `--internal`.
    pub internal: bool,
    /// `--disable-dns`.
    pub nameless: bool,
    /// `--dns`.
    pub dns: Vec<IpAddr>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
}

impl NewNetwork {
    /// What it is to have of IPv6.
    fn v6(&self, id: &str, taken: &[Subnet6], busy: &[Subnet6]) -> Result<Option<V6>, Error> {
        let subnet = match self.subnet6 {
            None if !self.ipv6 && self.gateway6.is_none() => return Ok(None),
            _ if !subnet6::is_there() => return Err(Error::NoIpv6),
            Some(subnet) if !subnet.is_usable() => return Err(Error::UnusableSubnet(subnet.to_string())),
            Some(subnet) => is_free(subnet, taken, busy, Subnet6::overlaps)?,
            None => {
                let random = u64::from_str_radix(&id[..16], 16).unwrap_or_default();
                let mut all = (random..=u64::MAX).take(1 << 10).map(Subnet6::unique_local);
                let is_free =
                    |subnet: &Subnet6| !taken.iter().chain(busy).any(|other| other.overlaps(*subnet));
                all.find(is_free).ok_or(Error::NoSubnet)?
            }
        };
        let gateway = self.gateway6.unwrap_or_else(|| subnet.nth(1));
        if !subnet.is_host(gateway) {
            let (address, subnet) = (gateway.to_string(), subnet.to_string());
            return Err(Error::NotInSubnet { what: "gateway", address, subnet });
        }
        Ok(Some(V6 { subnet, gateway }))
    }
}

/// Addresses that the host has routes to.
#[derive(Debug, Default)]
pub struct Routes {
    /// IPv4.
    pub v4: Vec<Subnet>,
    /// IPv6.
    pub v6: Vec<Subnet6>,
}

impl Routes {
    /// As they are now.
    pub fn of_host() -> Self {
        Self { v4: routes(), v6: subnet6::routes() }
    }
}

/// An entry of a listing.
#[derive(Debug)]
pub enum Listed {
    /// A network.
    Network(Box<Network>),
    /// One whose record cannot be read.
    Broken {
        /// Its name.
        name: String,
        /// Why.
        error: Error,
    },
}

impl Network {
    /// The one that containers are on when nothing is said.
    pub fn default_one() -> Self {
        Self {
            id: Digest::of(DEFAULT.as_bytes()).hex(),
            name: DEFAULT.to_owned(),
            created: Timestamp::from_unix(0, 0),
            subnet: Subnet::DEFAULT,
            gateway: Subnet::DEFAULT.first(),
            range: None,
            v6: subnet6::is_there()
                .then_some(V6 { subnet: Subnet6::DEFAULT, gateway: Subnet6::DEFAULT.nth(1) }),
            mtu: None,
            datapath: Datapath::Auto,
            internal: false,
            names: false,
            dns: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Whether its containers can have other names there.
    pub fn check_aliases(&self, aliases: &[String]) -> Result<(), Error> {
        match self.names || aliases.is_empty() {
            true => Ok(()),
            false => Err(Error::Nameless(self.name.clone())),
        }
    }

    /// What its process must know.
    pub fn config(&self) -> Config {
        Config {
            id: self.id.clone(),
            name: self.name.clone(),
            subnet: self.subnet,
            gateway: self.gateway,
            range: self.range,
            v6: self.v6,
            mtu: self.mtu,
            datapath: self.datapath,
            isolated: self.name == DEFAULT,
            internal: self.internal,
            names: self.names,
            dns: self.dns.clone(),
        }
    }
}

/// The networks of this user.
#[derive(Debug)]
pub struct Networks<'a> {
    paths: &'a Paths,
}

impl<'a> Networks<'a> {
    /// Those in this data root.
    pub fn new(paths: &'a Paths) -> Self {
        Self { paths }
    }

    fn folder(&self) -> PathBuf {
        self.paths.data().join("networks")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.json"))
    }

    fn lock(&self) -> Result<Lock, Error> {
        for folder in [self.folder(), self.paths.locks()] {
            state::create_dir_private(&folder)?;
        }
        Ok(Lock::exclusive(&self.paths.locks().join("networks"))?)
    }

    /// Makes a network. `busy` are addresses that somebody else has: the host's routes.
    pub fn create(&self, new: &NewNetwork, busy: &Routes) -> Result<Network, Error> {
        check_name(&new.name)?;
        let _lock = self.lock()?;
        let mut taken = vec![Subnet::DEFAULT];
        let mut taken6 = vec![Subnet6::DEFAULT];
        for listed in self.list()? {
            match listed {
                Listed::Network(network) if network.name == new.name => {
                    return Err(Error::Exists(new.name.clone()));
                }
                Listed::Network(network) => {
                    taken.push(network.subnet);
                    taken6.extend(network.v6.map(|v6| v6.subnet));
                }
                Listed::Broken { name, .. } if name == new.name => return Err(Error::Exists(name)),
                Listed::Broken { .. } => {}
            }
        }
        let subnet = match new.subnet {
            Some(subnet) if !subnet.is_usable() => return Err(Error::UnusableSubnet(subnet.to_string())),
            Some(subnet) => is_free(subnet, &taken, &busy.v4, Subnet::overlaps)?,
            None => free(|subnet| !taken.iter().chain(&busy.v4).any(|other| other.overlaps(subnet)))?,
        };
        let not_in_it =
            |what, address: String| Err(Error::NotInSubnet { what, address, subnet: subnet.to_string() });
        let gateway = new.gateway.unwrap_or_else(|| subnet.first());
        if !subnet.is_host(gateway) {
            return not_in_it("gateway", gateway.to_string());
        }
        if let Some(range) = new.range
            && !(subnet.contains(range.network) && range.prefix >= subnet.prefix)
        {
            return not_in_it("range", range.to_string());
        }
        let id = state::random_id().map_err(super::talk("get random numbers"))?;
        let v6 = new.v6(&id, &taken6, &busy.v6)?;
        let network = Network {
            id,
            name: new.name.clone(),
            created: Timestamp::now(),
            subnet,
            gateway,
            range: new.range,
            v6,
            mtu: new.mtu,
            datapath: new.datapath,
            internal: new.internal,
            names: !new.nameless,
            dns: new.dns.clone(),
            labels: new.labels.clone(),
        };
        state::write_json(&self.file(&new.name), &network, Durability::PowerCut)?;
        Ok(network)
    }

    /// All but the default one, by name.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let folder = self.folder();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(state::Error::Io { action: "read", path: folder, source }.into());
            }
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        let listed =
            names.into_iter().filter_map(|name| match state::read_json::<Network>(&self.file(&name)) {
                Ok(Some(network)) if network.name == name => Some(Listed::Network(Box::new(network))),
                Ok(Some(_)) => {
                    let error = Error::Foreign(name.clone());
                    Some(Listed::Broken { name, error })
                }
                Ok(None) => None,
                Err(error) => Some(Listed::Broken { name, error: error.into() }),
            });
        Ok(listed.collect())
    }

    /// The network that is meant: by name, by id, or by the start of its id.
    pub fn find(&self, what: &str) -> Result<Network, Error> {
        if what == DEFAULT {
            return Ok(Network::default_one());
        }
        if check_name(what).is_ok()
            && let Some(network) = state::read_json::<Network>(&self.file(what))?
        {
            return if network.name == what { Ok(network) } else { Err(Error::Foreign(what.to_owned())) };
        }
        let mut found = self.list()?.into_iter().filter_map(|listed| match listed {
            Listed::Network(network) if !what.is_empty() && network.id.starts_with(what) => Some(*network),
            _ => None,
        });
        match (found.next(), found.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(Error::Ambiguous(what.to_owned())),
            _ => Err(Error::Missing(what.to_owned())),
        }
    }

    /// Holds off all who make or remove networks, or change who is on them.
    pub fn change(&self) -> Result<Lock, Error> {
        self.lock()
    }

    /// Holds off the removal of networks: for who is about to use one without having written it down yet.
    pub fn hold(&self) -> Result<Lock, Error> {
        state::create_dir_private(&self.paths.locks())?;
        Ok(Lock::shared(&self.paths.locks().join("networks"))?)
    }

    /// Removes a network unless somebody uses it, which `users` tells: ids of containers.
    pub fn remove<E: From<Error>>(
        &self,
        name: &str,
        users: impl FnOnce() -> Result<Vec<String>, E>,
    ) -> Result<(), E> {
        check_name(name)?;
        let _lock = self.lock()?;
        let id = state::read_json::<Network>(&self.file(name)).ok().flatten().map(|network| network.id);
        let users = users()?;
        if !users.is_empty() {
            return Err(Error::InUse { name: name.to_owned(), users }.into());
        }
        state::remove_file_if_there(&self.file(name)).map_err(Error::from)?;
        if let Some(id) = id.filter(|id| state::is_name(id, MAX_NAME)) {
            // Its process, if the last container has only just gone, needs nothing of it any more.
            let _ = state::remove_tree(&super::run_folder(self.paths, &id));
        }
        Ok(())
    }
}

/// Whether a network can be called so.
pub fn check_name(name: &str) -> Result<(), Error> {
    match state::is_name(name, MAX_NAME) {
        true if RESERVED.contains(&name) => Err(Error::Reserved(name.to_owned())),
        true => Ok(()),
        false => Err(Error::Name(name.to_owned())),
    }
}

/// A network that was asked for, if nobody has one of its addresses.
fn is_free<S: Copy + std::fmt::Display>(
    subnet: S,
    of_networks: &[S],
    of_host: &[S],
    overlap: impl Fn(S, S) -> bool,
) -> Result<S, Error> {
    let of_networks = of_networks.iter().map(|other| (other, "another network's"));
    let of_host = of_host.iter().map(|other| (other, "behind a route of the host"));
    match of_networks.chain(of_host).find(|(by, _)| overlap(**by, subnet)) {
        Some((by, whose)) => {
            Err(Error::SubnetTaken { subnet: subnet.to_string(), by: by.to_string(), whose })
        }
        None => Ok(subnet),
    }
}

fn free(is_free: impl Fn(Subnet) -> bool) -> Result<Subnet, Error> {
    let (first, end) = (POOL.0.to_bits(), POOL.1.to_bits());
    (first..end)
        .step_by(1 << (32 - PREFIX))
        .map(|bits| Subnet { network: Ipv4Addr::from_bits(bits), prefix: PREFIX })
        .find(|subnet| is_free(*subnet))
        .ok_or(Error::NoSubnet)
}

/// The networks that the host has a route to, but for the default one (/proc/net/route: hexadecimal, host byte order).
fn routes() -> Vec<Subnet> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let number = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::from_be);
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (network, mask) = (number(words.get(1)?)?, number(words.get(7)?)?);
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        (prefix > 0).then_some(Subnet { network: Ipv4Addr::from_bits(network), prefix })
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &tempfile::TempDir) -> Paths {
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        paths
    }

    fn named(name: &str) -> NewNetwork {
        NewNetwork { name: name.into(), ..NewNetwork::default() }
    }

    #[test]
    fn networks_get_addresses_that_nobody_has() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let networks = Networks::new(&paths);
        let busy =
            Routes { v4: vec!["10.89.1.0/24".parse().unwrap()], v6: vec!["fd00:9::/64".parse().unwrap()] };
        let a = networks.create(&named("a"), &busy).unwrap();
        let b = networks.create(&named("b"), &busy).unwrap();
        assert_eq!(
            (a.subnet.to_string(), a.gateway.to_string()),
            ("10.89.0.0/24".into(), "10.89.0.1".into())
        );
        assert_eq!(b.subnet.to_string(), "10.89.2.0/24");
        assert!(matches!(networks.create(&named("a"), &Routes::default()), Err(Error::Exists(_))));
        let overlapping = NewNetwork { subnet: Some("10.89.0.128/25".parse().unwrap()), ..named("c") };
        assert!(matches!(networks.create(&overlapping, &Routes::default()), Err(Error::SubnetTaken { .. })));
        for (gateway, range) in
            [(Some("10.1.3.1"), None), (Some("10.1.2.255"), None), (None, Some("10.1.0.0/16"))]
        {
            let new = NewNetwork {
                subnet: Some("10.1.2.0/24".parse().unwrap()),
                gateway: gateway.map(|g| g.parse().unwrap()),
                range: range.map(|r| r.parse().unwrap()),
                ..named("c")
            };
            assert!(
                matches!(networks.create(&new, &Routes::default()), Err(Error::NotInSubnet { .. })),
                "{gateway:?} {range:?}"
            );
        }
        for subnet in ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/24", "0.0.0.0/8", "240.0.0.0/24"] {
            let new = NewNetwork { subnet: Some(subnet.parse().unwrap()), ..named("c") };
            assert!(
                matches!(networks.create(&new, &Routes::default()), Err(Error::UnusableSubnet(_))),
                "{subnet}"
            );
        }
        let six = |subnet: Option<&str>, gateway: Option<&str>| {
            let new = NewNetwork {
                name: "six".into(),
                ipv6: true,
                subnet6: subnet.map(|s| s.parse().unwrap()),
                gateway6: gateway.map(|g| g.parse().unwrap()),
                ..NewNetwork::default()
            };
            networks.create(&new, &busy)
        };
        assert!(matches!(six(Some("fd00:9::/48"), None), Err(Error::SubnetTaken { .. })));
        assert!(matches!(six(Some("fe80::/64"), None), Err(Error::UnusableSubnet(_))));
        assert!(matches!(six(Some("fd00:8::/64"), Some("fd00:8::")), Err(Error::NotInSubnet { .. })));
        let v6 = six(None, None).unwrap().v6.unwrap();
        assert!(v6.subnet.network.is_unique_local() && v6.gateway == v6.subnet.nth(1));
        for name in ["bridge", "none", "host", "container", "", ".a", "a/b", "a b"] {
            assert!(networks.create(&named(name), &Routes::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn networks_are_found_by_name_and_id_and_a_torn_record_is_one_broken_line() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let networks = Networks::new(&paths);
        let a = networks.create(&named("a"), &Routes::default()).unwrap();
        networks.create(&named("b"), &Routes::default()).unwrap();
        std::fs::write(networks.file("b"), "{").unwrap();
        assert_eq!(networks.find(&a.id[..12]).unwrap(), a);
        // No id begins so: those are hexadecimal.
        assert!(matches!(networks.find("nobody"), Err(Error::Missing(_))));
        let listed = networks.list().unwrap();
        assert!(matches!(&listed[..], [Listed::Network(_), Listed::Broken { name, .. }] if name == "b"));
        // A record of another name is nobody's: least of all that one's.
        std::fs::copy(networks.file("a"), networks.file("c")).unwrap();
        assert!(matches!(networks.find("c"), Err(Error::Foreign(name)) if name == "c"));
        networks.remove("c", || Ok::<_, Error>(Vec::new())).unwrap();
        assert!(networks.remove("../a", || Ok::<_, Error>(Vec::new())).is_err());
        let in_use = networks.remove("a", || Ok::<_, Error>(vec!["x".into()]));
        assert!(matches!(in_use, Err(Error::InUse { .. })));
        for name in ["a", "b"] {
            networks.remove(name, || Ok::<_, Error>(Vec::new())).unwrap();
        }
        assert!(networks.list().unwrap().is_empty());
    }
}
