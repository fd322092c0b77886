//! Images from files: docker's archive (`docker save`, `podman save`), an OCI layout in an archive or a folder.
//!
//! An archive has its table of contents anywhere, docker's at the end, so it is read in two passes: first the headers
//! alone, then what they say. Standard input and compressed archives are copied into a file without a name first.
//! Names in the archive are only looked up in the table; they never become paths.

use super::manifest::{self, Blob, Raw};
use super::transfer::{Layer, Source, fetch_layers, layers_of};
use super::{Error, Event, Image, ImageConfig, ImageStore, NewImage, Platform, Progress, Reference};
use crate::digest::{Digest, Hashing};
use crate::layers::{LayerStore, decompress};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bound of each manifest, index and config.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Bound of the entries of an archive.
const MAX_ENTRIES: usize = 100_000;

/// The annotation of an image in an OCI layout that says its name, or its tag alone (image-spec, annotations.md).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's, with the full name.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";

/// Where to load from.
pub enum Input {
    /// A file, or a folder with an OCI layout.
    Path(PathBuf),
    /// Standard input, or anything else that can be read once.
    Stream(Box<dyn Read + Send>),
}

/// A loaded image.
#[derive(Debug)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that the archive gave it.
    pub names: Vec<Reference>,
}

/// Loads all the images of `input`. New layers are complete but not yet [durable](LayerStore::make_durable).
pub fn load(
    images: &ImageStore,
    layers: &LayerStore,
    input: Input,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, Error> {
    let shown = match &input {
        Input::Path(path) => path.display().to_string(),
        Input::Stream(_) => "standard input".into(),
    };
    let bad = |source| Error::Archive { input: shown.clone(), source };
    let files = match input {
        Input::Path(path) if path.is_dir() => Files::Folder(path),
        Input::Path(path) => open(images, File::open(&path).map_err(bad)?).map_err(bad)?,
        Input::Stream(stream) => spool(images, stream).and_then(index).map_err(bad)?,
    };
    let plan = match files.is_docker_dir() {
        true => vec![docker_dir_item(&files, &shown)?],
        false => plan(&files, &shown)?,
    };
    let _pin = images.pin()?;
    let mut loaded = Vec::new();
    for item in plan {
        item.bring(&files, &shown, layers, progress)?;
        let image = images.add(&NewImage {
            config: &item.config,
            manifest: item.manifest.as_deref(),
            index: None,
            names: &item.names,
        })?;
        loaded.push(Loaded { image, names: item.names });
    }
    Ok(loaded)
}

/// One image that the input has.
pub(super) struct Item {
    pub(super) config: Vec<u8>,
    manifest: Option<Vec<u8>>,
    names: Vec<Reference>,
    layers: Vec<Layer>,
    /// Where in the input a layer's blob is.
    paths: HashMap<Digest, String>,
}

impl Item {
    /// Brings its layers into the store.
    pub(super) fn bring(
        &self,
        files: &Files,
        shown: &str,
        layers: &LayerStore,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        progress.on(Event::Config { digest: Digest::of(&self.config) });
        fetch_layers(&Local { files, item: self, shown }, layers, &self.layers, 4, progress)
    }
}

/// The files of the input by name.
pub(super) enum Files {
    Folder(PathBuf),
    Archive { file: File, entries: HashMap<String, Entry> },
}

pub(super) enum Entry {
    File { start: u64, size: u64 },
    Link(String),
}

impl Files {
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send + '_>, u64)> {
        match self {
            // Only fixed names and those made of a digest come here.
            Files::Folder(folder) => {
                let file = File::open(folder.join(name))?;
                let size = file.metadata()?.len();
                Ok((Box::new(file), size))
            }
            Files::Archive { file, entries } => {
                let mut name = name.to_owned();
                // Older versions of docker write a layer that two images share once, and links to it.
                for _ in 0..8 {
                    match entries.get(&name) {
                        Some(Entry::File { start, size }) => {
                            return Ok((Box::new(Part { file, at: *start, end: start + size }), *size));
                        }
                        Some(Entry::Link(target)) => name.clone_from(target),
                        None => break,
                    }
                }
                Err(io::Error::new(io::ErrorKind::NotFound, format!("it has no file {name:?}")))
            }
        }
    }

    /// Whether it is a folder in skopeo's form `dir` (podman's `docker-dir`).
    fn is_docker_dir(&self) -> bool {
        let is_version = |bytes: Vec<u8>| bytes.starts_with(b"Directory Transport Version: 1.");
        matches!(self, Files::Folder(_)) && self.document("version").ok().flatten().is_some_and(is_version)
    }

    /// A small file; `None` if it is not there.
    pub(super) fn document(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let (reader, size) = match self.open(name) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if size > MAX_DOCUMENT {
            return Err(io::Error::other(format!("{name:?} is larger than {MAX_DOCUMENT} bytes")));
        }
        let mut bytes = Vec::new();
        reader.take(MAX_DOCUMENT).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// A part of a file, read without moving the file's own position, which threads share.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(into.len());
        let n = self.file.read_at(&mut into[..room], self.at)?;
        if n == 0 && room > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off"));
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// A plain archive is used where it is; what cannot be read twice or is compressed is copied.
fn open(images: &ImageStore, mut file: File) -> io::Result<Files> {
    let mut start = [0; 512];
    let mut length = 0;
    while length < start.len() {
        match file.read(&mut start[length..])? {
            0 => break,
            n => length += n,
        }
    }
    let is_tar = length == start.len() && &start[257..262] == b"ustar";
    if is_tar && file.seek(SeekFrom::Start(0)).is_ok() {
        return index(file);
    }
    match file.seek(SeekFrom::Start(0)) {
        Ok(_) => index(spool(images, Box::new(file))?),
        Err(_) => index(spool(images, Box::new(io::Cursor::new(start[..length].to_vec()).chain(file)))?),
    }
}

/// Copies, and decompresses, into a file that disappears with its descriptor.
fn spool(images: &ImageStore, stream: Box<dyn Read + Send>) -> io::Result<File> {
    let mut file = images.nameless()?;
    let mut plain = decompress(stream).map_err(io::Error::other)?;
    io::copy(&mut plain, &mut file)?;
    Ok(file)
}

fn index(mut file: File) -> io::Result<Files> {
    file.seek(SeekFrom::Start(0))?;
    let mut entries = HashMap::new();
    let mut archive = tar::Archive::new(&mut file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entries.len() == MAX_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let Ok(name) = String::from_utf8(entry.path_bytes().into_owned()) else { continue };
        let kind = entry.header().entry_type();
        let found = if kind.is_file() {
            Entry::File { start: entry.raw_file_position(), size: entry.size() }
        } else if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name_bytes().and_then(|t| String::from_utf8(t.into_owned()).ok())
            else {
                continue;
            };
            let base =
                if kind.is_symlink() { name.rsplit_once('/').map_or("", |(folder, _)| folder) } else { "" };
            Entry::Link(normal(&format!("{base}/{target}")))
        } else {
            continue;
        };
        entries.insert(normal(&name), found);
    }
    Ok(Files::Archive { file, entries })
}

/// `./a/../b` is `b`.
fn normal(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// One image in docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn plan(files: &Files, shown: &str) -> Result<Vec<Item>, Error> {
    let bad = |source| Error::Archive { input: shown.to_owned(), source };
    let other = |why: String| bad(io::Error::other(why));
    let from_index = match files.document("index.json").map_err(bad)? {
        Some(index) => oci_items(files, shown, index),
        None => Ok(Vec::new()),
    };
    let table = files.document("manifest.json").map_err(bad)?;
    let mut items = match (&table, from_index) {
        // docker writes both: the layout has the manifests, its own table the names; and its layout may list
        // images of other platforms that are not in the archive.
        (Some(_), items) => items.unwrap_or_default(),
        (None, items) => items?,
    };
    if let Some(table) = table {
        let entries: Vec<DockerEntry> = serde_json::from_slice(&table)
            .map_err(|e| other(format!("its manifest.json is malformed ({e})")))?;
        for entry in entries {
            let item = docker_item(files, shown, entry)?;
            match items.iter_mut().find(|i| i.config == item.config) {
                Some(known) => known.names.extend(item.names),
                None => items.push(item),
            }
        }
    }
    if items.is_empty() {
        return Err(other(
            "it has neither docker's manifest.json nor an OCI index.json with an image".into(),
        ));
    }
    for item in &mut items {
        item.names.sort();
        item.names.dedup();
    }
    Ok(items)
}

fn docker_item(files: &Files, shown: &str, entry: DockerEntry) -> Result<Item, Error> {
    let bad = |source| Error::Archive { input: shown.to_owned(), source };
    let lacks = |name: &str| bad(io::Error::other(format!("it has no file {name:?}")));
    let (config_name, layer_names) = match files {
        Files::Archive { .. } => {
            (normal(&entry.config), entry.layers.iter().map(|l| normal(l)).collect::<Vec<_>>())
        }
        // A folder's names would be paths.
        Files::Folder(_) => return Err(bad(io::Error::other("docker's form is only read from an archive"))),
    };
    let config = files.document(&config_name).map_err(bad)?.ok_or_else(|| lacks(&config_name))?;
    let parsed = parse_config(shown, &config)?;
    // The table has no digests. What a layer must be is its diff id; as a blob it is whatever it is.
    let mut paths = HashMap::new();
    let mut blobs = Vec::new();
    for name in &layer_names {
        let (reader, size) = files.open(name).map_err(bad)?;
        let digest = match digest_in_name(name) {
            Some(digest) => digest,
            None => hash(reader).map_err(bad)?,
        };
        paths.insert(digest, name.clone());
        blobs.push(Blob { digest, size });
    }
    let mut names = Vec::new();
    for tag in entry.repo_tags.into_iter().flatten() {
        names.push(tag.parse::<Reference>()?);
    }
    Ok(Item { layers: layers_of(shown, &blobs, &parsed)?, config, manifest: None, names, paths })
}

/// One image without a name: its manifest, and blobs named by their digests.
fn docker_dir_item(files: &Files, shown: &str) -> Result<Item, Error> {
    let bad = |source| Error::Archive { input: shown.to_owned(), source };
    let document = |name: &str| {
        let lacks = || bad(io::Error::other(format!("it has no file {name:?}")));
        files.document(name).map_err(bad)?.ok_or_else(lacks)
    };
    let bytes = document("manifest.json")?;
    let raw = Raw { digest: Digest::of(&bytes), bytes, media_type: String::new() };
    let mut none = |_| Err(Error::unsupported(shown, "it has an index in place of a manifest"));
    let (raw, found) = manifest::resolve(shown, &raw, &Platform::host(), &mut none)?;
    let config = document(&found.config.digest.hex())?;
    if Digest::of(&config) != found.config.digest {
        return Err(bad(io::Error::other("its config is corrupt")));
    }
    let layers = layers_of(shown, &found.layers, &parse_config(shown, &config)?)?;
    let paths = layers.iter().map(|l| (l.blob.digest, l.blob.digest.hex())).collect();
    Ok(Item { config, manifest: Some(raw.bytes), names: Vec::new(), layers, paths })
}

/// `blobs/sha256/<hex>`, as newer versions of docker name a layer; `<hex>.tar`, as podman does.
fn digest_in_name(name: &str) -> Option<Digest> {
    let last = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".tar"))?;
    Digest::from_hex(last).ok()
}

fn hash(reader: Box<dyn Read + Send + '_>) -> io::Result<Digest> {
    let mut hashing = Hashing::new(reader);
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hashing.finish().1)
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn oci_items(files: &Files, shown: &str, index: Vec<u8>) -> Result<Vec<Item>, Error> {
    let host = Platform::host();
    let top = Raw { digest: Digest::of(&index), bytes: index, media_type: manifest::OCI_INDEX.into() };
    let mut items: Vec<Item> = Vec::new();
    for entry in manifest::index_entries(shown, &top)? {
        let digest = entry.digest().to_string();
        let Ok(digest) = digest.parse::<Digest>() else { continue };
        let annotation = |key: &str| entry.annotations().as_ref().and_then(|a| a.get(key)).cloned();
        // containerd and docker write the full name beside the OCI one, which may be a tag alone.
        let name = annotation(FULL_NAME).or_else(|| annotation(REF_NAME));
        let name = name.filter(|n| n.contains(['/', ':'])).and_then(|n| n.parse::<Reference>().ok());
        let bytes = oci_document(files, shown, digest)?;
        let raw = Raw { bytes, digest, media_type: entry.media_type().to_string() };
        let item = oci_item(files, shown, &raw, &host)?;
        match items.iter_mut().find(|i| i.config == item.config) {
            Some(known) => known.names.extend(name),
            None => items.push(Item { names: name.into_iter().collect(), ..item }),
        }
    }
    Ok(items)
}

/// A manifest, an index or a config of an OCI layout.
pub(super) fn oci_document(files: &Files, shown: &str, digest: Digest) -> Result<Vec<u8>, Error> {
    let bad = |source| Error::Archive { input: shown.to_owned(), source };
    let name = blob_name(digest);
    let lacks = || bad(io::Error::other(format!("it has no file {name:?}")));
    let bytes = files.document(&name).map_err(bad)?.ok_or_else(lacks)?;
    match Digest::of(&bytes) {
        got if got == digest => Ok(bytes),
        got => Err(bad(io::Error::other(format!("{name:?} is corrupt: its digest is {got}")))),
    }
}

/// The image for a platform that a manifest or an index of an OCI layout is, or leads to. It has no name.
pub(super) fn oci_item(files: &Files, shown: &str, top: &Raw, wanted: &Platform) -> Result<Item, Error> {
    let mut get = |digest| {
        let bytes = oci_document(files, shown, digest)?;
        Ok(Raw { bytes, digest, media_type: String::new() })
    };
    let (raw, found) = manifest::resolve(shown, top, wanted, &mut get)?;
    let config = oci_document(files, shown, found.config.digest)?;
    let layers = layers_of(shown, &found.layers, &parse_config(shown, &config)?)?;
    let paths = layers.iter().map(|l| (l.blob.digest, blob_name(l.blob.digest))).collect();
    Ok(Item { config, manifest: Some(raw.bytes), names: Vec::new(), layers, paths })
}

pub(super) fn parse_config(shown: &str, bytes: &[u8]) -> Result<ImageConfig, Error> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::unsupported(shown, format!("it has a malformed config ({e})")))
}

struct Local<'a> {
    files: &'a Files,
    item: &'a Item,
    shown: &'a str,
}

impl Source for Local<'_> {
    fn open<'s>(&'s self, blob: Blob, _: &'s dyn Progress) -> Result<Box<dyn Read + Send + 's>, Error> {
        let name = self.item.paths.get(&blob.digest).map_or("", String::as_str);
        let opened = self.files.open(name);
        opened
            .map(|(reader, _)| reader)
            .map_err(|source| Error::Archive { input: self.shown.to_owned(), source })
    }
}
