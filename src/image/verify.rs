//! Is everything in the stores what its name says? And if not, what to do about it.
//!
//! [`verify`] reads all of it: records of names and ids, configs and manifests against their digests, every layer
//! against its table. It changes nothing. [`repair`] takes what was found:
//!
//! * a record that cannot be read is removed; what it said is in others or lost;
//! * a damaged document or layer is taken away, and the images that need it are fetched again by the digests that
//!   they came with. A layer goes back to its place if it cannot be fetched and a container depends on it;
//! * an image that cannot be made whole is dropped with its names.

use super::pull::{PullRequest, fetch_again};
use super::store::{IdRecord, NameRecord, files};
use super::{Error, ImageStore, Platform, Reference};
use crate::digest::Digest;
use crate::layers::{Aside, LayerStore};
use crate::state::{self, Durability};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    what: What,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The record of a name or an id.
    Record(PathBuf),
    /// An image whose record is missing while a name points to it.
    Image(Digest),
    /// A config, manifest or index.
    Document(Digest),
    /// A layer.
    Layer(Digest),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = &self.why;
        match &self.what {
            What::Record(path) => write!(f, "record {}: {why}", path.display()),
            What::Image(id) => write!(f, "image {}: {why}", id.short()),
            What::Document(digest) => write!(f, "document {digest}: {why}"),
            What::Layer(layer) => write!(f, "layer {layer}: {why}"),
        }
    }
}

/// What [`repair`] did about something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What was done, or could not be.
    pub text: String,
    /// Whether all is well with it now.
    pub done: bool,
}

/// Looks at everything; `jobs` layers at a time. `depends` says whether a container needs a layer. A layer that a power cut
/// overtook, and that nobody needs, is no fault: it does not count, and goes with the next garbage. The caller is root of
/// the user's namespace.
pub fn verify(
    images: &ImageStore,
    layers: &LayerStore,
    depends: &dyn Fn(Digest) -> bool,
    jobs: usize,
) -> Result<Vec<Fault>, Error> {
    // Nothing is collected meanwhile.
    let _pin = images.pin()?;
    let mut faults = Vec::new();
    let mut fault = |what, why: String| faults.push(Fault { what, why });
    let (mut documents, mut needed, mut ids) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for path in files(&images.names_dir())? {
        match state::read_json::<NameRecord>(&path) {
            Ok(Some(record)) if images.name_path(&record.name) != path => {
                fault(What::Record(path), format!("it says {}, which has another file name", record.name));
            }
            Ok(Some(record)) => {
                documents.extend([record.manifest, record.index].into_iter().flatten());
                ids.insert(record.id);
            }
            Ok(None) => {}
            Err(error) => fault(What::Record(path), chain(&error)),
        }
    }
    let known: BTreeSet<Digest> = images.ids()?.into_iter().collect();
    for id in ids.difference(&known) {
        fault(What::Image(*id), "a name points to it, and it is not there".into());
    }
    for id in known.union(&ids) {
        documents.insert(*id);
        let path = images.ids_dir().join(id.hex());
        match state::read_json::<IdRecord>(&path) {
            Ok(record) => {
                documents.extend(record.iter().flat_map(|record| [record.manifest, record.index]).flatten());
            }
            Err(error) => fault(What::Record(path), chain(&error)),
        }
        if let Ok(config) = images.config(*id) {
            needed.extend(config.rootfs.diff_ids.into_iter().map(|layer| (layer, *id)));
        }
    }
    // Also those that nothing points to: the name of the file is the digest.
    let stored = files(&images.paths().blobs())?;
    let named = stored.iter().filter_map(|path| Digest::from_hex(path.file_name()?.to_str()?).ok());
    documents.extend(named);
    for digest in documents {
        match images.blob(digest) {
            Ok(bytes) => match Digest::of(&bytes) {
                found if found == digest => {}
                found => fault(What::Document(digest), format!("its digest is {found}")),
            },
            Err(error) => fault(What::Document(digest), chain(&error)),
        }
    }
    let counts = |layer: &Digest| needed.contains_key(layer) || layers.contains(*layer) || depends(*layer);
    let mut all: BTreeSet<Digest> = layers.list()?.into_iter().filter(counts).collect();
    all.extend(needed.keys());
    faults.extend(verify_layers(layers, all, jobs));
    Ok(faults)
}

fn verify_layers(layers: &LayerStore, all: BTreeSet<Digest>, jobs: usize) -> Vec<Fault> {
    let queue = Mutex::new(all.into_iter());
    let faults = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(layer) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
            // Both: the files, and the note that says whether they count.
            let checked = layers.verify(layer).and_then(|_| layers.size(layer).map(drop));
            if let Err(error) = checked {
                let fault = Fault { what: What::Layer(layer), why: chain(&error) };
                faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.sort_by(|a, b| a.what.cmp(&b.what));
    faults
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

/// Puts in order what [`verify`] found. `running` says which running container needs a layer, which then stays as it is;
/// `depends` whether any container does. `request` says how registries are asked.
pub fn repair(
    images: &ImageStore,
    layers: &LayerStore,
    faults: &[Fault],
    running: &dyn Fn(Digest) -> Option<String>,
    depends: &dyn Fn(Digest) -> bool,
    request: &PullRequest,
) -> Result<Vec<Repaired>, Error> {
    let _pin = images.pin()?;
    let mut report = Vec::new();
    let mut say = |done: bool, text: String| report.push(Repaired { text, done });
    let mut asides: Vec<(Digest, Aside<'_>)> = Vec::new();
    // An image as it was before anything is taken away.
    let before = snapshot(images)?;
    for fault in faults {
        match &fault.what {
            What::Record(path) => {
                state::remove_file_if_there(path)?;
                say(true, format!("record {} removed", path.display()));
            }
            What::Document(digest) => state::remove_file_if_there(&images.blob_path(*digest))?,
            What::Image(_) => {}
            What::Layer(layer) => match running(*layer) {
                Some(user) => {
                    say(false, format!("layer {layer} left as it is: {user} runs on it; stop that first"))
                }
                None => asides.extend(layers.set_aside(*layer)?.map(|aside| (*layer, aside))),
            },
        }
    }
    for (id, was) in before {
        let lacks = |digest: &Digest| images.blob(*digest).is_err();
        let documents = [was.manifest, was.index];
        let config_lost = lacks(&id);
        let manifest_lost = documents.iter().flatten().any(lacks);
        let layer_lost = was.layers.iter().any(|layer| layers.size(*layer).is_err());
        let record_lost = !images.ids_dir().join(id.hex()).exists();
        if !(config_lost || manifest_lost || layer_lost || record_lost) {
            continue;
        }
        let shown = was.names.first().map_or_else(|| id.short(), Reference::familiar);
        if let Err(why) = again(images, layers, id, &was, request) {
            // A manifest is nothing that a container needs.
            if config_lost || layer_lost {
                for name in &was.names {
                    state::remove_file_if_there(&images.name_path(name))?;
                }
                state::remove_file_if_there(&images.ids_dir().join(id.hex()))?;
                say(true, format!("image {shown} dropped, since it cannot be fetched again: {why}"));
            } else {
                was.without_lost(images, id)?;
                say(true, format!("image {shown} kept without its manifest"));
            }
            continue;
        }
        say(true, format!("image {shown} fetched again"));
    }
    for (layer, aside) in asides {
        if layers.contains(layer) {
            aside.discard()?;
            say(true, format!("layer {layer} replaced"));
        } else if depends(layer) {
            drop(aside);
            say(
                false,
                format!("layer {layer} left as it is: a container depends on it, and no image has it whole"),
            );
        } else {
            aside.discard()?;
            say(true, format!("layer {layer} dropped"));
        }
    }
    Ok(report)
}

/// What the records say of an image.
#[derive(Default)]
struct Was {
    names: Vec<Reference>,
    platform: Option<Platform>,
    manifest: Option<Digest>,
    index: Option<Digest>,
    layers: Vec<Digest>,
}

impl Was {
    /// Writes its records again, without the documents that are lost.
    fn without_lost(&self, images: &ImageStore, id: Digest) -> Result<(), Error> {
        let kept = |digest: Option<Digest>| digest.filter(|digest| images.blob(*digest).is_ok());
        let (manifest, index) = (kept(self.manifest), kept(self.index));
        state::create_dir_private(&images.ids_dir())?;
        let record = IdRecord { manifest, index };
        state::write_json(&images.ids_dir().join(id.hex()), &record, Durability::PowerCut)?;
        for name in &self.names {
            images.write_name(name, id, manifest, index)?;
        }
        Ok(())
    }
}

fn snapshot(images: &ImageStore) -> Result<BTreeMap<Digest, Was>, Error> {
    let mut all: BTreeMap<Digest, Was> = BTreeMap::new();
    for id in images.ids()? {
        let was = all.entry(id).or_default();
        if let Ok(Some(record)) = state::read_json::<IdRecord>(&images.ids_dir().join(id.hex())) {
            (was.manifest, was.index) = (record.manifest, record.index);
        }
    }
    for record in images.name_records()?.into_iter().flatten() {
        let was = all.entry(record.id).or_default();
        was.names.push(record.name);
        was.manifest = was.manifest.or(record.manifest);
        was.index = was.index.or(record.index);
    }
    for (id, was) in &mut all {
        if let Ok(config) = images.config(*id) {
            let variant = config.variant.as_deref();
            was.platform = Some(super::platform::of_config(&config.os, &config.architecture, variant));
            was.layers = config.rootfs.diff_ids;
        }
    }
    Ok(all)
}

/// Fetches an image again by one of its names; why not. The index, which says what the registry calls it, goes before the
/// manifest, which is sure to be it.
fn again(
    images: &ImageStore,
    layers: &LayerStore,
    id: Digest,
    was: &Was,
    request: &PullRequest,
) -> Result<(), String> {
    let mut why = "it did not come from a registry".to_owned();
    let request = PullRequest { platform: was.platform.clone(), ..request.clone() };
    for name in was.names.iter().filter(|name| name.domain() != "localhost") {
        for digest in [was.index, was.manifest].into_iter().flatten() {
            match fetch_again(images, layers, name, digest, &request) {
                Ok(image) if image.id == id => {
                    let named = |name| images.write_name(name, id, image.manifest, image.index);
                    return was.names.iter().try_for_each(named).map_err(|e| chain(&e));
                }
                Ok(_) => "the registry has another one for this platform".clone_into(&mut why),
                Err(error) => why = chain(&error),
            }
        }
    }
    Err(why)
}
