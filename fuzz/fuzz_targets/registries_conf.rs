//! `registries.conf`, and what is made of a name by it.
#![no_main]

use coracle::registry::{Places, Registries};
use coracle_fuzz::texts;
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|input: &[u8]| {
    let Some([text, name]) = texts(input) else { return };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("registries.conf");
    fs::write(&file, text).unwrap();
    let places = Places {
        etc: dir.path().to_owned(),
        config: None,
        cache: None,
        runtime: None,
        docker: None,
        docker_is_chosen: false,
        auth_file: None,
        registries_conf: Some(file),
    };
    if let Ok(registries) = Registries::load(&places) {
        let _ = registries.complete(name);
        let _ = registries.endpoints(name, false);
        let _ = registries.endpoints(name, true);
    }
});
