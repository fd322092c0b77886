//! Our end of a container's TCP connection (RFC 9293), as a machine without any I/O: segments and bytes go in, segments
//! and bytes come out, and time is told.
//!
//! Between the container's kernel and us is a cable that loses nothing but what a queue has no room for, and that nobody else
//! uses. So there is no congestion window, segments out of order are not kept, and what was lost is sent again from there on. The
//! receiver's window is all that holds us back.
//!
//! Nothing is kept for long: what the other side of the stream does not take at once is kept up to the window that was
//! offered ([`WINDOW`]), and only as much is taken from it as the container has room for ([`Tcb::room`]); that is kept until it
//! is acknowledged.

use super::segment::{Flags, Offer, Segment};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that a container may send before they are taken.
pub const WINDOW: u32 = 256 << 10;
/// By how much our windows are shifted.
const SCALE: u8 = 7;
/// Bytes on their way to a container at most.
const MOST: u32 = 512 << 10;
/// Without an acknowledgement for so long, what was sent is sent again; each time doubled.
const AGAIN: Duration = Duration::from_millis(200);
/// So often.
const TRIES: u32 = 9;
/// And so often to connect: the container's kernel answers at once, if it is there.
const TRIES_TO_CONNECT: u32 = 6;
/// After so many acknowledgements of the same byte the one behind it is lost (RFC 5681, 3.2).
const DUPLICATES: u32 = 3;

/// Whether one sequence number is before another (RFC 9293, 3.4).
fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

/// Bytes that are sent until they are acknowledged.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// How many of them are acknowledged.
    start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// We have asked the container.
    Asked,
    /// The container has asked, and we have answered.
    Answered,
    Open,
}

/// What a segment has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Bytes, an acknowledgement, or nothing.
    Something,
    /// The connection that we asked for is there.
    Connected,
    /// It is broken, or refused.
    Reset,
    /// It is about another connection, which is to be reset; then this one is asked for again.
    Stale,
}

/// Our end of a connection.
#[derive(Debug)]
pub struct Tcb {
    phase: Phase,
    /// The container's side takes segments of so many bytes.
    mss: u16,
    /// What we say of ours.
    own_mss: u16,
    /// Whether windows are shifted, and the container's by how much.
    scale: Option<u8>,
    /// The oldest byte that is not acknowledged, and the next one to be sent for the first time.
    unacknowledged: u32,
    next: u32,
    window: u32,
    chunks: VecDeque<Chunk>,
    /// The first chunk that is to be sent (again).
    cursor: usize,
    duplicates: u32,
    is_syn_due: bool,
    is_ending: bool,
    is_end_sent: bool,
    is_end_acknowledged: bool,
    is_probe_due: bool,
    deadline: Option<Instant>,
    tries: u32,
    /// The next byte that is expected.
    expected: u32,
    /// Up to where the container may send.
    edge: u32,
    rest: Vec<u8>,
    has_ended: bool,
    is_ack_due: bool,
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// The number of its first byte.
    pub sequence: u32,
    /// What is acknowledged.
    pub acknowledged: u32,
    /// Flags.
    pub flags: Flags,
    /// Window, shifted as agreed.
    pub window: u16,
    /// Of a SYN.
    pub offer: Option<Offer>,
    /// Bytes; they may be more than fit into one segment ([`Tcb::mss`]).
    pub payload: &'a [u8],
}

impl Tcb {
    fn new(phase: Phase, own_mss: u16, first: u32) -> Self {
        Self {
            phase,
            mss: 536,
            own_mss,
            scale: None,
            unacknowledged: first,
            next: first,
            window: 0,
            chunks: VecDeque::new(),
            cursor: 0,
            duplicates: 0,
            is_syn_due: true,
            is_ending: false,
            is_end_sent: false,
            is_end_acknowledged: false,
            is_probe_due: false,
            deadline: None,
            tries: 0,
            expected: 0,
            edge: 0,
            rest: Vec::new(),
            has_ended: false,
            is_ack_due: false,
        }
    }

    /// Answers a container's SYN. Our bytes begin with the number after `first`.
    pub fn answer(syn: &Segment<'_>, own_mss: u16, first: u32) -> Self {
        let mut tcb = Self::new(Phase::Answered, own_mss, first);
        tcb.agree(syn);
        tcb
    }

    /// Asks a container for a connection.
    pub fn ask(own_mss: u16, first: u32) -> Self {
        Self::new(Phase::Asked, own_mss, first)
    }

    /// Asks once more.
    pub fn ask_again(&mut self) {
        self.is_syn_due = true;
    }

    /// Takes what the container's SYN says.
    fn agree(&mut self, syn: &Segment<'_>) {
        self.mss = syn.mss.min(self.own_mss);
        self.scale = syn.scale;
        self.window = syn.window.into();
        self.expected = syn.sequence.wrapping_add(1);
        // As much as can be said in a SYN, whose window is not shifted.
        self.edge = self.expected.wrapping_add(WINDOW.min(u16::MAX.into()));
    }

    /// Bytes of a segment to the container.
    pub fn mss(&self) -> u16 {
        self.mss
    }

    /// How many more bytes the container has room for.
    pub fn room(&self) -> usize {
        if self.phase != Phase::Open || self.is_ending {
            return 0;
        }
        let allowed = self.window.min(MOST);
        let used = self.queued();
        usize::try_from(allowed.saturating_sub(used)).unwrap_or(0)
    }

    /// Bytes that are not acknowledged, sent or not.
    fn queued(&self) -> u32 {
        let bytes: usize = self.chunks.iter().map(|chunk| chunk.bytes.len() - chunk.start).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Sends bytes, not more than there is room for.
    pub fn push(&mut self, bytes: Vec<u8>) {
        self.chunks.push_back(Chunk { bytes, start: 0 });
    }

    /// Nothing comes after what was pushed.
    pub fn finish(&mut self) {
        self.is_ending = true;
    }

    /// Whether both sides have said all, and know it of each other.
    pub fn is_over(&self) -> bool {
        self.has_ended && self.is_end_acknowledged && self.rest.is_empty()
    }

    /// Whether the container knows that we have said all.
    pub fn is_end_known(&self) -> bool {
        self.is_end_acknowledged
    }

    /// Whether the container has said all and that was taken.
    pub fn has_said_all(&self) -> bool {
        self.has_ended && self.rest.is_empty()
    }

    /// Whether the container has not said yet that it has nothing more to say.
    pub fn is_open(&self) -> bool {
        !self.has_ended
    }

    /// Whether a container's SYN is what this one began with.
    pub fn began_with(&self, syn: &Segment<'_>) -> bool {
        self.phase == Phase::Answered && syn.sequence.wrapping_add(1) == self.expected
    }

    /// What the container has sent and nobody has taken.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// So much of that was taken.
    pub fn took(&mut self, count: usize) {
        self.rest.drain(..count.min(self.rest.len()));
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        // Not for each little step (RFC 9293, 3.8.6.2.2).
        let left = self.edge.wrapping_sub(self.expected);
        if self.free().saturating_sub(left) >= WINDOW / 4 {
            self.is_ack_due = true;
        }
    }

    fn free(&self) -> u32 {
        WINDOW.saturating_sub(u32::try_from(self.rest.len()).unwrap_or(u32::MAX))
    }

    /// Hears a segment; bytes that are new go to `take`, which says how many it took.
    pub fn hear(&mut self, segment: &Segment<'_>, take: impl FnOnce(&[u8]) -> usize) -> Heard {
        let Segment { flags, acknowledged, .. } = *segment;
        if self.phase == Phase::Asked {
            return self.hear_answer(segment);
        }
        if flags.has(Flags::RST) {
            // RFC 5961, 3: another number is somebody's guess, or old.
            let is_sure = segment.sequence == self.expected;
            self.is_ack_due |= !is_sure;
            return if is_sure { Heard::Reset } else { Heard::Something };
        }
        if flags.has(Flags::SYN) {
            match self.began_with(segment) {
                true => self.is_syn_due = true,
                false => self.is_ack_due = true,
            }
            return Heard::Something;
        }
        if !flags.has(Flags::ACK) {
            return Heard::Something;
        }
        if is_before(self.next, acknowledged) {
            self.is_ack_due = true;
            return Heard::Something;
        }
        if self.phase == Phase::Answered {
            if acknowledged != self.next {
                return Heard::Something;
            }
            self.open();
        }
        self.hear_acknowledgement(segment);
        self.hear_bytes(segment, take);
        Heard::Something
    }

    fn open(&mut self) {
        self.phase = Phase::Open;
        self.unacknowledged = self.next;
        self.is_syn_due = false;
        (self.deadline, self.tries) = (None, 0);
    }

    fn hear_answer(&mut self, segment: &Segment<'_>) -> Heard {
        let Segment { flags, acknowledged, .. } = *segment;
        if !flags.has(Flags::ACK) || self.is_syn_due {
            return Heard::Something;
        }
        if acknowledged != self.next {
            // It speaks of a connection that was there before (RFC 9293, 3.10.7.3).
            let is_reset = flags.has(Flags::RST);
            return if is_reset { Heard::Something } else { Heard::Stale };
        }
        if flags.has(Flags::RST) {
            return Heard::Reset;
        }
        if !flags.has(Flags::SYN) {
            return Heard::Something;
        }
        self.agree(segment);
        self.open();
        self.is_ack_due = true;
        Heard::Connected
    }

    fn hear_acknowledgement(&mut self, segment: &Segment<'_>) {
        let window = u32::from(segment.window) << self.scale.unwrap_or(0);
        let count = segment.acknowledged.wrapping_sub(self.unacknowledged);
        if is_before(segment.acknowledged, self.unacknowledged) {
            return;
        }
        if count == 0 {
            let is_duplicate =
                self.unacknowledged != self.next && segment.payload.is_empty() && window == self.window;
            self.duplicates = if is_duplicate { self.duplicates + 1 } else { 0 };
            if self.duplicates == DUPLICATES {
                self.send_again();
            }
        } else {
            self.acknowledge(count);
            self.unacknowledged = segment.acknowledged;
            (self.duplicates, self.tries, self.deadline) = (0, 0, None);
        }
        self.window = window;
    }

    /// Forgets this many bytes.
    fn acknowledge(&mut self, count: u32) {
        let mut count = usize::try_from(count).unwrap_or(usize::MAX);
        while let Some(first) = self.chunks.front_mut() {
            let left = first.bytes.len() - first.start;
            if count < left {
                first.start += count;
                return;
            }
            count -= left;
            self.chunks.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        // All that is left of what we sent is our end.
        self.is_end_acknowledged |= count > 0 && self.is_ending;
    }

    /// Begins again with what is not acknowledged.
    fn send_again(&mut self) {
        self.cursor = 0;
        self.is_end_sent = self.is_end_acknowledged;
        self.deadline = None;
    }

    fn hear_bytes(&mut self, segment: &Segment<'_>, take: impl FnOnce(&[u8]) -> usize) {
        let mut payload = segment.payload;
        let is_end = segment.flags.has(Flags::FIN);
        if payload.is_empty() && !is_end {
            // One that asks whether we are there has an old number.
            self.is_ack_due |= is_before(segment.sequence, self.expected);
            return;
        }
        self.is_ack_due = true;
        if is_before(self.expected, segment.sequence) || self.has_ended {
            return;
        }
        let old = usize::try_from(self.expected.wrapping_sub(segment.sequence)).unwrap_or(usize::MAX);
        let Some(new) = payload.get(old..) else { return };
        payload = new;
        let allowed = usize::try_from(self.edge.wrapping_sub(self.expected)).unwrap_or(0);
        let is_whole = payload.len() <= allowed;
        payload = &payload[..payload.len().min(allowed)];
        let taken = if self.rest.is_empty() && !payload.is_empty() { take(payload) } else { 0 };
        self.rest.extend(&payload[taken.min(payload.len())..]);
        self.expected = self.expected.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
        if is_end && is_whole {
            self.has_ended = true;
            self.expected = self.expected.wrapping_add(1);
        }
    }

    /// The next segment to send, until there is none.
    pub fn next(&mut self, now: Instant) -> Option<Out<'_>> {
        if self.unacknowledged != self.next {
            // For what is on its way, from the last acknowledgement on.
            self.wait_from(now);
        }
        if self.phase != Phase::Open {
            return self.next_syn(now);
        }
        if let Some(chunk) = self.chunks.get(self.cursor) {
            let before: usize =
                self.chunks.iter().take(self.cursor).map(|chunk| chunk.bytes.len() - chunk.start).sum();
            let length = chunk.bytes.len() - chunk.start;
            let sequence = self.unacknowledged.wrapping_add(u32::try_from(before).unwrap_or(0));
            let end = sequence.wrapping_add(u32::try_from(length).unwrap_or(0));
            if is_before(self.next, end) {
                self.next = end;
            }
            let at = self.cursor;
            self.cursor += 1;
            let (acknowledged, window) = self.acknowledgement();
            self.wait_from(now);
            let chunk = &self.chunks[at];
            return Some(Out {
                sequence,
                acknowledged,
                flags: Flags::ACK.with(Flags::PSH),
                window,
                offer: None,
                payload: &chunk.bytes[chunk.start..],
            });
        }
        if self.is_ending && !self.is_end_sent {
            self.is_end_sent = true;
            let sequence = self.unacknowledged.wrapping_add(self.queued());
            self.next = sequence.wrapping_add(1);
            self.wait_from(now);
            return Some(self.plain(sequence, Flags::ACK.with(Flags::FIN)));
        }
        if std::mem::take(&mut self.is_probe_due) {
            return Some(self.plain(self.unacknowledged.wrapping_sub(1), Flags::ACK));
        }
        self.is_ack_due.then(|| self.plain(self.next, Flags::ACK))
    }

    fn next_syn(&mut self, now: Instant) -> Option<Out<'_>> {
        if !std::mem::take(&mut self.is_syn_due) {
            return None;
        }
        self.next = self.unacknowledged.wrapping_add(1);
        self.wait_from(now);
        let is_answer = self.phase == Phase::Answered;
        let scale = (!is_answer || self.scale.is_some()).then_some(SCALE);
        self.is_ack_due = false;
        Some(Out {
            sequence: self.unacknowledged,
            acknowledged: self.expected,
            flags: if is_answer { Flags::SYN.with(Flags::ACK) } else { Flags::SYN },
            window: u16::MAX,
            offer: Some(Offer { mss: self.own_mss, scale }),
            payload: &[],
        })
    }

    fn plain(&mut self, sequence: u32, flags: Flags) -> Out<'static> {
        let (acknowledged, window) = self.acknowledgement();
        Out { sequence, acknowledged, flags, window, offer: None, payload: &[] }
    }

    /// What any segment acknowledges, and the window. An edge that was given is not taken back.
    fn acknowledgement(&mut self) -> (u32, u16) {
        self.is_ack_due = false;
        let shift = if self.scale.is_some() { SCALE } else { 0 };
        let free = self.free().min(u32::from(u16::MAX) << shift);
        let edge = self.expected.wrapping_add(free);
        if is_before(self.edge, edge) {
            self.edge = edge;
        }
        let left = self.edge.wrapping_sub(self.expected) >> shift;
        (self.expected, u16::try_from(left).unwrap_or(u16::MAX))
    }

    /// The numbers of a segment that would come next, and of what it acknowledges.
    pub fn numbers(&self) -> (u32, u32) {
        (self.next, self.expected)
    }

    /// When to look at the time again, if nothing comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn wait_from(&mut self, now: Instant) {
        if self.deadline.is_none() {
            self.deadline = Some(now + AGAIN * 2u32.pow(self.tries.min(8)));
        }
    }

    /// Waits for room: a container that opens its window might not be heard.
    pub fn wait_for_room(&mut self, now: Instant) {
        if self.phase == Phase::Open && self.chunks.is_empty() {
            self.wait_from(now);
        }
    }

    /// It is late. Whether there is hope left.
    pub fn is_late(&mut self, now: Instant) -> bool {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return true;
        }
        self.deadline = None;
        let is_waiting = self.unacknowledged != self.next;
        if !is_waiting {
            // For room: asked for it, without an end, as long as somebody is there.
            self.is_probe_due = self.phase == Phase::Open && self.window == 0;
            self.tries = (self.tries + 1).min(5);
            return true;
        }
        self.tries += 1;
        if self.phase == Phase::Open {
            self.send_again();
        } else {
            self.is_syn_due = true;
        }
        let most = if self.phase == Phase::Open { TRIES } else { TRIES_TO_CONNECT };
        self.tries <= most
    }
}
