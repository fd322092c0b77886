//! Row 12: an archive that is small until it is unpacked costs a bounded time, memory and disk, and is named as what it is.

use crate::support::image::{Image, Layer, digest, gzip, header};
use crate::support::registry::Registry;
use crate::support::{Engine, Output, Running, has_program};
use serde_json::json;
use std::time::Duration;
use tar::EntryType;

/// Address space that a pull may take here: far more than it needs, far less than a bomb would.
const MEMORY: &str = "--as=1500000000";

/// How long it may take on a busy machine, without optimizations.
const PATIENCE: Duration = Duration::from_secs(400);

/// Pulls an image of one layer, whose blob is this, with bounded memory; nothing of it may stay.
#[track_caller]
fn pull(blob: Vec<u8>) -> Output {
    let (engine, registry) = (Engine::new(), Registry::start());
    engine.trust(registry.address());
    let config = json!({
        "architecture": Image::of(vec![]).architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(b"a digest that nobody gets to compare")]},
    });
    let layer = registry.add_blob("application/vnd.oci.image.layer.v1.tar+gzip", blob);
    let config =
        registry.add_blob("application/vnd.oci.image.config.v1+json", serde_json::to_vec(&config).unwrap());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    registry.add_manifest("bomb", "latest", "application/vnd.oci.image.manifest.v1+json", &manifest);
    let image = format!("{}/bomb", registry.address());
    let pull = engine.wrapped(&["prlimit", MEMORY], &["pull", "-q", &image]);
    let output = Running::start(pull, b"").wait_up_to(PATIENCE);
    assert_eq!(output.code, 125, "{output}");
    assert!(output.stderr.starts_with("Error:") && !output.stderr.contains("memory allocation"), "{output}");
    // What was made is in the trash, which the next command empties.
    engine.run(&["wait", "nothing"]);
    let kept = format!("du -sm {} | cut -f1", engine.data().display());
    let kept: u64 = crate::support::host(&kept).parse().unwrap();
    assert!(kept < 5, "{kept} MB stay: {output}");
    output
}

/// A header of a file with this many bytes.
fn file_of(size: u64) -> Vec<u8> {
    let mut header = header("bomb", EntryType::Regular, 0o644, "", 0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), data).unwrap();
    crate::support::host(&format!("cd {} && zstd -q -3 in -o out", folder.path().display()));
    std::fs::read(folder.path().join("out")).unwrap()
}

macro_rules! tools {
    () => {
        require!(has_program("prlimit") && has_program("zstd"), "no prlimit or zstd");
    };
}

#[test]
fn a_few_megabytes_that_are_a_terabyte_are_given_up_after_the_first_one() {
    tools!();
    let zeros = vec![0; 64 << 20];
    for (head, piece) in [(gzip(&file_of(1 << 39)), best(&zeros)), (zstd(&file_of(1 << 39)), zstd(&zeros))] {
        let bomb = [head, piece.repeat(100)].concat();
        assert!(bomb.len() < 16 << 20);
        let output = pull(bomb);
        assert!(output.stderr.contains("250 times its compressed size"), "{output}");
        assert!(output.stderr.contains("fix:"), "{output}");
    }
}

fn best(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_follows_the_end_of_an_archive_is_no_way_round_that() {
    tools!();
    let zeros = vec![0; 64 << 20];
    pull([gzip(&Layer::new().finish()), best(&zeros).repeat(100)].concat());
}

#[test]
fn a_size_that_no_disk_has_is_refused_at_once() {
    tools!();
    let output = pull(gzip(&file_of(1 << 50)));
    assert!(output.stderr.contains("more than 1099511627776 bytes"), "{output}");
    assert!(output.time < Duration::from_secs(20), "{output}");
}

/// Each name has thousands of folders, each of which has a name of thousands of bytes.
#[test]
fn names_of_folders_without_end_take_no_memory_without_end() {
    tools!();
    let mut layer = Layer::new();
    for number in 0..400 {
        let path = format!("{number}/{}", "d/".repeat(1900));
        layer = layer.pax(&[("path", path.as_bytes())]).dir("x", 0o755);
    }
    let output = pull(zstd(&layer.finish()));
    assert!(output.stderr.contains("names and attributes of directories"), "{output}");
}

#[test]
fn attributes_of_folders_without_end_take_no_memory_without_end() {
    tools!();
    let value = vec![b'x'; 60_000];
    let records: Vec<(String, &[u8])> =
        (0..16).map(|n| (format!("SCHILY.xattr.user.{n}"), &value[..])).collect();
    let records: Vec<(&str, &[u8])> = records.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let mut layer = Layer::new();
    for number in 0..200 {
        layer = layer.pax(&records).dir(&number.to_string(), 0o755);
    }
    let output = pull(zstd(&layer.finish()));
    assert!(output.stderr.contains("names and attributes of directories"), "{output}");
}

#[test]
fn extension_headers_without_end_are_refused() {
    tools!();
    let header = |kind: EntryType| {
        let mut header = header("x", kind, 0o644, "", 0);
        header.set_size(1 << 33);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink]
    {
        let output = pull(gzip(&header(kind)));
        assert!(output.stderr.contains("bytes of extension headers"), "{kind:?}: {output}");
    }
}
