//! Images used from where their layout is.

use super::*;
use crate::diagnose::Diagnose;

fn at(folder: &Path, tail: &str) -> Layout {
    Layout::parse(&format!("oci-layout://{}{tail}", folder.display())).unwrap().unwrap()
}

fn found(folder: &Path, tail: &str, platform: Option<&str>) -> Result<Digest, Error> {
    let platform = platform.map(|platform| platform.parse().unwrap());
    at(folder, tail).find(platform.as_ref()).map(|found| found.image.id)
}

/// What is wrong, and what helps.
fn wrong(folder: &Path, tail: &str, platform: Option<&str>) -> String {
    let error = found(folder, tail, platform).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}; {}", error.fix().unwrap_or_default())
}

#[test]
fn an_image_is_chosen_by_its_tag_its_digest_or_as_the_usual_one() {
    let world = World::new();
    let folder = world.dir.path().join("layout");
    let (one, two) = (Made::new("amd64", &["one"]), Made::new("amd64", &["two"]));
    let blobs = one.blobs.clone().into_iter().chain(two.blobs.clone()).collect();
    let write = |names: [&str; 2]| {
        write_layout(&folder, &blobs, &index_of(&[one.entry(names[0], None), two.entry(names[1], None)]));
    };
    write(["1", "r.io/org/app:2"]);
    assert_eq!(found(&folder, ":1", None).unwrap(), one.config);
    assert_eq!(found(&folder, ":2", None).unwrap(), two.config);
    assert_eq!(found(&folder, &format!("@{}", two.manifest), None).unwrap(), two.config);
    // As buildx has it, the digest alone counts.
    assert_eq!(found(&folder, &format!(":1@{}", two.manifest), None).unwrap(), two.config);
    let several = wrong(&folder, "", None);
    assert!(several.contains("several images") && several.contains(": :1, :2"), "{several}");
    let missing = wrong(&folder, ":3", None);
    assert!(missing.contains("no image tagged '3'") && missing.contains(": :1, :2"), "{missing}");
    let missing = wrong(&folder, &format!("@{}", Digest::of(b"none")), None);
    assert!(missing.contains("it has no manifest sha256:"), "{missing}");
    write(["1", "latest"]);
    assert_eq!(found(&folder, "", None).unwrap(), two.config);
    write_layout(&folder, &blobs, &index_of(&[one.entry("1", None), one.entry("2", None)]));
    assert_eq!(found(&folder, "", None).unwrap(), one.config);
}

#[test]
fn an_image_for_another_platform_is_none() {
    let world = World::new();
    let folder = world.dir.path().join("layout");
    let (intel, arm) = (Made::new("amd64", &["one"]), Made::new("arm64", &["two"]));
    let blobs: HashMap<_, _> = intel.blobs.clone().into_iter().chain(arm.blobs.clone()).collect();
    let entries = [intel.entry("1", Some("amd64")), arm.entry("1", Some("arm64"))];
    // Listed by the layout itself, and by an index in it as docker writes it.
    let inner = index_of(&entries);
    let digest = Digest::of(inner.as_bytes());
    let outer = index_of(&[serde_json::json!({
        "mediaType": manifest::OCI_INDEX, "digest": digest, "size": inner.len(),
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    })]);
    let with_inner = blobs.clone().into_iter().chain([(digest, inner.clone().into_bytes())]).collect();
    for (blobs, index) in [(&blobs, &inner), (&with_inner, &outer)] {
        write_layout(&folder, blobs, index);
        for tail in ["", ":1"] {
            assert_eq!(found(&folder, tail, Some("linux/amd64")).unwrap(), intel.config);
            assert_eq!(found(&folder, tail, Some("linux/arm64")).unwrap(), arm.config);
        }
        let none = wrong(&folder, "", Some("linux/s390x"));
        assert!(none.contains("no image for linux/s390x, only for linux/amd64, linux/arm64"), "{none}");
    }
    let alone = [arm.entry("1", None)];
    write_layout(&folder, &blobs, &index_of(&alone));
    let none = wrong(&folder, "", Some("linux/amd64"));
    assert!(none.contains("no image for linux/amd64, only for linux/arm64: ; ask for"), "{none}");
}

#[test]
fn a_folder_that_is_no_layout_or_a_damaged_one_is_told() {
    let world = World::new();
    let folder = world.dir.path().join("layout");
    assert!(wrong(&folder, "", None).contains("no such folder"));
    fs::create_dir(&folder).unwrap();
    let none = wrong(&folder, "", None);
    assert!(none.contains("no index.json") && none.contains("save --format oci-dir"), "{none}");
    fs::write(folder.join("index.json"), index_of(&[])).unwrap();
    assert!(wrong(&folder, "", None).contains("lists no image"));
    fs::write(folder.join("index.json"), "[").unwrap();
    assert!(wrong(&folder, "", None).contains("malformed"));
    assert!(wrong(&folder.join("index.json"), "", None).contains("it is no folder"));
    let made = Made::new("amd64", &["one", "two"]);
    write_layout(&folder, &made.blobs, &index_of(&[made.entry("1", None)]));
    let image = at(&folder, "").find(None).unwrap();
    image.bring(&world.layers, &Silent).unwrap();
    assert_eq!(world.file(&image.image, 1), "two");
    // Nothing but its layers is in the store.
    assert!(world.images.list().unwrap().is_empty());
    let blob = |digest: Digest| folder.join("blobs/sha256").join(digest.hex());
    fs::write(blob(made.layers[1]), gzip(&tar_of("three"))).unwrap();
    let other = World::new();
    let damaged = at(&folder, "").find(None).unwrap().bring(&other.layers, &Silent);
    assert!(damaged.is_err(), "{damaged:?}");
    fs::write(blob(made.manifest), "{}").unwrap();
    assert!(wrong(&folder, ":1", None).contains("is corrupt"));
    fs::remove_file(blob(made.manifest)).unwrap();
    assert!(wrong(&folder, ":1", None).contains("it has no file"));
}
