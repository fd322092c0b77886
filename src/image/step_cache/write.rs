//! Writing a cache.

use super::super::manifest::Blob;
use super::super::plain::{self, Packing};
use super::super::push::push_layers;
use super::super::{Documents, Error, Event, ImageStore, Progress, PushRequest, Reference};
use super::read::blob_path;
use super::{CachePlace, StepCache, Steps, TABLE, Table};
use crate::digest::{Digest, Hashing};
use crate::layers::{Claim, Compression, LayerStore};
use crate::registry::Options;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// Writes it into a folder with an OCI layout, in place of the one that is there, whose blobs stay. The caller is root of
/// the user's namespace and holds an image pin.
pub fn write_folder(
    folder: &Path,
    steps: &Steps,
    layers: &LayerStore,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let failed = |source| Error::Write { output: folder.display().to_string(), source };
    let table = Table::of(steps);
    fs::create_dir_all(folder.join("blobs/sha256")).map_err(failed)?;
    let old = StepCache::open(&CachePlace::Folder(folder.to_owned()), &Options::default()).ok();
    let mut listed = Vec::new();
    for layer in &table.layers {
        let known = old.as_ref().and_then(|old| old.blob_of(*layer));
        let is_there = |blob: &Blob| is_zstd(&blob_path(folder, blob.digest), blob.size);
        listed.push(match known.filter(is_there) {
            Some(blob) => (blob, Packing::Zstd),
            None => (pack(folder, *layer, layers, progress)?, Packing::Zstd),
        });
    }
    let Documents { config, manifest } = documents(&table, &listed)?;
    for bytes in [&config, &manifest] {
        replace(&blob_path(folder, Digest::of(bytes)), bytes).map_err(failed)?;
    }
    replace(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
    let index = plain::index(&[(Digest::of(&manifest), manifest.len() as u64, Vec::new())]);
    replace(&folder.join("index.json"), &index).map_err(failed)
}

/// Sends it to a registry. The caller is root of the user's namespace and holds an image pin.
pub fn write_registry(
    images: &ImageStore,
    layers: &LayerStore,
    name: &str,
    steps: &Steps,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let table = Table::of(steps);
    let reference: Reference = name.strip_prefix("docker://").unwrap_or(name).parse()?;
    let request = PushRequest {
        image: name.to_owned(),
        destination: None,
        compression: None,
        level: None,
        format: None,
        options: options.clone(),
        jobs: 4,
    };
    push_layers(images, layers, &table.layers, &reference, &request, progress, &|listed| {
        documents(&table, listed)
    })
}

/// The config and the manifest of a table and its layers.
fn documents(table: &Table, listed: &[(Blob, Packing)]) -> Result<Documents, Error> {
    let config = serde_json::to_vec(table).map_err(Error::document)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": plain::Style::Oci.manifest(),
        "artifactType": TABLE,
        "config": { "mediaType": TABLE, "digest": Digest::of(&config), "size": config.len() },
        "layers": listed.iter().map(|(layer, packing)| json!({
            "mediaType": plain::Style::Oci.layer(*packing), "digest": layer.digest, "size": layer.size,
        })).collect::<Vec<_>>(),
    });
    Ok(Documents { config, manifest: manifest.to_string().into_bytes() })
}

/// Compresses a layer into the folder.
fn pack(folder: &Path, layer: Digest, layers: &LayerStore, progress: &dyn Progress) -> Result<Blob, Error> {
    let failed = |source| Error::Write { output: folder.display().to_string(), source };
    if let Claim::Build(_) = layers.claim(layer)? {
        return Err(crate::layers::Error::Missing(layer).into());
    }
    progress.on(Event::LayerStart { digest: layer, size: layers.tar_size(layer)? });
    let part = Part(folder.join(format!(".{}.tmp", layer.hex())));
    let mut out = Hashing::new(BufWriter::new(File::create(&part.0).map_err(failed)?));
    let level = Compression::Zstd.default_level();
    let mut packed = Compression::Zstd.compress(layers.read_tar(layer)?, level).map_err(failed)?;
    io::copy(&mut packed, &mut out).and_then(|_| out.flush()).map_err(failed)?;
    let size = out.count();
    let digest = out.finish().1;
    fs::rename(&part.0, blob_path(folder, digest)).map_err(failed)?;
    progress.on(Event::LayerDone { digest: layer });
    Ok(Blob { digest, size })
}

/// Whether there is a file of this size, packed as this writes it: another program may have made the folder.
fn is_zstd(path: &Path, size: u64) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| {
        file.read_exact(&mut magic)?;
        file.metadata()
    });
    read.is_ok_and(|meta| meta.len() == size) && magic == [0x28, 0xb5, 0x2f, 0xfd]
}

/// A file in the making, gone if it is not renamed.
struct Part(std::path::PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = crate::state::NewFile::create(path)?;
    file.write_all(bytes)?;
    file.publish()
}
