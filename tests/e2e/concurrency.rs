//! Many at once: there is no daemon and no global lock, so everything must be right by itself.

use crate::support::{Engine, Running, eventually, image, setting, tiny};

#[test]
fn a_hundred_runs_at_once_succeed() {
    let engine = engine!();
    let all: Vec<Running> = (0..100)
        .map(|i| {
            let args = ["run", "--rm", "--network", "none", &tiny(), "echo", &i.to_string()];
            Running::start(engine.command(&args), b"")
        })
        .collect();
    for (i, running) in all.into_iter().enumerate() {
        assert_eq!(running.wait().ok(), i.to_string());
    }
    assert!(engine.names().is_empty());
}

/// Beside others, a run joins a namespace that is there, and every command looks after what others have left.
#[test]
fn a_hundred_runs_at_once_beside_others_succeed() {
    let engine = engine!();
    engine.start_sleeper("running");
    for _ in 0..20 {
        engine.ok(&["create", "--network", "none", &tiny(), "true"]);
    }
    for _ in 0..if engine.is_podman() { 1 } else { 5 } {
        let all: Vec<Running> = (0..100)
            .map(|_| {
                Running::start(engine.command(&["run", "--rm", "--network", "none", &tiny(), "true"]), b"")
            })
            .collect();
        for running in all {
            running.wait().ok();
        }
    }
    assert_eq!(engine.names().len(), 21);
}

#[test]
fn eight_pulls_of_one_image_are_one_download() {
    let log = setting("CORACLE_TEST_REGISTRY_LOG");
    require!(log.is_some() && setting("CORACLE_TEST_REGISTRY").is_some(), "no registry with a log");
    let log = log.unwrap();
    let engine = Engine::new();
    let reference = image("parallel:latest");
    let all: Vec<Running> =
        (0..8).map(|_| Running::start(engine.command(&["pull", "-q", &reference]), b"")).collect();
    let ids: Vec<String> = all.into_iter().map(|running| running.wait().ok()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let args = ["run", "--rm", "--network", "none", &reference, "python3", "-c", "print(6 * 7)"];
    assert_eq!(engine.ok(&args), "42");
    let downloads = || {
        let text = std::fs::read_to_string(&log).unwrap();
        let mut seen: Vec<String> = text
            .lines()
            .filter(|line| line.contains("\"GET /v2/test/parallel/blobs/sha256:"))
            .map(|line| line.split("/blobs/").nth(1).unwrap()[..71].to_owned())
            .collect();
        seen.sort();
        seen
    };
    eventually("the registry has written its log", || downloads().len() >= 3);
    let all = downloads();
    let mut once = all.clone();
    once.dedup();
    // Two layers; the configuration is small enough to be fetched by each.
    let layers: Vec<&String> = once.iter().filter(|d| all.iter().filter(|x| x == d).count() == 1).collect();
    if !engine.is_podman() {
        assert!(layers.len() >= 2 && once.len() == 3, "{all:?}");
    }
}

#[test]
fn of_many_creations_of_one_name_one_succeeds() {
    let engine = engine!();
    let all: Vec<Running> = (0..20)
        .map(|_| {
            let args = ["create", "--name", "wanted", "--network", "none", &tiny(), "true"];
            Running::start(engine.command(&args), b"")
        })
        .collect();
    let codes: Vec<i32> = all.into_iter().map(|running| running.wait().code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 125)), "{codes:?}");
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn of_many_starts_of_one_container_one_process_results() {
    let engine = engine!();
    let args = [
        "create",
        "--name",
        "once",
        "--network",
        "none",
        "-v",
        "shared:/v",
        &tiny(),
        "sh",
        "-c",
        "echo x >> /v/starts; sleep 1000",
    ];
    engine.ok(&args);
    let all: Vec<Running> =
        (0..20).map(|_| Running::start(engine.command(&["start", "once"]), b"")).collect();
    for running in all {
        running.wait();
    }
    eventually("it runs", || engine.inspect("once", "{{.State.Running}}") == "true");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(engine.ok(&["exec", "once", "cat", "/v/starts"]), "x");
}

#[test]
fn listing_and_removing_go_on_beside_each_other() {
    let engine = engine!();
    let removing: Vec<Running> = (0..20)
        .map(|i| {
            let args = ["create", "--name", &format!("n{i}"), "--network", "none", &tiny(), "true"];
            engine.ok(&args);
            Running::start(engine.command(&["rm", &format!("n{i}")]), b"")
        })
        .collect();
    for _ in 0..10 {
        let output = engine.run(&["ps", "-a"]);
        assert_eq!(output.code, 0, "{output}");
    }
    for running in removing {
        running.wait().ok();
    }
    assert!(engine.names().is_empty());
}

#[test]
fn removing_one_container_many_times_at_once_is_no_accident() {
    let engine = engine!();
    engine.start_sleeper("r");
    let all: Vec<Running> =
        (0..10).map(|_| Running::start(engine.command(&["rm", "-f", "-t", "0", "r"]), b"")).collect();
    for running in all {
        let output = running.wait();
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
    assert!(engine.names().is_empty());
}

#[test]
fn volumes_made_at_once_by_many_are_one() {
    let engine = engine!();
    let all: Vec<Running> = (0..20)
        .map(|i| {
            let script = format!("cat /data/seed; touch /data/{i}");
            let args = ["run", "--rm", "--network", "none", "-v", "one:/data", &tiny(), "sh", "-c", &script];
            Running::start(engine.command(&args), b"")
        })
        .collect();
    for running in all {
        assert_eq!(running.wait().ok(), "from the image");
    }
    assert_eq!(engine.sh(&["-v", "one:/data"], "ls /data | wc -l"), "21");
}
