//! From words to a command: which one is meant, its flags parsed, its errors said in our words.

use super::args::{displayed, option};
use super::{Action, COMMANDS, Context, Entry, Error, parse};
use crate::diagnose::Diagnose;
use crate::output;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::PathBuf;

/// Options before the command that take a value.
const ROOT_OPTIONS: [&str; 2] = ["--root", "--runroot"];

/// Runs the command line `words` (the program's name first); the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let words: Vec<OsString> = words.into_iter().collect();
    match dispatch(words) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// Shows an error; the exit code that it asks for.
pub(super) fn report(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Reported(code)) => *code,
        _ => output::error::report(error, known),
    }
}

fn known<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a dyn Diagnose> {
    match error.downcast_ref::<Error>() {
        Some(error) => Some(error),
        None => output::error::known(error),
    }
}

fn dispatch(mut words: Vec<OsString>) -> anyhow::Result<u8> {
    if words.len() == 2 && (words[1] == "--version" || words[1] == "-v") {
        output::print(&format!("coracle version {}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok(0);
    }
    turn_help_into_flag(&mut words);
    let path = match find(&words) {
        Found::Command(path) => path,
        Found::Overview(path) => return overview(&path),
        Found::Unknown(path, word) => return Err(unknown_command(&path, &word).into()),
    };
    let matches = match parser(&path).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return overview(&path);
        }
        Err(error) => return Err(usage_error(&error, &path).into()),
    };
    let context = Context { root: path_of(&matches, "root"), runroot: path_of(&matches, "runroot") };
    let mut below = &matches;
    while let Some((_, next)) = below.subcommand() {
        below = next;
    }
    match path.last().map(|entry| entry.action) {
        Some(Action::Leaf { run, .. }) => run(&context, below),
        _ => overview(&path),
    }
}

fn path_of(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<String>(name).map(PathBuf::from)
}

/// `coracle help run` is `coracle run --help`.
fn turn_help_into_flag(words: &mut Vec<OsString>) {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
}

enum Found {
    /// A command, with the groups above it.
    Command(Vec<&'static Entry>),
    /// No command, or a group alone: what there is, is shown.
    Overview(Vec<&'static Entry>),
    /// A word that is no command, below these groups.
    Unknown(Vec<&'static Entry>, String),
}

/// Which command is meant. Unknown flags before the command end the search at the overview's parser, which
/// complains about them.
fn find(words: &[OsString]) -> Found {
    let mut path: Vec<&'static Entry> = Vec::new();
    let mut below = COMMANDS;
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        if path.is_empty() && ROOT_OPTIONS.contains(&&*word) {
            if words.next().is_none() {
                // The parser says what is missing.
                return Found::Command(path);
            }
        } else if word == "--help" || word == "-h" {
            return Found::Overview(path);
        } else if word.starts_with('-') {
            // A flag with its value, or a wrong one, for the parser to see.
            if !ROOT_OPTIONS.iter().any(|option| word.starts_with(&format!("{option}="))) {
                return Found::Command(path);
            }
        } else {
            let Some(entry) = below.iter().find(|entry| entry.answers_to(&word)) else {
                return Found::Unknown(path, word.into_owned());
            };
            path.push(entry);
            match entry.action {
                Action::Leaf { .. } => return Found::Command(path),
                Action::Group(entries) => below = entries,
            }
        }
    }
    Found::Overview(path)
}

/// The parser for one command: the root, the groups on the way, and it.
fn parser(path: &[&Entry]) -> Command {
    let mut parent = root();
    if let Some((first, rest)) = path.split_first() {
        parent = parent.subcommand(chain(first, rest, "coracle"));
    }
    parent
}

fn chain(entry: &Entry, rest: &[&Entry], above: &str) -> Command {
    let command = shell_of(entry, above);
    match (entry.action, rest.split_first()) {
        (Action::Leaf { define, .. }, _) => with_help(define(command)),
        (Action::Group(_), Some((next, rest))) => {
            with_help(command.subcommand(chain(next, rest, &format!("{above} {}", entry.name))))
        }
        (Action::Group(_), None) => with_help(command),
    }
}

/// A command's words, without its flags.
fn shell_of(entry: &Entry, above: &str) -> Command {
    Command::new(entry.name)
        .visible_aliases(entry.aliases.iter().copied())
        .about(entry.about)
        .override_usage(format!("{above} {} {}", entry.name, entry.usage))
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
}

fn root() -> Command {
    let command = Command::new("coracle")
        .about("Daemonless, rootless containers")
        .override_usage("coracle [OPTIONS] COMMAND")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .disable_help_subcommand(true)
        .arg(option("root", "DIR").help("Keep images, containers and volumes in DIR"))
        .arg(option("runroot", "DIR").help("Keep the state of running containers in DIR"))
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .version(concat!("version ", env!("CARGO_PKG_VERSION")));
    with_help(command)
}

/// Adds `--help`, and `-h` where that is not the host name's.
fn with_help(command: Command) -> Command {
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print this help");
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    command.arg(if taken { help } else { help.short('h') })
}

/// Everything there is, as help, man pages and completions show it.
pub fn full() -> Command {
    fn add(to: Command, entries: &[Entry], above: &str) -> Command {
        entries.iter().fold(to, |to, entry| {
            let command = shell_of(entry, above);
            to.subcommand(match entry.action {
                Action::Leaf { define, .. } => with_help(define(command)).mut_args(displayed),
                Action::Group(entries) => {
                    with_help(add(command, entries, &format!("{above} {}", entry.name)))
                }
            })
        })
    }
    add(root(), COMMANDS, "coracle")
}

/// Help for a command, a group or the whole.
fn overview(path: &[&Entry]) -> anyhow::Result<u8> {
    let mut above = String::from("coracle");
    let mut command = match path.split_last() {
        None => COMMANDS.iter().fold(root(), |root, entry| root.subcommand(shell_of(entry, "coracle"))),
        Some((entry, groups)) => {
            groups.iter().for_each(|group| above = format!("{above} {}", group.name));
            let command = shell_of(entry, &above);
            match entry.action {
                Action::Leaf { define, .. } => with_help(define(command)).mut_args(displayed),
                Action::Group(entries) => with_help(
                    entries
                        .iter()
                        .fold(command, |command, entry| command.subcommand(shell_of(entry, &above))),
                ),
            }
        }
    };
    output::print(&command.render_help().to_string())?;
    Ok(0)
}

fn words_of(path: &[&Entry]) -> String {
    path.iter().fold("coracle".to_owned(), |words, entry| format!("{words} {}", entry.name))
}

/// Commands of docker and podman that cannot be had here: why not, and what to do instead.
const IMPOSSIBLE: [(&str, &str, &str); 1] = [(
    "events",
    "no daemon is there that would see them all, and no command keeps a record",
    "look with 'coracle ps', or wait for a container with 'coracle wait'",
)];

fn unknown_command(path: &[&Entry], word: &str) -> Error {
    let above = words_of(path);
    let below = match path.last().map(|entry| entry.action) {
        Some(Action::Group(entries)) => entries,
        _ => COMMANDS,
    };
    if let Some((_, why, fix)) = IMPOSSIBLE.iter().find(|(name, ..)| *name == word) {
        return Error::usage(format!("there is no '{above} {word}': {why}"), *fix);
    }
    let known = below.iter().flat_map(|entry| entry.aliases.iter().copied().chain([entry.name]));
    let fix = match parse::nearest(word, known) {
        Some(near) => format!("did you mean '{above} {near}'?"),
        None => format!("'{above} --help' lists the commands"),
    };
    Error::usage(format!("unknown command '{above} {word}'"), fix)
}

/// clap's error in docker's and podman's words.
fn usage_error(error: &clap::Error, path: &[&Entry]) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let see = format!("see '{} --help'", words_of(path));
    let arg = text(ContextKind::InvalidArg).unwrap_or_default();
    // clap names a flag with its value: `--name <NAME>`.
    let flag = arg.split([' ', '=', '[']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            if let Some(what) = unsupported(flag, path) {
                return Error::Unsupported { what };
            }
            let fix = match near_flag(flag, path) {
                Some(near) => format!("did you mean --{near}? {see}"),
                None => see,
            };
            Error::usage(format!("unknown flag: {flag}"), fix)
        }
        ErrorKind::UnknownArgument => Error::usage(format!("unexpected argument '{arg}'"), see),
        ErrorKind::TooManyValues => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            Error::usage(format!("unexpected argument '{value}'"), see)
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues | ErrorKind::InvalidValue
            if !flag.starts_with('-') =>
        {
            let usage = path.last().map_or("", |entry| entry.usage);
            Error::usage("too few arguments", format!("usage: {} {usage}", words_of(path)))
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::TooFewValues => {
            Error::usage(format!("flag needs an argument: {flag}"), see)
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            Error::value(flag.trim_start_matches('-'), value)(parse::Invalid::new(why))
        }
        ErrorKind::InvalidUtf8 => Error::usage("an argument is not UTF-8", see),
        _ => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default();
            Error::usage(first.trim_start_matches("error: "), see)
        }
    }
}

fn near_flag(flag: &str, path: &[&Entry]) -> Option<String> {
    let command = match path.last().map(|entry| entry.action) {
        Some(Action::Leaf { define, .. }) => define(Command::new("")),
        _ => root(),
    };
    let known = command.get_arguments().filter_map(Arg::get_long);
    parse::nearest(flag.strip_prefix("--")?, known).map(str::to_owned)
}

/// The flag's full name, if docker or podman have it here and we do not.
fn unsupported(flag: &str, path: &[&Entry]) -> Option<String> {
    let Some(Action::Leaf { unsupported, .. }) = path.last().map(|entry| entry.action) else { return None };
    unsupported.iter().find_map(|names| {
        let (long, short) = names.split_once(',').unwrap_or((names, ""));
        let is_it = flag.strip_prefix("--") == Some(long)
            || (!short.is_empty() && flag.strip_prefix('-') == Some(short));
        is_it.then(|| format!("--{long}"))
    })
}

/// The flags of one command, without looking for it.
#[cfg(test)]
pub(super) fn parse_for_test(entry: &Entry, words: &[&str]) -> Result<ArgMatches, Error> {
    let command = chain(entry, &[], "coracle");
    command
        .try_get_matches_from([entry.name].iter().chain(words))
        .map_err(|error| usage_error(&error, &[entry]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &[&str]) -> String {
        let words: Vec<OsString> = ["coracle"].iter().chain(words).map(OsString::from).collect();
        match find(&words) {
            Found::Command(path) => words_of(&path),
            Found::Overview(path) => format!("help of {}", words_of(&path)),
            Found::Unknown(path, word) => unknown_command(&path, &word).fix().unwrap_or_default(),
        }
    }

    #[test]
    fn a_command_is_found_behind_options_and_under_its_other_names() {
        for (words, expected) in [
            (&["run", "-it", "debian"][..], "coracle run"),
            (&["--root", "/x", "--runroot=/y", "ps"], "coracle ps"),
            (&["container", "list", "-a"], "coracle container ls"),
            (&["image", "remove", "x"], "coracle image rm"),
            (&["--root", "run"], "help of coracle"),
            (&["--root"], "coracle"),
            (&["--frobnicate", "run"], "coracle"),
            (&[], "help of coracle"),
            (&["image"], "help of coracle image"),
            (&["volume", "--help"], "help of coracle volume"),
            (&["rnu"], "did you mean 'coracle run'?"),
            (&["volume", "lss"], "did you mean 'coracle volume ls'?"),
            (&["frobnicate"], "'coracle --help' lists the commands"),
            (&["events"], "look with 'coracle ps', or wait for a container with 'coracle wait'"),
        ] {
            assert_eq!(found(words), expected, "{words:?}");
        }
    }

    #[test]
    fn too_many_and_too_few_words_are_usage_errors() {
        use crate::cli::{images, tag};
        let wrong = |entry, words| parse_for_test(entry, words).unwrap_err().to_string();
        assert_eq!(wrong(&images::ENTRY, &["a", "b"]), "unexpected argument 'b'");
        assert_eq!(wrong(&images::ENTRY, &["--filter"]), "flag needs an argument: --filter");
        assert_eq!(wrong(&tag::ENTRY, &["a"]), "too few arguments");
    }
}
