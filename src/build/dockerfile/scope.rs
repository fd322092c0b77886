//! Which variables there are where: arguments before the first FROM, a stage's ARG and ENV, and what exists without
//! being declared.
//!
//! A stage sees nothing of the global scope but what it declares again (`ARG name`). In a stage, ARG and ENV write
//! the same environment, as in BuildKit: the later one is in force for RUN and for expansion. Only ENV goes into the image.

use super::ast::{Arg, Dockerfile, Kind, Stage};
use super::problem::Problem;
use super::source::Source;
use super::suggest::nearest;
use super::words::{Expanded, Lexer, Variables};
use crate::image::Platform;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Arguments of the global scope that are there without ARG, from the platforms and the target.
pub const PLATFORM_ARGS: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// Arguments that `--build-arg` may give without ARG. RUN sees them, expansion does not, and they are in neither the
/// history nor the cache's keys, unless a stage declares them.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments for BuildKit itself, which never are in a stage's environment.
pub const SILENT_ARGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// `--build-arg`, by name.
pub type BuildArgs = BTreeMap<String, String>;

/// The variables that FROM sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    values: BTreeMap<String, String>,
    /// ARGs, with and without a value.
    declared: Vec<String>,
    /// `--from`: what the first FROM names instead.
    first_base: Option<String>,
}

impl Globals {
    /// What is there before the file says anything. `target` is the stage that is built, if it has a name.
    pub fn new(
        build: &Platform,
        target_platform: &Platform,
        target: Option<&str>,
        given: &BuildArgs,
    ) -> Globals {
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        // In the order of the names; no platform of ours has a version of the system.
        let values = [
            build.to_string(),
            build.os.clone(),
            String::new(),
            build.architecture.clone(),
            variant(build),
            target_platform.to_string(),
            target_platform.os.clone(),
            String::new(),
            target_platform.architecture.clone(),
            variant(target_platform),
            target.unwrap_or("default").to_owned(),
        ];
        let mut globals = Globals::default();
        for (name, value) in PLATFORM_ARGS.into_iter().zip(values) {
            globals.values.insert(name.to_owned(), given.get(name).cloned().unwrap_or(value));
        }
        globals
    }

    /// Adds the arguments before the first FROM. Each default sees those before it.
    pub fn declare(&mut self, file: &Dockerfile, given: &BuildArgs) -> Result<(), Box<Problem>> {
        for arg in file.global_args() {
            let name = arg.name.text().to_owned();
            let value = match (given.get(&name), &arg.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(file.lexer().expand_word(&file.source, default, &*self)?.text),
                (None, None) => None,
            };
            if let Some(value) = value {
                self.values.insert(name.clone(), value);
            }
            self.declared.push(name);
        }
        Ok(())
    }

    /// Has the first FROM name something else.
    pub fn replace_first_base(&mut self, name: &str) {
        self.first_base = Some(name.to_owned());
    }

    /// What FROM names once it is expanded.
    pub fn resolve(&self, file: &Dockerfile, stage: &Stage) -> Result<Base, Box<Problem>> {
        let is_first = file.stages.first().is_some_and(|first| first.head.span == stage.head.span);
        let name = match &self.first_base {
            Some(name) if is_first => Expanded { text: name.clone(), ..Expanded::default() },
            _ => file.lexer().expand_word(&file.source, &stage.base, self)?,
        };
        if name.text.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base.raw());
            return Err(Box::new(
                self.of_unset(Problem::new(&file.source, stage.base.span(), message), &name),
            ));
        }
        let Some(word) = &stage.platform else { return Ok(Base { name, platform: None }) };
        let expanded = file.lexer().expand_word(&file.source, word, self)?;
        if expanded.text.is_empty() {
            let message = format!("empty platform value from expression {}", word.raw());
            return Err(Box::new(self.of_unset(Problem::new(&file.source, word.span(), message), &expanded)));
        }
        match expanded.text.parse() {
            Ok(platform) => Ok(Base { name, platform: Some((platform, expanded)) }),
            Err(error) => {
                let message = format!("failed to parse platform {}: {error}", word.raw());
                Err(Box::new(self.of_unset(Problem::new(&file.source, word.span(), message), &expanded)))
            }
        }
    }

    /// With the variable that is not set and perhaps was meant otherwise.
    fn of_unset(&self, problem: Problem, expanded: &Expanded) -> Problem {
        match expanded.unset.first() {
            None => problem,
            Some((name, _)) => match nearest(name, self.names(), true) {
                Some(near) => problem.hint(format!("${name} is not set; did you mean ${near}?")),
                None => {
                    problem.hint(format!("${name} is not set; declare it with ARG before the first FROM"))
                }
            },
        }
    }

    /// The names of all that have a value or are declared.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str).chain(self.declared.iter().map(String::as_str))
    }
}

impl Variables for Globals {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.values.get(name).map(|value| value.as_str().into())
    }
}

/// What a stage is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// An image, or an earlier stage's name.
    pub name: Expanded,
    /// For which platform, and what it was expanded from.
    pub platform: Option<(Platform, Expanded)>,
}

/// The variables of a stage at one place in it. A stage that is based on another begins with a clone of that one's last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    environment: BTreeMap<String, String>,
    /// ARGs so far, with and without a value, in order.
    declared: Vec<(String, Option<String>)>,
    names: BTreeSet<String>,
}

impl Scope {
    /// The scope after FROM: what the base image's configuration sets.
    pub fn new<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>) -> Scope {
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Scope { environment: environment.collect(), ..Scope::default() }
    }

    /// ENV, one pair, expanded.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// ARG, one of it: its value is the build's, else its default, else the global one of that name. Returns the value, and
    /// what expanding a default that counts said.
    pub fn declare(
        &mut self,
        source: &Source,
        lexer: Lexer,
        arg: &Arg,
        globals: &Globals,
        given: &BuildArgs,
    ) -> Result<(Option<String>, Option<Expanded>), Box<Problem>> {
        let name = arg.name.text();
        let (value, expanded) = match (given.get(name), &arg.default) {
            (Some(value), _) => (Some(value.clone()), None),
            (None, Some(default)) => {
                let expanded = lexer.expand_word(source, default, &*self)?;
                (Some(expanded.text.clone()), Some(expanded))
            }
            (None, None) => (globals.get(name).map(Cow::into_owned), None),
        };
        if let Some(value) = &value
            && !SILENT_ARGS.contains(&name)
        {
            self.set(name, value);
        }
        self.declared.push((name.to_owned(), value.clone()));
        self.names.insert(name.to_owned());
        Ok((value, expanded))
    }

    /// The arguments declared so far with their values, in order; a name may come again. RUN depends on them.
    pub fn arguments(&self) -> &[(String, Option<String>)] {
        &self.declared
    }

    /// Whether ARG declares the name.
    pub fn declares(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What RUN sees, sorted by name: the base image's environment, ENV and ARG.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.environment.get(name).map(|value| value.as_str().into())
    }
}

/// Names given with `--build-arg` that no ARG of the file declares: docker warns of them.
pub fn unknown_build_args<'a>(file: &Dockerfile, given: &'a BuildArgs) -> Vec<&'a str> {
    let of_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let instructions = file.preamble.iter().chain(of_stages);
    let declared: Vec<&str> = instructions
        .filter_map(|instruction| match &instruction.kind {
            Kind::Arg(args) => Some(args.iter().map(|arg| arg.name.text())),
            _ => None,
        })
        .flatten()
        .collect();
    let known = |name: &str| {
        PLATFORM_ARGS.contains(&name)
            || PROXY_ARGS.contains(&name)
            || SILENT_ARGS.contains(&name)
            || name == "SOURCE_DATE_EPOCH"
            || name.starts_with("BUILDKIT_")
            || declared.contains(&name)
    };
    given.keys().map(String::as_str).filter(|name| !known(name)).collect()
}
