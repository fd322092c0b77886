//! `--filter` on containers: all keys must hold, of several values of one key any (of labels, every one).

use super::container_view::moment;
use super::engine::Engine;
use super::stores::Stores;
use super::{Error, parse};
use crate::container::record::{MountKind, Status};
use crate::container::store::Container;
use crate::digest::Digest;
use regex::Regex;
use std::time::SystemTime;

/// What containers can be chosen by.
pub const KEYS: [&str; 13] = [
    "id", "name", "label", "label!", "status", "exited", "ancestor", "before", "since", "volume", "network",
    "until", "command",
];

/// docker's: not all of them can be had here.
const STATES: [&str; 7] = ["restarting", "running", "removing", "paused", "dead", "created", "exited"];

/// `--filter`, ready to be asked.
pub struct Filter {
    terms: Vec<(String, Vec<Test>)>,
}

type Test = Box<dyn Fn(&Container) -> bool>;

/// An image's id and layers.
type Ancestor = (Digest, Vec<Digest>);

/// What the values of filters are about.
struct About<'a> {
    containers: &'a [Container],
    now: SystemTime,
    /// Id and layers of the image of a name.
    image: &'a dyn Fn(&str) -> Option<Ancestor>,
}

impl Filter {
    /// From what was typed; `all` are the containers that there are.
    pub fn new(
        engine: &Engine,
        filters: &[(String, String)],
        all: &[Container],
        now: SystemTime,
    ) -> anyhow::Result<Self> {
        let image = |name: &str| {
            let image = Stores::open(engine).images.resolve(name).ok()?;
            Some((image.id, image.diff_ids().to_vec()))
        };
        Self::about(filters, &About { containers: all, now, image: &image })
    }

    fn about(filters: &[(String, String)], about: &About<'_>) -> anyhow::Result<Self> {
        let mut terms: Vec<(String, Vec<Test>)> = Vec::new();
        for (key, value) in filters {
            let test = test(key, value, about)?;
            match terms.iter_mut().find(|(k, _)| k == key) {
                Some((_, tests)) if !key.starts_with("label") => tests.push(test),
                _ => terms.push((key.clone(), vec![test])),
            }
        }
        Ok(Self { terms })
    }

    /// Whether a container is one of those meant.
    pub fn accepts(&self, container: &Container) -> bool {
        self.terms.iter().all(|(_, tests)| tests.iter().any(|test| test(container)))
    }
}

fn test(key: &str, value: &str, about: &About<'_>) -> anyhow::Result<Test> {
    let value = value.to_owned();
    let created = |name: &str| {
        let name = name.strip_prefix('/').unwrap_or(name);
        let mut all = about.containers.iter();
        // A name counts before the start of an id.
        let found = all
            .clone()
            .find(|c| c.record.name == name)
            .or_else(|| all.find(|c| c.record.id.as_str().starts_with(name)));
        found.map(|c| c.record.created).ok_or_else(|| crate::container::Error::NotFound(name.to_owned()))
    };
    Ok(match key {
        "id" => Box::new(move |c| c.record.id.as_str().starts_with(&value)),
        "name" => {
            let pattern = Regex::new(&value).map_err(|_| {
                Error::usage(
                    format!("name={value}: not a regular expression"),
                    "quote special characters with \\",
                )
            })?;
            // docker's names begin with a slash, and it matches with and without.
            Box::new(move |c| {
                pattern.is_match(&c.record.name) || pattern.is_match(&format!("/{}", c.record.name))
            })
        }
        "status" => match STATES.contains(&value.as_str()) {
            true => Box::new(move |c| c.status.word() == value),
            false => {
                let what = format!("status={value}: unknown container state");
                return Err(Error::usage(what, format!("one of: {}", STATES.join(", "))).into());
            }
        },
        "exited" => {
            let code: i32 = value
                .parse()
                .map_err(|_| Error::usage(format!("exited={value}: not an exit code"), "give a number"))?;
            Box::new(move |c| matches!(c.status, Status::Exited { code: ended, .. } if ended == code))
        }
        "ancestor" => {
            let image = (about.image)(&value);
            Box::new(move |c| descends(c, &value, image.as_ref()))
        }
        "before" => {
            let limit = created(&value)?;
            Box::new(move |c| c.record.created < limit)
        }
        "since" => {
            let limit = created(&value)?;
            Box::new(move |c| c.record.created > limit)
        }
        "until" => {
            let limit = parse::moment(&value, about.now)
                .map_err(|e| Error::usage(format!("until={value}: {}", e.why), "give a time or a span"))?;
            Box::new(move |c| moment(c.record.created) < limit)
        }
        "volume" => Box::new(move |c| {
            c.record.mounts.iter().any(|m| match &m.kind {
                MountKind::Volume { name, .. } => *name == value || m.destination == value,
                MountKind::Bind { path } => path.to_str() == Some(&value) || m.destination == value,
                _ => m.destination == value,
            })
        }),
        "network" => Box::new(move |c| super::network_view::network_names(&c.record).contains(&value)),
        "command" => Box::new(move |c| c.record.spec.process.args.first() == Some(&value)),
        "label!" => Box::new(move |c| !parse::has_label(&c.record.labels, &value)),
        // label
        _ => Box::new(move |c| parse::has_label(&c.record.labels, &value)),
    })
}

/// Whether a container was made from an image, or from one that was built on it: that one begins with its layers.
fn descends(container: &Container, name: &str, image: Option<&Ancestor>) -> bool {
    let record = &container.record;
    match image {
        Some((id, layers)) => {
            record.image_id == Some(*id) || (!layers.is_empty() && record.layers.starts_with(layers))
        }
        // The image is gone, or has lost its name: containers remember what they were made from.
        None => {
            let hex = name.strip_prefix("sha256:").unwrap_or(name);
            record.image == name
                || record.image.split(':').next() == Some(name)
                || (!hex.is_empty() && record.image_id.is_some_and(|id| id.hex().starts_with(hex)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_dockers_and_patterns_regular_expressions() {
        let about = About { containers: &[], now: SystemTime::now(), image: &|_| None };
        let is_good = |key: &str, value: &str| test(key, value, &about).is_ok();
        assert!(is_good("status", "exited") && is_good("status", "paused") && is_good("name", "^/?web$"));
        assert!(!is_good("status", "bogus") && !is_good("name", "(") && !is_good("exited", "x"));
        assert!(!is_good("before", "nobody"));
    }
}
