//! Waiting awake. Going to sleep and being woken takes longer than a short message takes to be answered, and a conversation
//! through us does so four times for each question. So while answers come at once the process looks again for a moment before
//! it sleeps, as a kernel does for its virtual machines (linux/Documentation/virt/kvm/halt-polling.rst): for no longer than a
//! pause has taken of late, and never again once that was in vain.

use std::time::{Duration, Instant};

/// Longer pauses are slept through.
const LONGEST: Duration = Duration::from_micros(100);
/// So many short ones in a row are a conversation.
const ENOUGH: u32 = 8;

/// Whether to wait awake.
#[derive(Debug, Default)]
pub(super) struct Awake {
    short: u32,
}

impl Awake {
    /// Until when to look again and again now, if at all.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        (self.short >= ENOUGH).then(|| now + LONGEST)
    }

    /// Something has come after so long.
    pub(super) fn came_after(&mut self, pause: Duration) {
        self.short = if pause < LONGEST { (self.short + 1).min(ENOUGH) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_answered_at_once_again_and_again_stays_awake() {
        let (mut awake, now) = (Awake::default(), Instant::now());
        let short = Duration::from_micros(20);
        for _ in 0..ENOUGH {
            assert_eq!(awake.until(now), None);
            awake.came_after(short);
        }
        assert_eq!(awake.until(now), Some(now + LONGEST));
        awake.came_after(Duration::from_micros(110));
        assert_eq!(awake.until(now), None);
        // Questions after a pause, each with an answer at once, are none.
        for _ in 0..100 {
            awake.came_after(short);
            awake.came_after(Duration::from_millis(1));
            assert_eq!(awake.until(now), None);
        }
    }
}
