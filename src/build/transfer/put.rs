//! Where files go, and which: the destination is resolved in the root that the layers show, sources in theirs.

use super::filter::{Chosen, Filter, cut, folder, join};
use super::{Piece, Sources, Transfer, failed, io_failed, refused};
use crate::build::fetch;
use crate::build::sources::{is_pattern, matches};
use crate::container;
use crate::container::files::{self, Attributes, Ids, Owner, Sink, Tree, TreeOptions, Walk};
use crate::container::session::Failure;
use crate::layers::{self, Entry, Kind, LayerWriter};
use crate::rooted_fs::{Root, follow};
use crate::sandbox::users;
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The putting.
pub(super) struct Put<'a, 's> {
    pub(super) transfer: &'a Transfer,
    pub(super) single_id: bool,
    pub(super) root: &'a Root,
    /// What is put becomes this layer at once; none: it is written below the root.
    pub(super) layer: Option<RefCell<LayerWriter<'s>>>,
}

/// Takes entries for a layer.
struct Written<'a, 'b>(&'a mut LayerWriter<'b>);

impl Sink for Written<'_, '_> {
    fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), files::Error> {
        self.0.put(entry.clone(), content).map_err(|error| match error {
            layers::Error::Refused { path, why } => files::Error::Refused { path, why, fix: None },
            error => container::Error::from(error).into(),
        })
    }
}

/// A folder that is there, and what is below it on the way to the destination.
pub(super) struct Place {
    top: OwnedFd,
    pub(super) top_path: PathBuf,
    rest: Vec<u8>,
}

impl Put<'_, '_> {
    /// Puts all pieces.
    pub(super) fn all(&self, sources: &Sources<'_>) -> Result<(), Failure> {
        let transfer = self.transfer;
        let owner = match &transfer.owner {
            None => None,
            Some(spec) => {
                let user = users::exec_user(self.root, spec).map_err(|e| failed(&e))?;
                // docker: a user alone is the group of the same number.
                let gid = match spec.contains(':') {
                    true => user.gid,
                    false if spec.parse::<u32>().is_ok() => user.uid,
                    false => user.gid,
                };
                Some((user.uid, gid))
            }
        };
        if transfer.pieces.is_empty() {
            return self.put_all(&transfer.destination, owner, |_, _| Ok(()));
        }
        for piece in &transfer.pieces {
            match (piece, sources.of(piece)?) {
                (Piece::Text(name, text), _) => self.text(name, text, owner)?,
                (_, Some(source)) => From { put: self, source: &source, piece, owner }.all()?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Where a file of this name goes; `is_folder`: into the destination, whatever is there.
    fn file_path(&self, name: &[u8], is_folder: bool) -> Vec<u8> {
        let destination = &self.transfer.destination;
        let bytes = destination.as_bytes();
        match is_folder || self.transfer.is_folder || self.is_folder(Path::new(destination)) {
            true => [bytes, b"/", name].concat(),
            false => bytes.to_vec(),
        }
    }

    fn text(&self, name: &str, text: &str, owner: Option<(u32, u32)>) -> Result<(), Failure> {
        let path = self.file_path(name.as_bytes(), false);
        let (parent, name) = cut(&path);
        self.put_all(parent, owner, |tree, at| {
            let mode = self.mode(0o644, false);
            let path = join(at, name);
            let entry = Entry { kind: Kind::File, mode, size: text.len() as u64, ..folder(path, owner) };
            tree.put(&entry, &mut text.as_bytes()).map_err(|e| failed(&e))
        })
    }

    /// What `--chmod` makes of a mode.
    pub(super) fn mode(&self, mode: u32, is_folder: bool) -> u32 {
        self.transfer.modes.as_ref().map_or(mode, |modes| modes.apply(mode, is_folder))
    }

    fn options(&self, owner: Owner) -> TreeOptions {
        TreeOptions { owner, single_id: self.single_id, plain_modes: false, overwrite: false }
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.root.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).is_ok()
    }

    /// Goes to a folder, making what is missing of it, and lets `work` put something there: it gets the tree and the
    /// folder's path in it.
    fn put_all(
        &self,
        folder_path: &str,
        owner: Option<(u32, u32)>,
        work: impl FnOnce(&mut dyn Sink, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let go = |sink: &mut dyn Sink, path: &[u8]| {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            for end in ends.chain((!path.is_empty()).then_some(path.len())) {
                let entry = folder(path[..end].to_vec(), owner);
                sink.put(&entry, &mut io::empty()).map_err(|e| failed(&e))?;
            }
            work(sink, path)
        };
        if let Some(layer) = &self.layer {
            let path = self.led_to(folder_path).map_err(io_failed("open", Path::new(folder_path)))?;
            return go(&mut Written(&mut layer.borrow_mut()), &path);
        }
        let Place { top, rest, .. } = self.place(folder_path)?;
        let mut tree = Tree::new(top, self.options(Owner::Kept(Ids::default()))).map_err(|e| failed(&e))?;
        go(&mut tree, &rest)?;
        tree.finish().map_err(|e| failed(&e))
    }

    /// Where a path leads, without any link.
    fn led_to(&self, path: &str) -> io::Result<Vec<u8>> {
        let link =
            |folder: &[u8], name: &[u8]| match self.root.readlink(OsStr::from_bytes(&join(folder, name))) {
                Ok(target) => Ok(Some(target)),
                Err(e) => match Errno::from_io_error(&e) {
                    Some(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(None),
                    errno => Err(errno.unwrap_or(Errno::IO)),
                },
            };
        Ok(follow(path.as_bytes(), link)?)
    }

    fn place(&self, path: &str) -> Result<Place, Failure> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for count in (0..=parts.len()).rev() {
            let here = PathBuf::from(format!("/{}", parts[..count].join("/")));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match self.root.open(&here, flags, Mode::empty()) {
                Ok(top) => {
                    return Ok(Place { top, top_path: here, rest: parts[count..].join("/").into_bytes() });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound && count > 0 => {}
                Err(e) => return Err(io_failed("open", &here)(e)),
            }
        }
        Err(refused(path.as_bytes(), "there is no such folder"))
    }
}

/// The putting of one piece.
struct From<'a, 's> {
    put: &'a Put<'a, 's>,
    source: &'a Root,
    piece: &'a Piece,
    /// `--chown`.
    owner: Option<(u32, u32)>,
}

impl From<'_, '_> {
    fn all(&self) -> Result<(), Failure> {
        match self.piece {
            Piece::Text(..) => Ok(()),
            Piece::Listed { path, name, items, unpack, .. } => {
                let owner = Some(self.owner.unwrap_or((0, 0)));
                let at = Path::new("/").join(OsStr::from_bytes(path));
                self.one(&at, (name, false), &Chosen::Listed(path, items), (owner, *unpack))
            }
            Piece::Whole { path, selection, required, unpack, .. } => {
                if let Some(required) = required {
                    self.there(Path::new(required), false)?;
                }
                let found = self.expand(path)?;
                let several = found.len() > 1;
                for at in found {
                    let name = at.file_name().unwrap_or_default().as_bytes();
                    self.one(&at, (name, several), &Chosen::Selected(selection), (self.owner, *unpack))?;
                }
                Ok(())
            }
        }
    }

    /// Whether something is there: an error if not.
    fn there(&self, at: &Path, follow: bool) -> Result<(), Failure> {
        let opened = match follow {
            true => self.source.open_path(at),
            false => self.source.open_path_nofollow(at),
        };
        opened.map(drop).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => failed(&files::Error::Missing {
                path: at.to_owned(),
                container: Some("that it is copied from".into()),
            }),
            _ => io_failed("open", at)(e),
        })
    }

    /// What a path or pattern leads to. A pattern may lead to nothing.
    fn expand(&self, path: &str) -> Result<Vec<PathBuf>, Failure> {
        let mut found = vec![PathBuf::from("/")];
        for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let mut next = Vec::new();
            for folder in found {
                if !is_pattern(part) {
                    next.push(folder.join(part));
                    continue;
                }
                for name in self.names(&folder)? {
                    if matches(part.as_bytes(), &name) {
                        next.push(folder.join(OsStr::from_bytes(&name)));
                    }
                }
            }
            found = next;
        }
        if is_pattern(path) {
            found.retain(|at| self.there(at, true).is_ok());
        } else {
            found.iter().try_for_each(|at| self.there(at, true))?;
        }
        Ok(found)
    }

    /// The names in a folder, sorted; none if it is something else.
    fn names(&self, folder: &Path) -> Result<Vec<Vec<u8>>, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match self.source.open(folder, flags, Mode::empty()) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            opened => opened.map_err(io_failed("read", folder))?,
        };
        let read = |e: rustix::io::Errno| io_failed("read", folder)(e.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&opened).map_err(read)? {
            let name = entry.map_err(read)?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Puts what is at a path of the source; a file gets this name, in a folder if it is one of several.
    fn one(
        &self,
        at: &Path,
        (name, into_folder): (&[u8], bool),
        chosen: &Chosen<'_>,
        (owner, unpack): (Option<(u32, u32)>, bool),
    ) -> Result<(), Failure> {
        let put = self.put;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = self.source.open(at, flags, Mode::empty()).map_err(io_failed("open", at))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| io_failed("read", at)(e.into()))?;
        let ids = Ids::default();
        let is_listed = matches!(chosen, Chosen::Listed(..));
        let mut walk = Walk::new(&ids, put.single_id && !is_listed, Attributes::Archive);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if !chosen.is_all() {
                walk = walk.apart();
            }
            let destination = &put.transfer.destination;
            return put.put_all(destination, owner, |tree, to| {
                let place = put.place(destination)?;
                let mut sink = Filter::new(put, tree, owner, (to, &place), Some(chosen));
                walk.copy(fd.as_fd(), c".", to, &mut sink).map_err(|e| failed(&e))
            });
        }
        if chosen.leaves_out(name) {
            return Ok(());
        }
        // The name itself, in a held folder.
        let real = self.real(at)?;
        let (parent, last) = (real.parent().unwrap_or(Path::new("/")), real.file_name().unwrap_or_default());
        let dir = self
            .source
            .open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(io_failed("open", parent))?;
        if unpack && let Some(archive) = self.archive(&real)? {
            return self.unpack(archive);
        }
        let path = put.file_path(name, into_folder);
        if put.is_folder(Path::new(OsStr::from_bytes(&path))) {
            return Err(refused(&path, "cannot overwrite a directory with a file"));
        }
        let (parent, name) = cut(&path);
        let last = CString::new(last.as_bytes()).map_err(|_| refused(&path, "it has no name"))?;
        put.put_all(parent, owner, |tree, to| {
            let place = put.place(parent)?;
            let to = join(to, name);
            let mut sink = Filter::new(put, tree, owner, (&to, &place), None);
            walk.copy(dir.as_fd(), &last, &to, &mut sink).map_err(|e| failed(&e))
        })
    }

    /// Where a path of the source leads, without a link at its end.
    fn real(&self, path: &Path) -> Result<PathBuf, Failure> {
        let mut path = path.to_owned();
        for _ in 0..40 {
            let Ok(target) = self.source.readlink(&path) else { return Ok(path) };
            path = path.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(&target));
        }
        Err(io_failed("follow", &path)(rustix::io::Errno::LOOP.into()))
    }

    /// The file if it is an archive that can be unpacked.
    fn archive(&self, path: &Path) -> Result<Option<File>, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(fd) = self.source.open(path, flags, Mode::empty()) else { return Ok(None) };
        let mut file = File::from(fd);
        let mut head = Vec::new();
        let read = file.by_ref().take(fetch::HEAD).read_to_end(&mut head);
        read.map_err(io_failed("read", path))?;
        if !fetch::is_archive(&head) {
            return Ok(None);
        }
        file.rewind().map_err(io_failed("read", path))?;
        Ok(Some(file))
    }

    /// All is made what the archive says, but the owners if there is `--chown`.
    fn unpack(&self, archive: File) -> Result<(), Failure> {
        let put = self.put;
        let destination = Path::new(&put.transfer.destination);
        put.put_all(&put.transfer.destination, self.owner, |_, _| Ok(()))?;
        let top = put.root.open(destination, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let top = top.map_err(io_failed("open", destination))?;
        let owner = self.owner.map_or(Owner::Kept(Ids::default()), |(uid, gid)| Owner::One(uid, gid));
        files::read_archive(archive, top, put.options(owner)).map_err(|e| failed(&e))?;
        Ok(())
    }
}
