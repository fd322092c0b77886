//! Manifests: OCI's (image-spec, manifest.md and image-index.md) and docker's schema 2, in one form.

use super::{Error, Platform, platform};
use crate::digest::Digest;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

/// The media type of an OCI index.
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The media type of docker's list.
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

const INDEXES: [&str; 2] = [OCI_INDEX, DOCKER_LIST];
pub(super) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// An index within an index within an index is as far as we go.
const MAX_DEPTH: usize = 3;
/// How many manifests are fetched for one name at most.
const MAX_FETCHES: usize = 16;

/// A manifest's bytes and what its source says they are.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) media_type: String,
}

/// Something that a manifest points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// An image's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Blob,
    pub(super) layers: Vec<Blob>,
}

enum Document {
    Index(Vec<Descriptor>),
    Image(Manifest),
}

/// The manifest that `top` means for a platform: itself, or one that it lists. `fetch` gets the listed ones.
pub(super) fn resolve(
    name: &str,
    top: &Raw,
    wanted: &Platform,
    fetch: &mut dyn FnMut(Digest) -> Result<Raw, Error>,
) -> Result<(Raw, Manifest), Error> {
    let mut fetches = 0;
    let mut counted = |digest| {
        fetches += 1;
        if fetches > MAX_FETCHES {
            return Err(Error::unsupported(name, "its index lists too many indexes"));
        }
        fetch(digest)
    };
    let mut available = Vec::new();
    match descend(name, top, wanted, &mut counted, &mut available, 0)? {
        Some(found) => Ok(found),
        None if available.is_empty() => Err(Error::unsupported(name, "it lists no images")),
        None => {
            available.dedup();
            Err(Error::Platform { name: name.to_owned(), wanted: wanted.clone(), available })
        }
    }
}

fn descend(
    name: &str,
    raw: &Raw,
    wanted: &Platform,
    fetch: &mut dyn FnMut(Digest) -> Result<Raw, Error>,
    available: &mut Vec<String>,
    depth: usize,
) -> Result<Option<(Raw, Manifest)>, Error> {
    let entries = match parse(name, raw)? {
        Document::Image(manifest) => return Ok(Some((raw.clone(), manifest))),
        Document::Index(entries) => entries,
    };
    if depth == MAX_DEPTH {
        return Err(Error::unsupported(name, "its indexes are nested too deeply"));
    }
    let is_image = |e: &&Descriptor| is_one_of(e, &MANIFESTS);
    let mut next: Vec<&Descriptor> = Vec::new();
    if let Some(best) = wanted.choose(&entries) {
        next.push(best);
    } else if let [only] = entries.iter().filter(is_image).collect::<Vec<_>>()[..]
        && only.platform().is_none()
    {
        // A layout with one image need not say for which platform it is: its config does.
        next.push(only);
    } else {
        // An index that says no platform may hold what we look for.
        next.extend(entries.iter().filter(|e| is_one_of(e, &INDEXES) && e.platform().is_none()));
    }
    available
        .extend(entries.iter().filter_map(platform::of).filter(|p| p.os != "unknown").map(|p| p.to_string()));
    for entry in next {
        let raw = fetch(blob(name, entry)?.digest)?;
        if let Some(found) = descend(name, &raw, wanted, fetch, available, depth + 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn is_one_of(entry: &Descriptor, types: &[&str]) -> bool {
    types.contains(&entry.media_type().as_ref())
}

/// The config and the layers of a manifest whose config is of another kind than an image's.
pub(super) fn artifact(name: &str, bytes: &[u8]) -> Result<(Blob, Vec<Blob>), Error> {
    let manifest: ImageManifest = serde_json::from_slice(bytes)
        .map_err(|e| Error::unsupported(name, format!("its manifest is malformed ({e})")))?;
    Ok((blob(name, manifest.config())?, layers(name, &manifest)?))
}

/// All that a manifest names, whatever it is: the config first.
pub(super) fn manifest_blobs(name: &str, bytes: &[u8]) -> Result<Vec<Blob>, Error> {
    let manifest: ImageManifest = serde_json::from_slice(bytes)
        .map_err(|e| Error::unsupported(name, format!("its manifest is malformed ({e})")))?;
    std::iter::once(manifest.config()).chain(manifest.layers()).map(|one| blob(name, one)).collect()
}

/// A stored manifest.
pub(super) fn parsed(bytes: &[u8]) -> Option<Manifest> {
    let manifest: ImageManifest = serde_json::from_slice(bytes).ok()?;
    image("", &manifest).ok()
}

/// Whether an entry of an index is an image or an index.
pub(super) fn leads_to_image(entry: &Descriptor) -> bool {
    is_one_of(entry, &MANIFESTS) || is_one_of(entry, &INDEXES)
}

/// An index of these entries.
pub(super) fn index_of(entries: &[Descriptor]) -> Raw {
    let document = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let bytes = document.to_string().into_bytes();
    Raw { digest: Digest::of(&bytes), bytes, media_type: OCI_INDEX.into() }
}

/// The entries of an index; none if it is an image.
pub(super) fn index_entries(name: &str, raw: &Raw) -> Result<Vec<Descriptor>, Error> {
    match parse(name, raw)? {
        Document::Index(entries) => Ok(entries),
        Document::Image(_) => Ok(Vec::new()),
    }
}

fn parse(name: &str, raw: &Raw) -> Result<Document, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let bad = |e: serde_json::Error| Error::unsupported(name, format!("its manifest is malformed ({e})"));
    let shape: Shape = serde_json::from_slice(&raw.bytes).map_err(bad)?;
    // A document that could be read as either is a trap (CVE-2021-41190).
    if shape.manifests.is_some() && (shape.config.is_some() || shape.layers.is_some()) {
        return Err(Error::unsupported(name, "its manifest is an index and an image at once"));
    }
    let by_shape = if shape.manifests.is_some() { INDEXES[0] } else { MANIFESTS[0] };
    let known = |t: &&str| INDEXES.contains(t) || MANIFESTS.contains(t);
    let media_type = match (shape.media_type.as_deref(), raw.media_type.as_str()) {
        (Some(own), _) => own,
        (None, said) if known(&said) => said,
        // Some servers send application/json or text/plain: then it is what it looks like.
        (None, said) if shape.schema_version == Some(2) && !said.contains("vnd.") => by_shape,
        (None, said) => said,
    };
    if INDEXES.contains(&media_type) && shape.manifests.is_some() {
        let index: ImageIndex = serde_json::from_slice(&raw.bytes).map_err(bad)?;
        return Ok(Document::Index(index.manifests().clone()));
    }
    if MANIFESTS.contains(&media_type) && shape.config.is_some() {
        let manifest: ImageManifest = serde_json::from_slice(&raw.bytes).map_err(bad)?;
        return image(name, &manifest).map(Document::Image);
    }
    Err(Error::unsupported(
        name,
        if media_type.contains("manifest.v1+") || shape.schema_version == Some(1) {
            "its manifest has docker's schema 1, which is obsolete; it has to be pushed again by a newer tool"
                .into()
        } else {
            format!("its manifest has the unknown media type '{}'", registry_word(media_type))
        },
    ))
}

fn image(name: &str, manifest: &ImageManifest) -> Result<Manifest, Error> {
    if !is_one_of(manifest.config(), &CONFIGS) {
        let kind = registry_word(manifest.config().media_type().as_ref());
        return Err(Error::unsupported(
            name,
            format!("it is no container image but has a config of type '{kind}'"),
        ));
    }
    Ok(Manifest { config: blob(name, manifest.config())?, layers: layers(name, manifest)? })
}

fn layers(name: &str, manifest: &ImageManifest) -> Result<Vec<Blob>, Error> {
    let mut layers = Vec::with_capacity(manifest.layers().len());
    for layer in manifest.layers() {
        if !is_one_of(layer, &LAYERS) {
            let kind = layer.media_type().as_ref();
            let why = if kind.contains("foreign") || kind.contains("nondistributable") {
                format!(
                    "its layer {} is not in the registry, only elsewhere (a foreign layer)",
                    layer.digest()
                )
            } else {
                format!("it has a layer of the unknown media type '{}'", registry_word(kind))
            };
            return Err(Error::unsupported(name, why));
        }
        layers.push(blob(name, layer)?);
    }
    Ok(layers)
}

pub(super) fn blob(name: &str, descriptor: &Descriptor) -> Result<Blob, Error> {
    let digest = descriptor.digest().to_string();
    let digest = digest
        .parse()
        .map_err(|e: crate::digest::ParseDigestError| Error::unsupported(name, e.to_string()))?;
    Ok(Blob { digest, size: descriptor.size() })
}

/// A word from outside, fit for a message.
fn registry_word(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str, media_type: &str) -> Raw {
        Raw { bytes: text.into(), digest: Digest::of(text.as_bytes()), media_type: media_type.into() }
    }

    fn descriptor(kind: &str, digest: Digest, more: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":7{more}}}"#)
    }

    fn image_text(own_type: &str, config: &str, layer: &str) -> String {
        let d = Digest::of(b"x");
        let own = if own_type.is_empty() { String::new() } else { format!(r#""mediaType":"{own_type}","#) };
        let (config, layer) = (descriptor(config, d, ""), descriptor(layer, d, ""));
        format!(r#"{{"schemaVersion":2,{own}"config":{config},"layers":[{layer}]}}"#)
    }

    fn index_text(entries: &[String]) -> String {
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, INDEXES[0], entries.join(","))
    }

    fn alone(top: &Raw) -> Result<(Raw, Manifest), Error> {
        resolve("app", top, &"linux/amd64".parse().unwrap(), &mut |_| panic!("nothing to fetch"))
    }

    #[test]
    fn manifests_of_both_kinds_are_understood_by_their_own_type_or_the_servers() {
        for (own, said) in [
            (MANIFESTS[0], ""),
            (MANIFESTS[1], "text/plain"),
            ("", MANIFESTS[0]),
            ("", MANIFESTS[1]),
            ("", "application/json"),
            ("", ""),
        ] {
            for (config, layer) in [(CONFIGS[0], LAYERS[2]), (CONFIGS[1], LAYERS[4])] {
                let (_, manifest) = alone(&raw(&image_text(own, config, layer), said)).unwrap();
                assert_eq!(manifest.layers.len(), 1);
            }
        }
    }

    #[test]
    fn what_is_no_image_is_refused_by_its_name() {
        let both = image_text("", CONFIGS[0], LAYERS[0]).replace("\"layers\"", "\"manifests\":[],\"layers\"");
        let table = [
            (image_text("application/vnd.x+json", CONFIGS[0], LAYERS[0]), "application/vnd.x+json"),
            (image_text("", "application/vnd.cncf.helm.config.v1+json", LAYERS[0]), "helm"),
            (image_text("", CONFIGS[0], "application/wasm"), "application/wasm"),
            (
                image_text("", CONFIGS[1], "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
                "foreign",
            ),
            (both, "at once"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "schema 1"),
            ("{".into(), "malformed"),
            ("[]".into(), "malformed"),
            (index_text(&[]), "no images"),
            (image_text("", CONFIGS[0], LAYERS[0]).replace("sha256:", "sha512:"), "malformed"),
        ];
        for (text, expected) in table {
            let error = alone(&raw(&text, "")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    #[test]
    fn an_image_is_found_in_nested_indexes_and_other_platforms_are_named() {
        let image = raw(&image_text(MANIFESTS[0], CONFIGS[0], LAYERS[0]), "");
        let platform =
            |os: &str, arch: &str| format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#);
        let inner = raw(
            &index_text(&[
                descriptor(MANIFESTS[0], Digest::of(b"attestation"), &platform("unknown", "unknown")),
                descriptor(MANIFESTS[0], image.digest, &platform("linux", "amd64")),
            ]),
            "",
        );
        let outer = raw(
            &index_text(&[
                descriptor(INDEXES[0], inner.digest, ""),
                descriptor(MANIFESTS[0], Digest::of(b"arm"), &platform("linux", "arm64")),
            ]),
            "",
        );
        let all = [image.clone(), inner.clone(), outer.clone()];
        let mut fetch = |digest| Ok(all.iter().find(|r| r.digest == digest).unwrap().clone());
        let amd64 = "linux/amd64".parse().unwrap();
        assert_eq!(resolve("app", &outer, &amd64, &mut fetch).unwrap().0.digest, image.digest);
        let error = resolve("app", &inner, &"linux/s390x".parse().unwrap(), &mut fetch).unwrap_err();
        assert_eq!(error.to_string(), "app has no image for linux/s390x, only for linux/amd64");

        let lone = raw(&index_text(&[descriptor(MANIFESTS[0], image.digest, "")]), "");
        let mut fetch = |_| Ok(image.clone());
        assert!(resolve("app", &lone, &amd64, &mut fetch).is_ok());
    }

    #[test]
    fn indexes_without_end_are_given_up() {
        let deep = raw(&index_text(&[descriptor(INDEXES[0], Digest::of(b"self"), "")]), "");
        let amd64 = "linux/amd64".parse().unwrap();
        let error = resolve("app", &deep, &amd64, &mut |_| Ok(deep.clone())).unwrap_err();
        assert!(error.to_string().contains("deeply"), "{error}");
        let entries: Vec<_> = (0..50u8).map(|n| descriptor(INDEXES[0], Digest::of(&[n]), "")).collect();
        let wide = raw(&index_text(&entries), "");
        let empty = raw(&index_text(&[]), "");
        let error = resolve("app", &wide, &amd64, &mut |_| Ok(empty.clone())).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }
}
