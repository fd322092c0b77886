//! Loading archives and layouts.

use super::*;

#[test]
fn what_skopeo_writes_is_loaded() {
    let world = World::new();
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("SKIPPED: skopeo is not installed");
        return;
    }
    let (made, place) = layout(world.dir.path(), "oci", &["one", "two"]);
    let folder = world.dir.path().join("oci");
    let file = |name: &str| world.dir.path().join(name);
    let copy = |target: &str, path: &Path, tail: &str| {
        let target = format!("{target}:{}{tail}", path.display());
        run(Command::new("skopeo").args(["copy", "--insecure-policy", "-q", &place, &target]));
    };
    copy("docker-archive", &file("docker.tar"), ":app:1");
    copy("oci-archive", &file("oci.tar"), ":r.io/org/app:2");
    fs::write(file("docker.tar.gz"), gzip(&fs::read(file("docker.tar")).unwrap())).unwrap();
    fs::write(file("oci.tar.zst"), zstd::encode_all(&fs::read(file("oci.tar")).unwrap()[..], 1).unwrap())
        .unwrap();
    let cases = [
        (file("docker.tar"), Some("docker.io/library/app:1"), false),
        (file("docker.tar.gz"), Some("docker.io/library/app:1"), false),
        (file("oci.tar"), Some("r.io/org/app:2"), true),
        (file("oci.tar.zst"), Some("r.io/org/app:2"), true),
        (folder, None, true),
    ];
    for (path, name, has_manifest) in cases {
        let world = World::new();
        let loaded = world.load(&path).unwrap();
        let [Loaded { image, names }] = &loaded[..] else { panic!("{loaded:?}") };
        assert_eq!(image.id, made.config, "{path:?}");
        assert_eq!(
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            Vec::from_iter(name),
            "{path:?}"
        );
        assert_eq!(image.manifest.is_some(), has_manifest, "{path:?}");
        assert_eq!(world.file(image, 1), "two");
        let bytes = fs::read(&path).ok();
        if let Some(bytes) = bytes {
            let stream = Input::Stream(Box::new(std::io::Cursor::new(bytes)));
            assert_eq!(load(&world.images, &world.layers, stream, &Silent).unwrap().len(), 1);
        }
        assert_eq!(fs::read_dir(world.paths.staging()).unwrap().count(), 0);
    }
}

#[test]
fn dockers_older_archives_with_links_are_loaded_and_hostile_ones_are_not() {
    let world = World::new();
    let made = Made::new("amd64", &["one", "two"]);
    let build = |entries: &[(&str, &[u8])], links: &[(&str, &str)]| -> PathBuf {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        for (name, target) in links {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).unwrap();
        }
        let path = world.dir.path().join("a.tar");
        fs::write(&path, archive.into_inner().unwrap()).unwrap();
        path
    };
    let config = &made.blobs[&made.config][..];
    let (one, two) = (tar_of("one"), tar_of("two"));
    let table =
        br#"[{"Config":"c.json","RepoTags":["app:old","r.io/x:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let path = build(
        &[("c.json", config), ("x/layer.tar", &one), ("b/layer.tar", &two), ("manifest.json", table)],
        &[("a/layer.tar", "../x/layer.tar")],
    );
    let loaded = world.load(&path).unwrap();
    assert_eq!((loaded[0].image.id, loaded[0].names.len()), (made.config, 2));
    assert_eq!(world.images.resolve("app:old").unwrap().id, made.config);

    let outside = br#"[{"Config":"/etc/passwd","RepoTags":null,"Layers":[]}]"#;
    let long = vec![b' '; 9 << 20];
    type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 7] = [
        (&[("manifest.json", outside)], &[]),
        (&[("manifest.json", outside)], &[("etc/passwd", "/etc/passwd")]),
        (&[("manifest.json", b"[")], &[]),
        (&[("manifest.json", &long)], &[]),
        (&[("other", b"")], &[]),
        (&[("c.json", config), ("a/layer.tar", &two), ("b/layer.tar", &one), ("manifest.json", table)], &[]),
        (&[("manifest.json", table)], &[("c.json", "d.json"), ("d.json", "c.json")]),
    ];
    for (entries, links) in cases {
        let world = World::new();
        let path = build(entries, links);
        assert!(world.load(&path).is_err(), "{:?}", entries.iter().map(|e| e.0).collect::<Vec<_>>());
        nothing_is_left(&world);
    }
    assert!(world.load(Path::new("/does/not/exist")).is_err());
    fs::write(&path, "no archive").unwrap();
    assert!(world.load(&path).is_err());
}
