//! Pulls as they go: bars on a terminal, a line per step elsewhere, nothing if asked. All of it on standard
//! error: standard output is for the result.

use super::human;
use crate::digest::Digest;
use crate::image::{Event, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Shows the progress of a pull in the form that fits standard error.
pub fn progress(quiet: bool) -> Box<dyn Progress> {
    progress_of("pulling", quiet)
}

/// Shows progress of something else: `loading`, `saving`, `pushing`.
pub fn progress_of(verb: &'static str, quiet: bool) -> Box<dyn Progress> {
    progress_after("", verb, quiet)
}

/// The same with something before each line.
pub fn progress_after(before: &str, verb: &'static str, quiet: bool) -> Box<dyn Progress> {
    match (quiet, std::io::stderr().is_terminal()) {
        (true, _) => Box::new(Silent),
        (false, true) => Box::new(Bars::default()),
        (false, false) => Box::new(Lines { before: before.to_owned(), verb }),
    }
}

struct Silent;

impl Progress for Silent {
    fn on(&self, _event: Event<'_>) {}
}

struct Lines {
    before: String,
    verb: &'static str,
}

impl Progress for Lines {
    fn on(&self, event: Event<'_>) {
        if let Some(line) = line(self.verb, event) {
            // Nobody is left to tell where standard error is closed, and the pull goes on.
            let _ = writeln!(std::io::stderr().lock(), "{}{line}", self.before);
        }
    }
}

/// What an event is on a line of its own.
fn line(verb: &str, event: Event<'_>) -> Option<String> {
    Some(match event {
        Event::Resolved { reference, digest } => format!("{reference} is {digest}"),
        Event::LayerPresent { digest } => format!("{}: already here", digest.short()),
        Event::LayerThere { digest, .. } => format!("{}: {}", digest.short(), there(event)),
        Event::LayerWaiting { digest } => {
            format!("{}: waiting", digest.short())
        }
        Event::LayerStart { digest, size } => format!("{}: {verb} {}", digest.short(), human::size(size)),
        Event::LayerBytes { .. } => return None,
        Event::LayerDone { digest } => format!("{}: done", digest.short()),
        Event::LayerRetry { digest, why } => format!("{}: trying again: {why}", digest.short()),
        Event::Config { digest } => format!("{}: configuration", digest.short()),
    })
}

/// Why a layer need not be pushed.
fn there(event: Event<'_>) -> String {
    match event {
        Event::LayerThere { from: Some(repository), .. } => format!("mounted from {repository}"),
        _ => "already there".into(),
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn bar(&self, digest: Digest) -> ProgressBar {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = layers.entry(digest).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::no_length().with_prefix(digest.short()));
            bar.set_style(style("{prefix}  {msg}"));
            bar
        });
        bar.clone()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Bars {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::Resolved { .. } | Event::Config { .. } => {
                if let Some(line) = line("", event) {
                    let _ = self.all.println(line);
                }
            }
            Event::LayerPresent { digest } => self.bar(digest).finish_with_message("already here"),
            Event::LayerThere { digest, .. } => self.bar(digest).finish_with_message(there(event)),
            Event::LayerWaiting { digest } => self.bar(digest).set_message("waiting"),
            Event::LayerStart { digest, size } => {
                let bar = self.bar(digest);
                bar.set_length(size);
                bar.set_position(0);
                bar.set_style(style(
                    "{prefix}  [{wide_bar}] {decimal_bytes:>9}/{decimal_total_bytes:<9} {eta:>4}",
                ));
            }
            Event::LayerBytes { digest, bytes } => self.bar(digest).inc(bytes),
            Event::LayerDone { digest } => {
                let bar = self.bar(digest);
                bar.set_style(style("{prefix}  {msg}"));
                bar.finish_with_message(match bar.length() {
                    Some(size) => format!("done, {}", human::size(size)),
                    None => "done".into(),
                });
            }
            Event::LayerRetry { digest, why } => {
                let bar = self.bar(digest);
                bar.set_style(style("{prefix}  {msg}"));
                bar.set_message(format!("trying again: {why}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_without_a_terminal_is_a_line_per_step() {
        let digest = Digest::of(b"");
        let lines = [
            Event::LayerStart { digest, size: 1_500_000 },
            Event::LayerBytes { digest, bytes: 10 },
            Event::LayerRetry { digest, why: "timed out" },
            Event::LayerDone { digest },
        ];
        let lines: Vec<_> = lines.into_iter().filter_map(|event| line("pulling", event)).collect();
        assert_eq!(
            lines,
            ["e3b0c44298fc: pulling 1.5MB", "e3b0c44298fc: trying again: timed out", "e3b0c44298fc: done"]
        );
    }

    #[test]
    fn bars_take_events_in_any_order_and_from_any_thread() {
        let bars = Bars::default();
        std::thread::scope(|scope| {
            for layer in 0..4u8 {
                let bars = &bars;
                scope.spawn(move || {
                    let digest = Digest::of(&[layer]);
                    bars.on(Event::LayerBytes { digest, bytes: 5 });
                    bars.on(Event::LayerStart { digest, size: 10 });
                    bars.on(Event::LayerBytes { digest, bytes: 10 });
                    bars.on(Event::LayerDone { digest });
                });
            }
        });
        let layers = bars.layers.lock().unwrap();
        assert!(layers.len() == 4 && layers.values().all(ProgressBar::is_finished));
    }
}
