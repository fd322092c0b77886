//! For fuzzing: everything of others that this process reads, and what must be so of what it makes of it.

use super::packet::{self, Packet, Unreachable};
use super::{names, resolvers};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Reads a packet of a container, its question to the name server, and the answer that came for that.
pub fn read_for_fuzzing(bytes: &[u8], question: &[u8], answer: &[u8]) {
    let somebody = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80);
    match packet::read(bytes) {
        Packet::Syn { source, destination, sequence } => {
            let reset = packet::reset(source, destination, sequence);
            assert_eq!((reset.len(), &reset[16..20]), (40, &source.ip().octets()[..]));
        }
        Packet::Echo(echo) => {
            let reply = packet::echo_reply(&echo, echo.sequence, &bytes[echo.payload..]);
            assert_eq!(reply[24..28], bytes[echo.payload - 4..echo.payload]);
            assert_eq!(reply[28..], bytes[echo.payload..]);
        }
        Packet::Other => {}
    }
    // A header has 60 bytes at most, and 8 of what follows are sent back, behind two headers of ours.
    let error = packet::unreachable(Ipv4Addr::LOCALHOST, *somebody.ip(), Unreachable::Host, bytes);
    assert!(error.len() <= 20 + 8 + 68);

    let owner = |name: &str| names::Names {
        owner: 1,
        address: *somebody.ip(),
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
