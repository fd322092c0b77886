//! Rules about what things mean: bases, variables, paths, what counts once.

use super::{Facts, Findings, Options, Rule};
use crate::build::dockerfile::ast::{CommandLine, CopySource, Healthcheck, Literal, Pair, Transfer, Word};
use crate::build::dockerfile::expose::Ports;
use crate::build::dockerfile::scope::{Base, BuildArgs, Globals, SILENT_ARGS, Scope};
use crate::build::dockerfile::suggest::nearest;
use crate::build::dockerfile::words::{Expanded, Lexer};
use crate::build::dockerfile::{Dockerfile, Instruction, Kind, Problem, Span, Stage};
use crate::image::{DEFAULT_PATH, Reference};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, Box<Problem>>;

/// Parts of names that stand for something secret, and those that say it is none.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const NOT_SECRET: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(file: &Dockerfile, facts: &Facts<'_>, findings: &mut Findings) -> Result<()> {
    let target = facts.target.or_else(|| file.stages.last().and_then(Stage::name));
    let mut globals = Globals::new(facts.build, facts.target_platform, target, facts.build_args);
    defaults_of_bases(file, globals.clone(), findings);
    globals.declare(file, facts.build_args)?;
    let mut done: Vec<StageState> = Vec::new();
    for (number, stage) in file.stages.iter().enumerate() {
        let base = stage_line(file, stage, &globals, findings)?;
        let mut state = StageState::of(file, number, &base, facts, &done, findings);
        if (facts.stages)(number) {
            let mut pass = Pass { file, facts, globals: &globals, findings, state: &mut state };
            stage.instructions.iter().try_for_each(|instruction| pass.instruction(instruction))?;
        }
        done.push(state);
    }
    Ok(())
}

/// FROM must name an image even if the build gives no argument.
fn defaults_of_bases(file: &Dockerfile, mut globals: Globals, findings: &mut Findings) {
    if globals.declare(file, &BuildArgs::new()).is_err() {
        // The build will say so.
        return;
    }
    for stage in &file.stages {
        let Ok(name) = file.lexer().expand_word(&file.source, &stage.base, &globals) else { return };
        if name.text.parse::<Reference>().is_err() {
            findings.add(None, Rule::InvalidDefaultArgInFrom, stage.head.span, stage.base.raw(), "");
        }
    }
}

fn stage_line(file: &Dockerfile, stage: &Stage, globals: &Globals, findings: &mut Findings) -> Result<Base> {
    let options = findings.options.with_comments(&stage.head.comments);
    let span = stage.head.span;
    let mut undeclared = |word: &Word| -> Result<Expanded> {
        let expanded = file.lexer().expand_word(&file.source, word, globals)?;
        for (name, _) in &expanded.unset {
            if globals.names().all(|known| known != name) {
                let near = nearest(name, globals.names(), true).unwrap_or_default();
                findings.add(Some(&options), Rule::UndefinedArgInFrom, span, name, &near);
            }
        }
        Ok(expanded)
    };
    undeclared(&stage.base)?;
    if let Some(word) = &stage.platform {
        let platform = undeclared(word)?;
        let redundant = platform.used == ["TARGETPLATFORM"] && platform.unset.is_empty();
        let target = || file.lexer().expand("$TARGETPLATFORM", globals).map(|target| target.text);
        if redundant && target().as_ref() == Ok(&platform.text) {
            findings.add(Some(&options), Rule::RedundantTargetPlatform, span, word.raw(), "");
        }
        // A stage that is called after its platform means it.
        let is_constant = platform.used.is_empty() && platform.unset.is_empty();
        if let (true, Ok(parsed)) = (is_constant, platform.text.parse::<crate::image::Platform>()) {
            let name = stage.name().unwrap_or_default();
            if !name.contains(&parsed.os) && !name.contains(&parsed.architecture) {
                findings.add(Some(&options), Rule::FromPlatformFlagConstDisallowed, span, &platform.text, "");
            }
        }
    }
    globals.resolve(file, stage)
}

/// What is known at one place in a stage. A stage on top of another begins with what that one ended with.
#[derive(Clone)]
struct StageState {
    scope: Scope,
    /// The base's environment is known.
    is_known: bool,
    has_workdir: bool,
    has_shell: bool,
    /// Instructions of which only the last counts, by keyword: where the last one so far is.
    once: BTreeMap<&'static str, Span>,
}

impl StageState {
    fn of(
        file: &Dockerfile,
        number: usize,
        base: &Base,
        facts: &Facts<'_>,
        done: &[StageState],
        findings: &mut Findings,
    ) -> StageState {
        let folded = base.name.text.to_lowercase();
        let earlier = file.stages[..number].iter().rposition(|stage| stage.name() == Some(&folded));
        if let Some(state) = earlier.and_then(|earlier| done.get(earlier)) {
            return StageState { once: BTreeMap::new(), ..state.clone() };
        }
        let mut state = StageState {
            scope: Scope::default(),
            is_known: true,
            has_workdir: false,
            has_shell: false,
            once: BTreeMap::new(),
        };
        if base.name.text == "scratch" {
            state.scope = Scope::new(DEFAULT_PATH.split_once('='));
            return state;
        }
        let expected = base.platform.as_ref().map_or(facts.target_platform, |(platform, _)| platform);
        let Some(image) = (facts.base)(&base.name.text, expected) else {
            return StageState { is_known: false, ..state };
        };
        let pairs = image.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        state.scope = Scope::new(pairs);
        state.has_shell = image.has_shell;
        if let Some(actual) = image.platform
            && (actual.os != expected.os || actual.architecture != expected.architecture)
        {
            let stage = &file.stages[number];
            let options = findings.options.with_comments(&stage.head.comments);
            let platforms = format!("{:?}, expected {:?}", actual.to_string(), expected.to_string());
            let name = base.name.text.as_str();
            findings.add(Some(&options), Rule::InvalidBaseImagePlatform, stage.head.span, name, &platforms);
        }
        state
    }
}

struct Pass<'a> {
    file: &'a Dockerfile,
    facts: &'a Facts<'a>,
    globals: &'a Globals,
    findings: &'a mut Findings,
    state: &'a mut StageState,
}

/// An instruction at work.
struct At<'a> {
    options: Options,
    span: Span,
    keyword: &'a str,
}

impl Pass<'_> {
    fn warn(&mut self, at: &At<'_>, rule: Rule, what: &str, more: &str) {
        self.findings.add(Some(&at.options), rule, at.span, what, more);
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<()> {
        let head = &instruction.head;
        let options = self.findings.options.with_comments(&head.comments);
        let at = At { options, span: head.span, keyword: head.keyword.text() };
        match &instruction.kind {
            Kind::Add(add) => {
                let checksum = add.checksum.as_ref();
                self.transfer(&at, &add.transfer, checksum, Some("Add"))?;
            }
            Kind::Copy(copy) => {
                let verb = copy.from.is_none().then_some("Copy");
                self.transfer(&at, &copy.transfer, None, verb)?;
            }
            Kind::Arg(args) => {
                for arg in args {
                    self.secret(&at, "ARG", arg.name.text());
                    let (source, lexer) = (&self.file.source, self.file.lexer());
                    let scope = &mut self.state.scope;
                    let name = arg.name.text();
                    let is_new = !scope.declares(name);
                    let (_, expanded) =
                        scope.declare(source, lexer, arg, self.globals, self.facts.build_args)?;
                    if let Some(expanded) = expanded {
                        // In its own default a name is not declared yet.
                        self.undefined(&at, &expanded, is_new.then_some(name));
                    }
                }
            }
            Kind::Env(pairs) => {
                for (key, value, legacy) in self.pairs(&at, pairs)? {
                    if legacy {
                        self.warn(&at, Rule::LegacyKeyValueFormat, at.keyword, "");
                    }
                    self.secret(&at, "ENV", &key);
                    self.state.scope.set(&key, &value);
                }
            }
            Kind::Label(pairs) => {
                for (_, _, legacy) in self.pairs(&at, pairs)? {
                    if legacy {
                        self.warn(&at, Rule::LegacyKeyValueFormat, at.keyword, "");
                    }
                }
            }
            Kind::Cmd(command) => {
                self.once(&at, "CMD");
                self.shell_form(&at, command);
            }
            Kind::Entrypoint(command) => {
                self.once(&at, "ENTRYPOINT");
                self.shell_form(&at, command);
            }
            Kind::Healthcheck(Healthcheck::None | Healthcheck::Check { .. }) => self.once(&at, "HEALTHCHECK"),
            Kind::Expose(words) => self.expose(&at, words)?,
            Kind::Run(run) => {
                for mount in &run.mounts {
                    for used in mount.variables(&self.file.source, self.file.lexer(), &self.state.scope)? {
                        self.undefined(&at, &used, None);
                    }
                    // What a base image sets may be what is missing.
                    if self.state.is_known {
                        mount.resolve(&self.file.source, self.file.lexer(), &self.state.scope)?;
                    }
                }
            }
            Kind::Shell(_) => self.state.has_shell = true,
            Kind::Stopsignal(word) | Kind::User(word) => {
                self.word(&at, word)?;
            }
            Kind::Volume(words) => {
                for word in words {
                    self.word(&at, word)?;
                }
            }
            Kind::Workdir(word) => {
                let path = self.word(&at, word)?;
                if !self.state.has_workdir && !path.starts_with('/') {
                    self.warn(&at, Rule::WorkdirRelativePath, &path, "");
                }
                self.state.has_workdir = true;
            }
            Kind::Maintainer(_) | Kind::Onbuild(_) => {}
        }
        Ok(())
    }

    fn word(&mut self, at: &At<'_>, word: &Word) -> Result<String> {
        let expanded = self.file.lexer().expand_word(&self.file.source, word, &self.state.scope)?;
        self.undefined(at, &expanded, None);
        Ok(expanded.text)
    }

    /// Tells of variables that are neither set nor declared; `except` does not count as declared.
    fn undefined(&mut self, at: &At<'_>, expanded: &Expanded, except: Option<&str>) {
        if !self.state.is_known {
            return;
        }
        for (name, _) in &expanded.unset {
            let name = name.as_str();
            let is_declared = self.state.scope.declares(name) && except != Some(name);
            if !is_declared && !SILENT_ARGS.contains(&name) {
                let names = self.state.scope.environment().keys().map(String::as_str);
                let near = nearest(name, names.filter(|known| except != Some(known)), true);
                self.warn(at, Rule::UndefinedVar, name, &near.unwrap_or_default());
            }
        }
    }

    fn pairs(&mut self, at: &At<'_>, pairs: &[Pair]) -> Result<Vec<(String, String, bool)>> {
        pairs
            .iter()
            .map(|pair| Ok((self.word(at, &pair.key)?, self.word(at, &pair.value)?, pair.legacy)))
            .collect()
    }

    fn secret(&mut self, at: &At<'_>, keyword: &str, name: &str) {
        let folded = name.to_lowercase();
        let has = |parts: &[&str]| folded.split('_').any(|part| parts.contains(&part));
        if has(&SECRET) && !has(&NOT_SECRET) {
            self.warn(at, Rule::SecretsUsedInArgOrEnv, keyword, name);
        }
    }

    /// Only the last one of a stage counts; what is of no use is the one before.
    fn once(&mut self, at: &At<'_>, keyword: &'static str) {
        if let Some(before) = self.state.once.insert(keyword, at.span) {
            let rule = Rule::MultipleInstructionsDisallowed;
            self.findings.add(Some(&at.options), rule, before, at.keyword, "");
        }
    }

    fn shell_form(&mut self, at: &At<'_>, command: &CommandLine) {
        if matches!(command, CommandLine::Shell(Literal(_))) && !self.state.has_shell {
            self.warn(at, Rule::JSONArgsRecommended, at.keyword, "");
        }
    }

    fn expose(&mut self, at: &At<'_>, words: &[Word]) -> Result<()> {
        for word in words {
            let expanded = self.file.lexer().expand_word(&self.file.source, word, &self.state.scope)?;
            for text in expanded.words {
                let ports = Ports::parse(&text)
                    .map_err(|message| Box::new(Problem::new(&self.file.source, word.span(), message)))?;
                if ports.has_odd_case {
                    self.warn(at, Rule::ExposeProtoCasing, &text, "");
                }
                if ports.has_mapping {
                    self.warn(at, Rule::ExposeInvalidFormat, &text, "");
                }
            }
        }
        Ok(())
    }

    /// ADD and COPY; `verb` where the sources are in the context.
    fn transfer(
        &mut self,
        at: &At<'_>,
        transfer: &Transfer,
        checksum: Option<&Word>,
        verb: Option<&str>,
    ) -> Result<()> {
        for word in [transfer.chown.as_ref(), transfer.chmod.as_ref(), checksum].into_iter().flatten() {
            self.word(at, word)?;
        }
        let mut paths = Vec::new();
        for source in &transfer.sources {
            if let CopySource::Path(word) = source {
                paths.push(self.word(at, word)?);
            }
        }
        self.word(at, &transfer.destination)?;
        for source in &transfer.sources {
            if let CopySource::Inline(file) = source
                && file.expands
            {
                let (source, scope) = (&self.file.source, &self.state.scope);
                let expanded = Lexer::for_heredoc().expand_text(source, &file.content, scope)?;
                self.undefined(at, &expanded, None);
            }
        }
        if let (Some(verb), Some(ignore)) = (verb, self.facts.ignore)
            && !ignore.has_exceptions()
        {
            for path in paths.iter().filter(|path| !is_remote(path)) {
                let clean = crate::build::ignore::clean(path.as_bytes());
                let is_root = matches!(&clean[..], b"." | b"/");
                if (!is_root || ignore.ignores_everything()) && ignore.ignores(&clean) {
                    self.warn(at, Rule::CopyIgnoredFile, verb, &String::from_utf8_lossy(&clean));
                }
            }
        }
        Ok(())
    }
}

/// A source that is not in the context.
fn is_remote(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}
