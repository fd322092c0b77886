//! kill -9 at every state-changing system call of every process of a command.

use crate::injector::{Action, Call, Fault};
use crate::support::{setting, tiny};
use crate::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Points of one command that are tried where not all are.
const SAMPLE: usize = 5;

/// Spread over the whole.
pub fn sample(calls: &[Call]) -> Vec<&Call> {
    let wanted = match setting("CORACLE_TEST_FAULTS").as_deref() {
        Some("all") => calls.len(),
        Some(number) => number.parse().expect("CORACLE_TEST_FAULTS is `all` or a number"),
        None => SAMPLE,
    };
    let wanted = wanted.min(calls.len());
    (0..wanted).map(|i| &calls[i * calls.len() / wanted]).collect()
}

/// Stops `args` at its points, after `prepare` each time.
pub fn matrix(world: World, args: &[&str], action: Action, prepare: impl Fn(&World)) {
    matrix_and(world, args, action, prepare, nothing);
}

/// The same, and `next` has to work each time.
fn matrix_and(world: World, args: &[&str], action: Action, prepare: impl Fn(&World), next: impl Fn(&World)) {
    prepare(&world);
    let (whole, output) = world.trace(args, Fault::None, None);
    assert_eq!(whole.code, 0, "{args:?}: {output}");
    world.must_be_sound(&whole.processes);
    check(world, &format!("{action:?}"), args, whole.calls.len(), &sample(&whole.calls), |world, call| {
        prepare(world);
        let (traced, output) = world.trace(args, Fault::At(&call.point, action), None);
        assert!(!output.contains("panicked"), "{output}");
        next(world);
        world.must_be_sound(&traced.processes);
        traced.hit
    });
}

/// Does something at each of these points, which says whether it was reached; tells all that went wrong.
pub fn check(
    mut world: World,
    what: &str,
    args: &[&str],
    all: usize,
    points: &[&Call],
    mut at: impl FnMut(&World, &Call) -> bool,
) {
    let (mut reached, mut wrong) = (0, Vec::new());
    for call in points {
        match catch_unwind(AssertUnwindSafe(|| at(&world, call))) {
            Ok(hit) => reached += usize::from(hit),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                wrong.push(format!("{call}: {text}"));
                if args.iter().any(|arg| [&world.other, &world.archive].contains(&&(*arg).to_owned())) {
                    wrong.push(
                        "the rest was not tried: the command is about the world that went wrong".into(),
                    );
                    break;
                }
                world = World::new().unwrap();
            }
        }
    }
    let (tried, args) = (points.len(), args.join(" "));
    eprintln!("{what} in `{args}`: {all} points, {tried} tried, {reached} reached");
    assert!(wrong.is_empty(), "{} of {tried} went wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

pub const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

pub fn sleeper(world: &World) {
    let image = tiny();
    world.engine.ok(&["run", "-d", "--network", "none", "--name", "victim", &image, "sh", "-c", SLEEP]);
}

pub fn nothing(_: &World) {}

#[test]
fn a_run_that_is_removed_at_its_end() {
    let image = tiny();
    let args = ["run", "--rm", "--network", "none", "--name", "victim", &image, "true"];
    matrix(world!(), &args, Action::Kill, nothing);
}

#[test]
fn a_run_that_stays_with_volumes() {
    let image = tiny();
    let args = ["run", "--network", "none", "--name", "victim", "-v", "vol:/v", "-v", "/a", &image, "true"];
    matrix(world!(), &args, Action::Kill, nothing);
}

#[test]
fn a_run_in_the_background() {
    let image = tiny();
    let args = ["run", "-d", "--network", "none", "--name", "victim", &image, "sleep", "1000"];
    matrix(world!(), &args, Action::Kill, nothing);
}

#[test]
fn a_run_in_the_background_of_which_all_processes_are_killed() {
    let image = tiny();
    let args = ["run", "-d", "--network", "none", "--name", "victim", &image, "sleep", "1000"];
    matrix(world!(), &args, Action::KillAll, nothing);
}

#[test]
fn a_run_that_pulls_its_image() {
    let world = world!();
    let other = world.other.clone();
    let args = ["run", "--rm", "-q", "--network", "none", "--name", "victim", &other, "true"];
    matrix(world, &args, Action::Kill, nothing);
}

#[test]
fn exec() {
    matrix(world!(), &["exec", "victim", "true"], Action::Kill, sleeper);
}

#[test]
fn create() {
    let image = tiny();
    let args =
        ["create", "--network", "none", "--name", "victim", "-v", "vol:/v", "-v", "/a", &image, "true"];
    matrix(world!(), &args, Action::Kill, nothing);
}

#[test]
fn start() {
    matrix(world!(), &["start", "victim"], Action::Kill, |world| {
        world.engine.ok(&["create", "--network", "none", "--name", "victim", &tiny(), "sh", "-c", SLEEP]);
    });
}

#[test]
fn stop() {
    matrix(world!(), &["stop", "-t", "1", "victim"], Action::Kill, sleeper);
}

#[test]
fn rm_of_a_stopped_container() {
    let args = ["rm", "-v", "victim"];
    matrix(world!(), &args, Action::Kill, |world| {
        let flags = ["run", "--network", "none", "--name", "victim", "-v", "/a"];
        let image = tiny();
        world.engine.ok(&[&flags[..], &[&image, "touch", "/a/f", "/g"]].concat());
    });
}

#[test]
fn rm_of_a_running_container() {
    matrix(world!(), &["rm", "-f", "-t", "0", "victim"], Action::Kill, sleeper);
}

#[test]
fn commit() {
    let image = tiny();
    let change = "mkdir /d; echo x > /d/f; ln /d/f /d/g; rm /etc/group; echo y >> /etc/passwd";
    matrix(world!(), &["commit", "-q", "victim", "made"], Action::Kill, |world| {
        let args = ["run", "--network", "none", "--name", "victim", "-v", "/a", &image, "sh", "-c", change];
        world.engine.ok(&args);
    });
}

/// It goes on, whoever was killed.
#[test]
fn commit_of_a_running_container() {
    matrix(world!(), &["commit", "-q", "--squash", "victim", "made"], Action::Kill, sleeper);
}

#[test]
fn pull() {
    let world = world!();
    let other = world.other.clone();
    matrix(world, &["pull", "-q", &other], Action::Kill, nothing);
}

#[test]
fn load() {
    let world = world!();
    let archive = world.archive.clone();
    matrix(world, &["load", "-q", "-i", &archive], Action::Kill, nothing);
}

#[test]
fn rmi() {
    let world = world!();
    let other = world.other.clone();
    matrix(world, &["rmi", &other], Action::Kill, |world| {
        world.engine.ok(&["pull", "-q", &world.other]);
    });
}

#[test]
fn tag() {
    let image = tiny();
    matrix(world!(), &["tag", &image, "other.test/tag:1"], Action::Kill, nothing);
}

#[test]
fn prune_of_volumes() {
    matrix(world!(), &["volume", "prune", "-f", "-a"], Action::Kill, |world| {
        for name in ["a", "b"] {
            let flags = ["run", "--rm", "--network", "none", "-v", &format!("{name}:/v")];
            let image = tiny();
            world.engine.ok(&[&flags[..], &[&image, "touch", "/v/f"]].concat());
        }
    });
}

#[test]
fn prune_of_containers() {
    matrix(world!(), &["container", "prune", "-f"], Action::Kill, |world| {
        let image = tiny();
        for name in ["a", "b"] {
            let flags = ["run", "--network", "none", "--name", name, "-v", "/a"];
            world.engine.ok(&[&flags[..], &[&image, "touch", "/a/f", "/g"]].concat());
        }
    });
}

#[test]
fn prune_of_images() {
    let world = world!();
    let other = world.other.clone();
    matrix(world, &["image", "prune", "-f"], Action::Kill, |world| {
        // Without its only name it dangles.
        world.engine.ok(&["pull", "-q", &other]);
        world.engine.ok(&["untag", &other]);
    });
}

#[test]
fn prune_of_the_build_cache() {
    matrix(world!(), &["builder", "prune", "-f", "-a"], Action::Kill, |world| {
        let folder = world.engine.folder("context");
        world.engine.file("context/file", "content");
        world.engine.file("context/Dockerfile", &format!("FROM {}\nCOPY file /a\nCOPY file /b\n", tiny()));
        let id = world.engine.ok(&["build", "-q", &folder]);
        world.engine.ok(&["rmi", &id]);
    });
}

#[test]
fn push() {
    let world = world!();
    let registry = setting("CORACLE_TEST_REGISTRY").expect("checked by world!()");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let name = format!("{registry}/push/killed-{}-{}", std::process::id(), now.as_nanos());
    let args = ["push", "-q", "localhost/made", &name];
    let made = |world: &World| {
        // Nobody has this layer yet.
        let content = format!("{:?}", std::time::Instant::now());
        world.engine.ok(&["create", "--network", "none", "--name", "victim", &tiny(), "true"]);
        world.engine.ok(&["cp", &world.engine.file("content", &content), "victim:/etc/content"]);
        world.engine.ok(&["commit", "-q", "victim", "made"]);
    };
    matrix_and(world, &args, Action::Kill, made, |world| {
        world.engine.ok(&args);
        let id = |image: &str| world.engine.ok(&["image", "inspect", "--format", "{{.Id}}", image]);
        let made = id("made");
        world.engine.ok(&["rmi", "made"]);
        world.engine.ok(&["pull", "-q", &name]);
        assert_eq!(id(&name), made);
        world.engine.ok(&["rmi", &name]);
    });
}

#[test]
fn a_list_that_is_made() {
    let image = tiny();
    let args = ["manifest", "create", "made", &image];
    matrix_and(world!(), &args, Action::Kill, nothing, |world| {
        world.engine.ok(&["manifest", "create", "--amend", "made"]);
    });
}

#[test]
fn a_list_that_is_added_to() {
    let image = tiny();
    let args = ["manifest", "add", "--annotation", "a=b", "made", &image];
    let entries = |world: &World| {
        let list = world.engine.ok(&["manifest", "inspect", "made"]);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list["manifests"].as_array().map_or(0, Vec::len)
    };
    let empty = |world: &World| drop(world.engine.ok(&["manifest", "create", "made"]));
    matrix_and(world!(), &args, Action::Kill, empty, |world| {
        assert!(entries(world) <= 1);
        world.engine.ok(&args);
        assert_eq!(entries(world), 1);
    });
}
