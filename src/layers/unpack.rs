//! Unpacking: what each entry of a layer's archive becomes below the layer's root.
//!
//! Meaning is docker's and podman's when they unpack as an ordinary user:
//!
//! * A leading `/` and `.` components are dropped from names; `..` is refused. A parent that the archive does not
//!   have is made, root-owned, 0755. A later entry replaces an earlier one of its name, directories meet.
//! * `.wh.NAME` becomes a whiteout, `.wh..wh..opq` an opaque directory. Both speak about the layers below only (OCI
//!   layer.md, "Whiteouts"): an entry of the same layer stays, before or after, and a directory of it is
//!   opaque. Other `.wh..wh.` names are left-overs of aufs and passed over.
//! * Devices are left out: no user namespace may make one. Their headers stay in the table.
//! * Links are made as they are written and never followed; a hard link's target is found in the layer, like a name.
//!
//! Directories are made 0700, and get their owners, modes, attributes and times at the end, so that neither a mode
//! nor a default ACL of a directory has a say about what is made in it, and no making touches a set time.

use super::attributes::{Attributes, Setter};
use super::tar::{Entries, Entry, Extent, Kind};
use super::toc::{FS, REPLACED, TocWriter, replaced_name};
use super::walker::{Walker, split};
use super::{Error, Limits, Ownership};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, fchmod, fchown, fremovexattr, fsetxattr, ftruncate,
    linkat, mkdirat, mkfifoat, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpacked {
    /// Entries and extension headers in the archive.
    pub entries: u64,
    /// Bytes in regular files.
    pub size: u64,
    /// Extended attributes that the file system or the namespace does not allow.
    pub skipped_xattrs: u64,
    /// Device nodes, which an ordinary user cannot make.
    pub skipped_devices: u64,
}

/// How a whiteout is written: as a 0/0 device, or where those cannot be made (kernels before 5.8, some network file
/// systems) as an empty file with an attribute, in a directory that is marked to hold such
/// (Documentation/filesystems/overlayfs.rst, "Whiteouts and opaque directories").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhiteoutForm {
    Device,
    Attribute,
}

/// A directory of the layer.
struct Directory {
    attributes: Attributes,
    /// Hides what lower layers have in it.
    opaque: bool,
    /// Holds whiteouts in [`WhiteoutForm::Attribute`].
    marked: bool,
}

impl Directory {
    fn new(attributes: Attributes, opaque: bool) -> Self {
        Self { attributes, opaque, marked: false }
    }
}

struct Unpacker<R> {
    entries: Entries<R, TocWriter>,
    limits: Limits,
    setter: Setter,
    /// Goes to where entries are made.
    fs: Walker,
    /// Goes to the targets of hard links.
    targets: Walker,
    replaced: Replaced,
    /// Every directory below the root, by path; the root by the empty path.
    directories: BTreeMap<Vec<u8>, Directory>,
    whiteouts: BTreeMap<Vec<u8>, ()>,
    /// Bytes that the two take, by [`Unpacker::remember`].
    remembered: u64,
    form: WhiteoutForm,
    hasher: Box<Xxh3>,
    report: Unpacked,
}

/// Unpacks an archive into `layer/fs`, with its table beside it. Reads `input` to its end.
pub fn unpack(
    input: impl BufRead,
    layer: &Path,
    ownership: Ownership,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    unpack_with(input, layer, ownership, limits, WhiteoutForm::Device)
}

fn unpack_with(
    input: impl BufRead,
    layer: &Path,
    ownership: Ownership,
    limits: &Limits,
    form: WhiteoutForm,
) -> Result<Unpacked, Error> {
    let folder = openat(CWD, layer, DIRECTORY, Mode::empty()).map_err(Error::io("open", layer))?;
    let root = make_root(&folder).map_err(Error::io("create", &layer.join(FS)))?;
    let target_root = root.try_clone().map_err(Error::io("open", layer))?;
    let mut unpacker = Unpacker {
        entries: Entries::new(input, TocWriter::create(layer)?, *limits),
        limits: *limits,
        setter: Setter::new(ownership),
        fs: Walker::new(root),
        targets: Walker::new(target_root),
        replaced: Replaced { layer: folder, folder: None, sparse: HashSet::new() },
        directories: BTreeMap::from([(Vec::new(), Directory::new(Attributes::implicit(), false))]),
        whiteouts: BTreeMap::new(),
        remembered: 0,
        form,
        hasher: Box::new(Xxh3::new()),
        report: Unpacked::default(),
    };
    while let Some(entry) = unpacker.entries.next_entry()? {
        unpacker.unpack_entry(entry)?;
    }
    unpacker.finish()
}

/// Makes `fs`. A set-group-id folder or default ACL above the store must not be inherited by the layer's files.
pub fn make_root(layer: &OwnedFd) -> Result<OwnedFd, Errno> {
    mkdirat(layer, FS, Mode::RWXU)?;
    let root = openat(layer, FS, DIRECTORY, Mode::empty())?;
    fchown(&root, None, Some(rustix::process::getegid()))?;
    fchmod(&root, Mode::RWXU)?;
    match fremovexattr(&root, "system.posix_acl_default") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(root),
        Err(e) => Err(e),
    }
}

impl<R: BufRead> Unpacker<R> {
    fn unpack_entry(&mut self, mut entry: Entry) -> Result<(), Error> {
        let path = plain_path(&entry.path, &self.limits)?;
        let attributes = Attributes::of(&mut entry, &self.limits)?;
        if path.is_empty() {
            if entry.kind != Kind::Directory {
                return Err(Error::refused(&entry.path, "only a directory can be the root"));
            }
            return self.directory(&path, attributes);
        }
        let (parent, name) = split(&path);
        match whiteout(parent, name) {
            Whiteout::No => {}
            Whiteout::Of(hidden) => {
                return self.whiteout(&join(parent, hidden));
            }
            Whiteout::Opaque => {
                self.enter(parent)?;
                if let Some(directory) = self.directories.get_mut(parent) {
                    directory.opaque = true;
                }
                return Ok(());
            }
            Whiteout::Obsolete => return Ok(()),
            Whiteout::Bad => return Err(Error::refused(&path, "it is not a whiteout of a name")),
        }
        match entry.kind {
            Kind::Directory => self.directory(&path, attributes),
            Kind::File => self.file(&path, &entry, &attributes),
            Kind::HardLink => self.hard_link(&path, &entry.link),
            Kind::Symlink => {
                self.place(&path, |dir, name| symlinkat(&entry.link, dir, name))?;
                self.setter.set_at(self.fs.here(), name, &attributes, false, &path)
            }
            Kind::Fifo => {
                self.place(&path, |dir, name| mkfifoat(dir, name, Mode::RUSR | Mode::WUSR))?;
                self.setter.set_at(self.fs.here(), name, &attributes, true, &path)
            }
            Kind::Device => {
                self.report.skipped_devices += 1;
                Ok(())
            }
        }
    }

    /// Counts what is kept until the end: an archive can name directories without end in few bytes, each of a
    /// name, a line of thousands of them.
    fn remember(&mut self, path: &[u8], attributes: usize) -> Result<(), Error> {
        const NODE: u64 = 128;
        self.remembered += NODE + path.len() as u64 + attributes as u64;
        if self.remembered > self.limits.memory {
            let what = "bytes of names and attributes of directories";
            return Err(Error::Limit { what, limit: self.limits.memory });
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), Error> {
        self.remember(path, attributes.weight())?;
        if let Some(directory) = self.directories.get_mut(path) {
            directory.attributes = attributes;
            return Ok(());
        }
        let ((), opaque) = self.place(path, |dir, name| mkdirat(dir, name, Mode::RWXU))?;
        self.directories.insert(path.to_vec(), Directory::new(attributes, opaque));
        Ok(())
    }

    fn file(&mut self, path: &[u8], entry: &Entry, attributes: &Attributes) -> Result<(), Error> {
        let (mode, complete) = self.setter.creation_mode(attributes);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, _) = self.place(path, |dir, name| openat(dir, name, flags, mode))?;
        match &entry.extents {
            None if entry.size == 0 => {}
            None => self.write(&file, path, Extent { offset: 0, length: entry.size })?,
            Some(extents) => {
                for extent in extents {
                    self.write(&file, path, *extent)?;
                }
                ftruncate(&file, entry.size).map_err(Error::entry("write", path))?;
                self.replaced.refuse(&file).map_err(Error::entry("read", path))?;
            }
        }
        self.report.size += entry.size;
        match complete {
            true => self.setter.set_time(&file, attributes, path),
            false => self.setter.set(&file, attributes, path),
        }
    }

    /// Writes one run of data, and notes it in the table.
    fn write(&mut self, file: &OwnedFd, path: &[u8], extent: Extent) -> Result<(), Error> {
        self.hasher.reset();
        let mut left = extent.length;
        while left > 0 {
            let data = self.entries.data()?;
            let now = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let written = pwrite(file, &data[..now], extent.offset + (extent.length - left));
            let written = written.map_err(Error::entry("write", path))?;
            self.hasher.update(&data[..written]);
            self.entries.consume(written)?;
            left -= written as u64;
        }
        let hash = self.hasher.digest128();
        self.entries.tee().data(path, extent.offset, extent.length, hash)
    }

    fn hard_link(&mut self, path: &[u8], link: &[u8]) -> Result<(), Error> {
        let target = plain_path(link, &self.limits)?;
        let (target_parent, target_name) = split(&target);
        let (parent, name) = split(path);
        let absent = || Error::refused(path, "its hard link's target is not a file of this layer");
        if target.is_empty() || target == path || self.whiteouts.contains_key(&target) {
            return Err(absent());
        }
        self.enter(parent)?;
        for attempt in 0.. {
            self.targets.go(target_parent).map_err(|_| absent())?;
            let here = self.fs.here();
            match linkat(self.targets.here(), target_name, here, name, AtFlags::empty()) {
                Ok(()) => break,
                Err(Errno::EXIST) if attempt == 0 => drop(self.displace(path)?),
                Err(Errno::NOENT | Errno::PERM) => return Err(absent()),
                Err(errno) => return Err(Error::entry("link", path)(errno)),
            }
        }
        Ok(())
    }

    /// Hides a name of the layers below.
    fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        if let Some(directory) = self.directories.get_mut(path) {
            directory.opaque = true;
            return Ok(());
        }
        let (parent, name) = split(path);
        self.remember(path, 0)?;
        self.enter(parent)?;
        let here = self.fs.here();
        let mut made = Err(Errno::PERM);
        if self.form == WhiteoutForm::Device {
            made = mknodat(here, name, FileType::CharacterDevice, Mode::empty(), 0);
            if matches!(made, Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL)) {
                self.form = WhiteoutForm::Attribute;
            }
        }
        if self.form == WhiteoutForm::Attribute {
            made = attribute_whiteout(here, name);
            if let Some(directory) = self.directories.get_mut(parent) {
                directory.marked = true;
            }
        }
        match made {
            Ok(()) => {
                self.whiteouts.insert(path.to_vec(), ());
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::entry("create a whiteout for", path)(errno)),
        }
    }

    /// Makes something at a path, in place of what is there. Also says whether that was a whiteout.
    fn place<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<(T, bool), Error> {
        let (parent, name) = split(path);
        self.enter(parent)?;
        match make(self.fs.here(), name) {
            Ok(made) => Ok((made, false)),
            Err(Errno::EXIST) => {
                let was_whiteout = self.displace(path)?;
                let made = make(self.fs.here(), name).map_err(Error::entry("create", path))?;
                Ok((made, was_whiteout))
            }
            Err(errno) => Err(Error::entry("create", path)(errno)),
        }
    }

    /// Goes to a directory, making what is missing of it.
    fn enter(&mut self, directory: &[u8]) -> Result<(), Error> {
        while let Err(stopped) = self.fs.go(directory) {
            let path = &directory[..stopped.end];
            let (_, name) = split(path);
            let opaque = match stopped.errno {
                Errno::NOENT => false,
                // In place of a whiteout of this layer.
                Errno::NOTDIR | Errno::LOOP if self.whiteouts.remove(path).is_some() => {
                    unlinkat(self.fs.here(), name, AtFlags::empty())
                        .map_err(Error::entry("replace", path))?;
                    true
                }
                Errno::NOTDIR | Errno::LOOP => {
                    return Err(Error::refused(
                        directory,
                        "a part of its path is a link or file, not a directory",
                    ));
                }
                errno => return Err(Error::entry("open", path)(errno)),
            };
            self.remember(path, 0)?;
            mkdirat(self.fs.here(), name, Mode::RWXU).map_err(Error::entry("create", path))?;
            self.directories.insert(path.to_vec(), Directory::new(Attributes::implicit(), opaque));
        }
        Ok(())
    }

    /// Takes away what is at a path in the current directory. Says whether it was a whiteout.
    fn displace(&mut self, path: &[u8]) -> Result<bool, Error> {
        let (_, name) = split(path);
        if self.whiteouts.remove(path).is_some() {
            unlinkat(self.fs.here(), name, AtFlags::empty()).map_err(Error::entry("replace", path))?;
            return Ok(true);
        }
        if self.directories.remove(path).is_some() {
            // '0' is the byte after '/': the range holds exactly what is below the path.
            remove_below(&mut self.directories, path);
            remove_below(&mut self.whiteouts, path);
            self.targets.forget();
        }
        self.replaced.take(self.fs.here(), name, path)?;
        Ok(false)
    }

    /// Finishes the directories, the deepest first: a parent may end without permission for its owner.
    fn finish(mut self) -> Result<Unpacked, Error> {
        for (path, directory) in self.directories.iter().rev() {
            self.fs.go(path).map_err(|stopped| Error::entry("open", path)(stopped.errno))?;
            let fd = self.fs.here();
            if directory.opaque || directory.marked {
                let value: &[u8] = if directory.opaque { b"y" } else { b"x" };
                fsetxattr(fd, "user.overlay.opaque", value, XattrFlags::empty())
                    .map_err(Error::entry("mark as opaque", path))?;
            }
            self.setter.set(fd, &directory.attributes, path)?;
        }
        self.report.entries = self.entries.count();
        self.report.skipped_xattrs = self.setter.skipped_xattrs;
        self.entries.into_parts().1.finish()?;
        Ok(self.report)
    }
}

/// Data that a later entry of the same archive overwrites. The archive can only be written again with it.
struct Replaced {
    layer: OwnedFd,
    folder: Option<OwnedFd>,
    /// Inodes of sparse files, whose data is in the table in runs.
    sparse: HashSet<u64>,
}

impl Replaced {
    /// Has a file refused when it is to be taken.
    fn refuse(&mut self, file: &OwnedFd) -> Result<(), Errno> {
        self.sparse.insert(rustix::fs::fstat(file)?.st_ino);
        Ok(())
    }

    /// Removes a name, with all that is below it; what has data is kept under its hash.
    fn take(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let failed = Error::entry("replace", path);
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return Err(failed(errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let child = match openat(dir, name, DIRECTORY, Mode::empty()) {
                    Ok(child) => child,
                    Err(errno) => return Err(failed(errno)),
                };
                for below in rustix::fs::Dir::read_from(&child).map_err(Error::entry("read", path))? {
                    let below = below.map_err(Error::entry("read", path))?;
                    let below = below.file_name().to_bytes();
                    if !matches!(below, b"." | b"..") {
                        self.take(child.as_fd(), below, path)?;
                    }
                }
                unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(failed)
            }
            FileType::RegularFile if self.sparse.contains(&stat.st_ino) => {
                Err(Error::refused(path, "it replaces a sparse file of the same layer"))
            }
            FileType::RegularFile if stat.st_size > 0 => self.keep(dir, name).map_err(failed),
            _ => unlinkat(dir, name, AtFlags::empty()).map_err(failed),
        }
    }

    fn keep(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(dir, name, flags, Mode::empty())?);
        let mut hasher = Xxh3::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
            }
        }
        let folder = match &mut self.folder {
            Some(folder) => folder,
            none => {
                mkdirat(&self.layer, REPLACED, Mode::RWXU)?;
                none.insert(openat(&self.layer, REPLACED, DIRECTORY, Mode::empty())?)
            }
        };
        rustix::fs::renameat(dir, name, folder.as_fd(), replaced_name(hasher.digest128()))
    }
}

fn attribute_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    fsetxattr(&file, "user.overlay.whiteout", b"y", XattrFlags::empty())
}

/// A name as a path below the root: one slash between components, none before and after, no `.`; empty for the root.
pub fn plain_path(name: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    if name.len() as u64 > limits.path {
        return Err(Error::Limit { what: "bytes in a path", limit: limits.path });
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Error::refused(name, "'..' is not allowed in names")),
            _ if !path.is_empty() => path.push(b'/'),
            _ => {}
        }
        path.extend_from_slice(component);
    }
    Ok(path)
}

/// A name in a directory.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// The paths below a path: '0' is the byte after '/'.
pub fn below(path: &[u8]) -> std::ops::Range<Vec<u8>> {
    [path, b"/"].concat()..[path, b"0"].concat()
}

/// Forgets what is below a path.
pub fn remove_below<T>(tree: &mut BTreeMap<Vec<u8>, T>, path: &[u8]) {
    let gone: Vec<_> = tree.range(below(path)).map(|(path, _)| path.clone()).collect();
    for path in gone {
        tree.remove(&path);
    }
}

/// What a name says as a whiteout.
#[derive(Debug, PartialEq)]
pub enum Whiteout<'a> {
    /// It is an ordinary name.
    No,
    /// The name that it hides.
    Of(&'a [u8]),
    /// Its directory hides everything.
    Opaque,
    /// A left-over of aufs.
    Obsolete,
    /// A whiteout of nothing, or used as a directory.
    Bad,
}

/// Reads a name as a whiteout.
pub fn whiteout<'a>(parent: &[u8], name: &'a [u8]) -> Whiteout<'a> {
    if parent.starts_with(b".wh.") || parent.windows(5).any(|part| part == b"/.wh.") {
        let aufs = parent.starts_with(b".wh..wh.") || parent.windows(9).any(|part| part == b"/.wh..wh.");
        return if aufs { Whiteout::Obsolete } else { Whiteout::Bad };
    }
    match name.strip_prefix(b".wh.") {
        None => Whiteout::No,
        Some(b".wh..opq") => Whiteout::Opaque,
        Some(b"" | b"." | b"..") => Whiteout::Bad,
        Some(hidden) if hidden.starts_with(b".wh.") => Whiteout::Obsolete,
        Some(hidden) => Whiteout::Of(hidden),
    }
}

#[cfg(test)]
mod tests;
