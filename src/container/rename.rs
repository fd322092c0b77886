//! The name that a container has now.
//!
//! `spec.json` never changes, so it has the name that the container was given when it was made. The name that it has
//! *now* is the link in `names/` that leads to its id, and nothing else: renaming is one renameat2(2) of that link,
//! so there is no moment in which the container has two names or none, nothing for recovery to finish, and no record
//! of a running container's monitor to be brought up to date. Whoever reads a record looks whether the link of the
//! name in it still is the container's (one readlink(2)); only for one that was renamed are the links searched.

use super::Error;
use super::id::ContainerId;
use super::record::Record;
use super::store::{Container, is_name, owner_of, release_name, release_names, take_name};
use crate::state::{self, Lock, Paths};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;

/// How often a rename begins anew when others change the names meanwhile.
const MAX_TRIES: u32 = 8;

/// The names of containers, searched once and only if need be.
pub(super) struct Names<'a> {
    paths: &'a Paths,
    links: OnceCell<HashMap<String, String>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(paths: &'a Paths) -> Self {
        Self { paths, links: OnceCell::new() }
    }

    /// The name that the container has now; the one that it was given if it has none any more (it is being removed).
    pub(super) fn of(&self, given: &str, id: &ContainerId) -> String {
        if leads_to(self.paths, given, id) {
            return given.to_owned();
        }
        let links = self.links.get_or_init(|| {
            let entries = fs::read_dir(self.paths.names()).into_iter().flatten().flatten();
            let link = |entry: fs::DirEntry| {
                let id = fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()?;
                Some((id, entry.file_name().into_string().ok()?))
            };
            entries.filter_map(link).collect()
        });
        links.get(id.as_str()).map_or(given, String::as_str).to_owned()
    }
}

fn leads_to(paths: &Paths, name: &str, id: &ContainerId) -> bool {
    fs::read_link(paths.names().join(name)).is_ok_and(|owner| owner.to_str() == Some(id.as_str()))
}

/// Gives a container another name. Whether it runs makes no difference; what it and its networks have been told of its name
/// is as it was until [`super::networks::follow_name`].
pub fn rename(paths: &Paths, container: &Container, new: &str) -> Result<(), Error> {
    let Record { id, name, rm, .. } = &container.record;
    if !is_name(new) {
        return Err(Error::Request {
            what: format!("{new:?} cannot be a container's name"),
            fix: Some("use letters, digits and _.-, a letter or digit first".into()),
        });
    }
    if new == name {
        return Err(Error::Request {
            what: format!("the container is called {new} already"),
            fix: Some("choose another name".into()),
        });
    }
    state::create_dir_private(&paths.locks())?;
    let lock = Lock::exclusive(&paths.locks().join("names"))?;
    let to = paths.names().join(new);
    for _ in 0..MAX_TRIES {
        let now = Names::new(paths).of(name, id);
        if !leads_to(paths, &now, id) {
            return Err(Error::NotFound(name.clone()));
        }
        let from = paths.names().join(&now);
        match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) if leads_to(paths, new, id) => {
                return if *rm { Ok(()) } else { sync_names(paths) };
            }
            // Removed between the look and the rename, and its name taken by another, which gets it back.
            Ok(()) => drop(fs::rename(&to, &from)),
            Err(Errno::EXIST) => {
                if let Some(by) = owner_of(paths, new)? {
                    return Err(Error::NameTaken { name: new.to_owned(), by });
                }
            }
            Err(Errno::NOENT) => {}
            // A file system that cannot rename without replacing. The name is taken first, and the old link put over
            // it: who is killed in between leaves the container with both, which go with it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                drop(lock);
                take_name(paths, new, id)?;
                return fs::rename(&from, &to)
                    .map_err(|source| state::Error::Io { action: "rename", path: from, source }.into());
            }
            Err(e) => {
                return Err(state::Error::Io { action: "rename", path: from, source: e.into() }.into());
            }
        }
    }
    Err(Error::NotFound(name.clone()))
}

/// Makes a rename survive a power cut, as the record does.
fn sync_names(paths: &Paths) -> Result<(), Error> {
    let folder = paths.names();
    fs::File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| state::Error::Io { action: "sync", path: folder, source }.into())
}

/// Gives back the name of a container that is being removed. A monitor knows the name that its container had when
/// it was started.
pub(super) fn release_name_of(paths: &Paths, record: &Record) -> Result<(), Error> {
    if leads_to(paths, &record.name, &record.id) {
        return release_name(paths, &record.name, &record.id);
    }
    release_names(paths, &record.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        (dir, paths)
    }

    #[test]
    fn the_name_is_the_link_and_the_given_one_only_a_hint() {
        let (_dir, paths) = paths();
        let ids = [ContainerId::random().unwrap(), ContainerId::random().unwrap()];
        take_name(&paths, "a", &ids[0]).unwrap();
        take_name(&paths, "b", &ids[1]).unwrap();
        let names = Names::new(&paths);
        assert_eq!((names.of("a", &ids[0]), names.of("b", &ids[1])), ("a".into(), "b".into()));
        assert_eq!(names.of("old", &ids[0]), "a");
        fs::remove_file(paths.names().join("a")).unwrap();
        assert_eq!(Names::new(&paths).of("old", &ids[0]), "old");
    }
}
