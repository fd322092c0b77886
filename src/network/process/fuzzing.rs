//! For fuzzing: everything of others that this process reads, and what must be so of what it makes of it.

use super::packet::{self, Packet, Unreachable};
use super::{names, resolvers};
use std::net::{IpAddr, Ipv4Addr};

/// Reads a packet of a container, its question to the name server, and the answer that came for that.
pub fn read_for_fuzzing(bytes: &[u8], question: &[u8], answer: &[u8]) {
    let somebody = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    match packet::read(bytes) {
        Packet::Syn { source, destination, sequence } => {
            let reset = packet::reset(source, destination, sequence);
            let (length, to) = if source.is_ipv4() { (40, 16) } else { (60, 24) };
            assert_eq!(reset.len(), length);
            assert!(match source.ip() {
                IpAddr::V4(v4) => reset[to..to + 4] == v4.octets(),
                IpAddr::V6(v6) => reset[to..to + 16] == v6.octets(),
            });
            // What goes wrong with it is told in a packet of its own family.
            let error = packet::unreachable(destination.ip(), source.ip(), Unreachable::Host, bytes);
            assert!(error[0] >> 4 == bytes[0] >> 4 && error.len() <= 1280);
        }
        Packet::Echo(echo) => {
            let reply = packet::echo_reply(&echo, echo.sequence, &bytes[echo.payload..]);
            let header = if echo.source.is_ipv4() { 20 } else { 40 };
            assert_eq!(reply[header + 4..header + 8], bytes[echo.payload - 4..echo.payload]);
            assert_eq!(reply[header + 8..], bytes[echo.payload..]);
        }
        Packet::Other => {}
    }
    // A header has 60 bytes at most, and 8 of what follows are sent back, behind two headers of ours.
    let error = packet::unreachable(somebody, somebody, Unreachable::Host, bytes);
    assert!(error.len() <= 20 + 8 + 68);

    let owner = |name: &str| names::Names {
        owner: 1,
        addresses: vec![somebody],
        names: vec![name.to_owned()],
        others: Vec::new(),
    };
    let known = [owner("db"), owner("web")];
    let own =
        [names::answer(question, &known, true, 7), names::refusal(question), resolvers::failure(question)];
    for own in own.into_iter().flatten() {
        // The same id, and an answer.
        assert!(own.len() >= 12 && own[..2] == question[..2] && own[2] & 0x80 != 0, "{own:?}");
    }
    if resolvers::is_question(question) {
        let _ = resolvers::reply(question, answer);
    }
    if let Ok(text) = std::str::from_utf8(answer) {
        assert!((1..=3).contains(&resolvers::servers(text).len()));
    }
}
