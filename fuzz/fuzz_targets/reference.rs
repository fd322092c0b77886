//! Names of images: a name that is accepted is one path component after the other, and means the same when it is read again.
#![no_main]

use coracle::image::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    let written = reference.to_string();
    assert_eq!(written.parse::<Reference>().as_ref(), Ok(&reference), "{text:?}");
    let _ = reference.familiar().parse::<Reference>().map(|again| assert_eq!(again, reference));
    // A tag may have two dots, but the part of the name that could be taken for a path has none.
    assert!(!written.contains(char::is_whitespace) && !reference.name().contains(".."), "{written:?}");
});
