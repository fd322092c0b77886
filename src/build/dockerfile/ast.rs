//! The syntax tree of a Dockerfile: what was written, typed, and where.
//!
//! A text that may contain variables is a [`Word`], to be expanded by who runs the build, when the variables are known;
//! a [`Literal`] is final. Which is which is BuildKit's choice, not ours.

use super::run_mount::RunMount;
use super::source::{Source, Span, Text};
use std::sync::Arc;
use std::time::Duration;

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text, for errors and for what is shown of a step.
    pub source: Source,
    /// What stands before everything else.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub preamble: Vec<Instruction>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// Of instructions that have an empty line within, which docker wants to refuse one day: the last line.
    pub empty_continuations: Vec<Span>,
}

/// `# name=value` at the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that the file asks for. Only its own language is known here.
    pub syntax: Option<Literal>,
    /// What joins lines and quotes characters; also in [`Directives::escape_character`].
    pub escape: Option<Literal>,
    /// How to check: see [`crate::build::lint`].
    pub check: Option<Literal>,
}

impl Directives {
    /// The escape character: a backslash, unless the file says otherwise.
    pub fn escape_character(&self) -> char {
        self.escape.as_ref().and_then(|value| value.text().chars().next()).unwrap_or('\\')
    }
}

/// A text that may contain variables, quotes and escapes: expand it with [`super::words::Lexer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub Text);

/// A text that is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal(pub Text);

impl Word {
    /// What was written, before expansion.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Where.
    pub fn span(&self) -> Span {
        self.0.span()
    }
}

impl Literal {
    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Where.
    pub fn span(&self) -> Span {
        self.0.span()
    }
}

/// FROM and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The image, or the name of an earlier stage. Expanded with the global arguments only.
    pub base: Word,
    /// `--platform`. Expanded with the global arguments only.
    pub platform: Option<Word>,
    /// What it is called. Names compare without regard to case: use [`Stage::name`].
    pub name: Option<StageName>,
    /// What the FROM line itself says.
    pub head: Head,
    /// What to do.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// The stage's name in lower case.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|name| name.folded.as_str())
    }
}

/// `AS name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageName {
    /// The keyword, as it was written.
    pub keyword: Literal,
    /// The name, as it was written.
    pub written: Literal,
    /// In lower case: what to compare.
    pub folded: String,
}

/// What every instruction has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// As it was written: `RUN`, `run`.
    pub keyword: Literal,
    /// From the keyword to the end of the last line, heredocs included.
    pub span: Span,
    /// All its lines joined into one, without heredocs: for the history and the view of a build.
    pub text: String,
    /// The comments right above it, without the `#`.
    pub comments: Vec<String>,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it is.
    pub kind: Kind,
    /// Where and how it was written.
    pub head: Head,
}

/// The instructions. FROM is a [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ADD
    Add(Add),
    /// ARG: one or more.
    Arg(Vec<Arg>),
    /// CMD. An empty command takes away the base image's.
    Cmd(CommandLine),
    /// COPY
    Copy(Copy),
    /// ENTRYPOINT. An empty command takes away the base image's.
    Entrypoint(CommandLine),
    /// ENV: one or more. All values see the variables as they were before the instruction.
    Env(Vec<Pair>),
    /// EXPOSE. Each word expands to any number of `PORT[-PORT][/PROTOCOL]`.
    Expose(Vec<Word>),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// LABEL: one or more.
    Label(Vec<Pair>),
    /// MAINTAINER
    Maintainer(Literal),
    /// ONBUILD
    Onbuild(Onbuild),
    /// RUN
    Run(Run),
    /// SHELL: what shell forms are run by.
    Shell(Vec<Literal>),
    /// STOPSIGNAL
    Stopsignal(Word),
    /// USER
    User(Word),
    /// VOLUME: one or more paths.
    Volume(Vec<Word>),
    /// WORKDIR
    Workdir(Word),
}

impl Kind {
    /// The keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Kind::Add(_) => "ADD",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Copy(_) => "COPY",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}

/// `name` or `name=default` of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The name, as it is: quotes would be part of it.
    pub name: Literal,
    /// The default.
    pub default: Option<Word>,
    /// What a comment above says about it: `# name description`.
    pub description: Option<String>,
}

/// `key=value` of ENV and LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// Written as `key value`, which docker discourages.
    pub legacy: bool,
}

/// What is to be run: CMD, ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the shell that is in force. Variables in it are the shell's business. Empty where nothing is written.
    Shell(Literal),
    /// A JSON array: the words themselves.
    Exec(Vec<Literal>),
}

impl CommandLine {
    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        match self {
            CommandLine::Shell(line) => line.text().is_empty(),
            CommandLine::Exec(words) => words.is_empty(),
        }
    }
}

/// A text in the Dockerfile that stands for a file: `<<NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// `N<<NAME`: which descriptor it is for; 0 where it does not say.
    pub descriptor: u32,
    /// Whether variables in it are expanded: the word is not quoted.
    pub expands: bool,
    /// `<<-`: tabs at the start of lines do not count.
    pub strips_tabs: bool,
    /// The lines as they are written, tabs included. Shared: a line may name one heredoc many times.
    pub content: Arc<Text>,
}

impl Heredoc {
    /// The lines as they are meant: without the leading tabs that `<<-` takes away.
    pub fn text(&self) -> String {
        if !self.strips_tabs {
            return self.content.as_str().to_owned();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// RUN
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run.
    pub command: RunCommand,
    /// `--mount`, in the order given. Their values may hold variables: [`RunMount::resolve`].
    pub mounts: Vec<RunMount>,
    /// `--network`
    pub network: RunNetwork,
    /// `--security`
    pub security: RunSecurity,
}

/// What RUN runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCommand {
    /// A JSON array: the words themselves.
    Exec(Vec<Literal>),
    /// A line for the shell; with the heredocs that it names put after it, as the shell wants to read them.
    Shell {
        /// The line.
        line: Literal,
        /// The heredocs in the order in which the line names them.
        heredocs: Vec<Heredoc>,
    },
    /// `RUN <<EOF` and nothing else: the content is what the shell runs.
    Script(Heredoc),
    /// The same where the content begins with `#!`: the content is a program, to be run as `/dev/pipes/NAME`.
    Program(Heredoc),
}

impl RunCommand {
    /// The one argument for the shell, where it is one that runs this.
    pub fn for_shell(&self) -> Option<String> {
        match self {
            RunCommand::Exec(_) | RunCommand::Program(_) => None,
            RunCommand::Script(heredoc) => Some(heredoc.text()),
            RunCommand::Shell { line, heredocs } => {
                let mut text = line.text().to_owned();
                for heredoc in heredocs {
                    text.push('\n');
                    text.push_str(&heredoc.content);
                    text.push_str(&heredoc.name);
                }
                Some(text)
            }
        }
    }
}

/// `RUN --network`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// As the build was told.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `RUN --security`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// As every container.
    #[default]
    Sandbox,
    /// With all privileges; who runs the build may refuse it.
    Insecure,
}

/// What ADD and COPY copy, and to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// At least one, in the order written.
    pub sources: Vec<CopySource>,
    /// A folder if it ends with `/` or there are several sources.
    pub destination: Word,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`: octal or symbolic.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--exclude`: patterns as of `.dockerignore`.
    pub exclude: Vec<Literal>,
}

/// One source of ADD or COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path, a pattern, or for ADD a URL.
    Path(Word),
    /// A heredoc: the file has its name, mode 0644, and its content; that is expanded if [`Heredoc::expands`].
    Inline(Heredoc),
}

/// COPY
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What and to where.
    pub transfer: Transfer,
    /// `--from`: a stage, its number, a named context or an image. Never with variables.
    pub from: Option<Literal>,
    /// `--parents`
    pub parents: bool,
}

/// ADD
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What and to where.
    pub transfer: Transfer,
    /// `--checksum`: of a URL or git commit.
    pub checksum: Option<Word>,
    /// `--unpack`: whether archives are unpacked; where it does not say, local ones are.
    pub unpack: Option<bool>,
    /// `--keep-git-dir`: for git sources.
    pub keep_git_dir: Option<bool>,
}

/// HEALTHCHECK
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// NONE: the base image's is taken away.
    None,
    /// CMD
    Check {
        /// What to run; never empty.
        command: CommandLine,
        /// `--interval`; none is what the engine takes.
        interval: Option<Duration>,
        /// `--timeout`
        timeout: Option<Duration>,
        /// `--start-period`
        start_period: Option<Duration>,
        /// `--start-interval`
        start_interval: Option<Duration>,
        /// `--retries`
        retries: Option<u32>,
    },
}

/// ONBUILD
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// What the image's configuration is to say: the instruction, with its heredocs. [`super::parse_trigger`] reads it.
    pub trigger: String,
    /// The same, parsed.
    pub instruction: Box<Instruction>,
}
