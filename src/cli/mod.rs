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
mod dispatch;
mod error;
pub mod image_options;
pub mod parse;

pub mod create;
pub mod create_flags;
pub mod exec;
pub mod run;

pub use dispatch::{full, main};
pub use error::Error;

use crate::state::Paths;
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

/// All commands, in the order of the overview.
pub static COMMANDS: &[Entry] = &[run::ENTRY, create::ENTRY, exec::ENTRY];

/// Where the lifecycle is called from. Each caller is replaced by that call.
pub(crate) fn pending(asked: impl std::fmt::Debug) -> anyhow::Result<u8> {
    anyhow::bail!("not wired: {asked:#?}")
}
