//! Images pulled from a real registry, loaded from what real tools write, kept and removed.

mod import;
mod layouts;
mod load;
mod pull;
mod save;
mod store;
mod verify;

use super::*;
use crate::digest::Digest;
use crate::layers::{LayerStore, Ownership};
use crate::registry::testing::{self, DockerRegistry, Peer, Reply, answer, run};
use crate::registry::{self, Credentials};
use crate::state::{Paths, create_dir_private};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

struct World {
    dir: tempfile::TempDir,
    paths: Paths,
    images: ImageStore,
    layers: LayerStore,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        for folder in [paths.layers(), paths.staging(), paths.locks(), paths.trash()] {
            create_dir_private(&folder).unwrap();
        }
        let is_root = nix::unistd::geteuid().is_root();
        let ownership = if is_root { Ownership::Mapped } else { Ownership::SingleId };
        let (images, layers) = (ImageStore::open(&paths), LayerStore::open(&paths, ownership));
        Self { dir, paths, images, layers }
    }

    fn request(&self, reference: &str) -> PullRequest {
        PullRequest { options: testing::options(self.dir.path()), ..PullRequest::new(reference) }
    }

    fn pull(&self, reference: &str) -> Result<Image, Error> {
        pull(&self.images, &self.layers, &self.request(reference), &Silent)
    }

    fn load(&self, path: &Path) -> Result<Vec<Loaded>, Error> {
        load(&self.images, &self.layers, Input::Path(path.to_owned()), &Silent)
    }

    /// An image without layers, quickly.
    fn add(&self, label: &str, names: &[&str]) -> Image {
        self.add_with(label, &[], names)
    }

    fn add_with(&self, label: &str, layers: &[Digest], names: &[&str]) -> Image {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"l": label}},
            "rootfs": {"type": "layers", "diff_ids": layers},
        });
        let names: Vec<Reference> = names.iter().map(|n| n.parse().unwrap()).collect();
        let bytes = config.to_string();
        self.images
            .add(&NewImage { config: bytes.as_bytes(), manifest: None, index: None, names: &names })
            .unwrap()
    }

    /// A layer with one file in the store.
    fn layer(&self, content: &str) -> Digest {
        let tar = tar_of(content);
        let id = Digest::of(&tar);
        match self.layers.claim(id).unwrap() {
            crate::layers::Claim::Present => {}
            crate::layers::Claim::Build(staging) => {
                staging.unpack(&tar[..], &crate::layers::Limits::default()).unwrap();
            }
        }
        id
    }

    fn remove(&self, what: &str, force: bool) -> Result<Removed, Error> {
        self.images.remove(&self.layers, what, force, &InUse { image: &|_| None, layer: &|_| false })
    }

    fn file(&self, image: &Image, layer: usize) -> String {
        fs::read_to_string(self.layers.fs_dir(image.diff_ids()[layer]).join("file")).unwrap()
    }
}

/// A layer with a file `file`.
fn tar_of(content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "file", content.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An OCI image in memory.
#[derive(Clone)]
struct Made {
    blobs: HashMap<Digest, Vec<u8>>,
    manifest: Digest,
    config: Digest,
    layers: Vec<Digest>,
}

impl Made {
    fn new(architecture: &str, contents: &[&str]) -> Self {
        let tars: Vec<Vec<u8>> = contents.iter().map(|c| tar_of(c)).collect();
        let ids: Vec<Digest> = tars.iter().map(|t| Digest::of(t)).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let mut blobs = HashMap::new();
        let mut put = |bytes: Vec<u8>| {
            let (digest, size) = (Digest::of(&bytes), bytes.len());
            blobs.insert(digest, bytes);
            (digest, size)
        };
        let (config, config_size) = put(config.to_string().into());
        let packed: Vec<_> = tars.iter().map(|t| put(gzip(t))).collect();
        let layers: Vec<_> = packed
            .iter()
            .map(
                |(digest, size)| serde_json::json!({"mediaType": LAYER_GZIP, "digest": digest, "size": size}),
            )
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        });
        let (manifest, _) = put(manifest.to_string().into());
        Self { blobs, manifest, config, layers: packed.iter().map(|(digest, _)| *digest).collect() }
    }

    fn entry(&self, name: &str, architecture: Option<&str>) -> serde_json::Value {
        let mut entry = serde_json::json!({
            "mediaType": MANIFEST, "digest": self.manifest, "size": self.blobs[&self.manifest].len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        });
        if let Some(architecture) = architecture {
            entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        }
        entry
    }
}

fn index_of(entries: &[serde_json::Value]) -> String {
    serde_json::json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": entries})
        .to_string()
}

fn write_layout(folder: &Path, blobs: &HashMap<Digest, Vec<u8>>, index: &str) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), index).unwrap();
    for (digest, bytes) in blobs {
        fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    }
}

/// A layout with one image `img` and its place as skopeo names it.
fn layout(dir: &Path, name: &str, contents: &[&str]) -> (Made, String) {
    let made = Made::new("amd64", contents);
    let folder = dir.join(name);
    write_layout(&folder, &made.blobs, &index_of(&[made.entry("img", None)]));
    let place = format!("oci:{}:img", folder.display());
    (made, place)
}

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Progress for Recorder {
    fn on(&self, event: Event<'_>) {
        if !matches!(event, Event::LayerBytes { .. }) {
            let word = format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
            self.0.lock().unwrap().push(word);
        }
    }
}

impl Recorder {
    fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|w| *w == word).count()
    }
}

fn nothing_is_left(world: &World) {
    assert!(world.images.list().unwrap().is_empty());
    assert!(world.layers.list().unwrap().is_empty());
}
