//! The merged tree, folder by folder.
//!
//! What a union mount of the layers would show is made anew once (Documentation/filesystems/overlayfs.rst): of each
//! name the highest layer's counts; folders of several layers meet, until a layer has something else of that name,
//! hides it by a whiteout, or says that its folder is opaque.
//!
//! Folders are worked off a stack, each in full: all that is in it is made, then it gets its owner, mode and times, which
//! nothing made below its subfolders changes any more. Everything is done on descriptors ([`Walker`]), links are never followed, names are bytes.

use super::super::unpack::{join, make_root};
use super::super::walker::{Walker, split};
use super::super::{Error, path_of};
use super::Form;
use super::attributes::copy_xattrs;
use crate::union::{METACOPY, REDIRECT};
use crate::userns::IdMap;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, copy_file_range, fchmod, fchown, fgetxattr, fgetxattr_query, fremovexattr, fsetxattr,
    fstat, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat, readlinkat, seek, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder to be made, and the layers that may have a part in it, the highest first.
struct Folder {
    path: Vec<u8>,
    layers: Vec<usize>,
    /// One of the layers hides what is below of that name.
    hides: bool,
}

/// What has been seen of a name.
struct Seen {
    /// The layers whose folders of that name meet; none if it is no folder.
    layers: Vec<usize>,
    /// Whether a lower layer may add its own.
    open: bool,
}

/// Merges `layers`, the highest first, below `place`. Says which of them have content that the tree's files refer to.
pub fn merge(
    layers: &[PathBuf],
    place: &Path,
    form: Form,
    uids: &IdMap,
    gids: &IdMap,
) -> Result<Vec<bool>, Error> {
    let open = |path: &Path| openat(CWD, path, FOLDER, Mode::empty()).map_err(Error::io("open", path));
    let walkers = layers.len() + 2;
    let mut sources = Vec::with_capacity(layers.len());
    for layer in layers {
        sources.push(Walker::new(open(layer)?).one_of(walkers));
    }
    let root = make_root(&open(place)?).map_err(Error::io("create", place))?;
    let root_again = root.try_clone().map_err(Error::io("open", place))?;
    let mut tree = Tree {
        here: Walker::new(root).one_of(walkers),
        links_from: Walker::new(root_again).one_of(walkers),
        form,
        uids,
        gids,
        links: HashMap::new(),
        used: vec![false; layers.len()],
    };
    let mut pending = vec![Folder { path: Vec::new(), layers: (0..layers.len()).collect(), hides: false }];
    while let Some(folder) = pending.pop() {
        merge_folder(&mut sources, &mut tree, &folder, &mut pending)?;
    }
    Ok(tree.used)
}

fn merge_folder(
    sources: &mut [Walker],
    tree: &mut Tree<'_>,
    folder: &Folder,
    pending: &mut Vec<Folder>,
) -> Result<(), Error> {
    let path = &folder.path;
    let failed = |errno| Error::entry("read", path)(errno);
    tree.here.go(path).map_err(|stopped| Error::entry("open", path)(stopped.errno))?;
    let mut names: HashMap<Vec<u8>, Seen> = HashMap::new();
    let mut hides = folder.hides;
    for &layer in &folder.layers {
        let source = &mut sources[layer];
        source.go(path).map_err(|stopped| failed(stopped.errno))?;
        let source = source.here();
        let mark = mark(source).map_err(failed)?;
        for entry in Dir::read_from(source).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match names.get_mut(name.to_bytes()) {
                None => {
                    let is_folder = tree.make(source, layer, mark, name, path)?;
                    let layers = if is_folder { vec![layer] } else { Vec::new() };
                    names.insert(name.to_bytes().to_vec(), Seen { layers, open: is_folder });
                }
                Some(seen) if seen.open => {
                    seen.open = is_folder(source, name, entry.file_type()).map_err(failed)?;
                    if seen.open {
                        seen.layers.push(layer);
                    }
                }
                Some(_) => {}
            }
        }
        if mark == Mark::Opaque {
            hides = true;
            break;
        }
    }
    let folders = names.into_iter().filter(|(_, seen)| !seen.layers.is_empty());
    pending.extend(folders.map(|(name, seen)| Folder {
        path: join(path, &name),
        layers: seen.layers,
        hides: !seen.open,
    }));
    if tree.form == Form::Layer && hides && !path.is_empty() {
        fsetxattr(tree.here.here(), "user.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(Error::entry("mark as opaque", path))?;
    }
    match folder.layers.first() {
        Some(&top) => {
            let top = sources[top].here();
            tree.dress(top, &fstat(top).map_err(failed)?, tree.here.here(), path)
        }
        None => fchmod(tree.here.here(), Mode::from_raw_mode(0o755)).map_err(failed),
    }
}

/// What a layer says about one of its folders.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    /// It hides those of lower layers.
    Opaque,
    /// Files in it may be whiteouts.
    Whiteouts,
}

fn mark(folder: BorrowedFd<'_>) -> Result<Mark, Errno> {
    let mut value = [0; 1];
    match fgetxattr(folder, "user.overlay.opaque", &mut value) {
        Ok(1) if value == *b"y" => Ok(Mark::Opaque),
        Ok(1) if value == *b"x" => Ok(Mark::Whiteouts),
        Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(Mark::None),
        Err(errno) => Err(errno),
    }
}

fn is_folder(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    let kind = match kind {
        FileType::Unknown => {
            FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
        }
        kind => kind,
    };
    Ok(kind == FileType::Directory)
}

/// The tree in the making.
struct Tree<'a> {
    /// Where things are made.
    here: Walker,
    /// Where the first names of files with several links are.
    links_from: Walker,
    form: Form,
    uids: &'a IdMap,
    gids: &'a IdMap,
    /// The first name of each such file, by its layer and inode.
    links: HashMap<(usize, u64), Vec<u8>>,
    /// Which layers' content is referred to.
    used: Vec<bool>,
}

impl Tree<'_> {
    /// Makes what `layer` has of a name that no higher layer has. Says whether it is a folder, which is left empty.
    fn make(
        &mut self,
        from: BorrowedFd<'_>,
        layer: usize,
        mark: Mark,
        name: &CStr,
        folder: &[u8],
    ) -> Result<bool, Error> {
        let path = join(folder, name.to_bytes());
        let path = path.as_slice();
        let failed = |errno| Error::entry("show", path)(errno);
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(self.here.here(), name, Mode::RWXU).map_err(failed)?;
            return Ok(true);
        }
        // A layer has no devices but whiteouts: no user namespace may make others.
        if kind == FileType::CharacterDevice && self.form == Form::Layer {
            self.whiteout(name, path)?;
            return Ok(false);
        }
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
            || self.link(layer, &stat, name, path)?
        {
            return Ok(false);
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let source = openat(from, name, flags, Mode::empty()).map_err(failed)?;
                let may_hide = mark != Mark::None && stat.st_size == 0;
                if may_hide && fgetxattr_query(&source, "user.overlay.whiteout").is_ok() {
                    if self.form == Form::Layer {
                        self.whiteout(name, path)?;
                    }
                    return Ok(false);
                }
                self.file(&source, &stat, layer, name, path)?;
            }
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(failed)?;
                symlinkat(&target, self.here.here(), name).map_err(failed)?;
                self.dress_at(&stat, name, path)?;
            }
            // A pipe or a socket.
            kind => {
                mknodat(self.here.here(), name, kind, Mode::RUSR | Mode::WUSR, 0).map_err(failed)?;
                self.dress_at(&stat, name, path)?;
                chmodat(self.here.here(), name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())
                    .map_err(failed)?;
            }
        }
        Ok(false)
    }

    /// What the layers hide stays hidden in what lies below the tree.
    fn whiteout(&self, name: &CStr, path: &[u8]) -> Result<(), Error> {
        mknodat(self.here.here(), name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(Error::entry("create a whiteout for", path))
    }

    /// Makes `path` one more link to its file, if that has a name in the tree already; else notes it as the first.
    fn link(&mut self, layer: usize, stat: &Stat, name: &CStr, path: &[u8]) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.links.get(&(layer, stat.st_ino)) else {
            self.links.insert((layer, stat.st_ino), path.to_vec());
            return Ok(false);
        };
        let (folder, first) = split(first);
        self.links_from.go(folder).map_err(|stopped| Error::entry("link", path)(stopped.errno))?;
        linkat(self.links_from.here(), first, self.here.here(), name, AtFlags::empty())
            .map_err(Error::entry("link", path))?;
        Ok(true)
    }

    fn file(
        &mut self,
        source: &OwnedFd,
        stat: &Stat,
        layer: usize,
        name: &CStr,
        path: &[u8],
    ) -> Result<(), Error> {
        let failed = |errno| Error::entry("show", path)(errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.here.here(), name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let size = stat.st_size.cast_unsigned();
        let refers = size > 0 && self.form == Form::Metadata && refer(&file, path).map_err(failed)?;
        if refers {
            ftruncate(&file, size).map_err(failed)?;
            self.used[layer] = true;
        } else if size > 0 {
            copy(source, &file, size).map_err(failed)?;
        }
        self.dress(source.as_fd(), stat, file.as_fd(), path)
    }

    /// Gives `to` owner, mode, times (all in `stat`) and extended attributes of `from`. In this order: a change of owner clears set-id
    /// bits and file capabilities, and every change touches the times.
    fn dress(&self, from: BorrowedFd<'_>, stat: &Stat, to: BorrowedFd<'_>, path: &[u8]) -> Result<(), Error> {
        let (uid, gid) = self.owner(stat, path)?;
        fchown(to, Some(uid), Some(gid)).map_err(Error::entry("set the owner of", path))?;
        copy_xattrs(from, to, self.uids, self.gids)
            .map_err(Error::entry("set an extended attribute of", path))?;
        fchmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(Error::entry("set the mode of", path))?;
        futimens(to, &times(stat)).map_err(Error::entry("set the time of", path))
    }

    /// The same for what cannot be opened: it has neither extended attributes nor, being a link, a mode.
    fn dress_at(&self, stat: &Stat, name: &CStr, path: &[u8]) -> Result<(), Error> {
        let (uid, gid) = self.owner(stat, path)?;
        let (folder, nofollow) = (self.here.here(), AtFlags::SYMLINK_NOFOLLOW);
        chownat(folder, name, Some(uid), Some(gid), nofollow)
            .map_err(Error::entry("set the owner of", path))?;
        utimensat(folder, name, &times(stat), nofollow).map_err(Error::entry("set the time of", path))
    }

    fn owner(&self, stat: &Stat, path: &[u8]) -> Result<(Uid, Gid), Error> {
        let shift = |map: &IdMap, what, id| {
            map.outside(id).ok_or_else(|| Error::Unmapped { what, id, path: path_of(path) })
        };
        let uid = shift(self.uids, "uid", stat.st_uid)?;
        Ok((Uid::from_raw(uid), Gid::from_raw(shift(self.gids, "gid", stat.st_gid)?)))
    }
}

/// Marks a file as one whose content is at `path` in the data-only layers. `false`, and nothing changed, if the file
/// system has no room for that: ext4 gives a file's attributes one block at most.
fn refer(file: &OwnedFd, path: &[u8]) -> Result<bool, Errno> {
    let redirect = [b"/", path].concat();
    fsetxattr(file, METACOPY, b"", XattrFlags::empty())?;
    match fsetxattr(file, REDIRECT, &redirect, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {
            fremovexattr(file, METACOPY)?;
            Ok(false)
        }
        Err(errno) => Err(errno),
    }
}

/// The same blocks for both files where the file system can, else a copy made in the kernel, with the holes left out.
fn copy(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut end = 0;
    while end < size {
        let start = match seek(from, SeekFrom::Data(end)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end)?;
    }
    ftruncate(to, size)
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let left = usize::try_from(end - read).unwrap_or(usize::MAX);
        if copy_file_range(from, Some(&mut read), to, Some(&mut written), left)? == 0 {
            // It was cut off meanwhile, which nobody but its owner can do.
            return Err(Errno::IO);
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    // The kernel's own nanoseconds are below a thousand million.
    let time =
        Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or_default() };
    Timestamps { last_access: time, last_modification: time }
}
