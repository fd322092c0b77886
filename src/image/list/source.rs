//! What can be added to a list: an image of the store, or one in a registry, of which only its manifest and what it is for
//! are fetched.

use super::{List, ListEntry, ListPlatform};
use crate::digest::Digest;
use crate::image::manifest::{self, Blob, Raw};
use crate::image::plain::{self, Packing, Style};
use crate::image::pull::{MAX_CONFIG, candidates};
use crate::image::{Error, Image, ImageConfig, ImageStore, Platform, Reference, platform};
use crate::layers::LayerStore;
use crate::registry::{self, Client, Options, Registries, Repository};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where images for a list are looked for.
pub struct Sources<'a> {
    /// The store.
    pub images: &'a ImageStore,
    /// Its layers.
    pub layers: &'a LayerStore,
    /// How to talk to registries.
    pub options: Options,
    /// `--all`: of what is a list itself, all images, not only that for this machine.
    pub all: bool,
}

impl Sources<'_> {
    /// The entries that a name stands for: of the store if it is there, else of its registry; with `docker://`, of the registry
    /// in any case.
    pub fn find(&self, what: &str) -> Result<Vec<ListEntry>, Error> {
        if what.starts_with("docker://") {
            return self.remote(what);
        }
        if let (true, Some(list)) = (self.all, self.images.list_named(what)?) {
            return Ok(list.entries);
        }
        match self.images.resolve(what) {
            Ok(image) => Ok(vec![self.local(what, &image)?]),
            Err(Error::NotFound(_)) => self.remote(what),
            Err(error) => Err(error),
        }
    }

    /// An image of the store.
    pub fn local(&self, what: &str, image: &Image) -> Result<ListEntry, Error> {
        let stored = image.manifest.and_then(|digest| self.images.blob(digest).ok());
        let bytes = match stored {
            Some(bytes) => bytes,
            // As it would be saved.
            None => {
                let size = self.images.blob(image.id)?.len() as u64;
                let mut blobs = Vec::new();
                for layer in image.diff_ids() {
                    let blob = Blob { digest: *layer, size: self.layers.tar_size(*layer)? };
                    blobs.push((blob, Packing::Plain));
                }
                plain::manifest(Style::Oci, None, Blob { digest: image.id, size }, &blobs)
            }
        };
        Ok(ListEntry {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            media_type: Style::of(&bytes).manifest().into(),
            platform: platform_of(&image.config),
            annotations: BTreeMap::new(),
            added_as: what.to_owned(),
            image: Some(image.id),
            repository: None,
            artifact_type: None,
            artifact: None,
        })
    }

    /// The descriptor of what is here under a name, or else in its registry: what an artifact may be about.
    pub fn descriptor(&self, what: &str) -> Result<Value, Error> {
        let of = |media_type: &str, digest: Digest, size: u64| json!({"mediaType": media_type, "digest": digest, "size": size});
        if !what.starts_with("docker://") {
            match self.images.resolve(what) {
                Ok(image) => {
                    let entry = self.local(what, &image)?;
                    return Ok(of(&entry.media_type, entry.digest, entry.size));
                }
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let client = Client::new(self.options.clone());
        let registries = Registries::load(&self.options.places)?;
        let (name, repository) = open(&client, &registries, what)?;
        let top: Raw = repository.manifest(&name.tag_or_digest())?.into();
        Ok(of(&top.media_type, top.digest, top.bytes.len() as u64))
    }

    fn remote(&self, what: &str) -> Result<Vec<ListEntry>, Error> {
        let client = Client::new(self.options.clone());
        let registries = Registries::load(&self.options.places)?;
        let (name, repository) = open(&client, &registries, what)?;
        let top: Raw = repository.manifest(&name.tag_or_digest())?.into();
        let shown = name.familiar();
        let base = ListEntry {
            digest: top.digest,
            size: top.bytes.len() as u64,
            media_type: top.media_type.clone(),
            platform: ListPlatform::default(),
            annotations: BTreeMap::new(),
            added_as: what.to_owned(),
            image: None,
            repository: Some(name.clone()),
            artifact_type: None,
            artifact: None,
        };
        let listed = manifest::index_entries(&shown, &top)?;
        if listed.is_empty() {
            let manifest = manifest::parsed(&top.bytes)
                .ok_or_else(|| Error::unsupported(&shown, "it is no image of a container"))?;
            let config = repository.small_blob(manifest.config.digest, MAX_CONFIG)?;
            let config: ImageConfig = serde_json::from_slice(&config)
                .map_err(|e| Error::unsupported(&shown, format!("its config is malformed ({e})")))?;
            let media_type = Style::of(&top.bytes).manifest().into();
            return Ok(vec![ListEntry { media_type, platform: platform_of(&config), ..base }]);
        }
        let host = Platform::host();
        let chosen = match self.all {
            true => listed.iter().collect(),
            false => host.choose(&listed).into_iter().collect::<Vec<_>>(),
        };
        if chosen.is_empty() {
            let available = listed.iter().filter_map(platform::of).map(|p| p.to_string()).collect();
            return Err(Error::Platform { name: shown, wanted: host, available });
        }
        let mut entries = Vec::new();
        for entry in chosen {
            // The same names on both sides.
            let platform = entry.platform().as_ref().and_then(|p| serde_json::to_value(p).ok());
            entries.push(ListEntry {
                digest: manifest::blob(&shown, entry)?.digest,
                size: entry.size(),
                media_type: entry.media_type().to_string(),
                platform: platform.and_then(|p| serde_json::from_value(p).ok()).unwrap_or_default(),
                annotations: entry.annotations().clone().unwrap_or_default().into_iter().collect(),
                artifact_type: entry.artifact_type().as_ref().map(ToString::to_string),
                ..base.clone()
            });
        }
        Ok(entries)
    }
}

/// A list as it is here, or what a registry has under the name.
pub fn inspect(images: &ImageStore, what: &str, options: &Options) -> Result<Vec<u8>, Error> {
    match images.find_list(what) {
        Ok(list) => return Ok(list.document(Style::Oci)),
        Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let client = Client::new(options.clone());
    let registries = Registries::load(&options.places)?;
    let (name, repository) = open(&client, &registries, what)?;
    Ok(repository.manifest(&name.tag_or_digest())?.bytes)
}

/// The first of the repositories that a name may mean in which it is.
pub(super) fn open<'c>(
    client: &'c Client,
    registries: &Registries,
    what: &str,
) -> Result<(Reference, Repository<'c>), Error> {
    let mut last = None;
    for name in candidates(registries, what)? {
        for endpoint in registries.endpoints(&name.name(), name.digest().is_some())? {
            let repository = client.repository(&endpoint, &name.familiar())?;
            match repository.manifest_digest(&name.tag_or_digest()) {
                // Not all registries know HEAD.
                Ok(_) | Err(registry::Error::Status { status: 405, .. }) => return Ok((name, repository)),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.map_or_else(|| Error::NotFound(what.to_owned()), Error::Registry))
}

fn platform_of(config: &ImageConfig) -> ListPlatform {
    ListPlatform {
        architecture: config.architecture.clone(),
        os: if config.os.is_empty() { "linux".into() } else { config.os.clone() },
        variant: config.variant.clone().unwrap_or_default(),
        ..ListPlatform::default()
    }
}

impl List {
    /// Adds what is meant by several names.
    pub fn extend(&mut self, entries: Vec<ListEntry>) {
        entries.into_iter().for_each(|entry| self.add(entry));
    }
}
