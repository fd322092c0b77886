//! The command line: one file per command.
//!
//! Each file defines an [`Entry`]: the command's name and words for its help, its flags (clap's builder), the
//! flags that docker or podman have and we do not yet, and a `run` that turns the parsed flags into a call into
//! the rooms below and prints what comes back. There is no logic of containers or images here.
//!
//! [`COMMANDS`] is the one definition of everything there is: parsing, help, man pages and completions come
//! from it. Starting up is part of every `run` and `exec`, so [`main`] looks at the words first and builds
//! clap's form of that one command only; all of them are built for the overview, man pages and completions.
//!
//! Usage follows docker and podman: exit code 125 for a command line that is wrong, 126 and 127 for a command in
//! the container that cannot be executed or does not exist; flags before the image of `run`, everything after it
//! belongs to the container. A flag that we do not have is never swallowed: it is named in an error.

pub mod args;
mod container_view;
mod dispatch;
mod engine;
mod error;
mod image_view;
mod limits_view;
pub mod network;
mod network_view;
pub mod parse;
mod stores;

pub mod create_flags;
pub mod image_options;
pub mod limit_flags;
mod registry_flags;
pub mod rows;
pub mod selection;

pub mod attach;
pub mod build;
mod build_cache;
mod build_call;
mod build_check;
mod build_habit_flags;
mod build_material;
mod build_output;
mod build_output_flag;
mod build_run_flags;
pub mod builder;
pub mod commit;
pub mod completion;
pub mod container;
pub mod container_prune;
pub mod cp;
pub mod create;
pub mod diff;
pub mod doctor;
pub mod exec;
pub mod exists;
pub mod export;
pub mod filter;
pub mod history;
pub mod image;
pub mod image_exists;
mod image_filter;
pub mod image_prune;
pub mod image_tree;
pub mod images;
pub mod import;
pub mod info;
pub mod inspect;
pub mod kill;
pub mod load;
pub mod login;
pub mod logs;
pub mod manifest;
pub mod pause;
pub mod port;
pub mod ps;
pub mod pull;
pub mod push;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod rmi;
pub mod run;
pub mod save;
pub mod search;
pub mod start;
pub mod stats;
pub mod stop;
pub mod store;
pub mod system;
pub mod tag;
pub mod top;
pub mod unshare;
pub mod untag;
pub mod update;
pub mod version;
pub mod volume;
pub mod wait;

#[cfg(feature = "fuzzing")]
pub use container_view::container_views;
use dispatch::report;
pub use dispatch::{full, main};
pub use error::Error;

use crate::output::listing::Style;
use crate::state::Paths;
use args::Given as _;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// One command.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its word.
    pub name: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// One line for the overview.
    pub about: &'static str,
    /// What follows its name in the usage line.
    pub usage: &'static str,
    /// What it does.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Copy)]
pub enum Action {
    /// It has commands below it.
    Group(&'static [Entry]),
    /// It is carried out.
    Leaf {
        /// Adds its flags.
        define: fn(Command) -> Command,
        /// Flags of docker or podman that we do not have yet: `name`, or `name,n` with a short form.
        unsupported: &'static [&'static str],
        /// Carries it out; the exit code.
        run: fn(&Context, &ArgMatches) -> anyhow::Result<u8>,
    },
}

impl Entry {
    /// Whether `word` means this command.
    pub fn answers_to(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }

    /// The same command under another name.
    const fn named(self, name: &'static str, aliases: &'static [&'static str]) -> Self {
        Self { name, aliases, ..self }
    }
}

/// What every command knows.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--runroot`.
    pub runroot: Option<PathBuf>,
}

impl Context {
    /// The user's state, its folders made.
    pub fn paths(&self) -> Result<Paths, crate::state::Error> {
        let paths = Paths::discover(self.root.as_deref(), self.runroot.as_deref())?;
        paths.prepare()?;
        Ok(paths)
    }
}

/// How a listing is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `--format`: a template, `json`, or `table` and a template.
    pub format: Option<String>,
    /// `-q`: only what names the thing.
    pub quiet: bool,
    /// `--no-trunc`: nothing is shortened.
    pub no_trunc: bool,
    /// `--noheading`: no column heads.
    pub no_heading: bool,
}

impl ListOptions {
    /// As the output room takes it.
    fn style(&self) -> Style<'_> {
        Style { format: self.format.as_deref(), quiet: self.quiet, no_heading: self.no_heading }
    }

    fn of(args: &ArgMatches) -> Self {
        Self {
            format: args.text("format").map(str::to_owned),
            quiet: args.on("quiet"),
            no_trunc: args.on("no-trunc"),
            no_heading: args.on("noheading"),
        }
    }
}

/// All commands, in the order of the overview.
pub static COMMANDS: &[Entry] = &[
    run::ENTRY,
    create::ENTRY,
    start::ENTRY,
    stop::ENTRY,
    restart::ENTRY,
    kill::ENTRY,
    pause::ENTRY,
    pause::UNPAUSE,
    rm::ENTRY,
    rename::ENTRY,
    exec::ENTRY,
    attach::ENTRY,
    ps::ENTRY,
    cp::ENTRY,
    diff::ENTRY,
    export::ENTRY,
    commit::ENTRY,
    logs::ENTRY,
    wait::ENTRY,
    stats::ENTRY,
    update::ENTRY,
    port::ENTRY,
    top::ENTRY,
    inspect::ENTRY,
    pull::ENTRY,
    push::ENTRY,
    images::ENTRY,
    rmi::ENTRY,
    tag::ENTRY,
    untag::ENTRY,
    load::ENTRY,
    save::ENTRY,
    import::ENTRY,
    build::ENTRY,
    builder::ENTRY,
    history::ENTRY,
    search::ENTRY,
    login::ENTRY,
    login::LOGOUT,
    container::ENTRY,
    image::ENTRY,
    manifest::ENTRY,
    network::ENTRY,
    volume::ENTRY,
    store::ENTRY,
    system::ENTRY,
    unshare::ENTRY,
    info::ENTRY,
    version::ENTRY,
    doctor::ENTRY,
    completion::ENTRY,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(entries: &'static [Entry]) -> Vec<&'static Entry> {
        let below = |entry: &'static Entry| match entry.action {
            Action::Group(entries) => leaves(entries),
            Action::Leaf { .. } => vec![entry],
        };
        entries.iter().flat_map(below).collect()
    }

    #[test]
    fn claps_own_checks_hold_for_every_command() {
        full().debug_assert();
    }

    #[test]
    fn no_flag_is_both_there_and_not_there_yet() {
        for entry in leaves(COMMANDS) {
            let Action::Leaf { define, unsupported, .. } = entry.action else { continue };
            let command = define(Command::new("x"));
            for names in unsupported {
                let (long, short) = names.split_once(',').unwrap_or((names, ""));
                let clash = command.get_arguments().find(|arg| {
                    arg.get_long() == Some(long)
                        || (!short.is_empty() && arg.get_short() == short.chars().next())
                });
                assert!(clash.is_none(), "{} --{long} -{short}", entry.name);
            }
        }
    }

    #[test]
    fn every_word_means_one_command() {
        fn check(entries: &'static [Entry]) {
            let mut words: Vec<&str> =
                entries.iter().flat_map(|e| e.aliases.iter().copied().chain([e.name])).collect();
            let all = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), all);
            for entry in entries {
                if let Action::Group(entries) = entry.action {
                    check(entries);
                }
            }
        }
        check(COMMANDS);
    }
}
