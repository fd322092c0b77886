//! An engine to hurt, and what must be true of it afterwards.

use crate::injector::{Fault, Traced, WRAPPER, Watch, trace};
use crate::support::image::{Image, Layer};
use crate::support::registry::Registry;
use crate::support::{Engine, Output, run, tiny};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An engine of its own with the tiny image, a registry with another one, and what its folders look like at rest.
pub struct World {
    pub engine: Engine,
    /// Kept alive; it serves [`World::other`].
    _registry: Registry,
    /// The reference of an image of two layers that is not in the store.
    pub other: String,
    /// The same as an archive.
    pub archive: String,
    at_rest: BTreeSet<PathBuf>,
    /// Cgroups that others have left.
    groups: BTreeSet<PathBuf>,
    has_image_prune: bool,
}

impl World {
    pub fn new() -> Result<Self, String> {
        let engine = Engine::with_registry()?;
        let registry = Registry::start();
        let image = Image::tiny_with(vec![
            Layer::new()
                .file("etc/mark", b"whole\n", 0o644)
                .dir("data", 0o755)
                .symlink("data/l", "../etc/mark"),
        ]);
        let other = engine.add(&registry, "other", &image);
        let archive = engine.scratch().join("other.tar").to_str().unwrap().to_owned();
        fs::write(&archive, image.docker_archive("archived.test/other:1")).unwrap();
        let mut world = Self {
            engine,
            _registry: registry,
            other,
            archive,
            at_rest: BTreeSet::new(),
            groups: empty_cgroups(),
            has_image_prune: false,
        };
        world.has_image_prune = world.engine.run(&["image", "prune", "--help"]).code == 0;
        // Everything once, so that folders that stay are there.
        world.engine.ok(&["pull", "-q", &world.other]);
        world.engine.ok(&[
            "create",
            "--network",
            "none",
            "-v",
            "vol:/v",
            "-v",
            "/anonymous",
            &tiny(),
            "true",
        ]);
        world.engine.ok(&["run", "--network", "none", &tiny(), "true"]);
        world.engine.ok(&["tag", &tiny(), "another.test/name"]);
        world.engine.ok(&["rmi", "another.test/name"]);
        world.clean();
        let end = Instant::now() + Duration::from_secs(10);
        while !world.is_settled() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        world.at_rest = world.listing();
        Ok(world)
    }

    /// Runs a command with a fault.
    pub fn trace<'a>(&self, args: &[&str], fault: Fault<'a>, watch: Option<Watch<'a>>) -> (Traced, String) {
        let program = PathBuf::from(self.engine.command(&[]).get_program());
        let mut command = self.engine.wrapped(&WRAPPER, args);
        let path = self.engine.scratch().join("output");
        let file = fs::File::create(&path).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let traced = trace(command, program, fault, watch);
        (traced, fs::read_to_string(path).unwrap_or_default())
    }

    /// The layers are durable and nobody works in the background.
    pub fn is_settled(&self) -> bool {
        let states = fs::read_dir(self.engine.data().join("layers")).into_iter().flatten().flatten();
        let mut states = states.filter_map(|layer| fs::read_to_string(layer.path().join("state")).ok());
        states.all(|state| state.contains("\"durable\":true"))
            && fs::read_dir(self.engine.data().join("trash")).is_ok_and(|mut trash| trash.next().is_none())
    }

    /// Whether a path is in one of the roots.
    pub fn is_ours(&self, path: &str) -> bool {
        Path::new(path).starts_with(self.engine.data()) || Path::new(path).starts_with(self.engine.run_root())
    }

    /// Removes everything but the tiny image. All of it must work.
    #[track_caller]
    pub fn clean(&self) {
        self.engine.ok(&["rm", "-f", "-a", "-t", "0"]);
        self.engine.ok(&["volume", "prune", "-f", "-a"]);
        for name in [&self.other[..], "archived.test/other:1", "other.test/tag:1", "localhost/made"] {
            let gone = self.engine.run(&["rmi", "-f", name]);
            assert!(gone.code == 0 || gone.stderr.contains("no such image"), "{gone}");
        }
        if self.has_image_prune {
            self.engine.ok(&["image", "prune", "-f"]);
        }
        if !self.engine.is_podman() {
            self.engine.ok(&["builder", "prune", "-a", "-f"]);
        }
    }

    /// What every command must be able to do, whatever happened before, and that nothing is left then.
    #[track_caller]
    pub fn must_be_sound(&self, processes: &[i32]) {
        let sane = |output: Output| {
            assert!(output.code == 0, "{output}");
            assert!(!output.stderr.contains("panicked") && !output.stderr.contains("Warning"), "{output}");
            output.stdout
        };
        sane(self.engine.run(&["ps", "-a"]));
        sane(self.engine.run(&["images", "-a"]));
        sane(self.engine.run(&["volume", "ls"]));
        for name in self.engine.ok(&["ps", "--format", "{{.Names}}"]).lines() {
            let output = self.engine.run(&["exec", name, "true"]);
            // It may end at this moment, but not be half alive.
            assert!(output.code == 0 || output.stderr.contains("not running"), "{output}");
        }
        for name in self.engine.names() {
            self.engine.ok(&["inspect", &name]);
        }
        // From the registry if it is not there.
        let args = ["run", "--rm", "-q", "--network", "none", "--name", "probe", &tiny(), "echo", "sound"];
        assert_eq!(self.engine.ok(&args), "sound");
        let args = ["run", "--rm", "-q", "--network", "none", &self.other, "cat", "/data/l"];
        assert_eq!(self.engine.ok(&args), "whole");
        sane(self.engine.run(&["store", "verify"]));
        self.clean();
        assert!(self.engine.names().is_empty());
        self.nothing_is_left(processes);
    }

    #[track_caller]
    fn nothing_is_left(&self, processes: &[i32]) {
        // A network's process ends ten seconds after it was started if whoever did that is dead by then.
        let end = Instant::now() + Duration::from_secs(15);
        // Other tests' containers come and go meanwhile: only what stays is left.
        let mut groups: BTreeSet<PathBuf> = empty_cgroups().difference(&self.groups).cloned().collect();
        loop {
            let extra: Vec<PathBuf> = self.listing().difference(&self.at_rest).cloned().collect();
            let alive: Vec<i32> = processes.iter().copied().filter(|pid| is_alive(*pid)).collect();
            if !groups.is_empty() {
                groups = groups.intersection(&empty_cgroups()).cloned().collect();
            }
            if extra.is_empty() && alive.is_empty() && groups.is_empty() {
                break;
            }
            if Instant::now() > end {
                let command =
                    |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let alive: Vec<_> = alive.iter().map(|pid| (pid, command(pid))).collect();
                panic!("left behind: files {extra:?}, processes {alive:?}, cgroups {groups:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let roots = [self.engine.data(), self.engine.run_root()].map(|root| root.to_str().unwrap());
        // Others on this machine may mount what they like.
        let left: Vec<_> =
            mounts.lines().filter(|line| roots.iter().any(|root| line.contains(root))).collect();
        assert!(left.is_empty(), "mounts were left: {left:?}");
        let locked = self.locked();
        assert!(locked.is_empty(), "locks were left: {locked:?}");
    }

    /// Files of ours that somebody has locked (proc_locks(5)).
    fn locked(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/locks").unwrap_or_default();
        let inodes: BTreeSet<u64> = text
            .lines()
            .filter_map(|line| line.split_whitespace().find(|w| w.matches(':').count() == 2))
            .filter_map(|word| word.rsplit(':').next()?.parse().ok())
            .collect();
        let is_locked = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| inodes.contains(&m.ino()));
        let mut files = Vec::new();
        for folder in [self.engine.data().join("locks"), self.engine.run_root().join("containers")] {
            walk(&folder, 2, &mut |path| files.push(path.to_owned()));
        }
        files.into_iter().filter(is_locked).collect()
    }

    /// All that is in both roots, without the files of layers.
    fn listing(&self) -> BTreeSet<PathBuf> {
        let mut paths = BTreeSet::new();
        for root in [self.engine.data(), self.engine.run_root()] {
            walk(root, 4, &mut |path| {
                paths.insert(path.to_owned());
            });
        }
        if !self.has_image_prune {
            // Nothing removes layers and blobs of an image that never came to be.
            paths.retain(|path| {
                !["layers", "blobs"].iter().any(|dir| path.starts_with(self.engine.data().join(dir)))
            });
        }
        for name in [
            "build-cache",
            "build-cache/steps",
            "build-cache/.contents.lock",
            "locks/builds",
            "images/lists",
            "locks/lists",
        ] {
            paths.remove(&self.engine.data().join(name));
        }
        // What a network has while the machine runs. The address of a container that was killed with its monitor is taken over
        // from the dead.
        let networks = self.engine.run_root().join("networks");
        paths.retain(|path| !path.starts_with(&networks));
        // Where a running process's namespace can be joined: whoever ran last has left it.
        for name in ["userns.json", "userns.lock"] {
            paths.remove(&self.engine.run_root().join(name));
        }
        paths
    }
}

/// Containers' cgroups in which nobody is, near our own.
fn empty_cgroups() -> BTreeSet<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = BTreeSet::new();
    if let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) {
        let own = Path::new("/sys/fs/cgroup").join(own);
        // Whoever shares its cgroup with containers is moved to a leaf of it.
        let own = if own.ends_with("init") { own.parent().unwrap() } else { &own };
        walk(own, 3, &mut |path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let has_id = name.split(|c: char| !c.is_ascii_hexdigit()).any(|part| part.len() == 64);
            let events = fs::read_to_string(path.join("cgroup.events")).unwrap_or_default();
            if has_id && events.contains("populated 0") {
                found.insert(path.to_owned());
            }
        });
    }
    found
}

/// Removes the cgroups of the container with this id, deepest first.
pub fn remove_cgroups(id: &str) {
    for path in empty_cgroups().iter().rev().filter(|path| path.to_string_lossy().contains(id)) {
        let _ = fs::remove_dir(path);
    }
}

pub fn walk(folder: &Path, depth: usize, see: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        see(&entry.path());
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_folder && depth > 1 && entry.file_name() != "fs" {
            walk(&entry.path(), depth - 1, see);
        }
    }
}

pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // No process, or a zombie that nobody has collected yet.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Runs a command of the host in the user's namespace: what containers own can be touched there.
#[track_caller]
pub fn as_root(engine: &Engine, args: &[&str]) -> String {
    let mut words = vec!["unshare"];
    words.extend(args);
    run(engine.command(&words)).ok()
}
