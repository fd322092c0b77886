//! What is fetched for ADD, and whether it has to be: a rebuild asks only whether it has changed.
//!
//! Of a file by URL `build-cache/fetched-<digest of what was asked for>` keeps the server's validator, and what the file counted for in the
//! step's key. If the server says that it still has that file (or `--checksum` says which it is), the key is known without it. Of a repository
//! the server's names of commits say as much. If then the step is not in the cache, it is fetched after all.

use crate::build::dockerfile::ast;
use crate::build::fetch::{self, Fetched, Repository};
use crate::build::selection::Selection;
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::state::{Durability, Paths, create_dir_private, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Something that is not here.
pub(super) enum Remote {
    File { url: String, checksum: Option<Digest> },
    Repository(Repository),
}

/// What of it is taken, and how.
pub(super) struct Wanted<'a> {
    pub(super) selection: &'a Selection,
    pub(super) add: &'a ast::Add,
}

#[derive(Serialize, Deserialize)]
struct Memory {
    etag: Option<String>,
    parts: Vec<String>,
}

/// What is known of something remote.
pub(super) enum Known<'a> {
    /// It is here.
    Fetched(Fetched<'a>),
    /// It is as it was: what it counts for.
    Unchanged(Vec<String>),
}

impl Remote {
    /// What a build that fetches it says that it does.
    pub(super) fn step_name(&self) -> String {
        match self {
            Remote::File { url, .. } => fetch::step_name(url, false),
            Remote::Repository(repository) => fetch::step_name(&repository.remote, true),
        }
    }

    /// Asks for it; `trusting`: only if it is another than it was.
    pub(super) fn ask<'a>(
        &self,
        (paths, layers): (&Paths, &'a LayerStore),
        wanted: &Wanted<'_>,
        trusting: bool,
    ) -> Result<Known<'a>, fetch::Error> {
        match self {
            Remote::Repository(repository) => {
                let keep = repository.keep.or(wanted.add.keep_git_dir).unwrap_or(false);
                if let Some(version) = trusting.then(|| repository.current_version(keep)).flatten() {
                    return Ok(Known::Unchanged(parts_of(&version, wanted.selection)));
                }
                Fetched::repository(layers, repository, keep).map(Known::Fetched)
            }
            Remote::File { url, checksum } => {
                let memory = self.memory(paths, wanted).filter(|_| trusting);
                let memory: Option<Memory> = memory.and_then(|file| read_json(&file).ok().flatten());
                if let (Some(memory), Some(_)) = (&memory, checksum) {
                    return Ok(Known::Unchanged(memory.parts.clone()));
                }
                let etag = memory.as_ref().and_then(|memory| memory.etag.as_deref());
                let fetched = Fetched::url_unless(layers, url, &fetch::name_of(url), *checksum, etag)?;
                Ok(match (fetched, memory) {
                    (Some(fetched), _) => Known::Fetched(fetched),
                    (None, memory) => Known::Unchanged(memory.map(|memory| memory.parts).unwrap_or_default()),
                })
            }
        }
    }

    /// Remembers what it counts for.
    pub(super) fn remember(
        &self,
        paths: &Paths,
        wanted: &Wanted<'_>,
        fetched: &Fetched<'_>,
        parts: &[String],
    ) {
        let Remote::File { checksum, .. } = self else { return };
        if let Some(file) =
            self.memory(paths, wanted).filter(|_| fetched.etag.is_some() || checksum.is_some())
        {
            let memory = Memory { etag: fetched.etag.clone(), parts: parts.to_vec() };
            // Without it the file is fetched again.
            let _ = create_dir_private(&paths.build_cache())
                .and_then(|()| write_json(&file, &memory, Durability::Process));
        }
    }

    fn memory(&self, paths: &Paths, wanted: &Wanted<'_>) -> Option<PathBuf> {
        let Remote::File { url, checksum } = self else { return None };
        let unpack = wanted.add.unpack.unwrap_or(false);
        let asked = format!("{url}\0{checksum:?}\0{unpack}\0{}", wanted.selection.text());
        Some(paths.build_cache().join(format!("fetched-{}", Digest::of(asked.as_bytes()).hex())))
    }
}

/// What a repository counts for in a key. A check-out has times in it that differ where nothing else does.
pub(super) fn parts_of(version: &str, selection: &Selection) -> Vec<String> {
    vec!["git".to_owned(), version.to_owned(), selection.text().to_owned()]
}
