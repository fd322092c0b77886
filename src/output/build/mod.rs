//! A build as it goes, on standard error: a live view on a terminal, lines elsewhere, objects for programs.
//!
//! What containers say, and names in a Dockerfile, are not trusted: characters that a terminal would obey are shown. All
//! that is kept of a step's output are its last lines, and of those that do not end, a bounded part.

mod json;
mod lines;
mod live;
mod plain;

use crate::build::dockerfile::{Problem, Source};
use crate::build::lint::{Warning, lines_around};
use crate::build::progress::{Event, Outcome, Progress, StepKind};
use crate::output::human;
use crate::timestamp::Timestamp;
use lines::{Lines, shown};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// So many lines of a step are kept.
const TAIL: usize = 30;

/// How a build is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Live on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// A line for all that happens.
    Plain,
    /// Live.
    Live,
    /// An object a line, as BuildKit has them.
    Json,
    /// Not at all.
    Quiet,
}

/// A step that is shown.
struct Step {
    number: usize,
    kind: StepKind,
    name: String,
    began: Instant,
    started: Timestamp,
    /// Standard output, and error.
    lines: [Lines; 2],
    /// Its last lines, with when they were said.
    tail: VecDeque<(Duration, String)>,
}

impl Step {
    fn begin(number: usize, kind: StepKind, name: &str) -> Step {
        let (lines, tail) = (<[Lines; 2]>::default(), VecDeque::new());
        let (began, started) = (Instant::now(), Timestamp::now());
        Step { number, kind, name: shown(name.as_bytes()), began, started, lines, tail }
    }

    fn keep(&mut self, line: &str) -> Duration {
        let when = self.began.elapsed();
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back((when, line.to_owned()));
        when
    }
}

/// One way to show it. What it returns is written.
trait View {
    fn begun(&mut self, _step: &Step) -> String {
        String::new()
    }
    fn output(&mut self, _step: &Step, _is_error: bool, _bytes: &[u8]) -> String {
        String::new()
    }
    fn line(&mut self, _step: &Step, _when: Duration, _line: &str) -> String {
        String::new()
    }
    /// What it is doing.
    fn note(&mut self, _step: &Step, _text: &str, _bytes: Option<u64>) -> String {
        String::new()
    }
    fn ended(&mut self, _step: &Step, _outcome: &Outcome) -> String {
        String::new()
    }
    fn tick(&mut self, _running: &BTreeMap<usize, Step>) -> String {
        String::new()
    }
    fn planned(&mut self, _steps: usize) {}
    fn period(&self) -> Option<Duration> {
        None
    }
    /// Something went wrong that costs time only.
    fn warning(&mut self, text: &str) -> String {
        format!("warning: {text}\n")
    }
    /// The build is over.
    fn finish(&mut self, _is_well: bool) -> String {
        String::new()
    }
    fn warnings(&mut self, source: &Source, warnings: &[Warning]) -> String {
        summary(source, warnings)
    }
    /// What is before a line that another process writes for a step.
    fn before(&self, _step: usize) -> String {
        String::new()
    }
    /// Somebody else is about to write on the terminal.
    fn step_aside(&mut self) -> String {
        String::new()
    }
    /// Whether people read it.
    fn is_text(&self) -> bool {
        true
    }
}

struct Nothing;

impl View for Nothing {
    fn warnings(&mut self, _source: &Source, _warnings: &[Warning]) -> String {
        String::new()
    }
}

/// A build on the screen.
pub struct Screen {
    view: Box<dyn View>,
    /// How many steps have begun.
    steps: usize,
    running: BTreeMap<usize, Step>,
    /// The step that has failed.
    failed: Option<Step>,
}

impl Screen {
    /// In this form.
    pub fn new(form: Form) -> Screen {
        let is_live =
            || std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let view: Box<dyn View> = match form {
            Form::Auto if is_live() => Box::new(live::Live::new()),
            Form::Auto | Form::Plain => Box::new(plain::Plain::default()),
            Form::Live => Box::new(live::Live::new()),
            Form::Json => Box::new(json::Json),
            Form::Quiet => Box::new(Nothing),
        };
        Screen { view, steps: 0, running: BTreeMap::new(), failed: None }
    }

    /// The build is over; `problem` is what is wrong in the Dockerfile, if it has failed for that.
    pub fn finish(&mut self, is_well: bool, problem: Option<&Problem>) {
        let mut text = self.view.finish(is_well);
        let failed = self.failed.as_ref().filter(|_| !is_well && self.view.is_text());
        if let Some(step) = failed {
            text += &report(step);
        }
        if let (Some(_), Some(problem)) = (failed, problem) {
            text += &shown_lines(&lines_around(problem.source(), problem.span()));
        }
        write(&text);
    }

    /// To be called before anybody else writes on standard error.
    pub fn step_aside(&mut self) {
        write(&self.view.step_aside());
    }

    /// What is unwise in the Dockerfile.
    pub fn warnings(&mut self, source: &Source, warnings: &[Warning]) {
        if !warnings.is_empty() {
            write(&self.view.warnings(source, warnings));
        }
    }
}

impl Progress for Screen {
    fn begin(&mut self, kind: StepKind, name: &str) -> usize {
        self.steps += 1;
        let step = self.running.entry(self.steps).or_insert_with(|| Step::begin(self.steps, kind, name));
        write(&self.view.begun(step));
        self.steps
    }

    fn on(&mut self, event: Event<'_>) {
        let text = match event {
            Event::Planned(steps) => {
                self.view.planned(steps);
                String::new()
            }
            Event::Note { step, text, bytes } => {
                let Some(step) = self.running.get_mut(&step) else { return };
                let (text, size) = (shown(text.as_bytes()), bytes.map(human::size));
                let line = size.map_or_else(|| text.clone(), |size| format!("{text}: {size}"));
                step.keep(&line);
                self.view.note(step, &line, bytes)
            }
            Event::Output { step, is_error, bytes } => {
                let Some(step) = self.running.get_mut(&step) else { return };
                let mut text = self.view.output(step, is_error, bytes);
                for line in step.lines[usize::from(is_error)].cut(bytes) {
                    let when = step.keep(&line);
                    text += &self.view.line(step, when, &line);
                }
                text
            }
            Event::Ended { step, outcome } => {
                let Some(mut step) = self.running.remove(&step) else { return };
                let mut text = String::new();
                let rest: Vec<String> = step.lines.iter_mut().filter_map(Lines::rest).collect();
                for line in rest {
                    let when = step.keep(&line);
                    text += &self.view.line(&step, when, &line);
                }
                text += &self.view.ended(&step, outcome);
                if matches!(outcome, Outcome::Failed(_)) && self.failed.is_none() {
                    self.failed = Some(step);
                }
                text + &self.view.tick(&self.running)
            }
            Event::Warning(text) => self.view.warning(&shown(text.as_bytes())),
            Event::Tick => self.view.tick(&self.running),
        };
        write(&text);
    }

    fn hand_over(&mut self, step: usize) -> String {
        self.step_aside();
        self.view.before(step)
    }

    fn period(&self) -> Option<Duration> {
        self.view.period()
    }
}

/// Where standard error is closed nobody is left to tell, and the build goes on.
fn write(text: &str) {
    if !text.is_empty() {
        let mut to = std::io::stderr().lock();
        let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    }
}

/// Lines, with what a terminal would obey shown.
pub fn shown_lines(text: &str) -> String {
    text.lines().map(|line| shown(line.as_bytes()) + "\n").collect()
}

/// What a step said before it failed.
fn report(step: &Step) -> String {
    const RULE: &str = "------\n";
    let mut text = format!("{RULE} > {}:\n", step.name);
    for (when, line) in &step.tail {
        let _ = writeln!(text, "{:.3} {line}", when.as_secs_f64());
    }
    text + RULE
}

/// The warnings of a build, as docker lists them.
fn summary(source: &Source, warnings: &[Warning]) -> String {
    let count = match warnings.len() {
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    let mut text = format!("\n {count} found (use --check to expand):\n");
    for warning in warnings {
        let _ = writeln!(text, " - {}", shown(warning.summary(source).as_bytes()));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build looks like.
    pub(super) fn played(view: &mut dyn View, events: &[(&str, &[u8])]) -> String {
        let mut text = String::new();
        let mut step = Step::begin(1, StepKind::Instruction, "nothing");
        for (number, (kind, bytes)) in events.iter().enumerate() {
            text += &match *kind {
                "begin" => {
                    step = Step::begin(number + 1, StepKind::Instruction, &String::from_utf8_lossy(bytes));
                    view.begun(&step)
                }
                "say" => {
                    let lines = step.lines[0].cut(bytes);
                    lines.map(|line| view.line(&step, Duration::from_millis(1234), &line)).collect()
                }
                "note" => view.note(&step, &String::from_utf8_lossy(bytes), Some(7)),
                "cached" => view.ended(&step, &Outcome::Cached),
                "canceled" => view.ended(&step, &Outcome::Canceled),
                "failed" => view.ended(&step, &Outcome::Failed(String::from_utf8_lossy(bytes).into_owned())),
                other => panic!("{other}"),
            };
        }
        text
    }

    #[test]
    fn of_a_step_that_says_much_the_end_is_kept() {
        let mut step = Step::begin(1, StepKind::Instruction, "[1/1] RUN x");
        for number in 0..100 {
            step.keep(&number.to_string());
        }
        assert_eq!(step.tail.len(), TAIL);
        let report = report(&step);
        assert!(report.starts_with("------\n > [1/1] RUN x:\n0.0") && report.ends_with(" 99\n------\n"));
    }
}
