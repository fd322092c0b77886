//! Artifacts in a list: files under a manifest that is no image's (image-spec, manifest.md, "Guidelines for Artifact
//! Usage"), as podman adds them.
//!
//! The manifest is kept with the list. The files stay where they are until the list is pushed, and must be what they were then.

use super::{ListEntry, ListPlatform};
use crate::digest::{Digest, Hashing};
use crate::image::manifest::{MANIFESTS, manifest_blobs};
use crate::image::{Error, Event, Progress};
use crate::registry::Repository;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What an artifact is if nobody says (ORAS').
const UNKNOWN: &str = "application/vnd.unknown.artifact.v1";
/// A configuration that says nothing.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");
/// What a configuration is if nobody says.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Where a file's name is.
const TITLE: &str = "org.opencontainers.image.title";

/// Of so many bytes of a file it is guessed what it is.
const HEAD: usize = 512;

/// What is to be an artifact.
#[derive(Clone, Debug, Default)]
pub struct NewArtifact {
    /// Its content.
    pub files: Vec<PathBuf>,
    /// What it is; empty: it does not say.
    pub kind: Option<String>,
    /// The file with its configuration.
    pub config: Option<PathBuf>,
    /// What that is.
    pub config_kind: Option<String>,
    /// What its files are.
    pub layer_kind: Option<String>,
    /// The descriptor of what it is about.
    pub subject: Option<Value>,
    /// The files' names are not told.
    pub exclude_titles: bool,
    /// Of its manifest.
    pub annotations: BTreeMap<String, String>,
}

/// An artifact of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its manifest, to the byte.
    manifest: String,
    /// Where its blobs are; that which says nothing is nowhere.
    files: BTreeMap<Digest, PathBuf>,
}

/// A file of it.
struct Blob {
    digest: Digest,
    size: u64,
    head: Vec<u8>,
    path: PathBuf,
}

impl Blob {
    fn read(path: &Path) -> Result<Self, Error> {
        let read = || {
            let absolute = std::path::absolute(path)?;
            let mut file = File::open(&absolute)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            let mut head = Vec::new();
            file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
            let mut hashing = Hashing::new(head.as_slice().chain(file));
            let size = io::copy(&mut hashing, &mut io::sink())?;
            let digest = hashing.finish().1;
            Ok(Self { digest, size, head, path: absolute })
        };
        read().map_err(|error| refused("add", path, &error.to_string(), "name a file that can be read"))
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({"mediaType": kind, "digest": self.digest, "size": self.size})
    }
}

fn refused(action: &'static str, path: &Path, why: &str, fix: &str) -> Error {
    Error::Conflict { action, what: path.display().to_string(), why: why.into(), fix: fix.into() }
}

impl NewArtifact {
    /// Reads the files and makes an entry of them, for no platform.
    pub fn entry(&self) -> Result<ListEntry, Error> {
        let mut files = BTreeMap::new();
        let mut layers = Vec::new();
        for path in &self.files {
            let blob = Blob::read(path)?;
            let name = blob.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let kind = self.layer_kind.as_deref().unwrap_or_else(|| guess(&name, &blob.head));
            let mut descriptor = blob.descriptor(kind);
            if !self.exclude_titles {
                descriptor["annotations"] = json!({TITLE: name});
            }
            layers.push(descriptor);
            files.insert(blob.digest, blob.path);
        }
        let config = match &self.config {
            Some(path) => {
                let blob = Blob::read(path)?;
                let descriptor = blob.descriptor(self.config_kind.as_deref().unwrap_or(CONFIG));
                files.insert(blob.digest, blob.path);
                descriptor
            }
            None => {
                let kind = self.config_kind.as_deref().unwrap_or(EMPTY.0);
                let digest = Digest::of(EMPTY.1);
                json!({"mediaType": kind, "digest": digest, "size": EMPTY.1.len(), "data": "e30="})
            }
        };
        let kind = self.kind.as_deref().unwrap_or(UNKNOWN);
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFESTS[0], "config": config, "layers": layers,
        });
        if !kind.is_empty() {
            manifest["artifactType"] = kind.into();
        }
        if let Some(subject) = &self.subject {
            manifest["subject"] = subject.clone();
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        let manifest = manifest.to_string();
        Ok(ListEntry {
            digest: Digest::of(manifest.as_bytes()),
            size: manifest.len() as u64,
            media_type: MANIFESTS[0].into(),
            platform: ListPlatform::default(),
            annotations: BTreeMap::new(),
            added_as: self.files.first().map(|path| path.display().to_string()).unwrap_or_default(),
            image: None,
            repository: None,
            artifact_type: Some(kind.to_owned()).filter(|kind| !kind.is_empty()),
            artifact: Some(Artifact { manifest, files }),
        })
    }
}

impl Artifact {
    /// Brings it into a repository. What is there is not sent.
    pub(super) fn send(
        &self,
        entry: &ListEntry,
        to: &Repository<'_>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        for blob in manifest_blobs(&entry.added_as, self.manifest.as_bytes())? {
            let digest = blob.digest;
            let Some(path) = self.files.get(&digest) else {
                to.push_small_blob(EMPTY.1)?;
                continue;
            };
            if to.has_blob(digest)? {
                progress.on(Event::LayerThere { digest, from: None });
                continue;
            }
            let refused = |why: &str| {
                let fix = "take it out of the list ('manifest remove'), and add it again";
                refused("push", path, why, fix)
            };
            const OTHER: &str = "it is not what it was when it was added";
            let size = path.metadata().map_err(|error| refused(&error.to_string()))?.len();
            if size != blob.size {
                return Err(refused(OTHER));
            }
            progress.on(Event::LayerStart { digest, size });
            let mut open = || -> io::Result<Box<dyn Read + '_>> { Ok(Box::new(File::open(path)?)) };
            let sent = to.push_blob(&mut open, &|why| progress.on(Event::LayerRetry { digest, why }))?;
            if sent.digest != digest {
                return Err(refused(OTHER));
            }
            progress.on(Event::LayerDone { digest });
        }
        to.push_manifest(&entry.digest.to_string(), &entry.media_type, self.manifest.as_bytes())?;
        Ok(())
    }
}

/// Lets an artifact be about what its subject has become in a registry: the descriptors of images by the digests that they had here.
pub(super) fn follow_subject(entry: &mut ListEntry, pushed: &BTreeMap<Digest, Value>) -> Result<(), Error> {
    let Some(artifact) = &mut entry.artifact else { return Ok(()) };
    let mut manifest: Value = serde_json::from_str(&artifact.manifest).map_err(Error::document)?;
    let subject = manifest["subject"]["digest"].as_str().and_then(|digest| digest.parse().ok());
    if let Some(now) = subject.and_then(|digest: Digest| pushed.get(&digest)) {
        manifest["subject"] = now.clone();
        artifact.manifest = manifest.to_string();
        entry.digest = Digest::of(artifact.manifest.as_bytes());
        entry.size = artifact.manifest.len() as u64;
    }
    Ok(())
}

/// What a file is, by its name or else by how it begins.
fn guess(name: &str, head: &[u8]) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "css" => "text/css",
        "csv" => "text/csv",
        "gif" => "image/gif",
        "gz" | "tgz" => "application/gzip",
        "htm" | "html" => "text/html",
        "iso" => "application/x-iso9660-image",
        "jpeg" | "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript",
        "json" => "application/json",
        "md" => "text/markdown",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "tar" => "application/x-tar",
        "txt" => "text/plain",
        "wasm" => "application/wasm",
        "webp" => "image/webp",
        "xml" => "text/xml",
        "yaml" | "yml" => "application/yaml",
        "zip" => "application/zip",
        "zst" => "application/zstd",
        _ if head.starts_with(&[0x1f, 0x8b]) => "application/gzip",
        _ if head.starts_with(b"PK\x03\x04") => "application/zip",
        _ if is_text(head) => "text/plain",
        _ => "application/octet-stream",
    }
}

fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may go on beyond it.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains(|c: char| c.is_control() && !c.is_whitespace() && c != '\x1b')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(new: &NewArtifact) -> (ListEntry, Value) {
        let entry = new.entry().unwrap();
        let text = &entry.artifact.as_ref().unwrap().manifest;
        assert_eq!((entry.digest, entry.size), (Digest::of(text.as_bytes()), text.len() as u64));
        let value = serde_json::from_str(text).unwrap();
        (entry, value)
    }

    #[test]
    fn a_manifest_says_what_the_guidelines_ask_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let files = vec![file("a.txt", b"text"), file("program", b"\x7fELF\x01")];
        let (entry, plain) = manifest(&NewArtifact { files: files.clone(), ..Default::default() });
        assert_eq!(entry.artifact_type.as_deref(), Some(UNKNOWN));
        assert_eq!(plain["artifactType"], UNKNOWN);
        assert_eq!(plain["config"]["mediaType"], EMPTY.0);
        assert_eq!((&plain["config"]["size"], &plain["config"]["data"]), (&2.into(), &"e30=".into()));
        assert_eq!(plain["layers"][0]["mediaType"], "text/plain");
        assert_eq!(plain["layers"][0]["digest"], json!(Digest::of(b"text")));
        assert_eq!(plain["layers"][1]["annotations"], json!({TITLE: "program"}));
        assert_eq!(plain["layers"][1]["mediaType"], "application/octet-stream");
        let new = NewArtifact {
            files,
            kind: Some("application/x-made".into()),
            config: Some(file("config", b"{\"a\":1}")),
            layer_kind: Some("application/x-layer".into()),
            subject: Some(json!({"digest": "x"})),
            exclude_titles: true,
            annotations: BTreeMap::from([("k".into(), "v".into())]),
            ..Default::default()
        };
        let (_, full) = manifest(&new);
        assert_eq!(
            (&full["artifactType"], &full["config"]["mediaType"]),
            (&"application/x-made".into(), &CONFIG.into())
        );
        assert_eq!((&full["subject"]["digest"], &full["annotations"]["k"]), (&"x".into(), &"v".into()));
        assert_eq!(full["layers"][0]["mediaType"], "application/x-layer");
        assert_eq!(full["layers"][0]["annotations"], Value::Null);
        let (entry, silent) = manifest(&NewArtifact { kind: Some(String::new()), ..Default::default() });
        assert_eq!((entry.artifact_type, &silent["artifactType"]), (None, &Value::Null));
        let new = NewArtifact { subject: Some(json!({"digest": Digest::of(b"x")})), ..Default::default() };
        let (mut entry, _) = manifest(&new);
        follow_subject(&mut entry, &BTreeMap::from([(Digest::of(b"y"), json!("other"))])).unwrap();
        assert_eq!(entry, new.entry().unwrap());
        follow_subject(&mut entry, &BTreeMap::from([(Digest::of(b"x"), json!("pushed"))])).unwrap();
        let text = entry.artifact.unwrap().manifest;
        assert!(text.contains(r#""subject":"pushed""#) && entry.digest == Digest::of(text.as_bytes()));
        let error = NewArtifact { files: vec![dir.path().into()], ..Default::default() }.entry().unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn what_a_file_is_is_guessed() {
        assert_eq!(guess("a.JSON", b"x"), "application/json");
        assert_eq!(guess("a.b", b"\x1f\x8b\x08"), "application/gzip");
        assert_eq!(guess("a", "ü".as_bytes().split_at(1).0), "text/plain");
        assert_eq!(guess("a", b"a\0b"), "application/octet-stream");
        assert_eq!(guess("a", b"\xff\xfe"), "application/octet-stream");
    }
}
