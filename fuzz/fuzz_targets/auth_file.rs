//! docker's `config.json` and podman's `auth.json`: whatever is in one, a secret is never shown.
#![no_main]

use coracle::registry::{Credentials, stored_credentials};
use coracle_fuzz::{parts, texts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [file, _, _] = parts(input);
    let Some([_, host, repository]) = texts(input) else { return };
    match stored_credentials(file, host, repository) {
        Ok(Some(found)) => assert_eq!(format!("{found:?}"), "Credentials(…)"),
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().contains("sesame"), "{error}"),
    }
    if let Ok(text) = std::str::from_utf8(file) {
        let _ = Credentials::parse(text);
    }
});
