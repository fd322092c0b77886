//! What a registry has: tags of a repository, repositories, and Docker Hub's search.
//!
//! Docker Hub and a few others answer the old search of the first registry API; a plain registry only lists what it has
//! (distribution-spec, "Listing Tags"; `_catalog` is docker's), in pages. Pages are followed within the registry only, and
//! not without end.

use super::client::Repository;
use super::request::{Ask, persist};
use super::url::{Origin, encode, join};
use super::{Client, Endpoint, Error};
use serde::Deserialize;
use ureq::http::{Method, Uri};

/// Bound of one page.
const MAX_PAGE: u64 = 4 << 20;
/// Bound of the names that are listed.
const MAX_NAMES: usize = 1_000_000;
/// Names that a page is asked to have.
const PAGE: usize = 1000;

/// A repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name in the registry.
    pub name: String,
    /// What it says about itself.
    #[serde(deserialize_with = "or_empty")]
    pub description: String,
    /// How many like it.
    #[serde(rename = "star_count")]
    pub stars: u64,
    /// Whether Docker answers for it.
    #[serde(rename = "is_official")]
    pub official: bool,
    /// Whether it is built by Docker Hub.
    #[serde(rename = "is_automated")]
    pub automated: bool,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Client {
    /// Searches a registry for `term`; at most `limit` answers. `endpoint` says how to reach it; its repository counts
    /// for nothing.
    pub fn search(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
        let is_hub = ["docker.io", "index.docker.io"].contains(&endpoint.host.as_str());
        let by_search = self.search_v1(endpoint, is_hub, term, limit);
        match by_search {
            Err(
                Error::NotFound { .. } | Error::Denied { .. } | Error::Status { .. } | Error::Protocol { .. },
            ) if !is_hub => self.search_catalog(endpoint, term, limit),
            other => other,
        }
    }

    fn search_v1(
        &self,
        endpoint: &Endpoint,
        is_hub: bool,
        term: &str,
        limit: usize,
    ) -> Result<Vec<Found>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            results: Vec<Found>,
        }
        let host = if is_hub { "index.docker.io" } else { &endpoint.host };
        let registry = self.registry(host, endpoint.insecure)?;
        let query = format!("v1/search?q={}&n={limit}", encode(term));
        let (bytes, _) = registry.page(&registry.whole_url(&query)?, "search")?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| Error::Protocol {
            host: host.to_owned(),
            why: format!("gave an answer to a search that is none ({e})"),
        })?;
        Ok(answer.results.into_iter().take(limit).collect())
    }

    fn search_catalog(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            repositories: Option<Vec<String>>,
        }
        let registry = self.registry(&endpoint.host, endpoint.insecure)?;
        let first = registry.whole_url(&format!("v2/_catalog?n={PAGE}"))?;
        let mut found = Vec::new();
        registry.pages(first, "list of repositories", |bytes| {
            let answer: Answer = serde_json::from_slice(bytes)?;
            let names = answer.repositories.unwrap_or_default();
            let count = names.len();
            let fits = names.into_iter().filter(|name| name.contains(term));
            found.extend(fits.map(|name| Found { name, ..Found::default() }));
            Ok((count, found.len() < limit))
        })?;
        found.truncate(limit);
        Ok(found)
    }
}

impl Repository<'_> {
    /// All its tags, in the registry's order.
    pub fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            tags: Option<Vec<String>>,
        }
        let first = self.url("tags", &format!("list?n={PAGE}"))?;
        let mut tags = Vec::new();
        self.pages(first, &format!("tags of {}", self.name), |bytes| {
            let answer: Answer = serde_json::from_slice(bytes)?;
            let page = answer.tags.unwrap_or_default();
            let count = page.len();
            tags.extend(page);
            Ok((count, true))
        })?;
        Ok(tags)
    }

    /// Reads pages while `take`, which gives how many names a page had, wants more.
    fn pages(
        &self,
        first: Uri,
        what: &str,
        mut take: impl FnMut(&[u8]) -> serde_json::Result<(usize, bool)>,
    ) -> Result<(), Error> {
        let (mut url, mut count) = (first, 0);
        loop {
            let (bytes, next) = self.page(&url, what)?;
            let (names, more) =
                take(&bytes).map_err(|e| self.nonsense(format!("gave a {what} that is none ({e})")))?;
            count += names;
            let Some(next) = next.filter(|_| more && names > 0) else { return Ok(()) };
            if count > MAX_NAMES {
                return Err(Error::TooLarge { what: what.to_owned(), limit: MAX_NAMES as u64 });
            }
            let target = join(&url, &next).filter(|next| Origin::of(next).as_ref() == Some(&self.origin));
            url = target.ok_or_else(|| self.nonsense(format!("has the rest of its {what} elsewhere")))?;
        }
    }

    /// One page and where the next one is (RFC 8288).
    fn page(&self, url: &Uri, what: &str) -> Result<(Vec<u8>, Option<String>), Error> {
        let ask = Ask { method: Method::GET, url: url.clone(), what, headers: Vec::new(), body: None };
        persist(self.client.options(), || {
            let response = self.attempt(&ask)?;
            let link = response.headers().get("link").and_then(|v| v.to_str().ok()).and_then(next_of);
            Ok((self.client.read_bounded(&self.origin, response, what, MAX_PAGE)?, link))
        })
    }

    fn nonsense(&self, why: String) -> Error {
        Error::Protocol { host: self.origin.display(), why }
    }
}

/// The target of the link that says `rel="next"`.
fn next_of(header: &str) -> Option<String> {
    let is_next =
        |link: &&str| link.split(';').skip(1).any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
    let link = header.split(',').find(is_next)?;
    Some(link.trim().strip_prefix('<')?.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        let link = r#"</v2/_catalog?last=b&n=2>; rel="next""#;
        assert_eq!(next_of(link).as_deref(), Some("/v2/_catalog?last=b&n=2"));
        assert_eq!(next_of(r#"<a>; rel="prev", <b>; title=x; rel=next"#).as_deref(), Some("b"));
        assert_eq!(next_of("<a>; rel=\"last\""), None);
        assert_eq!(next_of("nonsense"), None);
    }
}
