//! Room to tidy up in when the disk is full.
//!
//! Removing is renames and unlinks, but on a full disk even these may need a block or an inode (a folder that grows,
//! copy-on-write metadata, a lock file), and that a container has ended must be written down. So a few small files
//! are kept that are given up when that is so, and made again when the next image is brought in.

use super::{Error, Paths, create_dir_private, remove_tree};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// So many inodes…
const FILES: u32 = 8;
/// …with so many bytes each.
const SIZE: u64 = 64 << 10;

/// What helps where there is no room.
pub const FREE_SPACE: &str =
    "free some space: 'coracle rm', 'coracle rmi' and 'coracle volume prune' work on a full disk";

/// With less than this, a disk is full: who was refused room has given some of it back since.
const LEAST_BYTES: u64 = 4 << 20;
const LEAST_FILES: u64 = 16;

/// Whether there is hardly any room for files where a path is. What cannot be asked is not full.
pub fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|disk| {
        // Some file systems do not count their files, and say that there can be none.
        let lacks_files = disk.f_files > 0 && disk.f_favail < LEAST_FILES;
        lacks_files || disk.f_bavail.saturating_mul(disk.f_frsize) < LEAST_BYTES
    })
}

fn folder(paths: &Paths) -> PathBuf {
    paths.data().join("ballast")
}

/// Takes the ballast on, as far as there is room for it.
pub fn keep_ballast(paths: &Paths) -> Result<(), Error> {
    let folder = folder(paths);
    create_dir_private(&folder)?;
    for number in 0..FILES {
        let path = folder.join(number.to_string());
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(Error::io("create", &path)(e)),
        };
        let filled = match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                file.write_all(&vec![0; usize::try_from(SIZE).unwrap_or_default()])
            }
            other => other.map_err(Into::into),
        };
        filled.map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Does `work` that makes room or concludes something. If there is no space for it, it is done again without ballast.
pub fn with_ballast<T, E: std::error::Error + 'static>(
    paths: &Paths,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match work() {
        Err(error) if is_out_of_space(&error) && remove_tree(&folder(paths)).is_ok() => work(),
        other => other,
    }
}

/// Whether a full disk, or a quota that is used up, is at the bottom of an error.
pub fn is_out_of_space(error: &(dyn std::error::Error + 'static)) -> bool {
    let full = |e: &io::Error| matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.downcast_ref().is_some_and(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_is_given_up_once_for_work_that_finds_no_space() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        for _ in 0..2 {
            keep_ballast(&paths).unwrap();
            keep_ballast(&paths).unwrap();
            let used = super::super::tree_size(&folder(&paths));
            assert_eq!(used, SIZE * u64::from(FILES));
            let tried = std::cell::Cell::new(0);
            let full = || {
                tried.set(tried.get() + 1);
                let is_room = !folder(&paths).exists();
                let error = Error::io("write", paths.data());
                if is_room { Ok(()) } else { Err(error(io::Error::from_raw_os_error(nix::libc::ENOSPC))) }
            };
            with_ballast(&paths, full).unwrap();
            assert_eq!(tried.get(), 2);
        }
        let other = with_ballast(&paths, || {
            Err::<(), _>(Error::io("write", paths.data())(ErrorKind::PermissionDenied.into()))
        });
        assert!(other.is_err_and(|e| !is_out_of_space(&e)));
    }
}
