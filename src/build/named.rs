//! The contexts that have a name: `--build-context`.
//!
//! A name goes before any stage or image of that name, in FROM and in `--from`: [`Contexts::find`] is the one look-up.

use super::ignore::Ignore;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Named {
    /// A folder, and what is left out of it.
    Folder(PathBuf, Ignore),
    /// An image: a reference, or what the caller calls one that it has itself.
    Image(String),
    /// Nothing: `docker-image://scratch`.
    Scratch,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Contexts(BTreeMap<String, Named>);

impl Contexts {
    /// Adds one, in place of an earlier one of its name.
    pub fn add(&mut self, name: &str, named: Named) {
        self.0.insert(plain(name), named);
    }

    /// What a name of the Dockerfile's stands for, and what the context is called.
    pub fn find(&self, name: &str) -> Option<(&str, &Named)> {
        self.0.get_key_value(&plain(name)).map(|(name, named)| (name.as_str(), named))
    }

    /// The folders among them, by name.
    pub fn folders(&self) -> impl Iterator<Item = (&str, &PathBuf, &Ignore)> {
        self.0.iter().filter_map(|(name, named)| match named {
            Named::Folder(path, ignore) => Some((name.as_str(), path, ignore)),
            _ => None,
        })
    }
}

/// `alpine` of `docker.io/library/alpine:latest`: names of images are the same however much of them is written.
fn plain(name: &str) -> String {
    let name = name.to_lowercase();
    let rest = name.strip_prefix("docker.io/").unwrap_or(&name);
    let rest = rest.strip_prefix("library/").unwrap_or(rest);
    rest.strip_suffix(":latest").unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_much_of_it_is_written() {
        let mut contexts = Contexts::default();
        contexts.add("Alpine", Named::Scratch);
        contexts.add("r.io/app:1", Named::Image("x".into()));
        for name in ["alpine", "docker.io/library/alpine:latest", "library/alpine"] {
            assert_eq!(contexts.find(name).map(|(name, _)| name), Some("alpine"), "{name}");
        }
        assert!(contexts.find("r.io/app:1").is_some() && contexts.find("r.io/app").is_none());
        assert!(contexts.find("alpine:3").is_none());
    }
}
