//! What containers send that is read in user space: packets that leave by the tun, and questions to the name server; and what
//! name servers answer, and the host's resolv.conf.
#![no_main]

use coracle::network::read_for_fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [packet, question, answer] = coracle_fuzz::parts(input);
    read_for_fuzzing(packet, question, answer);
});
