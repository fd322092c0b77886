//! Walking a tree of files on descriptors: no name is resolved through anything but the directory it is in, and
//! no link is followed, so nobody who changes the tree meanwhile can lead us out of it.

use super::Error;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Deeper trees are refused: every level holds descriptors open, and no path could name the bottom.
pub(super) const MAX_DEPTH: u32 = 512;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory `name` in `dir`; a link is refused.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, FOLDER, Mode::empty())
}

/// Opens a directory that is ours, by path.
pub(super) fn open_data(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, FOLDER, Mode::empty()).map_err(|e| Error::io("open", path)(e.into()))
}

/// The names in a directory, without the two dots.
pub(super) fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Gives `dir` and all below it to `uid` and `gid`, links themselves included. What has that owner already is not
/// touched, so that a second run changes nothing, and one that was killed can be run again. Files that vanish
/// meanwhile are no error.
pub fn chown_recursive(dir: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    // (uid_t)-1 means "leave it" to chown(2).
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Error::io("chown", dir)(Errno::INVAL.into()));
    }
    let top = open_data(dir)?;
    chown_tree(&top, Uid::from_raw(uid), Gid::from_raw(gid), 0).map_err(|e| Error::io("chown", dir)(e.into()))
}

fn chown_tree(dir: &OwnedFd, uid: Uid, gid: Gid, depth: u32) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    for name in names(dir.as_fd())? {
        match chown_entry(dir, &name, uid, gid, depth) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    // The folder itself comes last: whoever gives it away may lose the right to enter it.
    let stat = rustix::fs::fstat(dir)?;
    if (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw()) {
        return Ok(());
    }
    rustix::fs::fchown(dir, Some(uid), Some(gid))
}

fn chown_entry(dir: &OwnedFd, name: &CString, uid: Uid, gid: Gid, depth: u32) -> Result<(), Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        match open_dir(dir.as_fd(), name) {
            Ok(child) => return chown_tree(&child, uid, gid, depth + 1),
            // No directory any more: what took its place is changed by name, as anything else is.
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
    } else if (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw()) {
        return Ok(());
    }
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Bytes of disk that `dir` and all below it occupy. A file with several links counts once per link. What cannot
/// be read does not count.
pub fn disk_usage(dir: &Path) -> u64 {
    open_data(dir).map_or(0, |top| usage(&top, 0))
}

fn usage(dir: &OwnedFd, depth: u32) -> u64 {
    let mut sum = 0;
    for name in names(dir.as_fd()).unwrap_or_default() {
        let Ok(stat) = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        sum += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && depth < MAX_DEPTH
            && let Ok(child) = open_dir(dir.as_fd(), &name)
        {
            sum += usage(&child, depth + 1);
        }
    }
    sum
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Only root can, and in a user namespace only to ids that are mapped.
    pub(in super::super) fn can_give_away() -> bool {
        let file = tempfile::tempfile().unwrap();
        rustix::fs::fchown(&file, Some(Uid::from_raw(12)), Some(Gid::from_raw(34))).is_ok()
    }

    #[test]
    fn everything_below_changes_hands_and_links_are_not_followed() {
        if !can_give_away() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        fs::write(&outside, "x").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        symlink(dir.path(), top.join("a/dirlink")).unwrap();
        for _ in 0..2 {
            chown_recursive(&top, 7, 8).unwrap();
            for path in ["", "a", "a/b", "a/b/file", "link", "a/dirlink"] {
                let meta = fs::symlink_metadata(top.join(path)).unwrap();
                assert_eq!((meta.uid(), meta.gid()), (7, 8), "{path}");
            }
        }
        for path in [&outside, dir.path()] {
            assert_eq!(fs::metadata(path).unwrap().uid(), 0);
        }
    }

    #[test]
    fn a_second_run_touches_nothing() {
        if !can_give_away() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        chown_recursive(dir.path(), 7, 8).unwrap();
        let changed = |p: &Path| fs::metadata(p).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
        let before = (changed(&file), changed(dir.path()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        chown_recursive(dir.path(), 7, 8).unwrap();
        assert_eq!((changed(&file), changed(dir.path())), before);
    }

    #[test]
    fn a_racing_swap_for_a_link_gives_away_nothing_outside() {
        if !can_give_away() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("d")).unwrap();
        fs::write(top.join("d/file"), "x").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        symlink(&outside, top.join("spare")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let fd = open_data(&top).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&fd, "d", &fd, "spare", flags).unwrap();
                }
            });
            let results: Vec<_> = (1..2000).map(|id| chown_recursive(&top, id, id)).collect();
            stop.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
        });
        for path in [outside.clone(), outside.join("file")] {
            assert_eq!(fs::metadata(path).unwrap().uid(), 0);
        }
    }

    #[test]
    fn usage_counts_blocks_of_the_whole_tree() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/file"), vec![1; 100_000]).unwrap();
        fs::File::open(dir.path().join("a/file")).unwrap().sync_all().unwrap();
        assert!((100_000..400_000).contains(&disk_usage(dir.path())));
        assert_eq!(disk_usage(&dir.path().join("missing")), 0);
    }
}
