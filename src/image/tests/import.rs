//! Importing a file system.

use super::*;

fn import<'a>(archive: &'a [u8], changes: &'a [Change], name: Option<&str>) -> Import<'a> {
    Import {
        archive: Box::new(archive),
        shown: "a.tar".into(),
        platform: "linux/arm64".parse().unwrap(),
        changes,
        message: None,
        name: name.map(|name| name.parse().unwrap()),
    }
}

#[test]
fn an_imported_archive_is_an_image_that_is_saved_and_loaded_with_the_same_digests() {
    let world = World::new();
    let changes: Vec<Change> = ["CMD [\"/x\"]", "ENV A=1"].iter().map(|c| c.parse().unwrap()).collect();
    let tar = tar_of("content");
    for archive in [tar.clone(), gzip(&tar), zstd::encode_all(&tar[..], 1).unwrap()] {
        let image = import(&archive, &changes, Some("app:1")).run(&world.images, &world.layers).unwrap();
        assert_eq!(image.diff_ids(), [Digest::of(&tar)]);
        assert_eq!(world.file(&image, 0), "content");
        assert_eq!(image.platform().to_string(), "linux/arm64");
        assert_eq!(
            (image.config.config.cmd.unwrap(), image.config.config.env),
            (vec!["/x".into()], vec!["A=1".into()])
        );
        assert_eq!(image.config.history[0].comment, "Imported from a.tar");
    }
    let image = world.images.resolve("app:1").unwrap();
    let save = Save::plan(&world.images, &world.layers, &["app:1".to_owned()], &Silent).unwrap();
    let path = world.dir.path().join("a.tar");
    let mut bytes = Vec::new();
    save.archive(&mut bytes, true, "x").unwrap();
    fs::write(&path, bytes).unwrap();
    let other = World::new();
    let loaded = other.load(&path).unwrap().remove(0).image;
    assert_eq!((loaded.id, loaded.manifest), (image.id, image.manifest));
}

#[test]
fn what_is_no_file_system_is_refused_and_leaves_nothing() {
    let world = World::new();
    let mut cut = tar_of(&"x".repeat(5000));
    cut.truncate(2000);
    for archive in [&b""[..], b"not an archive", &cut, &gzip(&cut)] {
        assert!(import(archive, &[], None).run(&world.images, &world.layers).is_err());
        nothing_is_left(&world);
        assert_eq!(fs::read_dir(world.paths.staging()).unwrap().count(), 0);
    }
}
