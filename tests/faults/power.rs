//! The power goes: all processes are gone at once, the boot id is another, the run root is empty, and of what was written
//! only what was synced is sure to be there.
//!
//! A file system may keep anything between two extremes, and both are made here of what the trace saw:
//!
//! * *late data*: all names are there, and of files that were written and not synced since (fsync(2), fdatasync(2) of the
//!   file, syncfs(2)) nothing but the name, as with delayed allocation;
//! * *early names*: everything is as it was when something was synced last, and of files that were not synced by then
//!   nothing but the name.

use crate::builds::Build;
use crate::injector::{Action, Call, Fault};
use crate::kills::{SLEEP, check, nothing, sample};
use crate::support::{Engine, tiny};
use crate::world::{World, as_root};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What would be lost now.
struct Disk<'a> {
    engine: &'a Engine,
    /// Inodes of files with data that is nowhere but in memory.
    unsynced: BTreeSet<u64>,
    /// When all was synced last: what containers write is not traced, and is as new as its files say.
    all_synced: SystemTime,
    /// The data root when something was synced last, if anything was.
    synced: PathBuf,
    keeps_synced: bool,
}

impl<'a> Disk<'a> {
    fn new(engine: &'a Engine, keeps_synced: bool) -> Self {
        let disk = Self {
            engine,
            unsynced: BTreeSet::new(),
            all_synced: SystemTime::now(),
            synced: engine.scratch().join("synced"),
            keeps_synced,
        };
        if keeps_synced {
            disk.keep();
        }
        disk
    }

    /// After each call that succeeded.
    fn saw(&mut self, call: &Call, pid: Pid, args: [u64; 6]) {
        let inode = |at: usize| fs::metadata(format!("/proc/{pid}/fd/{}", args[at])).ok().map(|m| m.ino());
        match call.name {
            "write" | "writev" | "pwrite64" | "ftruncate"
                if Path::new(&call.path).starts_with(self.engine.data()) =>
            {
                self.unsynced.extend(inode(0));
            }
            "copy_file_range" => self.unsynced.extend(inode(2)),
            "fsync" | "fdatasync" => {
                if let Some(inode) = inode(0) {
                    self.unsynced.remove(&inode);
                }
                self.keep();
            }
            "syncfs" => {
                self.unsynced.clear();
                self.all_synced = SystemTime::now();
                self.keep();
            }
            _ => {}
        }
    }

    fn keep(&self) {
        if self.keeps_synced {
            let (from, to) = (self.engine.data().to_str().unwrap(), self.synced.to_str().unwrap());
            as_root(self.engine, &["sh", "-c", "rm -rf \"$1\" && cp -a \"$0\" \"$1\"", from, to]);
            tear(self.engine, &self.synced, &self.paths_of_unsynced());
        }
    }

    fn paths_of_unsynced(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let synced = self.all_synced.duration_since(UNIX_EPOCH).unwrap();
        let synced = (i64::try_from(synced.as_secs()).unwrap(), i64::from(synced.subsec_nanos()));
        let mut folders = vec![self.engine.data().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                let inside = path.strip_prefix(self.engine.data()).unwrap();
                let is_containers = inside
                    .components()
                    .any(|part| ["fs", "upper"].map(OsStr::new).contains(&part.as_os_str()));
                let is_torn = self.unsynced.contains(&meta.ino())
                    || (is_containers && (meta.ctime(), meta.ctime_nsec()) > synced);
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.is_file() && is_torn {
                    paths.push(inside.to_owned());
                }
            }
        }
        paths
    }

    /// Makes the data root what the next boot finds, and the run root what it is then.
    fn reboot(self) {
        let data = self.engine.data().to_str().unwrap();
        if self.keeps_synced {
            let script = "cd \"$0\" && find . -mindepth 1 -delete && cp -a \"$1\"/. .";
            as_root(self.engine, &["sh", "-c", script, data, self.synced.to_str().unwrap()]);
        } else {
            let torn = self.paths_of_unsynced();
            tear(self.engine, self.engine.data(), &torn);
        }
        // Whatever says that it is of this boot is of an earlier one now.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let script = "grep -rlF \"$1\" \"$0\"/layers/*/state \"$0\"/layers/shifted \"$0\"/containers 2>/dev/null | \
                      xargs -r sed -i \"s/$1/00000000-0000-4000-8000-000000000000/\"";
        as_root(self.engine, &["sh", "-c", script, data, boot.trim()]);
        // There are no cgroups after a boot.
        for entry in fs::read_dir(self.engine.run_root().join("containers")).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            crate::world::remove_cgroups(name.trim_start_matches(".gone-").split('.').next().unwrap());
        }
        let run = self.engine.run_root().to_str().unwrap();
        as_root(self.engine, &["find", run, "-mindepth", "1", "-delete"]);
    }
}

/// Leaves nothing but the names of files.
fn tear(engine: &Engine, root: &Path, files: &[PathBuf]) {
    let mut words = vec!["truncate".to_owned(), "-s".into(), "0".into()];
    words.extend(files.iter().map(|file| root.join(file).to_str().unwrap().to_owned()));
    if !files.is_empty() {
        as_root(engine, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Cuts the power at points of `args`, under both extremes; and after its end, when `kept` must hold.
fn matrix(world: World, args: &[&str], prepare: impl Fn(&World), kept: impl Fn(&World)) {
    matrix_and(world, args, prepare, kept, nothing);
}

/// The same, and `next` has to work after each cut.
fn matrix_and(
    world: World,
    args: &[&str],
    prepare: impl Fn(&World),
    kept: impl Fn(&World),
    next: impl Fn(&World),
) {
    let mut calls = Vec::new();
    for keeps_synced in [false, true] {
        prepare(&world);
        settle(&world);
        let mut disk = Disk::new(&world.engine, keeps_synced);
        let (traced, output) =
            world.trace(args, Fault::None, Some(&mut |call, pid, args| disk.saw(call, pid, args)));
        assert_eq!(traced.code, 0, "{args:?}: {output}");
        kill(&world, &traced.processes);
        disk.reboot();
        kept(&world);
        next(&world);
        world.must_be_sound(&traced.processes);
        calls = traced.calls;
    }
    let points = sample(&calls);
    check(world, "power cuts", args, calls.len(), &points, |world, call| {
        let mut hit = false;
        for keeps_synced in [false, true] {
            prepare(world);
            settle(world);
            let mut disk = Disk::new(&world.engine, keeps_synced);
            let fault = Fault::At(&call.point, Action::KillAll);
            let (traced, _) =
                world.trace(args, fault, Some(&mut |call, pid, args| disk.saw(call, pid, args)));
            kill(world, &traced.processes);
            disk.reboot();
            next(world);
            world.must_be_sound(&traced.processes);
            hit |= traced.hit;
        }
        hit
    });
}

/// What was there before has long reached the disk.
fn settle(world: &World) {
    crate::support::eventually("the layers are durable", || world.is_settled());
}

fn kill(world: &World, processes: &[i32]) {
    for pid in processes {
        let _ = nix::sys::signal::kill(Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
    }
    crate::support::eventually("all are dead", || !processes.iter().any(|pid| crate::world::is_alive(*pid)));
    drop(world.engine.run(&["version"]));
}

#[test]
fn a_created_container_is_there_with_its_name_and_volume() {
    let image = tiny();
    let args = ["create", "--network", "none", "--name", "victim", "-v", "vol:/v", &image, "sh", "-c", SLEEP];
    matrix(world!(), &args, nothing, |world| {
        world.engine.ok(&["start", "victim"]);
        assert_eq!(world.engine.ok(&["volume", "ls", "-q"]), "vol");
    });
}

#[test]
fn a_container_that_ran_has_ended_and_can_be_started() {
    let image = tiny();
    let args = ["run", "-d", "--network", "none", "--name", "victim", &image, "sh", "-c", SLEEP];
    matrix(world!(), &args, nothing, |world| {
        assert_eq!(world.engine.inspect("victim", "{{.State.Status}}"), "exited");
        assert_eq!(world.engine.ok(&["ps", "-q"]), "");
        world.engine.ok(&["start", "victim"]);
        assert_eq!(world.engine.inspect("victim", "{{.State.Status}}"), "running");
    });
}

#[test]
fn of_a_container_that_is_removed_at_its_end_nothing_is_left() {
    let image = tiny();
    let args =
        ["run", "-d", "--rm", "--network", "none", "--name", "victim", "-v", "/a", &image, "sleep", "1000"];
    matrix(world!(), &args, nothing, |world| {
        assert!(world.engine.names().is_empty());
    });
}

#[test]
fn a_pulled_image_is_whole_or_pulled_again() {
    let world = world!();
    let other = world.other.clone();
    matrix(world, &["pull", "-q", &other], nothing, |world| {
        assert!(world.engine.ok(&["images", "--format", "{{.Repository}}"]).contains("/other"));
        let args = ["run", "--rm", "-q", "--network", "none", &world.other, "cat", "/etc/mark"];
        assert_eq!(world.engine.ok(&args), "whole");
    });
}

#[test]
fn a_name_is_there_once_it_is_given() {
    let image = tiny();
    matrix(world!(), &["tag", &image, "other.test/tag:1"], nothing, |world| {
        world.engine.ok(&["run", "--rm", "--network", "none", "--pull", "never", "other.test/tag:1", "true"]);
    });
}

#[test]
fn a_removed_container_is_whole_or_gone() {
    matrix(
        world!(),
        &["rm", "victim"],
        |world| {
            world.engine.ok(&["run", "--network", "none", "--name", "victim", &tiny(), "touch", "/f"]);
        },
        nothing,
    );
}

#[test]
fn a_built_image_is_whole_or_built_again() {
    let world = world!();
    let build = Build::new();
    world.engine.ok(&build.args());
    let id = crate::builds::id(&world);
    world.clean();
    let kept = |world: &World| {
        let found = world.engine.run(&["image", "inspect", "--format", "{{.Id}}", "made"]);
        assert_eq!(found.stdout.trim(), id, "{found}");
        let args = ["run", "--rm", "-q", "--network", "none", "--pull", "never", "made", "cat", "all"];
        let output = world.engine.run(&args);
        assert!(output.code == 0 || output.stderr.contains("fix: "), "{output}");
    };
    matrix_and(world, &build.args(), nothing, kept, |world| drop(build.anew(world, &id)));
}
