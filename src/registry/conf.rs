//! `registries.conf`, version 2 (containers-registries.conf(5)): short names, mirrors, insecure and blocked
//! registries.
//!
//! The user's file replaces the system's; the drop-in files of both are added in order, a later table of the
//! same prefix replacing an earlier one.

use super::{Error, Places};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What all the files say together.
#[derive(Debug, Default)]
pub struct Registries {
    search: Vec<String>,
    ask_first: bool,
    tables: Vec<Table>,
    aliases: BTreeMap<String, String>,
}

/// One place from which a repository can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]`; `docker.io` means Docker Hub.
    pub host: String,
    /// The repository there, without the host.
    pub repository: String,
    /// Unverified certificates and plain http are allowed.
    pub insecure: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<ShortNameMode>,
    #[serde(default)]
    registry: Vec<Table>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Version 1 of the format.
    registries: Option<toml::Value>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum ShortNameMode {
    Enforcing,
    Permissive,
    Disabled,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    prefix: Option<String>,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: PullFromMirror,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

impl Registries {
    /// Reads the files; those that are not there say nothing.
    pub fn load(places: &Places) -> Result<Self, Error> {
        let mut all = Self::default();
        if let Some(path) = &places.registries_conf {
            // As for podman, a named file stands alone.
            all.add(path, &read(path)?.ok_or_else(|| bad(path, None, "no such file"))?)?;
            return Ok(all);
        }
        let folders =
            [Some(places.etc.join("containers")), places.config.as_ref().map(|c| c.join("containers"))];
        for folder in folders.iter().rev().flatten() {
            let path = folder.join("registries.conf");
            if let Some(text) = read(&path)? {
                all.add(&path, &text)?;
                break;
            }
        }
        for folder in folders.iter().flatten() {
            for path in drop_ins(&folder.join("registries.conf.d"))? {
                if let Some(text) = read(&path)? {
                    all.add(&path, &text)?;
                }
            }
        }
        // What the user once answered to podman's question about a short name.
        if let Some(path) = places.cache.as_ref().map(|c| c.join("containers/short-name-aliases.conf"))
            && let Some(text) = read(&path)?
        {
            all.add(&path, &text)?;
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            bad(path, line, e.message())
        })?;
        if file.registries.is_some() {
            return Err(bad(
                path,
                None,
                "[registries.*] tables are of version 1 of the format; use [[registry]]",
            ));
        }
        if let Some(search) = file.unqualified_search_registries {
            self.search = search;
        }
        if let Some(mode) = file.short_name_mode {
            self.ask_first = mode == ShortNameMode::Enforcing;
        }
        for mut table in file.registry {
            let prefix =
                table.prefix.take().filter(|p| !p.is_empty()).unwrap_or_else(|| table.location.clone());
            if prefix.is_empty() {
                return Err(bad(path, None, "a [[registry]] needs a prefix or a location"));
            }
            self.tables.retain(|t| t.prefix.as_deref() != Some(&prefix));
            table.prefix = Some(prefix);
            self.tables.push(table);
        }
        for (short, full) in file.aliases {
            if full.is_empty() {
                self.aliases.remove(&short);
            } else {
                self.aliases.insert(short, full);
            }
        }
        Ok(())
    }

    /// What a name without a registry (`alpine`, `org/app`; no tag) may mean, in the order in which to try: its
    /// alias, else the name in each of `unqualified-search-registries`, else in Docker Hub.
    pub fn complete(&self, short: &str) -> Result<Vec<String>, Error> {
        if let Some(full) = self.aliases.get(short) {
            return Ok(vec![full.clone()]);
        }
        if self.search.is_empty() {
            return Ok(vec![format!("docker.io/{short}")]);
        }
        let candidates: Vec<_> = self.search.iter().map(|registry| format!("{registry}/{short}")).collect();
        if self.ask_first && candidates.len() > 1 {
            return Err(Error::ShortName { name: short.into(), candidates });
        }
        Ok(candidates)
    }

    /// The registries in which a search without a registry's name looks.
    pub fn searched(&self) -> Vec<String> {
        match self.search.is_empty() {
            true => vec!["docker.io".into()],
            false => self.search.clone(),
        }
    }

    /// From where the repository `name` (with its registry, without tag) is fetched: mirrors first, then itself.
    pub fn endpoints(&self, name: &str, by_digest: bool) -> Result<Vec<Endpoint>, Error> {
        let Some((length, table)) = self.table(name)? else {
            return Ok(endpoint(name.to_owned(), false).into_iter().collect());
        };
        let mut endpoints = Vec::new();
        for mirror in &table.mirror {
            let use_it = match mirror.pull_from_mirror {
                PullFromMirror::All => by_digest || !table.mirror_by_digest_only,
                PullFromMirror::DigestOnly => by_digest,
                PullFromMirror::TagOnly => !by_digest,
            };
            if use_it {
                endpoints
                    .extend(endpoint(format!("{}{}", mirror.location, &name[length..]), mirror.insecure));
            }
        }
        endpoints.extend(table.itself(name, length));
        Ok(endpoints)
    }

    /// To where the repository `name` is pushed: itself, never a mirror.
    pub fn endpoint_to_push(&self, name: &str) -> Result<Endpoint, Error> {
        let found = match self.table(name)? {
            Some((length, table)) => table.itself(name, length),
            None => endpoint(name.to_owned(), false),
        };
        found.ok_or_else(|| Error::Protocol {
            host: name.into(),
            why: "is not the name of a repository".into(),
        })
    }

    /// The table for `name`, and how much of the name its prefix stands for.
    fn table(&self, name: &str) -> Result<Option<(usize, &Table)>, Error> {
        let found = self
            .tables
            .iter()
            .filter_map(|t| t.prefix.as_deref().and_then(|p| matched(p, name)).map(|length| (length, t)))
            .max_by_key(|(_, t)| t.prefix.as_ref().map(String::len));
        match found {
            Some((_, table)) if table.blocked => {
                Err(Error::Blocked { name: name.into(), prefix: table.prefix.clone().unwrap_or_default() })
            }
            found => Ok(found),
        }
    }
}

impl Table {
    fn itself(&self, name: &str, length: usize) -> Option<Endpoint> {
        let itself = match self.location.as_str() {
            "" => name.to_owned(),
            location => format!("{location}{}", &name[length..]),
        };
        endpoint(itself, self.insecure)
    }
}

fn endpoint(name: String, insecure: bool) -> Option<Endpoint> {
    let (host, repository) = name.split_once('/')?;
    Some(Endpoint { host: host.into(), repository: repository.into(), insecure })
}

/// How much of `name` the prefix stands for, if it does: whole path elements; `*.` is any sub-domain.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let length = match prefix.strip_prefix("*.") {
        None => name.starts_with(prefix).then_some(prefix.len())?,
        Some(rest) => {
            let (domain, path) = rest.split_once('/').map_or((rest, None), |(d, p)| (d, Some(p)));
            let host = name.split('/').next()?;
            host.strip_suffix(domain).filter(|sub| sub.ends_with('.') && sub.len() > 1)?;
            match path {
                None => host.len(),
                Some(path) => name[host.len()..]
                    .strip_prefix('/')?
                    .starts_with(path)
                    .then_some(host.len() + 1 + path.len())?,
            }
        }
    };
    // The port belongs to the host, so ':' ends nothing here: names come without a tag.
    (name.len() == length || name.as_bytes()[length] == b'/').then_some(length)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(bad(path, None, &e.to_string())),
    }
}

fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(bad(folder, None, &e.to_string())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| bad(folder, None, &e.to_string()))?.path();
        if path.extension().is_some_and(|e| e == "conf") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn bad(path: &Path, line: Option<usize>, why: &str) -> Error {
    Error::File { path: path.to_owned(), line, why: why.trim().replace('\n', ": ") }
}

#[cfg(test)]
mod tests {
    use super::super::testing::places;
    use super::*;
    use std::fs;

    fn parsed(text: &str) -> Registries {
        let mut all = Registries::default();
        all.add(Path::new("t.conf"), text).unwrap();
        all
    }

    fn hosts(all: &Registries, name: &str, by_digest: bool) -> Vec<String> {
        let show = |e: Endpoint| format!("{}/{}{}", e.host, e.repository, if e.insecure { "!" } else { "" });
        all.endpoints(name, by_digest).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn the_longest_prefix_decides_and_is_replaced_by_the_location() {
        let all = parsed(
            r#"
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.local:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "digests.local"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "tags.local"
            pull-from-mirror = "tag-only"

            [[registry]]
            prefix = "docker.io/internal"
            location = "r.corp/hub-internal"
            insecure = true

            [[registry]]
            prefix = "*.example.com"
            blocked = true
            [[registry]]
            prefix = "good.example.com"
            location = "good.example.com"
            [[registry]]
            prefix = "*.wild.io"
            location = "tame.io/x"
            [[registry]]
            location = "plain.io:5000"
            insecure = true
        "#,
        );
        let table: [(&str, bool, &[&str]); 9] = [
            (
                "docker.io/library/alpine",
                false,
                &[
                    "mirror.local:5000/hub/library/alpine!",
                    "tags.local/library/alpine",
                    "docker.io/library/alpine",
                ],
            ),
            (
                "docker.io/library/alpine",
                true,
                &[
                    "mirror.local:5000/hub/library/alpine!",
                    "digests.local/library/alpine",
                    "docker.io/library/alpine",
                ],
            ),
            ("docker.io/internal/app", false, &["r.corp/hub-internal/app!"]),
            (
                "docker.io/internal2/app",
                true,
                &[
                    "mirror.local:5000/hub/internal2/app!",
                    "digests.local/internal2/app",
                    "docker.io/internal2/app",
                ],
            ),
            ("good.example.com/x", false, &["good.example.com/x"]),
            ("a.b.wild.io/y/z", false, &["tame.io/x/y/z"]),
            ("wild.io/y", false, &["wild.io/y"]),
            ("plain.io:5000/x", false, &["plain.io:5000/x!"]),
            ("plain.io/x", false, &["plain.io/x"]),
        ];
        for (name, by_digest, expected) in table {
            assert_eq!(hosts(&all, name, by_digest), expected, "{name}");
        }
        assert!(matches!(all.endpoints("bad.example.com/x", false), Err(Error::Blocked { .. })));
        assert_eq!(hosts(&all, "example.com/x", false), ["example.com/x"]);
    }

    #[test]
    fn mirrors_by_digest_only_are_for_digests() {
        let all = parsed(
            "[[registry]]\nlocation='a.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='m.io'\n",
        );
        assert_eq!(hosts(&all, "a.io/x", false), ["a.io/x"]);
        assert_eq!(hosts(&all, "a.io/x", true), ["m.io/x", "a.io/x"]);
    }

    #[test]
    fn short_names_mean_their_alias_or_the_search_registries_or_docker_hub() {
        assert_eq!(parsed("").complete("alpine").unwrap(), ["docker.io/alpine"]);
        let text =
            "unqualified-search-registries = ['quay.io', 'docker.io']\n[aliases]\nfedora='r.fp.o/fedora'\n";
        let all = parsed(text);
        assert_eq!(all.complete("fedora").unwrap(), ["r.fp.o/fedora"]);
        assert_eq!(all.complete("org/app").unwrap(), ["quay.io/org/app", "docker.io/org/app"]);
        let strict = parsed(&format!("short-name-mode='enforcing'\n{text}"));
        assert!(matches!(strict.complete("x"), Err(Error::ShortName { .. })));
        assert!(strict.complete("fedora").is_ok());
    }

    #[test]
    fn errors_name_file_and_line() {
        let error =
            |text: &str| Registries::default().add(Path::new("/e/r.conf"), text).unwrap_err().to_string();
        assert!(error("\n\n[[registry]\n").starts_with("/e/r.conf:3: "), "{}", error("\n\n[[registry]\n"));
        assert!(error("\nshort-name-mode = 'odd'\n").starts_with("/e/r.conf:2: "));
        assert!(error("[[registry]]\ninsecure=true\n").contains("prefix"));
        assert!(error("[registries.search]\nregistries=['x']\n").contains("version 1"));
    }

    #[test]
    fn the_users_file_replaces_the_systems_and_drop_ins_add() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let complete = |name: &str| Registries::load(&places).unwrap().complete(name).unwrap();
        assert_eq!(complete("a"), ["docker.io/a"]);
        write(
            "etc/containers/registries.conf",
            "unqualified-search-registries=['etc.io']\n[aliases]\nx='e.io/x'\n",
        );
        write("etc/containers/registries.conf.d/10.conf", "[aliases]\ny='e.io/y'\nz='e.io/z'\n");
        write("etc/containers/registries.conf.d/20.conf.bak", "junk");
        assert_eq!(
            (complete("a"), complete("x"), complete("y")),
            (vec!["etc.io/a".into()], vec!["e.io/x".into()], vec!["e.io/y".into()])
        );
        write("config/containers/registries.conf", "unqualified-search-registries=['user.io']\n");
        write("config/containers/registries.conf.d/00.conf", "[aliases]\ny='u.io/y'\nz=''\n");
        assert_eq!(
            (complete("a"), complete("x"), complete("y")),
            (vec!["user.io/a".into()], vec!["user.io/x".into()], vec!["u.io/y".into()])
        );
        assert_eq!(complete("z"), ["user.io/z"]);
        write("cache/containers/short-name-aliases.conf", "[aliases]\nx='c.io/x'\n");
        assert_eq!(complete("x"), ["c.io/x"]);
        let alone = Places {
            registries_conf: Some(dir.path().join("config/containers/registries.conf")),
            ..places.clone()
        };
        assert_eq!(Registries::load(&alone).unwrap().complete("x").unwrap(), ["user.io/x"]);
    }
}
