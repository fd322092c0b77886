//! For fuzzing: what containers send in the user-mode tier.

use super::frame::{self, Carried, VNET};
use super::pieces::Pieces;
use super::segment;
use super::talk::Talk;
use std::time::Instant;

/// Reads frames of a container, and lets two ends talk as `orders` say, disturbed by its segments.
pub fn hear_for_fuzzing(frames: &[u8], orders: &[u8]) {
    let mut pieces = Pieces::default();
    let mut segments = Vec::new();
    let mut left = frames;
    // Each frame has its length, of two bytes, before it.
    while let Some((length, rest)) = left.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        left = rest;
        let Some(read) = frame::read(bytes) else { continue };
        let Carried::Packet(packet) = read.carried else { continue };
        assert!(packet.bytes.len() <= bytes.len() && packet.payload.len() <= packet.bytes.len());
        let _ = frame::solicited(&packet);
        let payload = match packet.piece {
            None => packet.payload.to_vec(),
            Some(piece) => match pieces.take(&packet, piece, Instant::now()) {
                Some(whole) => whole,
                None => continue,
            },
        };
        assert!(payload.len() <= 64 << 10);
        let ips = [packet.source, packet.destination];
        // What is cut into pieces for a small network is the same when it is put together again.
        let mut again = Pieces::default();
        let mut whole = None;
        for built in frame::packet([[0; 6]; 2], ips, packet.protocol, &payload, 64, 1280, 7) {
            assert!(built.len() - frame::PACKET <= 1280);
            let Some(frame::Frame { carried: Carried::Packet(part), .. }) = frame::read(&built[VNET..])
            else {
                panic!("what we have built cannot be read");
            };
            whole = match part.piece {
                Some(piece) => again.take(&part, piece, Instant::now()),
                None => Some(part.payload.to_vec()),
            };
        }
        // Nothing carries that, and what says that it is another header is read as one.
        let is_header = matches!(packet.protocol, 0 | 43 | 44 | 60) && packet.source.is_ipv6();
        if !is_header && payload.len() < 65_000 && !payload.is_empty() {
            assert_eq!(whole.as_deref(), Some(&payload[..]));
        }
        segments.push(payload);
    }
    let first = orders.first().map_or(0, |byte| u32::from(*byte) << 24);
    let mut talk = Talk::new(first);
    talk.follow(orders);
    match segments.is_empty() {
        true => talk.settle(),
        false => {
            for (number, bytes) in segments.iter().enumerate() {
                if let Some(segment) = segment::read(bytes) {
                    talk.disturb(number & 1, &segment);
                }
            }
        }
    }
}
