//! The live view: what is over is a line each and scrolls away, below it what is at work, drawn anew many times a second.
//!
//! ```text
//!  => CACHED [build 2/4] COPY . .                      0.0s
//! [+] Building 12.3s (3/9)
//!  => [build 3/4] RUN make                            11.9s
//!  => => cc -c main.c
//! ```
//!
//! What is done before and after the Dockerfile's steps has a line only if it took a while.
//!
//! The terminal's modes stay as they are, and the cursor stays visible: a build that is killed leaves nothing to put back.

use super::{Step, View};
use crate::build::progress::{Outcome, StepKind};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};
use unicode_width::UnicodeWidthChar;

const PERIOD: Duration = Duration::from_millis(100);
/// What took less, and would be shown with 0.0s, is none of the Dockerfile's steps and went well, is not shown.
const BRIEF: Duration = Duration::from_millis(50);
/// So many lines of a step's output are shown.
const TAIL: usize = 6;

pub struct Live {
    began: Instant,
    drawn_at: Option<Instant>,
    /// Lines that are to be drawn over.
    drawn: usize,
    planned: usize,
    over: usize,
    /// There has been anything to see.
    was_seen: bool,
    /// Rows and columns, of a terminal that does not change.
    size: Option<(usize, usize)>,
}

impl Live {
    pub fn new() -> Live {
        let began = Instant::now();
        Live { began, drawn_at: None, drawn: 0, planned: 0, over: 0, was_seen: false, size: None }
    }

    fn size(&self) -> (usize, usize) {
        let asked = || {
            let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
            let is_known = size.ws_row > 0 && size.ws_col > 0;
            is_known.then(|| (usize::from(size.ws_row), usize::from(size.ws_col)))
        };
        self.size.or_else(asked).unwrap_or((24, 80))
    }

    /// Takes away what is to be drawn over.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }

    fn head(&self, end: &str) -> String {
        let planned = self.planned.max(self.over);
        format!("[+] Building {:.1}s ({}/{planned}){end}", self.began.elapsed().as_secs_f64(), self.over)
    }
}

/// As much of a text as has room.
fn clipped(text: &str, width: usize) -> (String, usize) {
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let c = if c == '\t' { ' ' } else { c };
        let more = c.width().unwrap_or(0);
        if used + more > width {
            break;
        }
        out.push(c);
        used += more;
    }
    (out, used)
}

/// A line with a time at its end.
fn timed(text: &str, time: Duration, columns: usize) -> String {
    let time = format!("{:.1}s", time.as_secs_f64());
    let room = columns.saturating_sub(time.len() + 2);
    let (text, used) = clipped(text, room);
    format!("{text}{:gap$}{time}\n", "", gap = room - used + 1)
}

impl View for Live {
    fn begun(&mut self, _step: &Step) -> String {
        // Seen with the next tick, which may be the last for a while.
        self.drawn_at = None;
        String::new()
    }

    fn ended(&mut self, step: &Step, outcome: &Outcome) -> String {
        self.drawn_at = None;
        match step.kind {
            StepKind::Instruction => self.over += 1,
            StepKind::Around if *outcome == Outcome::Done && step.began.elapsed() < BRIEF => {
                return self.erase();
            }
            StepKind::Around => {}
        }
        self.was_seen = true;
        let mark = match outcome {
            Outcome::Cached => "CACHED ",
            Outcome::Done => "",
            Outcome::Failed(_) => "ERROR ",
            Outcome::Canceled => "CANCELED ",
        };
        let (_, columns) = self.size();
        let line = timed(&format!(" => {mark}{}", step.name), step.began.elapsed(), columns);
        self.erase() + &line
    }

    fn tick(&mut self, running: &BTreeMap<usize, Step>) -> String {
        if self.drawn_at.is_some_and(|at| at.elapsed() < PERIOD) {
            return String::new();
        }
        if running.is_empty() && self.planned == 0 {
            return self.erase();
        }
        self.drawn_at = Some(Instant::now());
        self.was_seen = true;
        let (rows, columns) = self.size();
        let mut lines = vec![clipped(&self.head(""), columns - 1).0 + "\n"];
        let room = rows.saturating_sub(2);
        let tail = (room / running.len().max(1)).saturating_sub(1).min(TAIL);
        for step in running.values().take(room) {
            lines.push(timed(&format!(" => {}", step.name), step.began.elapsed(), columns));
            for (_, line) in step.tail.iter().skip(step.tail.len().saturating_sub(tail)) {
                let (line, _) = clipped(line, columns.saturating_sub(8));
                lines.push(format!(" => => {line}\n"));
            }
        }
        let mut text = self.erase();
        self.drawn = lines.len();
        for line in lines {
            let _ = text.write_str(&line);
        }
        text
    }

    fn planned(&mut self, steps: usize) {
        self.planned = steps;
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn warning(&mut self, text: &str) -> String {
        self.drawn_at = None;
        self.erase() + &format!("warning: {text}\n")
    }

    fn step_aside(&mut self) -> String {
        self.drawn_at = None;
        self.erase()
    }

    fn finish(&mut self, is_well: bool) -> String {
        if !self.was_seen {
            return String::new();
        }
        self.erase() + &self.head(if is_well { " FINISHED\n" } else { " FAILED\n" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize, name: &str, lines: &[&str]) -> Step {
        let mut step = Step::begin(number, StepKind::Instruction, name);
        for line in lines {
            step.keep(line);
        }
        step
    }

    /// With the times left out, as long as they are short.
    fn timeless(text: &str) -> String {
        let is_time = |word: &str| word.strip_suffix('s').is_some_and(|number| number.parse::<f64>().is_ok());
        let words = text.split_inclusive([' ', '\n']).map(|word| match word.trim_end() {
            time if is_time(time) => word.replace(time, "TIME"),
            _ => word.to_owned(),
        });
        words.collect()
    }

    #[test]
    fn what_is_at_work_is_below_what_is_over_and_drawn_over() {
        let mut live = Live { size: Some((10, 40)), planned: 3, ..Live::new() };
        let running = BTreeMap::from([(1, step(1, "[1/3] RUN a", &["one", "two"]))]);
        assert_eq!(
            timeless(&live.tick(&running)),
            format!("[+] Building TIME (0/3)\n{:<34} TIME\n => => one\n => => two\n", " => [1/3] RUN a")
        );
        // Not before its time.
        live.drawn_at = Some(Instant::now() + Duration::from_secs(60));
        assert_eq!(live.tick(&running), "");
        assert_eq!(
            timeless(&live.ended(&running[&1], &Outcome::Cached)),
            format!("\r\x1b[4A\x1b[J{:<34} TIME\n", " => CACHED [1/3] RUN a")
        );
        assert_eq!(timeless(&live.tick(&BTreeMap::new())), "[+] Building TIME (1/3)\n");
        assert_eq!(timeless(&live.finish(true)), "\r\x1b[1A\x1b[J[+] Building TIME (1/3) FINISHED\n");
    }

    #[test]
    fn what_is_done_around_the_steps_is_shown_if_it_took_a_while() {
        let mut live = Live { size: Some((10, 40)), planned: 3, ..Live::new() };
        assert_eq!(live.finish(false), "");
        let mut around = Step { kind: StepKind::Around, ..step(1, "exporting to image", &[]) };
        assert_eq!(live.ended(&around, &Outcome::Done), "");
        let failed = live.ended(&around, &Outcome::Failed("no".into()));
        assert!(failed.starts_with(" => ERROR exporting to image "), "{failed}");
        around.began -= Duration::from_secs(1);
        assert!(live.ended(&around, &Outcome::Done).ends_with(" 1.0s\n"));
        // They are not counted.
        assert!(live.tick(&BTreeMap::new()).contains("(0/3)"));
        assert_eq!(live.step_aside(), "\r\x1b[1A\x1b[J");
        assert_eq!(live.step_aside(), "");
    }

    #[test]
    fn no_line_is_wider_and_all_are_not_higher_than_the_terminal() {
        let mut live = Live { size: Some((6, 20)), ..Live::new() };
        let running = |count: usize| {
            (1..=count).map(|n| (n, step(n, &"名".repeat(50), &["\ty".repeat(50).as_str(); 9])))
        };
        for count in [1, 2, 9] {
            live.drawn_at = None;
            let text = live.tick(&running(count).collect());
            let text = text.rsplit("\x1b[J").next().unwrap();
            assert!(text.lines().count() <= 5, "{count}: {text}");
            for line in text.lines() {
                let width: usize = line.chars().map(|c| c.width().unwrap()).sum();
                assert!(width < 20, "{line}");
            }
        }
    }
}
