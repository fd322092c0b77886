//! Deleting in two steps: out of sight by one rename, then gone.

use super::{Error, Paths, create_dir_private};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Moves `path`, somewhere in the data root, into the trash: it is gone from its room when this returns.
/// `Ok(false)` if it was not there. Its contents go with [`empty_trash`]. Needs no free disk space.
pub fn trash(paths: &Paths, path: &Path) -> Result<bool, Error> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default();
    let Some(from) = open_room(paths, path.parent().unwrap_or(path))? else { return Ok(false) };
    create_dir_private(&paths.trash())?;
    let Some(to) = open_room(paths, &paths.trash())? else { return Ok(false) };
    loop {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let target = format!("{}.{}.{serial}", name.to_string_lossy(), std::process::id());
        // rename(2) replaces an empty folder, which is as good as a fresh name; anything else is taken.
        match rustix::fs::renameat(&from, name, &to, target) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(Error::io("remove", path)(e.into())),
        }
    }
}

/// Opens a folder of the data root; `None` if it is not there. Behind a link there are files that are not ours, whatever
/// they are called: nothing is deleted there.
fn open_room(paths: &Paths, folder: &Path) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |e: Errno| Error::io("open", folder)(e.into());
    let mut room = match rustix::fs::open(paths.data(), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(failed)?,
    };
    let below = folder.strip_prefix(paths.data()).map_err(|_| failed(Errno::XDEV))?;
    for part in below {
        room = match rustix::fs::openat(&room, part, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let why = format!("{} is a link or no folder, and nothing is deleted there", part.display());
                return Err(Error::Root { what: "data", path: paths.data().to_owned(), why });
            }
            other => other.map_err(failed)?,
        };
    }
    Ok(Some(room))
}

/// Deletes what is in the trash. Entries that another process deletes at the same time are no error. Entries
/// may be owned by subordinate ids: the caller is root in the user's own namespace.
pub fn empty_trash(paths: &Paths) -> Result<(), Error> {
    let path = paths.trash();
    let Some(folder) = open_room(paths, &path)? else { return Ok(()) };
    let failed = |e: Errno| Error::io("read", &path)(e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, c".", flags, Mode::empty()).map_err(failed)?;
    for entry in Dir::read_from(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            remove_at(folder.as_fd(), name, entry.file_type(), None)
                .map_err(|e| Error::io("remove", &path.join(name.to_string_lossy().as_ref()))(e.into()))?;
        }
    }
    Ok(())
}

/// Deletes a file or a folder with all that is in it, never following a symbolic link, on descriptors, and
/// also where a folder's mode forbids it to its owner. A tree of any depth takes a bounded number of descriptors. What is
/// not there is no error.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(parent, folder, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(Error::io("remove", path)(e.into())),
    };
    let name = path.file_name().unwrap_or_default();
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))
        .map_err(|e| Error::io("remove", path)(e.into()))?;
    remove_at(dir.as_fd(), &name, FileType::Unknown, None).map_err(|e| Error::io("remove", path)(e.into()))
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

/// How many folders are open at once. What lies deeper is first moved up to the top of what is being deleted: a
/// container can make a tree of any depth, deeper than there may be open files or any path can name.
const MAX_DEPTH: u32 = 32;

/// Where in the tree a folder is.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: BorrowedFd<'a>,
    top: BorrowedFd<'a>,
    depth: u32,
}

fn remove_at(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    above: Option<Place<'_>>,
) -> Result<(), Errno> {
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
    if let Some(above) = above.filter(|above| above.depth == MAX_DEPTH) {
        return move_up(dir, name, above.top);
    }
    let child = match open_folder(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let place = match above {
        Some(above) => Place { dir: child.as_fd(), depth: above.depth + 1, ..above },
        None => Place { dir: child.as_fd(), top: child.as_fd(), depth: 0 },
    };
    loop {
        let removed = empty_folder(place)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Something was moved up, or a file system leaves out entries while others are removed.
            Err(Errno::NOTEMPTY | Errno::EXIST) if removed => {}
            Err(e) => return Err(e),
        }
    }
}

/// Opens a folder to be emptied, and gives its owner the rights to do so. A link in its place is refused: what is
/// changed is what the descriptor holds.
fn open_folder(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(dir, name, folder | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let held = rustix::fs::openat(dir, name, folder | OFlags::PATH, Mode::empty())?;
            // fchmod(2) takes no O_PATH descriptor.
            rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)?;
            rustix::fs::openat(held, c".", folder | OFlags::RDONLY, Mode::empty())?
        }
        other => other?,
    };
    // Before it is missed: an error from far below must not be tried again at every level above.
    if rustix::fs::fstat(&opened)?.st_mode & 0o700 != 0o700 {
        let _ = rustix::fs::fchmod(&opened, Mode::RWXU);
    }
    Ok(opened)
}

/// Removes what is in a folder; whether there was anything.
fn empty_folder(place: Place<'_>) -> Result<bool, Errno> {
    let mut removed = false;
    for entry in Dir::read_from(place.dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            remove_at(place.dir, name, entry.file_type(), Some(place))?;
            removed = true;
        }
    }
    Ok(removed)
}

/// Moves a folder to the top of the tree, under a name that is free there.
fn move_up(dir: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>) -> Result<(), Errno> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    // It must be writable itself, since its `..` changes.
    match open_folder(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        opened => drop(opened?),
    }
    loop {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let target = format!(".deep.{}.{serial}", std::process::id());
        match rustix::fs::renameat(dir, name, top, target.as_str()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Taken.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(e) => return Err(e),
        }
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

    /// A chain of folders, each in the one before it, with a file in every hundredth. Made from the inside, since no path
    /// is as long.
    fn dig(at: &Path, depth: u32, mode: u32) {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        fs::create_dir_all(at).unwrap();
        let mut here = rustix::fs::open(at, flags, Mode::empty()).unwrap();
        for level in 0..depth {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            if level.is_multiple_of(100) {
                let file = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&here, "file", file, Mode::RWXU).unwrap();
            }
            let next = rustix::fs::openat(&here, "d", flags, Mode::empty()).unwrap();
            rustix::fs::chmod(format!("/proc/self/fd/{}", here.as_raw_fd()), Mode::from_raw_mode(mode))
                .unwrap();
            here = next;
        }
    }

    #[test]
    fn a_tree_deeper_than_there_may_be_open_files_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        // What is moved up goes under names that others may have.
        let taken = format!(".deep.{}.", std::process::id());
        for (mode, depth) in [(0o755, 3000), (0o555, 100), (0o000, 100)] {
            dig(&victim.join("a/b/c"), 50, 0o755);
            dig(&victim.join("deep"), depth, mode);
            for serial in 0..10 {
                fs::create_dir_all(victim.join(format!("{taken}{serial}/x"))).unwrap();
            }
            remove_tree(&victim).unwrap();
            assert!(fs::symlink_metadata(&victim).is_err(), "{mode:o}");
        }
    }

    #[test]
    fn only_so_many_folders_are_open_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        dig(&victim, 1500, 0o755);
        // In a child, since the limit is the process's: this test's own binary, told where the victim is.
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 100; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "state::trash::tests::removes_what_it_is_told", "--nocapture"])
            .env("CORACLE_TEST_VICTIM", &victim)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success() && !victim.exists());
    }

    /// The other half of the test above; alone it does nothing.
    #[test]
    fn removes_what_it_is_told() {
        if let Some(victim) = std::env::var_os("CORACLE_TEST_VICTIM") {
            remove_tree(Path::new(&victim)).unwrap();
        }
    }

    /// Somebody who still has the folder exchanges a closed folder for a link, so that its mode would be changed.
    #[test]
    fn a_racing_swap_for_a_link_changes_no_mode_outside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
        let top = dir.path().join("top");
        let stop = std::sync::atomic::AtomicBool::new(false);
        fs::create_dir(&top).unwrap();
        symlink(&outside, top.join("link")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let fd = rustix::fs::open(&top, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = rustix::fs::mkdirat(&fd, "folder", Mode::empty());
                    let _ = rustix::fs::mkdirat(&fd, "folder/x", Mode::RWXU);
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let _ = rustix::fs::renameat_with(&fd, "folder", &fd, "link", flags);
                }
            });
            for _ in 0..3000 {
                let _ = open_folder(fs::File::open(&top).unwrap().as_fd(), c"folder");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}
