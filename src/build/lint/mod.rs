//! What is allowed in a Dockerfile, and unwise: `build --check`, and the warnings of every build.
//!
//! The rules, their names and words are BuildKit's ([`Rule`]), so that what people skip stays skipped. [`check`] goes
//! through the file twice: once for what the text alone says ([`form`]), once as a build would, stage by stage with
//! the variables as they are at each instruction ([`meaning`]). Nothing is run and no file opened: what it takes to know
//! of base images and of the context comes in [`Facts`]. Where a base image is not known, nothing is said of
//! variables that it may set.
//!
//! The second pass ends at the first error that a build of these stages would meet before it runs anything; it is in the
//! [`Report`] beside the warnings so far.

mod form;
mod meaning;
mod options;
mod rules;
#[cfg(test)]
mod tests;

pub use options::Options;
pub use rules::Rule;

use super::dockerfile::scope::BuildArgs;
use super::dockerfile::{Dockerfile, Problem, Source, Span};
use super::ignore::Ignore;
use crate::image::Platform;
use std::fmt::Write;

/// What a build knows beside the file.
pub struct Facts<'a> {
    /// Where the build runs.
    pub build: &'a Platform,
    /// What it is for.
    pub target_platform: &'a Platform,
    /// `--target`
    pub target: Option<&'a str>,
    /// `--build-arg`
    pub build_args: &'a BuildArgs,
    /// The context's patterns, if it has any.
    pub ignore: Option<&'a Ignore>,
    /// Which stages are looked at, by number; a build looks at those that it needs, `--check` at all.
    pub stages: &'a dyn Fn(usize) -> bool,
    /// What an image's configuration says; none if it is not known.
    pub base: &'a dyn Fn(&str, &Platform) -> Option<BaseImage>,
}

/// What a base image brings with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Whether it has a SHELL.
    pub has_shell: bool,
    /// What it is for, if it says so.
    pub platform: Option<Platform>,
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which rule.
    pub rule: Rule,
    /// What is wrong, in docker's words.
    pub message: String,
    /// The instruction.
    pub span: Span,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By line.
    pub warnings: Vec<Warning>,
    /// What would end a build before anything runs.
    pub error: Option<Box<Problem>>,
}

impl Warning {
    /// The first line.
    pub fn line(&self, source: &Source) -> usize {
        source.lines(self.span).0
    }

    /// As it is listed after a build: `Rule: message (line N)`.
    pub fn summary(&self, source: &Source) -> String {
        format!("{}: {} (line {})", self.rule.name(), self.message, self.line(source))
    }

    /// As `--check` shows it, with the lines.
    pub fn page(&self, source: &Source) -> String {
        let mut page = format!("WARNING: {}", self.rule.name());
        if let Some(url) = self.rule.url() {
            let _ = write!(page, " - {url}");
        }
        let _ = writeln!(page, "\n{}", self.message);
        page + &lines_around(source, self.span)
    }
}

impl Report {
    /// Why warnings end the build where `error=true` says so.
    pub fn violation(&self) -> Option<String> {
        let mut rules: Vec<String> = self.warnings.iter().map(|warning| warning.rule.name()).collect();
        rules.sort();
        rules.dedup();
        (!rules.is_empty()).then(|| format!("lint violation found for rules: {}", rules.join(", ")))
    }
}

/// The lines of `span` marked, and some before and after, as docker shows them.
pub fn lines_around(source: &Source, span: Span) -> String {
    const RULE: &str = "--------------------";
    let lines: Vec<&str> = source.text().split('\n').collect();
    let (first, last) = source.lines(span);
    let last = last.min(lines.len());
    let (mut start, mut end, mut padding) = (first, last, 0);
    while padding < if first == last { 4 } else { 2 } {
        if start > 1 {
            start -= 1;
            padding += 1;
        }
        if end < lines.len() {
            end += 1;
            padding += 1;
        }
        padding += 1;
    }
    let mut out = format!("{}:{first}\n{RULE}\n", source.name());
    for number in start..=end {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(out, " {number:3} | {mark} {}", lines[number - 1].trim_end_matches('\r'));
    }
    out + RULE + "\n"
}

/// Collects warnings that count.
struct Findings {
    options: Options,
    warnings: Vec<Warning>,
}

impl Findings {
    fn add(&mut self, options: Option<&Options>, rule: Rule, span: Span, what: &str, more: &str) {
        if options.unwrap_or(&self.options).wants(rule) {
            self.warnings.push(Warning { rule, message: rule.message(what, more), span });
        }
    }
}

/// Checks a file by all rules that `options` want.
pub fn check(file: &Dockerfile, options: &Options, facts: &Facts<'_>) -> Report {
    let mut findings = Findings { options: options.clone(), warnings: Vec::new() };
    form::check(file, &mut findings);
    let error = meaning::check(file, facts, &mut findings).err();
    let mut warnings = findings.warnings;
    warnings.sort_by_key(|warning| warning.span.start);
    Report { warnings, error }
}
