//! Addresses of a network and who has them.
//!
//! A lease is an exclusive link in the network's folder of the run root, from the address to the container's id and names: no
//! database, no process to ask, and gone at reboot with everything that used it. What a killed process left is seen by
//! its container having nobody who holds its lock, and taken over.

use super::subnet6::V6;
use crate::state::{self, Error};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The address that means the host on every network (`host.containers.internal`), podman's: of none of them, so that
/// containers send what is for it to the gateway.
pub const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Subnet {
    /// The first address.
    pub network: Ipv4Addr,
    /// Bits of it that are the network's.
    pub prefix: u8,
}

impl Subnet {
    /// Podman's default.
    pub const DEFAULT: Subnet = Subnet { network: Ipv4Addr::new(10, 88, 0, 0), prefix: 16 };

    /// A part of a network, down to one address.
    pub fn parse_range(text: &str) -> Result<Self, &'static str> {
        Self::parse(text, 32, "the prefix has to be between 8 and 32")
    }

    fn parse(text: &str, longest: u8, wrong: &'static str) -> Result<Self, &'static str> {
        let (address, prefix) =
            text.split_once('/').ok_or("expected an address and a prefix, as in 10.1.2.0/24")?;
        let address: Ipv4Addr = address.parse().map_err(|_| "expected an IPv4 address before the slash")?;
        let prefix = prefix.parse().ok().filter(|prefix| (8..=longest).contains(prefix)).ok_or(wrong)?;
        let mut subnet = Self { network: address, prefix };
        subnet.network = Ipv4Addr::from_bits(address.to_bits() & !subnet.hosts());
        Ok(subnet)
    }

    fn hosts(self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix)).map_or(u32::MAX, |n| n - 1)
    }

    /// The first address that somebody can have.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// Whether somebody can have this address: it is of this network, and neither its first nor its last.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && ![0, self.hosts()].contains(&(address.to_bits() & self.hosts()))
    }

    /// Whether containers can have these addresses: none of them means something else.
    pub fn is_usable(self) -> bool {
        let first = self.network.octets()[0];
        !self.contains(HOST) && first != 0 && first != 127 && first < 224
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Whether an address is of this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & !self.hosts() == self.network.to_bits()
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl std::str::FromStr for Subnet {
    type Err = &'static str;

    /// `10.1.2.0/24`; bits that are not the network's are cleared, as podman does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, 29, "the prefix has to be between 8 and 29, for networks of 8 addresses or more")
    }
}

/// The addresses that a network has for its containers.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// The network's addresses.
    pub subnet: Subnet,
    /// Those that are given to who asks for none.
    pub range: Subnet,
    /// The network's own.
    pub gateway: Ipv4Addr,
}

/// A container that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// Its id.
    pub id: &'a str,
    /// What others may call it.
    pub names: &'a [String],
}

impl Holder<'_> {
    /// What a lease leads to: words.
    fn text(&self) -> String {
        let names = self.names.iter().filter(|name| !name.contains(char::is_whitespace));
        // A link has at most PATH_MAX bytes (symlink(7)).
        let mut text = self.id.to_owned();
        for name in names {
            if text.len() + name.len() < 4000 {
                text = format!("{text} {name}");
            }
        }
        text
    }
}

/// Takes a free address for a container, `first` if that is free. `is_alive` tells whether the owner of an address still has
/// it. The caller has made the folder, and keeps others from taking or giving back one meanwhile.
pub fn lease(
    folder: &Path,
    pool: Pool,
    holder: &Holder<'_>,
    first: Option<Ipv4Addr>,
    is_alive: impl Fn(&str) -> bool,
) -> Result<Ipv4Addr, Error> {
    let is_usable = |address| pool.subnet.is_host(address) && address != pool.gateway;
    if let Some(address) = first
        && is_usable(address)
        && take(folder, address.into(), holder, &is_alive)?
    {
        return Ok(address);
    }
    // Where to begin: an address that was just given back is not given out again at once, since others may remember it.
    let last = pool.range.hosts();
    let begin = u32::from_be_bytes(first_four(holder.id)) & last;
    for step in 0..=last {
        let number = begin.wrapping_add(step) & last;
        let address = Ipv4Addr::from_bits(pool.range.network.to_bits() + number);
        if is_usable(address) && take(folder, address.into(), holder, &is_alive)? {
            return Ok(address);
        }
    }
    Err(none_is_free(folder))
}

fn none_is_free(folder: &Path) -> Error {
    let source = ErrorKind::AddrInUse.into();
    Error::Io { action: "find a free address in", path: folder.to_owned(), source }
}

/// Takes an IPv6 address for a container that has `beside`, as [`lease`] does: the one of the same number in its network, or the next
/// that is free.
pub fn lease6(
    folder: &Path,
    v6: V6,
    (subnet, beside): (Subnet, Ipv4Addr),
    holder: &Holder<'_>,
    is_alive: impl Fn(&str) -> bool,
) -> Result<Ipv6Addr, Error> {
    let number = beside.to_bits() & subnet.hosts();
    for step in 0..=subnet.hosts() {
        let address = v6.subnet.nth(number.wrapping_add(step));
        if v6.is_for_containers(address) && take(folder, address.into(), holder, &is_alive)? {
            return Ok(address);
        }
    }
    Err(none_is_free(folder))
}

/// Takes this address for a container, as [`lease`] does; whether it was free.
pub fn take(
    folder: &Path,
    address: IpAddr,
    holder: &Holder<'_>,
    is_alive: impl Fn(&str) -> bool,
) -> Result<bool, Error> {
    let link = folder.join(address.to_string());
    for _ in 0..2 {
        match std::os::unix::fs::symlink(holder.text(), &link) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Io { action: "create", path: link, source }),
        }
        if words(&link).first().is_some_and(|id| is_alive(id)) {
            return Ok(false);
        }
        state::remove_file_if_there(&link)?;
    }
    Ok(false)
}

/// Writes down what the holder of an address is called from now on. Nobody sees it without one meanwhile.
pub fn rename(folder: &Path, address: IpAddr, holder: &Holder<'_>) -> Result<(), Error> {
    let link = folder.join(address.to_string());
    if words(&link).first().is_none_or(|id| id != holder.id) {
        return Ok(());
    }
    // No address, so that it is no lease.
    let new = folder.join(format!(".{address}"));
    state::remove_file_if_there(&new)?;
    std::os::unix::fs::symlink(holder.text(), &new).map_err(Error::io("create", &new))?;
    std::fs::rename(&new, &link).map_err(Error::io("replace", &link))
}

/// Gives an address back.
pub fn release(folder: &Path, address: IpAddr, owner: &str) -> Result<(), Error> {
    let link = folder.join(address.to_string());
    if words(&link).first().is_some_and(|id| id == owner) {
        state::remove_file_if_there(&link)?;
    }
    Ok(())
}

/// The id and the names that a lease leads to.
fn words(link: &Path) -> Vec<String> {
    let target = std::fs::read_link(link).ok();
    let text = target.as_deref().and_then(Path::to_str).unwrap_or_default();
    text.split(' ').map(str::to_owned).collect()
}

/// All that have an address, and what they may be called. Some may have been killed.
pub fn holders(folder: &Path) -> Vec<(IpAddr, Vec<String>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let holder = |entry: std::fs::DirEntry| {
        let address = entry.file_name().to_str()?.parse().ok()?;
        Some((address, words(&entry.path()).split_off(1)))
    };
    entries.filter_map(holder).collect()
}

fn first_four(id: &str) -> [u8; 4] {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(id.as_bytes().chunks(2)) {
        *to = std::str::from_utf8(from).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_any(
        folder: &Path,
        pool: Pool,
        id: &str,
        is_alive: impl Fn(&str) -> bool,
    ) -> Result<Ipv4Addr, Error> {
        lease(folder, pool, &Holder { id, names: &[] }, None, is_alive)
    }

    #[test]
    fn every_address_is_leased_once_and_again_when_its_owner_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let subnet = Subnet { network: Ipv4Addr::new(10, 1, 2, 0), prefix: 29 };
        let gateway = subnet.first();
        assert_eq!(gateway, Ipv4Addr::new(10, 1, 2, 1));
        let pool = Pool { subnet, range: subnet, gateway };
        assert!(subnet.contains(Ipv4Addr::new(10, 1, 2, 7)) && !subnet.contains(Ipv4Addr::new(10, 1, 2, 8)));
        let mut got: Vec<_> =
            (0..5).map(|i| take_any(dir.path(), pool, &format!("{i:08x}"), |_| true).unwrap()).collect();
        got.sort();
        assert_eq!(got, [2, 3, 4, 5, 6].map(|n| Ipv4Addr::new(10, 1, 2, n)));
        assert!(take_any(dir.path(), pool, "ffffffff", |_| true).is_err());
        let again = take_any(dir.path(), pool, "ffffffff", |owner| owner != "00000002").unwrap();
        release(dir.path(), again.into(), "another").unwrap();
        assert!(take_any(dir.path(), pool, "eeeeeeee", |_| true).is_err());
        release(dir.path(), again.into(), "ffffffff").unwrap();
        assert_eq!(take_any(dir.path(), pool, "eeeeeeee", |_| true).unwrap(), again);
    }

    #[test]
    fn an_address_that_was_had_is_had_again_and_names_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let subnet = Subnet { network: Ipv4Addr::new(10, 1, 2, 0), prefix: 24 };
        let pool = Pool { subnet, range: subnet, gateway: subnet.first() };
        let names = ["web".to_owned(), "a b".to_owned(), "www".to_owned()];
        let holder = Holder { id: "00000007", names: &names };
        let had = Ipv4Addr::new(10, 1, 2, 200);
        assert_eq!(lease(dir.path(), pool, &holder, Some(had), |_| true).unwrap(), had);
        assert_eq!(holders(dir.path()), [(had.into(), vec!["web".to_owned(), "www".to_owned()])]);
        let other = ["db".to_owned()];
        rename(dir.path(), had.into(), &Holder { id: "00000007", names: &other }).unwrap();
        // Not one's own.
        rename(dir.path(), had.into(), &Holder { id: "00000008", names: &names }).unwrap();
        assert_eq!(holders(dir.path()), [(had.into(), vec!["db".to_owned()])]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Somebody else's by now, or nobody's to have.
        for first in [had, pool.gateway, Ipv4Addr::new(10, 9, 9, 9)] {
            let got = lease(dir.path(), pool, &Holder { id: "00000009", names: &[] }, Some(first), |_| true);
            assert_ne!(got.unwrap(), first);
        }
    }

    #[test]
    fn an_ipv6_address_has_the_number_of_the_other_one_or_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let subnet = Subnet { network: Ipv4Addr::new(10, 1, 2, 0), prefix: 24 };
        let v6 = V6 { subnet: "fd00:1::/64".parse().unwrap(), gateway: "fd00:1::1".parse().unwrap() };
        let take = |last, id| {
            let beside = (subnet, Ipv4Addr::new(10, 1, 2, last));
            let address = lease6(dir.path(), v6, beside, &Holder { id, names: &[] }, |_| true).unwrap();
            address.to_string()
        };
        assert_eq!(take(17, "a"), "fd00:1::11");
        // Somebody has asked for that one; the gateway is nobody's.
        assert_eq!(take(17, "b"), "fd00:1::12");
        assert_eq!(take(1, "c"), "fd00:1::2");
    }
}
