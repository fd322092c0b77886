//! `coracle build`: a Dockerfile in, an image out.
//!
//! ```text
//! dockerfile ──> graph: which stages, on what ──> builder: stages side by side, their steps one after the other
//!                                                  ├ metadata: what changes the config alone
//!                                                  ├ sources, fetch, selection, transfer: COPY and ADD
//!                                                  ├ run: RUN, in a container, with mounts
//!                                                  ├ cache: key ──> layer
//!                                                  └ output: the image, and where it goes
//! ```
//!
//! [`dockerfile`] reads the language, [`ignore`] says which files of the context are left out, [`lint`] finds what
//! is allowed and unwise, [`outline`] what a build can be given. These are pure: text in, values out, no file is opened. [`context`] digests what a build
//! may copy.
//!
//! A step's key is a digest over what it does and all that it sees: the layers below it, its environment, the content of
//! what it copies. So a step that is in the cache is one look-up, and a step below which nothing changed in effect is
//! found again whatever happened on the way. Whatever touches layers happens in a child that is root of the user's
//! namespace and gives back a digest or an error; the processes of stages stay outside, where containers are started from.
//! How it goes is told to a [`progress::Progress`].
//! What a killed build leaves is what killed commits and containers leave, and goes the same way.

mod builder;
pub mod cache;
mod chmod;
pub mod context;
pub mod dockerfile;
mod error;
pub mod fetch;
mod graph;
pub mod ignore;
mod job;
pub mod lint;
mod metadata;
mod mounts;
mod named;
pub mod outline;
pub mod output;
pub mod progress;
mod run;
mod selection;
mod shared_network;
mod sources;
mod transfer;

pub use builder::{BuildOptions, Built, RunOptions, build};
pub use error::Error;
pub use graph::{Graph, Needed, plan};
pub use job::Keeper;
pub use mounts::secret::SecretSource;
pub use named::{Contexts, Named};
