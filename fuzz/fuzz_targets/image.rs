//! Manifests, indexes and configurations, by way of an archive's folder: an index that leads to a manifest that
//! leads to a configuration, each of them the fuzzer's, and each under its right digest, which no fuzzer can guess: in
//! the manifest it is written as `CONFIG`.
#![no_main]

use coracle::digest::Digest;
use coracle::image::{ImageConfig, ImageStore, Input, Silent, load};
use coracle::layers::{LayerStore, Ownership};
use coracle_fuzz::{parts, roots};
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|input: &[u8]| {
    let [manifest, config, kind] = parts(input);
    let kind = if kind == b"index" { "index" } else { "manifest" };
    let named = std::str::from_utf8(manifest).map(|text| text.replace("CONFIG", &Digest::of(config).to_string()));
    let manifest = named.as_ref().map_or(manifest, |text| text.as_bytes());
    let _ = serde_json::from_slice::<ImageConfig>(config).map(|config| {
        serde_json::to_vec(&config).map(|text| serde_json::from_slice::<ImageConfig>(&text).unwrap())
    });
    let (dir, paths) = roots();
    let layout = dir.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    for blob in [manifest, config] {
        fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
    }
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
