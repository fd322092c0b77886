//! Flags of `build` that docker's, buildx's and podman's users give.

use crate::build::{context, inside, last, steps, text};
use crate::limits::{NO_CGROUPS, has_cgroups};
use crate::support::image::{Image, Layer};
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, Output, setting, tiny};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Builds a Dockerfile with nothing beside it.
fn file(engine: &Engine, dockerfile: &str, flags: &[&str]) -> Output {
    let folder = context(engine, "plain", &[("Dockerfile", dockerfile)]);
    engine.run(&[&["build"], flags, &[text(&folder)]].concat()).of_build()
}

/// Whether each step came from the cache.
fn cached(output: &str) -> Vec<bool> {
    steps(output).into_iter().map(|(is_cached, _)| is_cached).collect()
}

fn layers(engine: &Engine, image: &str) -> usize {
    let found = engine.inspect_json(&["image", "inspect", image]);
    found["RootFS"]["Layers"].as_array().unwrap().len()
}

fn small() -> Image {
    Image::tiny_with(vec![Layer::new().file("etc/mark", b"small\n", 0o644)])
}

#[test]
fn base_images_outputs_and_caches_are_got_and_sent_with_the_credentials_of_the_flags() {
    let host = setting("CORACLE_TEST_AUTH_REGISTRY");
    require!(host.is_some(), "no registry with accounts (CORACLE_TEST_AUTH_REGISTRY)");
    let host = host.unwrap();
    let engine = engine!();
    let base = format!("{host}/test/tiny:gz");
    let dockerfile = format!("FROM {base}\nRUN echo made > /made\n");
    let refused = file(&engine, &dockerfile, &[]);
    assert!(refused.code != 0 && refused.to_string().contains("authentication required"), "{refused}");
    let wrong = file(&engine, &dockerfile, &["--creds", "tester:wrong"]);
    assert!(wrong.code != 0 && !wrong.stderr.contains("wrong"), "the password is not shown: {wrong}");
    file(&engine, &dockerfile, &["--creds", "tester:open sesame"]).ok();

    // The credentials of a file, for a base image, the image itself and a cache.
    let auths = format!(r#"{{"auths": {{"{host}": {{"auth": "dGVzdGVyOm9wZW4gc2VzYW1l"}}}}}}"#);
    let auth_file = engine.file("auth.json", &auths);
    let own = std::process::id();
    let (image, cache) = (format!("{host}/flags/image-{own}"), format!("{host}/flags/cache-{own}"));
    let dockerfile =
        format!("FROM TINY\nRUN cat /proc/sys/kernel/random/uuid > /made\nCOPY --from={base} /etc /copied\n");
    let flags = ["--authfile", &auth_file, "--push", "-t", &image, "--cache-to", &cache];
    let first = file(&engine, &dockerfile, &flags).ok();
    let other = Engine::with_registry().unwrap();
    let other_file = other.file("auth.json", &auths);
    let flags = ["--authfile", &other_file, "--cache-from", &cache];
    let second = file(&other, &dockerfile, &flags).ok();
    assert_eq!(last(&second), last(&first));
    assert_eq!(
        other.ok(&["pull", "-q", "--authfile", &other_file, &image]),
        last(&first).trim_start_matches("sha256:")
    );
    // Without them, the cache is told to be out of reach.
    let third = Engine::with_registry().unwrap();
    let without = file(&third, "FROM TINY\nRUN true\n", &["--cache-from", &cache]).ok();
    assert!(without.contains("goes on without this cache"), "{without}");
}

#[test]
fn a_registry_is_verified_and_asked_again_as_the_flags_say() {
    let engine = Engine::new();
    let registry = Registry::start();
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    registry.rule(move |request| {
        let fails = request.path.contains("/blobs/") && count.fetch_add(1, Ordering::SeqCst) % 3 < 2;
        fails.then(|| Response::new(503, "busy"))
    });
    let dockerfile = format!("FROM {}\n", registry.add("flaky", &small()));
    let verified = file(&engine, &dockerfile, &["--tls-verify=true"]);
    assert!(verified.code != 0, "plain HTTP is not to be verified: {verified}");
    assert_eq!(failures.load(Ordering::SeqCst), 0);
    let once = file(&engine, &dockerfile, &["--tls-verify=false", "--retry", "0"]);
    assert!(once.code != 0 && once.stderr.contains("503"), "{once}");
    let began = std::time::Instant::now();
    file(&engine, &dockerfile, &["--tls-verify=false", "--retry=5", "--retry-delay=10ms"]).ok();
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    let missing = engine.scratch().join("none");
    let certificates =
        file(&engine, &format!("FROM {}/other\n", registry.address()), &["--cert-dir", text(&missing)]);
    assert!(certificates.code != 0, "{certificates}");
}

#[test]
fn what_is_done_anyway_is_accepted_and_what_is_not_is_refused() {
    let engine = engine!();
    let habits = [
        "--rm",
        "--force-rm=false",
        "--layers",
        "--compress",
        "--provenance=false",
        "--sbom",
        "false",
        "--attest",
        "type=provenance,disabled=true",
        "--disable-content-trust",
        "--isolation=default",
        "--builder",
        "default",
        "--unsetannotation",
        "a",
    ];
    let dockerfile = "FROM TINY\nRUN echo one > /one\nRUN echo two > /two\n";
    let built = file(&engine, dockerfile, &habits).ok();
    let base = layers(&engine, &tiny());
    assert_eq!(layers(&engine, last(&built)), base + 2);
    assert_eq!(cached(&file(&engine, dockerfile, &["--rm=false"]).ok()), [true, true]);
    let whole = file(&engine, dockerfile, &["--layers=false"]).ok();
    assert_eq!(cached(&whole), [false, false]);
    assert_eq!(layers(&engine, last(&whole)), base + 1);
    assert_eq!(inside(&engine, last(&whole), "cat /one /two"), "one\ntwo");
    for (flag, word) in [
        ("--provenance=mode=max", "attestations"),
        ("--attest=type=sbom", "attestations"),
        ("--disable-content-trust=false", "signatures"),
        ("--isolation=chroot", "containers"),
        ("--builder=mine", "one builder"),
    ] {
        file(&engine, dockerfile, &[flag]).explains(125, &[word]);
    }
}

#[test]
fn another_file_may_say_what_is_left_out_and_another_image_be_the_base() {
    let engine = engine!();
    let dockerfile = "FROM registry.invalid/none AS base\nFROM base\nCOPY . /all\n";
    let files = [("Dockerfile", dockerfile), (".dockerignore", "a\n"), ("a", "a"), ("b", "b")];
    let folder = context(&engine, "ignoring", &files);
    let build = |flags: &[&str]| engine.run(&[&["build"], flags, &[text(&folder)]].concat()).of_build();
    let base = tiny();
    let usual = build(&["--from", &base]).ok();
    assert_eq!(inside(&engine, last(&usual), "ls /all"), "Dockerfile\nb");
    let ignore = engine.file("elsewhere/ignore", "b\nDockerfile\n");
    let other = build(&["--from", &base, "--ignorefile", &ignore]).ok();
    assert_eq!(inside(&engine, last(&other), "ls /all"), "a");
    build(&["--from", &base, "--ignorefile", "/none"]).explains(125, &["/none"]);
    // Only the first FROM.
    let two = "FROM registry.invalid/none AS one\nRUN true\nFROM registry.invalid/other\n";
    file(&engine, two, &["--from", &base]).explains(125, &["registry.invalid"]);
    let scratch = file(&engine, "FROM TINY\nCOPY Dockerfile /\n", &["--from", "scratch"]).ok();
    assert_eq!(layers(&engine, last(&scratch)), 1);
}

#[test]
fn the_platform_and_the_variables_of_an_image_are_as_the_flags_say() {
    let mut engine = engine!();
    let scratch =
        "FROM scratch\nARG TARGETPLATFORM\nENV PLATFORM=$TARGETPLATFORM KEPT=1 GONE=1\nCOPY Dockerfile /\n";
    engine.set("FROM_HERE", "here");
    let flags = [
        "--arch",
        "arm64",
        "--variant",
        "v8",
        "--env",
        "KEPT=2",
        "--env",
        "FROM_HERE",
        "--env",
        "UNKNOWN_HERE",
    ];
    let built = file(&engine, scratch, &[&flags[..], &["--unsetenv", "GONE"]].concat()).ok();
    let found = engine.inspect_json(&["image", "inspect", last(&built)]);
    assert_eq!((&found["Architecture"], &found["Os"]), (&"arm64".into(), &"linux".into()));
    let env: Vec<&str> =
        found["Config"]["Env"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    assert!(env.contains(&"PLATFORM=linux/arm64/v8") || env.contains(&"PLATFORM=linux/arm64"), "{env:?}");
    assert!(env.contains(&"KEPT=2") && env.contains(&"FROM_HERE=here"), "{env:?}");
    assert!(!env.iter().any(|one| one.starts_with("GONE") || one.starts_with("UNKNOWN")), "{env:?}");
    file(&engine, scratch, &["--platform", "linux/arm64", "--arch", "arm64"]).explains(125, &["--platform"]);
    // A step sees nothing of --env, and the proxies of this shell only if they are to be passed on.
    engine.set("HTTP_PROXY", "http://proxy.invalid:1");
    let shown = "FROM TINY\nRUN echo \"$KEPT $HTTP_PROXY\" > /shown\n";
    for (flag, expected) in [("--http-proxy=false", "\n"), ("--http-proxy", "http://proxy.invalid:1\n")] {
        let built = file(&engine, shown, &["--no-cache", "--env", "KEPT=2", flag]).ok();
        assert_eq!(inside(&engine, last(&built), "cat /shown").trim(), expected.trim(), "{flag}");
        let env = engine.inspect_json(&["image", "inspect", last(&built)])["Config"]["Env"].to_string();
        assert!(env.contains("KEPT=2") && !env.contains("proxy.invalid"), "{env}");
    }
}

#[test]
fn steps_are_given_what_the_flags_say_and_the_cache_minds_it() {
    let engine = engine!();
    let shared = engine.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "of this machine\n").unwrap();
    let dockerfile = "FROM TINY\nRUN cat /mnt/shared/file > /seen 2>/dev/null || echo none > /seen; id -G > /groups; \
                      wc -c < /proc/cpuinfo > /masked; stat -c %t:%T /dev/mine > /device 2>/dev/null || true\n";
    let volume = format!("{}:/mnt/shared:ro", text(&shared));
    let flags = [
        "-v",
        &volume,
        "--group-add",
        "1234",
        "--security-opt",
        "mask=/proc/cpuinfo",
        "--device",
        "/dev/zero:/dev/mine",
    ];
    let shown = |built: &str| {
        inside(&engine, last(built), "cat /seen /groups /masked /device; ls -d /mnt/shared 2>&1 || true")
    };
    let without = file(&engine, dockerfile, &[]).ok();
    assert!(shown(&without).starts_with("none\n"), "{without}");
    let with = file(&engine, dockerfile, &flags).ok();
    assert_eq!(cached(&with), [false]);
    let seen = shown(&with);
    assert!(seen.starts_with("of this machine\n0 1234\n0\n1:5\n") && seen.contains("No such file"), "{seen}");
    assert_eq!(cached(&file(&engine, dockerfile, &flags).ok()), [true]);
    for left_out in (0..flags.len()).step_by(2) {
        let mut fewer = flags.to_vec();
        fewer.drain(left_out..left_out + 2);
        assert_eq!(cached(&file(&engine, dockerfile, &fewer).ok()), [false], "{fewer:?}");
    }
    assert_eq!(cached(&file(&engine, dockerfile, &[]).ok()), [true]);
    for (flag, word) in [
        ("-v=named:/x", "no file or folder"),
        ("-v=/x", "no file or folder"),
        ("--device=/dev/none", "/dev/none"),
    ] {
        file(&engine, dockerfile, &[flag]).explains(125, &[word]);
    }
}

#[test]
fn steps_may_be_in_namespaces_of_the_host() {
    let engine = engine!();
    let own =
        |kind: &str| fs::read_link(Path::new("/proc/self/ns").join(kind)).unwrap().display().to_string();
    let dockerfile =
        "FROM TINY\nRUN for kind in pid ipc uts; do readlink /proc/self/ns/$kind; done > /spaces\n";
    let spaces = |flags: &[&str]| {
        let built = file(&engine, dockerfile, flags).ok();
        inside(&engine, last(&built), "cat /spaces").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let private = spaces(&[]);
    for (number, kind) in ["pid", "ipc", "uts"].into_iter().enumerate() {
        assert_ne!(private[number], own(kind));
        let shared = spaces(&[&format!("--{kind}=host")]);
        for (other, name) in ["pid", "ipc", "uts"].into_iter().enumerate() {
            assert_eq!(shared[other] == own(name), number == other, "{kind}: {shared:?}");
        }
        file(&engine, dockerfile, &[&format!("--{kind}=container:x")]).explains(125, &["not supported"]);
    }
    file(&engine, dockerfile, &["--userns=host"]).ok();
    file(&engine, dockerfile, &["--userns=keep-id"]).explains(125, &["--userns host"]);
}

#[test]
fn the_files_of_the_network_may_be_the_images_own() {
    let engine = engine!();
    let dockerfile = "FROM TINY\nCOPY <<EOF /etc/hosts\n10.0.0.1 own\nEOF\nCOPY <<EOF /etc/hostname\nown\nEOF\n\
                      RUN cat /etc/hosts /etc/hostname > /seen; echo 10.0.0.2 more >> /etc/hosts\n";
    let seen = |built: &str| inside(&engine, last(built), "cat /seen");
    let without = file(&engine, dockerfile, &[]).ok();
    assert!(seen(&without).contains("localhost") && !seen(&without).contains("own"), "{}", seen(&without));
    let with = file(&engine, dockerfile, &["--no-hosts", "--no-hostname"]).ok();
    assert_eq!(cached(&with), [true, true, false]);
    assert_eq!(seen(&with), "10.0.0.1 own\nown");
    let kept =
        engine.ok(&["run", "--rm", "--no-hosts", "--network", "none", last(&with), "cat", "/etc/hosts"]);
    assert_eq!(kept, "10.0.0.1 own\n10.0.0.2 more");
    file(&engine, dockerfile, &["--no-hosts", "--add-host", "a:10.0.0.3"]).explains(125, &["--add-host"]);
}

#[test]
fn a_steps_cgroup_is_below_the_parent_that_was_named() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    let flags = ["--cgroup-parent", "steps/below", "--cgroupns", "host"];
    let built = file(&engine, "FROM TINY\nRUN cat /proc/self/cgroup > /seen\n", &flags).ok();
    let seen = inside(&engine, last(&built), "cat /seen");
    let own = seen.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let (above, _) = own.split_once("/below/coracle-").unwrap();
    let above = format!("/sys/fs/cgroup{above}");
    assert!(above.ends_with("/steps"), "{above}");
    fs::remove_dir(format!("{above}/below")).unwrap_or_else(|error| panic!("{above}: {error}"));
    fs::remove_dir(above).unwrap();
    let refused = file(&engine, "FROM TINY\nRUN true\n", &["--cgroup-parent", "/not-ours", "--no-cache"]);
    assert!(refused.code != 0 && refused.stderr.contains("not-ours"), "{refused}");
}

#[test]
fn a_dockerfile_tells_its_targets_and_what_they_can_be_given() {
    let engine = engine!();
    let dockerfile = "# BASE what it stands on\nARG BASE=registry.invalid/none\n# tools to build with\nFROM $BASE AS tools\n\
                      FROM tools AS app\nARG TAG=1\nRUN --mount=type=secret,id=token,required=true true\n";
    let call = |words: &[&str]| file(&engine, dockerfile, words).ok();
    assert_eq!(
        call(&["--call", "targets"]),
        "TARGET          DESCRIPTION\ntools           to build with\napp (default)"
    );
    let outline = call(&["--call=outline", "--build-arg", "TAG=2"]);
    assert_eq!(
        outline,
        "TARGET:   app\n\nBUILD ARG   VALUE                   DESCRIPTION\nBASE        registry.invalid/none   what it stands on\n\
         TAG         2\n\nSECRET    REQUIRED\ntoken     true"
    );
    let json: serde_json::Value =
        serde_json::from_str(&call(&["--call=outline,format=json", "--target=tools"])).unwrap();
    assert_eq!(
        (&json["name"], &json["args"][0]["value"]),
        (&"tools".into(), &"registry.invalid/none".into())
    );
    assert!(json.get("secrets").is_none(), "{json}");
    assert!(file(&engine, dockerfile, &["--call=check"]).ok().contains("Check complete, no warnings found."));
    file(&engine, dockerfile, &["--call=describe"]).explains(125, &["unknown method"]);
    file(&engine, dockerfile, &["--call=outline", "--check"]).explains(125, &["exclude each other"]);
}
