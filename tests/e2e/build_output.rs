//! What comes out of `build`: images and what they say, archives, files.

use crate::build::{context, last, text};
use crate::support::{Engine, host, run, setting, tiny};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn build(engine: &Engine, context: &Path, flags: &[&str]) -> String {
    engine.ok(&[&["build"], flags, &[text(context)]].concat())
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn skopeo(args: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.args(args);
    run(command).ok()
}

/// A repository of the plain registry that nobody else has.
fn target(name: &str) -> String {
    let host = setting("CORACLE_TEST_REGISTRY").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{host}/built/{name}-{}-{now}", std::process::id())
}

fn images(engine: &Engine) -> Vec<String> {
    let listed = engine.ok(&["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]);
    listed.lines().filter(|name| !name.contains("test/tiny")).map(str::to_owned).collect()
}

/// Files of many kinds.
fn files(engine: &Engine, name: &str) -> PathBuf {
    let file = "FROM TINY\nCOPY --chown=5:6 --chmod=4751 tool /made/tool\n\
                RUN echo said && ln /made/tool /made/again && ln -s /etc/passwd /made/link && mkdir -m 711 /made/dir && \
                mkfifo /made/pipe && chown 7:8 /made/dir && rm /etc/readme\n";
    context(engine, name, &[("Dockerfile", file), ("tool", "tool\n")])
}

#[test]
fn files_come_out_as_a_folder_of_the_users_and_nothing_is_kept() {
    let engine = engine!();
    let folder = files(&engine, "local");
    let out = engine.scratch().join("out");
    let shown = build(&engine, &folder, &["-o", text(&out)]);
    assert!(!shown.contains("sha256:"), "no id of an image that is not there: {shown}");
    assert_eq!(images(&engine), Vec::<String>::new());
    let own = fs::metadata(engine.scratch()).unwrap();
    for (path, mode) in [("made/tool", 0o100_751), ("made/dir", 0o40_711), ("bin/busybox", 0o100_755)] {
        let found = fs::symlink_metadata(out.join(path)).unwrap();
        assert_eq!((found.mode(), found.uid(), found.gid()), (mode, own.uid(), own.gid()), "{path}");
    }
    assert_eq!(fs::read_link(out.join("made/link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_to_string(out.join("made/again")).unwrap(), "tool\n");
    assert!(!out.join("etc/readme").exists());
    // What is there is replaced, what else is there stays, and no link is followed.
    let outside = engine.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("tool"), "untouched").unwrap();
    fs::remove_dir_all(out.join("made")).unwrap();
    symlink(&outside, out.join("made")).unwrap();
    fs::remove_file(out.join("bin/busybox")).unwrap();
    symlink(outside.join("tool"), out.join("bin/busybox")).unwrap();
    fs::write(out.join("mine"), "mine").unwrap();
    build(&engine, &folder, &["--output", &format!("type=local,dest={}", text(&out)), "-t", "kept"]);
    assert_eq!(fs::read_to_string(outside.join("tool")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(fs::symlink_metadata(out.join("made")).unwrap().is_dir());
    assert!(fs::symlink_metadata(out.join("bin/busybox")).unwrap().is_file());
    assert_eq!(fs::read_to_string(out.join("mine")).unwrap(), "mine");
    assert_eq!(images(&engine), ["localhost/kept:latest"]);
    // A target that cannot be written is named.
    let locked = engine.scratch().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    let to = locked.join("out");
    engine.run(&["build", "-o", text(&to), text(&folder)]).explains(1, &["cannot make", text(&to)]);
}

#[test]
fn files_come_out_as_an_archive_with_the_owners_of_the_image() {
    let engine = engine!();
    let folder = files(&engine, "tar");
    let file = engine.scratch().join("files.tar");
    build(&engine, &folder, &["-o", &format!("type=tar,dest={}", text(&file))]);
    let list = host(&format!("tar --numeric-owner -tvf {} | cut -d' ' -f1,2", text(&file)));
    let names = host(&format!("tar -tf {}", text(&file)));
    let line = |name: &str| {
        let at = names.lines().position(|line| line == name).unwrap_or_else(|| panic!("{name}: {names}"));
        list.lines().nth(at).unwrap().to_owned()
    };
    assert_eq!(line("made/dir/"), "drwx--x--x 7/8");
    assert_eq!(line("made/again"), "-rwsr-x--x 5/6");
    assert_eq!(line("made/pipe"), "prw-r--r-- 0/0");
    assert!(line("made/tool").starts_with('h'), "{list}");
    // To standard output, which then has nothing else.
    let other = engine.scratch().join("stdout.tar");
    let script = format!(
        "{} --root {} --runroot {} build -o - {} > {}",
        setting("CORACLE").unwrap(),
        text(engine.data()),
        text(engine.run_root()),
        text(&folder),
        text(&other)
    );
    host(&script);
    assert_eq!(fs::read(&other).unwrap(), fs::read(&file).unwrap());
}

#[test]
fn images_come_out_as_archives_that_others_read() {
    let engine = engine!();
    let folder = files(&engine, "archives");
    for kind in ["oci", "docker"] {
        let file = engine.scratch().join(format!("{kind}.tar"));
        let meta = engine.scratch().join(format!("{kind}.json"));
        let ids = engine.scratch().join(format!("{kind}.id"));
        let output = format!("type={kind},dest={}", text(&file));
        let flags = ["-t", "app:1", "-o", &output, "--metadata-file", text(&meta), "--iidfile", text(&ids)];
        let shown = build(&engine, &folder, &flags);
        assert_eq!(images(&engine), Vec::<String>::new());
        let id = fs::read_to_string(&ids).unwrap();
        assert_eq!(last(&shown), id);
        let meta = json_of(&meta);
        assert_eq!(meta["containerimage.config.digest"], json!(id));
        assert_eq!(meta["image.name"], "localhost/app:1");
        let source = match kind {
            "oci" => format!("oci-archive:{}", text(&file)),
            _ => format!("docker-archive:{}", text(&file)),
        };
        let config: Value = serde_json::from_str(&skopeo(&["inspect", "--config", &source])).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 4, "{config}");
        let layout = engine.scratch().join(format!("{kind}-copy"));
        skopeo(&["copy", "-q", &source, &format!("oci:{}:x", text(&layout))]);
        let manifest = skopeo(&["inspect", "--raw", &format!("oci:{}:x", text(&layout))]);
        assert_eq!(manifest.matches("layer.v1.tar").count(), 4, "{manifest}");
        if kind == "oci" {
            assert!(manifest.contains(&id), "{manifest}");
            let digest = skopeo(&["inspect", "--format", "{{.Digest}}", &source]);
            assert_eq!(meta["containerimage.digest"], digest);
        }
        let other = Engine::new();
        assert!(other.ok(&["load", "-q", "-i", text(&file)]).contains("localhost/app:1"));
        assert_eq!(other.ok(&["image", "inspect", "--format", "{{.Id}}", "app:1"]), id);
    }
    let layout = engine.scratch().join("layout");
    build(&engine, &folder, &["-o", &format!("type=oci,tar=false,dest={}", text(&layout)), "-t", "x:y"]);
    skopeo(&["inspect", &format!("oci:{}:localhost/x:y", text(&layout))]);
    // Without dest= it is loaded, as by docker.
    let id = build(&engine, &folder, &["-q", "-o", "type=docker,name=loaded"]);
    assert_eq!(engine.ok(&["image", "inspect", "--format", "{{.Id}}", "loaded"]), id);
}

#[test]
fn what_is_built_is_pushed_under_all_its_names() {
    let engine = engine!();
    let folder = files(&engine, "pushed");
    let (one, two) = (format!("{}:1", target("one")), format!("{}:2", target("two")));
    let meta = engine.scratch().join("meta.json");
    let flags = ["--push", "-q", "-t", &one, "-t", &two, "--metadata-file", text(&meta)];
    let id = build(&engine, &folder, &flags);
    let meta = json_of(&meta);
    for name in [&one, &two] {
        let docker = format!("docker://{name}");
        let digest = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &docker]);
        assert_eq!(meta["containerimage.digest"], digest);
        let other = Engine::new();
        assert_eq!(format!("sha256:{}", other.ok(&["pull", "-q", name])), id);
    }
    assert_eq!(meta["image.name"], format!("{one},{two}"));
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{one}")]);
    assert_eq!(raw.matches("layer.v1.tar+gzip").count(), 4, "{raw}");
    let zstd = format!("{}:1", target("zstd"));
    let output = format!("type=image,name={zstd},push=true,compression=zstd");
    build(
        &engine,
        &folder,
        &["-q", "-o", &output, "--annotation", "manifest:who=me", "--annotation", "a:b=c"],
    );
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{zstd}")]);
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["annotations"], json!({"who": "me", "a:b": "c"}));
    assert!(manifest["layers"][2]["mediaType"].as_str().unwrap().ends_with("+zstd"), "{raw}");
    engine.run(&["build", "--push", "-t", "short", text(&folder)]).explains(125, &["localhost/short", "-t"]);
    engine
        .run(&["build", "--annotation", "index:a=b", text(&folder)])
        .explains(125, &["annotation", "one platform", "manifest:"]);
}

#[test]
fn an_image_says_what_it_is_told_to() {
    let engine = engine!();
    let file = "FROM TINY\nENV KEPT=1 GONE=2\nLABEL own=1 other=2\nHEALTHCHECK --interval=5s CMD true\n\
                SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo x > /x\n";
    let folder = context(&engine, "said", &[("Dockerfile", file)]);
    let inspect = |image: &str, what: &str| engine.ok(&["image", "inspect", "--format", what, image]);
    build(&engine, &folder, &["-t", "plain"]);
    let flags = [
        "-t",
        "told",
        "--format",
        "docker",
        "--unsetenv",
        "GONE",
        "--unsetlabel",
        "other",
        "--label",
        "more=3",
        "--identity-label",
        "--omit-history",
    ];
    build(&engine, &folder, &flags);
    let config = engine.inspect_json(&["image", "inspect", "told"])["Config"].clone();
    let env = config["Env"].to_string();
    assert!(env.contains("KEPT=1") && !env.contains("GONE"), "{env}");
    assert_eq!((&config["Labels"]["own"], &config["Labels"]["more"]), (&json!("1"), &json!("3")));
    assert!(config["Labels"]["other"].is_null() && config["Labels"]["io.coracle.version"].is_string());
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Shell"], json!(["/bin/sh", "-e", "-c"]));
    let history = |image: &str| engine.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", image]);
    assert!(history("plain").contains("echo x"), "{}", history("plain"));
    assert_eq!(history("told").trim(), "");
    // Both forms, for others to read.
    for (image, kind, style) in [("plain", "oci", "oci.image.manifest"), ("told", "docker", "docker.dist")] {
        let name = format!("{}:{kind}", target("forms"));
        engine.ok(&["push", "-q", image, &name]);
        let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
        assert!(raw.contains(style), "{raw}");
        skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    }
    assert_ne!(inspect("plain", "{{.Id}}"), inspect("told", "{{.Id}}"));
}

#[test]
fn layers_are_made_one_and_what_they_hid_stays_hidden() {
    let engine = engine!();
    let file = "FROM TINY AS base\nRUN mkdir -p /d/kept /d/hidden && touch /d/kept/a /d/hidden/b /gone && echo 1 > /back\n\
                FROM base\nRUN rm -r /d/hidden /gone /back\nRUN mkdir /d/hidden && touch /d/hidden/new\n\
                RUN echo 2 > /back && ln /back /twin && chown 5:6 /d/kept\nRUN touch /removed\nRUN rm /removed\n";
    let folder = context(&engine, "squash", &[("Dockerfile", file)]);
    build(&engine, &folder, &["--target", "base", "-t", "base"]);
    let over = context(
        &engine,
        "over",
        &[(
            "Dockerfile",
            &file
                .split("FROM base\n")
                .nth(1)
                .map_or(String::new(), |rest| format!("FROM localhost/base\n{rest}")),
        )],
    );
    build(&engine, &over, &["-t", "many"]);
    build(&engine, &over, &["--squash", "-t", "new"]);
    build(&engine, &over, &["--squash-all", "-t", "all"]);
    let layers = |image: &str| {
        let of = engine.inspect_json(&["image", "inspect", image])["RootFS"]["Layers"].clone();
        of.as_array().unwrap().clone()
    };
    let base = layers("base");
    assert_eq!(layers("many").len(), base.len() + 5);
    assert_eq!(layers("new")[..base.len()], base[..]);
    assert_eq!((layers("new").len(), layers("all").len()), (base.len() + 1, 1));
    let look = "find / -xdev | grep -v -e ^/proc -e ^/sys -e ^/dev -e ^/etc/host -e ^/etc/resolv -e ^/run | sort; \
                cat /back /twin; stat -c '%u:%g %a' /d/kept /d/hidden; stat -c %h /back";
    let shown = |image: &str| {
        engine.ok(&["run", "--rm", "--network", "none", "--entrypoint", "", image, "sh", "-ec", look])
    };
    let expected = shown("many");
    assert!(expected.contains("/d/hidden/new") && !expected.contains("/d/hidden/b"), "{expected}");
    assert!(!expected.contains("/gone") && !expected.contains("/removed"), "{expected}");
    assert_eq!(shown("new"), expected);
    assert_eq!(shown("all"), expected);
    let history = engine.ok(&["history", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", "new"]);
    assert!(history.contains("RUN /bin/sh -c touch /removed"), "{history}");
    // Others agree on which layer is whose.
    let file = engine.scratch().join("new.tar");
    engine.ok(&["save", "-q", "--format", "oci-archive", "-o", text(&file), "new"]);
    let config: Value =
        serde_json::from_str(&skopeo(&["inspect", "--config", &format!("oci-archive:{}", text(&file))]))
            .unwrap();
    let full =
        config["history"].as_array().unwrap().iter().filter(|entry| entry["empty_layer"] != json!(true));
    assert_eq!(full.count(), base.len() + 1);
}

/// Builds with these flags in a store of its own, from a context of its own whose files have this time.
fn built_elsewhere(name: &str, time: u64, flags: &[&str]) -> (String, String, Engine) {
    let engine = Engine::with_registry().unwrap();
    let file = "FROM TINY AS tools\nRUN mkdir /out && echo tool > /out/tool\n\
                FROM TINY\nARG SOURCE_DATE_EPOCH\nWORKDIR /app\nCOPY . .\nADD in.tgz /added/\n\
                COPY --from=tools /out /tools\nRUN echo \"$SOURCE_DATE_EPOCH\" > when && rm /etc/readme && ln -s when link\n\
                LABEL x=y\n";
    let files =
        [("Dockerfile", file), ("a", "a"), ("deep/er/b", "b"), ("in/c", "c"), (".dockerignore", "in\n")];
    let folder = context(&engine, name, &files);
    let tar = "--sort=name --mtime=@1500000000 --owner=0 --group=0";
    host(&format!("cd {0} && tar {tar} -cf - in | gzip -n > in.tgz", text(&folder)));
    host(&format!("find {} -exec touch -d @{time} {{}} +", text(&folder)));
    let id = build(&engine, &folder, &[flags, &["-q", "-t", "same"]].concat());
    let layout = engine.scratch().join("layout");
    engine.ok(&["save", "-q", "--format", "oci-dir", "-o", text(&layout), "same"]);
    (id, json_of(&layout.join("index.json"))["manifests"][0]["digest"].to_string(), engine)
}

#[test]
fn the_same_time_gives_the_same_image_in_another_store() {
    let _needs = engine!();
    for flags in [
        &["--source-date-epoch", "1700000000", "--rewrite-timestamp"][..],
        &["--timestamp", "1700000000"],
        &["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", "type=image,rewrite-timestamp=true"],
        &["--source-date-epoch", "1700000000", "--rewrite-timestamp", "--squash"],
    ] {
        let (one, one_manifest, engine) = built_elsewhere("here", 1_750_000_000, flags);
        let (two, two_manifest, _) = built_elsewhere("some/where/else", 1_760_000_001, flags);
        assert_eq!((&one, &one_manifest), (&two, &two_manifest), "{flags:?}");
        let created = engine.ok(&["image", "inspect", "--format", "{{.Created}}", "same"]);
        assert!(created.starts_with("2023-11-14T22:13:20"), "{created}");
        let script = "cat when; touch -d @1700000000 /tmp/then; find /app /added /tools -newer /tmp/then; stat -c %Y a /added/in/c";
        let shown = engine.ok(&["run", "--rm", "--network", "none", "same", "sh", "-ec", script]);
        let archive = if flags[0] == "--timestamp" { "1700000000" } else { "1500000000" };
        let when = if flags[0] == "--timestamp" { "" } else { "1700000000" };
        assert_eq!(shown, format!("{when}\n1700000000\n{archive}"), "{flags:?}");
        // The base image's layers are what they were.
        let of = |image: &str| engine.inspect_json(&["image", "inspect", image])["RootFS"]["Layers"].clone();
        assert!(of("same").to_string().starts_with(of(&tiny()).to_string().trim_end_matches(']')));
    }
}

#[test]
fn the_environment_says_the_time_too_and_files_come_out_with_it() {
    let mut engine = engine!();
    engine.set("SOURCE_DATE_EPOCH", "1600000000");
    let file = "FROM TINY\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /when\n";
    let folder = context(&engine, "environment", &[("Dockerfile", file)]);
    let out = engine.scratch().join("out");
    let shown = engine.run(&["build", "-t", "x", "-o", text(&out), text(&folder)]);
    assert!(!shown.stderr.contains("warning"), "{shown}");
    shown.ok();
    assert_eq!(fs::read_to_string(out.join("when")).unwrap(), "1600000000\n");
    for path in ["when", "etc", "bin/busybox"] {
        assert_eq!(fs::metadata(out.join(path)).unwrap().mtime(), 1_600_000_000, "{path}");
    }
    let history = engine.ok(&["history", "--format", "{{.CreatedAt}}", "x"]);
    assert!(history.lines().next().unwrap().starts_with("2020-09-13T12:26:40"), "{history}");
    engine.set("SOURCE_DATE_EPOCH", "soon");
    engine.run(&["build", text(&folder)]).explains(125, &["SOURCE_DATE_EPOCH=soon", "seconds since 1970"]);
}

#[test]
fn an_image_for_another_platform_is_built_of_files_alone() {
    let engine = engine!();
    let file = "FROM --platform=$BUILDPLATFORM TINY AS host\nFROM scratch\nARG TARGETARCH\nCOPY --from=host /etc /etc\nCOPY f /$TARGETARCH/\nCMD [\"x\"]\n";
    let folder = context(&engine, "platform", &[("Dockerfile", file), ("f", "f")]);
    let out = engine.scratch().join("out");
    let output = format!("type=local,dest={}", text(&out));
    let host = Command::new("uname").arg("-m").output().unwrap().stdout;
    let (other, arch, variant) = if host == b"riscv64\n" {
        ("linux/arm64", "arm64", Some("v8"))
    } else {
        ("linux/riscv64", "riscv64", None)
    };
    build(&engine, &folder, &["--platform", other, "-t", "foreign", "-o", &output]);
    assert_eq!(fs::read_to_string(out.join(arch).join("f")).unwrap(), "f");
    let of = engine.inspect_json(&["image", "inspect", "foreign"]);
    assert_eq!((&of["Os"], &of["Architecture"]), (&json!("linux"), &json!(arch)));
    assert_eq!(of.get("Variant").and_then(Value::as_str).filter(|v| !v.is_empty()), variant);
}

fn stages(engine: &Engine, name: &str) -> PathBuf {
    let file = "FROM TINY AS tools\nRUN mkdir /out && cat /proc/sys/kernel/random/uuid > /out/tool\n\
                FROM TINY\nWORKDIR /app\nCOPY f .\nCOPY --from=tools /out /tools\nRUN cat /proc/sys/kernel/random/uuid > when\nRUN true\n";
    context(engine, name, &[("Dockerfile", file), ("f", "f")])
}

#[test]
fn what_steps_made_is_found_by_a_build_in_another_store() {
    let engine = engine!();
    let folder = stages(&engine, "first");
    let name = format!("{}:cache", target("cache"));
    let dir = engine.scratch().join("cache");
    let to_dir = format!("type=local,dest={},mode=max", text(&dir));
    let to_name = format!("type=registry,ref={name},mode=max");
    let first = build(&engine, &folder, &["--cache-to", &to_dir, "--cache-to", &to_name]);
    for from in [format!("type=local,src={}", text(&dir)), format!("type=registry,ref={name}"), name.clone()]
    {
        let other = Engine::with_registry().unwrap();
        let elsewhere = stages(&other, "another/place");
        let second = build(&other, &elsewhere, &["--cache-from", &target("none"), "--cache-from", &from]);
        // The steps write down when they are carried out.
        assert_eq!(last(&second), last(&first), "{from}");
        let shown = |engine: &Engine| {
            engine.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                last(&first),
                "cat",
                "/app/when",
                "/tools/tool",
                "/app/f",
            ])
        };
        assert_eq!(shown(&other), shown(&engine));
        // What has been fetched is there from then on.
        assert_eq!(last(&build(&other, &elsewhere, &[])), last(&first));
    }
    skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
    // Written once more, nothing is compressed again, and the table knows the new step alone.
    let blobs = |dir: &Path| fs::read_dir(dir.join("blobs/sha256")).unwrap().count();
    let before = blobs(&dir);
    build(&engine, &folder, &["--cache-to", &to_dir]);
    assert_eq!(blobs(&dir), before);
}

#[test]
fn only_what_is_needed_is_fetched_and_only_own_steps_are_kept_unless_asked() {
    let engine = engine!();
    let folder = stages(&engine, "first");
    let dir = engine.scratch().join("cache");
    let first = build(&engine, &folder, &["--cache-to", &format!("type=local,dest={}", text(&dir))]);
    let other = Engine::with_registry().unwrap();
    let elsewhere = stages(&other, "second");
    fs::write(elsewhere.join("f"), "changed").unwrap();
    let from = format!("type=local,src={}", text(&dir));
    let layers = |engine: &Engine| fs::read_dir(engine.data().join("layers")).unwrap().count();
    let before = layers(&other);
    let second = build(&other, &elsewhere, &["--cache-from", &from]);
    // tools, WORKDIR, two of COPY, RUN: nothing of the first build's but the folder.
    assert_eq!(layers(&other) - before, 5);
    let of = |engine: &Engine, image: &str| {
        engine.inspect_json(&["image", "inspect", image])["RootFS"]["Layers"].clone()
    };
    let (one, two) = (of(&engine, last(&first)), of(&other, last(&second)));
    let base = of(&engine, &tiny()).as_array().unwrap().len();
    assert_eq!(one[base], two[base], "WORKDIR's");
    assert!((1..4).all(|step| one[base + step] != two[base + step]), "{one} {two}");
}

#[test]
fn an_image_is_its_own_cache_if_it_is_told_to() {
    let engine = engine!();
    let file = "FROM TINY\nWORKDIR /app\nCOPY f .\nRUN cat /proc/sys/kernel/random/uuid > when\n";
    let files = [("Dockerfile", file), ("f", "f")];
    let name = format!("{}:1", target("inline"));
    let first =
        build(&engine, &context(&engine, "a", &files), &["--push", "-t", &name, "--cache-to", "type=inline"]);
    let other = Engine::with_registry().unwrap();
    let second = build(&other, &context(&other, "b", &files), &["--cache-from", &name]);
    assert_eq!(last(&second), last(&first));
    let squashed = ["build", "--squash", "--cache-to", "type=inline", "."];
    engine.run(&squashed).explains(125, &["type=inline", "made one", "type=registry"]);
}

#[test]
fn a_cache_that_is_not_there_or_damaged_costs_time_only() {
    let engine = engine!();
    let folder = stages(&engine, "first");
    let dir = engine.scratch().join("cache");
    let to = format!("type=local,dest={},mode=max", text(&dir));
    let first = build(&engine, &folder, &["--cache-to", &to]);
    let from = format!("type=local,src={}", text(&dir));
    let again = |words: &[&str]| {
        let other = Engine::with_registry().unwrap();
        let output = other.run(&["build", "--cache-from", &from, text(&folder)]);
        let warnings: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("warning:")).collect();
        assert_eq!(warnings.len(), 1, "{output}");
        for word in words {
            assert!(warnings[0].contains(word), "{output}");
        }
        let output = output.ok();
        assert_ne!(last(&output), last(&first));
        other.ok(&["run", "--rm", "--network", "none", last(&output), "cat", "/app/when", "/tools/tool"]);
    };

    // Each layer's blob is another's.
    for blob in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        if fs::read(&path).unwrap().starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let mut bytes = fs::read(&path).unwrap();
            let end = bytes.len() - 1;
            bytes[end] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    again(&["is not used any further"]);
    let index = dir.join("index.json");
    for wrong in ["{", "{\"manifests\":[]}", "{\"manifests\":[{\"digest\":\"sha256:../../../etc/passwd\"}]}"]
    {
        fs::write(&index, wrong).unwrap();
        again(&["without this cache", "damaged"]);
    }
    fs::remove_file(&index).unwrap();
    host(&format!("mkfifo {}", text(&index)));
    again(&["without this cache", "is not a file"]);
    fs::remove_dir_all(&dir).unwrap();
    again(&["without this cache", text(&dir), "No such file"]);
    // A cache that cannot be written is an error, unless that is said to be none.
    let nowhere = format!("{}/Dockerfile/x", text(&folder));
    let to = format!("type=local,dest={nowhere}");
    engine.run(&["build", "--cache-to", &to, text(&folder)]).explains(1, &["cannot save", &nowhere]);
    let shown = engine.run(&["build", "--cache-to", &format!("{to},ignore-error=true"), text(&folder)]);
    assert!(shown.stderr.contains("could not be written"), "{shown}");
    shown.ok();
    engine
        .run(&["build", "--cache-to", "type=gha", text(&folder)])
        .explains(125, &["gha", "registry, local, inline"]);
}

#[test]
fn a_step_for_another_architecture_says_what_it_needs() {
    let engine = engine!();
    let folder = context(&engine, "alien", &[("Dockerfile", "FROM scratch\nCOPY sh /bin/sh\nRUN true\n")]);
    // The head of a program for a machine that nobody emulates (e_machine: the old Alpha's).
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend([2, 0, 0x26, 0x90, 1, 0, 0, 0]);
    head.resize(64, 0);
    fs::write(folder.join("sh"), head).unwrap();
    fs::set_permissions(folder.join("sh"), fs::Permissions::from_mode(0o755)).unwrap();
    engine
        .run(&["build", "--platform", "linux/alpha", text(&folder)])
        .explains(1, &["Dockerfile:3:1", "exec format error", "binfmt_misc", "qemu-user-static"]);
}
