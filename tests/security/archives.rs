//! Row 12: no archive writes outside its layer or means two things.

use crate::support::image::{Image, Layer, header};
use crate::support::registry::Registry;
use crate::support::{Engine, Output};
use crate::{SECRET, Victim};
use tar::EntryType;

/// Pulls an image with this layer on top, and looks around in it.
fn unpack(engine: &Engine, layer: Layer, script: &str) -> Output {
    crate::run_image(engine, &Image::tiny_with(vec![layer]), &[], script)
}

/// Either it is refused, with a clear error, or what came of it is harmless; never is anything outside touched.
#[track_caller]
fn is_harmless(what: &str, make: impl Fn(&Victim) -> Layer) {
    let engine = Engine::new();
    let victim = Victim::new(&engine);
    let script = format!("cat {} /link/secret /hard 2>/dev/null; true", victim.join("secret"));
    let output = unpack(&engine, make(&victim), &script);
    victim.is_untouched();
    assert!(matches!(output.code, 0 | 125), "{what}: {output}");
    assert!(!output.stdout.contains(SECRET) && !output.stderr.contains("panicked"), "{what}: {output}");
    if output.code == 125 {
        assert_eq!(engine.ok(&["images", "-q"]), "", "{what}: nothing half-made stays");
    }
    // Nor beside the layer, in the engine's own folders.
    let left = crate::support::host(&format!(
        "find {} -name escaped -not -path '*/fs/*' -not -path '*/diff/*' 2>/dev/null; true",
        engine.data().display()
    ));
    assert_eq!(left, "", "{what}");
}

#[test]
fn names_that_lead_out() {
    is_harmless("an absolute name", |v| Layer::new().file(&v.join("escaped"), b"x", 0o644));
    is_harmless("dots", |v| {
        Layer::new().file(&format!("../../../../../../../..{}", v.join("escaped"))[..], b"x", 0o644)
    });
    is_harmless("dots beside the layer", |_| Layer::new().file("../escaped", b"x", 0o644));
    is_harmless("dots in the middle", |_| Layer::new().file("etc/../../escaped", b"x", 0o644));
    is_harmless("dots at the end", |_| {
        Layer::new().dir("etc/..", 0o777).file("etc/../../escaped", b"x", 0o644)
    });
    is_harmless("nothing", |_| Layer::new().file("", b"x", 0o644));
    is_harmless("the root", |_| {
        Layer::new().file("/", b"x", 0o644).file(".", b"x", 0o644).file("..", b"x", 0o644)
    });
    is_harmless("the root as a link", |v| {
        Layer::new().symlink(".", &v.path).symlink("/", &v.path).file("escaped", b"x", 0o644)
    });
    is_harmless("a name by PAX", |v| {
        Layer::new().pax(&[("path", v.join("escaped").as_bytes())]).file("harmless", b"x", 0o644)
    });
    is_harmless("a name with a zero byte by PAX", |_| {
        Layer::new().pax(&[("path", b"a\0/../../escaped")]).file("x", b"x", 0o644)
    });
    is_harmless("a long name by GNU", |v| {
        let name = format!("../../../../../../../..{}\0", v.join("escaped"));
        Layer::new()
            .entry("././@LongLink", EntryType::GNULongName, 0, name.as_bytes(), "")
            .file("x", b"x", 0o644)
    });
}

#[test]
fn links_that_lead_out() {
    is_harmless("through a link", |v| {
        Layer::new().symlink("link", &v.path).file("link/escaped", b"x", 0o644)
    });
    is_harmless("through two links", |v| {
        Layer::new().symlink("a", "..").symlink("a/b", &v.path).symlink("link", "a/b").file(
            "link/escaped",
            b"x",
            0o644,
        )
    });
    is_harmless("through a relative link", |v| {
        Layer::new().symlink("link", &format!("../../../../../../../..{}", v.path)).dir("link/escaped", 0o777)
    });
    is_harmless("onto a link", |v| {
        Layer::new().symlink("link", &v.join("secret")).file("link", b"overwritten", 0o644)
    });
    is_harmless("a hard link out", |v| Layer::new().hardlink("hard", &v.join("secret")));
    is_harmless("a hard link out with dots", |v| {
        Layer::new().hardlink("hard", &format!("../../../../../../../..{}", v.join("secret")))
    });
    is_harmless("a hard link to a link", |v| {
        Layer::new().symlink("link", &v.join("secret")).hardlink("hard", "link").file(
            "hard",
            b"overwritten",
            0o644,
        )
    });
    is_harmless("a hard link through a link", |v| {
        Layer::new().symlink("link", &v.path).hardlink("hard", "link/secret")
    });
    is_harmless("a hard link that is then truncated", |v| {
        Layer::new().hardlink("hard", &v.join("secret")).file("hard", b"", 0o644)
    });
    is_harmless("a folder replaced by a link", |v| {
        Layer::new().dir("d", 0o755).file("d/a", b"x", 0o644).symlink("d", &v.path).file(
            "d/escaped",
            b"x",
            0o644,
        )
    });
    is_harmless("modes and times through a link", |v| Layer::new().symlink("d", &v.path).dir("d", 0o000));
    is_harmless("a link target by PAX", |v| {
        Layer::new().pax(&[("linkpath", v.path.as_bytes())]).symlink("link", "x").file(
            "link/escaped",
            b"x",
            0o644,
        )
    });
}

#[test]
fn whiteouts_that_lead_out() {
    is_harmless("a whiteout with dots", |v| {
        Layer::new().file(&format!("../../../../../../../..{}/.wh.secret", v.path), b"", 0o644)
    });
    is_harmless("a whiteout through a link", |v| {
        Layer::new().symlink("link", &v.path).file("link/.wh.secret", b"", 0o644)
    });
    // What would be made there, not only what would be hidden.
    is_harmless("a whiteout of a new name, with dots", |v| {
        Layer::new().file(&format!("../../../../../../../..{}/.wh.escaped", v.path), b"", 0o644)
    });
    is_harmless("a whiteout of a new name, through a link", |v| {
        Layer::new().symlink("link", &v.path).file("link/.wh.escaped", b"", 0o644)
    });
    is_harmless("a whiteout of dots", |_| {
        Layer::new().file(".wh...", b"", 0o644).file("etc/.wh...", b"", 0o644)
    });
    is_harmless("a whiteout of nothing", |_| {
        Layer::new().file(".wh.", b"", 0o644).file("etc/.wh.", b"", 0o644)
    });
    is_harmless("an opaque folder through a link", |v| {
        Layer::new().symlink("link", &v.path).file("link/.wh..wh..opq", b"", 0o644)
    });
    is_harmless("a whiteout with a slash", |_| Layer::new().file(".wh.etc/passwd", b"x", 0o644));
}

/// CVE-2025-62518 and its kin: two readers that disagree about an entry's length see different archives.
#[test]
fn lengths_that_disagree() {
    let hidden = Layer::new().file("hidden", b"smuggled", 0o755).finish();
    let length = hidden.len().to_string();
    let look = "ls / | grep hidden; test -e /outer && wc -c < /outer; true";
    let pax_only = |records: &[(&str, &[u8])], size: u64| {
        let mut outer = header("outer", EntryType::Regular, 0o644, "", size);
        outer.set_cksum();
        Layer::new().pax(records).raw(outer, &hidden)
    };
    for (what, layer) in [
        ("PAX says long, ustar says none", pax_only(&[("size", length.as_bytes())], 0)),
        ("PAX says none, ustar says long", pax_only(&[("size", b"0")], hidden.len() as u64)),
        ("PAX says it twice", pax_only(&[("size", b"0"), ("size", length.as_bytes())], hidden.len() as u64)),
        ("PAX says nonsense", pax_only(&[("size", b"-1")], hidden.len() as u64)),
        ("PAX says too much", pax_only(&[("size", b"99999999999999999999")], hidden.len() as u64)),
    ] {
        let engine = Engine::new();
        let output = unpack(&engine, layer, look);
        assert!(!output.stdout.contains("hidden"), "{what}: {output}");
        assert!(matches!(output.code, 0 | 125) && !output.stderr.contains("panicked"), "{what}: {output}");
        if output.code == 0 {
            assert_eq!(output.stdout.trim(), length, "{what}: {output}");
        }
    }
}

#[test]
fn entries_that_claim_what_they_have_not() {
    let claims = |kind: EntryType, size: u64| {
        let mut entry = header("claims", kind, 0o644, "x", size);
        entry.set_cksum();
        Layer::new().raw(entry, b"a little")
    };
    for (what, layer) in [
        ("8 EiB", claims(EntryType::Regular, (1 << 33) - 1)),
        ("a folder with a content", claims(EntryType::Directory, 4096)),
        ("a link with a content", claims(EntryType::Symlink, 4096)),
        ("a PAX header without an end", claims(EntryType::XHeader, (1 << 33) - 1)),
        ("a long name without an end", claims(EntryType::GNULongName, (1 << 33) - 1)),
        ("an unknown kind", Layer::new().entry("unknown", EntryType::new(b'Z'), 0o644, b"x", "")),
        (
            "a sparse file of the old kind",
            Layer::new().entry("sparse", EntryType::GNUSparse, 0o644, &[0xff; 512], ""),
        ),
        (
            "a PAX sparse file",
            Layer::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"9223372036854775807"),
                    ("GNU.sparse.name", b"../escaped"),
                ])
                .file("sparse", b"1\n0\n9223372036854775807\n", 0o644),
        ),
    ] {
        let engine = Engine::new();
        let output = unpack(&engine, layer, "du -k / 2>/dev/null | tail -1; true");
        assert!(matches!(output.code, 0 | 125) && !output.stderr.contains("panicked"), "{what}: {output}");
        assert!(output.time.as_secs() < 30, "{what}: {output}");
    }
}

#[test]
fn attributes_that_mean_something_to_the_union_are_not_taken_from_an_archive() {
    let engine = Engine::new();
    let victim = Victim::new(&engine);
    let layer = Layer::new()
        .pax(&[
            ("SCHILY.xattr.user.overlay.redirect", victim.join("secret").as_bytes()),
            ("SCHILY.xattr.user.overlay.metacopy", b""),
        ])
        .file("redirected", b"", 0o644)
        .pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")])
        .dir("etc", 0o755)
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/"),
            ("SCHILY.xattr.user.containers.override_stat", b"0:0:04755"),
        ])
        .file("other", b"", 0o644);
    let output = unpack(&engine, layer, "cat /redirected; ls /etc | grep -c passwd; stat -c %a /other");
    assert!(!output.stdout.contains(SECRET), "{output}");
    assert!(output.code == 125 || output.stdout == "1\n644\n", "{output}");
    victim.is_untouched();
}

#[test]
fn a_hundred_thousand_names_and_deep_folders_are_bounded_work() {
    let engine = Engine::new();
    let registry = Registry::start();
    let mut layer = Layer::new();
    let deep: String = (0..20).map(|_| "d/").collect();
    layer = layer.file(&format!("{deep}file"), b"deep", 0o644);
    let very_deep: String = (0..3000).map(|_| "d/").collect();
    layer = layer.pax(&[("path", format!("{very_deep}file").as_bytes())]).file("x", b"", 0o644);
    let image = engine.add(&registry, "deep", &Image::tiny_with(vec![layer]));
    let output = engine.run(&["pull", "-q", &image]);
    assert!(output.time.as_secs() < 60 && !output.stderr.contains("panicked"), "{output}");
    if output.code == 0 {
        engine.ok(&["rmi", &image]);
    }
}

#[test]
fn odd_but_honest_names_survive() {
    let engine = Engine::new();
    let layer = Layer::new()
        .pax(&[("path", "ünïcödé \u{1f6f6}".as_bytes())])
        .file("x", b"1", 0o644)
        .pax(&[("path", b"not utf-8 \xff\xfe")])
        .file("x", b"2", 0o644)
        .file("new\nline", b"3", 0o644)
        .file("-dash", b"4", 0o644)
        .pax(&[("path", format!("long/{}", "n".repeat(250)).as_bytes())])
        .file("x", b"5", 0o644)
        .file("..dots", b"6", 0o644)
        .file("...", b"7", 0o644);
    let output = unpack(
        &engine,
        layer,
        "cat /[!a-z]*ode* /ünïcödé* /not* /new* /-dash /long/* /..dots /... 2>/dev/null",
    );
    assert_eq!(output.stdout, "1234567", "{output}");
}
