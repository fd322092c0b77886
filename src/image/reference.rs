//! Names of images, in docker's grammar and normal form (distribution/reference): `[registry/]path[:tag][@digest]`.

use crate::digest::Digest;
use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
const LIBRARY: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// A full image name. A short one stands for one at Docker Hub: `alpine` is `docker.io/library/alpine:latest`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ParseReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format: '{0}' is not an image name")]
    Format(String),
    /// Its path has capital letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Its path or tag is too long.
    #[error("invalid reference format: {what} must not be more than {limit} characters")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// It would look like an image id.
    #[error("invalid reference format: '{0}' is 64 hexadecimal digits, which can only be an image id")]
    Id(String),
    /// The digest is none.
    #[error("invalid reference format")]
    Digest(#[from] crate::digest::ParseDigestError),
}

impl Reference {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag: the one given, or `latest` where neither tag nor digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, where it was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest, else the tag.
    pub fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.as_deref().unwrap_or(DEFAULT_TAG).to_owned(),
        }
    }

    /// The same without the tag where there is a digest: what an image pulled by it is called locally (docker
    /// ignores the tag then).
    pub fn local(&self) -> Self {
        let tag = if self.digest.is_some() { None } else { self.tag.clone() };
        Self { tag, ..self.clone() }
    }

    /// The same repository by this digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository as docker lists it: `alpine`, `org/app`, `quay.io/org/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        // `library/a/b` would not come back to itself without `library/`.
        match self.path.strip_prefix(LIBRARY) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            // `docker.io/example.com/a` without its registry would be another one's.
            _ if split_domain(&self.path).is_some() => self.name(),
            _ => self.path.clone(),
        }
    }

    /// The whole name as docker shows it: `alpine:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// Whether a text names its registry; if not, `registries.conf` may complete it.
    pub fn has_domain(text: &str) -> bool {
        split_domain(text).is_some()
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

/// The text before the first slash is a registry if it looks like a host: it has a dot or a port, is `localhost`, or
/// has capitals, which a path cannot have.
fn split_domain(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once('/')?;
    let is_host =
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    is_host.then_some((first, rest))
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let format = || ParseReferenceError::Format(text.to_owned());
        if is_id(text) {
            return Err(ParseReferenceError::Id(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(rest).unwrap_or((DEFAULT_DOMAIN, rest));
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase()) {
            return Err(ParseReferenceError::Uppercase(path.to_owned()));
        }
        if !is_domain(domain) || !is_path(path) {
            return Err(format());
        }
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        let path = match domain {
            DEFAULT_DOMAIN if !path.contains('/') => format!("{LIBRARY}{path}"),
            _ => path.to_owned(),
        };
        if path.len() > MAX_PATH {
            return Err(ParseReferenceError::TooLong { what: "repository name", limit: MAX_PATH });
        }
        let tag = match (tag, digest) {
            (Some(tag), _) if tag.len() > MAX_TAG => {
                return Err(ParseReferenceError::TooLong { what: "tag", limit: MAX_TAG });
            }
            (Some(tag), _) if is_tag(tag) => Some(tag.to_owned()),
            (Some(_), _) => return Err(format()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }
}

/// 64 lower-case hexadecimal digits.
fn is_id(text: &str) -> bool {
    Digest::from_hex(text).is_ok()
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, "")) => return ip.parse::<std::net::Ipv6Addr>().is_ok(),
            Some((ip, port)) => match port.strip_prefix(':') {
                Some(port) if ip.parse::<std::net::Ipv6Addr>().is_ok() => (None, Some(port)),
                _ => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let port_is_good = port.is_none_or(|p| p.parse::<u16>().is_ok() && p.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    port_is_good && host.is_none_or(|host| host.split('.').all(label))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, several with slashes between.
fn is_path(text: &str) -> bool {
    text.split('/').all(|component| {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = component.as_bytes();
        let ends_are_words =
            bytes.first().is_some_and(|b| is_word(*b)) && bytes.last().is_some_and(|b| is_word(*b));
        ends_are_words
            && component
                .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
    })
}

/// `\w[\w.-]*`
fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(is_word) && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_get_dockers_normal_and_familiar_forms() {
        let by_digest = format!("alpine@sha256:{HEX}");
        let full_by_digest = format!("docker.io/library/alpine@sha256:{HEX}");
        let both = format!("r.io/a:1@sha256:{HEX}");
        let table = [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
            ("org/app", "docker.io/org/app:latest", "org/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("docker.io/ex.com/a", "docker.io/ex.com/a:latest", "docker.io/ex.com/a:latest"),
            ("docker.io/localhost/a", "docker.io/localhost/a:latest", "docker.io/localhost/a:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
            ("quay.io/org/app", "quay.io/org/app:latest", "quay.io/org/app:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", "a__b/c--d.e_f:latest"),
            ("local:5000", "docker.io/library/local:5000", "local:5000"),
            ("app:_T.-", "docker.io/library/app:_T.-", "app:_T.-"),
            (&by_digest, &full_by_digest, &by_digest),
            (&both, &both, &both),
        ];
        for (text, full, familiar) in table {
            let parsed: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((parsed.to_string().as_str(), parsed.familiar().as_str()), (full, familiar), "{text}");
            assert_eq!(full.parse(), Ok(parsed.clone()), "{text}");
            assert_eq!(familiar.parse(), Ok(parsed), "{text}");
        }
        let both: Reference = both.parse().unwrap();
        assert_eq!(both.local().to_string(), format!("r.io/a@sha256:{HEX}"));
        assert_eq!(both.tag_or_digest(), format!("sha256:{HEX}"));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        let bad = [
            "",
            ":",
            "a:",
            "a/",
            "/a",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a//b",
            "a b",
            "a:-t",
            "a:t:u",
            "a:é",
            "r.io/",
            "r_o.io:1/a",
            "r.io:x/a",
            "r.io:99999/a",
            "r.io:+1/a",
            "-r.io/a",
            "[::1/a",
            "[x]:5/a",
            "https://r.io/a",
            "a@sha256:00",
            "a@md5:00",
            "Alpine",
            "r.io/Alpine",
            HEX,
            &long,
            &long_tag,
            "a@",
            "../a",
            "a/../b",
            "a\0b",
        ];
        for text in bad {
            assert!(text.parse::<Reference>().is_err(), "{text:?} passed");
        }
        assert!(
            matches!("r.io/Foo".parse::<Reference>(), Err(ParseReferenceError::Uppercase(n)) if n == "Foo")
        );
        assert!(matches!(HEX.parse::<Reference>(), Err(ParseReferenceError::Id(_))));
        assert!("a".repeat(247).parse::<Reference>().is_ok());
    }

    #[test]
    fn a_name_is_short_without_a_registry() {
        for (text, expected) in [
            ("a", false),
            ("a/b", false),
            ("a.b/c", true),
            ("a:1/c", true),
            ("localhost/c", true),
            ("a:1", false),
        ] {
            assert_eq!(Reference::has_domain(text), expected, "{text}");
        }
    }
}
