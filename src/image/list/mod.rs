//! Lists of images: one name for the images of several platforms, made here (`manifest create`) and pushed as an index.
//!
//! ```text
//! images/lists/<hash>       a list, by the hash of its name: {name, entries, annotations, since}
//! ```
//!
//! An entry is an image of the store, which may not be removed while it is listed, or one in a registry, by digest. The
//! digest that an image of the store has here is that of the manifest it came with or would be saved with; pushed, it may
//! get another one, and then the index lists that. A list's id is the digest of the index that it is now.
//!
//! An entry may also be an [`Artifact`], files of this machine; it is never what is meant where an image is wanted.
//!
//! Images and lists have the same kind of names; where both have one, it means the image. A list's name, where an image is
//! wanted, means the image in it for the platform in question.

mod artifact;
mod document;
mod push;
mod source;

pub use artifact::{Artifact, NewArtifact};
pub use document::{ListEntry, ListPlatform};
pub use push::{ListPush, push_list};
pub use source::{Sources, inspect};

use super::store::files;
use super::{Error, Image, ImageStore, ManifestStyle, Platform, Reference};
use crate::digest::Digest;
use crate::state::{self, Durability, Lock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Its name.
    pub name: Reference,
    /// When it was made, in seconds since 1970.
    pub since: u64,
    /// Of the whole.
    pub annotations: BTreeMap<String, String>,
    /// The images.
    pub entries: Vec<ListEntry>,
}

/// The image of a list for a platform.
#[derive(Debug)]
pub enum Instance {
    /// It is here.
    Here(Box<Image>),
    /// It is in a registry: its full name.
    There(Reference),
}

impl List {
    /// Its id: the digest of what it is as an index.
    pub fn id(&self) -> Digest {
        Digest::of(&self.document(ManifestStyle::Oci))
    }

    /// Adds an entry; one of the same digest is replaced.
    pub fn add(&mut self, entry: ListEntry) {
        self.entries.retain(|known| known.digest != entry.digest);
        self.entries.push(entry);
    }

    /// The entry that is meant: by its digest, the name under which it was added, or the id of its image.
    pub fn entry(&mut self, what: &str) -> Result<&mut ListEntry, Error> {
        let hex = what.strip_prefix("sha256:").unwrap_or(what);
        let fits = |entry: &ListEntry| {
            let begins = |digest: Digest| hex.len() >= 4 && digest.hex().starts_with(hex);
            begins(entry.digest) || entry.image.is_some_and(begins) || entry.added_as == what
        };
        let found: Vec<usize> = (0..self.entries.len()).filter(|at| fits(&self.entries[*at])).collect();
        match found[..] {
            [at] => Ok(&mut self.entries[at]),
            [] => Err(Error::NotFound(format!("{what} in {}", self.name.familiar()))),
            _ => {
                let candidates = found.iter().map(|at| self.entries[*at].digest.to_string()).collect();
                Err(Error::Ambiguous { what: what.to_owned(), candidates })
            }
        }
    }
}

impl ImageStore {
    pub(super) fn lists_dir(&self) -> PathBuf {
        self.paths().images().join("lists")
    }

    fn list_path(&self, name: &Reference) -> PathBuf {
        self.lists_dir().join(Digest::of(name.to_string().as_bytes()).hex())
    }

    /// All lists that can be read, in the order of their names.
    pub fn lists(&self) -> Result<Vec<List>, Error> {
        let mut lists = Vec::new();
        for path in files(&self.lists_dir())? {
            match state::read_json::<List>(&path) {
                Ok(list) => lists.extend(list),
                // What cannot be read lists nothing.
                Err(state::Error::Record { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        lists.sort_by(|a: &List, b| a.name.cmp(&b.name));
        Ok(lists)
    }

    /// The list of this name; a short one may be `localhost`'s.
    pub fn list_named(&self, what: &str) -> Result<Option<List>, Error> {
        let local = (!Reference::has_domain(what)).then(|| format!("localhost/{what}"));
        for name in [Some(what.to_owned()), local].into_iter().flatten() {
            if let Ok(name) = name.parse::<Reference>()
                && let Some(list) = state::read_json(&self.list_path(&name.local()))?
            {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    /// The list that is meant, by its name, its id or the start of one.
    pub fn find_list(&self, what: &str) -> Result<List, Error> {
        if let Some(list) = self.list_named(what)? {
            return Ok(list);
        }
        let hex = what.strip_prefix("sha256:").unwrap_or(what);
        let fits = |list: &List| hex.len() >= 4 && list.id().hex().starts_with(hex);
        let found: Vec<List> = self.lists()?.into_iter().filter(fits).collect();
        match found.len() {
            1 => Ok(found.into_iter().next().ok_or_else(|| Error::NotFound(what.to_owned()))?),
            0 => Err(Error::NotFound(what.to_owned())),
            _ => {
                let candidates = found.iter().map(|list| list.name.to_string()).collect();
                Err(Error::Ambiguous { what: what.to_owned(), candidates })
            }
        }
    }

    /// Makes a list. One that is there already is taken as it is if `amend` says so.
    pub fn create_list(&self, name: &Reference, amend: bool) -> Result<List, Error> {
        let taken = |by: &str| Error::Conflict {
            action: "create",
            what: name.familiar(),
            why: format!("{by} has this name"),
            fix: "choose another name, or use --amend to add to a list".into(),
        };
        let _lock = self.lock_lists()?;
        if let Some(list) = state::read_json::<List>(&self.list_path(name))? {
            return if amend { Ok(list) } else { Err(taken("a list")) };
        }
        if self.read_name(name)?.is_some() {
            return Err(taken("an image"));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let list = List { name: name.clone(), since, annotations: BTreeMap::new(), entries: Vec::new() };
        self.write_list(&list)?;
        Ok(list)
    }

    /// Changes a list, which nobody else changes meanwhile. Gives what it is then.
    pub fn change_list(
        &self,
        name: &Reference,
        change: impl FnOnce(&mut List) -> Result<(), Error>,
    ) -> Result<List, Error> {
        let _lock = self.lock_lists()?;
        let list = state::read_json::<List>(&self.list_path(name))?;
        let mut list = list.ok_or_else(|| Error::NotFound(name.familiar()))?;
        change(&mut list)?;
        self.write_list(&list)?;
        Ok(list)
    }

    /// Gives a list one more name: a list of its own from then on.
    pub(super) fn copy_list(&self, list: &List, name: &Reference) -> Result<(), Error> {
        let _lock = self.lock_lists()?;
        self.write_list(&List { name: name.local(), ..list.clone() })
    }

    /// Removes a list. Its images stay.
    pub fn remove_list(&self, list: &List) -> Result<(), Error> {
        let _lock = self.lock_lists()?;
        Ok(state::remove_file_if_there(&self.list_path(&list.name))?)
    }

    /// The image of a list for a platform, this machine's if none is given; `None` if the name is no list's, or an image
    /// has it too.
    pub fn in_list(&self, what: &str, platform: Option<&Platform>) -> Result<Option<Instance>, Error> {
        if let Ok(reference) = what.parse::<Reference>()
            && self.by_name(what, &reference)?.is_some()
        {
            return Ok(None);
        }
        match self.list_named(what)? {
            Some(list) => self.instance(&list, platform).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn instance(&self, list: &List, platform: Option<&Platform>) -> Result<Instance, Error> {
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let images = || list.entries.iter().filter(|entry| entry.is_image());
        let ranked = images().filter_map(|entry| {
            let rank = wanted.rank(&entry.platform.platform())?;
            Some((rank, entry))
        });
        let Some((_, entry)) = ranked.min_by_key(|(rank, _)| *rank) else {
            let available = images().map(|entry| entry.platform.platform().to_string()).collect();
            return Err(Error::Platform { name: list.name.familiar(), wanted, available });
        };
        match (entry.image, &entry.repository) {
            (Some(id), _) => {
                let image = self.by_id(id)?.ok_or_else(|| Error::NotFound(id.to_string()))?;
                Ok(Instance::Here(Box::new(Image { name: Some(list.name.clone()), ..image })))
            }
            (None, Some(repository)) => Ok(Instance::There(repository.with_digest(entry.digest))),
            (None, None) => Err(Error::NotFound(entry.digest.to_string())),
        }
    }

    /// A list that has an image of the store.
    pub(super) fn list_with(&self, image: Digest) -> Result<Option<List>, Error> {
        Ok(self.lists()?.into_iter().find(|list| list.entries.iter().any(|e| e.image == Some(image))))
    }

    fn write_list(&self, list: &List) -> Result<(), Error> {
        state::create_dir_private(&self.lists_dir())?;
        Ok(state::write_json(&self.list_path(&list.name), list, Durability::PowerCut)?)
    }

    /// One lock for all lists: they are changed by hand.
    fn lock_lists(&self) -> Result<Lock, Error> {
        state::create_dir_private(&self.paths().locks())?;
        Ok(Lock::exclusive(&self.paths().locks().join("lists"))?)
    }
}
