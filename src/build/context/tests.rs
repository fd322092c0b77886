use super::*;
use crate::digest::Digest;
use rustix::fs::{Timespec, Timestamps, XattrFlags, mkfifoat, setxattr, utimensat};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        Self { dir, paths }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("context").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn context(&self, ignore: &str) -> Context {
        let ignore = Ignore::parse(".dockerignore", ignore.as_bytes()).unwrap();
        Context::open(&self.paths, &self.at(""), ignore, Owners::All(0, 0)).unwrap()
    }

    fn digest(&self, path: &str) -> Option<Digest> {
        self.context("").tree(path.as_bytes()).unwrap().map(|tree| tree.digest())
    }

    fn paths_of(&self, ignore: &str, path: &str) -> Vec<String> {
        let tree = self.context(ignore).tree(path.as_bytes()).unwrap();
        let text = |item: &Item| item.path.escape_ascii().to_string();
        tree.map(|tree| tree.items().iter().map(text).collect()).unwrap_or_default()
    }
}

/// Till a change would show in a file's times.
fn settle() {
    std::thread::sleep(Duration::from_millis(150));
}

#[test]
fn what_a_layer_would_show_changes_the_digest_and_times_do_not() {
    let world = World::new();
    world.write("d/a", "one");
    world.write("d/b", "two");
    symlink("a", world.at("d/link")).unwrap();
    let first = world.digest("").unwrap();
    let time = Timespec { tv_sec: 7, tv_nsec: 8 };
    let times = Timestamps { last_access: time, last_modification: time };
    for path in ["", "d", "d/a", "d/link"] {
        utimensat(CWD, world.at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    assert_eq!(world.digest(""), Some(first));
    let mut seen = vec![first];
    let mut changed = |what: &str| {
        let digest = world.digest("").unwrap();
        assert!(!seen.contains(&digest), "{what}");
        seen.push(digest);
    };
    fs::write(world.at("d/a"), "0ne").unwrap();
    changed("content");
    fs::write(world.at("d/a"), "0ne ").unwrap();
    changed("size");
    fs::set_permissions(world.at("d/a"), fs::Permissions::from_mode(0o755)).unwrap();
    changed("mode");
    fs::set_permissions(world.at("d"), fs::Permissions::from_mode(0o700)).unwrap();
    changed("mode of a folder");
    setxattr(world.at("d/a"), "user.note", b"x", XattrFlags::empty()).unwrap();
    changed("attribute");
    setxattr(world.at("d"), "user.note", b"x", XattrFlags::empty()).unwrap();
    changed("attribute of a folder");
    fs::rename(world.at("d/b"), world.at("d/c")).unwrap();
    changed("name");
    fs::create_dir(world.at("e")).unwrap();
    changed("empty folder");
    fs::remove_file(world.at("d/link")).unwrap();
    symlink("c", world.at("d/link")).unwrap();
    changed("target of a link");
    mkfifoat(CWD, world.at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
    changed("pipe");
    // Nobody can copy one.
    let _socket = std::os::unix::net::UnixListener::bind(world.at("socket")).unwrap();
    assert_eq!(world.digest(""), seen.last().copied());
    let ignore = Ignore::parse("", b"").unwrap();
    let mut others = Context::open(&world.paths, &world.at(""), ignore, Owners::All(0, 5)).unwrap();
    assert!(!seen.contains(&others.tree(b"").unwrap().unwrap().digest()));
}

#[test]
fn a_part_has_the_same_digest_wherever_it_is_found() {
    let world = World::new();
    for path in ["a/b/c", "a/b.c", "a/b/caf\u{e9}", "a-b", "z/b/c", "z/b/caf\u{e9}"] {
        world.write(path, &path[1..]);
    }
    let whole = world.context("").tree(b"").unwrap().unwrap();
    for item in whole.items() {
        let path = std::str::from_utf8(&item.path).unwrap();
        assert_eq!(whole.digest_at(&item.path), world.digest(path), "{path}");
    }
    assert_eq!(world.digest("a/b"), world.digest("z/b"));
    assert_eq!(whole.digest_at(b"a/x"), None);
    assert_eq!(world.digest("a/b/c/d"), None);
    // In the order of bytes, which is not that of whole paths.
    let order: Vec<_> = world.paths_of("", "a");
    assert_eq!(order[..4], ["a", "a/b", "a/b/c", "a/b/caf\\xc3\\xa9"]);
}

#[test]
fn of_a_tree_a_part_can_be_chosen() {
    let world = World::new();
    for path in ["src/main.rs", "src/deep/x.rs", "src/deep/x.txt", "doc/y.txt"] {
        world.write(path, path);
    }
    let rust = |world: &World| {
        world.context("").tree(b"").unwrap().unwrap().digest_chosen(|item| match &item.kind {
            Kind::Folder => Choice::Descend,
            _ if item.path.ends_with(b".rs") => Choice::Take,
            _ => Choice::Skip,
        })
    };
    let before = rust(&world).unwrap();
    fs::write(world.at("doc/y.txt"), "other").unwrap();
    fs::remove_file(world.at("src/deep/x.txt")).unwrap();
    assert_eq!(rust(&world), Some(before));
    fs::write(world.at("src/deep/x.rs"), "other").unwrap();
    assert_ne!(rust(&world), Some(before));
    let none = world.context("").tree(b"doc").unwrap().unwrap().digest_chosen(|_| Choice::Descend);
    assert_eq!(none, None);
}

#[test]
fn what_is_ignored_is_not_there_and_not_read() {
    let world = World::new();
    for path in ["keep/a", "target/big", "target/keep/b", "x.log", "keep/x.log", "only/x.log"] {
        world.write(path, path);
    }
    // Not to be read by an ordinary user.
    world.write("secret/key", "k");
    for path in ["secret/key", "secret"] {
        fs::set_permissions(world.at(path), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let ignore = "target\nsecret\n**/*.log\n!target/keep\n";
    let expected = ["", "keep", "keep/a", "only", "target", "target/keep", "target/keep/b"];
    assert_eq!(world.paths_of(ignore, ""), expected);
    assert_eq!(world.paths_of(ignore, "target"), expected[4..]);
    assert!(world.paths_of(ignore, "target/big").is_empty());
    assert!(world.paths_of(ignore, "keep/x.log").is_empty());
    assert!(world.paths_of(ignore, "secret").is_empty());
    assert_eq!(world.context(ignore).names(b"keep").unwrap(), [b"a"]);
    assert!(world.context(ignore).names(b"secret").unwrap().is_empty());
    // An ignored folder with nothing that is brought back is not there itself.
    fs::remove_dir_all(world.at("target/keep")).unwrap();
    assert_eq!(world.paths_of(ignore, ""), ["", "keep", "keep/a", "only"]);
    // Nor is what nobody names.
    let mut context = world.context("");
    context.tree(b"keep/a").unwrap().unwrap();
    assert_eq!(context.files_read(), 1);
    if !rustix::process::geteuid().is_root() {
        let error = world.context("").tree(b"").unwrap_err();
        assert!(
            matches!(error, Error::Io { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
        );
        assert!(error.fix().unwrap().contains(".dockerignore"));
    }
    fs::set_permissions(world.at("secret"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_is_remembered_is_not_read_again_and_what_changed_is() {
    let world = World::new();
    for number in 0..100 {
        world.write(&format!("d{}/f{number}", number % 7), &format!("text {number}"));
    }
    settle();
    let build = |path: &str| {
        let mut context = world.context("");
        let digest = context.tree(path.as_bytes()).unwrap().unwrap().digest();
        context.save().unwrap();
        (context.files_read(), digest)
    };
    let (read, first) = build("");
    assert_eq!(read, 100);
    assert_eq!(build(""), (0, first));
    assert_eq!(build("d3").0, 0);
    // The same size and the same time of modification: only the time of change tells.
    let old = fs::metadata(world.at("d0/f0")).unwrap();
    fs::write(world.at("d0/f0"), "tent 0").unwrap();
    fs::File::options()
        .append(true)
        .open(world.at("d0/f0"))
        .unwrap()
        .set_modified(old.modified().unwrap())
        .unwrap();
    settle();
    let (read, second) = build("");
    assert_eq!(read, 1);
    assert_ne!(second, first);
    assert_eq!(build(""), (0, second));
    // A new file in the place of an old one, with its times.
    fs::copy(world.at("d0/f0"), world.at("d0/new")).unwrap();
    fs::rename(world.at("d0/new"), world.at("d0/f0")).unwrap();
    settle();
    assert_eq!(build(""), (1, second));
}

#[test]
fn what_was_changed_a_moment_ago_is_not_remembered() {
    let world = World::new();
    world.write("f", "one");
    let build = || {
        let mut context = world.context("");
        let digest = context.tree(b"f").unwrap().unwrap().digest();
        context.save().unwrap();
        (context.files_read(), digest)
    };
    // Changed and read over and over within one tick: the digest is right each time.
    let mut last = None;
    for round in 0..200 {
        fs::write(world.at("f"), format!("{round:03}")).unwrap();
        let (read, digest) = build();
        assert_eq!(read, 1);
        assert_ne!(Some(digest), last, "{round}");
        last = Some(digest);
    }
    settle();
    assert_eq!(build().0, 1);
    assert_eq!(build().0, 0);
    let settled = contents::settled;
    assert!(settled(5_000_000_123, 5_100_000_000) && !settled(5_000_000_123, 5_020_000_000));
    // Times in whole seconds.
    assert!(!settled(5_000_000_000, 6_900_000_000) && settled(5_000_000_000, 7_600_000_000));
    // A clock that was set back.
    assert!(!settled(9_000_000_123, 5_000_000_000));
}

#[test]
fn a_damaged_memory_is_none() {
    let world = World::new();
    world.write("f", "one");
    settle();
    let build = || {
        let mut context = world.context("");
        context.tree(b"").unwrap().unwrap();
        context.save().unwrap();
        context.files_read()
    };
    assert_eq!((build(), build()), (1, 0));
    // There is a lock beside it.
    let is_memory = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("contents-");
    let entries = fs::read_dir(world.paths.build_cache()).unwrap();
    let file = entries.map(|entry| entry.unwrap().path()).find(is_memory).unwrap();
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 1;
        fs::write(&file, &torn).unwrap();
        assert_eq!(world.context("").tree(b"").unwrap().map(|_| ()), Some(()));
    }
    for damage in [&whole[..whole.len() - 1], b"", b"coracle contents 1\n"] {
        fs::write(&file, damage).unwrap();
        assert_eq!((build(), build()), (1, 0));
    }
}

#[test]
fn no_link_leads_out_of_the_context() {
    let world = World::new();
    fs::write(world.dir.path().join("outside"), "secret").unwrap();
    world.write("d/inside", "x");
    for (target, link) in [
        ("../../outside", "d/out"),
        ("../..", "d/up"),
        ("/d", "absolute"),
        ("d", "to-d"),
        ("nowhere", "dangling"),
        ("round", "round"),
    ] {
        symlink(target, world.at(link)).unwrap();
    }
    let context = world.context("");
    let resolve = |path: &str| String::from_utf8(context.resolve(path.as_bytes()).unwrap()).unwrap();
    for (path, expected) in [
        ("d/out", "outside"),
        ("d/up", ""),
        ("d/up/d/inside", "d/inside"),
        ("../../d/./inside", "d/inside"),
        ("absolute/inside", "d/inside"),
        ("to-d/", "d"),
        ("dangling", "nowhere"),
        ("/", ""),
        ("none/../d", "d"),
    ] {
        assert_eq!(resolve(path), expected, "{path}");
    }
    assert!(context.resolve(b"round").is_err());
    for path in ["outside", "nowhere", "to-d/inside", "d/up/d", "../outside"] {
        assert!(!world.paths_of("", path).iter().any(|p| p.contains("inside") || p == path), "{path}");
    }
    // A link below what is named is a link.
    let tree = world.context("").tree(b"d").unwrap().unwrap();
    let out = tree.items().iter().find(|item| item.path == b"d/out").unwrap();
    assert_eq!(out.kind, Kind::Link(b"../../outside".to_vec()));
}

#[test]
fn what_changes_after_it_was_digested_is_found() {
    let world = World::new();
    world.write("d/a", "one");
    world.write("d/b", "two");
    settle();
    let mut context = world.context("");
    let tree = context.tree(b"").unwrap().unwrap();
    assert!(context.first_changed(&tree).unwrap().is_none());
    fs::write(world.at("d/b"), "tow").unwrap();
    assert_eq!(context.first_changed(&tree).unwrap().unwrap().path, b"d/b");
    fs::remove_file(world.at("d/a")).unwrap();
    assert!(context.first_changed(&tree).unwrap().is_some());
}

#[test]
fn several_threads_find_what_one_does() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..60 {
        let folder = dir.path().join(format!("top/f{number}"));
        fs::create_dir_all(folder.join("deep/deeper")).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        fs::write(folder.join("deep/left-out.log"), "x").unwrap();
        fs::write(folder.join("deep/deeper/file"), "x").unwrap();
        fs::write(dir.path().join(format!("top/g{number}")), "x").unwrap();
    }
    fs::create_dir(dir.path().join("top/empty")).unwrap();
    let root: OwnedFd = fs::File::open(dir.path()).unwrap().into();
    let ignore = Ignore::parse("ignore", b"**/*.log\ntop/f7\ntop/f8\n!top/f8/file\n").unwrap();
    for selection in [Selection::default(), Selection::all_but(&["**/deeper", "f9"]).unwrap()] {
        let found = |threads| {
            let (ignore, selection, root) = (&ignore, &selection, &root);
            let look = &Look::new(None);
            let walk = Walk { ignore, selection, owners: Owners::Kept, root, threads, look };
            let stat = statat(root, "top", AtFlags::empty()).unwrap();
            let walker = Walker::new(root.try_clone().unwrap());
            format!("{:?}", walk.tree(walker, b"top", &stat, &ignore.root()).unwrap().unwrap().items)
        };
        let one = found(1);
        assert!(one.contains("Item") && !one.contains(&format!("{:?}", b"top/f7/file")));
        for threads in [2, 5] {
            assert_eq!(found(threads), one);
        }
    }
}

#[test]
fn reading_is_told_of_where_there_is_much_to_read() {
    let world = World::new();
    world.write("few/a", "one");
    for number in 0..MANY_FILES {
        world.write(&format!("many/{number}"), "xyz");
    }
    settle();
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let look = |path: &str, fails: bool| {
        let (mut context, to) = (world.context(""), std::sync::Arc::clone(&said));
        context.watch(Box::new(move |looking| {
            to.lock().unwrap().push(match looking {
                Looking::Begun => "begun".to_owned(),
                Looking::Reading { files, bytes } => format!("{files} {bytes}"),
                Looking::Ended(error) => format!("ended {}", error.is_some()),
            });
        }));
        let tree = context.tree(path.as_bytes());
        assert_eq!(tree.is_err(), fails);
        context.save().unwrap();
        std::mem::take(&mut *said.lock().unwrap())
    };
    assert_eq!(look("few", false), [""; 0]);
    assert_eq!(look("many", false), ["begun", &format!("{MANY_FILES} {}", 3 * MANY_FILES), "ended false"]);
    // What is known is not read.
    assert_eq!(look("many", false), [""; 0]);
    if !rustix::process::geteuid().is_root() {
        world.write("many/large", &"x".repeat(9 << 20));
        fs::set_permissions(world.at("many/large"), fs::Permissions::from_mode(0o0)).unwrap();
        assert_eq!(look("many", true), ["begun", &format!("1 {}", 9 << 20), "ended true"]);
    }
}
