//! The frames that a session's client reads: whatever comes, it ends when the stream does.
#![no_main]

use coracle::container::session::Client;
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::os::unix::net::UnixStream;

fuzz_target!(|bytes: &[u8]| {
    // As much as the socket holds without a reader.
    let bytes = &bytes[..bytes.len().min(100_000)];
    for waits_for_start in [true, false] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        drop(theirs);
        let mut client = Client::new(ours);
        if waits_for_start {
            let _ = client.wait_started();
        } else {
            let _ = client.wait_exit();
        }
    }
});
