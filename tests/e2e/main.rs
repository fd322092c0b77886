//! End-to-end tests: the real program, run by an ordinary user, with real images.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod commands;
mod concurrency;
mod copying;
mod counted;
mod exec;
mod flags;
mod image_commands;
mod images;
mod lifecycle;
mod limits;
mod logs;
mod mount_kinds;
mod mounts;
mod namespaces;
mod network;
mod odd_images;
mod places;
mod process;
mod real_images;
mod records;
mod recovery;
mod registries;
mod run;
mod selecting;
mod single_id;
mod terminal;
mod top;
mod userns;
mod volumes;
