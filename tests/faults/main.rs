//! Nothing is lost under faults: each command is stopped at each system call by which it changes something, and made to
//! fail at each; the disk is full, the power goes. After each, all commands work and nothing is left.
//!
//! [`injector`] says how a fault is made, [`world`] what must be true after it. `CORACLE_TEST_FAULTS=all` tries each
//! point (`tests/run faults`); without it a bounded number of each command's, and the number is printed.
#![cfg(target_arch = "x86_64")] // The injector reads this machine's registers.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

/// A world to hurt, or the test ends here as skipped.
macro_rules! world {
    () => {
        match $crate::world::World::new() {
            Ok(world) => world,
            Err(why) => return $crate::support::skip(&why),
        }
    };
}

mod builds;
mod errors;
mod full_disk;
mod injector;
mod kills;
mod power;
mod world;
