//! The same tables for openat2 and for the walk by hand.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

const OUTSIDE: &str = "outside";
const MODE: Mode = Mode::RWXU;

/// A root in `dir/root`, beside a file `dir/secret` and a folder `dir/out` that must never be reached.
fn fixture() -> (tempfile::TempDir, [Root; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("etc/sub")).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("secret"), OUTSIDE).unwrap();
    fs::write(dir.path().join("out/secret"), OUTSIDE).unwrap();
    fs::write(root.join("etc/passwd"), "inside").unwrap();
    for (link, target) in [
        ("abs", "/etc"),
        ("rel", "etc/sub/.."),
        ("up", "../../../../etc"),
        ("escape", "../secret"),
        ("leave", "../out"),
        ("host", dir.path().to_str().unwrap()),
        ("chain", "abs/../rel/passwd"),
        ("loop", "loop2"),
        ("loop2", "/loop"),
        ("dangling", "/run/made"),
        ("etc/sub/back", "../../etc/passwd"),
        ("slash", "etc/"),
        ("top", "/"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    assert!(has_openat2(), "the tests want a kernel with openat2");
    let roots =
        [true, false].map(|openat2| Root { openat2, ..Root::open_dir(&root).expect("the root is there") });
    (dir, roots)
}

fn read(root: &Root, path: &str) -> Result<String, Errno> {
    match root.open(path, OFlags::RDONLY, Mode::empty()) {
        Ok(fd) => Ok(io::read_to_string(File::from(fd)).unwrap()),
        Err(e) => Err(Errno::from_io_error(&e).unwrap()),
    }
}

#[test]
fn every_path_is_resolved_inside_the_root_in_both_ways() {
    let (_dir, roots) = fixture();
    let inside = || Ok("inside".to_owned());
    for (path, expected) in [
        ("etc/passwd", inside()),
        ("/etc/passwd", inside()),
        ("//etc/./passwd", inside()),
        ("../../etc/passwd", inside()),
        ("etc/../../etc/passwd", inside()),
        ("abs/passwd", inside()),
        ("rel/passwd", inside()),
        ("up/passwd", inside()),
        ("chain", inside()),
        ("etc/sub/back", inside()),
        ("slash/passwd", inside()),
        ("top/top/etc/passwd", inside()),
        ("abs/../chain", inside()),
        ("escape", Err(Errno::NOENT)),
        ("leave/secret", Err(Errno::NOENT)),
        ("host/secret", Err(Errno::NOENT)),
        ("../secret", Err(Errno::NOENT)),
        ("loop", Err(Errno::LOOP)),
        ("loop/x", Err(Errno::LOOP)),
        ("dangling", Err(Errno::NOENT)),
        ("etc/passwd/", Err(Errno::NOTDIR)),
        ("etc/passwd/..", Err(Errno::NOTDIR)),
        ("etc/passwd/x", Err(Errno::NOTDIR)),
        ("", Err(Errno::NOENT)),
        ("missing/../etc/passwd", Err(Errno::NOENT)),
    ] {
        for root in &roots {
            assert_eq!(read(root, path), expected, "{path:?}, openat2: {}", root.openat2);
        }
    }
}

#[test]
fn the_root_itself_is_what_dots_and_slashes_lead_to() {
    let (dir, roots) = fixture();
    let inode = rustix::fs::stat(dir.path().join("root")).unwrap().st_ino;
    for root in &roots {
        for path in ["/", ".", "..", "/..", "etc/..", "../../..", "top", "top/", "//"] {
            assert_eq!(root.stat(path).unwrap().st_ino, inode, "{path}");
        }
    }
}

#[test]
fn a_link_is_opened_itself_only_when_asked() {
    let (_dir, roots) = fixture();
    let kind = |fd: OwnedFd| FileType::from_raw_mode(rustix::fs::fstat(fd).unwrap().st_mode);
    for root in &roots {
        assert_eq!(kind(root.open_path_nofollow("abs").unwrap()), FileType::Symlink);
        assert_eq!(kind(root.open_path_nofollow("abs/").unwrap()), FileType::Directory);
        assert_eq!(kind(root.open_path("abs").unwrap()), FileType::Directory);
        assert_eq!(root.readlink("/escape").unwrap(), b"../secret");
        assert_eq!(Errno::from_io_error(&root.readlink("etc/passwd").unwrap_err()), Some(Errno::INVAL));
        let opened = root.open("chain", OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty());
        assert_eq!(Errno::from_io_error(&opened.unwrap_err()), Some(Errno::LOOP));
        let opened = root.open("dangling", OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, MODE);
        assert_eq!(Errno::from_io_error(&opened.unwrap_err()), Some(Errno::EXIST));
    }
}

#[test]
fn directories_are_made_inside_whatever_the_links_say() {
    for way in 0..2 {
        for (path, made) in [
            ("a/b/c", "a/b/c"),
            ("/abs/x/y", "etc/x/y"),
            ("../../a/../b", "b"),
            ("dangling/x", "run/made/x"),
            ("leave/x", "out/x"),
            ("escape/x", "secret/x"),
            ("etc/sub", "etc/sub"),
            ("top", "."),
        ] {
            let (dir, roots) = fixture();
            let fd = roots[way].create_dir_all(path, MODE).unwrap();
            let at = dir.path().join("root").join(made);
            assert_eq!(rustix::fs::fstat(fd).unwrap().st_ino, rustix::fs::stat(at).unwrap().st_ino, "{path}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "{path}");
            assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1, "{path}");
        }
        let (_dir, roots) = fixture();
        for (path, errno) in [
            ("etc/passwd", Errno::NOTDIR),
            ("etc/passwd/x", Errno::NOTDIR),
            ("loop/x", Errno::LOOP),
            ("chain/x", Errno::NOTDIR),
        ] {
            let error = roots[way].create_dir_all(path, MODE).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(errno), "{path}");
        }
    }
}

#[test]
fn files_are_made_with_their_parents_and_only_regular_ones_are_opened() {
    let (dir, [root, _]) = fixture();
    for (path, made) in [
        ("new/dir/file", "new/dir/file"),
        ("etc/passwd", "etc/passwd"),
        ("chain", "etc/passwd"),
        ("dangling", "run/made"),
        ("escape", "secret"),
    ] {
        let fd = root.create_file(path, Mode::RUSR).unwrap();
        let at = dir.path().join("root").join(made);
        assert_eq!(rustix::fs::fstat(fd).unwrap().st_ino, rustix::fs::stat(&at).unwrap().st_ino, "{path}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("root/etc/passwd")).unwrap(), "inside");
    assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), OUTSIDE);
    rustix::fs::mknodat(&root, "fifo", FileType::Fifo, MODE, 0).unwrap();
    for (path, errno) in [("etc", Errno::ISDIR), ("fifo", Errno::INVAL), ("new/", Errno::ISDIR)] {
        let error = root.create_file(path, MODE).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(errno), "{path}");
    }
}

#[test]
fn reading_is_bounded_and_does_not_wait_for_a_fifo() {
    let (_dir, roots) = fixture();
    rustix::fs::mknodat(&roots[0], "fifo", FileType::Fifo, MODE, 0).unwrap();
    for root in &roots {
        assert_eq!(root.read_bounded("abs/passwd", 6).unwrap().unwrap(), b"inside");
        assert_eq!(root.read_bounded("abs/passwd", 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(root.read_bounded("missing/file", 6).unwrap().is_none());
        assert!(root.read_bounded("etc/passwd/x", 6).unwrap().is_none());
        for odd in ["fifo", "etc"] {
            assert_eq!(root.read_bounded(odd, 6).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}

/// CVE-2021-30465's shape: a directory that is swapped for a link while we resolve through it.
#[test]
fn a_racing_swap_of_a_directory_for_a_link_never_leads_outside() {
    let (dir, roots) = fixture();
    let base = dir.path().join("root");
    fs::create_dir_all(base.join("d/sub")).unwrap();
    fs::write(base.join("d/secret"), "inside").unwrap();
    // Tells the racing thread to end, also when an assertion fails.
    struct StopAtEnd<'a>(&'a AtomicBool);
    impl Drop for StopAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop_at_end = StopAtEnd(&stop);
        scope.spawn(|| {
            let targets = ["../out", "../../../../../../../..", dir.path().join("out").to_str().unwrap()]
                .map(str::to_owned);
            let spare = base.join("spare");
            for target in targets.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                symlink(target, &spare).unwrap();
                let swap = || {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&roots[0], "d", &roots[0], "spare", flags).unwrap();
                };
                swap();
                swap();
                fs::remove_file(&spare).unwrap();
            }
        });
        let mut inside = 0;
        for turn in 0..6000 {
            let root = &roots[turn % 2];
            for path in ["d/secret", "d/sub/../secret", "d/sub/../../d/secret"] {
                match read(root, path) {
                    Ok(text) => {
                        assert_eq!(text, "inside");
                        inside += 1;
                    }
                    Err(e) => assert!(matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::AGAIN), "{e}"),
                }
            }
            let _ = root.create_dir_all("d/made/deep", MODE);
            let _ = root.create_file("d/file", MODE);
        }
        assert!(inside > 0);
    });
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}
