//! What there is to do with images: save, import, history, tree, prune, filters, search, the store as a whole.

use crate::support::image::{Image, Layer};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, Output, has_program, image, run, setting, tiny};
use std::path::Path;
use std::process::Command;

fn tool(words: &[&str]) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    run(command)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_is_saved_is_read_by_skopeo_with_the_same_digests_and_comes_back() {
    let engine = engine!();
    require!(has_program("skopeo"), "skopeo is not installed");
    let id = engine.ok(&["image", "inspect", "-f", "{{.Id}}", &tiny()]);
    let layers = json(&engine.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", &tiny()]));
    for (format, transport) in [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
        ("docker-dir", "dir"),
    ] {
        let path = engine.scratch().join(format).display().to_string();
        assert_eq!(engine.ok(&["save", "-q", "--format", format, "-o", &path, &tiny()]), "");
        let raw = json(&tool(&["skopeo", "inspect", "--raw", &format!("{transport}:{path}")]).ok());
        assert_eq!(raw["config"]["digest"], id.as_str(), "{format}");
        let found: Vec<_> = raw["layers"].as_array().unwrap().iter().map(|l| l["digest"].clone()).collect();
        assert_eq!(serde_json::Value::from(found), layers, "{format}");
        let other = Engine::new();
        other.ok(&["load", "-q", "-i", &path]);
        assert_eq!(other.ok(&["images", "-q", "--no-trunc"]), id, "{format}");
        let run = ["run", "--rm", "--network", "none", &id, "cat", "/etc/readme"];
        assert_eq!(other.ok(&run), "not a program", "{format}");
    }
    // A pipe, and the images of two names in one archive.
    engine.ok(&["tag", &tiny(), "localhost/second:2"]);
    let mut save = engine.command(&["save", "-q", &tiny(), "localhost/second:2"]);
    let bytes = save.output().unwrap().stdout;
    let other = Engine::new();
    let loaded = other.run_with_input(&["load", "-q"], &bytes).ok();
    assert!(loaded.contains(&tiny()) && loaded.contains("localhost/second:2"), "{loaded}");
}

#[test]
fn podman_reads_what_is_saved_and_writes_what_is_loaded_with_the_same_digests() {
    let engine = engine!();
    require!(has_program("podman"), "podman is not installed");
    require!(!engine.is_podman(), "this is about two programs");
    let store = engine.scratch().join("podman");
    let (root, runroot) = (store.join("root").display().to_string(), store.join("run").display().to_string());
    let podman = |words: &[&str]| {
        let mut all = vec!["podman", "--storage-driver", "vfs", "--root", &root, "--runroot", &runroot];
        all.extend(words);
        tool(&all)
    };
    require!(podman(&["info"]).code == 0, "podman does not work here");
    let id = engine.ok(&["image", "inspect", "-f", "{{.Id}}", &tiny()]);
    // podman makes a name of an oci-dir's path, which must have no capitals.
    let folder = tempfile::Builder::new()
        .prefix("saved")
        .rand_bytes(0)
        .suffix(&std::process::id().to_string())
        .tempdir();
    let folder = folder.unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for format in ["docker-archive", "oci-archive", "oci-dir", "docker-dir"] {
        let saved = path(&format!("ours.{format}"));
        engine.ok(&["save", "-q", "--format", format, "-o", &saved, &tiny()]);
        podman(&["load", "-q", "-i", &saved]).ok();
        let ids = podman(&["images", "-q", "--no-trunc"]).ok();
        assert!(ids.lines().all(|line| line == id) && !ids.is_empty(), "{format}: {ids}");
        // The manifest too: podman calls it what we do.
        let said = "{{.Digest}} {{.ManifestType}} {{json .Annotations}}";
        let theirs = podman(&["image", "inspect", "--format", said, &id]).ok();
        let other = Engine::new();
        other.ok(&["load", "-q", "-i", &saved]);
        assert_eq!(other.ok(&["image", "inspect", "-f", said, &id]), theirs, "{format}");
        let back = path(&format!("theirs.{format}"));
        podman(&["save", "-q", "--format", format, "-o", &back, &id]).ok();
        let other = Engine::new();
        other.ok(&["load", "-q", "-i", &back]);
        assert_eq!(other.ok(&["images", "-q", "--no-trunc"]), id, "{format}");
        podman(&["rmi", "-f", &id]).ok();
    }
}

#[test]
fn a_save_that_fails_leaves_the_old_file_and_nothing_else() {
    let engine = engine!();
    let path = engine.file("out.tar", "precious");
    engine.run(&["save", "-o", &path, "nosuch"]).explains(125, &["nosuch"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let taken = engine.folder("taken/x");
    let folder = Path::new(&taken).parent().unwrap().to_str().unwrap();
    engine
        .run(&["save", "-q", "--format", "oci-dir", "-o", folder, &tiny()])
        .explains(125, &["taken", "not empty"]);
    engine.ok(&["save", "-q", "-o", "/dev/null", &tiny()]);
    engine.run(&["save", "-o", "/nosuch/out", &tiny()]).explains(125, &["/nosuch/out"]);
    assert_eq!(std::fs::read_dir(engine.scratch()).unwrap().count(), 2);
}

#[test]
fn an_image_is_made_of_an_archive_from_a_file_standard_input_and_a_url() {
    let engine = engine!();
    let tar = Layer::tiny().file("hello", b"imported", 0o644).finish();
    let path = engine.scratch().join("fs.tar");
    std::fs::write(&path, &tar).unwrap();
    let path = path.to_str().unwrap();
    let changes =
        ["-c", "CMD [\"cat\", \"/hello\"]", "-c", "ENV PATH=/bin", "-c", "USER alice", "-c", "WORKDIR /home"];
    let mut words = vec!["import", "-q", "-m", "made by hand"];
    words.extend(changes);
    let mut from_file = words.clone();
    from_file.extend([path, "hand:1"]);
    let id = engine.ok(&from_file);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "hand:1"]), "imported");
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "hand:1", "pwd"]), "/home");
    let shown = engine.ok(&[
        "image",
        "inspect",
        "-f",
        "{{.Id}} {{.Comment}} {{.Config.User}} {{.RepoTags}}",
        "hand:1",
    ]);
    assert_eq!(shown, format!("{id} made by hand alice [localhost/hand:1]"));

    let mut from_pipe = words.clone();
    from_pipe.extend(["-", "piped"]);
    engine.run_with_input(&from_pipe, &crate::support::image::gzip(&tar)).ok();
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "piped"]), "imported");

    let server = Registry::start();
    server.rule(move |request| match request.path.as_str() {
        "/moved" => Some(Response::new(302, "").header("Location", "/fs.tar")),
        "/fs.tar" => Some(Response::new(200, tar.clone())),
        _ => None,
    });
    let url = format!("http://{}/moved", server.address());
    words.extend([&url, "fetched"]);
    engine.ok(&words);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "fetched"]), "imported");
    // The same layer each time.
    let layers = engine.ok(&["image", "inspect", "-f", "{{.RootFS.Layers}}", "hand:1", "piped", "fetched"]);
    assert_eq!(layers.lines().collect::<std::collections::BTreeSet<_>>().len(), 1);

    engine.run(&["import", "/nosuch.tar"]).explains(125, &["/nosuch.tar"]);
    engine.run(&["import", &format!("http://{}/nosuch", server.address())]).explains(125, &["not found"]);
    engine.run(&["import", "-c", "RUN x", path]).explains(125, &["RUN"]);
    engine.run_with_input(&["import", "-"], b"no archive").explains(125, &["archive"]);
}

#[test]
fn history_shows_how_an_image_was_made() {
    let engine = engine!();
    let table = engine.ok(&["history", &tiny()]);
    let mut lines = table.lines();
    let heads: Vec<&str> =
        lines.next().unwrap().split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
    assert_eq!(heads, ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    assert!(lines.next().unwrap().starts_with(&engine.ok(&["images", "-q"])), "{table}");
    assert!(lines.next().unwrap().starts_with("<missing>"), "{table}");
    assert_eq!(engine.ok(&["history", "-q", &tiny()]).lines().count(), 2);
    let exact = engine.ok(&["history", "-H=false", "--format", "{{.CreatedAt}} {{.Size}}", &tiny()]);
    assert!(exact.lines().all(|line| line.starts_with("2026-01-01T00:00:00Z ")), "{exact}");
    let sizes: u64 = exact.lines().map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(engine.ok(&["image", "inspect", "-f", "{{.Size}}", &tiny()]), sizes.to_string());
    let first = engine.ok(&["image", "history", "--format", "json", &tiny()]);
    let first = json(first.lines().next().unwrap());
    for field in ["ID", "CreatedAt", "CreatedSince", "CreatedBy", "Size", "Comment"] {
        assert!(first[field].is_string(), "{field}: {first}");
    }
}

#[test]
fn exists_and_tree_tell_of_an_image() {
    let engine = engine!();
    assert_eq!(engine.run(&["image", "exists", &tiny()]).code, 0);
    assert_eq!(engine.run(&["image", "exists", "nosuch"]).code, 1);
    assert_eq!(engine.run(&["image", "exists", "Not A Name"]).code, 1);
    let tree = engine.ok(&["image", "tree", &tiny()]);
    assert_eq!(tree.lines().filter(|line| line.contains("── ID: ")).count(), 2, "{tree}");
    assert!(tree.lines().last().unwrap().contains(&format!("Top Layer of: [{}]", tiny())), "{tree}");
}

#[test]
fn filters_and_sorting_choose_among_images() {
    let engine = Engine::new();
    let make = |name: &str, label: &str, text: &str| {
        let tar = Layer::new().file("f", text.as_bytes(), 0o644).finish();
        let change = format!("LABEL tier={label}");
        engine.run_with_input(&["import", "-q", "-c", &change, "-", name], &tar).ok()
    };
    let first = make("first:1", "db", "1");
    let second = make("second:2", "web", "22");
    engine.ok(&["untag", &second]);
    let names = |words: &[&str]| {
        let mut all = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        all.extend(words);
        engine.ok(&all)
    };
    let (a, b) = ("localhost/first:1", "<none>:<none>");
    for (filter, expected) in [
        ("dangling=true", b),
        ("dangling=false", a),
        ("label=tier=db", a),
        ("label=nosuch", ""),
        ("label!=tier=db", b),
        ("reference=first", a),
        ("reference=localhost/*:1", a),
        ("reference=localhost/*:2", ""),
        (&format!("before={second}"), a),
        ("since=first:1", b),
        ("after=first:1", b),
        ("until=2020-01-01", ""),
        (&format!("id={}", &first[7..15]), a),
        ("intermediate=true", ""),
        ("readonly=true", ""),
        ("containers=true", ""),
    ] {
        assert_eq!(names(&["--filter", filter]), expected, "{filter}");
    }
    assert_eq!(names(&[]), format!("{b}\n{a}"));
    assert_eq!(names(&["--sort", "size"]), format!("{a}\n{b}"));
    engine.run(&["images", "--filter", "nosuch=x"]).explains(125, &["nosuch"]);
    engine.run(&["images", "--filter", "before=nosuch"]).explains(125, &["nosuch"]);
    engine.run(&["images", "--sort", "nosuch"]).explains(125, &["nosuch"]);
}

#[test]
fn prune_removes_what_nobody_uses_and_nothing_that_is_in_use() {
    let engine = engine!();
    let tar = |text: &str| Layer::tiny().file("f", text.as_bytes(), 0o644).finish();
    let import =
        |name: &str, text: &str| engine.run_with_input(&["import", "-q", "-", name], &tar(text)).ok();
    let dangling = import("dangling", "1");
    engine.ok(&["untag", &dangling]);
    import("used", "2");
    import("idle", "3");
    engine.ok(&["create", "--name", "c", "--network", "none", "used", "cat", "/f"]);

    let output = engine.run(&["image", "prune", "-f"]);
    assert!(output.stdout.contains(&format!("deleted: {dangling}")), "{output}");
    assert!(output.stdout.contains("Total reclaimed space: ") && !output.stdout.contains(": 0B"), "{output}");
    let left = || engine.ok(&["images", "--format", "{{.Repository}}", "--sort", "repository"]);
    assert!(
        left().contains("localhost/idle") && left().contains("localhost/used") && !left().contains("<none>")
    );

    // What is asked is answered by no.
    assert_eq!(engine.run_with_input(&["image", "prune", "-a"], b"n\n").ok(), "");
    engine.ok(&["image", "prune", "-a", "-f", "--filter", "until=2020-01-01"]);
    assert!(left().contains("localhost/idle"));
    engine.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(left(), "localhost/used");
    assert_eq!(engine.ok(&["start", "-a", "c"]), "2");
    engine.ok(&["rm", "c"]);
    engine.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(left(), "");
    // Nothing of them is left, not even in the trash when the space is really free.
    let count = |folder: &str| std::fs::read_dir(engine.data().join(folder)).map_or(0, Iterator::count);
    crate::support::eventually("all is gone", || {
        count("layers") == 0 && count("trash") == 0 && count("blobs/sha256") == 0
    });
}

#[test]
fn a_container_that_cannot_be_read_keeps_all_layers() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has a database");
    let id = engine.ok(&["create", "--network", "none", &tiny(), "true"]);
    let spec = engine.data().join("containers").join(&id).join("spec.json");
    let text = std::fs::read(&spec).unwrap();
    std::fs::write(&spec, "{").unwrap();
    engine.ok(&["rmi", "-f", &tiny()]);
    engine.ok(&["image", "prune", "-a", "-f"]);
    std::fs::write(&spec, text).unwrap();
    engine.ok(&["start", "-a", &id]);
}

#[test]
fn layers_of_a_pull_that_failed_are_collected_by_prune() {
    let engine = engine!();
    let registry = Registry::start();
    let good = Layer::new().file("good", b"good", 0o644);
    let image = Image::of(vec![good.finish(), Layer::new().file("bad", &[7; 100_000], 0o644).finish()]);
    let name = engine.add(&registry, "half", &image);
    let bad = crate::support::image::digest(&crate::support::image::gzip(&image.layers[1]));
    // Tried again, so that the other layer has the time to arrive.
    registry.rule(move |request| request.path.ends_with(&bad).then(|| Response::new(503, "")));
    engine.run(&["pull", "-q", "--retry", "1", "--retry-delay", "1s", &name]).explains(125, &["503"]);
    let layers = || std::fs::read_dir(engine.data().join("layers")).map_or(0, Iterator::count);
    assert_eq!(layers(), 3, "the good layer waits for the next try");
    let output = engine.ok(&["image", "prune", "-f"]);
    assert!(output.contains("4B"), "{output}");
    assert_eq!(layers(), 2);
    assert_eq!(engine.sh(&[], "echo unharmed"), "unharmed");
}

#[test]
fn all_tags_and_several_images_come_by_one_pull() {
    let engine = Engine::new();
    require!(
        setting("CORACLE_TEST_REGISTRY").is_some(),
        "no registry with test images (CORACLE_TEST_REGISTRY)"
    );
    let ids = engine.ok(&["pull", "-q", "--all-tags", &image("tiny")]);
    let tags = engine.ok(&["images", "--format", "{{.Tag}}"]);
    for tag in ["gz", "zstd", "docker", "latest"] {
        assert!(tags.lines().any(|line| line == tag), "{tags}");
    }
    assert_eq!(ids.lines().count(), tags.lines().count());
    engine.run(&["pull", "-a", &image("tiny:gz")]).explains(125, &["tag"]);
    let output = engine.run(&["pull", "-q", &image("tiny:gz"), &image("nosuch:1"), &image("tiny:zstd")]);
    assert_eq!((output.code, output.stdout.lines().count()), (125, 2), "{output}");
}

#[test]
fn search_lists_repositories_and_tags_of_a_plain_registry() {
    let engine = Engine::new();
    let host = setting("CORACLE_TEST_REGISTRY");
    require!(host.is_some(), "no registry with test images (CORACLE_TEST_REGISTRY)");
    let host = host.unwrap();
    let found = engine.ok(&["search", &format!("{host}/test/")]);
    assert!(found.starts_with("NAME") && found.contains("DESCRIPTION"), "{found}");
    assert!(found.contains(&format!("{host}/test/tiny")) && found.contains(&format!("{host}/test/debian")));
    assert_eq!(
        engine
            .ok(&["search", "--limit", "1", "--format", "{{.Name}}", &format!("{host}/tiny")])
            .lines()
            .count(),
        1
    );
    let tags = engine.ok(&["search", "--list-tags", "--format", "{{.Tag}}", &image("tiny")]);
    assert!(tags.lines().any(|tag| tag == "gz"), "{tags}");
    let all = json(&engine.ok(&["search", "--list-tags", "--format", "json", &image("tiny")]));
    assert_eq!(all[0]["Name"], image("tiny").as_str());
    engine.run(&["search", "--list-tags", &image("nosuch")]).explains(125, &["not found"]);
    engine.run(&["search", "127.0.0.1:1/x"]).explains(125, &["127.0.0.1:1"]);

    // Docker Hub's search, as a registry that has it answers.
    let registry = Registry::start();
    registry.rule(|request| {
        let answer = r#"{"results":[{"name":"app","description":"an app","star_count":9,"is_official":true},
            {"name":"org/app","description":"","star_count":1}]}"#;
        request.path.starts_with("/v1/search?q=app").then(|| Response::new(200, answer))
    });
    engine.trust(registry.address());
    let term = format!("{}/app", registry.address());
    let table = engine.ok(&["search", "--compatible", &term]);
    assert!(table.contains("STARS") && table.contains("[OK]") && table.contains("an app"), "{table}");
    let stars = ["search", "--filter", "stars=5", "--format", "{{.Name}} {{.Stars}}", &term];
    assert_eq!(engine.ok(&stars), format!("{}/app 9", registry.address()));
}

#[test]
fn a_damaged_store_is_found_and_repaired() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman has no 'store verify'");
    assert!(engine.ok(&["store", "verify"]).contains("whole"));
    let layers = json(&engine.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", &tiny()]));
    let file = |layer: usize| {
        let hex = layers[layer].as_str().unwrap()[7..].to_owned();
        (engine.data().join("layers").join(&hex).join("fs/etc/readme"), hex)
    };
    let (readme, hex) = [file(0), file(1)].into_iter().find(|(path, _)| path.exists()).unwrap();
    std::fs::write(&readme, "changed").unwrap();
    let output = engine.run(&["store", "verify"]);
    assert!(
        output.code == 1 && output.stdout.contains(&hex) && output.stdout.contains("etc/readme"),
        "{output}"
    );
    assert_eq!(engine.run(&["store", "verify", "-q"]).stdout, "");

    // Not under a running container.
    engine.start_sleeper("runs");
    let output = engine.run(&["store", "verify", "--repair"]);
    assert!(output.code == 1 && output.stdout.contains("container runs"), "{output}");
    engine.ok(&["rm", "-f", "-t", "0", "runs"]);

    let output = engine.run(&["store", "verify", "--repair"]);
    assert!(output.code == 0 && output.stdout.contains("fetched again"), "{output}");
    assert_eq!(engine.sh(&[], "cat /etc/readme"), "not a program");
    assert_eq!(engine.run(&["store", "verify"]).code, 0);
}

#[test]
fn df_counts_what_there_is() {
    let engine = engine!();
    engine.ok(&["volume", "create", "v"]);
    engine.ok(&[
        "run",
        "--name",
        "c",
        "--network",
        "none",
        "-v",
        "v:/v",
        &tiny(),
        "sh",
        "-c",
        "echo 12345 >/written",
    ]);
    let table = engine.ok(&["system", "df"]);
    let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    let row = |kind: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(kind)).unwrap_or_else(|| panic!("{table}"));
        line[kind.len()..].split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("Images")[..2], ["1", "1"]);
    assert!(row("Containers")[..2] == ["1", "0"] && row("Containers")[3] == "6B", "{table}");
    assert_eq!(row("Local Volumes")[..2], ["1", "1"]);
    let verbose = engine.ok(&["system", "df", "-v"]);
    for text in
        ["Images space usage:", "SHARED SIZE", "Containers space usage:", "Local Volumes space usage:"]
    {
        assert!(verbose.contains(text), "{verbose}");
    }
    let format = engine.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert_eq!(format, "Images 1\nContainers 1\nLocal Volumes 1\nBuild Cache 0");
    require!(!engine.is_podman(), "podman has no 'store df'");
    let parts = engine.ok(&["store", "df", "--format", "{{.Type}}={{.Total}}"]);
    assert!(parts.contains("Layers=2\n") && parts.contains("Volumes=1\n"), "{parts}");
}

#[test]
fn system_prune_leaves_what_runs_and_what_is_named() {
    let engine = engine!();
    engine.start_sleeper("runs");
    engine.ok(&["run", "--name", "ended", "--network", "none", "-v", "/anonymous", &tiny(), "true"]);
    engine.ok(&["volume", "create", "named"]);
    engine.ok(&["network", "create", "unused"]);
    let output = engine.ok(&["system", "prune", "-f"]);
    assert!(output.contains("Deleted Networks") && output.contains("\nunused\n"), "{output}");
    assert!(output.contains("Deleted Containers:") && output.contains("Total reclaimed space:"), "{output}");
    assert_eq!(engine.names(), ["runs"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]).lines().count(), 2);
    engine.ok(&["system", "prune", "-a", "-f", "--volumes"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "named");
    assert_eq!(engine.ok(&["exec", "runs", "echo", "unharmed"]), "unharmed");
    assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn system_reset_removes_all_of_ours_and_nothing_else() {
    let engine = engine!();
    require!(!engine.is_podman(), "podman's reset goes further");
    let id = engine.start_sleeper("runs");
    engine.run(&["system", "reset", "-f"]).explains(125, &["running", &id[..12], "stop"]);
    assert_eq!(engine.ok(&["exec", "runs", "echo", "unharmed"]), "unharmed");
    engine.ok(&["stop", "-t", "0", "runs"]);
    assert_eq!(engine.run_with_input(&["system", "reset"], b"n\n").ok(), "");
    assert_eq!(engine.names(), ["runs"]);

    let mine = engine.data().join("mine.txt");
    std::fs::write(&mine, "precious").unwrap();
    let outside = engine.folder("outside");
    std::fs::write(Path::new(&outside).join("photo"), "precious").unwrap();
    std::os::unix::fs::symlink(&outside, engine.data().join("layers/link")).unwrap();
    engine.ok(&["volume", "create", "v"]);
    let output = engine.run(&["system", "reset", "-f"]);
    assert!(output.code == 0 && output.stderr.contains("mine.txt"), "{output}");
    let left: Vec<_> = std::fs::read_dir(engine.data()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(mine.exists() && Path::new(&outside).join("photo").exists());
    assert_eq!(
        engine.ok(&["images", "-q"]) + &engine.ok(&["ps", "-aq"]) + &engine.ok(&["volume", "ls", "-q"]),
        ""
    );
    // It works on.
    engine.ok(&["pull", "-q", &tiny()]);
    assert_eq!(engine.sh(&[], "echo again"), "again");
}
