//! The instructions that change an image's config and no file.

use super::dockerfile::ast::{CommandLine, Healthcheck, Literal, Pair, Word};
use super::dockerfile::expose::Ports;
use super::dockerfile::scope::{BuildArgs, Globals, Scope};
use super::dockerfile::words::Lexer;
use super::dockerfile::{Instruction, Kind, Problem, Source, Span};
use crate::image::{self, RunConfig};
use crate::sandbox::signal_number;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A stage's config and variables at one place in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    pub config: RunConfig,
    pub scope: Scope,
    /// Who is named by MAINTAINER.
    pub author: String,
    /// CMD was in this stage: ENTRYPOINT then leaves it.
    pub has_cmd: bool,
}

/// What reads an instruction's words.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub source: &'a Source,
    pub lexer: Lexer,
    pub globals: &'a Globals,
    pub given: &'a BuildArgs,
}

impl Reading<'_> {
    /// A word with its variables.
    pub fn word(&self, word: &Word, scope: &Scope) -> Result<String, Box<Problem>> {
        Ok(self.lexer.expand_word(self.source, word, scope)?.text)
    }

    /// What is wrong, and where.
    pub fn problem(&self, span: Span, message: impl Into<String>) -> Box<Problem> {
        Box::new(Problem::new(self.source, span, message))
    }

    /// docker or podman can do it, we cannot yet.
    pub fn unsupported(&self, span: Span, what: &str) -> Box<Problem> {
        self.problem(span, format!("{what} is not supported yet"))
    }

    fn pairs(&self, pairs: &[Pair], scope: &Scope) -> Result<Vec<(String, String)>, Box<Problem>> {
        pairs.iter().map(|pair| Ok((self.word(&pair.key, scope)?, self.word(&pair.value, scope)?))).collect()
    }
}

impl Settings {
    /// What a stage begins with.
    pub fn of(config: RunConfig) -> Settings {
        let scope = Scope::new(config.env.iter().filter_map(|entry| entry.split_once('=')));
        Settings { config, scope, ..Settings::default() }
    }

    /// What runs a line: SHELL's, or the usual one.
    pub fn shell(&self) -> Vec<String> {
        self.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
    }

    /// A path as seen from the working directory, absolute and without `.` and `..`.
    pub fn absolute(&self, path: &str) -> String {
        let whole = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.config.working_dir),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    fn command(&self, line: &CommandLine) -> Vec<String> {
        match line {
            line if line.is_empty() => Vec::new(),
            CommandLine::Shell(line) => [self.shell(), vec![line.text().to_owned()]].concat(),
            CommandLine::Exec(words) => texts(words),
        }
    }

    fn set_env(&mut self, name: &str, value: &str) {
        let start = format!("{name}=");
        let new = format!("{start}{value}");
        match self.config.env.iter_mut().find(|known| known.starts_with(&start)) {
            Some(known) => *known = new,
            None => self.config.env.push(new),
        }
        self.scope.set(name, value);
    }

    /// Carries out an instruction; what the history says of it, as BuildKit writes it. None: it is one that may change
    /// files, and nothing was done.
    pub fn apply(
        &mut self,
        reading: Reading<'_>,
        instruction: &Instruction,
    ) -> Result<Option<String>, Box<Problem>> {
        let text = match &instruction.kind {
            Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_) => return Ok(None),
            Kind::Arg(args) => {
                let mut said = Vec::new();
                for arg in args {
                    let (value, _) = self.scope.declare(
                        reading.source,
                        reading.lexer,
                        arg,
                        reading.globals,
                        reading.given,
                    )?;
                    let name = arg.name.text();
                    said.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")));
                }
                said.join(" ")
            }
            Kind::Env(pairs) => {
                let pairs = reading.pairs(pairs, &self.scope)?;
                pairs.iter().for_each(|(name, value)| self.set_env(name, value));
                joined(&pairs)
            }
            Kind::Label(pairs) => {
                let pairs = reading.pairs(pairs, &self.scope)?;
                self.config.labels.extend(pairs.iter().cloned());
                joined(&pairs)
            }
            Kind::Cmd(line) => {
                let words = self.command(line);
                self.has_cmd = true;
                let text = quoted(&words);
                self.config.cmd = Some(words).filter(|words| !words.is_empty());
                text
            }
            Kind::Entrypoint(line) => {
                let words = self.command(line);
                let text = quoted(&words);
                self.config.entrypoint = Some(words).filter(|words| !words.is_empty());
                if !self.has_cmd {
                    self.config.cmd = None;
                }
                text
            }
            Kind::Expose(words) => {
                let mut names = Vec::new();
                for word in words {
                    let expanded = reading.lexer.expand_word(reading.source, word, &self.scope)?;
                    for port in expanded.words {
                        let ports = Ports::parse(&port).map_err(|e| reading.problem(word.span(), e))?;
                        names.extend(ports.names());
                    }
                }
                self.config.exposed_ports.extend(names.iter().cloned());
                format!("[{}]", names.join(" "))
            }
            Kind::Healthcheck(check) => {
                let test = match check {
                    Healthcheck::None => vec!["NONE".to_owned()],
                    Healthcheck::Check { command: CommandLine::Exec(words), .. } => {
                        [vec!["CMD".to_owned()], texts(words)].concat()
                    }
                    Healthcheck::Check { command: CommandLine::Shell(line), .. } => {
                        vec!["CMD-SHELL".to_owned(), line.text().to_owned()]
                    }
                };
                self.config.healthcheck = Some(healthcheck(check, test));
                instruction.head.text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest).to_owned()
            }
            Kind::Maintainer(name) => {
                name.text().clone_into(&mut self.author);
                name.text().to_owned()
            }
            Kind::Onbuild(onbuild) => {
                self.config.on_build.push(onbuild.trigger.clone());
                onbuild.trigger.clone()
            }
            Kind::Shell(words) => {
                let words = texts(words);
                let text = format!("[{}]", words.join(" "));
                self.config.shell = Some(words);
                text
            }
            Kind::Stopsignal(word) => {
                let signal = reading.word(word, &self.scope)?;
                if signal_number(&signal).is_none() {
                    return Err(reading.problem(word.span(), format!("invalid signal: {signal}")));
                }
                self.config.stop_signal = Some(signal.clone());
                signal
            }
            Kind::User(word) => {
                self.config.user = reading.word(word, &self.scope)?;
                self.config.user.clone()
            }
            Kind::Volume(words) => {
                let mut paths = Vec::new();
                for word in words {
                    let path = reading.word(word, &self.scope)?;
                    if path.is_empty() {
                        return Err(
                            reading.problem(word.span(), "VOLUME specified can not be an empty string")
                        );
                    }
                    paths.push(path);
                }
                self.config.volumes.extend(paths.iter().cloned());
                format!("[{}]", paths.join(" "))
            }
        };
        Ok(Some(format!("{} {text}", instruction.kind.keyword())))
    }
}

fn texts(words: &[Literal]) -> Vec<String> {
    words.iter().map(|word| word.text().to_owned()).collect()
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// As Go prints a list with `%q`.
fn quoted(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "))
}

fn healthcheck(check: &Healthcheck, test: Vec<String>) -> image::Healthcheck {
    let nanos =
        |time: &Option<Duration>| time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    match check {
        Healthcheck::None => image::Healthcheck { test, ..Default::default() },
        Healthcheck::Check { interval, timeout, start_period, start_interval, retries, .. } => {
            image::Healthcheck {
                test,
                interval: nanos(interval),
                timeout: nanos(timeout),
                start_period: nanos(start_period),
                start_interval: nanos(start_interval),
                retries: retries.unwrap_or(0).into(),
            }
        }
    }
}
