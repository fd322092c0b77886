//! A list as the index that registries know (OCI image index; docker's manifest list).

use super::{Artifact, List};
use crate::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, OCI_INDEX};
use crate::image::{ManifestStyle, Platform, Reference, platform};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An image of a list, or something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Of its manifest.
    pub digest: Digest,
    /// Of its manifest.
    pub size: u64,
    /// Of its manifest.
    pub media_type: String,
    /// What it is for.
    pub platform: ListPlatform,
    /// What else is said of it in this list.
    pub annotations: BTreeMap<String, String>,
    /// As it was typed when it was added.
    pub added_as: String,
    /// The id of the image in the store.
    pub image: Option<Digest>,
    /// The repository in which it is, if it is not in the store.
    pub repository: Option<Reference>,
    /// What it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Files of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

impl ListEntry {
    /// Whether it can be run where its platform fits.
    pub fn is_image(&self) -> bool {
        self.artifact_type.is_none() && self.artifact.is_none()
    }
}

/// What an image is for, as an index says it. What is empty is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPlatform {
    /// In Go's spelling.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// What the operating system must have.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// What the processor must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

impl ListPlatform {
    pub(super) fn platform(&self) -> Platform {
        let variant = Some(self.variant.as_str()).filter(|variant| !variant.is_empty());
        platform::of_config(&self.os, &self.architecture, variant)
    }
}

impl List {
    /// What is pushed. docker's form has no annotations, and knows no artifacts.
    pub fn document(&self, style: ManifestStyle) -> Vec<u8> {
        let is_oci = style == ManifestStyle::Oci;
        let entry = |entry: &ListEntry| {
            let mut descriptor = json!({
                "mediaType": entry.media_type,
                "digest": entry.digest,
                "size": entry.size,
            });
            if entry.is_image() || entry.platform != ListPlatform::default() {
                descriptor["platform"] = json!(entry.platform);
            }
            if is_oci && let Some(kind) = &entry.artifact_type {
                descriptor["artifactType"] = kind.as_str().into();
            }
            if is_oci && !entry.annotations.is_empty() {
                descriptor["annotations"] = json!(entry.annotations);
            }
            descriptor
        };
        let entries: Vec<Value> = self.entries.iter().map(entry).collect();
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media_type(style),
            "manifests": entries,
        });
        if is_oci && !self.annotations.is_empty() {
            document["annotations"] = json!(self.annotations);
        }
        document.to_string().into_bytes()
    }
}

pub(super) fn media_type(style: ManifestStyle) -> &'static str {
    match style {
        ManifestStyle::Oci => OCI_INDEX,
        ManifestStyle::Docker => DOCKER_LIST,
    }
}
