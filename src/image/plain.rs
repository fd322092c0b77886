//! Manifests of images that leave the store. Its layers are uncompressed, and what a layer's blob was when it was pulled is
//! not kept, so in an archive a manifest that lists compressed ones cannot be used again; one that lists uncompressed ones is
//! kept to the byte, and with it its digest.

use super::manifest::{self, Blob, OCI_INDEX};
use crate::digest::Digest;
use crate::layers::Compression;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Whose manifest: the media types differ, little else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// OCI's.
    #[default]
    Oci,
    /// docker's schema 2.
    Docker,
}

/// How the blobs of layers are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// What a media type says.
    fn of(media_type: &str) -> Self {
        match media_type.rsplit(['.', '+']).next() {
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

impl From<Compression> for Packing {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

impl Style {
    /// Whose a stored manifest is.
    pub(super) fn of(stored: &[u8]) -> Self {
        let shape: Value = serde_json::from_slice(stored).unwrap_or_default();
        match shape["mediaType"].as_str() == Some(Self::Docker.manifest()) {
            true => Self::Docker,
            false => Self::Oci,
        }
    }

    pub(super) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    pub(super) fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            (Self::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// The manifest of these blobs: `stored` itself if it says the same in this style, else a new one that keeps its
/// annotations.
pub(super) fn manifest(
    style: Style,
    stored: Option<&[u8]>,
    config: Blob,
    layers: &[(Blob, Packing)],
) -> Vec<u8> {
    if let Some(stored) = stored.filter(|stored| says(stored, style, config, layers)) {
        return stored.to_vec();
    }
    let descriptor =
        |kind: &str, blob: &Blob| json!({ "mediaType": kind, "digest": blob.digest, "size": blob.size });
    let mut made = json!({
        "schemaVersion": 2,
        "mediaType": style.manifest(),
        "config": descriptor(style.config(), &config),
        "layers": layers.iter().map(|(layer, packing)| descriptor(style.layer(*packing), layer)).collect::<Vec<_>>(),
    });
    if let (Style::Oci, Some(Value::Object(annotations))) = (style, stored.and_then(annotations)) {
        made["annotations"] = Value::Object(annotations);
    }
    made.to_string().into_bytes()
}

/// The manifest with more annotations.
pub(super) fn annotated(
    manifest: Vec<u8>,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<u8>, serde_json::Error> {
    if annotations.is_empty() {
        return Ok(manifest);
    }
    let mut shape: Value = serde_json::from_slice(&manifest)?;
    for (name, value) in annotations {
        shape["annotations"][name] = value.as_str().into();
    }
    Ok(shape.to_string().into_bytes())
}

/// The layers that a stored manifest lists, and how they are packed.
pub(super) fn layers(stored: &[u8]) -> Option<Vec<(Blob, Packing)>> {
    let blobs = manifest::parsed(stored)?.layers;
    let shape: Value = serde_json::from_slice(stored).ok()?;
    let kinds =
        shape["layers"].as_array()?.iter().map(|l| Packing::of(l["mediaType"].as_str().unwrap_or("")));
    Some(blobs.into_iter().zip(kinds).collect())
}

fn says(stored: &[u8], style: Style, config: Blob, layers: &[(Blob, Packing)]) -> bool {
    let shape: Value = serde_json::from_slice(stored).unwrap_or_default();
    let kind = shape["mediaType"].as_str();
    let is_style = kind == Some(style.manifest()) || (kind.is_none() && style == Style::Oci);
    is_style
        && manifest::parsed(stored)
            .is_some_and(|m| m.config == config && m.layers.iter().eq(layers.iter().map(|(blob, _)| blob)))
}

fn annotations(stored: &[u8]) -> Option<Value> {
    let shape: Value = serde_json::from_slice(stored).ok()?;
    let found = shape.get("annotations")?;
    // What Go writes for none.
    (!found.is_null()).then(|| found.clone())
}

/// The `index.json` of a layout: an entry for each name of each image, or one without a name. containerd and docker read the
/// one annotation, skopeo and podman the other.
pub(super) fn index(images: &[(Digest, u64, Vec<String>)]) -> Vec<u8> {
    let entry = |digest: &Digest, size: u64, name: Option<&String>| {
        let mut entry = json!({
            "mediaType": Style::Oci.manifest(), "digest": digest, "size": size,
        });
        if let Some(name) = name {
            let mut annotations = Map::new();
            for key in ["io.containerd.image.name", "org.opencontainers.image.ref.name"] {
                annotations.insert(key.into(), name.as_str().into());
            }
            entry["annotations"] = annotations.into();
        }
        entry
    };
    let mut entries = Vec::new();
    for (digest, size, names) in images {
        match names.is_empty() {
            true => entries.push(entry(digest, *size, None)),
            false => entries.extend(names.iter().map(|name| entry(digest, *size, Some(name)))),
        }
    }
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Blob {
        Blob { digest: Digest::of(text.as_bytes()), size: text.len() as u64 }
    }

    #[test]
    fn a_manifest_of_the_same_blobs_is_kept_to_the_byte_and_another_one_made_anew() {
        let (config, layers) =
            (blob("config"), [(blob("one"), Packing::Plain), (blob("two"), Packing::Plain)]);
        let made = manifest(Style::Oci, None, config, &layers);
        // Spaces that we would not write.
        let mut stored: Value = serde_json::from_slice(&made).unwrap();
        stored["annotations"] = json!({"a": "b"});
        let stored = format!("{stored:#}").into_bytes();
        assert_eq!(manifest(Style::Oci, Some(&stored), config, &layers), stored);
        for (style, other, layers) in [
            (Style::Docker, config, &layers[..]),
            (Style::Oci, blob("another"), &layers),
            (Style::Oci, config, &layers[..1]),
        ] {
            let again = manifest(style, Some(&stored), other, layers);
            assert_ne!(again, stored);
            let parsed = manifest::parsed(&again).unwrap();
            assert_eq!(parsed.config, other);
            assert_eq!(super::layers(&again).as_deref(), Some(layers));
            let annotations = serde_json::from_slice::<Value>(&again).unwrap()["annotations"].clone();
            assert_eq!(annotations.is_null(), style == Style::Docker);
        }
        assert_eq!(manifest(Style::Oci, Some(b"{"), config, &layers), made);
    }

    #[test]
    fn an_index_has_an_entry_for_each_name() {
        let digest = Digest::of(b"");
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let index = index(&[(digest, 1, names(&["a:1", "b:1"])), (digest, 1, names(&[]))]);
        let index: Value = serde_json::from_slice(&index).unwrap();
        let name = |n: usize| index["manifests"][n]["annotations"]["io.containerd.image.name"].clone();
        assert_eq!((name(0), name(1), name(2)), (json!("a:1"), json!("b:1"), Value::Null));
    }
}
