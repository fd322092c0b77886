//! End-to-end tests: the real program, run by an ordinary user, with real images.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod run;
