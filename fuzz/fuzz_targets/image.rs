//! Manifests, indexes and configurations, by way of an archive's folder: an index that leads to a manifest that
//! leads to a configuration, each of them the fuzzer's, and each under its right digest.
#![no_main]

use coracle::digest::Digest;
use coracle::image::{ImageConfig, ImageStore, Input, Silent, load};
use coracle::layers::{LayerStore, Ownership};
use coracle::state::Paths;
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|parts: (&[u8], &[u8], bool)| {
    let (manifest, config, is_index) = parts;
    let _ = serde_json::from_slice::<ImageConfig>(config).map(|config| {
        serde_json::to_vec(&config).map(|text| serde_json::from_slice::<ImageConfig>(&text).unwrap())
    });
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
    paths.prepare().unwrap();
    let layout = dir.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    for blob in [manifest, config] {
        fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
    }
    let kind = if is_index { "index" } else { "manifest" };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
        "digest": Digest::of(manifest).to_string(), "size": manifest.len(),
    }]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let (images, layers) = (ImageStore::open(&paths), LayerStore::open(&paths, Ownership::SingleId));
    let _ = load(&images, &layers, Input::Path(layout), &Silent);
    // The fuzzer's own index, and docker's own form.
    for name in ["index.json", "manifest.json"] {
        let folder = dir.path().join(name.replace('.', "-"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), manifest).unwrap();
        let _ = load(&images, &layers, Input::Path(folder), &Silent);
    }
});
