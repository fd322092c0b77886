//! One instruction: keyword, flags, arguments, and the heredocs below it.

use super::ast::{
    Add, Arg, CommandLine, Copy, CopySource, Head, Heredoc, Instruction, Kind, Literal, Onbuild, Pair, Run,
    RunCommand, RunNetwork, RunSecurity, Stage, StageName, Transfer, Word,
};
use super::flags::{self, Flags, Takes};
use super::healthcheck;
use super::json::{self, Json};
use super::lines::{Lines, Logical};
use super::problem::Problem;
use super::run_mount::RunMount;
use super::source::{Source, Span, Text};
use super::suggest::did_you_mean;
use super::{heredoc, split};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every keyword.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

type Result<T> = std::result::Result<T, Box<Problem>>;

/// What a line turned out to be.
pub enum Parsed {
    /// The start of a stage.
    From(Stage),
    /// Anything else.
    Instruction(Instruction),
}

/// Parses the instruction of one line, and takes the lines of its heredocs from `lines`.
pub fn parse(source: &Source, lines: &mut Lines<'_>, line: Logical) -> Result<Parsed> {
    let text = line.text.trimmed();
    let parts = Parts::cut(source, &text, lines.directives().escape_character());
    // docker looks for heredocs before it looks at the arguments.
    let heredocs = if parts.may_have_heredocs() { read_heredocs(source, lines, &text)? } else { Vec::new() };
    let mut span = text.span();
    if !heredocs.is_empty() {
        span.end = source.text()[..lines.place()].trim_end().len().max(span.end);
    }
    let comments: Vec<String> = line.comments.iter().map(|comment| comment.as_str().to_owned()).collect();
    let head =
        Head { keyword: Literal(parts.keyword.clone()), span, text: text.as_str().to_owned(), comments };
    if parts.is("FROM") {
        return parts.from(head).map(Parsed::From);
    }
    let kind = parts.kind(&head, heredocs)?;
    Ok(Parsed::Instruction(Instruction { kind, head }))
}

/// Reads the content of the heredocs that a line names.
fn read_heredocs(source: &Source, lines: &mut Lines<'_>, line: &Text) -> Result<Vec<Heredoc>> {
    let mut heredocs = heredoc::of_line(line);
    for heredoc in &mut heredocs {
        let mut content = Text::empty_at(lines.place());
        loop {
            let Some((raw, start)) = lines.raw() else {
                let problem = Problem::new(source, line.span(), "unterminated heredoc");
                return Err(Box::new(
                    problem.hint(format!("end it with a line that is {} alone", heredoc.name)),
                ));
            };
            let end = raw.trim_end_matches(['\r', '\n']);
            let end = if heredoc.strips_tabs { end.trim_start_matches('\t') } else { end };
            if end == heredoc.name {
                break;
            }
            content.push_str(raw, start);
        }
        heredoc.content = Arc::new(content);
    }
    Ok(heredocs)
}

/// A line cut into what every instruction has.
struct Parts<'a> {
    source: &'a Source,
    keyword: Text,
    flags: Vec<Text>,
    arguments: Text,
    escape: char,
}

impl<'a> Parts<'a> {
    fn cut(source: &'a Source, line: &'a Text, escape: char) -> Parts<'a> {
        let end = line.find(split::is_blank).unwrap_or(line.len());
        let (flags, arguments) = flags::cut(&line.part(end..line.len()), escape);
        Parts { source, keyword: line.part(0..end), flags, arguments: arguments.trimmed(), escape }
    }

    fn is(&self, keyword: &str) -> bool {
        self.keyword.eq_ignore_ascii_case(keyword)
    }

    fn may_have_heredocs(&self) -> bool {
        if self.is("ONBUILD") {
            let inner = Parts::cut(self.source, &self.arguments, self.escape);
            return !inner.is("ONBUILD") && inner.may_have_heredocs();
        }
        ["ADD", "COPY", "RUN"].into_iter().any(|keyword| self.is(keyword))
            && !matches!(json::texts(&self.arguments), Json::Texts(_))
    }

    fn problem<T>(&self, span: Span, message: impl Into<String>) -> Result<T> {
        Err(Box::new(Problem::new(self.source, span, message)))
    }

    /// An error about the arguments, or the keyword where there are none.
    fn wrong<T>(&self, message: impl Into<String>) -> Result<T> {
        let span = if self.arguments.is_empty() { self.keyword.span() } else { self.arguments.span() };
        self.problem(span, message)
    }

    fn flags(&self, known: &[(&'static str, Takes)]) -> Result<Flags> {
        Flags::parse(self.source, &self.flags, known)
    }

    fn kind(&self, head: &Head, heredocs: Vec<Heredoc>) -> Result<Kind> {
        let keyword = self.keyword.to_ascii_uppercase();
        // The rest have no flags.
        if !matches!(keyword.as_str(), "ADD" | "COPY" | "RUN" | "HEALTHCHECK")
            && KEYWORDS.contains(&&*keyword)
        {
            self.flags(&[])?;
        }
        Ok(match keyword.as_str() {
            "ADD" => self.add(heredocs)?,
            "ARG" => self.arg(head)?,
            "CMD" => Kind::Cmd(self.command_line()?),
            "COPY" => self.copy(heredocs)?,
            "ENTRYPOINT" => Kind::Entrypoint(self.command_line()?),
            "ENV" => Kind::Env(self.pairs("ENV")?),
            "EXPOSE" => {
                let words: Vec<Word> = split::blanks(&self.arguments).into_iter().map(Word).collect();
                if words.is_empty() {
                    return self.wrong("EXPOSE requires at least one argument");
                }
                Kind::Expose(words)
            }
            "HEALTHCHECK" => {
                let flags = self.flags(&healthcheck::FLAGS)?;
                Kind::Healthcheck(healthcheck::parse(
                    self.source,
                    self.keyword.span(),
                    &self.arguments,
                    &flags,
                )?)
            }
            "LABEL" => Kind::Label(self.pairs("LABEL")?),
            "MAINTAINER" => Kind::Maintainer(Literal(self.only_argument("MAINTAINER")?)),
            "ONBUILD" => Kind::Onbuild(self.onbuild(head, heredocs)?),
            "RUN" => self.run(heredocs)?,
            "SHELL" => match json::texts(&self.arguments) {
                Json::Texts(words) if !words.is_empty() => {
                    Kind::Shell(words.into_iter().map(Literal).collect())
                }
                Json::Texts(_) => return self.wrong("SHELL requires at least one argument"),
                _ if self.arguments.is_empty() => return self.wrong("SHELL requires at least one argument"),
                _ => return self.wrong("SHELL requires the arguments to be in JSON form"),
            },
            "STOPSIGNAL" => Kind::Stopsignal(Word(self.only_argument("STOPSIGNAL")?)),
            "USER" => Kind::User(Word(self.only_argument("USER")?)),
            "VOLUME" => self.volume()?,
            "WORKDIR" => Kind::Workdir(Word(self.only_argument("WORKDIR")?)),
            _ => {
                let near = did_you_mean(&self.keyword, KEYWORDS, false);
                return self
                    .problem(self.keyword.span(), format!("unknown instruction: {}{near}", &*self.keyword));
            }
        })
    }

    /// All that follows, as one.
    fn only_argument(&self, keyword: &str) -> Result<Text> {
        if self.arguments.is_empty() {
            return self.wrong(format!("{keyword} requires exactly one argument"));
        }
        Ok(self.arguments.clone())
    }

    /// A JSON array, or words with blanks between.
    fn list(&self) -> Result<(Vec<Text>, bool)> {
        match json::texts(&self.arguments) {
            Json::Texts(texts) => Ok((texts, true)),
            Json::OtherArray => self.not_only_texts(),
            Json::No => Ok((split::blanks(&self.arguments), false)),
        }
    }

    fn not_only_texts<T>(&self) -> Result<T> {
        self.wrong("when using JSON array syntax, arrays must be comprised of strings only")
    }

    fn command_line(&self) -> Result<CommandLine> {
        match json::texts(&self.arguments) {
            Json::Texts(words) => Ok(CommandLine::Exec(words.into_iter().map(Literal).collect())),
            Json::OtherArray => self.not_only_texts(),
            Json::No => Ok(CommandLine::Shell(Literal(self.arguments.clone()))),
        }
    }

    fn from(&self, head: Head) -> Result<Stage> {
        let words = split::blanks(&self.arguments);
        let name = match words.as_slice() {
            [_] => None,
            [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
                let folded = name.to_lowercase();
                let good =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
                if !folded.starts_with(|c: char| c.is_ascii_lowercase()) || !folded.chars().all(good) {
                    let message = format!(
                        "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                        &**name
                    );
                    return self.problem(name.span(), message);
                }
                let (keyword, written) = (Literal(keyword.clone()), Literal(name.clone()));
                Some(StageName { keyword, written, folded })
            }
            _ => return self.wrong("FROM requires either one or three arguments"),
        };
        let flags = self.flags(&[("platform", Takes::One)])?;
        let base = Word(words.into_iter().next().unwrap_or_default());
        Ok(Stage { base, platform: flags.word("platform"), name, head, instructions: Vec::new() })
    }

    fn pairs(&self, keyword: &str) -> Result<Vec<Pair>> {
        let words = split::words(&self.arguments, self.escape);
        let Some(first) = words.first() else {
            return self.wrong(format!("{keyword} requires at least one argument"));
        };
        if !first.contains('=') {
            let Some(end) = self.arguments.find(split::is_blank) else {
                return self.wrong(format!("{keyword} must have two arguments"));
            };
            let rest = self.arguments.part(end..self.arguments.len());
            let value = rest.part(rest.len() - rest.trim_start_matches(split::is_blank).len()..rest.len());
            return Ok(vec![Pair {
                key: Word(self.arguments.part(0..end)),
                value: Word(value),
                legacy: true,
            }]);
        }
        let mut pairs = Vec::new();
        for word in &words {
            let Some(equals) = word.find('=') else {
                let shown = &**word;
                return self.problem(
                    word.span(),
                    format!("Syntax error - can't find = in {shown:?}. Must be of the form: name=value"),
                );
            };
            if equals == 0 {
                return self.problem(word.span(), format!("{keyword} names can not be blank"));
            }
            let (key, value) = (word.part(0..equals), word.part(equals + 1..word.len()));
            pairs.push(Pair { key: Word(key), value: Word(value), legacy: false });
        }
        Ok(pairs)
    }

    fn arg(&self, head: &Head) -> Result<Kind> {
        let mut args = Vec::new();
        for word in split::words(&self.arguments, self.escape) {
            let (name, default) = match word.find('=') {
                Some(0) => return self.problem(word.span(), "ARG names can not be blank"),
                Some(equals) => (word.part(0..equals), Some(Word(word.part(equals + 1..word.len())))),
                None => (word, None),
            };
            let about = head.comments.iter().filter_map(|comment| comment.strip_prefix(&*name));
            let description = about.filter_map(|rest| rest.strip_prefix(' ')).next().map(str::to_owned);
            args.push(Arg { name: Literal(name), default, description });
        }
        if args.is_empty() {
            return self.wrong("ARG requires at least one argument");
        }
        Ok(Kind::Arg(args))
    }

    fn volume(&self) -> Result<Kind> {
        let (texts, _) = self.list()?;
        let paths: Vec<Text> = texts.iter().map(Text::trimmed).collect();
        if paths.is_empty() {
            return self.wrong("VOLUME requires at least one argument");
        }
        if let Some(empty) = texts.iter().find(|path| path.trim().is_empty()) {
            return self.problem(empty.span(), "VOLUME specified can not be an empty string");
        }
        Ok(Kind::Volume(paths.into_iter().map(Word).collect()))
    }

    /// The sources, the destination and the flags that ADD and COPY share.
    fn transfer(&self, keyword: &str, heredocs: &[Heredoc], flags: &Flags) -> Result<Transfer> {
        let (mut texts, is_json) = self.list()?;
        let (Some(destination), false) = (texts.pop(), texts.is_empty()) else {
            return self.wrong(format!(
                "{keyword} requires at least two arguments, but only one was provided. \
                 Destination could not be determined"
            ));
        };
        let inline = |text: &Text| if is_json { None } else { heredoc::of_word(text) };
        if inline(&destination).is_some() {
            return self
                .problem(destination.span(), format!("{keyword} cannot accept a heredoc as a destination"));
        }
        // The last of a name stands for all of them, with BuildKit.
        let contents: BTreeMap<&str, &Arc<Text>> =
            heredocs.iter().map(|heredoc| (heredoc.name.as_str(), &heredoc.content)).collect();
        let sources = texts.into_iter().map(|text| match inline(&text) {
            None => CopySource::Path(Word(text)),
            Some(word) => {
                let content =
                    contents.get(word.name.as_str()).map(|content| (*content).clone()).unwrap_or_default();
                CopySource::Inline(Heredoc { content, ..word })
            }
        });
        Ok(Transfer {
            sources: sources.collect(),
            destination: Word(destination),
            chown: flags.word("chown"),
            chmod: flags.word("chmod"),
            link: flags.bool("link").unwrap_or(false),
            exclude: flags.many("exclude").map(|pattern| Literal(pattern.clone())).collect(),
        })
    }

    fn copy(&self, heredocs: Vec<Heredoc>) -> Result<Kind> {
        let flags = self.flags(&[
            ("chown", Takes::One),
            ("from", Takes::One),
            ("chmod", Takes::One),
            ("link", Takes::Bool),
            ("exclude", Takes::Many),
            ("parents", Takes::Bool),
        ])?;
        let from = flags.literal("from");
        if let Some(from) = &from
            && from.text().contains(['$', '"', '\'', self.escape])
        {
            let message = "variable expansion is not supported for --from, \
                           define a new stage with FROM using ARG from global scope as a workaround";
            return self.problem(from.span(), message);
        }
        let transfer = self.transfer("COPY", &heredocs, &flags)?;
        Ok(Kind::Copy(Copy { transfer, from, parents: flags.bool("parents").unwrap_or(false) }))
    }

    fn add(&self, heredocs: Vec<Heredoc>) -> Result<Kind> {
        let flags = self.flags(&[
            ("chown", Takes::One),
            ("chmod", Takes::One),
            ("link", Takes::Bool),
            ("keep-git-dir", Takes::Bool),
            ("checksum", Takes::One),
            ("unpack", Takes::Bool),
            ("exclude", Takes::Many),
        ])?;
        let transfer = self.transfer("ADD", &heredocs, &flags)?;
        let (unpack, keep_git_dir) = (flags.bool("unpack"), flags.bool("keep-git-dir"));
        Ok(Kind::Add(Add { transfer, checksum: flags.word("checksum"), unpack, keep_git_dir }))
    }

    fn run(&self, heredocs: Vec<Heredoc>) -> Result<Kind> {
        let flags = self.flags(&[
            ("mount", Takes::Many),
            ("network", Takes::One),
            ("security", Takes::One),
            ("device", Takes::Many),
        ])?;
        if let Some(device) = flags.one("device") {
            let problem = Problem::new(self.source, device.span(), "RUN --device is not supported");
            return Err(Box::new(problem.hint("a build gets no devices of the host; leave the flag out")));
        }
        let network = match flags.one("network").map(|mode| (mode, mode.as_str())) {
            None | Some((_, "default")) => RunNetwork::Default,
            Some((_, "none")) => RunNetwork::None,
            Some((_, "host")) => RunNetwork::Host,
            Some((text, mode)) => return self.problem(text.span(), format!("invalid network mode {mode:?}")),
        };
        let security = match flags.one("security").map(|mode| (mode, mode.as_str())) {
            None | Some((_, "sandbox")) => RunSecurity::Sandbox,
            Some((_, "insecure")) => RunSecurity::Insecure,
            Some((text, mode)) => {
                return self.problem(text.span(), format!("security {mode:?} is not valid"));
            }
        };
        let mounts = flags.many("mount").map(|value| RunMount::parse(self.source, value, self.escape));
        let mounts = mounts.collect::<Result<Vec<_>>>()?;
        let command = match self.command_line()? {
            command if command.is_empty() => return self.wrong("RUN requires at least one argument"),
            CommandLine::Exec(words) => RunCommand::Exec(words),
            CommandLine::Shell(line) => {
                let alone = heredoc::of_word(line.text()).is_some();
                match heredocs.into_iter() {
                    mut heredocs if alone && heredocs.len() == 1 => match heredocs.next() {
                        Some(heredoc) if heredoc.text().starts_with("#!") => RunCommand::Program(heredoc),
                        Some(heredoc) => RunCommand::Script(heredoc),
                        None => RunCommand::Shell { line, heredocs: Vec::new() },
                    },
                    heredocs => RunCommand::Shell { line, heredocs: heredocs.collect() },
                }
            }
        };
        Ok(Kind::Run(Run { command, mounts, network, security }))
    }

    fn onbuild(&self, head: &Head, heredocs: Vec<Heredoc>) -> Result<Onbuild> {
        if self.arguments.is_empty() {
            return self.wrong("ONBUILD requires at least one argument");
        }
        let inner = Parts::cut(self.source, &self.arguments, self.escape);
        if inner.is("ONBUILD") {
            return self
                .problem(inner.keyword.span(), "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
        }
        if inner.is("FROM") || inner.is("MAINTAINER") {
            let keyword = inner.keyword.to_ascii_uppercase();
            return self
                .problem(inner.keyword.span(), format!("{keyword} isn't allowed as an ONBUILD trigger"));
        }
        let mut trigger = self.arguments.as_str().to_owned();
        for heredoc in &heredocs {
            trigger.push('\n');
            trigger.push_str(&heredoc.content);
            trigger.push_str(&heredoc.name);
        }
        let span = Span { start: self.arguments.span().start, end: head.span.end };
        let inner_head = Head {
            keyword: Literal(inner.keyword.clone()),
            span,
            text: self.arguments.as_str().to_owned(),
            comments: head.comments.clone(),
        };
        let kind = inner.kind(&inner_head, heredocs)?;
        Ok(Onbuild { trigger, instruction: Box::new(Instruction { kind, head: inner_head }) })
    }
}
