//! A list into a registry: its images first, each by its digest, then the index that names them.
//!
//! An image of the store is pushed as it would be alone. One that is in another repository is brought over: its blobs are
//! mounted where both are in one registry, or else pass through here.

use super::ListEntry;
use super::artifact::follow_subject;
use super::document::media_type;
use super::source::open;
use crate::digest::Digest;
use crate::image::manifest::{self, Raw};
use crate::image::push::{current, push_image};
use crate::image::{
    Error, Event, ImageStore, ManifestStyle, Progress, PushFormat, PushRequest, Pushed, Reference,
};
use crate::layers::LayerStore;
use crate::registry::{self, Client, Registries, Repository};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// What to push, and how.
#[derive(Clone, Debug)]
pub struct ListPush {
    /// As an image is pushed: the list's name, where to, and how.
    pub request: PushRequest,
    /// The images too, not the index alone.
    pub images: bool,
}

/// Pushes a list. What the registry has already is not sent again.
pub fn push_list(
    images: &ImageStore,
    layers: &LayerStore,
    push: &ListPush,
    progress: &dyn Progress,
) -> Result<Pushed, Error> {
    let _pin = images.pin()?;
    let request = &push.request;
    let mut list = images.find_list(&request.image)?;
    let name: Reference = match &request.destination {
        Some(typed) => typed.strip_prefix("docker://").unwrap_or(typed).parse()?,
        None => list.name.clone(),
    };
    if name.digest().is_some() {
        return Err(Error::NoDestination(name.familiar()));
    }
    let style = match request.format {
        Some(PushFormat::Docker) => ManifestStyle::Docker,
        _ => ManifestStyle::Oci,
    };
    if style == ManifestStyle::Docker && !list.entries.iter().all(ListEntry::is_image) {
        return Err(Error::Conflict {
            action: "push",
            what: list.name.familiar(),
            why: "it has artifacts, which docker's lists cannot have".into(),
            fix: "push it with --format oci".into(),
        });
    }
    if push.images {
        let mut pushed = BTreeMap::new();
        // Artifacts may be about images whose digests are known only then.
        let (artifacts, others): (Vec<_>, Vec<_>) =
            list.entries.iter_mut().partition(|entry| entry.artifact.is_some());
        for entry in others.into_iter().chain(artifacts) {
            let before = entry.digest;
            follow_subject(entry, &pushed)?;
            send(images, layers, push, &name, entry, progress)?;
            let ListEntry { media_type, digest, size, .. } = &*entry;
            pushed.insert(before, json!({"mediaType": media_type, "digest": digest, "size": size}));
        }
    }
    let client = Client::new(request.options.clone());
    let endpoint = Registries::load(&request.options.places)?.endpoint_to_push(&name.name())?;
    let repository = client.repository_to_push(&endpoint, &name.familiar(), &[])?;
    let document = list.document(style);
    let digest = Digest::of(&document);
    if current(&repository, &name.tag_or_digest())? != Some(digest) {
        repository.push_manifest(&name.tag_or_digest(), media_type(style), &document)?;
    }
    progress.on(Event::Resolved { reference: &name.to_string(), digest });
    let size = document.len() as u64;
    Ok(Pushed { reference: name, digest, size, media_type: media_type(style) })
}

/// Brings one image into the repository; the entry says then what it is there.
fn send(
    images: &ImageStore,
    layers: &LayerStore,
    push: &ListPush,
    name: &Reference,
    entry: &mut ListEntry,
    progress: &dyn Progress,
) -> Result<(), Error> {
    if let Some(artifact) = &entry.artifact {
        let options = &push.request.options;
        let client = Client::new(options.clone());
        let endpoint = Registries::load(&options.places)?.endpoint_to_push(&name.name())?;
        let to = client.repository_to_push(&endpoint, &name.familiar(), &[])?;
        return match current(&to, &entry.digest.to_string())? == Some(entry.digest) {
            true => Ok(()),
            false => artifact.send(entry, &to, progress),
        };
    }
    let Some(id) = entry.image else {
        return copy(push, name, entry, progress);
    };
    let image = images.by_id(id)?.ok_or_else(|| Error::NotFound(id.to_string()))?;
    let pushed = push_image(images, layers, &push.request, &image, name, true, progress)?;
    entry.digest = pushed.digest;
    entry.size = pushed.size;
    entry.media_type = pushed.media_type.into();
    Ok(())
}

/// Copies an image, or an artifact, from another repository, bit for bit.
fn copy(push: &ListPush, name: &Reference, entry: &ListEntry, progress: &dyn Progress) -> Result<(), Error> {
    let options = &push.request.options;
    let Some(from) = &entry.repository else { return Err(Error::NotFound(entry.digest.to_string())) };
    let from = from.with_digest(entry.digest);
    let is_near = from.domain() == name.domain();
    let others: Vec<String> =
        (is_near && from.path() != name.path()).then(|| from.path().to_owned()).into_iter().collect();
    let registries = Registries::load(&options.places)?;
    let client = Client::new(options.clone());
    let endpoint = registries.endpoint_to_push(&name.name())?;
    let to = client.repository_to_push(&endpoint, &name.familiar(), &others)?;
    if current(&to, &entry.digest.to_string())? == Some(entry.digest) {
        return Ok(());
    }
    let (_, source) = open(&client, &registries, &format!("docker://{from}"))?;
    let raw: Raw = source.manifest(&entry.digest.to_string())?.into();
    for blob in manifest::manifest_blobs(&from.familiar(), &raw.bytes)? {
        let digest = blob.digest;
        let is_there =
            to.has_blob(digest)? || others.iter().any(|o| to.mount_blob(digest, o).unwrap_or(false));
        if is_there {
            progress.on(Event::LayerThere { digest, from: others.first().map(String::as_str) });
            continue;
        }
        progress.on(Event::LayerStart { digest, size: blob.size });
        pass(&source, &to, blob, progress)?;
        progress.on(Event::LayerDone { digest });
    }
    to.push_manifest(&entry.digest.to_string(), &entry.media_type, &raw.bytes)?;
    Ok(())
}

/// One blob, through here.
fn pass(
    source: &Repository<'_>,
    to: &Repository<'_>,
    blob: manifest::Blob,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let digest = blob.digest;
    let on_retry = |why: &str| progress.on(Event::LayerRetry { digest, why });
    let mut open = || -> io::Result<Box<dyn Read + '_>> {
        let reader = source.blob(digest, blob.size, Box::new(on_retry)).map_err(io::Error::other)?;
        Ok(Box::new(reader))
    };
    let sent = to.push_blob(&mut open, &on_retry)?;
    if sent.digest != digest {
        let what = format!("blob {digest}");
        return Err(registry::Error::Digest { what, expected: digest, got: sent.digest }.into());
    }
    Ok(())
}
