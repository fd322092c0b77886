//! How a build goes, told to who shows it.
//!
//! A step is what takes time: a base image, RUN, COPY, ADD, WORKDIR; and what is done before and between these and
//! afterwards ([`StepKind::Around`]), which BuildKit shows as steps, too. Steps of several stages run side by side, so
//! whatever happens names its step.

use std::fmt::Display;
use std::time::Duration;

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StepKind {
    /// One that the Dockerfile asks for.
    Instruction,
    /// What that takes: a context that is fetched or read, an image that is written. None of those that are
    /// [planned](Event::Planned).
    Around,
}

/// What happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many steps there will be.
    Planned(usize),
    /// What a step is doing, as a line of ours.
    Note {
        /// Its number.
        step: usize,
        /// `naming to r.io/a:1`
        text: &'a str,
        /// Of so many bytes.
        bytes: Option<u64>,
    },
    /// It says something.
    Output {
        /// Its number.
        step: usize,
        /// On standard error.
        is_error: bool,
        /// What; in pieces as they come.
        bytes: &'a [u8],
    },
    /// Something went wrong that costs time only.
    Warning(&'a str),
    /// It is over.
    Ended {
        /// Its number.
        step: usize,
        /// How it went.
        outcome: &'a Outcome,
    },
    /// Time goes by.
    Tick,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// An earlier build has done it, or another one beside this one.
    Cached,
    /// It was carried out.
    Done,
    /// It failed, for this reason.
    Failed(String),
    /// The build was over before it was.
    Canceled,
}

impl Outcome {
    /// Of work that is no instruction's.
    pub fn of<T, E: Display>(done: &Result<T, E>) -> Self {
        done.as_ref().map_or_else(|error| Self::Failed(error.to_string()), |_| Self::Done)
    }
}

/// Who is told.
pub trait Progress {
    /// A step begins. Its number is given: they are counted from 1, in this order. The name, `[stage 2/5] RUN make`, has whatever
    /// characters the Dockerfile has.
    fn begin(&mut self, kind: StepKind, name: &str) -> usize;

    /// Something has happened.
    fn on(&mut self, event: Event<'_>);

    /// Another process is about to write lines about a step itself: what goes before each of them.
    fn hand_over(&mut self, step: usize) -> String;

    /// How often it wants a [`Event::Tick`] where nothing else happens.
    fn period(&self) -> Option<Duration> {
        None
    }
}

/// Does work that is a step of its own, none of the Dockerfile's. It is given the step's number.
pub fn around<T, E: Display>(
    progress: &mut dyn Progress,
    name: &str,
    work: impl FnOnce(&mut dyn Progress, usize) -> Result<T, E>,
) -> Result<T, E> {
    let step = progress.begin(StepKind::Around, name);
    let done = work(progress, step);
    progress.on(Event::Ended { step, outcome: &Outcome::of(&done) });
    done
}
