//! What several commands share: the user's state and identity, talking to a session, doing a thing to each of several
//! containers.

use super::selection::Selection;
use super::{Context, Error};
use crate::container::record::Record;
use crate::container::session::{Client, Ending, Interaction};
use crate::container::store::{self, Container, Entry};
use crate::container::{self, lifecycle};
use crate::kernel::process;
use crate::output;
use crate::state::Paths;
use crate::userns::{Identity, Mode};
use rustix::termios::Winsize;

/// Where the user's state is and what ids the user has.
pub struct Engine {
    /// State.
    pub paths: Paths,
    /// Ids.
    pub identity: Identity,
}

impl Engine {
    /// For one command.
    pub fn open(context: &Context) -> anyhow::Result<Self> {
        // Without /proc nothing else works either, and says so better.
        let _ = process::close_inherited();
        Ok(Self { paths: context.paths()?, identity: Identity::discover()? })
    }

    /// Tells once, ever, that there is a single id, and what would give more.
    pub fn mention_single_id(&self) {
        let Mode::Single { why } = &self.identity.mode else { return };
        let told = self.paths.data().join("single-id-told");
        let new = std::fs::OpenOptions::new().write(true).create_new(true).open(told);
        if new.is_ok() {
            output::note(&format!(
                "{why}: containers have a single id, root, and owners in images are only remembered; for more, an \
                 administrator can run: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER \
                 (said once; 'coracle doctor' repeats it)"
            ));
        }
    }

    /// Finishes what killed processes left. That it cannot be finished now is no reason to fail a command that is
    /// about something else.
    pub fn tidy(&self) {
        if let Err(error) = lifecycle::tidy(&self.paths, &self.identity) {
            output::warn(&format!("something left by a killed process could not be cleaned up: {error}"));
        }
    }

    /// The container that is meant. As in docker, which shows a container's name with a slash before it, one may be typed.
    pub fn find(&self, name: &str) -> Result<Container, container::Error> {
        store::find(&self.paths, name.strip_prefix('/').unwrap_or(name))
    }

    /// The containers that are meant. What is not found is an error of its own, after the others are done.
    pub fn select(&self, selection: &Selection) -> anyhow::Result<(Vec<Container>, Vec<container::Error>)> {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        if selection.all {
            for entry in store::list(&self.paths)? {
                match entry {
                    Entry::Whole(container) => found.push(*container),
                    Entry::Broken(_, error) => errors.push(error),
                }
            }
        }
        for name in &selection.names {
            match self.find(name) {
                Ok(container) => found.push(container),
                Err(error) if selection.ignore_missing && lifecycle::is_missing(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok((found, errors))
    }

    /// Does something to each of the containers meant, prints what it is called, and reports the errors at the end.
    pub fn each(
        &self,
        selection: &Selection,
        mut work: impl FnMut(&Container) -> Result<bool, container::Error>,
    ) -> anyhow::Result<u8> {
        let (containers, mut errors) = self.select(selection)?;
        for container in &containers {
            match work(container) {
                Ok(true) => output::print(&format!("{}\n", called(selection, &container.record)))?,
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        report_all(errors)
    }
}

/// What the user called a container: the name typed, or its id where all were meant.
fn called<'a>(selection: &'a Selection, record: &'a Record) -> &'a str {
    let typed = selection
        .names
        .iter()
        .find(|name| **name == record.name || record.id.as_str().starts_with(name.as_str()));
    typed.map_or(record.id.as_str(), String::as_str)
}

/// Reports all errors but the last, which becomes the command's.
pub fn report_all(mut errors: Vec<container::Error>) -> anyhow::Result<u8> {
    let Some(last) = errors.pop() else { return Ok(0) };
    for error in errors {
        super::report(&error.into());
    }
    Err(last.into())
}

/// The size of the user's terminal.
pub fn window() -> Option<Winsize> {
    use rustix::stdio::{stderr, stdin, stdout};
    let sizes = [stdin(), stdout(), stderr()].into_iter();
    sizes.filter_map(|fd| rustix::termios::tcgetwinsize(fd).ok()).find(|size| size.ws_row > 0)
}

/// Takes part in a session until it ends or is left; the exit code.
pub fn interact(client: Client, how: &Interaction) -> anyhow::Result<u8> {
    ending(client.interact(how)?)
}

/// Waits until the command of a session runs.
pub fn started(client: &mut Client) -> anyhow::Result<()> {
    match client.wait_started()? {
        None | Some(Ending::Exited(_)) => Ok(()),
        Some(other) => ending(other).map(drop),
    }
}

fn ending(ending: Ending) -> anyhow::Result<u8> {
    match ending {
        // Codes are 0 to 255, and 128 + a signal.
        Ending::Exited(code) => Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        Ending::Detached => Ok(0),
        Ending::Failed(failure) => Err(container::Error::from(failure).into()),
        Ending::Lost => Err(Error::usage(
            "the container's monitor was killed, and the container with it",
            "'coracle ps -a' shows what is left; 'coracle start' starts it again",
        )
        .into()),
    }
}
