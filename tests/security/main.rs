//! Security tests: each fails without the defence that it names (the rows of SECURITY).
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
