//! Images into archives and folders, for docker, podman, skopeo and [`super::load`].
//!
//! Everything is known before the first byte is written: which images, their manifests, and how long each layer is,
//! from its table. So an archive can go down a pipe in one pass; a layer's bytes are written out of the store as
//! they once came, and have its digest, or the writing ends with an error.
//!
//! docker's archive is, as docker itself has written it since version 25, an OCI layout with a `manifest.json` beside:
//! older versions and skopeo read the latter, everybody else the former, with its digests.

use super::manifest::Blob;
use super::plain::{self, Packing, Style};
use super::store::Pin;
use super::{Documents, Error, Event, Image, ImageConfig, ImageStore, Progress, Reference};
use crate::digest::{Digest, Hashing};
use crate::layers::{Claim, LayerStore};
use crate::state;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// In which form images are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveFormat {
    /// docker's archive.
    #[default]
    DockerArchive,
    /// An archive of an OCI layout.
    OciArchive,
    /// A folder with an OCI layout.
    OciDir,
    /// A folder in skopeo's form `dir`, with docker's manifest: of one image.
    DockerDir,
}

impl SaveFormat {
    /// Whether it is written into a folder.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::OciDir | Self::DockerDir)
    }
}

/// Images that are about to be saved. Nobody removes what they need while this is there.
pub struct Save<'a> {
    layers: &'a LayerStore,
    progress: &'a dyn Progress,
    items: Vec<Item>,
    /// The length of each layer's archive.
    sizes: BTreeMap<Digest, u64>,
    _pin: Pin,
}

struct Item {
    config: Vec<u8>,
    stored_manifest: Option<Vec<u8>>,
    diff_ids: Vec<Digest>,
    names: Vec<Reference>,
}

impl<'a> Save<'a> {
    /// Finds the images by their names or ids; one that is found by a name is saved under that name only. Layers of
    /// an earlier boot that may be damaged are verified here, before anything is written.
    pub fn plan(
        images: &ImageStore,
        layers: &'a LayerStore,
        what: &[String],
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let pin = images.pin()?;
        let mut found: Vec<(Digest, Item)> = Vec::new();
        let mut sizes = BTreeMap::new();
        for what in what {
            let image = images.resolve(what)?;
            let name = image.name.clone().filter(|name| name.tag().is_some());
            if let Some((_, known)) = found.iter_mut().find(|(id, _)| *id == image.id) {
                known.names.extend(name.filter(|name| !known.names.contains(name)));
                continue;
            }
            for layer in image.diff_ids() {
                if !sizes.contains_key(layer) {
                    sizes.insert(*layer, size(layers, *layer)?);
                }
            }
            found.push((image.id, Item::of(images, &image, name)?));
        }
        let items = found.into_iter().map(|(_, item)| item).collect();
        Ok(Self { layers, progress, items, sizes, _pin: pin })
    }

    /// An image that need not be in the store, with these names; its layers are.
    pub fn of_documents(
        images: &ImageStore,
        layers: &'a LayerStore,
        documents: &Documents,
        names: &[Reference],
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let pin = images.pin()?;
        let config: ImageConfig = serde_json::from_slice(&documents.config).map_err(Error::document)?;
        let diff_ids = config.rootfs.diff_ids;
        let mut sizes = BTreeMap::new();
        for layer in &diff_ids {
            sizes.insert(*layer, size(layers, *layer)?);
        }
        let item = Item {
            config: documents.config.clone(),
            stored_manifest: Some(documents.manifest.clone()),
            diff_ids,
            names: names.to_vec(),
        };
        Ok(Self { layers, progress, items: vec![item], sizes, _pin: pin })
    }

    /// The manifest of each image, as archives of OCI's and docker's form have it.
    pub fn manifests(&self) -> Vec<Vec<u8>> {
        self.items.iter().map(|item| self.manifest(item)).collect()
    }

    /// Writes an archive.
    pub fn archive(&self, out: &mut dyn Write, docker: bool, shown: &str) -> Result<(), Error> {
        let io = |source| Error::Write { output: shown.to_owned(), source };
        let mut tar = Tar { out };
        for (name, bytes) in self.layout() {
            tar.file(name, &bytes).map_err(io)?;
        }
        if docker {
            tar.file("manifest.json", &self.docker_table()).map_err(io)?;
        }
        for folder in ["blobs/", "blobs/sha256/"] {
            tar.header(folder, tar::EntryType::Directory, 0o755, 0).map_err(io)?;
        }
        for (digest, bytes) in self.documents() {
            tar.file(&blob_name(digest), &bytes).map_err(io)?;
        }
        for (layer, size) in &self.sizes {
            tar.header(&blob_name(*layer), tar::EntryType::Regular, 0o644, *size).map_err(io)?;
            self.write_layer(*layer, *size, tar.out, shown)?;
            tar.pad(*size).map_err(io)?;
        }
        tar.out.write_all(&[0; 1024]).and_then(|()| tar.out.flush()).map_err(io)
    }

    /// Writes a folder, which must not be there, or be empty: it appears when it is complete.
    pub fn folder(&self, target: &Path, format: SaveFormat, compress: bool) -> Result<(), Error> {
        let shown = target.display().to_string();
        let io = |source| Error::Write { output: shown.clone(), source };
        let staging = Staging::beside(target).map_err(io)?;
        match format {
            SaveFormat::DockerDir => self.docker_dir(&staging.0, compress, &shown)?,
            _ => self.oci_dir(&staging.0, &shown)?,
        }
        // rename(2) replaces a folder only if it is empty.
        fs::rename(&staging.0, target).map_err(io)
    }

    fn oci_dir(&self, folder: &Path, shown: &str) -> Result<(), Error> {
        let io = |source| Error::Write { output: shown.to_owned(), source };
        fs::create_dir_all(folder.join("blobs/sha256")).map_err(io)?;
        for (name, bytes) in self.layout() {
            fs::write(folder.join(name), bytes).map_err(io)?;
        }
        for (digest, bytes) in self.documents() {
            fs::write(folder.join(blob_name(digest)), bytes).map_err(io)?;
        }
        for (layer, size) in &self.sizes {
            let mut out = BufWriter::new(File::create(folder.join(blob_name(*layer))).map_err(io)?);
            self.write_layer(*layer, *size, &mut out, shown)?;
            out.flush().map_err(io)?;
        }
        Ok(())
    }

    fn docker_dir(&self, folder: &Path, compress: bool, shown: &str) -> Result<(), Error> {
        let io = |source| Error::Write { output: shown.to_owned(), source };
        let [item] = &self.items[..] else {
            return Err(Error::unsupported(shown, "a folder in docker's form holds one image"));
        };
        let mut blobs: BTreeMap<Digest, (Blob, Packing)> = BTreeMap::new();
        for (layer, size) in &self.sizes {
            let part = folder.join("part");
            let file = BufWriter::new(File::create(&part).map_err(io)?);
            let blob = if compress {
                let mut out = GzEncoder::new(Hashing::new(file), flate2::Compression::default());
                self.write_layer(*layer, *size, &mut out, shown)?;
                let hashing = out.finish().map_err(io)?;
                let size = hashing.count();
                let (mut file, digest) = hashing.finish();
                file.flush().map_err(io)?;
                Blob { digest, size }
            } else {
                let mut file = file;
                self.write_layer(*layer, *size, &mut file, shown)?;
                file.flush().map_err(io)?;
                Blob { digest: *layer, size: *size }
            };
            fs::rename(&part, folder.join(blob.digest.hex())).map_err(io)?;
            blobs.insert(*layer, (blob, if compress { Packing::Gzip } else { Packing::Plain }));
        }
        let layers: Vec<_> = item.diff_ids.iter().filter_map(|layer| blobs.get(layer).copied()).collect();
        let manifest =
            plain::manifest(Style::Docker, item.stored_manifest.as_deref(), item.config(), &layers);
        for (name, bytes) in [
            ("version", b"Directory Transport Version: 1.1\n".as_slice()),
            (&item.config().digest.hex(), &item.config),
            ("manifest.json", &manifest),
        ] {
            fs::write(folder.join(name), bytes).map_err(io)?;
        }
        Ok(())
    }

    /// The two files that make a folder an OCI layout.
    fn layout(&self) -> [(&'static str, Vec<u8>); 2] {
        let entry = |item: &Item| {
            let manifest = self.manifest(item);
            let names = item.names.iter().map(ToString::to_string).collect();
            (Digest::of(&manifest), manifest.len() as u64, names)
        };
        let images: Vec<_> = self.items.iter().map(entry).collect();
        [("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()), ("index.json", plain::index(&images))]
    }

    /// Manifests and configs, each once.
    fn documents(&self) -> BTreeMap<Digest, Vec<u8>> {
        let both = |item: &Item| [self.manifest(item), item.config.clone()];
        self.items.iter().flat_map(both).map(|bytes| (Digest::of(&bytes), bytes)).collect()
    }

    fn manifest(&self, item: &Item) -> Vec<u8> {
        let blob = |layer: &Digest| {
            (Blob { digest: *layer, size: self.sizes.get(layer).copied().unwrap_or(0) }, Packing::Plain)
        };
        let layers: Vec<_> = item.diff_ids.iter().map(blob).collect();
        let stored = item.stored_manifest.as_deref();
        plain::manifest(Style::Oci, stored, item.config(), &layers)
    }

    /// docker's own table of contents.
    fn docker_table(&self) -> Vec<u8> {
        let entry = |item: &Item| {
            let tags: Vec<String> = item.names.iter().map(Reference::familiar).collect();
            json!({
                "Config": blob_name(item.config().digest),
                // Go's nil.
                "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
                "Layers": item.diff_ids.iter().map(|layer| blob_name(*layer)).collect::<Vec<_>>(),
            })
        };
        json!(self.items.iter().map(entry).collect::<Vec<_>>()).to_string().into_bytes()
    }

    fn write_layer(&self, layer: Digest, size: u64, out: &mut dyn Write, shown: &str) -> Result<(), Error> {
        self.progress.on(Event::LayerStart { digest: layer, size });
        let mut out = Counted { out, digest: layer, progress: self.progress };
        match self.layers.write_tar(layer, &mut out) {
            Ok(()) => self.progress.on(Event::LayerDone { digest: layer }),
            Err(crate::layers::Error::Output { source }) => {
                return Err(Error::Write { output: shown.to_owned(), source });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Item {
    fn of(images: &ImageStore, image: &Image, name: Option<Reference>) -> Result<Self, Error> {
        let config = images.blob(image.id)?;
        if Digest::of(&config) != image.id {
            let why = "its config is damaged; 'coracle store verify --repair' may fetch it again";
            return Err(Error::unsupported(&image.id.short(), why));
        }
        // A manifest that is lost or damaged is made anew.
        let stored = image
            .manifest
            .and_then(|digest| images.blob(digest).ok().filter(|bytes| Digest::of(bytes) == digest));
        Ok(Self {
            config,
            stored_manifest: stored,
            diff_ids: image.diff_ids().to_vec(),
            names: name.into_iter().collect(),
        })
    }

    fn config(&self) -> Blob {
        Blob { digest: Digest::of(&self.config), size: self.config.len() as u64 }
    }
}

/// The length of a layer's archive, after making sure that it is there and whole.
fn size(layers: &LayerStore, layer: Digest) -> Result<u64, Error> {
    match layers.claim(layer)? {
        Claim::Present => Ok(layers.tar_size(layer)?),
        Claim::Build(_) => Err(crate::layers::Error::Missing(layer).into()),
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A folder in the making, gone if it is not renamed.
struct Staging(PathBuf);

impl Staging {
    fn beside(target: &Path) -> io::Result<Self> {
        let is_taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        if is_taken {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there and not empty"));
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = state::remove_tree(&self.0);
    }
}

/// A tar archive being written. All times are zero: the same images give the same bytes.
struct Tar<'o> {
    out: &'o mut dyn Write,
}

impl Tar<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        self.header(name, tar::EntryType::Regular, 0o644, size)?;
        self.out.write_all(bytes)?;
        self.pad(size)
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // More than 8 GiB does not fit in octal; the crate then writes the base-256 form that all tools read.
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size % 512).unwrap_or(0);
        self.out.write_all(&[0; 512][..(512 - rest) % 512])
    }
}

/// Tells how much has been written.
struct Counted<'o> {
    out: &'o mut dyn Write,
    digest: Digest,
    progress: &'o dyn Progress,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.progress.on(Event::LayerBytes { digest: self.digest, bytes: count as u64 });
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The names of the formats, as `--format` takes them.
pub const SAVE_FORMATS: [(&str, SaveFormat); 4] = [
    ("docker-archive", SaveFormat::DockerArchive),
    ("oci-archive", SaveFormat::OciArchive),
    ("oci-dir", SaveFormat::OciDir),
    ("docker-dir", SaveFormat::DockerDir),
];
