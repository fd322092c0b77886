//! Saving: what real tools read of it, and that nothing changes on the way there and back.

use super::*;

fn saved(world: &World, what: &[&str], format: SaveFormat, compress: bool, name: &str) -> PathBuf {
    let what: Vec<String> = what.iter().map(|w| (*w).to_owned()).collect();
    let save = Save::plan(&world.images, &world.layers, &what, &Silent).unwrap();
    let path = world.dir.path().join(name);
    match format.is_folder() {
        true => save.folder(&path, format, compress).unwrap(),
        false => {
            let mut bytes = Vec::new();
            save.archive(&mut bytes, format == SaveFormat::DockerArchive, "x").unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
    path
}

/// A world with an image of two layers, pulled as gzip.
fn world_with(name: &str) -> (World, Image) {
    let world = World::new();
    let (_, place) = layout(world.dir.path(), "source", &["one", "two"]);
    let folder = place.split(':').nth(1).unwrap();
    let image = world.load(Path::new(folder)).unwrap().remove(0).image;
    world.images.tag(&image.id.hex(), &name.parse().unwrap()).unwrap();
    (world, image)
}

#[test]
fn what_is_saved_comes_back_the_same_to_the_byte() {
    let (world, image) = world_with("r.io/app:1");
    for (format, tail, has_name) in [
        (SaveFormat::DockerArchive, "docker.tar", true),
        (SaveFormat::OciArchive, "oci.tar", true),
        (SaveFormat::OciDir, "oci.dir", true),
        (SaveFormat::DockerDir, "docker.dir", false),
    ] {
        let path = saved(&world, &["r.io/app:1"], format, false, tail);
        let other = World::new();
        let loaded = other.load(&path).unwrap().remove(0);
        assert_eq!(loaded.image.id, image.id, "{tail}");
        assert_eq!(loaded.names.first().map(ToString::to_string).is_some(), has_name, "{tail}");
        assert_eq!(
            (other.file(&loaded.image, 0), other.file(&loaded.image, 1)),
            ("one".into(), "two".into())
        );
        // Once the manifest lists uncompressed layers, it stays what it is.
        let again = saved(&other, &[&image.id.hex()], format, false, "again");
        if has_name {
            other.images.tag(&image.id.hex(), &"r.io/app:1".parse().unwrap()).unwrap();
            let same = saved(&other, &["r.io/app:1"], format, false, "same");
            assert_eq!(tree(&same), tree(&path), "{tail}");
        } else {
            assert_eq!(tree(&again), tree(&path), "{tail}");
        }
        let third = World::new();
        let loaded_again = third.load(&again).unwrap().remove(0).image;
        assert_eq!(loaded_again.manifest, loaded.image.manifest, "{tail}");
        assert!(loaded_again.manifest.is_some());
    }
    // Nothing is left beside them.
    let hidden = fs::read_dir(world.dir.path()).unwrap().flatten();
    assert!(hidden.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with('.')));
}

/// All files of a folder, or the file.
fn tree(path: &Path) -> Vec<(String, Vec<u8>)> {
    if path.is_file() {
        return vec![(String::new(), fs::read(path).unwrap())];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        files
            .extend(tree(&entry.path()).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
    }
    files.sort();
    files
}

#[test]
fn skopeo_reads_every_form_with_our_digests() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("SKIPPED: skopeo is not installed");
        return;
    }
    let (world, image) = world_with("r.io/app:1");
    let id = image.id.to_string();
    let layers: Vec<String> = image.diff_ids().iter().map(ToString::to_string).collect();
    for (format, transport, tail) in [
        (SaveFormat::DockerArchive, "docker-archive", ":r.io/app:1"),
        (SaveFormat::DockerArchive, "oci-archive", ":r.io/app:1"),
        (SaveFormat::OciArchive, "oci-archive", ""),
        (SaveFormat::OciDir, "oci", ":r.io/app:1"),
        (SaveFormat::DockerDir, "dir", ""),
    ] {
        let name = format!("{format:?}-{transport}");
        let path = saved(&world, &["r.io/app:1"], format, false, &name);
        let place = format!("{transport}:{}{tail}", path.display());
        let mut inspect = Command::new("skopeo");
        inspect.args(["inspect", "--raw", &place]);
        let raw: serde_json::Value = serde_json::from_str(&run(&mut inspect)).unwrap();
        assert_eq!(raw["config"]["digest"], id, "{place}");
        let found: Vec<_> = raw["layers"].as_array().unwrap().iter().map(|l| l["digest"].clone()).collect();
        assert_eq!(found, layers, "{place}");
        // What skopeo copies it checks, and what it writes we read again. (From docker's form to OCI's it would write
        // another config.)
        let to = if transport.starts_with("oci") { "oci" } else { "dir" };
        let copy = world.dir.path().join(format!("{name}-copy"));
        let target = format!("{to}:{}", copy.display());
        run(Command::new("skopeo").args(["copy", "--insecure-policy", "-q", &place, &target]));
        let back = World::new().load(&copy).unwrap().remove(0).image;
        assert_eq!(back.id, image.id, "{place}");
    }
    let path = saved(&world, &["r.io/app:1"], SaveFormat::DockerDir, true, "compressed");
    let copy = format!("dir:{}", world.dir.path().join("copied").display());
    let place = format!("dir:{}", path.display());
    run(Command::new("skopeo").args(["copy", "--insecure-policy", "-q", &place, &copy]));
    assert_eq!(World::new().load(&path).unwrap()[0].image.id, image.id);
}

#[test]
fn several_images_and_names_share_one_archive_and_their_layers() {
    let world = World::new();
    let (shared, own) = (world.layer("shared"), world.layer("own"));
    let one = world.add_with("1", &[shared], &["app:1", "app:one"]);
    let two = world.add_with("2", &[shared, own, shared], &["r.io/two:2"]);
    let what = ["app:1", "r.io/two:2", "app:one", "app:1"];
    let docker = saved(&world, &what, SaveFormat::DockerArchive, false, "a.tar");
    let oci = saved(&world, &what, SaveFormat::OciArchive, false, "b.tar");
    for path in [&docker, &oci] {
        let other = World::new();
        let mut loaded = other.load(path).unwrap();
        loaded.sort_by_key(|l| l.names.len());
        let names = |l: &Loaded| l.names.iter().map(Reference::familiar).collect::<Vec<_>>();
        assert_eq!((loaded[0].image.id, names(&loaded[0])), (two.id, vec!["r.io/two:2".into()]));
        assert_eq!((loaded[1].image.id, names(&loaded[1])), (one.id, vec!["app:1".into(), "app:one".into()]));
        assert_eq!(other.layers.list().unwrap().len(), 2);
    }
    let mut archive = tar::Archive::new(fs::File::open(&docker).unwrap());
    let names: Vec<_> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    let mut once = names.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), names.len(), "{names:?}");
}

#[test]
fn what_is_not_whole_is_not_saved_and_leaves_nothing() {
    let (world, image) = world_with("app:1");
    let plan = |what: &str| Save::plan(&world.images, &world.layers, &[what.to_owned()], &Silent).map(drop);
    assert!(matches!(plan("nosuch"), Err(Error::NotFound(_))));
    let file = world.layers.fs_dir(image.diff_ids()[1]).join("file");
    let target = world.dir.path().join("target");
    fs::create_dir_all(target.join("taken")).unwrap();
    let save = Save::plan(&world.images, &world.layers, &["app:1".to_owned()], &Silent).unwrap();
    let before = fs::read_dir(world.dir.path()).unwrap().count();
    assert!(matches!(save.folder(&target, SaveFormat::OciDir, false), Err(Error::Write { .. })));
    fs::remove_dir(target.join("taken")).unwrap();
    // Damage that only reading finds.
    fs::write(&file, "TWO").unwrap();
    for format in [SaveFormat::OciDir, SaveFormat::DockerDir] {
        assert!(matches!(save.folder(&target, format, false), Err(Error::Layers(_))));
    }
    assert!(save.archive(&mut Vec::new(), true, "x").is_err());
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), before);
    world.layers.remove(image.diff_ids()[1]).unwrap();
    assert!(matches!(plan("app:1"), Err(Error::Layers(_))));
}
