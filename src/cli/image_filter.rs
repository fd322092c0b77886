//! Which images `images` shows: docker's and podman's filters.

use super::Error;
use super::parse;
use super::stores::{Stores, Users};
use crate::image::{ImageEntry, Name};
use std::time::SystemTime;

/// The keys of `--filter`.
pub const KEYS: [&str; 14] = [
    "after",
    "before",
    "containers",
    "dangling",
    "id",
    "intermediate",
    "label",
    "label!",
    "manifest",
    "readonly",
    "reference",
    "reference!",
    "since",
    "until",
];

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Some name fits the pattern, or none does.
    Reference(String, bool),
    /// It has the label, or not.
    Label(String, bool),
    /// It has no name.
    Dangling(bool),
    /// A container is made from it.
    Containers(bool),
    /// Its id begins so.
    Id(String),
    /// It was made before this moment.
    Before(SystemTime),
    /// It was made after this moment.
    After(SystemTime),
    /// It is of a sort that there is not here: a step of a build, a list of images, in a store that cannot be written.
    Foreign(bool),
}

/// The text of a filter, checked as far as that can be done without looking at images.
pub fn check(text: &str) -> Result<(String, String), parse::Invalid> {
    let (key, value) = parse::filter(text, &KEYS)?;
    match key.as_str() {
        "dangling" | "containers" | "intermediate" | "manifest" | "readonly" => {
            parse::boolean(&value)?;
        }
        "until" => {
            parse::moment(&value, SystemTime::now())?;
        }
        _ => {}
    }
    Ok((key, value))
}

impl Filter {
    /// The condition; `before` and its relatives name images, which are looked up.
    pub fn of(key: &str, value: &str, stores: &Stores, now: SystemTime) -> anyhow::Result<Self> {
        let invalid = |invalid| Error::value("filter", &format!("{key}={value}"))(invalid);
        let boolean = || parse::boolean(value).map_err(invalid);
        let made = || -> anyhow::Result<SystemTime> {
            let image = stores.images.resolve(value)?;
            let created = image.config.created.as_deref().and_then(|text| parse::moment(text, now).ok());
            let says_not =
                || Error::usage(format!("image {value} does not say when it was made"), "use until=TIME");
            Ok(created.ok_or_else(says_not)?)
        };
        Ok(match key {
            "dangling" => Self::Dangling(boolean()?),
            "containers" => Self::Containers(boolean()?),
            "intermediate" | "manifest" | "readonly" => Self::Foreign(boolean()?),
            "label" | "label!" => Self::Label(value.to_owned(), key == "label"),
            "id" => Self::Id(value.strip_prefix("sha256:").unwrap_or(value).to_owned()),
            "before" => Self::Before(made()?),
            "after" | "since" => Self::After(made()?),
            "until" => Self::Before(parse::moment(value, now).map_err(invalid)?),
            _ => Self::Reference(value.to_owned(), key == "reference"),
        })
    }

    fn holds(&self, entry: &ImageEntry, made: Option<SystemTime>, users: &Users) -> bool {
        match self {
            Self::Reference(pattern, wanted) => {
                entry.names.iter().any(|name| matches_pattern(name, pattern)) == *wanted
            }
            Self::Label(label, wanted) => {
                parse::has_label(&entry.image.config.config.labels, label) == *wanted
            }
            Self::Dangling(wanted) => entry.names.is_empty() == *wanted,
            Self::Containers(wanted) => (users.count_of(entry.image.id) > 0) == *wanted,
            Self::Id(start) => entry.image.id.hex().starts_with(start.as_str()),
            Self::Before(moment) => made.is_some_and(|made| made < *moment),
            Self::After(moment) => made.is_some_and(|made| made > *moment),
            Self::Foreign(wanted) => !wanted,
        }
    }
}

/// Whether an image passes: all conditions must hold, but of several patterns for its name any.
pub fn accepts(filters: &[Filter], entry: &ImageEntry, made: Option<SystemTime>, users: &Users) -> bool {
    let is_pattern = |filter: &&Filter| matches!(filter, Filter::Reference(_, true));
    let holds = |filter: &Filter| filter.holds(entry, made, users);
    let mut patterns = filters.iter().filter(is_pattern).peekable();
    (patterns.peek().is_none() || patterns.any(holds))
        && filters.iter().filter(|filter| !is_pattern(filter)).all(holds)
}

/// docker's `reference` patterns: `*` within a part, matched against the name with and without tag and domain.
pub fn matches_pattern(name: &Name, pattern: &str) -> bool {
    let full = &name.reference;
    let tag = match (full.tag(), full.digest()) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(digest)) => format!("@{digest}"),
        (None, None) => String::new(),
    };
    [full.name(), full.familiar_name(), full.path().rsplit('/').next().unwrap_or_default().to_owned()]
        .into_iter()
        .flat_map(|name| [format!("{name}{tag}"), name])
        .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
}

/// `*` is any run of characters but `/`, `?` any one of them.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text) || text.split_first().is_some_and(|(c, left)| *c != b'/' && glob(pattern, left))
        }
        (Some((p, rest)), Some((c, left))) => (p == c || (*p == b'?' && *c != b'/')) && glob(rest, left),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::{Image, ImageConfig};
    use std::time::{Duration, UNIX_EPOCH};

    fn entry(names: &[&str]) -> ImageEntry {
        let mut config = ImageConfig::default();
        config.config.labels = [("a".to_owned(), "1".to_owned())].into();
        let image = Image { id: Digest::of(b""), manifest: None, index: None, name: None, config };
        let name = |name: &&str| Name { reference: name.parse().unwrap(), digest: None, since: 0 };
        ImageEntry { image, names: names.iter().map(name).collect() }
    }

    #[test]
    fn a_pattern_fits_a_name_with_and_without_its_registry_and_tag() {
        let digest = format!("r.io/app@sha256:{}", "0".repeat(64));
        for (name, pattern, expected) in [
            ("quay.io/org/app:1", "app", true),
            ("quay.io/org/app:1", "app:1", true),
            ("quay.io/org/app:1", "app:2", false),
            ("quay.io/org/app:1", "org/app", false),
            ("quay.io/org/app:1", "quay.io/*/app:?", true),
            ("quay.io/org/app:1", "quay.io/*", false),
            ("debian", "docker.io/library/debian:latest", true),
            ("debian", "deb*", true),
            (&digest, "r.io/app", true),
            (&digest, &digest, true),
        ] {
            assert_eq!(matches_pattern(&entry(&[name]).names[0], pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn all_conditions_must_hold_but_of_several_patterns_any() {
        let users = Users::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let reference = |text: &str, wanted| Filter::Reference(text.into(), wanted);
        let named = entry(&["app:1"]);
        for (filters, expected) in [
            (vec![], true),
            (vec![reference("x", true), reference("app", true)], true),
            (vec![reference("app", true), reference("app:1", false)], false),
            (vec![Filter::Dangling(true)], false),
            (vec![Filter::Containers(false), Filter::Foreign(false), Filter::Id("e3b0".into())], true),
            (vec![Filter::Foreign(true)], false),
            (vec![Filter::Label("a=1".into(), true), Filter::Label("b".into(), true)], false),
            (vec![Filter::Label("b".into(), false)], true),
            (vec![Filter::Before(at(11)), Filter::After(at(9))], true),
            (vec![Filter::Before(at(10))], false),
        ] {
            assert_eq!(accepts(&filters, &named, Some(at(10)), &users), expected, "{filters:?}");
        }
        assert!(!accepts(&[Filter::Before(at(11))], &named, None, &users));
        assert!(accepts(&[Filter::Dangling(true)], &entry(&[]), None, &users));
    }

    #[test]
    fn values_are_checked() {
        assert!(check("dangling=maybe").is_err() && check("until=never").is_err());
        assert!(check("label!=x").is_ok() && check("is-dangling=true").is_err() && check("x").is_err());
    }
}
