//! Volumes on a real data root.

use super::super::tree::tests::can_give_away;
use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Fixture {
    dir: tempfile::TempDir,
    volumes: Volumes,
}

impl Fixture {
    /// A data root, and an image with `/data/file` and `/link`, which is an absolute link to `/data`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("data")).unwrap();
        fs::write(image.join("data/file"), "from the image").unwrap();
        fs::set_permissions(image.join("data"), fs::Permissions::from_mode(0o2750)).unwrap();
        symlink("/data", image.join("link")).unwrap();
        Self { dir, volumes: Volumes::new(&paths) }
    }

    fn make(&self, name: &str) -> Volume {
        self.volumes.create(&NewVolume::named(name)).unwrap()
    }

    fn fill(&self, volume: &Volume, path: &str, copy: bool) -> bool {
        let root = Root::open_dir(&self.dir.path().join("image")).unwrap();
        // Where we may not give files away, an owner that needs no change.
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let owner = if can_give_away() { (5, 6) } else { own };
        let durability = Durability::Process;
        self.volumes
            .fill(volume, &Fill { root: &root, path: Path::new(path), copy, owner, durability })
            .unwrap()
    }
}

fn nobody(_: &str) -> Result<Vec<String>, Error> {
    Ok(Vec::new())
}

fn listed(volumes: &Volumes) -> Vec<String> {
    let name = |listed| match listed {
        Listed::Volume(volume) => volume.name,
        Listed::Broken { name, .. } => format!("broken {name}"),
    };
    volumes.list().unwrap().into_iter().map(name).collect()
}

#[test]
fn a_volume_is_made_once_found_listed_and_removed() {
    let f = Fixture::new();
    assert!(listed(&f.volumes).is_empty());
    let labels = [("a".to_owned(), "b".to_owned())].into();
    let made = f.volumes.create(&NewVolume { labels, ..NewVolume::named("web") }).unwrap();
    assert!(matches!(f.volumes.create(&NewVolume::named("web")), Err(Error::Exists(_))));
    assert_eq!(f.volumes.get("web").unwrap(), made);
    assert_eq!(f.volumes.ensure(&NewVolume::named("web")).unwrap().0, made);
    f.volumes.ensure(&NewVolume::named("db")).unwrap();
    assert_eq!(listed(&f.volumes), ["db", "web"]);
    assert!(made.data().is_dir());
    f.volumes.remove("web", nobody).unwrap();
    assert!(matches!(f.volumes.remove("web", nobody), Err(Error::Missing(_))));
    assert!(matches!(f.volumes.get("web"), Err(Error::Missing(_))));
    assert_eq!(listed(&f.volumes), ["db"]);
    assert_eq!(fs::read_dir(f.volumes.paths.locks()).unwrap().count(), 1);
    f.make("web");
}

#[test]
fn names_that_could_leave_the_folder_are_refused_everywhere() {
    let f = Fixture::new();
    for name in ["..", ".", "a/b", "", ".web.new"] {
        assert!(matches!(f.volumes.create(&NewVolume::named(name)), Err(Error::Name(_))));
        assert!(matches!(f.volumes.ensure(&NewVolume::named(name)), Err(Error::Name(_))));
        assert!(matches!(f.volumes.get(name), Err(Error::Name(_))));
        assert!(matches!(f.volumes.remove(name, nobody), Err(Error::Name(_))));
    }
}

#[test]
fn many_makers_of_one_name_have_one_volume() {
    let f = Fixture::new();
    let made = std::thread::scope(|scope| {
        let makers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| f.volumes.create(&NewVolume::named("one")).is_ok())).collect();
        makers.into_iter().map(|m| m.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
}

#[test]
fn a_volume_in_use_stays_and_one_being_taken_into_use_makes_remove_wait() {
    let f = Fixture::new();
    f.make("web");
    let error = f.volumes.remove("web", |_| Ok(vec!["c1".into(), "c2".into()])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "volume web is being used by the following container(s): c1, c2: volume is being used"
    );
    let (_, lock) = f.volumes.ensure(&NewVolume::named("web")).unwrap();
    let on_record = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            let users = |_: &str| {
                assert!(on_record.load(std::sync::atomic::Ordering::SeqCst));
                Ok(vec!["c".into()])
            };
            f.volumes.remove("web", users).unwrap_err()
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        on_record.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(lock);
        assert!(matches!(remover.join().unwrap(), Error::InUse { .. }));
    });
}

#[test]
fn pruning_takes_what_is_wanted_and_unused_and_what_killed_makers_left() {
    let f = Fixture::new();
    let anonymous = NewVolume::anonymous(Durability::Process).unwrap();
    f.volumes.create(&anonymous).unwrap();
    f.make("named");
    f.make("busy");
    fs::create_dir(f.volumes.staged("dead")).unwrap();
    let users = |name: &str| Ok(if name == "busy" { vec!["c".to_owned()] } else { vec![] });
    let pruned = f.volumes.prune(|volume| volume.anonymous, users).unwrap();
    assert!(pruned.removed.len() == 1 && pruned.failed.is_empty());
    assert_eq!(pruned.removed[0].name, anonymous.name);
    assert!(!f.volumes.staged("dead").exists());
    f.volumes.prune(|_| true, users).unwrap();
    assert_eq!(listed(&f.volumes), ["busy"]);
}

#[test]
fn a_bad_record_spoils_no_listing_and_can_be_removed() {
    let f = Fixture::new();
    f.make("good");
    f.make("torn");
    fs::write(f.volumes.dir("torn").join("volume.json"), "{").unwrap();
    fs::create_dir(f.volumes.dir("foreign")).unwrap();
    fs::create_dir(f.volumes.paths.volumes().join(".hidden")).unwrap();
    assert_eq!(listed(&f.volumes), ["broken foreign", "good", "broken torn"]);
    f.volumes.remove("torn", nobody).unwrap();
    f.volumes.remove("foreign", nobody).unwrap();
    assert_eq!(listed(&f.volumes), ["good"]);
}

#[test]
fn a_fresh_volume_is_filled_once_through_the_image_s_links() {
    let f = Fixture::new();
    let volume = f.make("web");
    assert!(f.fill(&volume, "/link", true));
    assert_eq!(fs::read_to_string(volume.data().join("file")).unwrap(), "from the image");
    assert_eq!(fs::metadata(volume.data()).unwrap().mode() & 0o7777, 0o2750);
    fs::remove_file(volume.data().join("file")).unwrap();
    assert!(!f.fill(&volume, "/data", true), "an emptied volume is not a fresh one");
    assert_eq!(fs::read_dir(volume.data()).unwrap().count(), 0);
}

#[test]
fn a_volume_with_something_in_it_is_left_alone() {
    let f = Fixture::new();
    let volume = f.make("web");
    fs::write(volume.data().join("mine"), "x").unwrap();
    for _ in 0..2 {
        assert!(!f.fill(&volume, "/data", true));
    }
    assert_eq!(fs::read_dir(volume.data()).unwrap().count(), 1);
}

#[test]
fn a_copy_that_was_killed_is_made_again() {
    let f = Fixture::new();
    let volume = f.make("web");
    fs::write(volume.dir().join("filling"), "").unwrap();
    fs::write(volume.data().join("file"), "fro").unwrap();
    fs::create_dir(volume.data().join("stale")).unwrap();
    assert!(f.fill(&volume, "/data", true));
    assert_eq!(fs::read_to_string(volume.data().join("file")).unwrap(), "from the image");
    assert!(!volume.data().join("stale").exists());
    assert!(!volume.dir().join("filling").exists());
}

#[test]
fn without_a_copy_owner_and_mode_are_taken_and_without_a_folder_the_owner_is_the_user() {
    let f = Fixture::new();
    let volume = f.make("nocopy");
    assert!(f.fill(&volume, "/data", false));
    assert_eq!(fs::read_dir(volume.data()).unwrap().count(), 0);
    assert_eq!(fs::metadata(volume.data()).unwrap().mode() & 0o7777, 0o2750);
    let volume = f.make("new");
    assert!(f.fill(&volume, "/no/such/folder", true));
    if can_give_away() {
        let meta = fs::metadata(volume.data()).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (5, 6));
    }
}

#[test]
fn two_containers_that_start_at_once_fill_a_volume_once() {
    let f = Fixture::new();
    let volume = f.make("web");
    let filled = std::thread::scope(|scope| {
        let fillers: Vec<_> = (0..4).map(|_| scope.spawn(|| f.fill(&volume, "/data", true))).collect();
        fillers.into_iter().map(|filler| filler.join().unwrap()).filter(|did| *did).count()
    });
    assert_eq!(filled, 1);
    assert_eq!(fs::read_to_string(volume.data().join("file")).unwrap(), "from the image");
}
