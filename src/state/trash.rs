//! Deleting in two steps: out of sight by one rename, then gone.

use super::{Error, Paths, create_dir_private};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::CStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Moves `path`, somewhere in the data root, into the trash: it is gone from its room when this returns.
/// `Ok(false)` if it was not there. Its contents go with [`empty_trash`]. Needs no free disk space.
pub fn trash(paths: &Paths, path: &Path) -> Result<bool, Error> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let folder = paths.trash();
    create_dir_private(&folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let target = folder.join(format!("{name}.{}.{serial}", std::process::id()));
        // rename(2) replaces an empty folder, which is as good as a fresh name; anything else is taken.
        match fs::rename(path, &target) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
            Err(e) => return Err(Error::io("remove", path)(e)),
        }
    }
}

/// Deletes what is in the trash. Entries that another process deletes at the same time are no error. Entries
/// may be owned by subordinate ids: the caller is root in the user's own namespace.
pub fn empty_trash(paths: &Paths) -> Result<(), Error> {
    let folder = paths.trash();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", &folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("read", &folder))?;
        remove_tree(&entry.path())?;
    }
    Ok(())
}

/// Deletes a file or a folder with all that is in it, never following a symbolic link, on descriptors, and
/// also where a folder's mode forbids it to its owner. What is not there is no error.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let dir =
        match rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::io("remove", path)(e.into())),
        };
    let name = path.file_name().unwrap_or_default();
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))
        .map_err(|e| Error::io("remove", path)(e.into()))?;
    remove_at(dir.as_fd(), &name, FileType::Unknown).map_err(|e| Error::io("remove", path)(e.into()))
}

/// Bytes of the files below a folder, as far as the caller may look; links are not followed.
pub fn tree_size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => tree_size(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}

fn remove_at(dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let child = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(dir, name, flags, Mode::empty())?
        }
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut writable = false;
    for entry in Dir::read_from(&child)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type());
        if name == c"." || name == c".." {
            continue;
        }
        match remove_at(child.as_fd(), name, kind) {
            Err(Errno::ACCESS) if !writable => {
                rustix::fs::fchmod(&child, Mode::RWXU)?;
                writable = true;
                remove_at(child.as_fd(), name, kind)?;
            }
            other => other?,
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn paths(dir: &Path) -> Paths {
        let paths = Paths::discover(Some(&dir.join("data")), Some(&dir.join("run"))).unwrap();
        paths.prepare().unwrap();
        paths
    }

    #[test]
    fn what_is_trashed_is_gone_at_once_and_emptied_later() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        for _ in 0..3 {
            let victim = paths.data().join("victim");
            fs::create_dir_all(victim.join("a/b")).unwrap();
            fs::write(victim.join("a/b/f"), "x").unwrap();
            assert!(trash(&paths, &victim).unwrap());
            assert!(!victim.exists());
            assert!(!trash(&paths, &victim).unwrap());
        }
        assert_eq!(fs::read_dir(paths.trash()).unwrap().count(), 3);
        empty_trash(&paths).unwrap();
        assert_eq!(fs::read_dir(paths.trash()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("keep");
        fs::create_dir(&keep).unwrap();
        fs::write(keep.join("precious"), "x").unwrap();
        let victim = dir.path().join("victim");
        fs::create_dir(&victim).unwrap();
        symlink(&keep, victim.join("link")).unwrap();
        remove_tree(&victim).unwrap();
        assert!(!victim.exists() && keep.join("precious").exists());
        symlink(&keep, dir.path().join("link")).unwrap();
        remove_tree(&dir.path().join("link")).unwrap();
        assert!(keep.join("precious").exists());
    }

    #[test]
    fn folders_without_permissions_are_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::create_dir_all(victim.join("a")).unwrap();
        fs::write(victim.join("a/f"), "x").unwrap();
        fs::set_permissions(victim.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&victim).unwrap();
        assert!(!victim.exists());
    }
}
