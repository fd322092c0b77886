//! Security tests: each fails without the defence that it is for. The modules name the rows of SECURITY.
//!
//! What an attack would touch is a *victim*: a folder of the host that was never handed in. The engine runs as the
//! user who owns it, and root in a container is that user, so nothing but the defence stands in between.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod archives;
mod attack;
mod binary;
mod bombs;
mod build_copies;
mod building;
mod cell;
mod copying;
mod credentials;
mod descriptors;
mod files;
mod inherited;
#[cfg(target_arch = "x86_64")]
#[allow(dead_code, reason = "the fault tests use more of it")]
#[path = "../faults/injector.rs"]
mod injector;
mod joining;
mod masks;
mod names;
mod namespaces;
mod overwriting;
mod paths;
mod peers;
mod privileges;
mod races;
mod recovery;
mod rootfs;
mod settings;
mod sharing;
mod single_id;
mod state;
#[cfg(target_arch = "x86_64")] // The injector reads this machine's registers.
mod swapped;
mod terminals;
mod transfer;
mod uncovering;
mod watching;

use support::{Engine, Output, image, registry::Registry};

/// A folder of the host with a file in it that no container may read or change.
struct Victim {
    path: String,
}

const SECRET: &str = "never handed in";

impl Victim {
    fn new(engine: &Engine) -> Self {
        let path = engine.folder("victim");
        engine.file("victim/secret", SECRET);
        Self { path }
    }

    /// Path of something in it.
    fn join(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names: Vec<String> = std::fs::read_dir(&self.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["secret"], "something was made or removed in the victim");
        assert_eq!(std::fs::read_to_string(self.join("secret")).unwrap(), SECRET);
    }
}

/// Runs a shell script in an image, which the engine pulls from a registry of the test's own.
fn run_image(engine: &Engine, image: &image::Image, flags: &[&str], script: &str) -> Output {
    let registry = Registry::start();
    let reference = engine.add(&registry, "hostile", image);
    let mut args = vec!["run", "--rm", "-q", "--network", "none"];
    args.extend(flags);
    args.extend([&reference, "sh", "-c", script]);
    engine.run(&args)
}

/// The fields of the calling process's status that say what it may do.
const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status";
