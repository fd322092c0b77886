//! Names, ids, removal, garbage.

use super::*;

#[test]
fn short_names_find_docker_hubs_image_then_localhosts_then_any_others() {
    let world = World::new();
    let other = world.add("other", &["quay.io/org/app:1"]);
    assert_eq!(world.images.resolve("app:1").unwrap().id, other.id);
    assert_eq!(world.images.resolve("org/app:1").unwrap().id, other.id);
    let local = world.add("local", &["localhost/app:1"]);
    assert_eq!(world.images.resolve("app:1").unwrap().id, local.id);
    let hub = world.add("hub", &["app:1"]);
    assert_eq!(world.images.resolve("app:1").unwrap().id, hub.id);
    assert_eq!(world.images.resolve("localhost/app:1").unwrap().id, local.id);
    world.add("third", &["ghcr.io/org/app:1"]);
    assert!(matches!(world.images.resolve("org/app:1"), Err(Error::Ambiguous { .. })));
    assert!(matches!(world.images.resolve("Bad Name"), Err(Error::Reference(_))));
}

#[test]
fn the_start_of_an_id_must_fit_one_image() {
    let world = World::new();
    let mut by_start: HashMap<String, Vec<Image>> = HashMap::new();
    for n in 0..400 {
        let image = world.add(&n.to_string(), &[]);
        by_start.entry(image.id.hex()[..2].to_owned()).or_default().push(image);
    }
    let (start, several) = by_start.iter().find(|(_, images)| images.len() > 1).unwrap();
    assert!(matches!(world.images.resolve(start), Err(Error::Ambiguous { .. })));
    for image in several {
        assert_eq!(world.images.resolve(&image.id.hex()[..20]).unwrap().id, image.id);
    }
    // A name goes before an id.
    let named = world.add("named", &[&several[0].id.hex()[..8]]);
    assert_eq!(world.images.resolve(&several[0].id.hex()[..8]).unwrap().id, named.id);
}

#[test]
fn a_torn_record_breaks_its_own_line_only() {
    let world = World::new();
    let good = world.add("good", &["good"]);
    let torn = world.add("torn", &["torn", "gone"]);
    let path = world.images.name_path(&"torn".parse().unwrap());
    fs::write(&path, "{\"name\":").unwrap();
    fs::write(world.images.names_dir().join(".x.tmp"), "half").unwrap();
    let listed = world.images.list().unwrap();
    let broken: Vec<_> = listed.iter().filter(|l| matches!(l, Listed::Broken { .. })).collect();
    assert_eq!((listed.len(), broken.len()), (3, 1));
    assert_eq!(world.images.resolve("good").unwrap().id, good.id);
    assert!(matches!(world.images.resolve("torn"), Err(Error::State(_))));
    fs::remove_file(world.images.blob_path(torn.id)).unwrap();
    assert_eq!(world.images.list().unwrap().len(), 3);
    assert!(world.images.collect_garbage(&world.layers, &|_| false).unwrap().is_some());
    assert_eq!(world.images.resolve("good").unwrap().id, good.id);
}

#[test]
fn names_are_given_and_taken() {
    let world = World::new();
    let (one, two) = (world.add("1", &["app"]), world.add("2", &["app"]));
    assert_eq!(world.images.resolve("app").unwrap().id, two.id);
    let dangling = world.images.list().unwrap().into_iter().any(
        |l| matches!(l, Listed::Image(ImageEntry { image, names }) if image.id == one.id && names.is_empty()),
    );
    assert!(dangling);
    world.images.tag(&one.id.hex()[..10], &"r.io/old:1".parse().unwrap()).unwrap();
    assert_eq!(world.images.names(one.id).unwrap()[0].reference.to_string(), "r.io/old:1");
    assert_eq!(world.images.untag("r.io/old:1").unwrap().to_string(), "r.io/old:1");
    assert!(world.images.resolve("r.io/old:1").is_err());
    assert!(world.images.untag("r.io/old:1").is_err());
}

#[test]
fn removing_follows_dockers_rules() {
    let world = World::new();
    let (shared, own) = (world.layer("shared"), world.layer("own"));
    let image = world.add_with("a", &[shared, own], &["app:1", "app:2", "r.io/app:1"]);
    world.add_with("b", &[shared], &["other"]);

    let removed = world.remove("app:1", false).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (1, None));
    let id = image.id.hex();
    assert!(matches!(world.remove(&id, false), Err(Error::Conflict { .. })));
    let used = InUse { image: &|_| Some("container x is running".into()), layer: &|_| false };
    world.remove("r.io/app:1", false).unwrap();
    let error = world.images.remove(&world.layers, "app:2", true, &used).unwrap_err();
    assert!(error.to_string().contains("container x is running"), "{error}");
    assert!(world.images.resolve("app:2").is_ok());

    let removed = world.remove("app:2", false).unwrap();
    assert_eq!((removed.deleted, removed.layers), (Some(image.id), vec![own]));
    assert!(world.layers.contains(shared) && !world.layers.contains(own));
    assert!(!world.images.blob_path(image.id).exists());
    assert!(matches!(world.remove("app:2", false), Err(Error::NotFound(_))));

    let image = world.add_with("c", &[shared], &["x:1", "r.io/x:1"]);
    let removed = world.remove(&image.id.short(), true).unwrap();
    assert_eq!((removed.untagged.len(), removed.layers.len()), (2, 0));
}

#[test]
fn nothing_is_collected_that_somebody_relies_on() {
    let world = World::new();
    let (kept, used, lost) = (world.layer("kept"), world.layer("used"), world.layer("lost"));
    let image = world.add_with("a", &[kept], &["app"]);
    let stray = world.images.blob_path(Digest::of(b"stray"));
    fs::write(&stray, "stray").unwrap();

    let pin = world.images.pin().unwrap();
    assert_eq!(world.images.collect_garbage(&world.layers, &|_| false).unwrap(), None);
    world.add_with("b", &[kept, lost], &["b"]);
    assert_eq!(world.remove("b", false).unwrap().layers, []);
    drop(pin);

    let collected = world.images.collect_garbage(&world.layers, &|layer| layer == used).unwrap().unwrap();
    assert_eq!((collected.layers, collected.bytes), (vec![lost], 4));
    assert!(world.layers.contains(kept) && world.layers.contains(used) && !stray.exists());
    assert_eq!(world.images.resolve("app").unwrap().id, image.id);
}

#[test]
fn resolving_a_name_is_fast() {
    let world = World::new();
    for n in 0..100 {
        world.add(&n.to_string(), &[&format!("app{n}")]);
    }
    let start = std::time::Instant::now();
    for _ in 0..100 {
        world.images.resolve("app50").unwrap();
    }
    // 100 µs is the aim; a loaded machine and an unoptimized build get ten times that.
    assert!(start.elapsed() < std::time::Duration::from_millis(100), "{:?}", start.elapsed());
}

#[test]
fn pruning_takes_what_is_picked_and_unused_and_all_garbage() {
    let world = World::new();
    let (shared, own, used, lost) =
        (world.layer("shared"), world.layer("own"), world.layer("used"), world.layer("lost"));
    world.add_with("kept", &[shared], &["kept"]);
    let gone = world.add_with("gone", &[shared, own], &["gone", "r.io/gone"]);
    let in_use = world.add_with("used", &[used], &["used"]);
    let uses = InUse {
        image: &|image| (image.id == in_use.id).then(|| "container x".to_owned()),
        layer: &|layer| layer == used,
    };
    let wanted = |entry: &ImageEntry| {
        entry
            .names
            .iter()
            .all(|n| n.reference.tag() == Some("latest") && n.reference.path() != "library/kept")
    };
    let pruned = world.images.prune(&world.layers, &wanted, &uses).unwrap();
    assert_eq!(pruned.removed.len(), 1);
    assert_eq!((pruned.removed[0].deleted, pruned.removed[0].untagged.len()), (Some(gone.id), 2));
    assert_eq!(pruned.bytes, ("own".len() + "lost".len()) as u64);
    let left: Vec<bool> = [shared, used, own, lost].iter().map(|l| world.layers.contains(*l)).collect();
    assert_eq!(left, [true, true, false, false]);
    assert!(!world.images.blob_path(gone.id).exists());
}

#[test]
fn who_uses_a_layer_is_asked_only_when_nobody_new_can_come() {
    let world = World::new();
    let layer = world.layer("late");
    world.add_with("a", &[layer], &["a"]);
    // A container that is made between the look at the image and the removal of its layers.
    let asked = std::cell::Cell::new(false);
    let uses = InUse {
        image: &|_| None,
        layer: &|_| {
            asked.set(true);
            // Whoever would make one now holds a pin, which cannot be had.
            assert!(world.images.unpinned().unwrap().is_none());
            true
        },
    };
    let removed = world.images.remove(&world.layers, "a", false, &uses).unwrap();
    assert!(asked.get() && removed.layers.is_empty() && world.layers.contains(layer));
}

#[test]
fn what_images_share_counts_once_in_the_whole() {
    let world = World::new();
    let (shared, own, other) = (world.layer("shared"), world.layer("own"), world.layer("other"));
    world.add_with("a", &[shared], &["a"]);
    let b = world.add_with("b", &[shared, own, own], &["b"]);
    let usage = Usage::of(&world.images, &world.layers).unwrap();
    assert_eq!((usage.layers, usage.others), ((2, 9), (1, 5)));
    let of_b = usage.images.iter().find(|image| image.entry.image.id == b.id).unwrap();
    assert_eq!((of_b.size, of_b.shared, of_b.unique()), (9, 6, 3));
    assert_eq!(usage.reclaimable(|_| true), 0);
    assert_eq!(usage.reclaimable(|image| image.entry.image.id != b.id), 3);
    assert_eq!(usage.reclaimable(|image| image.entry.image.id == b.id), 0);
    assert_eq!(usage.reclaimable(|_| false), 9);
    assert!(world.layers.contains(other));
}
