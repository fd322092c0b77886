use super::*;
use crate::layers::testing::{Archive, TestStore};
use crate::layers::{LayerStore, Ownership};
use crate::union::{Layers, Upper, mount};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, XattrFlags, openat, statat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// With the user as 1000 inside.
fn map() -> IdMap {
    IdMap::parse("1000 0 1\n0 1 1000\n1001 1001 60000\n")
}

/// Owners can be given away, and overlays mounted, only by root of a namespace with more than one id:
/// `the_tests_also_run_as_root_of_a_user_namespace` brings these tests there.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: not root");
    }
    is_root
}

/// A store with layers, the lowest first.
fn store(archives: &[&Archive]) -> (TestStore, Vec<Digest>) {
    let store = TestStore::new(Ownership::Mapped);
    let layers = archives.iter().map(|archive| store.unpack(&archive.end()).unwrap().0).collect();
    (store, layers)
}

fn shifted(store: &TestStore, form: Form, layers: &[Digest]) -> ShiftedLayers {
    store.store.shifted_as(form, layers, &map(), &map()).unwrap()
}

/// Everything that a container sees of a file.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    kind: FileType,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u64,
    mtime: (i64, u64),
    /// Of a regular file, or a link's target.
    content: Vec<u8>,
    note: Option<Vec<u8>>,
}

type Tree = BTreeMap<Vec<u8>, Shown>;

fn list(folder: &OwnedFd, path: &[u8], into: &mut Tree) {
    for entry in Dir::read_from(folder).unwrap() {
        let name = entry.unwrap().file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let path = [path, b"/", name.to_bytes()].concat();
        let open = |flags| openat(folder, &name, flags | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        let (mut content, mut note) = (Vec::new(), None);
        let noted = |file: &OwnedFd| {
            let mut value = vec![0; 64];
            let size = rustix::fs::fgetxattr(file, "user.note", &mut value[..]).ok()?;
            value.truncate(size);
            Some(value)
        };
        match kind {
            FileType::Directory => {
                let below = open(OFlags::RDONLY | OFlags::DIRECTORY);
                note = noted(&below);
                list(&below, &path, into);
            }
            FileType::RegularFile => {
                let file = open(OFlags::RDONLY);
                note = noted(&file);
                File::from(file).read_to_end(&mut content).unwrap();
                assert_eq!(content.len(), usize::try_from(stat.st_size).unwrap());
            }
            FileType::Symlink => {
                content = rustix::fs::readlinkat(folder, &name, Vec::new()).unwrap().into_bytes();
            }
            _ => {}
        }
        let shown = Shown {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: if kind == FileType::Directory { 0 } else { stat.st_nlink },
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            content,
            note,
        };
        into.insert(path, shown);
    }
}

/// What a union mount shows; `None` where this kernel shows no data-only layers.
fn mounted(layers: &ShiftedLayers) -> Option<Tree> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut version = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if !layers.data_only.is_empty() && (version.next(), version.next()) < (Some(6), Some(16)) {
        eprintln!("skipped: data-only layers before Linux 6.16");
        return None;
    }
    // With nothing writable the kernel wants two layers at least.
    let dir = tempfile::tempdir().unwrap();
    let [upper, work] = ["upper", "work"].map(|name| dir.path().join(name));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let layers = Layers {
        lower: layers.lower.clone(),
        data_only: layers.data_only.clone(),
        upper: Some(Upper { upper, work, volatile: true }),
    };
    // A mount namespace of the thread's own.
    let list_it = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let root = openat(mount(&layers).unwrap(), ".", OFlags::RDONLY, Mode::empty()).unwrap();
        let mut tree = Tree::new();
        list(&root, b"", &mut tree);
        tree
    };
    Some(std::thread::spawn(list_it).join().unwrap())
}

/// What the image's own layers show, under the owners that are expected.
fn expected(store: &LayerStore, layers: &[Digest]) -> Tree {
    let lower = layers.iter().rev().map(|layer| store.fs_dir(*layer)).collect();
    let mut tree = mounted(&ShiftedLayers { lower, data_only: Vec::new() }).unwrap();
    for shown in tree.values_mut() {
        shown.uid = map().outside(shown.uid).unwrap();
        shown.gid = map().outside(shown.gid).unwrap();
    }
    tree
}

/// Checks that both forms show what the layers show, and gives that.
fn same(archives: &[&Archive]) -> Tree {
    let (store, layers) = store(archives);
    let expected = expected(&store.store, &layers);
    for form in [Form::Metadata, Form::Copy] {
        let made = shifted(&store, form, &layers);
        assert!(form == Form::Metadata || made.data_only.is_empty());
        let Some(found) = mounted(&made) else { continue };
        let names = |tree: &Tree| {
            tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&found), names(&expected), "{form:?}");
        for (path, expected) in &expected {
            assert_eq!(&found[path], expected, "{form:?} {:?}", String::from_utf8_lossy(path));
        }
    }
    expected
}

fn octal(field: &mut [u8; 8], value: u32) {
    field.copy_from_slice(format!("{value:07o}\0").as_bytes());
}

#[test]
fn owners_modes_times_and_kinds_are_the_images() {
    if !is_root() {
        return;
    }
    let mut archive = Archive::new();
    let owned = |uid: u32, gid: u32, mode: u32| {
        move |header: &mut tar::UstarHeader| {
            octal(&mut header.uid, uid);
            octal(&mut header.gid, gid);
            octal(&mut header.mode, mode);
        }
    };
    archive
        .entry(b'5', b"mail", b"", b"", owned(0, 8, 0o2775))
        .entry(b'0', b"su", b"", b"elf", owned(0, 0, 0o4755))
        .entry(b'0', b"shadow", b"", b"secret", owned(0, 42, 0o640))
        .entry(b'0', b"home", b"", b"mine", owned(1000, 1000, 0o600))
        .entry(b'0', b"other", b"", b"his", owned(1001, 999, 0o444))
        .entry(b'5', b"closed", b"", b"", owned(5, 5, 0))
        .entry(b'0', b"closed/file", b"", b"in", owned(5, 6, 0))
        .entry(b'0', b"empty", b"", b"", owned(3, 4, 0o644))
        .entry(b'2', b"link", b"/nowhere", b"", owned(7, 8, 0o777))
        .entry(b'6', b"pipe", b"", b"", owned(9, 10, 0o1620))
        .pax(&[("mtime", b"1234567890.5"), ("SCHILY.xattr.user.note", b"kept")])
        .entry(b'0', b"noted", b"", b"x", owned(0, 0, 0o644));
    let tree = same(&[&archive]);
    let of = |path: &[u8]| (tree[path].uid, tree[path].gid, tree[path].mode);
    assert_eq!(of(b"/su"), (1, 1, 0o4755));
    assert_eq!(of(b"/shadow"), (1, 43, 0o640));
    assert_eq!(of(b"/home"), (0, 0, 0o600));
    assert_eq!(of(b"/other"), (1001, 1000, 0o444));
    assert_eq!(of(b"/mail"), (1, 9, 0o2775));
    assert_eq!(tree[&b"/noted"[..]].note.as_deref(), Some(&b"kept"[..]));
    assert_eq!(tree[&b"/noted"[..]].mtime, (1_234_567_890, 500_000_000));
}

#[test]
fn layers_are_merged_as_a_union_mount_merges_them() {
    if !is_root() {
        return;
    }
    let latin: &[u8] = b"caf\xe9\n";
    let (mut lowest, mut middle, mut top) = (Archive::new(), Archive::new(), Archive::new());
    lowest
        .file("changed", b"old")
        .file("gone", b"old")
        .file("back", b"old")
        .file("was-file", b"old")
        .dir("was-dir")
        .file("was-dir/x", b"old")
        .dir("opaque")
        .file("opaque/hidden", b"old")
        .dir("opaque/sub")
        .file("opaque/sub/hidden", b"old")
        .dir("cut")
        .file("cut/hidden", b"old")
        .entry(b'5', b"meet", b"", b"", |h| octal(&mut h.mode, 0o700))
        .file("meet/low", b"low")
        .file("meet/both", b"low")
        .dir("deep/er/and/deeper")
        .file("deep/er/and/deeper/f", b"low")
        .entry(b'0', latin, b"", b"low", |_| ())
        .symlink("to-dir", "meet");
    middle
        .file("changed", b"new, and longer")
        .file(".wh.gone", b"")
        .file(".wh.back", b"")
        .dir("was-file")
        .file("was-file/x", b"new")
        .file("was-dir", b"new")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/shown", b"new")
        .file(".wh.cut", b"")
        .entry(b'5', b"meet", b"", b"", |h| octal(&mut h.mode, 0o711))
        .file("meet/both", b"middle")
        .file("deep/er/and/deeper/g", b"middle");
    top.file("back", b"again")
        .dir("cut")
        .file("cut/shown", b"top")
        .dir("opaque/sub")
        .file("opaque/sub/shown", b"top")
        .file("deep/.wh.er", b"")
        .dir("to-dir")
        .file("to-dir/f", b"top");
    let tree = same(&[&lowest, &middle, &top]);
    for hidden in ["/gone", "/opaque/hidden", "/opaque/sub/hidden", "/cut/hidden", "/deep/er", "/was-dir/x"] {
        assert!(!tree.contains_key(hidden.as_bytes()), "{hidden}");
    }
    assert_eq!(tree[&b"/meet/both"[..]].content, b"middle");
    assert_eq!(tree[&b"/meet"[..]].mode, 0o711);
    assert_eq!(tree[&[b"/", latin].concat()].content, b"low");
}

#[test]
fn hard_links_stay_links_also_when_some_of_their_names_are_hidden() {
    if !is_root() {
        return;
    }
    let (mut lower, mut upper) = (Archive::new(), Archive::new());
    lower.dir("a").file("a/1", b"one").hard_link("2", "a/1").dir("z").hard_link("z/3", "2");
    let tree = same(&[&lower]);
    assert_eq!(tree[&b"/a/1"[..]].links, 3);
    upper.file("a/.wh.1", b"").file("z/3", b"other");
    let (store, layers) = store(&[&lower, &upper]);
    for form in [Form::Metadata, Form::Copy] {
        let Some(tree) = mounted(&shifted(&store, form, &layers)) else { continue };
        assert_eq!((tree[&b"/2"[..]].links, &tree[&b"/2"[..]].content[..]), (1, &b"one"[..]));
        assert_eq!(tree[&b"/z/3"[..]].content, b"other");
    }
}

#[test]
fn holes_stay_holes_and_metadata_takes_no_space() {
    if !is_root() {
        return;
    }
    let (store, layers) = store(&[Archive::new().file("data", &[7; 200_000]).file("sparse", b"x")]);
    let sparse = store.store.fs_dir(layers[0]).join("sparse");
    let file = File::options().write(true).open(&sparse).unwrap();
    file.set_len(50_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 30_000_000).unwrap();
    for form in [Form::Metadata, Form::Copy] {
        let made = shifted(&store, form, &layers);
        let blocks = |name: &str| std::fs::metadata(made.lower[0].join(name)).unwrap().blocks();
        assert!(blocks("sparse") < 100, "{form:?}");
        assert!(form == Form::Copy || blocks("data") <= 8);
        let Some(tree) = mounted(&made) else { continue };
        let content = &tree[&b"/sparse"[..]].content;
        assert_eq!((content.len(), content[0]), (50_000_000, b'x'));
        assert!(content[30_000_000..].starts_with(b"in the middle\0"));
    }
}

#[test]
fn paths_that_no_attribute_can_hold_are_copied() {
    if !is_root() {
        return;
    }
    let long = vec!["d".repeat(200); 20].join("/");
    let mut archive = Archive::new();
    let path = format!("{long}/{}", "f".repeat(60));
    archive.pax(&[("path", path.as_bytes())]).file("file", b"far away");
    let tree = same(&[&archive]);
    assert_eq!(tree[format!("/{path}").as_bytes()].content, b"far away");
}

#[test]
fn whiteouts_in_the_form_of_attributes_hide_too() {
    if !is_root() {
        return;
    }
    let mut upper = Archive::new();
    upper.dir("d").file("d/gone", b"").file("d/empty", b"");
    let (store, layers) = store(&[Archive::new().dir("d").file("d/gone", b"x").file("d/kept", b"x"), &upper]);
    let folder = store.store.fs_dir(layers[1]).join("d");
    let set = |path: PathBuf, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    set(folder.clone(), "user.overlay.opaque", b"x");
    set(folder.join("gone"), "user.overlay.whiteout", b"y");
    let made = shifted(&store, Form::Copy, &layers);
    let names: Vec<_> =
        mounted(&made).unwrap().into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
    assert_eq!(names, ["/d", "/d/empty", "/d/kept"]);
}

#[test]
fn file_capabilities_are_those_of_the_containers_root() {
    if !is_root() {
        return;
    }
    let capability = [&0x0200_0001_u32.to_le_bytes()[..], &0x400_u32.to_le_bytes(), &[0; 12]].concat();
    let mut archive = Archive::new();
    archive.pax(&[("SCHILY.xattr.security.capability", &capability)]).file("server", b"elf");
    let (store, layers) = store(&[&archive]);
    for form in [Form::Metadata, Form::Copy] {
        let source = store.store.fs_dir(layers[0]).join("server");
        assert!(rustix::fs::getxattr(&source, "security.capability", &mut [0; 24]).is_ok());
        let file = shifted(&store, form, &layers).lower[0].join("server");
        let mut value = [0; 24];
        let size = rustix::fs::getxattr(&file, "security.capability", &mut value).unwrap();
        assert_eq!((size, &value[20..]), (24, &1_u32.to_le_bytes()[..]), "{form:?}");
    }
}

#[test]
fn an_id_that_the_container_lacks_is_explained_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let mut archive = Archive::new();
    archive.entry(b'0', b"file", b"", b"", |header| octal(&mut header.gid, 70));
    let (store, layers) = store(&[&archive]);
    let small = IdMap::parse("0 0 50\n");
    let error = store.store.shifted_as(Form::Copy, &layers, &small, &small).unwrap_err();
    assert!(matches!(error, Error::Unmapped { what: "gid", id: 70, .. }), "{error}");
    assert_eq!(names(&store.paths.staging()).unwrap(), [""; 0]);
    assert_eq!(store.store.list().unwrap(), layers);
}

#[test]
fn a_tree_is_made_once_and_goes_with_any_of_its_layers() {
    if !is_root() {
        return;
    }
    let (store, layers) = store(&[Archive::new().file("a", b"a"), Archive::new().file("b", b"b")]);
    let inode = |made: &ShiftedLayers| std::fs::metadata(&made.lower[0]).unwrap().ino();
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| inode(&shifted(&store, Form::Copy, &layers)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|inode| *inode == made[0]));
    let whole = shifted(&store, Form::Metadata, &layers);
    let part = shifted(&store, Form::Metadata, &layers[..1]);
    assert_eq!(whole.data_only.len(), 2);
    let turned = shifted(&store, Form::Metadata, &[layers[1], layers[0]]);
    assert_ne!(whole.lower, turned.lower, "the order of layers counts");
    let other_map = IdMap::parse("5 0 1\n0 1 5\n6 6 1000\n");
    let other = store.store.shifted_as(Form::Metadata, &layers, &map(), &other_map).unwrap();
    assert_ne!(whole.lower, other.lower, "both maps count");
    assert_eq!(store.store.list().unwrap().len(), 2);
    store.store.remove(layers[1]).unwrap();
    assert!(!whole.lower[0].exists() && !turned.lower[0].exists() && !other.lower[0].exists());
    assert!(part.lower[0].exists());
}

#[test]
fn an_unsynced_tree_of_an_earlier_boot_is_made_again() {
    if !is_root() {
        return;
    }
    let (store, layers) = store(&[Archive::new().file("a", b"a")]);
    store.store.make_durable().unwrap();
    let tree = super::Tree::of(&store.paths, Form::Copy, &layers, &map(), &map());
    let first = shifted(&store, Form::Copy, &layers);
    let reboot = || {
        let state = State { boot_id: "an earlier boot".into(), ..read_state(&tree).unwrap().unwrap() };
        write_json(&tree.dir.join("state"), &state, Durability::Process).unwrap();
        std::fs::write(tree.dir.join("fs/mark"), "").unwrap();
    };
    reboot();
    assert_eq!(store.store.make_durable().unwrap(), 0);
    assert_eq!(shifted(&store, Form::Copy, &layers), first);
    assert!(!tree.dir.join("fs/mark").exists());
    assert_eq!(store.store.make_durable().unwrap(), 1);
    reboot();
    shifted(&store, Form::Copy, &layers);
    assert!(tree.dir.join("fs/mark").exists());
    std::fs::write(tree.dir.join("state"), "{").unwrap();
    shifted(&store, Form::Copy, &layers);
    assert!(!tree.dir.join("fs/mark").exists());
}

#[test]
fn what_dead_builders_left_is_collected() {
    let store = TestStore::new(Ownership::SingleId);
    let tree = super::Tree::at(&store.paths, Digest::of(b"dead"));
    std::fs::create_dir_all(tree.staging.join(FS)).unwrap();
    assert_eq!(store.store.collect().unwrap(), 1);
    assert!(!tree.staging.exists());
}
