//! Files that are replaced whole.

use super::Error;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// How much a write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A killed process, not a power cut: for what is rebuilt or worthless after a reboot. No fsync.
    Process,
    /// A power cut too: fdatasync of the file before the rename, fsync of the folder after it.
    PowerCut,
}

/// How the names of files end that are being written: `.NAME.PID.SERIAL.tmp`.
const TEMPORARY: &str = ".tmp";

/// Replaces `path` with `bytes` in one step: a reader sees the old file or the new one, never a part. Mode 0600.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), Error> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".{name}.{}.{serial}{TEMPORARY}", std::process::id()));
    let written = (|| {
        // A file of that name can only be left over from a dead process that had our pid.
        remove_file_if_there(&temporary)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(Error::io("create", &temporary))?;
        file.write_all(bytes).map_err(Error::io("write", path))?;
        if durability == Durability::PowerCut {
            file.sync_data().map_err(Error::io("write", path))?;
        }
        fs::rename(&temporary, path).map_err(Error::io("write", path))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    } else if durability == Durability::PowerCut {
        let folder = path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))?;
    }
    written
}

/// Removes what writers left in a folder that were killed while they wrote. A file is given up if there is no process of
/// its writer's number.
pub fn sweep_temporary(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|name| {
            let (rest, _serial) = name.strip_prefix('.')?.strip_suffix(TEMPORARY)?.rsplit_once('.')?;
            rest.rsplit_once('.')?.1.parse::<u32>().ok()
        });
        if writer.is_some_and(|pid| !super::is_alive(pid)) {
            remove_file_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// [`write_atomic`] of a value as JSON.
pub fn write_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), Error> {
    let bytes =
        serde_json::to_vec(value).map_err(|source| Error::Record { path: path.to_owned(), source })?;
    write_atomic(path, &bytes, durability)
}

/// Reads a JSON record; `None` if there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match read_small(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// [`fs::read`] in three system calls instead of five, since a listing reads hundreds of records. They are replaced whole, and
/// of a regular file a read that does not fill its buffer has reached the end (read(2)).
fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    const USUAL: usize = 16 << 10;
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(USUAL);
    let first = || rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes));
    if rustix::io::retry_on_intr(first)? == USUAL {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Creates a folder and its parents with mode 0700; one that is there already is left as it is.
pub fn create_dir_private(path: &Path) -> Result<(), Error> {
    loop {
        match DirBuilder::new().recursive(true).mode(0o700).create(path) {
            // Somebody who recovers what is left over removed it between std's mkdir(2) and its look.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && fs::symlink_metadata(path).is_err() => {}
            done => return done.map_err(Error::io("create", path)),
        }
    }
}

/// Removes a file; that it is not there is no error.
pub fn remove_file_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for durability in [Durability::Process, Durability::PowerCut] {
            write_json(&path, &vec![1, 2, 3], durability).unwrap();
            write_json(&path, &vec![4], durability).unwrap();
            assert_eq!(read_json::<Vec<i32>>(&path).unwrap(), Some(vec![4]));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_dead_writer_left_is_swept_and_a_live_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let alive = format!(".a.b.{}.7.tmp", std::process::id());
        let names = [".state.json.4194305.0.tmp", &alive, ".x.tmp", ".4194305.0.tmp", "x.4194305.0.tmp"];
        for name in names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        sweep_temporary(dir.path()).unwrap();
        sweep_temporary(&dir.path().join("missing")).unwrap();
        let left = |name: &&str| dir.path().join(name).exists();
        assert_eq!(names.into_iter().filter(left).collect::<Vec<_>>(), names[1..]);
    }

    #[test]
    fn a_torn_record_is_an_error_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(read_json::<Vec<i32>>(&path).unwrap().is_none());
        fs::write(&path, "[1,").unwrap();
        assert!(matches!(read_json::<Vec<i32>>(&path), Err(Error::Record { .. })));
    }

    #[test]
    fn a_write_into_a_missing_folder_fails_and_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_atomic(&dir.path().join("no/file"), b"", Durability::Process).unwrap_err();
        assert!(error.to_string().contains("/no/"), "{error}");
    }
}
