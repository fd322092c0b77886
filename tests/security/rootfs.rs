//! Rows 1 and 2: what is mounted into a root cannot be led out of it by links in the image (CVE-2021-30465,
//! CVE-2024-45310, CVE-2026-41579, CVE-2026-47766).

use crate::cell::{CANARY, Cell};
use crate::support::image::{Image, Layer};
use serde_json::json;

/// Places that we mount on, or make files in.
const PLACES: [&str; 6] = ["dev", "proc", "sys", "etc", "run", "work"];

/// The tiny image with one of its folders replaced by a link.
fn linked(place: &str, target: &str) -> Image {
    let mut layer = Layer::new();
    if place != "work" {
        layer = layer.file(&format!(".wh.{place}"), b"", 0o644);
    }
    Image::tiny_with(vec![layer, Layer::new().symlink(place, target)]).with("WorkingDir", json!("/work"))
}

#[test]
fn mount_points_that_are_links_do_not_lead_out_of_the_root() {
    let cell = Cell::new();
    let host = cell.host();
    let (absolute, climbing) =
        (host.display().to_string(), format!("../../../../../../../..{}", host.display()));
    let below = format!("{absolute}/new");
    let targets = [
        "/",
        ".",
        "/proc/self/root",
        "/proc/self/cwd",
        "/proc/1/root/tmp",
        "/nowhere/at/all",
        "/work/work",
        "/dev",
        absolute.as_str(),
        climbing.as_str(),
        below.as_str(),
    ];
    let script = "for p in dev proc sys etc run work data; do cat /$p/canary /$p/*/canary; done 2>/dev/null; \
        cat canary 2>/dev/null; echo lived";
    for place in PLACES {
        for (index, target) in targets.iter().enumerate() {
            let name = format!("cell.test/{place}:{index}");
            cell.load(&name, &linked(place, target));
            // What cannot be furnished is refused, and what can is not the host's.
            let output = cell.run(&name, &["-v", "volume:/work/volume", "--tmpfs", "/run/x"], script);
            assert!(!output.to_string().contains("panicked"), "{place} -> {target}: {output}");
            assert!(!output.stdout.contains(CANARY), "{place} -> {target}: {output}");
            assert!(
                output.stdout == "lived\n" || [125, 126].contains(&output.code),
                "{place} -> {target}: {output}"
            );
            cell.host_is_as_it_was();
        }
    }
}

#[test]
fn the_users_of_an_image_are_not_read_through_links_to_the_host() {
    let cell = Cell::new();
    let passwd = cell.engine.file("passwd", "hostuser:x:7:7::/:/bin/sh\n");
    for (name, target) in [("a", passwd.as_str()), ("b", "/proc/1/root/etc/passwd")] {
        let image = format!("cell.test/passwd:{name}");
        cell.load_layer(&image, Layer::new().symlink("etc/passwd", target));
        let output = cell.run(&image, &["-u", "hostuser"], "id");
        assert_ne!(output.code, 0, "{output}");
    }
    // A fifo there must not make us wait, nor a device.
    cell.load_layer(
        "cell.test/passwd:fifo",
        Layer::new().entry("etc/passwd", tar::EntryType::Fifo, 0o644, b"", ""),
    );
    assert_ne!(cell.run("cell.test/passwd:fifo", &["-u", "alice"], "id").code, 0);
    cell.load_layer("cell.test/passwd:zero", Layer::new().symlink("etc/passwd", "/dev/zero"));
    assert_ne!(cell.run("cell.test/passwd:zero", &["-u", "alice"], "id").code, 0);
}
