//! Where a request goes: origins, what a redirect means, what may be spoken in clear text.

use std::net::IpAddr;
use ureq::http::Uri;

/// Scheme, host and port: what a credential belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) https: bool,
    /// Lower case, without brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an absolute http or https URL without user information; `None` of anything else.
    pub(super) fn of(url: &Uri) -> Option<Self> {
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return None,
        };
        let authority = url.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let host = bare(authority.host()).to_ascii_lowercase();
        Some(Self { https, host, port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }) })
    }

    /// For messages: `host`, and the port if it is not the usual one.
    pub(super) fn display(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) if self.host.contains(':') => format!("[{}]:{port}", self.host),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the other end is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// `[::1]` without its brackets.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// Whether a host, without a port, is this machine by its name alone (RFC 6761, 6.3).
pub(super) fn is_loopback(host: &str) -> bool {
    match bare(host).parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => {
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// The host of `host[:port]`.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The URL that `location` means, seen from `base` (RFC 3986, 5.2; without dot segments, which no registry
/// sends).
pub(super) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.is_empty() || location.contains("://") {
        return None;
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    absolute.parse().ok()
}

/// Percent-encodes a value of a query.
pub(super) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<Origin> {
        Origin::of(&url.parse().unwrap())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://Example.com/a"), origin("https://example.com:443/b"));
        assert_ne!(origin("https://example.com"), origin("http://example.com"));
        assert_ne!(origin("http://example.com"), origin("http://example.com:81"));
        assert_ne!(origin("https://example.com"), origin("https://a.example.com"));
        assert_eq!(origin("https://user:pw@example.com/"), None);
        assert_eq!(origin("ftp://example.com/"), None);
        assert_eq!(origin("/path"), None);
        assert_eq!(origin("http://[::1]:5000/").unwrap().display(), "[::1]:5000");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in [
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "127.0.0.1",
            "127.8.9.1",
            "[::1]",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["example.com", "localhost.example.com", "mylocalhost", "127.0.0.1.nip.io", "10.0.0.1", "::2"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_location_is_seen_from_where_it_was_given() {
        let base: Uri = "https://r.io/v2/a/blobs/x".parse().unwrap();
        let table = [
            ("https://cdn.io/x?sig=1#f", Some("https://cdn.io/x?sig=1")),
            ("//cdn.io/x", Some("https://cdn.io/x")),
            ("/x", Some("https://r.io/x")),
            ("y", Some("https://r.io/v2/a/blobs/y")),
            ("ftp://x/y", None),
            ("", None),
        ];
        for (location, expected) in table {
            assert_eq!(join(&base, location).map(|u| u.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn ports_and_queries() {
        assert_eq!(without_port("a:1"), "a");
        assert_eq!(without_port("[::1]:5"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(encode("repository:a/b:pull x"), "repository%3Aa%2Fb%3Apull%20x");
    }
}
