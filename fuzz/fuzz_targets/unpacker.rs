//! Layers: whatever an archive says, nothing is made beside the layer's own folder, and what is accepted can be
//! written again byte for byte.
#![no_main]

use coracle::digest::Digest;
use coracle::layers::{Claim, LayerStore, Limits, Ownership, decompress};
use coracle_fuzz::roots;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::io::Read;

const MAX: u64 = 1 << 20;

fuzz_target!(|blob: &[u8]| {
    let Ok(stream) = decompress(blob) else { return };
    let mut tar = Vec::new();
    if stream.take(MAX).read_to_end(&mut tar).is_err() {
        return;
    }
    let (dir, paths) = roots();
    let victim = dir.path().join("victim");
    fs::write(&victim, "x").unwrap();
    let store = LayerStore::open(&paths, Ownership::SingleId);
    let diff_id = Digest::of(&tar);
    let limits = Limits { entries: 1000, bytes: MAX, path: 4096, xattr: 4096, memory: MAX };
    if let Ok(Claim::Build(staging)) = store.claim(diff_id)
        && staging.unpack(&tar[..], &limits).is_ok()
    {
        let mut again = Vec::new();
        store.write_tar(diff_id, &mut again).unwrap();
        assert!(again == tar, "the archive that is written is another one");
        store.verify(diff_id).unwrap();
    }
    let beside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(beside.iter().all(|name| name == "data" || name == "run" || name == "victim"), "{beside:?}");
    assert_eq!(fs::read(&victim).unwrap(), b"x");
});
