//! Damage of every sort: found, told, mended.

use super::*;

struct Pulled {
    world: World,
    registry: DockerRegistry,
    name: String,
    image: Image,
}

/// An image of two layers from a registry that is still there.
fn pulled() -> Option<Pulled> {
    let world = World::new();
    let registry = DockerRegistry::start(world.dir.path(), false)?;
    let (_, place) = layout(world.dir.path(), "oci", &["one", "two"]);
    registry.push(&place, "org/app:1", &["--format=oci"]);
    let name = format!("{}/org/app:1", registry.host);
    let image = world.pull(&name).unwrap();
    assert_eq!(faults(&world), [] as [String; 0]);
    Some(Pulled { world, registry, name, image })
}

fn faults(world: &World) -> Vec<String> {
    verify(&world.images, &world.layers, &|_| false, 2).unwrap().iter().map(ToString::to_string).collect()
}

/// What was said, and whether all of it is well now.
fn mend(world: &World, depends: &dyn Fn(Digest) -> bool) -> (Vec<String>, bool) {
    let found = verify(&world.images, &world.layers, &|_| false, 2).unwrap();
    assert!(!found.is_empty());
    let request = PullRequest {
        options: registry::Options { retries: 0, ..testing::options(world.dir.path()) },
        ..PullRequest::new("")
    };
    let report = repair(&world.images, &world.layers, &found, &|_| None, depends, &request).unwrap();
    let done = report.iter().all(|repaired| repaired.done);
    (report.into_iter().map(|repaired| repaired.text).collect(), done)
}

fn damage(path: &Path) {
    fs::write(path, "{\"damaged\":").unwrap();
}

#[test]
fn whatever_is_damaged_is_fetched_again_by_its_digest() {
    let Some(Pulled { world, registry: _registry, name, image }) = pulled() else { return };
    let before = world.images.names(image.id).unwrap();
    let layer_file = world.layers.fs_dir(image.diff_ids()[1]).join("file");
    let state_file = world.layers.fs_dir(image.diff_ids()[0]).parent().unwrap().join("state");
    type Case<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let cases: [Case<'_>; 7] = [
        ("layer", Box::new(|| fs::write(&layer_file, "TWO").unwrap())),
        ("layer", Box::new(|| fs::remove_file(&layer_file).unwrap())),
        ("layer", Box::new(|| damage(&state_file))),
        ("layer", Box::new(|| assert!(world.layers.remove(image.diff_ids()[0]).unwrap()))),
        ("document", Box::new(|| damage(&world.images.blob_path(image.id)))),
        ("document", Box::new(|| fs::remove_file(world.images.blob_path(image.manifest.unwrap())).unwrap())),
        ("record", Box::new(|| damage(&world.images.ids_dir().join(image.id.hex())))),
    ];
    for (what, spoil) in cases {
        spoil();
        let found = faults(&world);
        assert!(found.iter().any(|fault| fault.starts_with(what)), "{what}: {found:?}");
        let (said, done) = mend(&world, &|_| true);
        assert!(done && said.iter().any(|text| text.contains("fetched again")), "{what}: {said:?}");
        assert_eq!(faults(&world), [] as [String; 0], "{what}");
        let again = world.images.resolve(&name).unwrap();
        assert_eq!((again.id, again.manifest), (image.id, image.manifest), "{what}");
        assert_eq!((world.file(&image, 0), world.file(&image, 1)), ("one".into(), "two".into()), "{what}");
        assert_eq!(world.images.names(image.id).unwrap().len(), before.len(), "{what}");
        assert_eq!(fs::read_dir(world.paths.layers()).unwrap().count(), 2, "{what}");
    }
}

#[test]
fn what_cannot_be_fetched_is_dropped_unless_a_container_depends_on_it() {
    let Some(Pulled { world, registry, name, image }) = pulled() else { return };
    let local = world.add_with("local", image.diff_ids(), &["localhost/mine:1"]);
    drop(registry);
    let layer = image.diff_ids()[1];
    let file = world.layers.fs_dir(layer).join("file");
    fs::write(&file, "TWO").unwrap();

    let (said, done) = mend(&world, &|needed| needed == layer);
    assert!(!done && said.iter().any(|text| text.contains("a container depends on it")), "{said:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "TWO");
    // Its images are gone all the same: nothing new may be made of them.
    assert!(world.images.resolve(&name).is_err() && world.images.by_id(local.id).unwrap().is_none());

    let (said, done) = mend(&world, &|_| false);
    assert!(done && said.iter().any(|text| text.contains("dropped")), "{said:?}");
    assert_eq!(faults(&world), [] as [String; 0]);
    assert_eq!(world.layers.list().unwrap(), [image.diff_ids()[0]]);
}

#[test]
fn a_layer_without_its_state_is_a_fault_if_somebody_needs_it() {
    let world = World::new();
    let (of_image, other) = (world.layer("content"), world.layer("other"));
    world.add_with("a", &[of_image], &["localhost/a"]);
    for layer in [of_image, other] {
        fs::write(world.layers.fs_dir(layer).with_file_name("state"), "").unwrap();
    }
    assert_eq!(faults(&world).len(), 1);
    let with_container = verify(&world.images, &world.layers, &|layer| layer == other, 1).unwrap();
    assert_eq!(with_container.len(), 2);
}

#[test]
fn a_layer_of_a_running_container_is_not_touched() {
    let world = World::new();
    let layer = world.layer("content");
    let image = world.add_with("a", &[layer], &["localhost/a"]);
    fs::write(world.layers.fs_dir(layer).join("file"), "CONTENT").unwrap();
    let found = verify(&world.images, &world.layers, &|_| false, 1).unwrap();
    let running = |_| Some("container x".to_owned());
    let request = PullRequest::new("");
    let report = repair(&world.images, &world.layers, &found, &running, &|_| true, &request).unwrap();
    assert!(report.iter().any(|r| !r.done && r.text.contains("container x runs on it")), "{report:?}");
    assert!(world.images.by_id(image.id).unwrap().is_some() && world.layers.contains(layer));
}

#[test]
fn records_that_cannot_be_read_are_removed_and_an_image_survives_the_loss_of_its_manifest() {
    let world = World::new();
    let image = world.add("good", &["localhost/good:1", "localhost/good:2"]);
    damage(&world.images.name_path(&"localhost/good:2".parse().unwrap()));
    fs::write(
        world.images.names_dir().join("0".repeat(64)),
        fs::read(world.images.name_path(&"localhost/good:1".parse().unwrap())).unwrap(),
    )
    .unwrap();
    let (said, done) = mend(&world, &|_| false);
    assert!(done && said.len() == 2, "{said:?}");
    assert_eq!(world.images.names(image.id).unwrap().len(), 1);

    let with = NewImage {
        config: b"{\"os\":\"linux\"}",
        manifest: Some(b"{}"),
        index: None,
        names: &["localhost/m".parse().unwrap()],
    };
    let image = world.images.add(&with).unwrap();
    fs::remove_file(world.images.blob_path(image.manifest.unwrap())).unwrap();
    let (said, done) = mend(&world, &|_| false);
    assert!(done && said[0].contains("kept without its manifest"), "{said:?}");
    assert_eq!(world.images.resolve("localhost/m").unwrap().manifest, None);
    assert_eq!(faults(&world), [] as [String; 0]);
}
