use super::*;
use crate::digest::Digest;
use crate::layers::testing::{Archive, TestStore, ownerships};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

/// Unpacks an archive in every way there is, and checks that the same archive comes out again.
fn for_each_way(archive: &[u8], check: impl Fn(Ownership, &Path, Unpacked)) {
    for ownership in ownerships() {
        let store = TestStore::new(ownership);
        let (diff_id, unpacked) = store.unpack(archive).unwrap();
        check(ownership, &store.store.fs_dir(diff_id), unpacked);
        assert!(store.written(diff_id) == archive, "{ownership:?}: another archive came out");
        store.store.verify(diff_id).unwrap();
    }
}

/// Checks that an archive is refused with a message, and leaves nothing.
fn refused(archive: &[u8], message: &str) {
    refused_limited(archive, &Limits::default(), message);
}

fn refused_limited(archive: &[u8], limits: &Limits, message: &str) {
    for ownership in ownerships() {
        let store = TestStore::new(ownership);
        let error = store.unpack_limited(archive, limits).unwrap_err().to_string();
        assert!(error.contains(message), "'{error}' does not contain '{message}'");
        store.assert_empty();
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn all_kinds_of_entries_arrive_with_modes_owners_and_times() {
    let mut archive = Archive::new();
    archive
        .entry(b'5', b"./", b"", b"", |h| h.mode.copy_from_slice(b"0000711\0"))
        .entry(b'5', b"./dir/", b"", b"", |h| {
            h.mode.copy_from_slice(b"0001777\0");
            h.uid.copy_from_slice(b"0000005\0");
        })
        .pax(&[("mtime", b"1234567890.123456789")])
        .entry(b'0', b"./dir/setuid", b"", b"#!", |h| h.mode.copy_from_slice(b"0004755\0"))
        .entry(b'0', b"dir/private", b"", b"x", |h| {
            h.mode.copy_from_slice(b"0000640\0");
            h.uid.copy_from_slice(b"0000041\0");
            h.gid.copy_from_slice(b"0000052\0");
        })
        .symlink("dir/link", "../../etc/passwd")
        .hard_link("dir/again", "./dir/setuid")
        .entry(b'6', b"dir/pipe", b"", b"", |h| h.mode.copy_from_slice(b"0000620\0"))
        .file("dir/empty", b"");
    for_each_way(&archive.end(), |ownership, fs_dir, unpacked| {
        let meta = |name: &str| fs::symlink_metadata(fs_dir.join(name)).unwrap();
        assert_eq!(meta("").mode() & 0o7777, 0o711);
        assert_eq!((meta("dir").mode() & 0o7777, meta("dir").mtime()), (0o1777, 1_000_000_000));
        let setuid = meta("dir/setuid");
        assert_eq!((setuid.mode() & 0o7777, setuid.nlink()), (0o4755, 2));
        assert_eq!((setuid.mtime(), setuid.mtime_nsec()), (1_234_567_890, 123_456_789));
        assert_eq!(setuid.ino(), meta("dir/again").ino());
        assert_eq!(fs::read_link(fs_dir.join("dir/link")).unwrap(), Path::new("../../etc/passwd"));
        assert_eq!(meta("dir/link").mtime(), 1_000_000_000);
        assert!(meta("dir/pipe").file_type().is_fifo());
        assert_eq!(meta("dir/pipe").mode() & 0o7777, 0o620);
        assert_eq!(meta("dir/empty").len(), 0);
        let private = meta("dir/private");
        assert_eq!(private.mode() & 0o7777, 0o640);
        let kept = xattr(&fs_dir.join("dir/private"), "user.containers.override_stat");
        match ownership {
            Ownership::Mapped => {
                assert_eq!((private.uid(), private.gid(), meta("dir").uid()), (0o41, 0o52, 5));
                assert_eq!(kept, None);
            }
            Ownership::SingleId => {
                assert_eq!(kept.unwrap(), b"33:42:0640");
                let kept = xattr(&fs_dir.join("dir"), "user.containers.override_stat");
                assert_eq!(kept.unwrap(), b"5:0:01777");
                assert_eq!(xattr(&fs_dir.join("dir/setuid"), "user.containers.override_stat"), None);
            }
        }
        assert_eq!((unpacked.entries, unpacked.size), (9, 3));
    });
}

#[test]
fn names_are_bytes_up_to_255_per_component_and_long_paths_come_by_pax_or_gnu() {
    let long = "n".repeat(255);
    let deep = format!("{}/{long}", vec!["d".repeat(60); 40].join("/"));
    let mut archive = Archive::new();
    archive
        .entry(b'0', b"not-utf8-\xff\xfe", b"", b"1", |_| ())
        .pax(&[("path", long.as_bytes())])
        .file("short", b"2")
        .entry(b'L', b"././@LongLink", b"", &[deep.as_bytes(), b"\0"].concat(), |_| ())
        .file("short", b"3")
        .pax(&[("linkpath", deep.as_bytes())])
        .hard_link("link", "short");
    for_each_way(&archive.end(), |_, fs_dir, _| {
        let name = std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe");
        assert_eq!(fs::read(fs_dir.join(name)).unwrap(), b"1");
        assert_eq!(fs::read(fs_dir.join(&long)).unwrap(), b"2");
        assert_eq!(fs::read(fs_dir.join(&deep)).unwrap(), b"3");
        assert_eq!(fs::read(fs_dir.join("link")).unwrap(), b"3");
        assert!(!fs_dir.join("short").exists());
    });
    let archive = Archive::new().pax(&[("path", &[b'n'; 256])]).file("x", b"").end();
    refused(&archive, "cannot create");
}

#[test]
fn absolute_names_are_below_the_root_and_missing_parents_are_made() {
    let mut archive = Archive::new();
    archive.file("/etc/../x", b"");
    refused(&archive.end(), "'..' is not allowed");
    let mut archive = Archive::new();
    archive.file("//etc//./conf.d/a", b"a").entry(b'5', b"/etc", b"", b"", |h| {
        h.mode.copy_from_slice(b"0000500\0");
    });
    archive.file("/etc/b", b"b").hard_link("/c", "/etc/b");
    for_each_way(&archive.end(), |_, fs_dir, _| {
        assert_eq!(fs::read(fs_dir.join("etc/conf.d/a")).unwrap(), b"a");
        assert_eq!(fs::metadata(fs_dir.join("etc/conf.d")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(fs_dir.join("etc")).unwrap().mode() & 0o7777, 0o500);
        assert_eq!(fs::read(fs_dir.join("c")).unwrap(), b"b");
    });
}

#[test]
fn dots_in_names_and_hard_link_targets_are_refused() {
    for name in ["..", "../x", "a/../../x", "a/..", "/.."] {
        refused(&Archive::new().file(name, b"x").end(), "'..' is not allowed");
        refused(&Archive::new().dir(name).end(), "'..' is not allowed");
        let archive = Archive::new().file("a", b"x").hard_link("b", name).end();
        refused(&archive, "'..' is not allowed");
    }
    let archive = Archive::new().pax(&[("path", b"a/../../b")]).file("a", b"x").end();
    refused(&archive, "'..' is not allowed");
    refused(&Archive::new().file("./", b"x").end(), "only a directory can be the root");
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    for target in [target, "..", ".", "real"] {
        for archive in [
            Archive::new().dir("real").symlink("a", target).file("a/x", b"x"),
            Archive::new().dir("real").symlink("a", target).dir("a/x"),
            Archive::new().dir("real").symlink("a", target).symlink("a/x", "y"),
            Archive::new().dir("real").symlink("a", target).file("a/.wh.x", b""),
            Archive::new().dir("real").symlink("a", target).file("a/.wh..wh..opq", b""),
            Archive::new().dir("real").file("f", b"x").symlink("a", target).hard_link("a/x", "f"),
        ] {
            refused(&archive.end(), "is a link or file, not a directory");
        }
        // A link in the last place is replaced, not followed.
        let archive = Archive::new().dir("real").symlink("a", target).dir("a").file("a/x", b"x").end();
        for_each_way(&archive, |_, fs_dir, _| {
            assert!(fs::symlink_metadata(fs_dir.join("a")).unwrap().is_dir());
            assert!(!fs_dir.join("real/x").exists());
        });
        let archive = Archive::new().dir("real").symlink("a", target).file("a", b"x").end();
        for_each_way(&archive, |_, fs_dir, _| assert_eq!(fs::read(fs_dir.join("a")).unwrap(), b"x"));
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn hard_links_reach_only_files_of_the_same_layer() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let secret = outside.path().join("secret");
    let (dir, secret) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
    for archive in [
        Archive::new().hard_link("b", secret),
        Archive::new().symlink("l", dir).hard_link("b", "l/secret"),
        Archive::new().dir("d").file("d/f", b"x").symlink("l", "d").hard_link("b", "l/f"),
        Archive::new().hard_link("b", "missing"),
        Archive::new().dir("d").hard_link("b", "d"),
        Archive::new().hard_link("b", "/"),
        Archive::new().file("b", b"x").hard_link("b", "b"),
        Archive::new().file(".wh.w", b"").hard_link("b", "w"),
        Archive::new().dir("b").file("b/f", b"x").hard_link("b", "b/f"),
    ] {
        refused(&archive.end(), "its hard link's target is not a file of this layer");
    }
    // A link to a link is a second name of the link itself.
    let archive = Archive::new().symlink("l", secret).hard_link("b", "l").end();
    for_each_way(&archive, |_, fs_dir, _| assert!(fs_dir.join("b").is_symlink()));
    assert_eq!(fs::metadata(secret).unwrap().nlink(), 1);
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    let inner = Archive::new().file("smuggled", b"!").end();
    let archive = Archive::new()
        .pax(&[("size", inner.len().to_string().as_bytes())])
        .file("outer", b"")
        .data(&inner)
        .end();
    refused(&archive, "give different sizes");
    let archive = Archive::new().pax(&[("size", b"0")]).file("outer", b"data").end();
    refused(&archive, "give different sizes");
    let archive = Archive::new().pax(&[("size", b"4")]).file("same", b"data").end();
    for_each_way(&archive, |_, fs_dir, _| assert_eq!(fs::read(fs_dir.join("same")).unwrap(), b"data"));
}

#[test]
fn extensions_apply_to_the_next_file_only() {
    // GHSA-3cv2-h65g-fgmm: the size is not that of the long name.
    let archive = Archive::new()
        .pax(&[("size", b"3")])
        .entry(b'L', b"././@LongLink", b"", b"long\0", |_| ())
        .file("short", b"abc")
        .file("next", b"defg")
        .end();
    for_each_way(&archive, |_, fs_dir, _| {
        assert_eq!(fs::read(fs_dir.join("long")).unwrap(), b"abc");
        assert_eq!(fs::read(fs_dir.join("next")).unwrap(), b"defg");
    });
    let archive = Archive::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", b"").end();
    refused(&archive, "two PAX headers");
    let archive = Archive::new()
        .pax(&[("path", b"a")])
        .entry(b'L', b"././@LongLink", b"", b"b\0", |_| ())
        .file("c", b"")
        .end();
    refused(&archive, "two different names");
    refused(&Archive::new().pax(&[("path", b"a")]).end(), "ends after an extension header");
}

#[test]
fn limits_hold_before_memory_or_disk_are_used() {
    let limits = Limits { entries: 2, ..Limits::default() };
    let archive = Archive::new().file("a", b"").file("b", b"").file("c", b"").end();
    refused_limited(&archive, &limits, "more than 2 entries");
    let limits = Limits { bytes: 4096, ..Limits::default() };
    refused_limited(&Archive::new().file("a", &[7; 8192]).end(), &limits, "more than 4096 bytes");
    let huge = |h: &mut tar::UstarHeader| h.size.copy_from_slice(b"77777777777\0");
    refused_limited(&Archive::new().entry(b'0', b"a", b"", b"", huge).end(), &limits, "more than 4096 bytes");
    // Zeros without end after the end of the archive count, too.
    refused_limited(&[Archive::new().end(), vec![0; 8192]].concat(), &limits, "more than 4096 bytes");
    refused(&Archive::new().entry(b'x', b"a", b"", b"", huge).end(), "bytes of extension headers");
    refused(&Archive::new().entry(b'L', b"a", b"", b"", huge).end(), "bytes of extension headers");
    let limits = Limits { path: 10, xattr: 10, ..Limits::default() };
    refused_limited(&Archive::new().file("12345678901", b"").end(), &limits, "bytes in a path");
    let archive = Archive::new().pax(&[("SCHILY.xattr.user.a", &[b'x'; 11])]).file("a", b"").end();
    refused_limited(&archive, &limits, "bytes in an extended attribute");
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9000000000000000000"), ("GNU.sparse.map", b"")];
    refused(&Archive::new().pax(sparse).file("a", b"").end(), "bytes");
}

#[test]
fn what_is_kept_in_memory_until_the_end_is_bounded() {
    let limits = Limits { memory: 100_000, ..Limits::default() };
    let kept = "bytes of names and attributes of directories";
    // A few blocks that name thousands of directories, by one long name after the other.
    let deep = |top: usize| format!("{top}/{}", "d/".repeat(1500));
    let mut archive = Archive::new();
    for top in 0..3 {
        archive.pax(&[("path", deep(top).as_bytes())]).dir("x");
    }
    refused_limited(&archive.end(), &limits, kept);
    let mut archive = Archive::new();
    for name in 0..20 {
        archive.pax(&[("SCHILY.xattr.user.a", &[b'x'; 10_000])]).dir(&name.to_string());
    }
    refused_limited(&archive.end(), &limits, kept);
    let mut archive = Archive::new();
    for name in 0..1000 {
        archive.file(&format!(".wh.{name}"), b"");
    }
    refused_limited(&archive.end(), &limits, kept);
}

#[test]
fn a_stream_cut_anywhere_is_refused() {
    let archive =
        Archive::new().dir("d").pax(&[("path", b"d/long")]).file("x", &[1; 700]).file("y", b"z").end();
    let whole = Digest::of(&archive);
    let store = TestStore::new(Ownership::SingleId);
    for cut in (0..archive.len()).step_by(256) {
        let crate::layers::Claim::Build(staging) = store.store.claim(whole).unwrap() else { panic!() };
        assert!(staging.unpack(&archive[..cut], &Limits::default()).is_err(), "{cut}");
        store.assert_empty();
    }
}

#[test]
fn malformed_headers_are_refused() {
    refused(&Archive::new().entry(b'?', b"a", b"", b"", |_| ()).end(), "unknown type");
    refused(&Archive::new().file("a", b"").data(&[1; 512]).end(), "checksum is wrong");
    let mut archive = Archive::new();
    archive.data(&[0; 512]).file("a", b"");
    refused(&archive.end(), "a single block of zeros");
    let bad = |h: &mut tar::UstarHeader| h.uid.copy_from_slice(b"-000001\0");
    refused(&Archive::new().entry(b'0', b"a", b"", b"", bad).end(), "owner is no number");
    refused(&Archive::new().pax(&[("uid", b"4294967295")]).file("a", b"").end(), "owner is out of range");
}

#[test]
fn later_entries_replace_earlier_ones_and_the_archive_still_comes_out_whole() {
    let archive = Archive::new()
        .file("twice", b"first")
        .file("twice", b"second")
        .file("twice", b"first")
        .dir("tree")
        .file("tree/a", b"in the tree")
        .dir("tree/sub")
        .file("tree/sub/b", b"deeper")
        .hard_link("kept", "tree/sub/b")
        .file("tree", b"now a file")
        .file("file", b"was a file")
        .dir("file")
        .file("file/x", b"x")
        .symlink("link", "file")
        .file("link", b"no link")
        .dir("file")
        .hard_link("twice", "link")
        .end();
    for_each_way(&archive, |_, fs_dir, _| {
        assert_eq!(fs::read(fs_dir.join("twice")).unwrap(), b"no link");
        assert_eq!(fs::read(fs_dir.join("tree")).unwrap(), b"now a file");
        assert_eq!(fs::read(fs_dir.join("kept")).unwrap(), b"deeper");
        assert_eq!(fs::read(fs_dir.join("file/x")).unwrap(), b"x");
        assert_eq!(fs::read(fs_dir.join("link")).unwrap(), b"no link");
    });
}

#[test]
fn whiteouts_take_overlay_form_and_leave_the_same_layer_alone() {
    let archive = Archive::new()
        .dir("d")
        .file("d/.wh.gone", b"")
        .file("implicit/.wh.gone", b"")
        .dir("opaque")
        .file("opaque/new", b"n")
        .file("opaque/.wh..wh..opq", b"")
        .file("stays", b"s")
        .file(".wh.stays", b"")
        .file(".wh.later", b"data that nobody reads")
        .file("later", b"l")
        .dir("dir")
        .file(".wh.dir", b"")
        .file(".wh.tree", b"")
        .dir("tree")
        .file(".wh.deep", b"")
        .file("deep/er", b"d")
        .file(".wh..wh.plnk/1.2", b"aufs")
        .file(".wh..wh.aufs", b"")
        .end();
    for_each_way(&archive, |_, fs_dir, _| {
        assert!(is_whiteout(&fs_dir.join("d/gone")) && is_whiteout(&fs_dir.join("implicit/gone")));
        let opaque = |name: &str| xattr(&fs_dir.join(name), "user.overlay.opaque");
        assert_eq!(opaque("opaque").unwrap(), b"y");
        assert!(fs_dir.join("opaque/new").exists());
        assert_eq!(fs::read(fs_dir.join("stays")).unwrap(), b"s");
        assert_eq!(fs::read(fs_dir.join("later")).unwrap(), b"l");
        for replaced in ["dir", "tree", "deep"] {
            assert_eq!(opaque(replaced).unwrap(), b"y", "{replaced}");
        }
        assert_eq!((opaque("d"), opaque("")), (None, None));
        assert_eq!(fs::read_dir(fs_dir).unwrap().count(), 8);
    });
    for name in [".wh.", ".wh..", ".wh...", ".wh.a/b"] {
        refused(&Archive::new().file(name, b"").end(), "not a whiteout of a name");
    }
}

#[test]
fn where_devices_cannot_be_made_whiteouts_are_attributes() {
    let archive = Archive::new().dir("d").file("d/.wh.gone", b"").file(".wh.f", b"").file("f", b"new").end();
    for ownership in ownerships() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        unpack_with(&archive[..], dir.path(), ownership, &limits, WhiteoutForm::Attribute).unwrap();
        let fs_dir = dir.path().join(FS);
        assert_eq!(xattr(&fs_dir.join("d/gone"), "user.overlay.whiteout").unwrap(), b"y");
        assert_eq!(xattr(&fs_dir.join("d"), "user.overlay.opaque").unwrap(), b"x");
        assert_eq!(xattr(&fs_dir.join("f"), "user.overlay.whiteout"), None);
        assert_eq!(fs::read(fs_dir.join("f")).unwrap(), b"new");
    }
}

#[test]
fn attributes_are_kept_and_forged_ones_refused() {
    // VFS_CAP_REVISION_2 with CAP_NET_RAW effective and permitted (capabilities(7)).
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.note", b"a\0b"), ("SCHILY.xattr.security.capability", capability)])
        .entry(b'0', b"ping", b"", b"x", |h| h.mode.copy_from_slice(b"0000555\0"))
        .pax(&[("SCHILY.xattr.user.note", b"dir")])
        .dir("d")
        .pax(&[("SCHILY.xattr.user.note", b"link")])
        .symlink("l", "d")
        .pax(&[("SCHILY.xattr.trusted.secret", b"x")])
        .file("t", b"")
        .end();
    for_each_way(&archive, |_, fs_dir, unpacked| {
        assert_eq!(xattr(&fs_dir.join("ping"), "user.note").unwrap(), b"a\0b");
        assert_eq!(xattr(&fs_dir.join("d"), "user.note").unwrap(), b"dir");
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(xattr(&fs_dir.join("ping"), "security.capability").is_some(), is_root);
        assert!(unpacked.skipped_xattrs >= 1);
    });
    for name in ["user.overlay.opaque", "trusted.overlay.redirect", "user.containers.override_stat"] {
        let key = format!("SCHILY.xattr.{name}");
        refused(&Archive::new().pax(&[(&key, b"y")]).dir("d").end(), "only overlay mounts may set");
    }
}

#[test]
fn a_default_acl_does_not_reach_what_is_made_later() {
    // Version 2; user::rwx group::rwx other::rwx (linux/posix_acl_xattr.h).
    let entry = |tag: u16| [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
    let acl = [&2u32.to_le_bytes()[..], &entry(1), &entry(4), &entry(0x20)].concat();
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("d")
        .entry(b'0', b"d/private", b"", b"", |h| h.mode.copy_from_slice(b"0000600\0"))
        .dir("d/sub")
        .end();
    for_each_way(&archive, |_, fs_dir, _| {
        assert_eq!(fs::metadata(fs_dir.join("d/private")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(xattr(&fs_dir.join("d/sub"), "system.posix_acl_default"), None);
    });
}

#[test]
fn devices_are_left_out_and_come_out_again() {
    let archive =
        Archive::new().entry(b'3', b"null", b"", b"", |_| ()).entry(b'4', b"sda", b"", b"", |_| ()).end();
    for_each_way(&archive, |_, fs_dir, unpacked| {
        assert_eq!(fs::read_dir(fs_dir).unwrap().count(), 0);
        assert_eq!(unpacked.skipped_devices, 2);
    });
}

#[test]
fn an_owner_without_a_mapping_is_explained() {
    let archive = Archive::new().pax(&[("uid", b"70000")]).file("a", b"").end();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if !rustix::process::geteuid().is_root() || map.contains("4294967295") {
        eprintln!("skipped: needs a user namespace without uid 70000");
        return;
    }
    let store = TestStore::new(Ownership::Mapped);
    let error = store.unpack(&archive).unwrap_err();
    assert!(
        error.to_string().contains("uid 70000 of \"a\" in the image needs more subordinate ids"),
        "{error}"
    );
}

#[test]
fn what_tar_writes_in_every_format_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let sub = tree.join("s".repeat(120)).join("t".repeat(120));
    fs::create_dir_all(&sub).unwrap();
    fs::write(sub.join("file"), vec![3; 30_000]).unwrap();
    std::os::unix::fs::symlink("u".repeat(150), sub.join("link")).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    for at in 0..40u64 {
        rustix::io::pwrite(&sparse, &[7; 4096], at * 50_000 / 4096 * 4096).unwrap();
    }
    sparse.set_len(2_500_000).unwrap();
    let same = |a: PathBuf, b: PathBuf| assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap(), "{a:?}");
    for format in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=gnu", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(format).args(["-cf", "-", "--owner=0", "--group=0", "-C"]).arg(&tree).arg(".");
        let Ok(made) = tar.output() else {
            eprintln!("skipped: there is no tar here");
            return;
        };
        for_each_way(&made.stdout, |_, fs_dir, _| {
            let inner = sub.strip_prefix(&tree).unwrap();
            same(fs_dir.join(inner).join("file"), sub.join("file"));
            same(fs_dir.join("sparse"), tree.join("sparse"));
            let blocks = fs::metadata(fs_dir.join("sparse")).unwrap().blocks();
            assert!(!format.contains(&"-S") || blocks * 512 < 1_000_000, "holes are kept");
            let link = fs::read_link(fs_dir.join(inner).join("link")).unwrap();
            assert_eq!(link.as_os_str().len(), 150);
        });
    }
}

#[test]
fn the_tests_also_run_as_root_of_a_user_namespace() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let unshare = ["--user", "--map-auto", "--map-root-user"];
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no subordinate ids, so nothing is tested in a mapped user namespace");
        return;
    }
    let mut tests = Command::new("unshare");
    tests.args(unshare).arg(std::env::current_exe().unwrap()).arg("layers::");
    let out = tests.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}
