//! Removing everything that is ours, and nothing else (SECURITY row 17).

use super::paths::MARKER;
use super::{Error, Paths, remove_tree};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What may be in a data root. Removed in this order: what points to others before the others, so that a reset that is
/// cut off leaves less, but nothing wrong.
const DATA: [&str; 13] = [
    "containers",
    "names",
    "networks",
    "images",
    "blobs",
    "layers",
    "build-cache",
    "volumes",
    "staging",
    "trash",
    "ballast",
    "single-id-told",
    "locks",
];

/// What may be in a run root.
const RUN: [&str; 5] = ["containers", "networks", "data-only.json", "userns.json", "userns.lock"];

/// Removes all known names below the two roots, without following a link, and the roots if nothing else is in them;
/// what is left in them is returned. A data root without our marker is not touched. The caller is root of the user's
/// namespace and makes sure that nobody uses any of it.
pub fn reset(paths: &Paths) -> Result<Vec<PathBuf>, Error> {
    if !paths.is_marked() {
        return Err(Error::Root {
            what: "data",
            path: paths.data().to_owned(),
            why: "it has no marker that says that it is coracle's".into(),
        });
    }
    let mut left = Vec::new();
    for (root, known) in [(paths.run(), &RUN[..]), (paths.data(), &DATA[..])] {
        for name in known {
            remove_tree(&root.join(name))?;
        }
        let others = entries(root)?;
        let is_marker = |path: &PathBuf| path.file_name().is_some_and(|name| name == MARKER);
        if others.iter().all(is_marker) {
            // The marker last: until here a reset that was cut off can be begun again.
            remove_tree(&root.join(MARKER))?;
            match fs::remove_dir(root) {
                Err(e)
                    if !matches!(
                        e.kind(),
                        ErrorKind::NotFound
                            | ErrorKind::DirectoryNotEmpty
                            | ErrorKind::ResourceBusy
                            | ErrorKind::PermissionDenied
                    ) =>
                {
                    return Err(Error::io("remove", root)(e));
                }
                _ => {}
            }
        } else {
            left.extend(others.into_iter().filter(|path| !is_marker(path)));
        }
    }
    Ok(left)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut paths = Vec::new();
            for entry in entries {
                paths.push(entry.map_err(Error::io("read", folder))?.path());
            }
            paths.sort();
            Ok(paths)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("read", folder)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn roots() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        for folder in [paths.layers(), paths.volumes(), paths.run_containers()] {
            fs::create_dir_all(folder.join("x/y")).unwrap();
        }
        (dir, paths)
    }

    #[test]
    fn everything_of_ours_goes_and_the_roots_with_it() {
        let (_dir, paths) = roots();
        assert_eq!(reset(&paths).unwrap(), Vec::<PathBuf>::new());
        assert!(!paths.data().exists() && !paths.run().exists());
    }

    #[test]
    fn foreign_files_and_what_links_lead_to_stay() {
        let (dir, paths) = roots();
        let precious = dir.path().join("precious");
        fs::create_dir_all(precious.join("photos")).unwrap();
        // podman's issue 18287: a link in the place of a folder, and one inside.
        symlink(&precious, paths.images()).unwrap();
        symlink(&precious, paths.volumes().join("x/link")).unwrap();
        let mine = paths.data().join("mine.txt");
        fs::write(&mine, "x").unwrap();
        assert_eq!(reset(&paths).unwrap(), vec![mine.clone()]);
        assert!(precious.join("photos").is_dir() && mine.exists() && paths.is_marked());
        assert!(!paths.layers().exists() && fs::symlink_metadata(paths.images()).is_err());
    }

    #[test]
    fn a_folder_without_the_marker_is_not_touched() {
        let (_dir, paths) = roots();
        fs::remove_file(paths.data().join(MARKER)).unwrap();
        assert!(matches!(reset(&paths), Err(Error::Root { .. })));
        assert!(paths.layers().exists() && paths.run_containers().exists());
    }
}
