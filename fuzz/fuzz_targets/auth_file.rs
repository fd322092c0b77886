//! docker's `config.json` and podman's `auth.json`.
#![no_main]

use coracle::registry::{Credentials, stored_credentials};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str, &str)| {
    let (text, host, repository) = input;
    if let Ok(Some(found)) = stored_credentials(text, host, repository) {
        assert_eq!(format!("{found:?}"), "Credentials(…)");
    }
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = Credentials::parse(text);
    }
});
