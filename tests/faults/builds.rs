//! The same faults in a build: what was finished before is used by the next one, which makes the same image.

use crate::errors::own_failure;
use crate::injector::{Action, Call, Fault, Traced};
use crate::kills::{check, sample};
use crate::support::{Output, tiny};
use crate::world::World;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Two stages side by side, and one that needs both.
const FILE: &str = "FROM TINY AS run
RUN mkdir /d && echo ran > /d/ran && ln /d/ran /d/hard && rm /etc/readme
RUN echo more > /d/more
FROM TINY AS copied
COPY files /files/
FROM TINY
WORKDIR /work
COPY --from=run /d ./
COPY --from=copied /files ./
RUN cat ran one folder/two > all
";

/// What the image says if it is whole.
const WHOLE: &str = "ran\n1\n2";

/// A build whose image is the same whenever it is built, in a context that outlives worlds.
pub struct Build {
    _folder: TempDir,
    args: Vec<String>,
}

impl Build {
    pub fn new() -> Self {
        Self::on("none")
    }

    /// With steps on this network.
    fn on(network: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("context-").tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir_all(folder.path().join("files/folder")).unwrap();
        write("Dockerfile", &FILE.replace("TINY", &tiny()));
        write("files/one", "1\n");
        write("files/folder/two", "2\n");
        let path = folder.path().to_str().unwrap();
        let args = [
            "build",
            "--progress",
            "plain",
            "--jobs",
            "2",
            "--network",
            network,
            "--timestamp",
            "1000000000",
        ];
        let args = [&args[..], &["-t", "made", path]].concat();
        Self { args: args.into_iter().map(str::to_owned).collect(), _folder: folder }
    }

    pub fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }

    /// Builds once more: the same image, and no step carried out that was finished.
    #[track_caller]
    pub fn again(&self, world: &World, id: &str) {
        let finished = finished(world.engine.data());
        let output = self.anew(world, id);
        let cached = cached(&output.stderr);
        assert!(finished.is_subset(&cached), "of {finished:?} only {cached:?} were cached: {output}");
    }

    /// Builds once more: the same image, however it comes to be.
    #[track_caller]
    pub fn anew(&self, world: &World, id: &str) -> Output {
        let output = world.engine.run(&self.args());
        assert!(output.code == 0 && !output.stderr.contains("Warning"), "{output}");
        is_whole(world, id);
        output
    }
}

/// The steps that are in the cache.
fn finished(data: &Path) -> BTreeSet<String> {
    let steps = fs::read_dir(data.join("build-cache/steps")).into_iter().flatten().flatten();
    // What begins with a dot was being written.
    let steps = steps.filter(|step| !step.file_name().as_encoded_bytes().starts_with(b"."));
    let texts = steps.filter_map(|step| {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(step.path()).ok()?).ok()?;
        Some(record["text"].as_str()?.to_owned())
    });
    texts.filter(|text| FILE.lines().any(|line| line == text)).collect()
}

/// The steps that a build found in the cache.
fn cached(output: &str) -> BTreeSet<String> {
    let numbers = output.lines().filter_map(|line| line.strip_suffix(" CACHED"));
    let names = numbers.filter_map(|number| {
        let name = output.lines().find_map(|line| line.strip_prefix(number)?.strip_prefix(" ["))?;
        Some(name.split_once("] ")?.1.to_owned())
    });
    names.collect()
}

pub fn id(world: &World) -> String {
    world.engine.ok(&["image", "inspect", "--format", "{{.Id}}", "made"])
}

#[track_caller]
fn is_whole(world: &World, expected: &str) {
    assert_eq!(id(world), expected);
    let args = ["run", "--rm", "-q", "--network", "none", "--pull", "never", "made", "cat", "all"];
    assert_eq!(world.engine.ok(&args), WHOLE);
}

/// The whole build once, and its image's id.
fn whole(world: &World, build: &Build) -> (Traced, String) {
    let (whole, output) = world.trace(&build.args(), Fault::None, None);
    assert_eq!(whole.code, 0, "{output}");
    let id = id(world);
    build.again(world, &id);
    world.must_be_sound(&whole.processes);
    (whole, id)
}

/// Does `action` at points of a build; `judge` says what is wrong with its exit code and what it said.
fn matrix(what: &str, action: impl Fn(&World, &Call) -> Option<Action>, judge: impl Fn(&Traced, &str)) {
    matrix_of(what, &Build::new(), action, judge);
}

fn matrix_of(
    what: &str,
    build: &Build,
    action: impl Fn(&World, &Call) -> Option<Action>,
    judge: impl Fn(&Traced, &str),
) {
    let world = world!();
    let (whole, id) = whole(&world, build);
    let calls: Vec<Call> = whole.calls.into_iter().filter(|call| action(&world, call).is_some()).collect();
    check(world, what, &build.args(), calls.len(), &sample(&calls), |world, call| {
        let action = action(world, call).unwrap();
        let (traced, output) = world.trace(&build.args(), Fault::At(&call.point, action), None);
        assert!(!output.contains("panicked"), "{output}");
        judge(&traced, &output);
        if traced.code == 0 {
            is_whole(world, &id);
        }
        let verified = world.engine.run(&["store", "verify"]);
        assert_eq!(verified.code, 0, "{verified}");
        // Every other time, what is left has to go without the help of the next build.
        if call.point.number % 2 == 0 {
            build.again(world, &id);
        }
        world.must_be_sound(&traced.processes);
        traced.hit
    });
}

#[test]
fn one_process_killed() {
    matrix("kills", |_, _| Some(Action::Kill), |_, _| {});
}

#[test]
fn all_processes_killed() {
    matrix("kills of all", |_, _| Some(Action::KillAll), |_, _| {});
}

/// The steps of one stage share a network.
#[test]
fn one_process_killed_on_a_network() {
    matrix_of("kills on a network", &Build::on("bridge"), |_, _| Some(Action::Kill), |_, _| {});
}

/// As by Ctrl-C.
#[test]
fn interrupted() {
    matrix(
        "interrupts",
        |_, _| Some(Action::Interrupt),
        |traced, output| {
            assert!(traced.code == 130 || traced.code == 0, "{}: {output}", traced.code);
        },
    );
}

#[test]
fn failures() {
    let fail = |world: &World, call: &Call| own_failure(world, call).map(Action::Fail);
    matrix("failures", fail, |traced, output| {
        assert!(traced.code == 0 || output.contains("Error: "), "{}: {output}", traced.code);
    });
}

/// From some call on nothing can be written any more, until the build has ended.
#[test]
fn a_disk_that_fills_up() {
    let world = world!();
    let build = Build::new();
    let (whole, id) = whole(&world, &build);
    let writes = |world: &World, call: &Call| own_failure(world, call) == Some(Errno::ENOSPC);
    let calls: Vec<Call> = whole.calls.into_iter().filter(|call| writes(&world, call)).collect();
    check(world, "full disks", &build.args(), calls.len(), &sample(&calls), |world, first| {
        let is_full = std::cell::Cell::new(false);
        let full = |call: &Call| {
            is_full.set(is_full.get() || call.point == first.point);
            is_full.get() && writes(world, call)
        };
        let (traced, output) = world.trace(&build.args(), Fault::Each(&full, Errno::ENOSPC), None);
        assert!(!output.contains("panicked"), "{output}");
        // Of a container's mount the kernel says the same where one of its own limits is reached.
        let says = |fix| output.contains(fix);
        let explained = says("fix: free some space") || says("fix: a disk or a kernel limit is full");
        assert!(traced.code == 0 || explained, "{}: {output}", traced.code);
        build.again(world, &id);
        world.must_be_sound(&traced.processes);
        traced.hit
    });
}
