//! A line for all that happens, as BuildKit's `--progress plain`.

use super::{Step, View};
use crate::build::progress::Outcome;
use std::time::Duration;

#[derive(Default)]
pub struct Plain {
    has_begun: bool,
}

impl View for Plain {
    fn begun(&mut self, step: &Step) -> String {
        let gap = if std::mem::replace(&mut self.has_begun, true) { "\n" } else { "" };
        format!("{gap}#{} {}\n", step.number, step.name)
    }

    fn line(&mut self, step: &Step, when: Duration, line: &str) -> String {
        format!("#{} {:.3} {line}\n", step.number, when.as_secs_f64())
    }

    fn note(&mut self, step: &Step, text: &str, _bytes: Option<u64>) -> String {
        self.before(step.number) + text + "\n"
    }

    fn before(&self, step: usize) -> String {
        format!("#{step} ")
    }

    fn ended(&mut self, step: &Step, outcome: &Outcome) -> String {
        let how = match outcome {
            Outcome::Cached => "CACHED".to_owned(),
            Outcome::Done => format!("DONE {:.1}s", step.began.elapsed().as_secs_f64()),
            Outcome::Failed(why) => format!("ERROR: {}", super::shown(why.as_bytes())),
            Outcome::Canceled => "CANCELED".to_owned(),
        };
        format!("#{} {how}\n", step.number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::played;
    use super::*;

    #[test]
    fn every_line_names_its_step() {
        let events: [(&str, &[u8]); 7] = [
            ("begin", b"[a 1/2] RUN one"),
            ("note", b"reading"),
            ("cached", b""),
            ("begin", b"[b 2/2] RUN \x1b[2Jtwo\nthree"),
            ("say", b"one\n\x1b]0;x\x07\npart"),
            ("failed", b"exit code: 1"),
            ("canceled", b""),
        ];
        assert_eq!(
            played(&mut Plain::default(), &events),
            "#1 [a 1/2] RUN one\n#1 reading\n#1 CACHED\n\n#4 [b 2/2] RUN \\u{1b}[2Jtwo\\nthree\n#4 1.234 one\n\
             #4 1.234 \\u{1b}]0;x\\u{7}\n#4 ERROR: exit code: 1\n#4 CANCELED\n"
        );
    }
}
