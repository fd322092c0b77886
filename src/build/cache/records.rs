//! What there is in the cache, whoever put it there:
//!
//! * a file below `steps/` is a step;
//! * any other file, also in another folder, is what is remembered of a context or of layers;
//! * a folder in another folder is a cache mount, with all that is in it.

use super::{Step, running, steps};
use crate::digest::Digest;
use crate::image::{self, ImageStore, Listed};
use crate::layers::LayerStore;
use crate::state::{self, read_json};
use crate::volume::disk_usage;
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What something in the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What an instruction made.
    Step,
    /// The digests of a context's files.
    Context,
    /// What `RUN --mount=type=cache` keeps.
    Mount,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Step, Kind::Context, Kind::Mount];

    /// BuildKit's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Step => "regular",
            Kind::Context => "source.local",
            Kind::Mount => "exec.cachemount",
        }
    }
}

/// One thing in the cache.
#[derive(Clone, Debug)]
pub struct Record {
    /// The name of its file.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The instruction, or where it lies.
    pub text: String,
    /// When it was made, if that is known.
    pub created: Option<SystemTime>,
    /// When it was used last.
    pub used: SystemTime,
    /// Bytes of what it keeps.
    pub size: u64,
    /// Of a step: the layer that it keeps.
    pub layer: Option<Digest>,
    /// An image, a container or a step that was used later needs the same layer: with this record nothing goes.
    pub is_shared: bool,
    /// A build that runs may use it.
    pub is_in_use: bool,
    pub(super) path: PathBuf,
}

impl Record {
    /// Bytes that would be free without it.
    pub fn own_size(&self) -> u64 {
        if self.is_shared { 0 } else { self.size }
    }
}

/// The whole cache.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// What is in it, that first which was used last.
    pub records: Vec<Record>,
}

impl Usage {
    /// Looks at all of it. `needs` says whether a container needs a layer. The caller can read the user's namespace's files.
    pub fn of(
        images: &ImageStore,
        layers: &LayerStore,
        needs: &dyn Fn(Digest) -> bool,
    ) -> Result<Usage, image::Error> {
        let paths = images.paths();
        let mut records = Vec::new();
        for name in names(&paths.build_cache())? {
            let path = paths.build_cache().join(&name);
            match path.symlink_metadata() {
                Ok(meta) if !meta.is_dir() => {
                    records.extend(record(Kind::Context, name, "a context's digests".into(), path));
                }
                Ok(_) if path == steps(paths) => {
                    for key in names(&path)? {
                        records.extend(step(&path.join(&key), key, layers));
                    }
                }
                Ok(_) => {
                    for id in names(&path)? {
                        let (text, path) = (format!("{name}/{id}"), path.join(&id));
                        let kind = if path.is_dir() { Kind::Mount } else { Kind::Context };
                        records.extend(record(kind, id, text, path));
                    }
                }
                Err(_) => {}
            }
        }
        records.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
        let mut others = HashSet::new();
        for listed in images.list()? {
            if let Listed::Image(entry) = listed {
                others.extend(entry.image.diff_ids().iter().copied());
            }
        }
        let oldest = running::oldest(paths)?;
        for record in &mut records {
            record.is_shared = record.layer.is_some_and(|layer| needs(layer) || !others.insert(layer));
            record.is_in_use = oldest.is_some_and(|oldest| {
                // A step's time is a little before that of its build; a mount's time is that of its content.
                record.kind == Kind::Mount || record.used + running::SLACK >= oldest
            });
        }
        Ok(Usage { records })
    }

    /// Bytes of all, each layer once, without what images and containers need.
    pub fn own_size(&self) -> u64 {
        self.records.iter().map(Record::own_size).sum()
    }
}

fn step(path: &Path, key: String, layers: &LayerStore) -> Option<Record> {
    // What cannot be read is of no use, and goes as the rest does.
    let step = read_json::<Step>(path).unwrap_or_default();
    let (layer, text, created) = match step {
        Some(step) => (step.made.layer, step.text, step.made.created.parse().ok()),
        None => (None, String::new(), None),
    };
    let layer = layer.filter(|layer| layers.contains(*layer));
    let found = record(Kind::Step, key, text, path.to_owned())?;
    let size = layer.map_or(0, |layer| layers.size(layer).unwrap_or(0));
    Some(Record { layer, size, created: created.map(system_time), ..found })
}

fn record(kind: Kind, id: String, text: String, path: PathBuf) -> Option<Record> {
    let meta = path.symlink_metadata().ok()?;
    let used = meta.modified().unwrap_or(UNIX_EPOCH);
    let size = if meta.is_dir() { disk_usage(&path) } else { meta.len() };
    let created = meta.created().ok();
    Some(Record {
        id,
        kind,
        text,
        created,
        used,
        size,
        layer: None,
        is_shared: false,
        is_in_use: false,
        path,
    })
}

fn system_time(at: crate::timestamp::Timestamp) -> SystemTime {
    let seconds = u64::try_from(at.unix_seconds()).unwrap_or_default();
    UNIX_EPOCH + std::time::Duration::new(seconds, at.nanos())
}

/// The names in a folder that may not be there, but not those of files that are being written.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, state::Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(state::Error::io("read", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(state::Error::io("read", folder))?;
        names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    Ok(names)
}
