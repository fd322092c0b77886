//! The build context: what a `COPY` takes, as a digest of its content.
//!
//! * A [`Context`] is a folder, seen through `.dockerignore`. Nothing of it is read before an instruction names it:
//!   [`Context::tree`] walks what is below one path, by `stat` alone, and has the files' contents digested that no
//!   earlier build has seen as they are now.
//! * A [`Tree`] is what that walk found, and answers for any part of it ([`Tree::digest`]): a file's digest is over its
//!   kind, mode, owner, size, attributes and content, never its times; a folder's is over its own and its
//!   children's, in the order of their names' bytes. What is moved or touched has the same digest, what is changed in
//!   anything that a layer would show has another.
//! * [`contents`] remembers digests on disk by what `stat` says of a file, so that an unchanged context costs one
//!   walk and no read.
//!
//! A path is resolved as a process would see it that had been chrooted into the context; below it no link is followed. Every
//! step is by one name in a held folder. Names are bytes.
//!
//! What must never happen: something outside the context read, whatever links are in it; a digest remembered for
//! content that may have changed since.

mod contents;
mod parts;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub use tree::{Choice, Item, Kind, Tree};

use super::ignore::{Folder, Ignore};
use super::selection::Selection;
use crate::diagnose::Diagnose;
use crate::layers::{Walker, split};
use crate::rooted_fs::follow;
use crate::state::Paths;
use contents::Contents;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use walk::Walk;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whose the files are in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// All this one's: `COPY` from the host makes files root's, or as `--chown` says.
    All(u32, u32),
    /// As they are: what comes from another stage.
    Kept,
}

/// Why a context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What is remembered cannot be kept.
    #[error(transparent)]
    State(#[from] crate::state::Error),
}

impl Error {
    fn io(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Self {
        let path = PathBuf::from(OsStr::from_bytes(if path.is_empty() { b"." } else { path }));
        move |errno| Error::Io { action, path, source: errno.into() }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::State(error) => error.fix(),
            Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make it readable for yourself, or leave it out by a line in .dockerignore".into())
            }
            Error::Io { .. } => None,
        }
    }
}

/// What a context tells of its reading, where that takes its time.
pub enum Looking<'a> {
    /// It begins.
    Begun,
    /// Files are read that are not known.
    Reading {
        /// How many.
        files: usize,
        /// How large they are together.
        bytes: u64,
    },
    /// It is over, and this has gone wrong.
    Ended(Option<&'a Error>),
}

/// Who is told.
type Watch = Box<dyn Fn(Looking<'_>) + Sync>;

/// So many files, or bytes, take long enough to be told of.
const MANY_FILES: usize = 256;
const MANY_BYTES: u64 = 8 << 20;
/// A walk that takes longer is.
const LONG: Duration = Duration::from_millis(100);

/// One look at a context, by several threads perhaps.
struct Look<'a> {
    watch: Option<&'a Watch>,
    since: Instant,
    told: AtomicBool,
}

impl<'a> Look<'a> {
    fn new(watch: Option<&'a Watch>) -> Self {
        Self { watch, since: Instant::now(), told: AtomicBool::new(false) }
    }

    fn say(&self, looking: Looking<'_>) {
        if let Some(watch) = self.watch {
            watch(looking);
        }
    }

    fn begun(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.say(Looking::Begun);
        }
    }

    /// It goes on.
    fn goes_on(&self) {
        if self.since.elapsed() > LONG {
            self.begun();
        }
    }

    /// So much is read now.
    fn reads(&self, files: usize, bytes: u64) {
        if files >= MANY_FILES || bytes >= MANY_BYTES {
            self.begun();
        }
        if self.told.load(Ordering::Relaxed) && files > 0 {
            self.say(Looking::Reading { files, bytes });
        }
    }

    fn ended(&self, error: Option<&Error>) {
        if self.told.load(Ordering::Relaxed) {
            self.say(Looking::Ended(error));
        }
    }
}

/// A folder that a build copies from.
pub struct Context {
    root: OwnedFd,
    ignore: Ignore,
    owners: Owners,
    contents: Contents,
    /// By path and what of it is selected.
    trees: HashMap<(Vec<u8>, String), Option<Rc<Tree>>>,
    watch: Option<Watch>,
}

impl Context {
    /// A folder of the host. Nothing in it is looked at yet; what is remembered of it is read.
    pub fn open(paths: &Paths, folder: &Path, ignore: Ignore, owners: Owners) -> Result<Self, Error> {
        // Links on the way to the context are the user's own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, folder, flags, Mode::empty())
            .map_err(Error::io("open", folder.as_os_str().as_bytes()))?;
        let stat = rustix::fs::fstat(&root).map_err(Error::io("open", folder.as_os_str().as_bytes()))?;
        let contents = Contents::open(&paths.build_cache(), (stat.st_dev, stat.st_ino));
        Ok(Self { root, ignore, owners, contents, trees: HashMap::new(), watch: None })
    }

    /// A root that is the same whenever it is looked at: nothing is left out of it, and of its contents nothing is
    /// remembered.
    pub fn of_root(root: OwnedFd) -> Self {
        let (ignore, owners) = (Ignore::default(), Owners::Kept);
        Self { root, ignore, owners, contents: Contents::none(), trees: HashMap::new(), watch: None }
    }

    /// From now on this is told of what takes its time.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// What is in the folders of a tree and not in the tree, by paths from its top; of a folder that is left out, the folder
    /// alone.
    pub fn left_out(&self, tree: &Tree) -> Result<Vec<Vec<u8>>, Error> {
        let known: HashSet<&[u8]> = tree.items().iter().map(|item| &item.path[..]).collect();
        let top = tree.items()[0].path.len();
        let mut walker = self.walker()?;
        let mut found = Vec::new();
        for folder in tree.items().iter().filter(|item| item.kind == Kind::Folder) {
            let read = |errno| Error::io("read", &folder.path)(errno);
            walker.go(&folder.path).map_err(|stopped| read(stopped.errno))?;
            let fd = openat(walker.here(), c".", FOLDER, Mode::empty()).map_err(read)?;
            for (name, _) in walk::sorted_names(&fd).map_err(read)? {
                let path = join(&folder.path, name.to_bytes());
                if !known.contains(&path[..]) {
                    found.push(path[top..].strip_prefix(b"/").unwrap_or(&path[top..]).to_vec());
                }
            }
        }
        Ok(found)
    }

    /// Where a path leads, as an instruction names it: links are followed inside the context, the last one too. The
    /// result has no link, no `.` and no slash at its ends, and may not be there.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let mut walker = self.walker()?;
        let link = |folder: &[u8], name: &[u8]| {
            let target =
                walker.go(folder).ok().and_then(|()| readlinkat(walker.here(), name, Vec::new()).ok());
            Ok(target.map(CString::into_bytes))
        };
        follow(path, link).map_err(Error::io("resolve", path))
    }

    /// The names in a folder that are not left out, sorted: what a pattern is matched with.
    pub fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let Some(state) = self.enter(folder) else { return Ok(Vec::new()) };
        let mut walker = self.walker()?;
        if let Err(stopped) = walker.go(folder) {
            return match stopped.errno {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Ok(Vec::new()),
                errno => Err(Error::io("read", folder)(errno)),
            };
        }
        let folder_fd =
            openat(walker.here(), c".", FOLDER, Mode::empty()).map_err(Error::io("read", folder))?;
        let mut names = Vec::new();
        for (name, kind) in walk::sorted_names(&folder_fd).map_err(Error::io("read", folder))? {
            let path = join(folder, name.to_bytes());
            let left_out = match kind {
                FileType::Directory => self.ignore.enter(&state, &path).may_be_skipped(),
                _ => self.ignore.ignores_in(&state, &path),
            };
            if !left_out {
                names.push(name.into_bytes());
            }
        }
        Ok(names)
    }

    /// What is at a path that [`Self::resolve`] gave, and below it; `None` if there is nothing, or nothing that is not left
    /// out. Files whose content is not known are read. A path is walked once.
    pub fn tree(&mut self, path: &[u8]) -> Result<Option<Rc<Tree>>, Error> {
        self.tree_of(path, &Selection::default())
    }

    /// The same of what is selected in a folder; what is not is not looked at.
    pub fn tree_of(&mut self, path: &[u8], selection: &Selection) -> Result<Option<Rc<Tree>>, Error> {
        let key = (path.to_vec(), selection.text().to_owned());
        if let Some(known) = self.trees.get(&key) {
            return Ok(known.clone());
        }
        let look = Look::new(self.watch.as_ref());
        let walked = self.walked(path, selection, &look);
        let tree = walked.and_then(|tree| match tree {
            Some(mut tree) => {
                self.contents.digest(&self.root, &mut tree, &look)?;
                Ok(Some(Rc::new(tree)))
            }
            None => Ok(None),
        });
        look.ended(tree.as_ref().err());
        let tree = tree?;
        self.trees.insert(key, tree.clone());
        Ok(tree)
    }

    /// The first item of a tree that is no longer as it was when it was walked. Who copies files after they were digested
    /// asks before what came of it is remembered under that digest.
    pub fn first_changed<'a>(&self, tree: &'a Tree) -> Result<Option<&'a Item>, Error> {
        let mut walker = self.walker()?;
        for item in tree.items() {
            let (folder, name) = split(&item.path);
            let name = if name.is_empty() { b"." } else { name };
            let same = walker.go(folder).is_ok()
                && statat(walker.here(), name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| walk::key(&stat) == item.key);
            if !same {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// How many files were read so far, and not found among what is remembered.
    pub fn files_read(&self) -> usize {
        self.contents.read
    }

    /// Remembers the digests for the next build, if there are new ones.
    pub fn save(&mut self) -> Result<(), Error> {
        self.contents.save()
    }

    /// The ignoring of a folder and those above it; none if all that is in it is left out, or the path is none that
    /// [`Self::resolve`] gives.
    fn enter(&self, folder: &[u8]) -> Option<Folder> {
        if !is_plain(folder) {
            return None;
        }
        let mut state = self.ignore.root();
        let ends = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain((!folder.is_empty()).then_some(folder.len())) {
            state = self.ignore.enter(&state, &folder[..end]);
            if state.may_be_skipped() {
                return None;
            }
        }
        Some(state)
    }

    fn walked(&self, path: &[u8], selection: &Selection, look: &Look<'_>) -> Result<Option<Tree>, Error> {
        if !is_plain(path) {
            return Ok(None);
        }
        let (parent, name) = split(path);
        let Some(above) = self.enter(parent) else { return Ok(None) };
        let mut walker = self.walker()?;
        let absent = |errno| matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        match walker.go(parent) {
            Err(stopped) if absent(stopped.errno) => return Ok(None),
            other => other.map_err(|stopped| Error::io("read", path)(stopped.errno))?,
        }
        let name = if name.is_empty() { b"." } else { name };
        let stat = match statat(walker.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat.map_err(Error::io("read", path))?,
        };
        let walk = Walk {
            ignore: &self.ignore,
            selection,
            owners: self.owners,
            root: &self.root,
            threads: walk::threads(),
            look,
        };
        walk.tree(walker, path, &stat, &above)
    }

    fn walker(&self) -> Result<Walker, Error> {
        let root = openat(&self.root, c".", FOLDER, Mode::empty()).map_err(Error::io("read", b""))?;
        Ok(Walker::new(root))
    }
}

/// Whether a path has nothing in it that could lead elsewhere than to what it names.
fn is_plain(path: &[u8]) -> bool {
    path.is_empty() || !path.split(|&b| b == b'/').any(|part| matches!(part, b"" | b"." | b".."))
}

/// A name in a folder.
fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
