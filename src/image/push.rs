//! From the store into a registry.
//!
//! A layer is in the store as the archive that it unpacks from. What its blobs are called in registries is known of those
//! that manifests of this registry list, and of those that were pushed before ([`LayerStore::packed`]). For each layer
//! the registry is asked for these first, then for leave to take them from another of its repositories; only what it has
//! nowhere is compressed, while it is sent. The manifest, which makes the image visible, goes last: the stored one to the
//! byte, if it lists what the registry has then.

use super::manifest::Blob;
use super::plain::{self, Packing, Style};
use super::transfer::side_by_side;
use super::{Documents, Error, Event, Image, ImageConfig, ImageStore, Progress, Reference, RootFs};
use crate::digest::Digest;
use crate::layers::{self, Claim, Compression, LayerStore, Packed};
use crate::registry::{self, Client, Endpoint, Options, Registries, Repository};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// From so many repositories a blob is tried to be mounted.
const MAX_MOUNTS: usize = 3;

/// Whose manifest is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushFormat {
    /// OCI's.
    Oci,
    /// docker's schema 2.
    Docker,
}

/// What to push, and how.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The image: a name or an id.
    pub image: String,
    /// The name that it gets in the registry; its own if not given.
    pub destination: Option<String>,
    /// Layers as this, even if the registry has them in another form; if not given, as they were pulled or else as gzip.
    pub compression: Option<Compression>,
    /// How hard they are compressed, from 1 to [`Compression::max_level`].
    pub level: Option<u32>,
    /// The manifest in this form; if not given, as the stored one, or else OCI's.
    pub format: Option<PushFormat>,
    /// How to talk to registries.
    pub options: Options,
    /// How many layers are sent at once.
    pub jobs: usize,
}

/// What is in the registry now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Under which name.
    pub reference: Reference,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// What it is.
    pub media_type: &'static str,
}

/// Pushes an image. What the registry has already is not sent again.
pub fn push(
    images: &ImageStore,
    layers: &LayerStore,
    request: &PushRequest,
    progress: &dyn Progress,
) -> Result<Pushed, Error> {
    let _pin = images.pin()?;
    let image = images.resolve(&request.image)?;
    let name = destination(&image, request)?;
    push_image(images, layers, request, &image, &name, false, progress)
}

/// Pushes an image to a repository: under a tag, or only by its digest, for a list that names it. The caller holds a pin.
pub(super) fn push_image(
    images: &ImageStore,
    layers: &LayerStore,
    request: &PushRequest,
    image: &Image,
    name: &Reference,
    by_digest: bool,
    progress: &dyn Progress,
) -> Result<Pushed, Error> {
    let endpoint = Registries::load(&request.options.places)?.endpoint_to_push(&name.name())?;
    let known = known(images, layers, image, name)?;
    let others = others(&known, name);
    let client = Client::new(request.options.clone());
    let repository = client.repository_to_push(&endpoint, &name.familiar(), &others)?;
    let stored = image.manifest.and_then(|digest| {
        // One that is lost or damaged is made anew.
        images.blob(digest).ok().filter(|bytes| Digest::of(bytes) == digest)
    });
    let style = style(request, stored.as_deref());
    let asked =
        if by_digest { image.manifest.map(|digest| digest.to_string()) } else { Some(name.tag_or_digest()) };
    let found = asked.map_or(Ok(None), |target| current(&repository, &target))?;
    let as_it_is = request.compression.is_none() && request.level.is_none();
    if let (true, Some(bytes), Some(digest)) = (as_it_is, &stored, image.manifest)
        && found == Some(digest)
        && style == Style::of(bytes)
    {
        // A registry has all that a manifest names before it takes it.
        for layer in image.diff_ids() {
            progress.on(Event::LayerThere { digest: *layer, from: None });
        }
        let size = bytes.len() as u64;
        return Ok(Pushed { reference: name.clone(), digest, size, media_type: style.manifest() });
    }
    let push = Push {
        layers,
        request,
        progress,
        repository: &repository,
        endpoint: &endpoint,
        name,
        by_digest,
        known,
    };
    let sent = push.layers(image)?;
    let config = images.blob(image.id)?;
    if Digest::of(&config) != image.id {
        let why = "its config is damaged; 'coracle store verify --repair' may fetch it again";
        return Err(Error::unsupported(&image.id.short(), why));
    }
    repository.push_small_blob(&config)?;
    progress.on(Event::Config { digest: image.id });
    let listed: Vec<_> = image.diff_ids().iter().filter_map(|layer| sent.get(layer).copied()).collect();
    let config = Blob { digest: image.id, size: config.len() as u64 };
    let manifest = plain::manifest(style, stored.as_deref(), config, &listed);
    let digest = Digest::of(&manifest);
    let target = if by_digest { digest.to_string() } else { name.tag_or_digest() };
    if found != Some(digest) {
        repository.push_manifest(&target, style.manifest(), &manifest)?;
    }
    if !by_digest {
        progress.on(Event::Resolved { reference: &name.to_string(), digest });
        images.note_pushed(name, image.id, &manifest)?;
    }
    Ok(Pushed { reference: name.clone(), digest, size: manifest.len() as u64, media_type: style.manifest() })
}

/// Pushes layers of the store under a config and a manifest of another kind than an image's: `documents` makes both, of
/// what the layers are in the registry.
pub(super) fn push_layers(
    images: &ImageStore,
    layers: &LayerStore,
    diff_ids: &[Digest],
    name: &Reference,
    request: &PushRequest,
    progress: &dyn Progress,
    documents: &dyn Fn(&[Listed]) -> Result<Documents, Error>,
) -> Result<(), Error> {
    let _pin = images.pin()?;
    let rootfs = RootFs { diff_ids: diff_ids.to_vec(), ..RootFs::default() };
    let config = ImageConfig { rootfs, ..ImageConfig::default() };
    let layers_only = Image { id: Digest::of(b""), manifest: None, index: None, name: None, config };
    let endpoint = Registries::load(&request.options.places)?.endpoint_to_push(&name.name())?;
    let known = known(images, layers, &layers_only, name)?;
    let others = others(&known, name);
    let client = Client::new(request.options.clone());
    let repository = client.repository_to_push(&endpoint, &name.familiar(), &others)?;
    let push = Push {
        layers,
        request,
        progress,
        repository: &repository,
        endpoint: &endpoint,
        name,
        by_digest: false,
        known,
    };
    let sent = push.layers(&layers_only)?;
    let listed: Vec<_> = diff_ids.iter().filter_map(|layer| sent.get(layer).copied()).collect();
    let Documents { config, manifest } = documents(&listed)?;
    repository.push_small_blob(&config)?;
    repository.push_manifest(&name.tag_or_digest(), Style::Oci.manifest(), &manifest)?;
    Ok(())
}

/// The names under which `push --all-tags` pushes: all that are here of a repository.
pub fn local_tags(images: &ImageStore, repository: &str) -> Result<Vec<Reference>, Error> {
    let wanted: Reference = repository.parse()?;
    let local = format!("localhost/{repository}").parse::<Reference>().map(|name| name.name()).ok();
    let mut names: Vec<Reference> =
        images.name_records()?.into_iter().flatten().map(|record| record.name).collect();
    names.retain(|name| name.tag().is_some());
    let of = |repository: &str| names.iter().filter(|name| name.name() == repository).cloned().collect();
    let mut found: Vec<Reference> = of(&wanted.name());
    if let (true, Some(local), false) = (found.is_empty(), local, Reference::has_domain(repository)) {
        found = of(&local);
    }
    found.sort();
    if found.is_empty() { Err(Error::NotFound(repository.to_owned())) } else { Ok(found) }
}

/// The name that an image gets.
fn destination(image: &Image, request: &PushRequest) -> Result<Reference, Error> {
    let name = match &request.destination {
        Some(typed) => typed.strip_prefix("docker://").unwrap_or(typed).parse()?,
        None => image.name.clone().ok_or_else(|| Error::NoDestination(request.image.clone()))?,
    };
    if name.digest().is_some() {
        return Err(Error::NoDestination(name.familiar()));
    }
    Ok(name)
}

/// docker's manifests have no zstd layers, but OCI's.
fn style(request: &PushRequest, stored: Option<&[u8]>) -> Style {
    match (request.format, request.compression, stored) {
        (Some(PushFormat::Oci), ..) | (None, Some(Compression::Zstd), _) | (None, _, None) => Style::Oci,
        (Some(PushFormat::Docker), ..) => Style::Docker,
        (None, _, Some(stored)) => Style::of(stored),
    }
}

/// What the tag means in the registry now, or whether it has the digest.
pub(super) fn current(repository: &Repository<'_>, tag_or_digest: &str) -> Result<Option<Digest>, Error> {
    match repository.manifest_digest(tag_or_digest) {
        Err(registry::Error::NotFound { .. } | registry::Error::Status { status: 400..=499, .. }) => Ok(None),
        answer => Ok(answer?),
    }
}

/// A form of a layer that a registry may have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    blob: Blob,
    packing: Packing,
    /// If it was compressed here.
    level: Option<u32>,
    /// Repositories of this registry that had it.
    places: BTreeSet<String>,
}

/// What is known of the image's layers in the registry of `name`: of images from there first.
fn known(
    images: &ImageStore,
    layers: &LayerStore,
    image: &Image,
    name: &Reference,
) -> Result<BTreeMap<Digest, Vec<Known>>, Error> {
    let mut known: BTreeMap<Digest, Vec<Known>> =
        image.diff_ids().iter().map(|layer| (*layer, Vec::new())).collect();
    let mut add = |layer: Digest, new: Known| {
        let Some(all) = known.get_mut(&layer) else { return };
        match all.iter_mut().find(|old| old.blob == new.blob) {
            Some(old) => {
                old.places.extend(new.places);
                old.level = old.level.or(new.level);
            }
            None => all.push(new),
        }
    };
    let mut listed = |manifest: Digest, diff_ids: &[Digest], place: Option<String>| {
        let bytes = images.blob(manifest).unwrap_or_default();
        let blobs = plain::layers(&bytes).filter(|blobs| blobs.len() == diff_ids.len());
        for (layer, (blob, packing)) in diff_ids.iter().zip(blobs.into_iter().flatten()) {
            let places = place.clone().into_iter().collect();
            add(*layer, Known { blob, packing, level: None, places });
        }
    };
    if let Some(manifest) = image.manifest {
        listed(manifest, image.diff_ids(), None);
    }
    for record in images.name_records()?.into_iter().flatten() {
        if let (true, Some(manifest)) = (record.name.domain() == name.domain(), record.manifest)
            && let Ok(config) = images.config(record.id)
        {
            listed(manifest, &config.rootfs.diff_ids, Some(record.name.path().to_owned()));
        }
    }
    for layer in image.diff_ids() {
        for Packed { compression, level, digest, size, places } in layers.packed(*layer) {
            let here = |place: &String| {
                place.strip_prefix(name.domain()).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned)
            };
            let new = Known {
                blob: Blob { digest, size },
                packing: compression.into(),
                level: Some(level),
                places: places.iter().filter_map(here).collect(),
            };
            add(*layer, new);
        }
    }
    Ok(known)
}

/// The repositories that a token should be good for reading from, too.
fn others(known: &BTreeMap<Digest, Vec<Known>>, name: &Reference) -> Vec<String> {
    let places = known.values().flatten().flat_map(|known| known.places.iter());
    let all: BTreeSet<&String> = places.filter(|place| *place != name.path()).collect();
    all.into_iter().take(MAX_MOUNTS * 4).cloned().collect()
}

struct Push<'a> {
    layers: &'a LayerStore,
    request: &'a PushRequest,
    progress: &'a dyn Progress,
    repository: &'a Repository<'a>,
    endpoint: &'a Endpoint,
    name: &'a Reference,
    /// Whether the manifest is to be the stored one.
    by_digest: bool,
    known: BTreeMap<Digest, Vec<Known>>,
}

pub(super) type Listed = (Blob, Packing);

impl Push<'_> {
    /// Brings all layers into the registry, the largest ones first; what they are there.
    fn layers(&self, image: &Image) -> Result<BTreeMap<Digest, Listed>, Error> {
        let mut seen = HashSet::new();
        let mut queue: Vec<Digest> =
            image.diff_ids().iter().copied().filter(|layer| seen.insert(*layer)).collect();
        for digest in &queue {
            self.progress.on(Event::LayerWaiting { digest: *digest });
        }
        queue.sort_by_key(|layer| self.layers.size(*layer).unwrap_or(0));
        let sent = Mutex::new(BTreeMap::new());
        side_by_side(queue, self.request.jobs, |layer, stop| {
            let done = self.layer(layer, stop)?;
            sent.lock().unwrap_or_else(PoisonError::into_inner).insert(layer, done);
            Ok(())
        })?;
        Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn layer(&self, layer: Digest, stop: &AtomicBool) -> Result<Listed, Error> {
        let known: Vec<&Known> =
            self.known.get(&layer).into_iter().flatten().filter(|known| self.is_wanted(known)).collect();
        for known in &known {
            if let Some(from) = self.is_there(known)? {
                self.progress.on(Event::LayerThere { digest: layer, from: from.as_deref() });
                if let (Some(level), Some(compression)) = (known.level, compression(known.packing)) {
                    self.note(layer, compression, level, known.blob, &known.places)?;
                }
                return Ok((known.blob, known.packing));
            }
        }
        // As the manifest that has to be there lists it.
        let is_plain = self.by_digest && known.iter().any(|known| known.blob.digest == layer);
        match is_plain {
            true => Ok((self.send(layer, None, stop)?, Packing::Plain)),
            false => {
                let compression = self.request.compression.unwrap_or(Compression::Gzip);
                let level = self.request.level.unwrap_or(compression.default_level());
                let blob = self.send(layer, Some((compression, level)), stop)?;
                self.note(layer, compression, level, blob, &BTreeSet::new())?;
                Ok((blob, compression.into()))
            }
        }
    }

    /// Whether a form of a layer is what was asked for.
    fn is_wanted(&self, known: &Known) -> bool {
        let level = |compression: Compression| self.request.level.unwrap_or(compression.default_level());
        match (self.request.compression, self.request.level) {
            // As it came from a registry, or as it would be made now.
            (None, None) => {
                known.level.is_none_or(|l| known.packing == Packing::Gzip && l == level(Compression::Gzip))
            }
            (Some(wanted), None) => {
                known.packing == wanted.into() && known.level.is_none_or(|l| l == level(wanted))
            }
            (wanted, Some(level)) => {
                known.packing == wanted.unwrap_or(Compression::Gzip).into() && known.level == Some(level)
            }
        }
    }

    /// Whether the registry has it, or takes it from another of its repositories (then which).
    fn is_there(&self, known: &Known) -> Result<Option<Option<String>>, Error> {
        if self.repository.has_blob(known.blob.digest)? {
            return Ok(Some(None));
        }
        let others = known.places.iter().filter(|place| **place != self.endpoint.repository);
        for from in others.take(MAX_MOUNTS) {
            if self.repository.mount_blob(known.blob.digest, from)? {
                return Ok(Some(Some(from.clone())));
            }
        }
        Ok(None)
    }

    fn send(
        &self,
        layer: Digest,
        packing: Option<(Compression, u32)>,
        stop: &AtomicBool,
    ) -> Result<Blob, Error> {
        if let Claim::Build(_) = self.layers.claim(layer)? {
            return Err(layers::Error::Missing(layer).into());
        }
        let size = self.layers.tar_size(layer)?;
        let failure = Mutex::new(None);
        let mut open = || -> io::Result<Box<dyn Read + '_>> {
            self.progress.on(Event::LayerStart { digest: layer, size });
            let archive = self.layers.read_tar(layer).map_err(|e| keep(&failure, e.into()))?;
            let outgoing =
                Outgoing { inner: archive, layer, stop, progress: self.progress, failure: &failure };
            match packing {
                None => Ok(Box::new(outgoing)),
                Some((compression, level)) => compression.compress(outgoing, level),
            }
        };
        let on_retry = |why: &str| self.progress.on(Event::LayerRetry { digest: layer, why });
        let sent = self.repository.push_blob(&mut open, &on_retry);
        // The reader's own error says more than what the upload made of it.
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let sent = sent?;
        self.progress.on(Event::LayerDone { digest: layer });
        Ok(Blob { digest: sent.digest, size: sent.size })
    }

    /// Remembers what a layer was compressed to, and that it is in this repository.
    fn note(
        &self,
        layer: Digest,
        compression: Compression,
        level: u32,
        blob: Blob,
        others: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let domain = self.name.domain();
        let mut places: BTreeSet<String> = others.iter().map(|path| format!("{domain}/{path}")).collect();
        places.insert(self.name.name());
        let packed = Packed { compression, level, digest: blob.digest, size: blob.size, places };
        Ok(self.layers.keep_packed(layer, &packed)?)
    }
}

fn compression(packing: Packing) -> Option<Compression> {
    match packing {
        Packing::Plain => None,
        Packing::Gzip => Some(Compression::Gzip),
        Packing::Zstd => Some(Compression::Zstd),
    }
}

fn keep(failure: &Mutex<Option<Error>>, error: Error) -> io::Error {
    let text = error.to_string();
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    io::Error::other(text)
}

/// A layer's archive on its way to the compressor.
struct Outgoing<'a, R> {
    inner: R,
    layer: Digest,
    stop: &'a AtomicBool,
    progress: &'a dyn Progress,
    failure: &'a Mutex<Option<Error>>,
}

impl<R: Read> Read for Outgoing<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped, since another layer failed"));
        }
        match self.inner.read(into) {
            Ok(count) => {
                self.progress.on(Event::LayerBytes { digest: self.layer, bytes: count as u64 });
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let error = error.downcast().unwrap_or_else(|source| layers::Error::Read { source });
                Err(keep(self.failure, error.into()))
            }
        }
    }
}
