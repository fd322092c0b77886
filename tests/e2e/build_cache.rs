//! What builds keep for later ones: `builder du`, `builder prune`, and the budget.

use crate::build::steps;
use crate::support::{Engine, Running, eventually, tiny};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A context whose image has a layer of a mebibyte, of this content.
fn context(engine: &Engine, name: &str) -> PathBuf {
    let folder = engine.scratch().join(name);
    if folder.exists() {
        return folder;
    }
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("data"), name.repeat((1 << 20) / name.len())).unwrap();
    fs::write(folder.join("Dockerfile"), format!("FROM {}\nCOPY data /{name}\n", tiny())).unwrap();
    // What was changed in the same tick of the clock in which it is read is not remembered.
    std::thread::sleep(Duration::from_millis(50));
    folder
}

/// Builds; whether the layer was in the cache.
fn build(engine: &Engine, name: &str, flags: &[&str]) -> bool {
    let folder = context(engine, name);
    let output = crate::build::build(engine, &folder, flags);
    let step = steps(&output).into_iter().find(|(_, step)| step.starts_with("COPY data"));
    step.unwrap().0
}

/// The instructions that the cache has, that first which was used last.
fn cached(engine: &Engine) -> Vec<String> {
    let all = engine.ok(&["builder", "du", "--filter", "type=regular", "--format", "{{.Description}}"]);
    all.lines().map(|line| line.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

/// Layers in the store.
fn layers(engine: &Engine) -> usize {
    let entries = fs::read_dir(engine.data().join("layers")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().len() == 64).count()
}

/// Now, as `until` takes it, apart from what was before and what comes.
fn moment() -> String {
    std::thread::sleep(Duration::from_millis(50));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

fn lines(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn layers_that_only_the_cache_needs_outlive_their_images_and_go_with_builder_prune() {
    let engine = engine!();
    let base = layers(&engine);
    assert!(!build(&engine, "one", &["-t", "localhost/one"]));
    assert_eq!(layers(&engine), base + 1);
    engine.ok(&["rmi", "localhost/one"]);
    engine.ok(&["image", "prune", "-f"]);
    assert_eq!(layers(&engine), base + 1);
    assert!(build(&engine, "one", &[]));
    engine.ok(&["image", "prune", "-f"]);
    let rows = engine.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}"]);
    assert!(rows.lines().any(|line| line.starts_with("Build Cache 2 1.05")), "{rows}");
    let verbose = engine.ok(&["builder", "du", "--verbose"]);
    for text in
        ["Description:\tCOPY data /one\n", "Type:\t\tsource.local\n", "Shared:\t\tfalse\n", "Total:\t\t1.05"]
    {
        assert!(verbose.contains(text), "{text}: {verbose}");
    }
    assert!(engine.ok(&["system", "df", "-v"]).contains("Build cache usage: 1.05"));
    let pruned = engine.ok(&["builder", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted build cache objects:\n"), "{pruned}");
    assert!(pruned.lines().last().unwrap().starts_with("Total reclaimed space: 1.05"), "{pruned}");
    assert_eq!((layers(&engine), cached(&engine)), (base, Vec::new()));
    assert!(!build(&engine, "one", &[]));
    // Of all, what nobody needs goes; the dangling image goes first, and then its layer.
    let all = engine.ok(&["system", "prune", "-f"]);
    assert!(all.contains("Deleted Images:") && all.contains("Deleted build cache objects:"), "{all}");
    assert_eq!((layers(&engine), cached(&engine)), (base, Vec::new()));
    engine.run(&["builder", "prune", "--filter", "colour=red"]).explains(125, &["colour"]);
    engine.run(&["builder", "prune", "--filter", "type=irregular"]).explains(125, &["regular"]);
}

#[test]
fn a_budget_drops_what_was_not_used_for_longest_after_each_build() {
    let mut engine = engine!();
    for name in ["a", "b", "c"] {
        build(&engine, name, &[]);
    }
    assert!(build(&engine, "a", &[]));
    engine.ok(&["image", "prune", "-f"]);
    assert_eq!(cached(&engine), ["a", "c", "b"]);
    // Room for two of them, and for what is remembered of contexts.
    engine.set("CORACLE_BUILD_CACHE_SIZE", "2300k");
    // What an image needs takes no room.
    build(&engine, "kept", &["-t", "localhost/kept"]);
    eventually("what was used first is gone", || cached(&engine) == ["kept", "a", "c"]);
    eventually("so is its layer", || {
        engine.ok(&["store", "df", "--format", "{{.Type}} {{.Total}}"]).contains("Layers 5")
    });
    assert!(build(&engine, "c", &[]));
    // By hand, the same.
    engine.ok(&["image", "prune", "-f"]);
    engine.ok(&["builder", "prune", "-f", "--keep-storage", "1200k"]);
    assert_eq!(cached(&engine), ["c", "kept"]);
    engine.ok(&["builder", "prune", "-f", "-a", "--max-used-space", "0"]);
    assert_eq!(cached(&engine), ["kept"]);
    assert!(build(&engine, "kept", &[]));
    engine.set("CORACLE_BUILD_CACHE_SIZE", "plenty");
    let folder = context(&engine, "a");
    engine
        .run(&["build", folder.to_str().unwrap()])
        .explains(125, &["CORACLE_BUILD_CACHE_SIZE", "plenty", "20g"]);
}

#[test]
fn what_was_used_since_passes_no_until() {
    let engine = engine!();
    build(&engine, "old", &[]);
    build(&engine, "again", &[]);
    let then = moment();
    build(&engine, "new", &[]);
    assert!(build(&engine, "again", &[]));
    engine.ok(&["image", "prune", "-f"]);
    engine.ok(&["builder", "prune", "-f", "--filter", "until=1h"]);
    assert_eq!(cached(&engine).len(), 3);
    let pruned = engine.ok(&[
        "builder",
        "prune",
        "-f",
        "--filter",
        &format!("until={then}"),
        "--filter",
        "type=regular",
    ]);
    assert!(pruned.contains("1.05"), "{pruned}");
    assert_eq!(cached(&engine), ["again", "new"]);
    engine.ok(&["buildx", "prune", "-f", "--filter", &format!("until={}", moment())]);
    assert_eq!(engine.ok(&["buildx", "du", "--format", "{{.ID}}"]), "");
}

#[test]
fn layers_of_an_image_or_a_container_stay_whatever_is_pruned() {
    let engine = engine!();
    build(&engine, "image", &["-t", "localhost/image"]);
    build(&engine, "container", &["-t", "localhost/container"]);
    engine.ok(&["create", "--name", "c", "--network", "none", "localhost/container", "stat", "/container"]);
    engine.ok(&["untag", "localhost/container"]);
    engine.ok(&["image", "prune", "-f"]);
    engine.ok(&["builder", "prune", "-f"]);
    assert_eq!(cached(&engine), ["container", "image"]);
    assert_eq!(
        engine.ok(&["builder", "du", "--filter", "type=regular", "--format", "{{.Shared}}"]),
        "true\ntrue"
    );
    engine.ok(&["builder", "prune", "-f", "--all"]);
    assert_eq!(cached(&engine), [""; 0]);
    engine.ok(&["run", "--rm", "--network", "none", "localhost/image", "stat", "/image"]);
    engine.ok(&["start", "-a", "c"]);
}

/// A build that waits in its second step until the file `go` is in the folder of its cache mount, and that folder.
fn waiting(engine: &Engine) -> (PathBuf, Running, PathBuf) {
    let folder = engine.scratch().join("waiting");
    fs::create_dir_all(&folder).unwrap();
    let wait = "touch /c/begun; while [ ! -e /c/go ]; do sleep 0.05; done";
    let file = format!("FROM {}\nRUN echo first > /first\nRUN --mount=type=cache,target=/c {wait}\n", tiny());
    fs::write(folder.join("Dockerfile"), file).unwrap();
    let build = Running::start(engine.command(&["build", folder.to_str().unwrap()]), b"");
    let mut mount = PathBuf::new();
    eventually("the second step runs", || {
        let mounts = fs::read_dir(engine.data().join("build-cache/mounts")).into_iter().flatten().flatten();
        mount = mounts.map(|entry| entry.path().join("0/data")).next().unwrap_or_default();
        mount.join("begun").exists()
    });
    (folder, build, mount)
}

#[test]
fn a_build_keeps_what_it_uses_while_the_cache_is_pruned() {
    let engine = engine!();
    build(&engine, "other", &[]);
    engine.ok(&["image", "prune", "-f"]);
    // So that the builds are apart by more than what is granted to the first.
    std::thread::sleep(Duration::from_millis(1100));
    let (folder, running, mount) = waiting(&engine);
    let output = engine.run(&["builder", "prune", "-f", "-a"]);
    assert!(output.stderr.contains("go with the next prune"), "{output}");
    let uses = engine.ok(&["builder", "du", "--format", "{{.InUse}} {{.Description}}"]);
    assert!(
        uses.lines().any(|line| line == "true RUN echo first > /first") && !uses.contains("/other"),
        "{uses}"
    );
    assert!(mount.join("begun").exists());
    fs::write(mount.join("go"), "").unwrap();
    running.wait().ok();
    let again = crate::build::build(&engine, &folder, &[]);
    assert_eq!(steps(&again).iter().filter(|(cached, _)| *cached).count(), 2, "{again}");
    // What had to wait goes now.
    let before = layers(&engine);
    engine.ok(&["image", "prune", "-f"]);
    assert_eq!(layers(&engine), before - 1);
}

#[test]
fn of_a_build_that_was_killed_everything_can_be_pruned() {
    let engine = engine!();
    let base = layers(&engine);
    let (_, mut running, mount) = waiting(&engine);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let is_marked = || {
        let entries = fs::read_dir(engine.data().join("locks")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("build-")).count()
    };
    assert_eq!(is_marked(), 1);
    eventually("the step has ended with its build", || {
        engine.ok(&["builder", "prune", "-f", "--filter", "type=exec.cachemount"]);
        !mount.exists()
    });
    let found = engine.ok(&["builder", "du", "--format", "{{.InUse}} {{.Description}}"]);
    assert_eq!(found, "false RUN echo first > /first");
    engine.ok(&["builder", "prune", "-f"]);
    assert_eq!((layers(&engine), is_marked(), lines(&engine.data().join("build-cache/steps"))), (base, 0, 0));
}
