//! The volumes of a user.

use super::copy::{copy_attributes, copy_tree, set_owner};
use super::tree::{disk_usage, names, open_data};
use super::{Error, NewVolume, Volume, check_name};
use crate::rooted_fs::Root;
use crate::state::{self, Durability, Lock, Paths, create_dir_private, read_json, remove_file_if_there};
use crate::timestamp::Timestamp;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// All named volumes below a data root.
#[derive(Clone, Debug)]
pub struct Volumes {
    paths: Paths,
}

/// One line of a listing.
#[derive(Debug)]
pub enum Listed {
    /// A volume.
    Volume(Volume),
    /// A folder whose record cannot be read.
    Broken {
        /// Its name.
        name: String,
        /// Why.
        error: Error,
    },
}

/// What [`Volumes::prune`] did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Volumes that are gone.
    pub removed: Vec<Volume>,
    /// Bytes that they occupied.
    pub reclaimed: u64,
    /// Volumes that should be, and why they are not.
    pub failed: Vec<(Volume, Error)>,
}

/// What a volume is filled with before its first use.
#[derive(Debug)]
pub struct Fill<'a> {
    /// The container's root file system, as the image made it.
    pub root: &'a Root,
    /// Where the volume will be mounted in it.
    pub path: &'a Path,
    /// Whether its content is wanted, not only its owner and mode: not with `nocopy`.
    pub copy: bool,
    /// Uid and gid of the volume if there is no such folder: the container's user.
    pub owner: (u32, u32),
    /// Whether the copy must survive a power cut.
    pub durability: Durability,
}

impl Volumes {
    /// The volumes of these roots. Touches nothing.
    pub fn new(paths: &Paths) -> Self {
        Self { paths: paths.clone() }
    }

    /// Makes a volume whose name must be free.
    pub fn create(&self, new: &NewVolume) -> Result<Volume, Error> {
        check_name(&new.name)?;
        let _lock = Lock::exclusive(&self.lock_path(&new.name)?)?;
        if fs::symlink_metadata(self.dir(&new.name)).is_ok() {
            return Err(Error::Exists(new.name.clone()));
        }
        self.make(new)
    }

    /// The volume of that name, made if it is not there. Nobody can remove it until the lock is dropped, which is
    /// when the use of it is on record.
    pub fn ensure(&self, new: &NewVolume) -> Result<(Volume, Lock), Error> {
        check_name(&new.name)?;
        let path = self.lock_path(&new.name)?;
        loop {
            let lock = Lock::shared(&path)?;
            match self.get(&new.name) {
                Ok(volume) => return Ok((volume, lock)),
                Err(Error::Missing(_)) => drop(lock),
                Err(e) => return Err(e),
            }
            match self.create(new) {
                Ok(_) | Err(Error::Exists(_)) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The volume of that name.
    pub fn get(&self, name: &str) -> Result<Volume, Error> {
        check_name(name)?;
        let dir = self.dir(name);
        let path = dir.join("volume.json");
        let volume: Option<Volume> = match read_json(&path) {
            Err(_) if is_blank(&path) => Some(Volume::without_record(name, &dir)),
            read => read?,
        };
        let volume = volume.ok_or_else(|| Error::Missing(name.to_owned()))?;
        Ok(Volume { name: name.to_owned(), dir, ..volume })
    }

    /// All volumes by name. One with a bad record is listed as such.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let folder = self.paths.volumes();
        let mut names = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", &folder)(e)),
        };
        for entry in entries {
            let name = entry.map_err(Error::io("read", &folder))?.file_name();
            names.extend(name.into_string().ok().filter(|name| check_name(name).is_ok()));
        }
        names.sort_unstable();
        let look = |name: String| match self.get(&name) {
            Ok(volume) => Some(Listed::Volume(volume)),
            // Removed since; only a folder without a record is a sign of damage.
            Err(Error::Missing(_)) if fs::symlink_metadata(self.dir(&name)).is_err() => None,
            Err(error) => Some(Listed::Broken { name, error }),
        };
        Ok(names.into_iter().filter_map(look).collect())
    }

    /// Removes the volume of that name, also one with a bad record, unless `users` names containers that use it.
    pub fn remove(
        &self,
        name: &str,
        users: impl FnOnce(&str) -> Result<Vec<String>, Error>,
    ) -> Result<(), Error> {
        check_name(name)?;
        let path = self.lock_path(name)?;
        let _lock = Lock::exclusive(&path)?;
        let dir = self.dir(name);
        if fs::symlink_metadata(&dir).is_err() {
            remove_file_if_there(&path)?;
            return Err(Error::Missing(name.to_owned()));
        }
        let users = users(name)?;
        if !users.is_empty() {
            return Err(Error::InUse { name: name.to_owned(), users });
        }
        state::trash(&self.paths, &dir)?;
        remove_file_if_there(&self.fill_lock_path(name))?;
        Ok(remove_file_if_there(&path)?)
    }

    /// Removes the volumes that `wanted` picks and nobody uses. One that fails does not stop the others.
    pub fn prune(
        &self,
        wanted: impl Fn(&Volume) -> bool,
        users: impl Fn(&str) -> Result<Vec<String>, Error>,
    ) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for listed in self.list()? {
            let Listed::Volume(volume) = listed else { continue };
            if !wanted(&volume) {
                continue;
            }
            let size = disk_usage(&volume.data());
            match state::with_ballast(&self.paths, || self.remove(&volume.name, &users)) {
                Ok(()) => {
                    pruned.reclaimed += size;
                    pruned.removed.push(volume);
                }
                Err(Error::InUse { .. } | Error::Missing(_)) => {}
                Err(error) => pruned.failed.push((volume, error)),
            }
        }
        self.sweep()?;
        Ok(pruned)
    }

    /// Prepares a volume for its first container: content, owner and mode of the folder that it will cover. Does
    /// nothing for a volume that has been used, or has something in it. Returns whether it did something.
    pub fn fill(&self, volume: &Volume, fill: &Fill<'_>) -> Result<bool, Error> {
        let (used, filling) = (volume.dir().join("used"), volume.dir().join("filling"));
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        if exists(&used) {
            return Ok(false);
        }
        let _lock = Lock::exclusive(&self.fill_lock_path(&volume.name))?;
        if exists(&used) {
            return Ok(false);
        }
        let path = volume.data();
        let data = open_data(&path)?;
        let content = names(data.as_fd()).map_err(|e| Error::io("read", &path)(e.into()))?;
        if exists(&filling) {
            // Whoever was here before us was killed.
            for name in content {
                state::remove_tree(&path.join(std::ffi::OsStr::from_bytes(name.as_bytes())))?;
            }
        } else if !content.is_empty() {
            File::create(&used).map_err(Error::io("create", &used))?;
            return Ok(false);
        } else {
            File::create(&filling).map_err(Error::io("create", &filling))?;
        }
        match fill.root.open(fill.path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(from) => {
                let done = if fill.copy {
                    copy_tree(&from, &data)
                } else {
                    let stat = rustix::fs::fstat(&from).map_err(Into::into);
                    stat.and_then(|stat| copy_attributes(&from, &stat, &data))
                };
                done.map_err(Error::io("copy the image's", fill.path))?;
                if fill.copy && fill.durability == Durability::PowerCut {
                    rustix::fs::syncfs(&data).map_err(|e| Error::io("sync", &path)(e.into()))?;
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let (uid, gid) = fill.owner;
                set_owner(&data, uid, gid).map_err(Error::io("chown", &path))?;
            }
            Err(e) => return Err(Error::io("open the image's", fill.path)(e)),
        }
        fs::rename(&filling, &used).map_err(Error::io("create", &used))?;
        Ok(true)
    }

    /// Under the volume's exclusive lock.
    fn make(&self, new: &NewVolume) -> Result<Volume, Error> {
        let (dir, staged) = (self.dir(&new.name), self.staged(&new.name));
        create_dir_private(&self.paths.volumes())?;
        // A maker that was killed left it.
        state::remove_tree(&staged)?;
        create_dir_private(&staged)?;
        let data = staged.join("_data");
        // The container's processes come by other ids than ours: what protects the data is the data root's mode.
        DirBuilder::new().mode(0o755).create(&data).map_err(Error::io("create", &data))?;
        let volume = Volume {
            name: new.name.clone(),
            created: Timestamp::now(),
            labels: new.labels.clone(),
            anonymous: new.anonymous,
            dir,
        };
        state::write_json(&staged.join("volume.json"), &volume, new.durability)?;
        fs::rename(&staged, volume.dir()).map_err(Error::io("create", volume.dir()))?;
        if new.durability == Durability::PowerCut {
            let folder = self.paths.volumes();
            File::open(&folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", &folder))?;
        }
        Ok(volume)
    }

    /// Removes what killed processes left: unfinished volumes and locks of none, of names that nobody is making right now.
    pub fn sweep(&self) -> Result<(), Error> {
        for entry in fs::read_dir(self.paths.volumes()).into_iter().flatten().flatten() {
            let file_name = entry.file_name();
            let name = file_name.to_str().and_then(|n| n.strip_prefix('.')?.strip_suffix(".new"));
            if let Some(name) = name.filter(|name| check_name(name).is_ok())
                && let Some(_lock) = Lock::try_exclusive(&self.lock_path(name)?)?
            {
                state::remove_tree(&entry.path())?;
            }
        }
        for entry in fs::read_dir(self.paths.locks()).into_iter().flatten().flatten() {
            let file_name = entry.file_name();
            let name = file_name.to_str().and_then(|n| n.strip_prefix("volume-").or(n.strip_prefix("fill-")));
            // Under the volume's lock: who waits for it, to make the volume, sees that the file is gone.
            if let Some(name) = name.filter(|name| check_name(name).is_ok())
                && fs::symlink_metadata(self.dir(name)).is_err()
                && let Some(_lock) = Lock::try_exclusive(&self.lock_path(name)?)?
                && fs::symlink_metadata(self.dir(name)).is_err()
            {
                remove_file_if_there(&self.fill_lock_path(name))?;
                remove_file_if_there(&self.lock_path(name)?)?;
            }
        }
        Ok(())
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.paths.volumes().join(name)
    }

    /// No volume can have a name with a dot in front.
    fn staged(&self, name: &str) -> PathBuf {
        self.paths.volumes().join(format!(".{name}.new"))
    }

    fn lock_path(&self, name: &str) -> Result<PathBuf, Error> {
        create_dir_private(&self.paths.locks())?;
        Ok(self.paths.locks().join(format!("volume-{name}")))
    }

    fn fill_lock_path(&self, name: &str) -> PathBuf {
        self.paths.locks().join(format!("fill-{name}"))
    }
}

/// Whether a record is what a power cut leaves of one that was not worth an fsync: a --rm container's new volume. Its data
/// are there as far as they were written.
fn is_blank(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
