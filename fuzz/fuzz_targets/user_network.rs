//! The user-mode tier of a network: frames that containers send, and both ends of a TCP connection on a bad cable.
#![no_main]

use coracle::network::hear_for_fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [orders, frames] = coracle_fuzz::parts(input);
    hear_for_fuzzing(frames, orders);
});
