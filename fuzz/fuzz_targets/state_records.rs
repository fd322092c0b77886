//! The records of the state on disk: containers, volumes, names and configs of images, layers. Whatever one of them holds,
//! every listing works and shows all the others, and nothing that is shown of it is a panic. The input's first byte
//! says which record its rest is.
#![no_main]

use coracle::cli::container_views;
use coracle::container::id::ContainerId;
use coracle::container::store::{self, Entry, Places};
use coracle::digest::Digest;
use coracle::image::ImageStore;
use coracle::layers::{LayerStore, Ownership};
use coracle::state::{Lock, Paths};
use coracle::volume::Volumes;
use coracle_fuzz::roots;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::PathBuf;

/// The container, image and layer whose records the input replaces, and their neighbours.
const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// Good records, in the order of the input's first byte: also the seeds. Should the form of one change so that they are
/// none any more, every input fails: take them from a real store then.
const GOOD: [&[u8]; 9] = [
    include_bytes!("../seeds/state_records/0-spec"),
    include_bytes!("../seeds/state_records/1-state"),
    include_bytes!("../seeds/state_records/2-exit"),
    include_bytes!("../seeds/state_records/3-live"),
    include_bytes!("../seeds/state_records/4-volume"),
    include_bytes!("../seeds/state_records/5-image-name"),
    include_bytes!("../seeds/state_records/6-image-id"),
    include_bytes!("../seeds/state_records/7-image-config"),
    include_bytes!("../seeds/state_records/8-layer"),
];

fn place(paths: &Paths, which: usize, hex: &str, name: &str) -> PathBuf {
    let container = paths.containers().join(hex);
    match which {
        0 => container.join("spec.json"),
        1 => container.join("state.json"),
        2 => container.join("exit.json"),
        3 => paths.run_containers().join(hex).join("live.json"),
        4 => paths.volumes().join(name).join("volume.json"),
        5 => {
            let name = format!("localhost/{name}:latest");
            paths.images().join("names").join(Digest::of(name.as_bytes()).hex())
        }
        6 => paths.images().join("ids").join(hex),
        7 => paths.blobs().join(hex),
        _ => paths.layers().join(hex).join("state"),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, record)) = input.split_first() else { return };
    let replaced = usize::from(first.wrapping_sub(b'0')) % GOOD.len();
    let (_dir, paths) = roots();
    for (which, good) in GOOD.iter().enumerate() {
        for (hex, name) in [(ONE, "one"), (OTHER, "other")] {
            let path = place(&paths, which, hex, name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = if which == replaced && hex == ONE { record } else { &good[1..] };
            fs::write(path, text).unwrap();
        }
    }
    // The first container runs, if its record says so as well.
    let one = ContainerId::parse(ONE).unwrap();
    let held = (replaced == 3).then(|| Lock::exclusive(&Places::of(&paths, &one).lock()).unwrap());

    let containers = store::list(&paths).unwrap();
    assert_eq!(containers.len(), 2, "every container has its line");
    for entry in &containers {
        match entry {
            Entry::Whole(container) => drop(container_views(&paths, container)),
            Entry::Broken(id, error) => {
                assert_eq!(id, &one, "{error}");
                let _ = coracle::diagnose::Diagnose::fix(error);
            }
        }
    }
    let _ = store::find(&paths, "11");
    assert!(store::find(&paths, OTHER).is_ok());
    assert_eq!(Volumes::new(&paths).list().unwrap().len(), 2);
    let images = ImageStore::open(&paths);
    let listed = images.list().unwrap();
    assert!(listed.len() >= 2, "{listed:?}");
    let _ = images.resolve("one");
    let _ = images.resolve(ONE);
    let _ = images.resolve("localhost/other:latest");
    let layers = LayerStore::open(&paths, Ownership::SingleId);
    assert_eq!(layers.list().unwrap().len(), 2);
    let layer: Digest = format!("sha256:{ONE}").parse().unwrap();
    let _ = (layers.contains(layer), layers.size(layer));
    drop(held);
});
