use super::*;
use crate::layers::testing::{Archive, TestStore, ownerships};
use crate::layers::{Claim, Entries, Entry, Limits, Tee};
use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Ignore;

impl Tee for Ignore {
    fn raw(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

const BOTH: [Take; 2] = [Take::Copy, Take::Move];

fn options(take: Take) -> CommitOptions<'static> {
    CommitOptions { take, below: &[], maps: None, mount_points: &[], times: Times::SetTo(1_000_000_000) }
}

/// A folder beside the store, on its file system.
pub(super) fn upper(store: &TestStore) -> PathBuf {
    let upper = store.dir.path().join("data/upper");
    fs::create_dir(&upper).unwrap();
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
    upper
}

fn whiteout(path: PathBuf) {
    mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn set(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// The entries of a layer, as `kind path link mode`, and of files the content.
pub(super) fn entries(store: &TestStore, diff_id: Digest) -> Vec<String> {
    let bytes = store.written(diff_id);
    let mut entries = Entries::new(&bytes[..], Ignore, Limits::default());
    let mut lines = Vec::new();
    while let Some(entry) = entries.next_entry().unwrap() {
        let Entry { kind, path, link, mode, xattrs, .. } = entry;
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let mut line = format!("{kind:?} {} {mode:o}", text(&path));
        if !link.is_empty() {
            line += &format!(" -> {}", text(&link));
        }
        for (name, value) in xattrs {
            line += &format!(" {}={}", text(&name), text(&value));
        }
        loop {
            let data = entries.data().unwrap();
            if data.is_empty() {
                break;
            }
            line += &format!(" [{}]", text(&data[..data.len().min(20)]));
            let count = data.len();
            entries.consume(count).unwrap();
        }
        lines.push(line);
    }
    lines
}

/// Everything of a layer's files that counts: `mode size mtime owner path` and attributes.
pub(super) fn tree(store: &TestStore, diff_id: Digest) -> Vec<String> {
    let root = store.store.fs_dir(diff_id);
    let mut lines = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, stat) = {
                let entry = entry.unwrap();
                (entry.path(), entry.metadata().unwrap())
            };
            if stat.is_dir() {
                folders.push(path.clone());
            }
            let mut line = format!("{:?} {:o} {}:{}", path, stat.mode(), stat.uid(), stat.gid());
            let is_whiteout = stat.mode() & 0o170_000 == 0o020_000;
            if !stat.is_dir() {
                line += &format!(" {} {}", stat.len(), stat.nlink());
            }
            if !is_whiteout {
                line += &format!(" {}.{}", stat.mtime(), stat.mtime_nsec());
            }
            let mut list = vec![0; 1000];
            let length = rustix::fs::llistxattr(&path, &mut list).unwrap();
            let mut names: Vec<_> =
                list[..length].split(|b| *b == 0).map(|n| n.escape_ascii().to_string()).collect();
            names.sort_unstable();
            line += &names.join(",");
            lines.push(line.replace(root.to_str().unwrap(), ""));
        }
    }
    lines.sort_unstable();
    lines
}

/// Makes one of everything; of what only overlayfs makes, if it is to be like an upper directory.
pub(super) fn fill(upper: &Path, with_overlay: bool) {
    let long = "n".repeat(150);
    fs::create_dir_all(upper.join("d/e")).unwrap();
    fs::create_dir(upper.join("opaque")).unwrap();
    fs::write(upper.join("d/file"), "text").unwrap();
    fs::write(upper.join("d/empty"), "").unwrap();
    fs::write(upper.join("big"), vec![7; 700_001]).unwrap();
    fs::hard_link(upper.join("d/file"), upper.join("again")).unwrap();
    symlink("/etc/passwd", upper.join("d/link")).unwrap();
    fs::write(upper.join(OsStr::from_bytes(b"caf\xe9 \n")), "latin").unwrap();
    fs::write(upper.join(&long), "long").unwrap();
    mknodat(CWD, upper.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    if with_overlay {
        whiteout(upper.join("gone"));
        whiteout(upper.join("d/e/gone"));
        set(&upper.join("opaque"), "user.overlay.opaque", b"y");
    }
    set(&upper.join("d/file"), "user.overlay.origin", b"x");
    set(&upper.join("d/file"), "user.note", b"kept");
    set(&upper.join("d/file"), "user.a=b", b"cannot be said");
    set(upper, "user.overlay.impure", b"y");
    fs::set_permissions(upper.join("d/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(upper.join("d/e"), fs::Permissions::from_mode(0o1700)).unwrap();
    for path in ["d/file", "d"] {
        let time = Timespec { tv_sec: 1234, tv_nsec: 567 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, upper.join(path), &times, AtFlags::empty()).unwrap();
    }
}

#[test]
fn everything_that_was_written_is_in_the_layer() {
    for ownership in ownerships() {
        for take in BOTH {
            let store = TestStore::new(ownership);
            let (base, _) = store.unpack(&Archive::new().dir("opaque").end()).unwrap();
            let upper = upper(&store);
            fill(&upper, true);
            let options = CommitOptions { below: &[base], times: Times::Kept, ..options(take) };
            let made = store.store.commit(&upper, &options).unwrap().unwrap();
            assert!(made.is_new && store.store.contains(made.diff_id));
            assert_eq!(upper.exists(), take == Take::Copy);
            assert_eq!(made.size, 4 + 700_001 + 5 + 4);
            assert_eq!(store.store.size(made.diff_id).unwrap(), made.size);
            assert_eq!(store.store.tar_size(made.diff_id).unwrap(), made.archive_size);
            // The table, the files and the digest agree.
            assert_eq!(store.store.verify(made.diff_id).unwrap(), made.size);
            let long = format!("File {} 644 [long]", "n".repeat(150));
            let big = format!("File big 644 [{}]", "\\x07".repeat(20));
            let expected = [
                "File again 4751 user.note=kept [text]",
                &big,
                "File caf\\xe9 \\n 644 [latin]",
                "Directory d/ 755",
                "Directory d/e/ 1700",
                "File d/e/.wh.gone 600",
                "File d/empty 644",
                "HardLink d/file 4751 -> again user.note=kept",
                "Symlink d/link 777 -> /etc/passwd",
                "Fifo fifo 640",
                "File .wh.gone 600",
                &long,
                "Directory opaque/ 755",
                "File opaque/.wh..wh..opq 600",
            ];
            let mut found = entries(&store, made.diff_id);
            // Data comes in parts.
            for line in &mut found {
                if let Some((first, _)) = line.split_once("] [") {
                    *line = format!("{first}]");
                }
            }
            assert_eq!(found, expected, "{take:?}");
        }
    }
}

#[test]
fn a_layer_made_here_is_like_the_same_one_unpacked() {
    for ownership in ownerships() {
        for take in BOTH {
            let store = TestStore::new(ownership);
            let (base, _) = store.unpack(&Archive::new().dir("opaque").end()).unwrap();
            let upper = upper(&store);
            fill(&upper, true);
            let options = CommitOptions { below: &[base], times: Times::Kept, ..options(take) };
            let made = store.store.commit(&upper, &options).unwrap().unwrap();
            let other = TestStore::new(ownership);
            let (same, unpacked) = other.unpack(&store.written(made.diff_id)).unwrap();
            assert_eq!((same, unpacked.size), (made.diff_id, made.size));
            assert_eq!(tree(&store, same), tree(&other, same), "{take:?}");
        }
    }
}

#[test]
fn the_same_content_is_one_layer_however_it_comes() {
    let store = TestStore::new(Ownership::SingleId);
    let mut made = Vec::new();
    for take in [Take::Copy, Take::Move, Take::Move] {
        if !store.dir.path().join("data/upper").exists() {
            upper(&store);
        }
        let upper = store.dir.path().join("data/upper");
        let _ = fs::remove_dir_all(&upper);
        fs::create_dir(&upper).unwrap();
        fill(&upper, true);
        made.push(store.store.commit(&upper, &options(take)).unwrap().unwrap());
    }
    assert_eq!(made.iter().map(|m| m.is_new).collect::<Vec<_>>(), [true, false, false]);
    assert!(made.iter().all(|m| m.diff_id == made[0].diff_id && m.archive_size == made[0].archive_size));
    assert_eq!(store.store.list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(store.paths.staging()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.paths.locks()).unwrap().count(), 0);
}

#[test]
fn a_copied_directory_is_not_changed() {
    let store = TestStore::new(Ownership::SingleId);
    let upper = upper(&store);
    fill(&upper, true);
    let look = |path: &str| {
        let stat = fs::symlink_metadata(upper.join(path)).unwrap();
        (stat.mode(), stat.ctime(), stat.ctime_nsec(), stat.ino())
    };
    let paths = ["", "d", "d/file", "d/e", "socket", "gone", "opaque", "big"];
    let before: Vec<_> = paths.iter().map(|p| look(p)).collect();
    store.store.commit(&upper, &options(Take::Copy)).unwrap().unwrap();
    assert_eq!(paths.iter().map(|p| look(p)).collect::<Vec<_>>(), before);
}

#[test]
fn nothing_is_no_layer() {
    for take in BOTH {
        let store = TestStore::new(Ownership::SingleId);
        let upper = upper(&store);
        let points = ["/proc", "/a/b/c", "/etc/hosts"].map(PathBuf::from);
        fs::create_dir_all(upper.join("proc")).unwrap();
        fs::create_dir_all(upper.join("a/b/c")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        let options = CommitOptions { mount_points: &points, ..options(take) };
        assert_eq!(store.store.commit(&upper, &options).unwrap(), None);
        store.assert_empty();
    }
}

#[test]
fn places_for_mounts_are_left_out_and_what_says_something_stays() {
    for take in BOTH {
        let store = TestStore::new(Ownership::SingleId);
        let mut base = Archive::new();
        base.dir("etc").dir("var").symlink("var/run", "/run").dir("run").dir("srv").dir("opt");
        let (base, _) = store.unpack(&base.end()).unwrap();
        let upper = upper(&store);
        for folder in ["etc", "run", "srv/data", "made/by/us", "made/too", "opt/x/y", "proc"] {
            fs::create_dir_all(upper.join(folder)).unwrap();
        }
        for file in ["etc/hosts", "run/docker.sock", "etc/empty"] {
            fs::write(upper.join(file), "").unwrap();
        }
        fs::write(upper.join("etc/resolv.conf"), "written").unwrap();
        // Changed besides.
        fs::set_permissions(upper.join("opt"), fs::Permissions::from_mode(0o700)).unwrap();
        let points = [
            "/etc/hosts",
            "/etc/resolv.conf",
            "/var/run/docker.sock",
            "/srv/data",
            "/made/by/us",
            "/opt/x/y",
            "/proc",
        ]
        .map(PathBuf::from);
        let options = CommitOptions { below: &[base], mount_points: &points, ..options(take) };
        let made = store.store.commit(&upper, &options).unwrap().unwrap();
        let expected = [
            "Directory etc/ 755",
            "File etc/empty 644",
            "File etc/resolv.conf 644 [written]",
            "Directory made/ 755",
            "Directory made/too/ 755",
            "Directory opt/ 700",
        ];
        assert_eq!(entries(&store, made.diff_id), expected, "{take:?}");
        store.store.verify(made.diff_id).unwrap();
    }
}

#[test]
fn a_folder_is_opaque_only_where_it_hides_something() {
    let store = TestStore::new(Ownership::SingleId);
    let (lowest, _) = store.unpack(&Archive::new().dir("old").dir("removed").dir("hidden/x").end()).unwrap();
    let mut middle = Archive::new();
    middle.file(".wh.removed", b"").dir("hidden").file("hidden/.wh..wh..opq", b"");
    let (middle, _) = store.unpack(&middle.end()).unwrap();
    let upper = upper(&store);
    for folder in ["old", "removed", "new", "hidden/x"] {
        fs::create_dir_all(upper.join(folder)).unwrap();
        set(&upper.join(folder), "user.overlay.opaque", b"y");
    }
    let options = CommitOptions { below: &[lowest, middle], ..options(Take::Move) };
    let made = store.store.commit(&upper, &options).unwrap().unwrap();
    let found = entries(&store, made.diff_id);
    let opaque: Vec<_> = found.iter().filter(|line| line.contains("opq")).collect();
    assert_eq!(opaque, ["File old/.wh..wh..opq 600"]);
    let marked = |name: &str| {
        let path = store.store.fs_dir(made.diff_id).join(name);
        rustix::fs::getxattr(path, "user.overlay.opaque", &mut [0; 8]).is_ok()
    };
    assert_eq!(["old", "removed", "new", "hidden/x"].map(marked), [true, false, false, false]);
}

#[test]
fn what_cannot_be_said_is_refused_and_leaves_nothing() {
    type Make = fn(&Path);
    let bad: [(&str, Make); 3] = [
        ("redirect", |upper| {
            fs::create_dir(upper.join("moved")).unwrap();
            set(&upper.join("moved"), "user.overlay.redirect", b"/from");
        }),
        ("metacopy", |upper| {
            fs::write(upper.join("file"), "x").unwrap();
            set(&upper.join("file"), "user.overlay.metacopy", b"");
        }),
        ("name", |upper| fs::write(upper.join(".wh.file"), "x").unwrap()),
    ];
    for (what, make) in bad {
        for take in BOTH {
            let store = TestStore::new(Ownership::SingleId);
            let upper = upper(&store);
            make(&upper);
            let error = store.store.commit(&upper, &options(take)).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{what}: {error:?}");
            store.assert_empty();
        }
    }
}

#[test]
fn times_are_cut_clamped_or_set() {
    for (times, expected) in [
        (Times::Kept, 1234),
        (Times::ClampedTo(1000), 1000),
        (Times::ClampedTo(9999), 1234),
        (Times::SetTo(5), 5),
    ] {
        let store = TestStore::new(Ownership::SingleId);
        let upper = upper(&store);
        fill(&upper, true);
        let made =
            store.store.commit(&upper, &CommitOptions { times, ..options(Take::Move) }).unwrap().unwrap();
        let root = store.store.fs_dir(made.diff_id);
        for path in ["d/file", "d"] {
            let stat = fs::metadata(root.join(path)).unwrap();
            assert_eq!((stat.mtime(), stat.mtime_nsec()), (expected, 0), "{path} {times:?}");
        }
    }
}

#[test]
fn a_root_that_differs_has_an_entry() {
    let store = TestStore::new(Ownership::SingleId);
    let upper = upper(&store);
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o711)).unwrap();
    let made = store.store.commit(&upper, &options(Take::Move)).unwrap().unwrap();
    assert_eq!(entries(&store, made.diff_id), ["Directory ./ 711"]);
    store.store.verify(made.diff_id).unwrap();
}

#[test]
fn what_a_dead_committer_left_is_collected_and_what_lives_is_not() {
    let store = TestStore::new(Ownership::SingleId);
    let staging = Staging::make(&store.paths).unwrap();
    assert_eq!(store.store.collect().unwrap(), 0);
    assert!(!store.store.has_leftovers().unwrap());
    let dir = staging.dir.clone();
    fs::write(dir.join("toc.zst"), "half").unwrap();
    // As after a kill: the lock is gone, the folder is not.
    let Staging { _lock, .. } = &staging;
    let name = dir.file_name().unwrap().to_owned();
    std::mem::forget(fs::rename(&dir, dir.with_file_name("kept")));
    drop(staging);
    fs::rename(dir.with_file_name("kept"), dir.with_file_name(name)).unwrap();
    assert!(store.store.has_leftovers().unwrap());
    assert_eq!(store.store.collect().unwrap(), 1);
    store.assert_empty();
}

#[test]
fn owners_of_a_container_with_other_ids_are_shifted_back() {
    if !ownerships().contains(&Ownership::Mapped) {
        return;
    }
    let maps = IdMap::parse("0 1 1000\n1000 0 1\n1001 1001 10\n");
    for take in BOTH {
        let store = TestStore::new(Ownership::Mapped);
        let upper = upper(&store);
        fs::write(upper.join("roots"), "r").unwrap();
        fs::write(upper.join("users"), "u").unwrap();
        symlink("x", upper.join("link")).unwrap();
        for path in ["", "roots", "link"] {
            std::os::unix::fs::lchown(upper.join(path), Some(1), Some(1)).unwrap();
        }
        let options = CommitOptions { maps: Some((&maps, &maps)), ..options(take) };
        let made = store.store.commit(&upper, &options).unwrap().unwrap();
        let root = store.store.fs_dir(made.diff_id);
        let owner = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().uid();
        assert_eq!(["", "roots", "users", "link"].map(owner), [0, 0, 1000, 0]);
        store.store.verify(made.diff_id).unwrap();
    }
}

#[test]
fn in_single_id_mode_owners_that_were_remembered_stay_so() {
    let store = TestStore::new(Ownership::SingleId);
    let upper = upper(&store);
    fs::write(upper.join("file"), "x").unwrap();
    set(&upper.join("file"), super::super::OVERRIDE_STAT, b"5:6:0644");
    fs::set_permissions(upper.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    for take in BOTH {
        let made = store.store.commit(&upper, &options(take)).unwrap().unwrap();
        let file = store.store.fs_dir(made.diff_id).join("file");
        let mut value = [0; 32];
        let length = rustix::fs::getxattr(file, super::super::OVERRIDE_STAT, &mut value).unwrap();
        assert_eq!(&value[..length], b"5:6:0600");
        assert!(matches!(store.store.claim(made.diff_id).unwrap(), Claim::Present));
    }
}
