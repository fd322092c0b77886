use super::tests::{entries, fill, tree, upper};
use super::*;
use crate::layers::testing::{TestStore, ownerships};
use crate::layers::{Entries, Entry, Kind, Limits, Tee};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Ignore;

impl Tee for Ignore {
    fn raw(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

fn entry(kind: Kind, path: &str, size: u64) -> Entry {
    Entry {
        kind,
        path: path.into(),
        link: Vec::new(),
        // The files of a store are read by whoever owns them.
        mode: if kind == Kind::Directory { 0o750 } else { 0o640 },
        uid: 0,
        gid: 0,
        mtime: (1_000_000_000, 5),
        size,
        xattrs: Vec::new(),
        extents: None,
    }
}

fn below(path: &Path) -> Option<OwnedFd> {
    Some(fs::File::open(path).unwrap().into())
}

/// The error of writing one file of this name over a folder.
fn refused(store: &TestStore, over: &Path, entry: Entry, content: &[u8]) -> String {
    let mut writer = store.store.writer(below(over)).unwrap();
    let put = writer.put(entry, &mut &content[..]);
    let error = put.and_then(|()| writer.finish().map(drop)).unwrap_err();
    store.assert_empty();
    error.to_string()
}

#[test]
fn a_layer_that_is_written_is_the_one_that_is_committed() {
    for ownership in ownerships() {
        let store = TestStore::new(ownership);
        let upper = upper(&store);
        fill(&upper, false);
        for number in 0..300 {
            fs::write(upper.join(format!("d/e/many-{number}")), format!("{number} ").repeat(number)).unwrap();
        }
        let options = CommitOptions {
            take: Take::Copy,
            below: &[],
            maps: None,
            mount_points: &[],
            times: Times::SetTo(1_000_000_000),
        };
        let made = store.store.commit(&upper, &options).unwrap().unwrap();
        let bytes = store.written(made.diff_id);
        let other = TestStore::new(ownership);
        let mut writer = other.store.writer(None).unwrap();
        let mut archive = Entries::new(&bytes[..], Ignore, Limits::default());
        while let Some(mut entry) = archive.next_entry().unwrap() {
            let mut content = Vec::new();
            loop {
                let data = archive.data().unwrap();
                if data.is_empty() {
                    break;
                }
                content.extend_from_slice(data);
                let count = data.len();
                archive.consume(count).unwrap();
            }
            if entry.path.ends_with(b"/") {
                entry.path.pop();
            }
            writer.put(entry, &mut &content[..]).unwrap();
        }
        let written = writer.finish().unwrap().unwrap();
        assert_eq!((written.diff_id, written.size), (made.diff_id, made.size));
        assert!(written.is_new);
        assert_eq!(other.store.verify(written.diff_id).unwrap(), made.size);
        assert_eq!(tree(&store, made.diff_id), tree(&other, made.diff_id));
    }
}

#[test]
fn folders_that_are_there_stay_as_they_are_and_come_along_with_what_is_new_in_them() {
    let store = TestStore::new(Ownership::SingleId);
    let over = store.dir.path().join("over");
    fs::create_dir_all(over.join("a/b")).unwrap();
    fs::set_permissions(over.join("a/b"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(&over, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(over.join("a/b/old"), "old").unwrap();
    let mut writer = store.store.writer(below(&over)).unwrap();
    let nothing: &mut dyn Read = &mut std::io::empty();
    for folder in ["a", "a/b"] {
        writer.put(entry(Kind::Directory, folder, 0), nothing).unwrap();
    }
    assert!(writer.finish().unwrap().is_none(), "no folder is new");
    let mut writer = store.store.writer(below(&over)).unwrap();
    writer.put(entry(Kind::Directory, "a/b", 0), nothing).unwrap();
    writer.put(entry(Kind::Directory, "a/b/c", 0), nothing).unwrap();
    writer.put(entry(Kind::File, "a/b/c/d/new", 3), &mut &b"new"[..]).unwrap();
    writer.put(entry(Kind::File, "a/b/old", 4), &mut &b"newer"[..]).unwrap();
    let made = writer.finish().unwrap().unwrap();
    let expected = [
        "Directory a/ 755",
        "Directory a/b/ 1777",
        "Directory a/b/c/ 750",
        "Directory a/b/c/d/ 755",
        "File a/b/c/d/new 640 [new]",
        "File a/b/old 640 [newe]",
    ];
    assert_eq!(entries(&store, made.diff_id), expected);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let store = TestStore::new(Ownership::SingleId);
    let over = store.dir.path().join("over");
    fs::create_dir_all(over.join("folder")).unwrap();
    fs::write(over.join("file"), "").unwrap();
    symlink("folder", over.join("link")).unwrap();
    let refused = |entry, content| refused(&store, &over, entry, content);
    for (path, kind, why) in [
        ("folder", Kind::File, "cannot overwrite a directory with something else"),
        ("file", Kind::Directory, "cannot overwrite something else with a directory"),
        ("link", Kind::Directory, "cannot overwrite something else with a directory"),
        ("file/below", Kind::File, "cannot overwrite something else with a directory"),
        ("link/below", Kind::File, "cannot overwrite something else with a directory"),
        ("folder/.wh.name", Kind::File, "in a layer such a name means that a file was removed"),
    ] {
        let error = refused(entry(kind, path, 0), &[]);
        assert!(error.ends_with(why), "{path}: {error}");
    }
    let error = refused(entry(Kind::File, "short", 1_000_000), &[1; 999_999]);
    assert_eq!(error, "the layer's entry \"short\" is refused: it was changed while it was copied");
}

#[test]
fn zeros_become_holes_and_count() {
    let store = TestStore::new(Ownership::SingleId);
    let mut writer = store.store.writer(None).unwrap();
    let size = 8 << 20;
    writer.put(entry(Kind::File, "holes", size), &mut std::io::repeat(0).take(size)).unwrap();
    let made = writer.finish().unwrap().unwrap();
    let file = fs::metadata(store.store.fs_dir(made.diff_id).join("holes")).unwrap();
    assert_eq!((file.len(), file.blocks()), (size, 0));
    assert_eq!(store.store.verify(made.diff_id).unwrap(), size);
}
