//! End-to-end tests: the real program, run by an ordinary user, with real images.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

/// An engine whose containers can have a network, or the test ends here as skipped.
macro_rules! network {
    () => {{
        let engine = engine!();
        require!(
            std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok(),
            "/dev/net/tun cannot be opened"
        );
        require!(!engine.is_podman(), "podman's network needs a program of its own");
        engine
    }};
}

mod bad_input;
mod build;
mod build_cache;
mod build_contexts;
mod build_copy;
mod build_corpus;
mod build_flags;
mod build_output;
mod build_run;
mod build_stages;
mod commands;
mod committing;
mod concurrency;
mod copying;
mod counted;
mod exec;
mod flags;
mod image_commands;
mod images;
mod lifecycle;
mod limits;
mod login;
mod logs;
mod manifests;
mod mount_kinds;
mod mounts;
mod namespaces;
mod network;
mod network6;
mod network_endurance;
mod network_paths;
mod network_programs;
mod network_resolvers;
mod network_streams;
mod odd_images;
mod places;
mod process;
mod push;
mod real_images;
mod records;
mod recovery;
mod registries;
mod run;
mod selecting;
mod single_id;
mod terminal;
mod top;
mod user_networks;
mod userns;
mod volumes;
