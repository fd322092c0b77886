//! Where a user's state lies.

use super::{Durability, Error, create_dir_private};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Names the data root as ours; nothing is ever deleted below a root without it (SECURITY row 17).
pub(super) const MARKER: &str = ".coracle";
const MARKER_TEXT: &str = "coracle data root, format 1\n";

/// The two roots of a user's state. Cheap to make: no folder is created until [`Paths::prepare`].
#[derive(Clone, Debug)]
pub struct Paths {
    data: PathBuf,
    run: PathBuf,
}

impl Paths {
    /// The roots given by `--root` and `--runroot`, by `CORACLE_ROOT` and `CORACLE_RUNROOT`, or the XDG places:
    /// `$XDG_DATA_HOME/coracle` and `$XDG_RUNTIME_DIR/coracle`, the latter falling back to `/run/user/UID` and
    /// then `/tmp/coracle-UID` where no login manager made one.
    pub fn discover(root: Option<&Path>, runroot: Option<&Path>) -> Result<Self, Error> {
        let from_env = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let absolute = |path: PathBuf| std::path::absolute(&path).map_err(Error::io("find", &path));
        let data = match root.map(Path::to_owned).or_else(|| from_env("CORACLE_ROOT")) {
            Some(path) => path,
            None => directories::BaseDirs::new()
                .map(|dirs| dirs.data_dir().join("coracle"))
                .ok_or(Error::NoHome)?,
        };
        let run = match runroot.map(Path::to_owned).or_else(|| from_env("CORACLE_RUNROOT")) {
            Some(path) => path,
            None => default_run(from_env("XDG_RUNTIME_DIR")),
        };
        Ok(Self { data: absolute(data)?, run: absolute(run)? })
    }

    /// Creates both roots (mode 0700) and the marker file; refuses roots that others could have prepared, and a data
    /// root with files that are not ours: what is deleted in it would be somebody's.
    pub fn prepare(&self) -> Result<(), Error> {
        for (what, path) in [("data", &self.data), ("runtime", &self.run)] {
            match create_dir_private(path) {
                // Said better below.
                Err(e) if e.io_kind() == Some(ErrorKind::AlreadyExists) => {}
                made => made?,
            }
            let meta = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
            let refuse = |why: String| Err(Error::Root { what, path: path.clone(), why });
            if !meta.is_dir() {
                return refuse("it is not a directory".into());
            }
            if meta.uid() != nix::unistd::geteuid().as_raw() {
                return refuse(format!("it belongs to user {}", meta.uid()));
            }
            if what == "data" && !self.is_marked() {
                // Whoever makes it at the same moment makes the marker before anything else.
                if let Some(name) = self.foreign_entry()?
                    && !self.is_marked()
                {
                    return refuse(format!("it has files that are not coracle's, such as {name:?}"));
                }
                super::write_atomic(&self.data.join(MARKER), MARKER_TEXT.as_bytes(), Durability::Process)?;
            }
            if meta.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                    .map_err(Error::io("protect", path))?;
            }
        }
        Ok(())
    }

    /// Something in an unmarked data root that is neither the beginning of our marker nor a file system's own.
    fn foreign_entry(&self) -> Result<Option<OsString>, Error> {
        for entry in fs::read_dir(&self.data).map_err(Error::io("read", &self.data))? {
            let name = entry.map_err(Error::io("read", &self.data))?.file_name();
            // `..coracle.PID.N.tmp` is what becomes the marker.
            let is_marker = name.as_encoded_bytes().starts_with(b"..coracle.") || name == MARKER;
            if !is_marker && name != "lost+found" {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Whether the data root carries our marker.
    pub fn is_marked(&self) -> bool {
        fs::symlink_metadata(self.data.join(MARKER)).is_ok_and(|m| m.is_file())
    }

    /// The data root.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The run root.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// `layers/`: one folder per diff id.
    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// `blobs/sha256/`: manifests and configs by digest.
    pub fn blobs(&self) -> PathBuf {
        self.data.join("blobs/sha256")
    }

    /// `images/`: names and what they point to.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// `containers/`: records and writable layers that last.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// `names/`: container names, exclusive links to ids.
    pub fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    /// `volumes/`: named volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// `build-cache/`: what builds remember.
    pub fn build_cache(&self) -> PathBuf {
        self.data.join("build-cache")
    }

    /// `staging/`: what is being made; an entry whose lock nobody holds is garbage.
    pub fn staging(&self) -> PathBuf {
        self.data.join("staging")
    }

    /// `trash/`: what is being deleted.
    pub fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    /// `locks/`: lock files of what lasts (layers, images, volumes).
    pub fn locks(&self) -> PathBuf {
        self.data.join("locks")
    }

    /// `containers/` of the run root: lock, socket and live state of running containers.
    pub fn run_containers(&self) -> PathBuf {
        self.run.join("containers")
    }
}

fn default_run(xdg: Option<PathBuf>) -> PathBuf {
    let uid = nix::unistd::geteuid();
    let usable = |path: &Path| fs::metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == uid.as_raw());
    let login = PathBuf::from(format!("/run/user/{uid}"));
    match xdg {
        Some(path) if usable(&path) => path.join("coracle"),
        _ if usable(&login) => login.join("coracle"),
        _ => PathBuf::from(format!("/tmp/coracle-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_roots_are_private_and_marked() {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("a/data"), dir.path().join("run"));
        let paths = Paths::discover(Some(&data), Some(&run)).unwrap();
        assert!(!paths.is_marked());
        paths.prepare().unwrap();
        assert!(paths.is_marked());
        for root in [&data, &run] {
            assert_eq!(fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_root_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let paths = Paths::discover(Some(&link), Some(&dir.path().join("run"))).unwrap();
        assert!(matches!(paths.prepare(), Err(Error::Root { .. })));
    }

    #[test]
    fn a_data_root_with_foreign_files_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("data"), dir.path().join("run"));
        fs::create_dir_all(data.join("trash")).unwrap();
        fs::write(data.join("trash/mine"), "x").unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths::discover(Some(&data), Some(&run)).unwrap();
        assert!(matches!(paths.prepare(), Err(Error::Root { what: "data", .. })));
        assert!(!paths.is_marked() && !run.exists());
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o755);
        // An empty one is taken, and one on a disk of its own.
        fs::rename(data.join("trash"), data.join("lost+found")).unwrap();
        paths.prepare().unwrap();
        assert!(paths.is_marked());
        fs::write(data.join("anything"), "x").unwrap();
        paths.prepare().unwrap();
    }

    #[test]
    fn many_may_prepare_a_root_at_once() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let (data, run) = (dir.path().join("data"), dir.path().join("run"));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let paths = Paths::discover(Some(&data), Some(&run)).unwrap();
                        paths.prepare().unwrap();
                        create_dir_private(&paths.containers()).unwrap();
                    });
                }
            });
        }
    }
}
