//! How a build goes, told to who shows it.
//!
//! A step is what takes time: a base image, RUN, COPY, ADD, WORKDIR. Steps of several stages run side by side, so whatever
//! happens names its step.

use std::time::Duration;

/// What happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many steps there will be.
    Planned(usize),
    /// A step begins. They are counted from 1, in this order.
    Begun {
        /// Its number.
        step: usize,
        /// `[stage 2/5] RUN make`, with whatever characters the Dockerfile has.
        name: &'a str,
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

/// Who is told.
pub trait Progress {
    /// Something has happened.
    fn on(&mut self, event: Event<'_>);

    /// How often it wants a [`Event::Tick`] where nothing else happens.
    fn period(&self) -> Option<Duration> {
        None
    }
}
