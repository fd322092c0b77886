//! Which of the images that one name stands for is ours (OCI image index, "platform"; the variants' order is
//! containerd's).

use super::Error;
use oci_spec::image::Descriptor;
use std::fmt;
use std::str::FromStr;

/// An operating system, an architecture in Go's spelling and, for some, a variant of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`…
    pub architecture: String,
    /// `v2`, `v7`… in normal form: none for the usual one (amd64 v1, arm64 v8).
    pub variant: Option<String>,
}

impl Platform {
    /// Of this machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "arm" => ("arm", Some("v7")),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), variant) {
            ("x86_64" | "x86-64", v) => ("amd64".to_owned(), v),
            ("aarch64", v) => ("arm64".to_owned(), v),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386".to_owned(), None),
            ("armhf", _) => ("arm".to_owned(), Some("v7")),
            ("armel", _) => ("arm".to_owned(), Some("v6")),
            (other, v) => (other.to_owned(), v),
        };
        let variant = variant.map(|v| v.to_ascii_lowercase()).filter(|v| !v.is_empty());
        let variant =
            variant.map(|v| if v.bytes().all(|b| b.is_ascii_digit()) { format!("v{v}") } else { v });
        let variant = match (architecture.as_str(), variant.as_deref()) {
            ("amd64", Some("v1")) | ("arm64", Some("v8" | "v8.0")) => None,
            ("arm", None) => Some("v7".into()),
            _ => variant,
        };
        Self { os: os.to_ascii_lowercase(), architecture, variant }
    }

    /// Which architectures and variants run here, the best one first. What `--platform` names is the most that
    /// may be used. Where it names none, the plain image goes before one for newer processors, as for docker, and
    /// such a one is taken only if this processor is new enough.
    fn acceptable(&self, level: u32) -> Vec<(&str, Option<String>)> {
        let number =
            self.variant.as_deref().and_then(|v| v.strip_prefix('v')).and_then(|v| v.parse::<u32>().ok());
        let arm = |from: u32| (5..=from).rev().map(|v| ("arm", Some(format!("v{v}"))));
        match (self.architecture.as_str(), &self.variant, number) {
            ("amd64", None, _) => std::iter::once(("amd64", None))
                .chain((2..=level).map(|v| ("amd64", Some(format!("v{v}")))))
                .collect(),
            ("amd64", Some(_), Some(v)) => (2..=v.min(9))
                .rev()
                .map(|v| ("amd64", Some(format!("v{v}"))))
                .chain([("amd64", None)])
                .collect(),
            ("arm64", None, _) => std::iter::once(("arm64", None)).chain(arm(8)).collect(),
            ("arm64", Some(_), _) => vec![("arm64", self.variant.clone()), ("arm64", None)],
            ("arm", Some(_), Some(v)) => arm(v.min(8)).collect(),
            (other, variant, _) => vec![(other, variant.clone())],
        }
    }

    /// Whether an image for `other` was meant by this.
    pub fn accepts(&self, other: &Platform) -> bool {
        self.rank(other).is_some()
    }

    /// How good an image for `other` is for this, 0 the best; `None` if it cannot be used.
    pub(super) fn rank(&self, other: &Platform) -> Option<usize> {
        if self.os != other.os {
            return None;
        }
        self.acceptable(amd64_level()).iter().position(|(architecture, variant)| {
            *architecture == other.architecture && *variant == other.variant
        })
    }

    /// The best entry of an index for this platform.
    pub(super) fn choose<'d>(&self, entries: &'d [Descriptor]) -> Option<&'d Descriptor> {
        let ranked = entries.iter().filter_map(|entry| Some((self.rank(&of(entry)?)?, entry)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }
}

/// The platform that an index's entry says it is for.
pub(super) fn of(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.platform().as_ref()?;
    Some(Platform::normal(
        &platform.os().to_string(),
        &platform.architecture().to_string(),
        platform.variant().as_deref(),
    ))
}

/// The platform that an image's config says.
pub(super) fn of_config(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    Platform::normal(if os.is_empty() { "linux" } else { os }, architecture, variant)
}

/// The x86-64 micro-architecture level of this processor (psABI), 1 elsewhere.
fn amd64_level() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let v2 = has!("sse3")
            && has!("ssse3")
            && has!("sse4.1")
            && has!("sse4.2")
            && has!("popcnt")
            && has!("cmpxchg16b");
        let v3 = v2
            && has!("avx")
            && has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("f16c")
            && has!("fma")
            && has!("lzcnt")
            && has!("movbe");
        let v4 = v3
            && has!("avx512f")
            && has!("avx512bw")
            && has!("avx512cd")
            && has!("avx512dq")
            && has!("avx512vl");
        1 + u32::from(v2) + u32::from(v3) + u32::from(v4)
    }
    #[cfg(not(target_arch = "x86_64"))]
    1
}

impl FromStr for Platform {
    type Err = Error;

    /// `os/architecture[/variant]`, or only an operating system or an architecture.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadPlatform(text.to_owned());
        let is_good = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_good) {
            return Err(bad());
        }
        const SYSTEMS: [&str; 6] = ["linux", "windows", "darwin", "freebsd", "wasi", "wasip1"];
        let host = Self::host();
        Ok(match parts[..] {
            [os] if SYSTEMS.contains(&os.to_ascii_lowercase().as_str()) => {
                Self { os: os.to_ascii_lowercase(), ..host }
            }
            [architecture] => Self::normal("linux", architecture, None),
            [os, architecture] => Self::normal(os, architecture, None),
            [os, architecture, variant] => Self::normal(os, architecture, Some(variant)),
            _ => return Err(bad()),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_parsed_into_one_normal_form() {
        let table = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64/v1", "linux/amd64"),
            ("linux/AMD64/v3", "linux/amd64/v3"),
            ("arm64", "linux/arm64"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armel", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
        ];
        for (text, expected) in table {
            assert_eq!(platform(text).to_string(), expected, "{text}");
        }
        assert_eq!(platform("linux"), Platform::host());
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    fn order(wanted: &str, level: u32) -> Vec<String> {
        let wanted = platform(wanted);
        let show = |(a, v): (&str, Option<String>)| v.map_or(a.to_owned(), |v| format!("{a}/{v}"));
        wanted.acceptable(level).into_iter().map(show).collect()
    }

    #[test]
    fn variants_are_tried_from_the_best_to_the_least() {
        assert_eq!(order("linux/amd64", 3), ["amd64", "amd64/v2", "amd64/v3"]);
        assert_eq!(order("linux/amd64/v3", 1), ["amd64/v3", "amd64/v2", "amd64"]);
        assert_eq!(order("linux/arm/v7", 1), ["arm/v7", "arm/v6", "arm/v5"]);
        assert_eq!(order("linux/arm/v6", 1), ["arm/v6", "arm/v5"]);
        assert_eq!(order("linux/arm64", 1), ["arm64", "arm/v8", "arm/v7", "arm/v6", "arm/v5"]);
        assert_eq!(order("linux/arm64/v9", 1), ["arm64/v9", "arm64"]);
        assert_eq!(order("linux/s390x", 1), ["s390x"]);
    }

    fn entry(text: &str) -> Descriptor {
        let p = text.split('/').collect::<Vec<_>>();
        let variant = p.get(2).map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
        serde_json::from_str(&format!(
            r#"{{"mediaType":"x","digest":"sha256:{}","size":{},"platform":{{"os":"{}","architecture":"{}"{variant}}}}}"#,
            "0".repeat(64),
            text.len(),
            p[0],
            p[1]
        ))
        .unwrap()
    }

    #[test]
    fn the_best_entry_of_an_index_is_chosen() {
        let all = [
            "unknown/unknown",
            "linux/arm/v7",
            "linux/amd64/v2",
            "linux/arm64/v8",
            "linux/amd64",
            "windows/amd64",
        ];
        let entries: Vec<_> = all.iter().map(|t| entry(t)).collect();
        let chosen = |wanted: &str| platform(wanted).choose(&entries).map(|e| of(e).unwrap().to_string());
        assert_eq!(chosen("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen("linux/amd64/v3").as_deref(), Some("linux/amd64/v2"));
        assert_eq!(chosen("linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(chosen("linux/arm/v8").as_deref(), Some("linux/arm/v7"));
        assert_eq!(chosen("linux/arm/v6"), None);
        assert_eq!(chosen("linux/riscv64"), None);
    }
}
