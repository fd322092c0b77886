//! IPv6 addresses of a network. Containers have them beside their IPv4 ones, and with the same numbers as far as they are free.

use std::net::Ipv6Addr;

/// An IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Subnet6 {
    /// The first address.
    pub network: Ipv6Addr,
    /// Bits of it that are the network's.
    pub prefix: u8,
}

/// What a network has of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct V6 {
    /// Its addresses.
    pub subnet: Subnet6,
    /// The one that is its own.
    pub gateway: Ipv6Addr,
}

impl V6 {
    /// Whether a container can have this address.
    pub fn is_for_containers(&self, address: Ipv6Addr) -> bool {
        self.subnet.is_host(address) && address != self.gateway
    }
}

impl Subnet6 {
    /// That of the network that containers are on when nothing is said: a unique local one (RFC 4193), which is seen nowhere else.
    pub const DEFAULT: Subnet6 =
        Subnet6 { network: Ipv6Addr::new(0xfd63, 0x6f72, 0x6163, 0, 0, 0, 0, 0), prefix: 64 };

    /// The unique local network of these 48 random bits, 40 of which count.
    pub fn unique_local(random: u64) -> Self {
        let bits = (0xfd << 120) | (u128::from(random & 0xff_ffff_ffff) << 80);
        Self { network: Ipv6Addr::from_bits(bits), prefix: 64 }
    }

    fn hosts(self) -> u128 {
        u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }

    /// The address of this number, counted from the first.
    pub fn nth(self, number: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network.to_bits() | (u128::from(number) & self.hosts()))
    }

    /// Whether an address is of this network.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & !self.hosts() == self.network.to_bits()
    }

    /// Whether somebody can have this address: the first means all routers (RFC 4291, 2.6.1).
    pub fn is_host(self, address: Ipv6Addr) -> bool {
        self.contains(address) && address != self.network
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Subnet6) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Whether containers can have these addresses: none of them means something else.
    pub fn is_usable(self) -> bool {
        let link_local = Self { network: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), prefix: 10 };
        !is_special(self.network) && !self.overlaps(link_local)
    }
}

/// Whether an address has a meaning of its own to whoever uses it: loopback, link-local, multicast, or IPv4 in IPv6's clothes, which would
/// be a way around all that is forbidden to IPv4.
pub fn is_special(address: Ipv6Addr) -> bool {
    // ::/96 and ::ffff:0:0/96 (RFC 4291, 2.5.5).
    let is_ipv4 = address.to_bits() >> 32 == 0 || address.to_ipv4_mapped().is_some();
    is_ipv4 || address.is_unicast_link_local() || address.is_multicast()
}

/// The networks that the host has an IPv6 route to, but for the default one: of `/proc/net/ipv6_route`, a destination and its
/// prefix in hexadecimal, first in each line; those of link-local and multicast addresses are on every machine.
pub fn routes() -> Vec<Subnet6> {
    let text = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    text.lines().filter_map(route).collect()
}

/// Whether the host has a way to everywhere by IPv6: a default route that does not end in itself.
pub fn host_has_a_way() -> bool {
    let text = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    text.lines().any(is_way)
}

fn is_way(line: &str) -> bool {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    matches!(words[..], [network, "00", .., device] if network.bytes().all(|b| b == b'0') && device != "lo")
}

fn route(line: &str) -> Option<Subnet6> {
    let mut words = line.split_ascii_whitespace();
    let network = Ipv6Addr::from_bits(u128::from_str_radix(words.next()?, 16).ok()?);
    let prefix = u8::from_str_radix(words.next()?, 16).ok()?;
    ((1..=128).contains(&prefix) && !is_special(network)).then_some(Subnet6 { network, prefix })
}

/// Whether this kernel has IPv6 at all.
pub fn is_there() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

impl std::fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl std::str::FromStr for Subnet6 {
    type Err = &'static str;

    /// `fd00:1::/64`; bits that are not the network's are cleared, as podman does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) =
            text.split_once('/').ok_or("expected an address and a prefix, as in fd00:1::/64")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "expected an IPv6 address before the slash")?;
        let prefix = prefix.parse().ok().filter(|prefix| (8..=125).contains(prefix));
        let prefix =
            prefix.ok_or("the prefix has to be between 8 and 125, for networks of 8 addresses or more")?;
        let mut subnet = Self { network: address, prefix };
        subnet.network = Ipv6Addr::from_bits(address.to_bits() & !subnet.hosts());
        Ok(subnet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet6 {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_read_and_their_addresses_numbered() {
        let one = subnet("fd00:1::7/64");
        assert_eq!((one.to_string(), one.nth(258).to_string()), ("fd00:1::/64".into(), "fd00:1::102".into()));
        assert_eq!(subnet("fd00:1::/125").nth(9).to_string(), "fd00:1::1");
        assert!(one.contains("fd00:1::ffff".parse().unwrap()) && !one.contains("fd00:2::".parse().unwrap()));
        assert!(!one.is_host("fd00:1::".parse().unwrap()));
        assert!(one.overlaps(subnet("fd00:1::/48")) && !one.overlaps(subnet("fd00:1:0:1::/64")));
        for wrong in ["fd00::", "fd00::/126", "fd00::/7", "10.0.0.0/24", "x/64", "fd00::/x"] {
            assert!(wrong.parse::<Subnet6>().is_err(), "{wrong}");
        }
        assert_eq!(Subnet6::unique_local(0xab01_2345_6789).to_string(), "fd01:2345:6789::/64");
    }

    #[test]
    fn what_means_something_else_is_not_for_containers() {
        for special in ["::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1"] {
            assert!(is_special(special.parse().unwrap()), "{special}");
        }
        for unusable in ["fe80::/64", "fe00::/8", "ff00::/8", "::/64", "::ffff:0:0/96"] {
            assert!(!subnet(unusable).is_usable(), "{unusable}");
        }
        assert!(subnet("2001:db8::/64").is_usable() && Subnet6::DEFAULT.is_usable());
    }

    #[test]
    fn routes_of_the_host_are_read() {
        let zeros = "0".repeat(32);
        let line = |network: &str, prefix: &str| {
            format!("{network} {prefix} {zeros} 00 {zeros} 00000100 00000001 00000000 00000001     eth0")
        };
        assert!(is_way(&line(&zeros, "00")) && !is_way(&line(&zeros, "00").replace("eth0", "lo")));
        assert!(!is_way(&line(&zeros, "01")) && !is_way(&line("fd000000000000000000000000000000", "00")));
        assert!(!is_way(""));
        let found = |network, prefix| route(&line(network, prefix)).map(|subnet| subnet.to_string());
        assert_eq!(found("fd000000000000000000000000000000", "40").unwrap(), "fd00::/64");
        assert_eq!(found(&zeros, "00"), None);
        assert_eq!(found("fe800000000000000000000000000000", "40"), None);
        assert_eq!(route("x"), None);
    }
}
