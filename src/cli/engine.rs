//! What several commands share: the user's state and identity, talking to a session, doing a thing to each of several
//! containers.

use super::args::Given;
use super::filter::Filter;
use super::selection::Selection;
use super::{Context, Error, parse};
use crate::container::session::{Client, Ending, Interaction};
use crate::container::store::{self, Container, Entry};
use crate::container::{self, lifecycle};
use crate::kernel::process;
use crate::output;
use crate::state::Paths;
use crate::userns::{Identity, Mode};
use clap::ArgMatches;
use rustix::termios::Winsize;
use std::io::IsTerminal;
use std::time::SystemTime;

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
        Self::open_keeping(context, &[])
    }

    /// For a command that hands descriptors on: these stay open.
    pub fn open_keeping(context: &Context, descriptors: &[i32]) -> anyhow::Result<Self> {
        // Without /proc nothing else works either, and says so better.
        let _ = process::close_inherited(descriptors);
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

    /// What the containers that are meant are called: as typed, or by their ids, the newest first.
    pub fn names(&self, selection: &Selection) -> anyhow::Result<Vec<String>> {
        if selection.latest {
            return Ok(vec![self.latest()?.record.id.to_string()]);
        }
        if !selection.all && selection.filters.is_empty() {
            return Ok(selection.names.clone());
        }
        let (mut whole, mut broken) = (Vec::new(), Vec::new());
        for entry in store::list(&self.paths)? {
            match entry {
                Entry::Whole(container) => whole.push(*container),
                Entry::Broken(id, _) => broken.push(id.to_string()),
            }
        }
        let filter = Filter::new(self, &selection.filters, &whole, SystemTime::now())?;
        let chosen = whole.iter().filter(|c| filter.accepts(c)).map(|c| c.record.id.to_string());
        // What cannot be read passes no filter.
        Ok(chosen.chain(broken.into_iter().filter(|_| selection.filters.is_empty())).collect())
    }

    /// The container that was made last.
    pub fn latest(&self) -> anyhow::Result<Container> {
        let whole = |entry| match entry {
            Entry::Whole(container) => Some(*container),
            Entry::Broken(..) => None,
        };
        let found = store::list(&self.paths)?.into_iter().find_map(whole);
        Ok(found.ok_or_else(|| Error::usage("there is no container", "'coracle create' makes one"))?)
    }

    /// The container meant where there can be only one: by its name, or `--latest`.
    pub fn one(&self, selection: &Selection) -> anyhow::Result<Container> {
        match &selection.names[..] {
            [] if selection.latest => self.latest(),
            [name] => Ok(self.find(name)?),
            _ => Err(Error::usage("more than one container named", "name one").into()),
        }
    }

    /// Does something to each of the containers meant, and prints what it is called if that says so. One that fails
    /// does not keep the others from it: the errors are returned.
    pub fn each(
        &self,
        selection: &Selection,
        mut work: impl FnMut(&Container) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Vec<anyhow::Error>> {
        let mut errors = Vec::new();
        for name in self.names(selection)? {
            match self.find(&name).map_err(Into::into).and_then(|container| work(&container)) {
                Ok(true) => output::print(&format!("{name}\n"))?,
                Ok(false) => {}
                // Of all, one may have gone meanwhile.
                Err(error) if selection.may_miss() && is_missing(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok(errors)
    }
}

/// The descriptors that `--preserve-fds` and `--preserve-fd` name; each has to be open.
pub fn preserve_fds(args: &ArgMatches) -> Result<Vec<i32>, Error> {
    let count = args.parsed("preserve-fds", |text| match text.parse::<i32>() {
        Ok(count) if (0..1 << 16).contains(&count) => Ok(count),
        _ => Err(parse::Invalid::new("expected how many")),
    })?;
    let mut numbers: Vec<i32> = (3..3 + count.unwrap_or(0)).collect();
    let lists = args.each("preserve-fd", |text| {
        let number = |n: &str| n.trim().parse::<i32>().ok().filter(|n| *n > 2);
        let numbers: Option<Vec<i32>> = text.split(',').map(number).collect();
        numbers.ok_or_else(|| parse::Invalid::new("expected numbers from 3 on, separated by commas"))
    })?;
    numbers.extend(lists.concat());
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.iter().find(|number| !process::is_inherited(**number)) {
        None => Ok(numbers),
        Some(closed) => Err(Error::usage(
            format!("file descriptor {closed} is not open"),
            format!("open it in the shell: add {closed}<FILE to the end of the command line"),
        )),
    }
}

/// Whether an error says that there is no such container.
pub fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(lifecycle::is_missing)
}

/// Reports errors; the command's exit code.
pub fn report_all(errors: &[anyhow::Error]) -> u8 {
    errors.iter().map(super::report).max().unwrap_or(0)
}

/// The size of the user's terminal.
pub fn window() -> Option<Winsize> {
    use rustix::stdio::{stderr, stdin, stdout};
    let sizes = [stdin(), stdout(), stderr()].into_iter();
    sizes.filter_map(|fd| rustix::termios::tcgetwinsize(fd).ok()).find(|size| size.ws_row > 0)
}

/// Takes part in a session until it ends or is left; the exit code.
pub fn interact(client: Client, how: &Interaction) -> anyhow::Result<u8> {
    if how.terminal && how.stdin && !std::io::stdin().is_terminal() {
        output::warn("standard input is no terminal: -t and -i may not work together as expected");
    }
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
