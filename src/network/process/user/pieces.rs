//! Packets that come in pieces (RFC 791, 3.2; RFC 8200, 4.5): put together again, as many as may be on their way at once. Pieces
//! that overlap are somebody's trick, and with them the packet is dropped (RFC 5722).

use super::frame::Packet;
use crate::network::process::ip::Piece;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Packets that are put together at once; the oldest gives way.
const AT_ONCE: usize = 32;
/// Bytes of a packet.
const LARGEST: usize = 64 << 10;
/// As long as Linux waits (`net.ipv4.ipfrag_time`).
const PATIENCE: Duration = Duration::from_secs(30);

type Key = (IpAddr, IpAddr, u32, u8);

#[derive(Debug)]
struct Parts {
    key: Key,
    parts: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
    since: Instant,
}

/// What has come so far.
#[derive(Debug, Default)]
pub struct Pieces(VecDeque<Parts>);

impl Pieces {
    /// Takes a piece; the payload of the packet, if it was the last one.
    pub fn take(&mut self, packet: &Packet<'_>, piece: Piece, now: Instant) -> Option<Vec<u8>> {
        self.0.retain(|parts| now.duration_since(parts.since) < PATIENCE);
        let key = (packet.source, packet.destination, piece.id, packet.protocol);
        let end = piece.offset + packet.payload.len();
        if end > LARGEST || packet.payload.is_empty() || piece.more && !packet.payload.len().is_multiple_of(8)
        {
            return None;
        }
        let at = self.0.iter().position(|parts| parts.key == key).unwrap_or_else(|| {
            if self.0.len() == AT_ONCE {
                self.0.pop_front();
            }
            self.0.push_back(Parts { key, parts: Vec::new(), length: None, since: now });
            self.0.len() - 1
        });
        let parts = &mut self.0[at];
        if !parts.add(piece, packet.payload, end) {
            self.0.remove(at);
            return None;
        }
        if !parts.are_all() {
            return None;
        }
        let parts = self.0.remove(at)?;
        Some(parts.parts.into_iter().flat_map(|(_, bytes)| bytes).collect())
    }
}

impl Parts {
    /// Whether the piece fits to the others.
    fn add(&mut self, piece: Piece, bytes: &[u8], end: usize) -> bool {
        let at = self.parts.partition_point(|(offset, _)| *offset < piece.offset);
        let before = at.checked_sub(1).and_then(|at| self.parts.get(at));
        let overlaps = before.is_some_and(|(offset, bytes)| offset + bytes.len() > piece.offset)
            || self.parts.get(at).is_some_and(|(offset, _)| *offset < end);
        if overlaps {
            return false;
        }
        if !piece.more {
            if self.length.is_some() {
                return false;
            }
            self.length = Some(end);
        }
        self.parts.insert(at, (piece.offset, bytes.to_vec()));
        self.length
            .is_none_or(|length| self.parts.last().is_none_or(|(offset, b)| offset + b.len() <= length))
    }

    fn are_all(&self) -> bool {
        let there: usize = self.parts.iter().map(|(_, bytes)| bytes.len()).sum();
        self.length == Some(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Packet<'_> {
        let address = |last| IpAddr::from([10, 0, 0, last]);
        Packet {
            source: address(2),
            destination: address(1),
            ttl: 64,
            protocol: 17,
            piece: None,
            payload,
            bytes: payload,
        }
    }

    fn piece(id: u32, offset: usize, more: bool) -> Piece {
        Piece { id, offset, more }
    }

    #[test]
    fn pieces_are_put_together_in_any_order() {
        let whole: Vec<u8> = (0..40).collect();
        let parts = [(0, 16, true), (16, 32, true), (32, 40, false)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let (mut pieces, now) = (Pieces::default(), Instant::now());
            let mut got = Vec::new();
            for number in order {
                let (start, end, more) = parts[number];
                got.push(pieces.take(&packet(&whole[start..end]), piece(1, start, more), now));
                // Another packet's, meanwhile.
                assert_eq!(pieces.take(&packet(&[7; 8]), piece(2, start, true), now), None);
            }
            assert_eq!(got, [None, None, Some(whole.clone())]);
            assert_eq!(pieces.0.len(), 1);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_dropped_and_what_is_old_forgotten() {
        let (mut pieces, now) = (Pieces::default(), Instant::now());
        let mut take = |id, offset, length: usize, more| {
            let bytes = vec![1; length];
            pieces.take(&packet(&bytes), piece(id, offset, more), now)
        };
        // One over another; two ends; something behind the end; no multiple of 8; too long.
        assert_eq!([take(1, 0, 16, true), take(1, 8, 8, false)], [None, None]);
        assert_eq!([take(2, 8, 8, false), take(2, 24, 8, false)], [None, None]);
        assert_eq!([take(3, 16, 8, true), take(3, 0, 8, false)], [None, None]);
        assert_eq!([take(4, 0, 9, true), take(4, 65_528, 16, false)], [None, None]);
        assert_eq!(pieces.0.len(), 0);
        for id in 0..100 {
            assert_eq!(pieces.take(&packet(&[1; 8]), piece(id, 0, true), now), None);
        }
        assert_eq!(pieces.0.len(), AT_ONCE);
        assert_eq!(pieces.take(&packet(&[1; 8]), piece(0, 0, true), now + PATIENCE), None);
        assert_eq!(pieces.0.len(), 1);
    }
}
