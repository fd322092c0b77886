use super::*;
use crate::layers::testing::{Archive, TestStore, ownerships};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn archive() -> Vec<u8> {
    Archive::new().dir("d").file("d/a", &[1; 3000]).file("d/b", b"b").symlink("l", "d").end()
}

/// Makes a layer look as one of an earlier boot that never was synced.
fn reboot(store: &TestStore, diff_id: Digest) -> LayerStore {
    let file = store.store.state_file(diff_id);
    let state = read_json::<State>(&file).unwrap().unwrap();
    write_json(&file, &State { boot_id: "an earlier boot".into(), ..state }, Durability::Process).unwrap();
    LayerStore::open(&store.paths, store.store.ownership)
}

#[test]
fn a_published_layer_is_present_listed_sized_and_private() {
    for ownership in ownerships() {
        let store = TestStore::new(ownership);
        let diff_id = Digest::of(&archive());
        assert!(!store.store.contains(diff_id));
        assert!(matches!(store.store.size(diff_id), Err(Error::Missing(_))));
        store.unpack(&archive()).unwrap();
        assert!(store.store.contains(diff_id));
        assert!(matches!(store.store.claim(diff_id), Ok(Claim::Present)));
        assert_eq!(store.store.list().unwrap(), [diff_id]);
        assert_eq!(store.store.size(diff_id).unwrap(), 3001);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.paths.layers()), 0o700);
        assert_eq!(mode(&store.store.layer_dir(diff_id)), 0o700);
        assert_eq!(mode(&store.store.fs_dir(diff_id)), 0o755);
        assert!(store.store.remove(diff_id).unwrap());
        assert!(!store.store.remove(diff_id).unwrap());
        store.assert_empty();
    }
}

#[test]
fn a_layer_with_another_digest_leaves_nothing() {
    let store = TestStore::new(Ownership::SingleId);
    let Claim::Build(staging) = store.store.claim(Digest::of(b"other")).unwrap() else { panic!() };
    let error = staging.unpack(&archive()[..], &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Digest { found, .. } if found == Digest::of(&archive())));
    store.assert_empty();
}

#[test]
fn a_reader_that_fails_at_its_end_prevents_publishing() {
    struct Mismatch;
    impl Read for Mismatch {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the blob has another digest"))
        }
    }
    let store = TestStore::new(Ownership::SingleId);
    let Claim::Build(staging) = store.store.claim(Digest::of(&archive())).unwrap() else { panic!() };
    let error = staging.unpack(archive().chain(Mismatch), &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    store.assert_empty();
}

#[test]
fn of_many_threads_one_builds_and_the_others_wait_for_it() {
    let store = TestStore::new(Ownership::SingleId);
    let (archive, built) = (archive(), AtomicUsize::new(0));
    let diff_id = Digest::of(&archive);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match store.store.claim(diff_id).unwrap() {
                Claim::Present => assert!(store.store.contains(diff_id)),
                Claim::Build(staging) => {
                    std::thread::sleep(Duration::from_millis(50));
                    staging.unpack(&archive[..], &Limits::default()).unwrap();
                    built.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(built.into_inner(), 1);
}

#[test]
fn when_a_builder_fails_the_next_one_builds() {
    let store = TestStore::new(Ownership::SingleId);
    let (archive, fails) = (archive(), AtomicUsize::new(3));
    let diff_id = Digest::of(&archive);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                if let Claim::Build(staging) = store.store.claim(diff_id).unwrap() {
                    let fail = fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
                    let end = if fail.is_ok() { 512 } else { archive.len() };
                    assert_eq!(staging.unpack(&archive[..end], &Limits::default()).is_err(), fail.is_ok());
                }
            });
        }
    });
    assert!(store.store.contains(diff_id));
}

/// The other processes of the next test: claims, and says what it got.
#[test]
#[ignore = "started by of_many_processes_one_builds_and_the_others_wait_for_it"]
fn claiming_process() {
    let Some(root) = std::env::var_os("CORACLE_TEST_CLAIM_ROOT").map(PathBuf::from) else { return };
    let paths = Paths::discover(Some(&root.join("data")), Some(&root.join("run"))).unwrap();
    let store = LayerStore::open(&paths, Ownership::SingleId);
    match store.claim(Digest::of(&archive())).unwrap() {
        Claim::Present => println!("found it"),
        Claim::Build(staging) => {
            std::thread::sleep(Duration::from_millis(100));
            staging.unpack(&archive()[..], &Limits::default()).unwrap();
            println!("built it");
        }
    }
}

#[test]
fn of_many_processes_one_builds_and_the_others_wait_for_it() {
    let store = TestStore::new(Ownership::SingleId);
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "layers::store::tests::claiming_process", "--ignored", "--nocapture"])
            .env("CORACLE_TEST_CLAIM_ROOT", store.dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..5).map(|_| start()).collect();
    let said: Vec<_> = processes
        .into_iter()
        .map(|process| String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    assert_eq!(said.iter().filter(|text| text.contains("built it")).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|text| text.contains("found it")).count(), 4, "{said:?}");
}

#[test]
fn staging_of_the_dead_is_collected_and_of_the_living_is_not() {
    let store = TestStore::new(Ownership::SingleId);
    let dead = store.paths.staging().join(lock_name(Digest::of(b"dead")));
    fs::create_dir_all(dead.join("fs")).unwrap();
    let claim = store.store.claim(Digest::of(&archive())).unwrap();
    assert_eq!(store.store.collect().unwrap(), 1);
    assert!(!dead.exists());
    let Claim::Build(staging) = claim else { panic!() };
    assert!(staging.dir.exists());
    staging.unpack(&archive()[..], &Limits::default()).unwrap();
    // What a killed builder left does not stop the next one either.
    fs::create_dir_all(dead.join("fs")).unwrap();
    assert!(matches!(store.store.claim(Digest::of(b"dead")), Ok(Claim::Build(_))));
}

#[test]
fn after_a_reboot_an_unsynced_layer_counts_only_when_it_is_whole() {
    for ownership in ownerships() {
        let store = TestStore::new(ownership);
        let (diff_id, _) = store.unpack(&archive()).unwrap();
        let later = reboot(&store, diff_id);
        assert!(!later.contains(diff_id));
        assert!(matches!(later.claim(diff_id), Ok(Claim::Present)));
        assert!(later.contains(diff_id));
        assert!(read_json::<State>(&later.state_file(diff_id)).unwrap().unwrap().durable);
        type Damage = fn(&Path);
        let damages: [Damage; 6] = [
            |fs_dir| fs::write(fs_dir.join("d/a"), [0; 3000]).unwrap(),
            |fs_dir| fs::write(fs_dir.join("d/a"), "").unwrap(),
            |fs_dir| fs::remove_file(fs_dir.join("l")).unwrap(),
            |fs_dir| fs::set_permissions(fs_dir.join("d"), fs::Permissions::from_mode(0o700)).unwrap(),
            |fs_dir| fs::write(fs_dir.join("../toc.zst"), "").unwrap(),
            |fs_dir| fs::write(fs_dir.join("d/more"), "").unwrap(),
        ];
        for damage in damages {
            let store = TestStore::new(ownership);
            let (diff_id, _) = store.unpack(&archive()).unwrap();
            damage(&store.store.fs_dir(diff_id));
            assert!(store.store.verify(diff_id).is_err());
            let later = reboot(&store, diff_id);
            let Ok(Claim::Build(staging)) = later.claim(diff_id) else { panic!("a damaged layer counts") };
            staging.unpack(&archive()[..], &Limits::default()).unwrap();
            store.store.verify(diff_id).unwrap();
        }
    }
}

#[test]
fn a_synced_layer_outlasts_a_reboot() {
    let store = TestStore::new(Ownership::SingleId);
    let (diff_id, _) = store.unpack(&archive()).unwrap();
    assert_eq!(store.store.make_durable().unwrap(), 1);
    assert_eq!(store.store.make_durable().unwrap(), 0);
    assert!(reboot(&store, diff_id).contains(diff_id));
}

#[test]
fn a_layer_with_a_torn_state_file_is_looked_through_and_built_again_if_it_is_damaged() {
    let store = TestStore::new(Ownership::SingleId);
    let (diff_id, _) = store.unpack(&archive()).unwrap();
    fs::write(store.store.state_file(diff_id), "{").unwrap();
    assert!(!store.store.contains(diff_id));
    assert_eq!(store.store.list().unwrap(), [diff_id]);
    assert!(matches!(store.store.claim(diff_id), Ok(Claim::Present)));
    assert!(store.store.contains(diff_id));
    fs::write(store.store.state_file(diff_id), "{").unwrap();
    fs::remove_dir_all(store.store.fs_dir(diff_id)).unwrap();
    assert!(matches!(store.store.claim(diff_id), Ok(Claim::Build(_))));
}

#[test]
fn the_length_of_an_archive_is_known_without_reading_the_files() {
    let store = TestStore::new(Ownership::SingleId);
    let big = Archive::new().file("big", &vec![7; 300_000]).file("d/empty", b"").file("big", b"again").end();
    for archive in [archive(), big, Archive::new().end()] {
        let (diff_id, _) = store.unpack(&archive).unwrap();
        assert_eq!(store.store.tar_size(diff_id).unwrap(), archive.len() as u64);
    }
    assert!(matches!(store.store.tar_size(Digest::of(b"")), Err(Error::Missing(_))));
}

#[test]
fn what_was_set_aside_goes_back_unless_another_took_its_place() {
    let store = TestStore::new(Ownership::SingleId);
    let (diff_id, _) = store.unpack(&archive()).unwrap();
    let aside = store.store.set_aside(diff_id).unwrap().unwrap();
    assert!(!store.store.contains(diff_id) && store.store.list().unwrap().is_empty());
    // Nobody else ends it meanwhile.
    assert_eq!(store.store.collect().unwrap(), 0);
    drop(aside);
    assert!(store.store.contains(diff_id));

    let aside = store.store.set_aside(diff_id).unwrap().unwrap();
    store.unpack(&archive()).unwrap();
    drop(aside);
    assert!(store.store.contains(diff_id));
    assert_eq!(fs::read_dir(store.paths.layers()).unwrap().count(), 1);

    store.store.set_aside(diff_id).unwrap().unwrap().discard().unwrap();
    assert!(!store.store.contains(diff_id) && store.store.set_aside(diff_id).unwrap().is_none());
    store.assert_empty();

    // Of a process that was killed.
    store.unpack(&archive()).unwrap();
    std::mem::forget(store.store.set_aside(diff_id).unwrap());
    let other = LayerStore::open(&store.paths, store.store.ownership);
    fs::remove_file(store.paths.locks().join(format!("aside-{}", diff_id.hex()))).unwrap();
    assert_eq!(other.collect().unwrap(), 1);
    assert!(other.contains(diff_id));
}
