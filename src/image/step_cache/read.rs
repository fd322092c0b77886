//! Finding steps in a cache, and getting their layers.

use super::super::manifest::{self, Blob, MANIFESTS, Raw};
use super::super::pull::{Remote, candidates};
use super::super::transfer::{Layer, Source, fetch_layers};
use super::super::{Error, ImageConfig, Platform, Progress, Reference, Silent};
use super::{ANNOTATION, CachePlace, CachedStep, MAX_TABLE, Steps, TABLE, Table};
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::registry::{Client, Endpoint, Options, Registries};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A cache that has been opened: its table is here, its layers are not.
#[derive(Debug)]
pub struct StepCache {
    /// Where it is, as the user wrote it.
    pub place: CachePlace,
    origin: Origin,
    steps: Steps,
    /// The blobs of the layers.
    blobs: BTreeMap<Digest, Blob>,
}

#[derive(Debug)]
enum Origin {
    Folder(PathBuf),
    Registry { endpoint: Endpoint, name: Reference, options: Box<Options> },
}

impl StepCache {
    /// Opens it.
    pub fn open(place: &CachePlace, options: &Options) -> Result<Self, Error> {
        match place {
            CachePlace::Folder(path) => {
                let origin = Origin::Folder(path.clone());
                let index = document(&path.join("index.json")).map_err(|e| unreadable(place, e))?;
                let index: Value = serde_json::from_slice(&index).map_err(|e| damaged(place, &e))?;
                let entry = index["manifests"][0]["digest"].as_str().and_then(|text| text.parse().ok());
                let digest: Digest = entry.ok_or_else(|| damaged(place, &"its index lists nothing"))?;
                let get = |digest| blob(path, digest).map_err(|e| unreadable(place, e));
                let raw = raw(get(digest)?, digest);
                Self::of(place, origin, &raw, &mut |digest, _| get(digest))
            }
            CachePlace::Registry(typed) => {
                let registries = Registries::load(&options.places)?;
                let client = Client::new(options.clone());
                let mut last = None;
                for name in candidates(&registries, typed)? {
                    for endpoint in registries.endpoints(&name.name(), name.digest().is_some())? {
                        let repository = client.repository(&endpoint, &name.familiar())?;
                        let top = match repository.manifest(&name.tag_or_digest()) {
                            Ok(top) => Raw::from(top),
                            Err(error) => {
                                last = Some(error);
                                continue;
                            }
                        };
                        let origin = Origin::Registry {
                            endpoint: endpoint.clone(),
                            name: name.clone(),
                            options: Box::new(options.clone()),
                        };
                        let mut get = |digest: Digest, is_manifest: bool| match is_manifest {
                            true => Ok(repository.manifest(&digest.to_string())?.bytes),
                            false => Ok(repository.small_blob(digest, MAX_TABLE)?),
                        };
                        return Self::of(place, origin, &top, &mut get);
                    }
                }
                Err(last.map_or_else(|| Error::NotFound(typed.clone()), Error::from))
            }
        }
    }

    /// Of its manifest. `get` gets a blob, or a manifest if it is told so.
    fn of(
        place: &CachePlace,
        origin: Origin,
        top: &Raw,
        get: &mut dyn FnMut(Digest, bool) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let shown = place.to_string();
        let shape: Value = serde_json::from_slice(&top.bytes).map_err(|e| damaged(place, &e))?;
        let (table, blobs) = if shape["config"]["mediaType"] == TABLE {
            let (config, blobs) = manifest::artifact(&shown, &top.bytes)?;
            let table: Table =
                serde_json::from_slice(&get(config.digest, false)?).map_err(|e| damaged(place, &e))?;
            (table, blobs)
        } else {
            let mut fetch = |digest| Ok(raw(get(digest, true)?, digest));
            let (found, image) = manifest::resolve(&shown, top, &Platform::host(), &mut fetch)?;
            let shape: Value = serde_json::from_slice(&found.bytes).map_err(|e| damaged(place, &e))?;
            let Some(text) = shape["annotations"][ANNOTATION].as_str() else {
                return Err(Error::unsupported(&shown, "it is an image without a cache of its steps"));
            };
            let mut table: Table = serde_json::from_str(text).map_err(|e| damaged(place, &e))?;
            let config: ImageConfig =
                serde_json::from_slice(&get(image.config.digest, false)?).map_err(|e| damaged(place, &e))?;
            table.layers = config.rootfs.diff_ids;
            (table, image.layers)
        };
        if table.layers.len() != blobs.len() {
            return Err(damaged(place, &"its table and its manifest have different layers"));
        }
        let blobs = table.layers.into_iter().zip(blobs).collect();
        Ok(Self { place: place.clone(), origin, steps: table.steps, blobs })
    }

    /// What the step with this key made, if its layer can be had.
    pub fn step(&self, key: Digest) -> Option<&CachedStep> {
        let step = self.steps.get(&key)?;
        step.layer.is_none_or(|layer| self.blobs.contains_key(&layer)).then_some(step)
    }

    pub(super) fn blob_of(&self, layer: Digest) -> Option<Blob> {
        self.blobs.get(&layer).copied()
    }

    /// Brings a layer into the store. The caller is root of the user's namespace and holds an image pin.
    pub fn fetch(&self, layer: Digest, store: &LayerStore) -> Result<(), Error> {
        let Some(blob) = self.blobs.get(&layer) else {
            return Err(damaged(&self.place, &"it lacks a layer"));
        };
        let wanted = [Layer { blob: *blob, diff_id: layer }];
        let get = |source: &dyn Source| fetch_layers(source, store, &wanted, 1, &Silent);
        match &self.origin {
            Origin::Folder(path) => get(&Folder { path, place: &self.place }),
            Origin::Registry { endpoint, name, options } => {
                let client = Client::new((**options).clone());
                let repository = client.repository(endpoint, &name.familiar())?;
                get(&Remote(&repository))
            }
        }
    }
}

fn raw(bytes: Vec<u8>, digest: Digest) -> Raw {
    Raw { bytes, digest, media_type: MANIFESTS[0].into() }
}

struct Folder<'a> {
    path: &'a Path,
    place: &'a CachePlace,
}

impl Source for Folder<'_> {
    fn open<'s>(&'s self, blob: Blob, _: &'s dyn Progress) -> Result<Box<dyn Read + Send + 's>, Error> {
        let file = plain_file(&blob_path(self.path, blob.digest)).map_err(|e| unreadable(self.place, e))?;
        Ok(Box::new(file))
    }
}

pub(super) fn blob_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

/// A small blob, verified.
fn blob(folder: &Path, digest: Digest) -> io::Result<Vec<u8>> {
    let bytes = document(&blob_path(folder, digest))?;
    match Digest::of(&bytes) == digest {
        true => Ok(bytes),
        false => Err(io::Error::other(format!("the blob {digest} is damaged"))),
    }
}

fn document(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    plain_file(path)?.take(MAX_TABLE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_TABLE {
        true => Err(io::Error::other(format!("{} is too large", path.display()))),
        false => Ok(bytes),
    }
}

/// The folder may be anybody's: a pipe in it is not waited for.
fn plain_file(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!("{} is not a file", path.display()))),
    }
}

fn unreadable(place: &CachePlace, source: io::Error) -> Error {
    Error::unsupported(&place.to_string(), format!("it cannot be read ({source})"))
}

fn damaged(place: &CachePlace, why: &dyn std::fmt::Display) -> Error {
    Error::unsupported(&place.to_string(), format!("it is no cache of builds, or a damaged one ({why})"))
}
