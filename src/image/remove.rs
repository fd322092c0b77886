//! Removing images (as `docker rmi` does) and collecting what nothing needs any more. All of it is unlinks and
//! renames: it works on a full disk.

use super::store::files;
use super::{Error, Image, ImageEntry, ImageStore, List, Listed, Reference};
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::state;
use std::collections::HashSet;

/// What containers need; only the caller knows.
pub struct InUse<'a> {
    /// Who uses the image, so that it must stay (`container x1 is running`); `None` if it may go.
    pub image: &'a dyn Fn(&Image) -> Option<String>,
    /// Whether anything but an image needs this layer (a container, the build cache). First asked when nobody else can
    /// begin to need one: what it looks up, it looks up then.
    pub layer: &'a dyn Fn(Digest) -> bool,
}

/// What [`ImageStore::remove`] did, in the order in which docker tells it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<Reference>,
    /// The image, if it went too.
    pub deleted: Option<Digest>,
    /// Its layers that no other image has.
    pub layers: Vec<Digest>,
    /// Bytes of their files.
    pub bytes: u64,
}

/// What [`ImageStore::prune`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The images, in the order in which they went.
    pub removed: Vec<Removed>,
    /// Bytes of all files that are gone.
    pub bytes: u64,
}

/// What [`ImageStore::collect_garbage`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers removed.
    pub layers: Vec<Digest>,
    /// Bytes of their files.
    pub bytes: u64,
}

impl ImageStore {
    /// Removes an image. By a name: takes it away, and with the last name goes the image. By an id: all names
    /// and the image, if the names are all of one repository or `force` is given. Layers that nobody needs go to
    /// the trash, unless somebody is pulling at this moment: then they are left to [`ImageStore::collect_garbage`].
    pub fn remove(
        &self,
        layers: &LayerStore,
        what: &str,
        force: bool,
        in_use: &InUse<'_>,
    ) -> Result<Removed, Error> {
        let parsed = what.parse::<Reference>();
        let by_name = match &parsed {
            Ok(reference) if !what.starts_with("sha256:") => self.by_name(what, reference)?,
            _ => None,
        };
        if by_name.is_none()
            && let Some(list) = self.list_meant(what)?
        {
            self.remove_list(&list)?;
            return Ok(Removed { deleted: Some(list.id()), untagged: vec![list.name], ..Removed::default() });
        }
        let image = match &by_name {
            Some(record) => self.image_of(record)?,
            None => self.resolve(what)?,
        };
        let names: Vec<Reference> = self.names(image.id)?.into_iter().map(|name| name.reference).collect();
        let mut removed = Removed::default();
        if let Some(record) = by_name
            && names.len() > 1
        {
            state::remove_file_if_there(&self.name_path(&record.name))?;
            removed.untagged.push(record.name);
            return Ok(removed);
        }
        let conflict = |why: String, fix: &str| Error::Conflict {
            action: "remove",
            what: what.to_owned(),
            why,
            fix: fix.to_owned(),
        };
        let repositories: HashSet<String> = names.iter().map(Reference::name).collect();
        if repositories.len() > 1 && !force {
            let list: Vec<String> = names.iter().map(Reference::familiar).collect();
            let why = format!("it has names in several repositories ({})", list.join(", "));
            return Err(conflict(why, "remove it by its names, or use --force"));
        }
        if let Some(user) = (in_use.image)(&image) {
            return Err(conflict(user, "remove the container first ('coracle rm'), or use --force"));
        }
        if let (false, Some(list)) = (force, self.list_with(image.id)?) {
            let why = format!("it is in the list {}", list.name.familiar());
            return Err(conflict(why, "remove the list first ('coracle manifest rm'), or use --force"));
        }
        // Each name may have come with another manifest.
        let mut blobs = vec![Some(image.id), image.manifest, image.index];
        for record in self.name_records()?.into_iter().flatten().filter(|record| record.id == image.id) {
            blobs.extend([record.manifest, record.index]);
        }
        blobs.extend(self.by_id(image.id).ok().flatten().iter().flat_map(|i| [i.manifest, i.index]));
        for name in names {
            state::remove_file_if_there(&self.name_path(&name))?;
            removed.untagged.push(name);
        }
        state::remove_file_if_there(&self.ids_dir().join(image.id.hex()))?;
        removed.deleted = Some(image.id);
        if let Some(_nobody_pulls) = self.unpinned()? {
            let needed = self.needed()?;
            for digest in blobs.into_iter().flatten() {
                if !needed.blobs.contains(&digest) {
                    state::remove_file_if_there(&self.blob_path(digest))?;
                }
            }
            let unique: HashSet<Digest> = image.diff_ids().iter().copied().collect();
            for layer in image.diff_ids().iter().rev() {
                let is_first = unique.contains(layer) && !removed.layers.contains(layer);
                if !is_first || needed.layers.contains(layer) || (in_use.layer)(*layer) {
                    continue;
                }
                let bytes = layers.size(*layer).unwrap_or(0);
                if layers.remove(*layer)? {
                    removed.layers.push(*layer);
                    removed.bytes += bytes;
                }
            }
        }
        Ok(removed)
    }

    /// Removes the images that `wanted` picks and nobody uses, and all garbage.
    pub fn prune(
        &self,
        layers: &LayerStore,
        wanted: &dyn Fn(&ImageEntry) -> bool,
        in_use: &InUse<'_>,
    ) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for listed in self.list()? {
            // What cannot be read cannot be judged; 'rmi' and 'store verify' deal with it.
            let Listed::Image(entry) = listed else { continue };
            let is_needed =
                (in_use.image)(&entry.image).is_some() || self.list_with(entry.image.id)?.is_some();
            if !wanted(&entry) || is_needed {
                continue;
            }
            match self.remove(layers, &entry.image.id.to_string(), true, in_use) {
                Ok(removed) => {
                    pruned.bytes += removed.bytes;
                    pruned.removed.push(removed);
                }
                // Somebody was faster: used it, or removed it.
                Err(Error::Conflict { .. } | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let collected = self.collect_garbage(layers, in_use.layer)?;
        pruned.bytes += collected.map_or(0, |collected| collected.bytes);
        Ok(pruned)
    }

    /// Removes all layers and blobs that no image has and `layer_in_use` does not know. `None`, with nothing done,
    /// if somebody is pulling at this moment.
    pub fn collect_garbage(
        &self,
        layers: &LayerStore,
        layer_in_use: &dyn Fn(Digest) -> bool,
    ) -> Result<Option<Collected>, Error> {
        let Some(_nobody_pulls) = self.unpinned()? else { return Ok(None) };
        let needed = self.needed()?;
        let mut collected = Collected::default();
        for layer in layers.list()? {
            if needed.layers.contains(&layer) || layer_in_use(layer) {
                continue;
            }
            let bytes = layers.size(layer).unwrap_or(0);
            if layers.remove(layer)? {
                collected.layers.push(layer);
                collected.bytes += bytes;
            }
        }
        for path in files(&self.paths().blobs())? {
            let digest = path.file_name().and_then(|n| n.to_str()).and_then(|n| Digest::from_hex(n).ok());
            if digest.is_some_and(|d| !needed.blobs.contains(&d)) {
                state::remove_file_if_there(&path)?;
            }
        }
        Ok(Some(collected))
    }

    /// Removes files that killed processes left half written.
    pub fn sweep(&self) -> Result<(), state::Error> {
        for folder in [self.names_dir(), self.ids_dir(), self.lists_dir(), self.paths().blobs()] {
            state::sweep_temporary(&folder)?;
        }
        Ok(())
    }

    /// The list that is to be removed: by its name, or by its id, if no image begins so.
    fn list_meant(&self, what: &str) -> Result<Option<List>, Error> {
        if let Some(list) = self.list_named(what)? {
            return Ok(Some(list));
        }
        match self.resolve(what) {
            Err(Error::NotFound(_)) => match self.find_list(what) {
                Err(Error::NotFound(_)) => Ok(None),
                found => found.map(Some),
            },
            _ => Ok(None),
        }
    }

    /// Everything that the records point to. A record that is torn points to nothing that could be used; one that
    /// cannot be read for another reason (a bad disk) is an error, since guessing would delete.
    fn needed(&self) -> Result<Needed, Error> {
        let mut needed = Needed::default();
        let mut ids: HashSet<Digest> = self.ids()?.into_iter().collect();
        for record in self.name_records()? {
            match record {
                Ok(record) => {
                    ids.insert(record.id);
                    needed.blobs.extend([record.manifest, record.index].into_iter().flatten());
                }
                Err((_, error)) => torn(error)?,
            }
        }
        for entry in self.lists()?.into_iter().flat_map(|list| list.entries) {
            needed.blobs.insert(entry.digest);
            // What was removed by force is not there any more.
            ids.extend(entry.image.filter(|id| self.by_id(*id).is_ok_and(|image| image.is_some())));
        }
        for id in ids {
            needed.blobs.insert(id);
            match self.by_id(id) {
                Ok(image) => needed.blobs.extend(image.iter().flat_map(|i| [i.manifest, i.index]).flatten()),
                Err(error) => torn(error)?,
            }
            match self.config(id) {
                Ok(config) => needed.layers.extend(config.rootfs.diff_ids),
                Err(error) => torn(error)?,
            }
        }
        Ok(needed)
    }
}

#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

fn torn(error: Error) -> Result<(), Error> {
    match &error {
        Error::State(state::Error::Record { .. }) => Ok(()),
        Error::State(e) if e.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(()),
        _ => Err(error),
    }
}
