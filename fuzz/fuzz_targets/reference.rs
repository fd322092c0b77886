//! Names of images: a name that is accepted is one path component after the other, and means the same when it is read again.
#![no_main]

use coracle::image::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    let written = reference.to_string();
    assert_eq!(written.parse::<Reference>().as_ref(), Ok(&reference), "{text:?}");
    let _ = reference.familiar().parse::<Reference>().map(|again| assert_eq!(again, reference));
    assert!(!written.contains(char::is_whitespace) && !written.contains(".."), "{written:?}");
});
