//! coracle: a daemonless, rootless container CLI in one binary.
//!
//! The rooms below depend downwards only, in the order in which they are listed (`tests/layering.rs` checks it).
//! Each room's `mod.rs` is its door: what it is for, how it works, what it must never do.

pub mod cli;
pub mod output;

pub mod build;

pub mod container;

pub mod network;

pub mod volume;

pub mod image;

pub mod registry;

pub mod layers;

pub mod union;

pub mod sandbox;

pub mod userns;

pub mod state;

pub mod rooted_fs;

pub mod netlink;

#[allow(unsafe_code)]
pub mod kernel;

pub mod diagnose;
pub mod digest;
pub mod timestamp;
