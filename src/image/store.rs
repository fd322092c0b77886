//! The local store of names and configs; see the room's header for its form on disk.

use super::{Error, ImageConfig, Instance, Platform, Reference, platform};
use crate::digest::Digest;
use crate::layers::LayerStore;
use crate::state::{self, Durability, Lock, Paths};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The images of one data root. Opening it costs nothing; it may be shared between threads.
pub struct ImageStore {
    paths: Paths,
}

/// A local image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// The manifest it came with; none if it never was in a registry (built, or loaded from docker's archive).
    pub manifest: Option<Digest>,
    /// The index of images for several platforms in which the manifest was found.
    pub index: Option<Digest>,
    /// The name by which it was found; none if it was found by its id.
    pub name: Option<Reference>,
    /// What it says about itself.
    pub config: ImageConfig,
}

impl Image {
    /// Its layers, the lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// What it is made for.
    pub fn platform(&self) -> Platform {
        let config = &self.config;
        platform::of_config(&config.os, &config.architecture, config.variant.as_deref())
    }

    /// Bytes of its files, as `docker images` counts them; layers that are missing count nothing.
    pub fn size(&self, layers: &LayerStore) -> u64 {
        self.diff_ids().iter().map(|layer| layers.size(*layer).unwrap_or(0)).sum()
    }
}

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The full name; without a tag if the image was pulled by digest.
    pub reference: Reference,
    /// What the registry calls it by digest: the index, or the manifest. None for what was not pulled.
    pub digest: Option<Digest>,
    /// When it was given, in seconds since 1970.
    pub since: u64,
}

/// An image and its names, sorted; none if it is dangling.
#[derive(Clone, Debug)]
pub struct ImageEntry {
    /// The image.
    pub image: Image,
    /// Its names.
    pub names: Vec<Name>,
}

/// One line of a listing.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly all lines are images
pub enum Listed {
    /// An image.
    Image(ImageEntry),
    /// A record that cannot be read.
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: Error,
    },
}

/// An image to be added. Its layers must be in the store, and a [`Pin`] held since before that was made sure.
pub struct NewImage<'a> {
    /// The config's exact bytes.
    pub config: &'a [u8],
    /// The manifest's, if there is one.
    pub manifest: Option<&'a [u8]>,
    /// The index's, if there is one.
    pub index: Option<&'a [u8]>,
    /// The names it gets, which other images lose.
    pub names: &'a [Reference],
}

/// While this is held, nothing that was in the store when it was taken is collected as garbage.
#[derive(Debug)]
pub struct Pin {
    _lock: Lock,
}

/// `images/names/<hash>`
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct NameRecord {
    pub(super) name: Reference,
    pub(super) id: Digest,
    pub(super) manifest: Option<Digest>,
    pub(super) index: Option<Digest>,
    pub(super) since: u64,
}

/// A name's record, or its path and why it cannot be read.
pub(super) type ReadRecord = Result<NameRecord, (PathBuf, Error)>;

/// `images/ids/<hex>`
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct IdRecord {
    pub(super) manifest: Option<Digest>,
    pub(super) index: Option<Digest>,
}

impl ImageStore {
    /// The store below a data root that is prepared.
    pub fn open(paths: &Paths) -> Self {
        Self { paths: paths.clone() }
    }

    /// The roots that it is below.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    pub(super) fn names_dir(&self) -> PathBuf {
        self.paths.images().join("names")
    }

    pub(super) fn ids_dir(&self) -> PathBuf {
        self.paths.images().join("ids")
    }

    pub(super) fn name_path(&self, name: &Reference) -> PathBuf {
        self.names_dir().join(Digest::of(name.to_string().as_bytes()).hex())
    }

    pub(super) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.paths.blobs().join(digest.hex())
    }

    /// Finds a local image by a name, a name and digest, an id or the start of one (two digits at least).
    /// A short name is looked for at Docker Hub, as `localhost/NAME`, then as the end of any stored name.
    pub fn resolve(&self, what: &str) -> Result<Image, Error> {
        if let Some(hex) = what.strip_prefix("sha256:") {
            return self.by_id_prefix(what, hex)?.ok_or_else(|| Error::NotFound(what.to_owned()));
        }
        let parsed = what.parse::<Reference>();
        if let Ok(reference) = &parsed
            && let Some(record) = self.by_name(what, reference)?
        {
            return self.image_of(&record);
        }
        if let Some(list) = self.list_named(what)? {
            return match self.instance(&list, None)? {
                Instance::Here(image) => Ok(*image),
                Instance::There(_) => Err(Error::NotFound(what.to_owned())),
            };
        }
        match (self.by_id_prefix(what, what)?, parsed) {
            (Some(image), _) => Ok(image),
            (None, Err(error)) if !is_hex(what) => Err(error.into()),
            (None, _) => Err(Error::NotFound(what.to_owned())),
        }
    }

    /// The name of the image that a text means, by which it is stored; `None` if the text is no stored name (but
    /// perhaps an id).
    pub(super) fn by_name(&self, what: &str, reference: &Reference) -> Result<Option<NameRecord>, Error> {
        let wanted = reference.local();
        if let Some(record) = self.read_name(&wanted)? {
            return Ok(Some(record));
        }
        let is_short = !Reference::has_domain(what);
        if is_short
            && let Ok(local) = format!("localhost/{what}").parse::<Reference>()
            && let Some(record) = self.read_name(&local.local())?
        {
            return Ok(Some(record));
        }
        if !is_short && wanted.digest().is_none() {
            return Ok(None);
        }
        let repository_end = format!("/{}", reference.familiar_name());
        let fits = |record: &NameRecord| {
            let name = record.name.name();
            let same_repository = name == reference.name() || (is_short && name.ends_with(&repository_end));
            same_repository
                && match wanted.digest() {
                    // Also what was pulled by a tag is known by its digest.
                    Some(digest) => {
                        [record.name.digest(), record.manifest, record.index].contains(&Some(digest))
                    }
                    None => record.name.tag() == wanted.tag() && record.name.digest().is_none(),
                }
        };
        let mut found: Vec<NameRecord> =
            self.name_records()?.into_iter().filter_map(Result::ok).filter(fits).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let ids: BTreeSet<Digest> = found.iter().map(|record| record.id).collect();
        if ids.len() > 1 {
            let candidates = found.iter().map(|record| record.name.to_string()).collect();
            return Err(Error::Ambiguous { what: what.to_owned(), candidates });
        }
        Ok(found.into_iter().next())
    }

    fn by_id_prefix(&self, what: &str, hex: &str) -> Result<Option<Image>, Error> {
        if !is_hex(hex) {
            return Ok(None);
        }
        if let Ok(id) = Digest::from_hex(hex) {
            return self.by_id(id);
        }
        let found: Vec<Digest> = self.ids()?.into_iter().filter(|id| id.hex().starts_with(hex)).collect();
        match found[..] {
            [] => Ok(None),
            [id] => self.by_id(id),
            _ => {
                let candidates = found.iter().map(Digest::short).collect();
                Err(Error::Ambiguous { what: what.to_owned(), candidates })
            }
        }
    }

    /// The image of this id.
    pub fn by_id(&self, id: Digest) -> Result<Option<Image>, Error> {
        let Some(record) = state::read_json::<IdRecord>(&self.ids_dir().join(id.hex()))? else {
            return Ok(None);
        };
        let config = self.config(id)?;
        Ok(Some(Image { id, manifest: record.manifest, index: record.index, name: None, config }))
    }

    pub(super) fn image_of(&self, record: &NameRecord) -> Result<Image, Error> {
        Ok(Image {
            id: record.id,
            manifest: record.manifest,
            index: record.index,
            name: Some(record.name.clone()),
            config: self.config(record.id)?,
        })
    }

    pub(super) fn config(&self, id: Digest) -> Result<ImageConfig, Error> {
        let path = self.blob_path(id);
        state::read_json(&path)?.ok_or_else(|| missing(&path))
    }

    /// A stored config, manifest or index: its exact bytes.
    pub fn blob(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(digest);
        fs::read(&path).map_err(|e| state::Error::io("read", &path)(e).into())
    }

    /// The names of an image, sorted.
    pub fn names(&self, id: Digest) -> Result<Vec<Name>, Error> {
        let mut names: Vec<Name> = Vec::new();
        for record in self.name_records()?.into_iter().filter_map(Result::ok) {
            if record.id == id {
                names.push(record.into());
            }
        }
        names.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(names)
    }

    /// All images, in the order of their ids, and all records that cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut names: BTreeMap<Digest, Vec<Name>> = BTreeMap::new();
        let mut broken = Vec::new();
        for record in self.name_records()? {
            match record {
                Ok(record) => names.entry(record.id).or_default().push(record.into()),
                Err((path, error)) => broken.push(Listed::Broken { path, error }),
            }
        }
        let mut listed = Vec::new();
        let ids: BTreeSet<Digest> = self.ids()?.into_iter().chain(names.keys().copied()).collect();
        for id in ids {
            let path = self.ids_dir().join(id.hex());
            match self.by_id(id).and_then(|found| found.ok_or_else(|| missing(&path))) {
                Ok(image) => {
                    let mut names = names.remove(&id).unwrap_or_default();
                    names.sort_by(|a, b| a.reference.cmp(&b.reference));
                    listed.push(Listed::Image(ImageEntry { image, names }));
                }
                Err(error) => broken.push(Listed::Broken { path, error }),
            }
        }
        listed.extend(broken);
        Ok(listed)
    }

    /// Gives an image another name, which another image may lose by it.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<(), Error> {
        let is_image =
            source.parse().is_ok_and(|name| self.by_name(source, &name).is_ok_and(|r| r.is_some()));
        if let (false, Some(list)) = (is_image, self.list_named(source)?) {
            return self.copy_list(&list, target);
        }
        let image = self.resolve(source)?;
        self.write_name(target, image.id, image.manifest, image.index)
    }

    /// Takes a name away from its image, which stays. Gives the full name.
    pub fn untag(&self, name: &str) -> Result<Reference, Error> {
        let reference: Reference = name.parse()?;
        let record = self.by_name(name, &reference)?.ok_or_else(|| Error::NotFound(name.to_owned()))?;
        state::remove_file_if_there(&self.name_path(&record.name))?;
        Ok(record.name)
    }

    /// Adds an image. What is there already is not written again.
    pub fn add(&self, new: &NewImage<'_>) -> Result<Image, Error> {
        let id = Digest::of(new.config);
        let config = serde_json::from_slice(new.config)
            .map_err(|source| state::Error::Record { path: self.blob_path(id), source })?;
        let manifest = new.manifest.map(|bytes| self.put_blob(bytes)).transpose()?;
        let index = new.index.map(|bytes| self.put_blob(bytes)).transpose()?;
        self.put_blob(new.config)?;
        let path = self.ids_dir().join(id.hex());
        let known = state::read_json::<IdRecord>(&path).ok().flatten();
        // An image from docker's archive does not lose the manifest that it was once pulled with.
        let keep = known.is_some() && manifest.is_none();
        let record = IdRecord { manifest, index };
        if !keep && known.as_ref() != Some(&record) {
            state::create_dir_private(&self.ids_dir())?;
            state::write_json(&path, &record, Durability::PowerCut)?;
        }
        for name in new.names {
            self.write_name(name, id, manifest, index)?;
        }
        Ok(Image { id, manifest, index, name: new.names.first().cloned(), config })
    }

    /// A registry has an image under this name by this manifest now: the name knows, if the image has it here.
    pub(super) fn note_pushed(&self, name: &Reference, id: Digest, manifest: &[u8]) -> Result<(), Error> {
        let digest = Digest::of(manifest);
        match self.read_name(name)? {
            Some(record) if record.id == id && record.manifest != Some(digest) => {
                self.put_blob(manifest)?;
                self.write_name(name, id, Some(digest), None)
            }
            _ => Ok(()),
        }
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(digest);
        if fs::read(&path).ok().as_deref() != Some(bytes) {
            state::create_dir_private(&self.paths.blobs())?;
            state::write_atomic(&path, bytes, Durability::PowerCut)?;
        }
        Ok(digest)
    }

    pub(super) fn write_name(
        &self,
        name: &Reference,
        id: Digest,
        manifest: Option<Digest>,
        index: Option<Digest>,
    ) -> Result<(), Error> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = NameRecord { name: name.local(), id, manifest, index, since };
        let path = self.name_path(&record.name);
        let is_same = |known: &NameRecord| NameRecord { since, ..known.clone() } == record;
        if state::read_json::<NameRecord>(&path).ok().flatten().as_ref().is_some_and(is_same) {
            return Ok(());
        }
        state::create_dir_private(&self.names_dir())?;
        Ok(state::write_json(&path, &record, Durability::PowerCut)?)
    }

    pub(super) fn read_name(&self, name: &Reference) -> Result<Option<NameRecord>, Error> {
        Ok(state::read_json(&self.name_path(name))?)
    }

    /// All names.
    pub(super) fn name_records(&self) -> Result<Vec<ReadRecord>, Error> {
        let mut records = Vec::new();
        for path in files(&self.names_dir())? {
            match state::read_json(&path) {
                Ok(Some(record)) => records.push(Ok(record)),
                // Removed since.
                Ok(None) => {}
                Err(error) => records.push(Err((path, error.into()))),
            }
        }
        Ok(records)
    }

    pub(super) fn ids(&self) -> Result<Vec<Digest>, Error> {
        let is_id = |path: PathBuf| path.file_name()?.to_str().and_then(|name| Digest::from_hex(name).ok());
        Ok(files(&self.ids_dir())?.into_iter().filter_map(is_id).collect())
    }

    /// A file for what passes through, which disappears with its descriptor.
    pub(super) fn nameless(&self) -> std::io::Result<fs::File> {
        use rustix::fs::{Mode, OFlags};
        let folder = self.paths.staging();
        state::create_dir_private(&folder).map_err(std::io::Error::other)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&folder, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Holds off the collection of garbage. Whoever is about to rely on layers without having written it down yet
    /// (a pull, a new container, a build) holds one.
    pub fn pin(&self) -> Result<Pin, Error> {
        Ok(Pin { _lock: Lock::shared(&self.pin_path()?)? })
    }

    /// Holds off everybody who would [pin](Self::pin); `None` if somebody has. For who removes everything.
    pub fn hold_all(&self) -> Result<Option<Lock>, Error> {
        self.unpinned()
    }

    /// The opposite: nobody relies on anything that is not written down. `None` if somebody does.
    pub(super) fn unpinned(&self) -> Result<Option<Lock>, Error> {
        Ok(Lock::try_exclusive(&self.pin_path()?)?)
    }

    fn pin_path(&self) -> Result<PathBuf, Error> {
        state::create_dir_private(&self.paths.locks())?;
        Ok(self.paths.locks().join("images"))
    }
}

impl From<NameRecord> for Name {
    fn from(record: NameRecord) -> Self {
        Self { digest: record.index.or(record.manifest), reference: record.name, since: record.since }
    }
}

/// Could be the start of an id.
fn is_hex(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn missing(path: &Path) -> Error {
    state::Error::io("read", path)(ErrorKind::NotFound.into()).into()
}

/// The files of a folder that may not be there, but not those that are being written.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(state::Error::io("read", folder)(e).into()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(state::Error::io("read", folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}
