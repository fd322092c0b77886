//! Making a tree of files out of entries, below a directory.
//!
//! The entries may come from a container or a stranger's archive, and the directory may be in a container that changes
//! it meanwhile: every step is by one name in a held directory, and no link that is there is followed. Directories
//! get their modes, owners and times at the end, so that neither a mode nor a making is in the way.

use super::walk::{Sink, path_of};
use super::{Error, Ids};
use crate::layers::{Entry, Kind, OVERRIDE_STAT, Walker, split};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fsetxattr, ftruncate, futimens, linkat, mkdirat, mkfifoat, openat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Read and written at once; zeros of this size are left as a hole.
const CHUNK: usize = 128 << 10;

/// Whose the files are that are made.
#[derive(Clone, Debug)]
pub enum Owner {
    /// Theirs to whom the entries say, by these numbers.
    Kept(Ids),
    /// This user's and group's, in the numbers of the user's namespace.
    One(u32, u32),
}

/// How a tree is made.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// Whose the files are.
    pub owner: Owner,
    /// Owners are remembered in an attribute, since there is one id only.
    pub single_id: bool,
    /// Set-id bits and file capabilities are left out: for what leaves a container and loses its owner.
    pub plain_modes: bool,
    /// A file may take the place of a directory and the other way round.
    pub overwrite: bool,
}

/// A tree being made.
pub struct Tree {
    options: TreeOptions,
    /// Goes to where entries are made.
    at: Walker,
    /// Goes to the targets of hard links.
    targets: Walker,
    /// Directories and what they are to become, by path.
    directories: BTreeMap<Vec<u8>, Entry>,
    /// Bytes of files that were written.
    pub bytes: u64,
    /// Devices, which a user cannot make.
    pub skipped: u64,
}

impl Tree {
    /// Below `top`.
    pub fn new(top: OwnedFd, options: TreeOptions) -> Result<Self, Error> {
        let again = top.try_clone().map_err(Error::io("open", ""))?;
        Ok(Self {
            options,
            at: Walker::new(top),
            targets: Walker::new(again),
            directories: BTreeMap::new(),
            bytes: 0,
            skipped: 0,
        })
    }

    /// Dresses the directories, the deepest first: a parent may end without permission for us.
    pub fn finish(&mut self) -> Result<(), Error> {
        for (path, entry) in std::mem::take(&mut self.directories).into_iter().rev() {
            match self.at.go(&path) {
                Ok(()) => {
                    let fd = self.at.here();
                    // The top is held by its path alone, perhaps.
                    let opened =
                        openat(fd, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
                    self.dress(opened.map_err(io("open", &path))?.as_fd(), &entry)?;
                }
                // Moved or removed meanwhile.
                Err(stopped) if matches!(stopped.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(stopped) => return Err(io("open", &path)(stopped.errno)),
            }
        }
        Ok(())
    }

    /// Goes to a directory, making what is missing of it.
    fn enter(&mut self, directory: &[u8]) -> Result<(), Error> {
        while let Err(stopped) = self.at.go(directory) {
            let path = &directory[..stopped.end];
            let (_, name) = split(path);
            match stopped.errno {
                Errno::NOENT => {}
                Errno::NOTDIR | Errno::LOOP => self.displace(path, true)?,
                errno => return Err(io("open", path)(errno)),
            }
            match mkdirat(self.at.here(), name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(io("make the directory", path)(e)),
            }
            // On the way to an entry, without one of its own.
            self.directories.insert(path.to_vec(), Entry::folder(path.to_vec()));
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry) -> Result<(), Error> {
        // The top is somebody's already, and stays as it is.
        if entry.path.is_empty() {
            return Ok(());
        }
        let (parent, name) = split(&entry.path);
        self.enter(parent)?;
        match mkdirat(self.at.here(), name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = statat(self.at.here(), name, AtFlags::SYMLINK_NOFOLLOW);
                let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
                if kind != Ok(FileType::Directory) {
                    self.displace(&entry.path, true)?;
                    mkdirat(self.at.here(), name, Mode::RWXU)
                        .map_err(io("make the directory", &entry.path))?;
                }
            }
            Err(e) => return Err(io("make the directory", &entry.path)(e)),
        }
        self.directories.insert(entry.path.clone(), entry.clone());
        Ok(())
    }

    fn file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let new = flags | OFlags::CREATE | OFlags::EXCL;
        let make = |dir: BorrowedFd<'_>, name: &[u8]| openat(dir, name, new, Mode::RUSR | Mode::WUSR);
        let (file, is_new) = match self.place(&entry.path, make) {
            Ok(file) => (file, true),
            // Something is mounted on it, as on /etc/hosts: it gets the content, and stays what it is.
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(nix::libc::EBUSY) => {
                let (_, name) = split(&entry.path);
                let file = openat(self.at.here(), name, flags, Mode::empty());
                let file = file.map_err(io("write", &entry.path))?;
                let stat = rustix::fs::fstat(&file).map_err(io("write", &entry.path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Error::refused(
                        path_of(&entry.path),
                        "something else than a file is mounted there",
                    ));
                }
                ftruncate(&file, 0).map_err(io("write", &entry.path))?;
                (file, false)
            }
            Err(error) => return Err(error),
        };
        let mut file = File::from(file);
        let written = write(content, &mut file).map_err(Error::io("write", path_of(&entry.path)));
        let done = written.and_then(|bytes| {
            self.bytes += bytes;
            if is_new { self.dress(file.as_fd(), entry) } else { Ok(()) }
        });
        if done.is_err() && is_new {
            // Half a file is worse than none.
            let (_, name) = split(&entry.path);
            let _ = unlinkat(self.at.here(), name, AtFlags::empty());
        }
        done
    }

    fn hard_link(&mut self, entry: &Entry) -> Result<(), Error> {
        let (parent, name) = split(&entry.link);
        let absent = || Error::refused(path_of(&entry.path), "its hard link's target is not there");
        if name.is_empty() || entry.link == entry.path {
            return Err(absent());
        }
        self.targets.forget();
        self.targets.go(parent).map_err(|_| absent())?;
        let target = self.targets.here().try_clone_to_owned().map_err(Error::io("open", path_of(parent)))?;
        match self.place(&entry.path, |dir, to| linkat(&target, name, dir, to, AtFlags::empty())) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(absent()),
            other => other,
        }
    }

    /// Makes something at a path, in place of what is there.
    fn place<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(Error::refused("/", "only a directory can be the top"));
        }
        self.enter(parent)?;
        match make(self.at.here(), name) {
            Err(Errno::EXIST) => {
                self.displace(path, false)?;
                make(self.at.here(), name).map_err(io("make", path))
            }
            made => made.map_err(io("make", path)),
        }
    }

    /// Takes away what is at a path in the current directory, for a directory or for something else.
    fn displace(&mut self, path: &[u8], for_directory: bool) -> Result<(), Error> {
        let (_, name) = split(path);
        let refuse =
            |why| Error::Refused { path: path_of(path), why, fix: Some("use --overwrite to replace it") };
        let stat = match statat(self.at.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(io("replace", path)(e)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if !self.options.overwrite {
                return Err(refuse("cannot overwrite a directory with something else"));
            }
            self.targets.forget();
            return remove_below(self.at.here(), name).map_err(io("replace", path));
        }
        if for_directory && !self.options.overwrite {
            return Err(refuse("cannot overwrite something else with a directory"));
        }
        unlinkat(self.at.here(), name, AtFlags::empty()).map_err(io("replace", path))
    }

    /// Gives an open file its owner, mode, attributes and times, in this order: chown(2) clears set-id bits and file
    /// capabilities, and everything changes the times.
    fn dress(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Error> {
        let failed = |e: Errno| io("dress", &entry.path)(e);
        let (uid, gid) = self.owner(entry)?;
        if self.options.single_id {
            if (uid, gid) != (0, 0) {
                let value = format!("{uid}:{gid}:0{:o}", entry.mode);
                fsetxattr(fd, OVERRIDE_STAT, value.as_bytes(), XattrFlags::empty()).map_err(failed)?;
            }
        } else {
            fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        }
        for (name, value) in &entry.xattrs {
            if self.options.plain_modes && name.starts_with(b"security.") {
                continue;
            }
            match fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
                // The file system has none of this kind, or the namespace none of its ids.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        fchmod(fd, self.mode(entry)).map_err(failed)?;
        futimens(fd, &times(entry)).map_err(failed)
    }

    /// The same for what cannot be opened. Only names that were just made are touched.
    fn dress_at(&self, entry: &Entry, with_mode: bool) -> Result<(), Error> {
        let failed = |e: Errno| io("dress", &entry.path)(e);
        let (_, name) = split(&entry.path);
        let (uid, gid) = self.owner(entry)?;
        if !self.options.single_id {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(self.at.here(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        if with_mode {
            chmodat(self.at.here(), name, self.mode(entry), AtFlags::empty()).map_err(failed)?;
        }
        utimensat(self.at.here(), name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    fn owner(&self, entry: &Entry) -> Result<(u32, u32), Error> {
        match &self.options.owner {
            Owner::One(uid, gid) => Ok((*uid, *gid)),
            Owner::Kept(_) if self.options.single_id => Ok((entry.uid, entry.gid)),
            Owner::Kept(ids) => ids.outside(entry.uid, entry.gid).ok_or_else(|| Error::Refused {
                path: path_of(&entry.path),
                why: "its owner has no id in the container",
                fix: Some("leave out -a, or ask the administrator for more subordinate ids"),
            }),
        }
    }

    fn mode(&self, entry: &Entry) -> Mode {
        Mode::from_raw_mode(if self.options.plain_modes { entry.mode & 0o1777 } else { entry.mode })
    }
}

impl Sink for Tree {
    fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        match entry.kind {
            Kind::Directory => self.directory(entry),
            Kind::File => self.file(entry, content),
            Kind::HardLink => self.hard_link(entry),
            Kind::Symlink => {
                self.place(&entry.path, |dir, name| symlinkat(&entry.link, dir, name))?;
                self.dress_at(entry, false)
            }
            Kind::Fifo => {
                self.place(&entry.path, |dir, name| mkfifoat(dir, name, Mode::RUSR | Mode::WUSR))?;
                self.dress_at(entry, true)
            }
            Kind::Device => {
                self.skipped += 1;
                Ok(())
            }
        }
    }
}

fn io(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
    let path = path_of(path);
    move |errno| Error::io(action, path)(errno)
}

/// Copies to the end; runs of zeros become holes.
fn write(from: &mut dyn Read, to: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let mut filled = 0;
        while filled < CHUNK {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let chunk = &buffer[..filled];
        total += filled as u64;
        if filled == CHUNK && chunk.iter().all(|&byte| byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(filled).unwrap_or(0)))?;
        } else {
            to.write_all(chunk)?;
        }
        if filled < CHUNK {
            break;
        }
    }
    // A hole at the end was only sought over.
    if to.metadata()?.len() < total {
        to.set_len(total)?;
    }
    Ok(total)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a directory and what is in it, following no link.
fn remove_below(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(dir, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let inner = entry.file_name();
        if inner == c"." || inner == c".." {
            continue;
        }
        match unlinkat(&folder, inner, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => remove_below(folder.as_fd(), inner.to_bytes())?,
            Err(e) => return Err(e),
        }
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn options(overwrite: bool) -> TreeOptions {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        TreeOptions { owner: Owner::One(uid, gid), single_id: false, plain_modes: false, overwrite }
    }

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    fn entry(kind: Kind, path: &str, link: &str) -> Entry {
        Entry { kind, link: link.into(), mode: 0o777, ..Entry::folder(path.as_bytes().to_vec()) }
    }

    #[test]
    fn entries_become_files_and_directories_are_dressed_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(open(dir.path()), options(false)).unwrap();
        let closed = Entry { mode: 0o500, mtime: (1_000_000, 5), ..entry(Kind::Directory, "a", "") };
        let tool = Entry { mode: 0o4755, mtime: (-1, 7), ..entry(Kind::File, "a/tool", "") };
        tree.put(&closed, &mut io::empty()).unwrap();
        tree.put(&tool, &mut &b"content"[..]).unwrap();
        tree.put(&entry(Kind::HardLink, "a/again", "a/tool"), &mut io::empty()).unwrap();
        tree.put(&entry(Kind::Symlink, "made/on/the/way", "/etc"), &mut io::empty()).unwrap();
        tree.put(&entry(Kind::Fifo, "a/fifo", ""), &mut io::empty()).unwrap();
        tree.put(&entry(Kind::Device, "a/device", ""), &mut io::empty()).unwrap();
        tree.finish().unwrap();
        assert_eq!((tree.bytes, tree.skipped), (7, 1));
        let meta = |path: &str| fs::symlink_metadata(dir.path().join(path)).unwrap();
        assert_eq!((meta("a").mode() & 0o7777, meta("a").mtime()), (0o500, 1_000_000));
        assert_eq!((meta("a/tool").mode() & 0o7777, meta("a/tool").mtime()), (0o4755, -1));
        assert_eq!((meta("a/tool").ino(), meta("a/tool").nlink()), (meta("a/again").ino(), 2));
        assert_eq!(fs::read_link(dir.path().join("made/on/the/way")).unwrap(), Path::new("/etc"));
        assert!(!dir.path().join("a/device").exists());
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn runs_of_zeros_become_holes_and_the_length_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(open(dir.path()), options(false)).unwrap();
        let content = [vec![1; CHUNK], vec![0; 20 * CHUNK]].concat();
        tree.put(&entry(Kind::File, "f", ""), &mut &content[..]).unwrap();
        let meta = fs::metadata(dir.path().join("f")).unwrap();
        assert_eq!(meta.len(), content.len() as u64);
        assert!(meta.blocks() * 512 < 4 * CHUNK as u64, "{} blocks", meta.blocks());
        assert!(fs::read(dir.path().join("f")).unwrap() == content);
    }

    #[test]
    fn a_file_that_cannot_be_read_to_its_end_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(open(dir.path()), options(false)).unwrap();
        assert!(tree.put(&entry(Kind::File, "f", ""), &mut Broken).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_kind_takes_the_place_of_another_only_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("dir/below")).unwrap();
        fs::write(dir.path().join("file"), "old").unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        let put = |kind, path, overwrite| {
            let mut tree = Tree::new(open(dir.path()), options(overwrite)).unwrap();
            tree.put(&entry(kind, path, ""), &mut io::empty()).and_then(|()| tree.finish())
        };
        for (kind, path) in [(Kind::File, "dir"), (Kind::Directory, "file"), (Kind::Directory, "link")] {
            assert!(put(kind, path, false).is_err(), "{path}");
        }
        assert!(put(Kind::File, "link/x", false).is_err() && !Path::new("/etc/x").exists());
        for (kind, path) in [(Kind::File, "dir"), (Kind::Directory, "file"), (Kind::Directory, "link")] {
            put(kind, path, true).unwrap();
        }
        let is_dir = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap().is_dir();
        assert!(!is_dir("dir") && is_dir("file") && is_dir("link"));
    }

    #[test]
    fn a_racing_swap_for_a_link_makes_and_changes_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("d")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(&outside, top.join("spare")).unwrap();
        let stop = AtomicBool::new(false);
        let (mut good, mut bad) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let fd = open(&top);
                while !stop.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let _ = rustix::fs::renameat_with(&fd, "d", &fd, "spare", flags);
                }
            });
            for _ in 0..2000 {
                let mut tree = Tree::new(open(&top), options(false)).unwrap();
                let mut put = |entry: &Entry| tree.put(entry, &mut &b"forged"[..]);
                let done = put(&entry(Kind::Directory, "d", ""))
                    .and_then(|()| put(&entry(Kind::Directory, "d/e", "")))
                    .and_then(|()| put(&entry(Kind::File, "d/e/f", "")))
                    .and_then(|()| put(&entry(Kind::Symlink, "d/l", "x")))
                    .and_then(|()| put(&entry(Kind::HardLink, "d/h", "d/e/f")))
                    .and_then(|()| tree.finish());
                if done.is_ok() { good += 1 } else { bad += 1 }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o755);
        assert!(good > 0 && bad > 0, "{good} {bad}: it was no race");
    }
}
