//! `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, with the meaning that Go's programs give them (docker, podman):
//! a proxy per scheme, and none for this machine.

use super::Error;
use super::url::Origin;
use std::net::IpAddr;

/// The proxy settings of the environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    https: Option<String>,
    http: Option<String>,
    except: Vec<String>,
}

impl Proxies {
    pub(super) fn from_env() -> Self {
        Self::from(|name| {
            [name.to_owned(), name.to_ascii_lowercase()]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|value| !value.is_empty())
        })
    }

    fn from(var: impl Fn(&str) -> Option<String>) -> Self {
        let except = var("NO_PROXY").unwrap_or_default();
        Self {
            https: var("HTTPS_PROXY"),
            http: var("HTTP_PROXY"),
            except: except
                .split(',')
                .map(|e| e.trim().to_ascii_lowercase())
                .filter(|e| !e.is_empty())
                .collect(),
        }
    }

    /// Through which proxy `to` is reached, if through any.
    pub(super) fn choose(&self, to: &Origin) -> Result<Option<ureq::Proxy>, Error> {
        let Some(proxy) = (if to.https { &self.https } else { &self.http }) else { return Ok(None) };
        if to.is_loopback() || self.except.iter().any(|entry| matches(entry, to)) {
            return Ok(None);
        }
        // The text may hold a password: it goes into no message.
        let variable = if to.https { "HTTPS_PROXY" } else { "HTTP_PROXY" };
        let bad = |_| Error::Protocol {
            host: to.display(),
            why: format!("cannot be reached through a proxy: {variable} is not a proxy URL"),
        };
        ureq::Proxy::new(proxy).map(Some).map_err(bad)
    }
}

/// One entry of `NO_PROXY`: `*`, a host (with what is below it), `.domain` or `*.domain` (only what is below),
/// an address, a CIDR block; each but the last with `:port` if wanted.
fn matches(entry: &str, to: &Origin) -> bool {
    if entry == "*" {
        return true;
    }
    let address: Option<IpAddr> = to.host().parse().ok();
    if let Some((network, bits)) = entry.split_once('/') {
        return match (network.parse(), bits.parse(), address) {
            (Ok(network), Ok(bits), Some(address)) => in_network(address, network, bits),
            _ => false,
        };
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (entry, None),
    };
    if port.is_some_and(|port| port != to.port()) {
        return false;
    }
    if let Ok(ip) = super::url::bare(host).parse::<IpAddr>() {
        return address == Some(ip);
    }
    let below = |domain: &str| to.host().strip_suffix(domain).is_some_and(|h| h.ends_with('.'));
    match host.strip_prefix("*.").or(host.strip_prefix('.')) {
        Some(domain) => below(domain),
        None => to.host() == host || below(host),
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (a, n, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (bits == 0 || (a ^ n) >> (width - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(url: &str) -> Origin {
        Origin::of(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn no_proxy_entries_mean_what_they_mean_to_go() {
        let table = [
            ("*", "https://a.b", true),
            ("a.b", "https://a.b", true),
            ("a.b", "https://x.a.b", true),
            ("a.b", "https://xa.b", false),
            (".a.b", "https://x.a.b", true),
            (".a.b", "https://a.b", false),
            ("*.a.b", "https://x.a.b", true),
            ("a.b:444", "https://a.b", false),
            ("a.b:443", "https://a.b", true),
            ("10.0.0.1", "https://10.0.0.1", true),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("0.0.0.0/0", "https://11.1.2.3", true),
            ("10.0.0.0/99", "https://10.0.0.1", false),
            ("fd00::/8", "https://[fd12::1]", true),
            ("fd00::1", "https://[fd00::1]", true),
            ("[fd00::1]:443", "https://[fd00::1]", true),
        ];
        for (entry, url, expected) in table {
            assert_eq!(matches(entry, &to(url)), expected, "{entry} {url}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy_and_this_machine_has_none() {
        let proxies = Proxies::from(|name| match name {
            "HTTPS_PROXY" => Some("http://user:pw@proxy:3128".into()),
            "NO_PROXY" => Some("internal.example, 10.0.0.0/8".into()),
            _ => None,
        });
        let host = |url| proxies.choose(&to(url)).unwrap().map(|p| p.host().to_owned());
        assert_eq!(host("https://docker.io").as_deref(), Some("proxy"));
        assert_eq!(host("http://docker.io"), None);
        assert_eq!(host("https://localhost:5000"), None);
        assert_eq!(host("https://r.internal.example"), None);
        assert_eq!(host("https://10.9.9.9"), None);
        let bad = Proxies { https: Some("no url, secret".into()), ..Proxies::default() };
        let error = bad.choose(&to("https://a.b")).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
