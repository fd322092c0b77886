//! An engine with an image of its own, a place on the host that nobody inside may reach, and a way to attack.

use crate::support::image::{Image, Layer};
use crate::support::{Engine, Output, Running};
use std::path::{Path, PathBuf};

/// What only the host has.
pub const CANARY: &str = "canary-of-the-host";
/// The image that every cell has.
pub const TINY: &str = "cell.test/tiny:1";

/// See the module's description.
pub struct Cell {
    pub engine: Engine,
}

impl Cell {
    pub fn new() -> Self {
        let cell = Self { engine: Engine::new() };
        cell.load(TINY, &Image::tiny_with(vec![]));
        cell.engine.file("host/canary", CANARY);
        cell.engine.folder("host/folder");
        cell
    }

    /// Makes an image of the store.
    pub fn load(&self, name: &str, image: &Image) {
        self.engine.run_with_input(&["load", "-q"], &image.docker_archive(name)).ok();
    }

    /// The tiny image with one more layer.
    pub fn load_layer(&self, name: &str, layer: Layer) {
        self.load(name, &Image::tiny_with(vec![layer]));
    }

    /// A folder of the host with the canary in it.
    pub fn host(&self) -> PathBuf {
        self.engine.scratch().join("host")
    }

    /// Makes sure that nothing has been made or changed in it.
    #[track_caller]
    pub fn host_is_as_it_was(&self) {
        let mut names: Vec<String> = walk(&self.host())
            .iter()
            .map(|p| p.strip_prefix(self.host()).unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["", "canary", "folder"]);
        assert_eq!(std::fs::read_to_string(self.host().join("canary")).unwrap(), CANARY);
    }

    /// `run --rm` of a script in this image.
    #[track_caller]
    pub fn run(&self, image: &str, flags: &[&str], script: &str) -> Output {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([image, "sh", "-c", script]);
        self.engine.run(&args)
    }

    /// `run --rm` of a script in the tiny image; what it printed.
    #[track_caller]
    pub fn sh(&self, flags: &[&str], script: &str) -> String {
        self.run(TINY, flags, script).ok()
    }

    /// Starts a container with a script under this name, detached.
    #[track_caller]
    pub fn start(&self, name: &str, flags: &[&str], script: &str) {
        let mut args = vec!["run", "-d", "--network", "none", "--name", name];
        args.extend(flags);
        args.extend([TINY, "sh", "-c", script]);
        self.engine.ok(&args);
    }

    /// The flags with which a container has the attacker in it.
    pub fn armed<'a>(&self, flags: &[&'a str], mount: &'a str) -> Vec<&'a str> {
        let mut all = vec!["-v", mount, "-e", "RUST_BACKTRACE=0"];
        all.extend(flags);
        all
    }

    /// The value of `-v` that brings the attacker in.
    pub fn weapon() -> String {
        format!("{}:/attack:ro", std::env::current_exe().unwrap().display())
    }

    /// The command line that starts an attack ([`crate::attack`]) in a container with the weapon.
    pub fn attack_line(what: &str) -> String {
        format!("ATTACK='{what}' exec /attack --exact attack::{} --nocapture --test-threads=1", ENTRY)
    }

    /// `run --rm` of an attack; what it found.
    #[track_caller]
    pub fn attack(&self, flags: &[&str], what: &str) -> Vec<String> {
        let weapon = Self::weapon();
        findings(&self.run(TINY, &self.armed(flags, &weapon), &Self::attack_line(what)).ok())
    }

    /// Starts an attack in a container of this name, detached; returns once it has begun.
    #[track_caller]
    pub fn start_attack(&self, name: &str, flags: &[&str], what: &str) {
        let weapon = Self::weapon();
        self.start(name, &self.armed(flags, &weapon), &Self::attack_line(what));
        crate::support::eventually("the attack begins", || {
            self.engine.run(&["logs", name]).stdout.contains(crate::attack::BEGUN)
        });
    }

    /// What an attack that was started has found so far.
    #[track_caller]
    pub fn found(&self, name: &str) -> Vec<String> {
        findings(&self.engine.ok(&["logs", name]))
    }

    /// The command with these arguments, started by a shell that does something before.
    pub fn after(&self, preparation: &str, args: &[&str]) -> Running {
        let script = format!("{preparation}; exec \"$@\"");
        Running::start(self.engine.wrapped(&["bash", "-c", &script, "bash"], args), b"")
    }
}

const ENTRY: &str = "inside_a_container_this_program_attacks";

/// What an attack says in its output.
pub fn findings(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| Some(line.split_once(crate::attack::FOUND)?.1.to_owned())).collect()
}

/// A folder and everything below it that this user may see, links not followed.
pub fn walk(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let is_folder = std::fs::symlink_metadata(top).is_ok_and(|meta| meta.is_dir());
    if is_folder && let Ok(entries) = std::fs::read_dir(top) {
        for entry in entries.flatten() {
            all.extend(walk(&entry.path()));
        }
    }
    all
}

/// The process that keeps a container: its parent.
pub fn monitor_of(engine: &Engine, name: &str) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine.pid_of(name))).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether a process is there and not only a zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// Ends a process at once.
pub fn kill_9(pid: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}
