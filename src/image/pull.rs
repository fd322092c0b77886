//! From a registry into the store.

use super::manifest::{self, Blob, Manifest, Raw};
use super::store::NameRecord;
use super::transfer::{Layer, Source, fetch_layers, layers_of};
use super::{Error, Event, Image, ImageConfig, ImageStore, NewImage, Platform, Progress, Reference};
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::registry::{self, Client, Endpoint, Options, RawManifest, Registries, Repository};
use std::io::Read;

/// More than any real config.
pub(super) const MAX_CONFIG: u64 = 8 << 20;

/// What to pull, and how.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The name as typed: a short one is completed by `registries.conf`. `docker://` before it is allowed.
    pub reference: String,
    /// `--platform`; if not given, this machine's is preferred.
    pub platform: Option<Platform>,
    /// How to talk to registries.
    pub options: Options,
    /// How many layers are fetched at once.
    pub jobs: usize,
}

impl PullRequest {
    /// With docker's defaults.
    pub fn new(reference: &str) -> Self {
        Self { reference: reference.to_owned(), platform: None, options: Options::default(), jobs: 4 }
    }
}

/// Pulls an image. What is there already is not fetched again: if all is, that takes one round trip (none for a name
/// with a digest). New layers are complete but not yet [durable](LayerStore::make_durable).
pub fn pull(
    images: &ImageStore,
    layers: &LayerStore,
    request: &PullRequest,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let registries = Registries::load(&request.options.places)?;
    let client = Client::new(request.options.clone());
    let pull = Pull { images, layers, request, progress, client: &client, again: false };
    let mut failures = Vec::new();
    for name in candidates(&registries, &request.reference)? {
        match pull.try_endpoints(&registries, &name) {
            Ok(image) => return Ok(image),
            Err(error @ (Error::Registry(_) | Error::Unsupported { .. } | Error::Platform { .. })) => {
                failures.push((name.to_string(), error));
            }
            Err(error) => return Err(error),
        }
    }
    match failures.pop() {
        Some((_, only)) if failures.is_empty() => Err(only),
        last => {
            failures.extend(last);
            Err(Error::Everywhere { name: request.reference.clone(), failures })
        }
    }
}

/// Fetches again what is missing of an image, by the digest that `name` has in its registry. It gets no name.
pub(super) fn fetch_again(
    images: &ImageStore,
    layers: &LayerStore,
    name: &Reference,
    digest: Digest,
    request: &PullRequest,
) -> Result<Image, Error> {
    let registries = Registries::load(&request.options.places)?;
    let client = Client::new(request.options.clone());
    let pull = Pull { images, layers, request, progress: &super::Silent, client: &client, again: true };
    pull.try_endpoints(&registries, &name.with_digest(digest))
}

/// The full names that a typed one may mean.
pub(super) fn candidates(registries: &Registries, typed: &str) -> Result<Vec<Reference>, Error> {
    let (typed, is_full) = match typed.strip_prefix("docker://") {
        Some(rest) => (rest, true),
        None => (typed, Reference::has_domain(typed)),
    };
    let reference: Reference = typed.parse()?;
    if is_full {
        return Ok(vec![reference]);
    }
    let short = typed.split([':', '@']).next().unwrap_or_default();
    let suffix = &reference.familiar()[reference.familiar_name().len()..];
    let names = registries.complete(short)?;
    names.into_iter().map(|name| Ok(format!("{name}{suffix}").parse()?)).collect()
}

/// What the name means now, if the registry tells without giving it; not all know HEAD.
fn current_digest(repository: &Repository<'_>, name: &Reference) -> Result<Option<Digest>, Error> {
    match repository.manifest_digest(&name.tag_or_digest()) {
        Err(registry::Error::Status { status: 400..=499, .. }) => Ok(None),
        answer => Ok(answer?),
    }
}

struct Pull<'a> {
    images: &'a ImageStore,
    layers: &'a LayerStore,
    request: &'a PullRequest,
    progress: &'a dyn Progress,
    client: &'a Client,
    /// Whatever the records say is not believed, and no name is given.
    again: bool,
}

/// Everything about an image but its layers.
struct Fetched {
    top: Raw,
    manifest: Raw,
    config: Vec<u8>,
    layers: Vec<Layer>,
}

impl Pull<'_> {
    fn try_endpoints(&self, registries: &Registries, name: &Reference) -> Result<Image, Error> {
        let known = self.images.read_name(&name.local()).ok().flatten().filter(|_| !self.again);
        if let (Some(known), true) = (&known, name.digest().is_some())
            && let Some(image) = self.complete(known)?
        {
            return Ok(self.up_to_date(name, image));
        }
        let mut last = None;
        for endpoint in registries.endpoints(&name.name(), name.digest().is_some())? {
            match self.try_endpoint(&endpoint, name, known.as_ref()) {
                Err(error @ Error::Registry(_)) => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Error::NotFound(name.to_string())))
    }

    fn try_endpoint(
        &self,
        endpoint: &Endpoint,
        name: &Reference,
        known: Option<&NameRecord>,
    ) -> Result<Image, Error> {
        let repository = self.client.repository(endpoint, &name.familiar())?;
        // Asking for the digest alone does not count as a pull where pulls are counted.
        if let Some(known) = known
            && let Some(image) = self.complete(known)?
            && let Some(digest) = current_digest(&repository, name)?
            && Some(digest) == known.index.or(known.manifest)
        {
            return Ok(self.up_to_date(name, image));
        }
        let fetched = self.fetch(&repository, name)?;
        let _pin = self.images.pin()?;
        fetch_layers(&Remote(&repository), self.layers, &fetched.layers, self.request.jobs, self.progress)?;
        let names = [name.local()];
        self.images.add(&NewImage {
            config: &fetched.config,
            manifest: Some(&fetched.manifest.bytes),
            index: (fetched.top.digest != fetched.manifest.digest).then_some(&fetched.top.bytes[..]),
            names: if self.again { &[] } else { &names },
        })
    }

    /// The image of a known name, if it is whole and for the platform asked for.
    fn complete(&self, known: &NameRecord) -> Result<Option<Image>, Error> {
        let Ok(image) = self.images.image_of(known) else { return Ok(None) };
        let wanted = self.request.platform.clone().unwrap_or_else(Platform::host);
        // The name alone is not the image: the other record may have been torn.
        let is_whole = image.manifest.is_some()
            && self.images.by_id(image.id).is_ok_and(|known| known.is_some())
            && wanted.accepts(&image.platform())
            && image.diff_ids().iter().all(|layer| self.layers.contains(*layer));
        Ok(is_whole.then_some(image))
    }

    fn up_to_date(&self, name: &Reference, image: Image) -> Image {
        if let Some(digest) = image.index.or(image.manifest) {
            self.progress.on(Event::Resolved { reference: &name.to_string(), digest });
        }
        let manifest = image.manifest.and_then(|digest| self.images.blob(digest).ok());
        let layers =
            manifest.and_then(|bytes| manifest::parsed(&bytes)).map(|m| m.layers).unwrap_or_default();
        for Blob { digest, .. } in layers {
            self.progress.on(Event::LayerPresent { digest });
        }
        image
    }

    fn fetch(&self, repository: &Repository<'_>, name: &Reference) -> Result<Fetched, Error> {
        let shown = name.familiar();
        let top: Raw = repository.manifest(&name.tag_or_digest())?.into();
        self.progress.on(Event::Resolved { reference: &name.to_string(), digest: top.digest });
        let wanted = self.request.platform.clone().unwrap_or_else(Platform::host);
        let mut get = |digest: Digest| Ok(repository.manifest(&digest.to_string())?.into());
        let (manifest, Manifest { config, layers }) = manifest::resolve(&shown, &top, &wanted, &mut get)?;
        if config.size > MAX_CONFIG {
            let what = format!("config of {shown}");
            return Err(registry::Error::TooLarge { what, limit: MAX_CONFIG }.into());
        }
        let bytes = match self.images.blob(config.digest) {
            Ok(bytes) if Digest::of(&bytes) == config.digest => bytes,
            _ => repository.small_blob(config.digest, MAX_CONFIG)?,
        };
        self.progress.on(Event::Config { digest: config.digest });
        let layers = layers_of(&shown, &layers, &self.check(&shown, &wanted, &bytes)?)?;
        Ok(Fetched { top, manifest, config: bytes, layers })
    }

    /// A name may stand for one image alone, which says only here what it is for. Another architecture is an error if
    /// one was asked for (else it may run by emulation: whoever runs it warns), another system always.
    fn check(&self, name: &str, wanted: &Platform, config: &[u8]) -> Result<ImageConfig, Error> {
        let parsed: ImageConfig = serde_json::from_slice(config)
            .map_err(|e| Error::unsupported(name, format!("its config is malformed ({e})")))?;
        let platform =
            super::platform::of_config(&parsed.os, &parsed.architecture, parsed.variant.as_deref());
        let was_asked = self.request.platform.is_some();
        if platform.os != wanted.os || (was_asked && !wanted.accepts(&platform)) {
            return Err(Error::Platform {
                name: name.to_owned(),
                wanted: wanted.clone(),
                available: vec![platform.to_string()],
            });
        }
        Ok(parsed)
    }
}

impl From<RawManifest> for Raw {
    fn from(raw: RawManifest) -> Self {
        Self { bytes: raw.bytes, digest: raw.digest, media_type: raw.media_type }
    }
}

pub(super) struct Remote<'r>(pub(super) &'r Repository<'r>);

impl Source for Remote<'_> {
    fn open<'s>(
        &'s self,
        blob: Blob,
        progress: &'s dyn Progress,
    ) -> Result<Box<dyn Read + Send + 's>, Error> {
        let digest = blob.digest;
        let on_retry = Box::new(move |why: &str| progress.on(Event::LayerRetry { digest, why }));
        Ok(Box::new(self.0.blob(digest, blob.size, on_retry)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Places;

    #[test]
    fn a_short_name_is_completed_and_keeps_its_tag_and_digest() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("r.conf");
        let text = "unqualified-search-registries=['quay.io','docker.io']\n[aliases]\nfed='r.fp.o/fedora'\n";
        std::fs::write(&conf, text).unwrap();
        let places = Places { registries_conf: Some(conf), ..Places::from_env() };
        let registries = Registries::load(&places).unwrap();
        let names = |typed: &str| -> Vec<String> {
            candidates(&registries, typed).unwrap().iter().map(ToString::to_string).collect()
        };
        let digest = Digest::of(b"");
        assert_eq!(names("alpine"), ["quay.io/alpine:latest", "docker.io/library/alpine:latest"]);
        assert_eq!(names("o/a:1"), ["quay.io/o/a:1", "docker.io/o/a:1"]);
        assert_eq!(names(&format!("fed@{digest}")), [format!("r.fp.o/fedora@{digest}")]);
        assert_eq!(names("library/a"), ["quay.io/library/a:latest", "docker.io/library/a:latest"]);
        assert_eq!(names("docker://alpine"), ["docker.io/library/alpine:latest"]);
        assert_eq!(names("localhost:5000/a"), ["localhost:5000/a:latest"]);
    }
}
