//! What of a walk is put, and as what.

use super::put::{Place, Put};
use crate::build::context::Choice;
use crate::build::selection::{Selection, State};
use crate::container::files::{self, Sink};
use crate::layers::{Entry, Kind, split};
use rustix::fs::{Mode, OFlags};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

/// What of a folder is put.
pub(super) enum Chosen<'a> {
    /// What is in the list, by paths that begin with that of the folder.
    Listed(&'a [u8], &'a HashSet<Vec<u8>>),
    /// What is found out on the way.
    Selected(&'a Selection),
}

impl Chosen<'_> {
    /// Whether nothing is left out.
    pub(super) fn is_all(&self) -> bool {
        matches!(self, Chosen::Selected(selection) if selection.is_all())
    }

    /// Whether a file that was named itself is left out.
    pub(super) fn leaves_out(&self, name: &[u8]) -> bool {
        matches!(self, Chosen::Selected(selection) if selection.leaves_out(name))
    }
}

/// Makes entries what they are to be, and leaves out what is not chosen.
pub(super) struct Filter<'a, 'b, 's> {
    put: &'a Put<'b, 's>,
    sink: &'a mut dyn Sink,
    owner: Option<(u32, u32)>,
    /// Under which path the top is given.
    to: &'a [u8],
    place: &'a Place,
    /// None: the one file.
    chosen: Option<&'a Chosen<'a>>,
    /// Of what is selected: the folders that were gone into.
    states: HashMap<Vec<u8>, State>,
    /// Folders that are there only if something in them is.
    waiting: Vec<Entry>,
}

impl<'a, 'b, 's> Filter<'a, 'b, 's> {
    pub(super) fn new(
        put: &'a Put<'b, 's>,
        sink: &'a mut dyn Sink,
        owner: Option<(u32, u32)>,
        (to, place): (&'a [u8], &'a Place),
        chosen: Option<&'a Chosen<'a>>,
    ) -> Self {
        Self { put, sink, owner, to, place, chosen, states: HashMap::new(), waiting: Vec::new() }
    }

    /// An entry's path below the top.
    fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let below = path.strip_prefix(self.to).unwrap_or(path);
        below.strip_prefix(b"/").unwrap_or(below)
    }

    fn choice(&mut self, entry: &Entry) -> Choice {
        let below = self.below(&entry.path);
        match self.chosen {
            None => Choice::Take,
            // What is below the top was asked for before it was looked at.
            Some(Chosen::Listed(top, items)) => match !below.is_empty() || items.contains(*top) {
                true => Choice::Take,
                false => Choice::Skip,
            },
            Some(Chosen::Selected(selection)) if entry.kind == Kind::Directory => {
                let (choice, state) = match (below.is_empty(), self.states.get(split(below).0)) {
                    (true, _) => selection.root(),
                    (false, Some(above)) => selection.enter(above, below),
                    (false, None) => return Choice::Skip,
                };
                if choice != Choice::Skip {
                    self.states.insert(below.to_vec(), state);
                }
                choice
            }
            Some(Chosen::Selected(selection)) => match self.states.get(split(below).0) {
                Some(above) if selection.takes(above, below) => Choice::Take,
                _ => Choice::Skip,
            },
        }
    }

    fn give(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), files::Error> {
        let is_folder = entry.kind == Kind::Directory;
        // A folder that is there stays as it is; its own is the content's alone. (A layer sees to that itself.)
        if is_folder && self.below(&entry.path).is_empty() {
            return Ok(());
        }
        if is_folder && self.put.layer.is_none() {
            let whole = self.place.top_path.join(OsStr::from_bytes(&entry.path));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if self.put.root.open(&whole, flags, Mode::empty()).is_ok() {
                return Ok(());
            }
        }
        let mut entry = entry.clone();
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if entry.kind != Kind::Symlink {
            entry.mode = self.put.mode(entry.mode, is_folder);
        }
        self.sink.put(&entry, content)
    }
}

impl Sink for Filter<'_, '_, '_> {
    fn wants(&self, path: &[u8]) -> bool {
        let below = self.below(path);
        match self.chosen {
            Some(Chosen::Listed(top, items)) => items.contains(&join(top, below)),
            Some(Chosen::Selected(_)) => self.states.contains_key(split(below).0),
            None => true,
        }
    }

    fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), files::Error> {
        match self.choice(entry) {
            Choice::Skip => return Ok(()),
            Choice::Descend => {
                self.waiting.push(entry.clone());
                return Ok(());
            }
            Choice::Take => {}
        }
        for folder in std::mem::take(&mut self.waiting) {
            let is_above = folder.path.is_empty()
                || entry.path.strip_prefix(&folder.path[..]).is_some_and(|rest| rest.starts_with(b"/"));
            if is_above {
                self.give(&folder, &mut io::empty())?;
            }
        }
        self.give(entry, content)
    }
}

pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (_, true) => folder.to_vec(),
        _ => [folder, b"/", name].concat(),
    }
}

/// The folder of an absolute path, and the name in it. The folder was text in the Dockerfile.
pub(super) fn cut(path: &[u8]) -> (&str, &[u8]) {
    let (folder, name) = split(path);
    (std::str::from_utf8(folder).unwrap_or("/"), name)
}

/// A new folder.
pub(super) fn folder(path: Vec<u8>, owner: Option<(u32, u32)>) -> Entry {
    let (uid, gid) = owner.unwrap_or((0, 0));
    Entry { uid, gid, ..Entry::folder(path) }
}
