//! Finding images that are not here: in registries, by a part of their names.

use super::pull::candidates;
use super::{Error, Reference};
use crate::registry::{Client, Endpoint, Found, Options, Registries};

/// A repository that a search found, and in which registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchHit {
    /// The registry.
    pub registry: String,
    /// The full name: what to pull.
    pub name: String,
    /// What the registry says of it.
    pub found: Found,
}

/// What [`search`] found, and the registries that could not be asked.
#[derive(Debug, Default)]
pub struct SearchResult {
    /// What was found, registry by registry.
    pub hits: Vec<SearchHit>,
    /// The registries that failed, and why.
    pub failed: Vec<(String, Error)>,
}

/// Searches the registry that `term` begins with (`quay.io/app`, or `localhost:5000/` for all it has), or all those that
/// `registries.conf` says; at most `limit` of each.
pub fn search(term: &str, limit: usize, options: &Options) -> Result<SearchResult, Error> {
    let registries = Registries::load(&options.places)?;
    let client = Client::new(options.clone());
    let (searched, term) = match term.split_once('/') {
        Some((registry, rest)) if Reference::has_domain(term) => (vec![registry.to_owned()], rest),
        _ => (registries.searched(), term),
    };
    let mut result = SearchResult::default();
    for registry in searched {
        let one = || -> Result<Vec<Found>, Error> {
            Ok(client.search(&reach(&registries, &registry)?, term, limit)?)
        };
        match one() {
            Ok(found) => result.hits.extend(found.into_iter().map(|found| hit(&registry, found))),
            Err(error) => result.failed.push((registry, error)),
        }
    }
    Ok(result)
}

/// How a registry is reached: as any of its repositories would be.
fn reach(registries: &Registries, registry: &str) -> Result<Endpoint, Error> {
    let itself = || Endpoint { host: registry.to_owned(), repository: String::new(), insecure: false };
    Ok(registries.endpoints(&format!("{registry}/search"), false)?.pop().unwrap_or_else(itself))
}

fn hit(registry: &str, found: Found) -> SearchHit {
    // Docker Hub's own images come without their folder.
    let path = match registry == "docker.io" && !found.name.contains('/') {
        true => format!("library/{}", found.name),
        false => found.name.clone(),
    };
    SearchHit { registry: registry.to_owned(), name: format!("{registry}/{path}"), found }
}

/// The tags of a repository, from the first registry that has it.
pub fn tags(typed: &str, options: &Options) -> Result<(Reference, Vec<String>), Error> {
    let registries = Registries::load(&options.places)?;
    let client = Client::new(options.clone());
    let mut last = None;
    for name in candidates(&registries, typed)? {
        for endpoint in registries.endpoints(&name.name(), false)? {
            let repository = client.repository(&endpoint, &name.familiar_name())?;
            match repository.tags() {
                Ok(tags) => return Ok((name, tags)),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.map_or_else(|| Error::NotFound(typed.to_owned()), Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_a_name_that_can_be_pulled() {
        let named =
            |registry: &str, name: &str| hit(registry, Found { name: name.into(), ..Found::default() }).name;
        assert_eq!(named("docker.io", "alpine"), "docker.io/library/alpine");
        assert_eq!(named("docker.io", "org/app"), "docker.io/org/app");
        assert_eq!(named("localhost:5000", "app"), "localhost:5000/app");
    }
}
