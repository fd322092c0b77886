//! Two ends that talk to each other by a cable that loses, doubles and swaps segments as it is told: for tests and fuzzing.
//! Whatever happens, each hears what the other has said, in order; and in the end all of it.

use super::segment::{Flags, Segment};
use super::tcb::{Heard, Out, Tcb, WINDOW};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A segment on its way.
#[derive(Clone, Debug)]
struct OnTheWay {
    sequence: u32,
    acknowledged: u32,
    flags: Flags,
    window: u16,
    mss: u16,
    scale: Option<u8>,
    payload: Vec<u8>,
}

impl OnTheWay {
    fn of(out: &Out<'_>) -> Self {
        Self {
            sequence: out.sequence,
            acknowledged: out.acknowledged,
            flags: out.flags,
            window: out.window,
            mss: out.offer.map_or(536, |offer| offer.mss),
            scale: out.offer.and_then(|offer| offer.scale),
            payload: out.payload.to_vec(),
        }
    }

    fn read(&self) -> Segment<'_> {
        Segment {
            source: 1,
            destination: 2,
            sequence: self.sequence,
            acknowledged: self.acknowledged,
            flags: self.flags,
            window: self.window,
            mss: self.mss,
            scale: self.scale,
            payload: &self.payload,
        }
    }
}

/// The byte that an end says at this place.
fn said(end: usize, at: usize) -> u8 {
    u8::try_from((at * 7 + at / 251 + end * 13) % 256).unwrap_or(0)
}

struct End {
    tcb: Option<Tcb>,
    sent: usize,
    heard: usize,
    /// How many bytes it takes at once.
    appetite: usize,
    has_finished: bool,
}

/// Two ends: the first asks, the second answers.
pub struct Talk {
    ends: [End; 2],
    /// Towards each.
    cables: [VecDeque<OnTheWay>; 2],
    now: Instant,
    is_broken: bool,
    first: u32,
}

impl Talk {
    /// The first sequence numbers follow from `first`.
    pub fn new(first: u32) -> Self {
        let end = |tcb| End { tcb, sent: 0, heard: 0, appetite: usize::MAX, has_finished: false };
        let mut talk = Self {
            ends: [end(Some(Tcb::ask(1460, first))), end(None)],
            cables: Default::default(),
            now: Instant::now(),
            is_broken: false,
            first,
        };
        talk.flush(0);
        talk
    }

    /// Sends what an end has to send.
    fn flush(&mut self, end: usize) {
        let Some(tcb) = &mut self.ends[end].tcb else { return };
        let mut count = 0;
        while let Some(out) = tcb.next(self.now) {
            self.cables[1 - end].push_back(OnTheWay::of(&out));
            count += 1;
            assert!(count < 5000, "it never stops to send");
        }
        assert!(tcb.rest().len() <= WINDOW as usize);
        assert!(tcb.room() <= 512 << 10);
    }

    fn deliver(&mut self, to: usize, segment: &OnTheWay) {
        let end = &mut self.ends[to];
        let segment = segment.read();
        let Some(tcb) = &mut end.tcb else {
            if segment.flags == Flags::SYN {
                end.tcb = Some(Tcb::answer(&segment, 1460, self.first.wrapping_mul(31)));
            }
            return self.flush(to);
        };
        let (heard, appetite) = (&mut end.heard, end.appetite);
        let answer = tcb.hear(&segment, |bytes| {
            let count = bytes.len().min(appetite);
            for byte in &bytes[..count] {
                assert_eq!(*byte, said(1 - to, *heard), "byte {heard}");
                *heard += 1;
            }
            count
        });
        self.is_broken |= answer == Heard::Reset;
        self.flush(to);
    }

    /// Lets an end take what it has left.
    fn take(&mut self, end: usize) {
        let End { tcb: Some(tcb), heard, appetite, .. } = &mut self.ends[end] else { return };
        let count = tcb.rest().len().min(*appetite);
        for byte in &tcb.rest()[..count] {
            assert_eq!(*byte, said(1 - end, *heard), "byte {heard}");
            *heard += 1;
        }
        tcb.took(count);
        self.flush(end);
    }

    fn say(&mut self, end: usize, count: usize) {
        let End { tcb: Some(tcb), sent, has_finished: false, .. } = &mut self.ends[end] else { return };
        let count = count.min(tcb.room());
        if count > 0 {
            tcb.push((*sent..*sent + count).map(|at| said(end, at)).collect());
            *sent += count;
        }
        self.flush(end);
    }

    fn finish(&mut self, end: usize) {
        let end_of = &mut self.ends[end];
        if let Some(tcb) = &mut end_of.tcb {
            end_of.has_finished = true;
            tcb.finish();
        }
        self.flush(end);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for end in 0..2 {
            if let Some(tcb) = &mut self.ends[end].tcb
                && !tcb.is_late(self.now)
            {
                self.is_broken = true;
            }
            self.flush(end);
        }
    }

    /// Does what these bytes say.
    pub fn follow(&mut self, orders: &[u8]) {
        for order in orders {
            let (end, amount) = (usize::from(order & 1), usize::from(order >> 4));
            match (order >> 1) & 7 {
                0 | 1 => {
                    for _ in 0..=amount {
                        if let Some(segment) = self.cables[end].pop_front() {
                            self.deliver(end, &segment);
                        }
                    }
                }
                2 => drop(self.cables[end].pop_front()),
                3 => self.say(end, 1 << amount),
                4 => match self.cables[end].front().cloned() {
                    Some(segment) if amount < 8 => self.deliver(end, &segment),
                    Some(_) => self.cables[end].rotate_left(1),
                    None => {}
                },
                5 => self.wait(Duration::from_millis(60 << amount.min(6))),
                6 => {
                    self.ends[end].appetite = if amount == 15 { usize::MAX } else { amount * amount * 500 };
                    self.take(end);
                }
                _ if amount == 15 => self.finish(end),
                _ => self.take(end),
            }
            if self.is_broken {
                return;
            }
        }
    }

    /// Lets everything arrive that is on its way, and checks that all that was said was heard. Not of a talk that has waited
    /// for too long.
    pub fn settle(&mut self) {
        for end in 0..2 {
            self.ends[end].appetite = usize::MAX;
        }
        for _ in 0..400 {
            for end in 0..2 {
                while let Some(segment) = self.cables[end].pop_front() {
                    self.deliver(end, &segment);
                    if self.is_broken {
                        return;
                    }
                }
                self.take(end);
            }
            let is_quiet = self.cables.iter().all(VecDeque::is_empty);
            let is_heard = (0..2).all(|end| self.ends[end].sent == self.ends[1 - end].heard);
            let is_ended = self.ends.iter().all(|end| end.has_finished);
            let is_over = self.ends.iter().all(|end| end.tcb.as_ref().is_some_and(Tcb::is_over));
            if is_quiet && is_heard && (!is_ended || is_over) {
                return;
            }
            self.wait(Duration::from_secs(60));
            if self.is_broken {
                return;
            }
        }
        let heard: Vec<_> =
            self.ends.iter().map(|end| (end.sent, end.heard, end.has_finished, &end.tcb)).collect();
        panic!("not all was heard: {heard:?}");
    }

    /// Gives an end a segment of somebody else's.
    #[cfg(feature = "fuzzing")]
    pub fn disturb(&mut self, end: usize, segment: &Segment<'_>) {
        let Some(tcb) = &mut self.ends[end].tcb else { return };
        let _ = tcb.hear(segment, <[u8]>::len);
        let mut count = 0;
        while tcb.next(self.now).is_some() {
            count += 1;
            assert!(count < 5000, "it never stops to send");
        }
        assert!(tcb.rest().len() <= WINDOW as usize && tcb.room() <= 512 << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look like chance and are the same every time (xorshift).
    fn orders(seed: u64, count: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(count)
        .collect()
    }

    #[test]
    fn what_is_said_is_heard_whatever_the_cable_does() {
        for seed in 0..400 {
            let mut talk = Talk::new(u32::MAX - 50_000);
            talk.follow(&orders(seed, 300));
            talk.settle();
        }
    }

    #[test]
    fn both_ends_know_when_all_is_said() {
        let mut talk = Talk::new(7);
        // The connection, a hello each way, and an end each way.
        talk.follow(&[0x01, 0x00, 0x01, 0x36, 0x37, 0x11, 0x10, 0xfe, 0x01, 0xff, 0x00]);
        talk.settle();
        assert!(!talk.is_broken && talk.ends.iter().all(|end| end.tcb.as_ref().unwrap().is_over()));
        assert_eq!(talk.ends.each_ref().map(|end| (end.sent, end.heard)), [(8, 8), (8, 8)]);
    }

    #[test]
    fn a_receiver_that_takes_nothing_holds_back_who_sends() {
        let mut talk = Talk::new(7);
        talk.follow(&[0x01, 0x00, 0x01]);
        // The second takes nothing, whatever the first says.
        talk.follow(&[0x0d]);
        for _ in 0..100 {
            talk.follow(&[0xf6, 0xf1, 0xf0]);
        }
        let first = talk.ends[0].tcb.as_ref().unwrap();
        assert_eq!((first.room(), talk.ends[1].heard), (0, 0));
        assert!(talk.ends[0].sent <= WINDOW as usize, "{}", talk.ends[0].sent);
        talk.settle();
        assert_eq!(talk.ends[1].heard, talk.ends[0].sent);
    }

    #[test]
    fn nobody_breaks_a_connection_whose_numbers_he_does_not_know() {
        let mut talk = Talk::new(1000);
        talk.follow(&[0x01, 0x00, 0x01]);
        let Some((next, expected)) = talk.ends[0].tcb.as_ref().map(Tcb::numbers) else { panic!() };
        let segment = |sequence, flags| Segment {
            source: 1,
            destination: 2,
            sequence,
            acknowledged: next,
            flags,
            window: 9,
            mss: 536,
            scale: None,
            payload: b"",
        };
        let tcb = talk.ends[0].tcb.as_mut().unwrap();
        for off in [1, 100, u32::MAX, 1 << 31] {
            let guess = segment(expected.wrapping_add(off), Flags::RST);
            assert_eq!(tcb.hear(&guess, |_| 0), Heard::Something);
        }
        assert_eq!(tcb.hear(&segment(expected, Flags::SYN), |_| 0), Heard::Something);
        assert_eq!(tcb.next(talk.now).unwrap().flags, Flags::ACK);
        assert_eq!(tcb.hear(&segment(expected, Flags::RST), |_| 0), Heard::Reset);
    }

    #[test]
    fn who_never_answers_is_given_up() {
        let mut tcb = Tcb::ask(1460, 1);
        let mut now = Instant::now();
        let mut asked = 0;
        loop {
            while tcb.next(now).is_some() {
                asked += 1;
            }
            now = tcb.deadline().unwrap();
            if !tcb.is_late(now) {
                break;
            }
        }
        assert_eq!(asked, 7);
    }
}
