//! Kinds of mounts beyond binds, volumes and plain tmpfs.

use crate::support::image::{Image, Layer};
use crate::support::registry::Registry;
use crate::support::{Engine, debian, tiny};
use crate::userns::has_subordinate_ids;
use serde_json::json;
use std::fs;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

#[test]
fn an_overlay_leaves_its_folder_alone() {
    let engine = engine!();
    let dir = engine.folder("lower");
    fs::write(format!("{dir}/old"), "old").unwrap();
    let bind = format!("{dir}:/mnt:O");
    let script = "cat /mnt/old; echo new > /mnt/new; rm /mnt/old; ls /mnt";
    assert_eq!(engine.sh(&["-v", &bind], script), "oldnew");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    // What was written lasts for one run.
    let image = tiny();
    engine.ok(&[
        "run",
        "--network",
        "none",
        "--name",
        "o",
        "-v",
        &bind,
        &image,
        "sh",
        "-c",
        "ls /mnt; touch /mnt/x",
    ]);
    assert_eq!(engine.ok(&["start", "-a", "o"]), "old");
    engine
        .try_sh(&["-v", &format!("{dir}/missing:/mnt:O")], "true")
        .explains(125, &["missing", "does not exist"]);
    engine.try_sh(&["-v", &format!("{dir}:/mnt:idmap")], "true").explains(125, &["idmap", "keep-id"]);
    require!(has_subordinate_ids(), "no subordinate ids");
    for userns in ["keep-id", "nomap", "auto"] {
        assert_eq!(
            engine.sh(&["--userns", userns, "-u", "0", "-v", &bind], "cat /mnt/old"),
            "old",
            "{userns}"
        );
    }
}

#[test]
fn the_files_of_an_image_can_be_mounted() {
    let engine = engine!();
    let other = debian();
    engine.ok(&["pull", "-q", &other]);
    let mount = format!("type=image,source={other},destination=/other");
    let script = "head -1 /other/etc/os-release | cut -c1-11; touch /other/x 2>&1 | grep -c Read-only";
    assert_eq!(engine.sh(&["--mount", &mount], script), "PRETTY_NAME\n1");
    let writable = format!("{mount},rw=true");
    assert_eq!(engine.sh(&["--mount", &writable], "echo w > /other/x; cat /other/x"), "w");
    engine.start_script("i", &["--mount", &mount], SLEEP);
    let shown = engine.inspect("i", "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}");
    assert_eq!(shown, format!("image {other} /other false"));
    // Its layers stay for as long as a container needs them.
    engine.ok(&["rmi", "-f", &other]);
    assert!(engine.ok(&["exec", "i", "cat", "/other/etc/os-release"]).contains("Debian"));
    engine.ok(&["stop", "i"]);
    engine.ok(&["start", "i"]);
    assert!(engine.ok(&["exec", "i", "cat", "/other/etc/os-release"]).contains("Debian"));
}

#[test]
fn ramfs_devpts_and_patterns() {
    let engine = engine!();
    let flags = ["--mount", "type=ramfs,destination=/r", "--mount", "type=devpts,destination=/pts,max=5"];
    let script = "touch /r/x; grep -c ' /r .* ramfs ' /proc/self/mountinfo; grep ' /pts ' /proc/self/mountinfo | grep -c max=5; ls /pts";
    assert_eq!(engine.sh(&flags, script), "1\n1\nptmx");
    for name in ["liba.so", "libb.so", "other"] {
        engine.file(&format!("lib/{name}"), name);
    }
    let lib = engine.folder("lib");
    let mount = format!("type=glob,source={lib}/lib*.so,destination=/l,ro");
    assert_eq!(engine.sh(&["--mount", &mount], "ls /l; cat /l/libb.so"), "liba.so\nlibb.so\nlibb.so");
    let mount = format!("type=glob,source={lib}/lib?.so");
    assert_eq!(engine.sh(&["--mount", &mount], &format!("cat {lib}/liba.so")), "liba.so");
    let none = format!("type=glob,source={lib}/none*,destination=/l");
    engine.try_sh(&["--mount", &none], "true").explains(125, &["none*"]);
}

#[test]
fn a_tmpfs_takes_the_kernels_options_and_the_images_files() {
    let engine = engine!();
    assert_eq!(
        engine.sh(&["--tmpfs", "/t:uid=1000,gid=1001,mode=700"], "stat -c '%u:%g %a' /t"),
        "1000:1001 700"
    );
    let output =
        engine.try_sh(&["--tmpfs", "/t:nr_inodes=5"], "for i in 1 2 3 4 5 6; do touch /t/$i || exit 3; done");
    assert_eq!(output.code, 3, "{output}");
    let script =
        "cat /data/seed | wc -c; stat -c %u:%g /data/seed; grep -c ' /data .* tmpfs ' /proc/self/mountinfo";
    let plain = engine.sh(&[], "cat /data/seed | wc -c; stat -c %u:%g /data/seed");
    assert_eq!(engine.sh(&["--tmpfs", "/data:tmpcopyup"], script), format!("{plain}\n1"));
    assert_eq!(engine.sh(&["--tmpfs", "/data"], "ls /data | wc -l"), "0");
    assert_eq!(engine.sh(&["--mount", "type=tmpfs,dst=/data,tmpcopyup"], "ls /data"), "seed");
}

#[test]
fn a_read_only_container_may_write_its_volumes() {
    let engine = engine!();
    let dir = engine.folder("rw");
    let flags = ["--read-only", "-v", "vol:/vol", "-v", &format!("{dir}:/mnt")];
    assert_eq!(engine.sh(&flags, "touch /vol/x /mnt/x && touch /x 2>&1 | grep -c Read-only"), "1");
}

#[test]
fn volumes_of_another_container_are_mounted_too() {
    let engine = engine!();
    let dir = engine.folder("host");
    engine.start_script(
        "x",
        &["-v", "/anon", "-v", "named:/named", "-v", &format!("{dir}:/bind"), "--tmpfs", "/t"],
        &format!("echo a > /anon/f; echo n > /named/f; {SLEEP}"),
    );
    crate::support::eventually("written", || engine.run(&["exec", "x", "test", "-s", "/named/f"]).code == 0);
    let script = "cat /anon/f /named/f; touch /bind/x && echo rw; test -d /t || echo no-tmpfs";
    assert_eq!(engine.sh(&["--volumes-from", "x"], script), "a\nn\nrw\nno-tmpfs");
    assert_eq!(engine.sh(&["--volumes-from", "x:ro"], "touch /anon/x 2>&1 | grep -c Read-only"), "1");
    assert_eq!(engine.sh(&["--volumes-from", "x:z", "-v", "/anon"], "ls /anon | wc -l"), "0");
    engine.try_sh(&["--volumes-from", "nobody"], "true").explains(125, &["no such container", "nobody"]);
    engine.try_sh(&["--volumes-from", "x:no"], "true").explains(125, &["volumes-from"]);
    // The anonymous volume is the other's: it outlives those who borrowed it, and stays while somebody has it.
    assert_eq!(engine.ok(&["exec", "x", "cat", "/anon/f"]), "a");
    engine.start_script("y", &["--volumes-from", "x"], SLEEP);
    engine.ok(&["rm", "-f", "-v", "-t", "0", "x"]);
    assert_eq!(engine.ok(&["exec", "y", "cat", "/anon/f"]), "a");
    assert_eq!(engine.inspect("y", "{{.HostConfig.VolumesFrom}}"), "[x]");
}

fn with_volumes(volumes: &[&str]) -> (Engine, Registry, String) {
    let engine = Engine::new();
    let registry = Registry::start();
    let volumes: serde_json::Map<String, serde_json::Value> =
        volumes.iter().map(|volume| ((*volume).to_owned(), json!({}))).collect();
    let image = Image::tiny_with(Vec::new()).with("Volumes", volumes.into());
    let reference = engine.add(&registry, "volumes", &image);
    (engine, registry, reference)
}

#[test]
fn the_volumes_of_an_image_can_be_tmpfs_or_none() {
    let (engine, _registry, image) = with_volumes(&["/v"]);
    let run = |flags: &[&str], script: &str| {
        let mut args = vec!["run", "--rm", "-q", "--network", "none"];
        args.extend(flags);
        args.extend([&*image, "sh", "-c", script]);
        engine.ok(&args)
    };
    let script = "grep ' /v ' /proc/self/mountinfo | grep -c ' tmpfs '; test -d /v && echo there";
    assert_eq!(run(&["--image-volume", "tmpfs"], script), "1\nthere");
    assert_eq!(run(&["--image-volume", "ignore"], "grep -c ' /v ' /proc/self/mountinfo || true"), "0");
    assert_eq!(run(&[], "grep -c ' /v ' /proc/self/mountinfo"), "1");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn an_image_whose_root_is_a_volume_is_explained() {
    let (engine, _registry, image) = with_volumes(&["/"]);
    let args = ["run", "--rm", "-q", "--network", "none", &image, "true"];
    engine.run(&args).explains(125, &["the volume /", "--image-volume ignore"]);
    assert!(engine.names().is_empty());
    let mut ignoring = args.to_vec();
    ignoring.insert(1, "--image-volume=ignore");
    engine.ok(&ignoring);
}

/// An image with something else than files where files of ours go.
fn odd(build: impl Fn(Layer) -> Layer) -> (Engine, Registry, String) {
    let engine = Engine::new();
    let registry = Registry::start();
    let image = Image::tiny_with(vec![build(Layer::new())]);
    let reference = engine.add(&registry, "odd", &image);
    (engine, registry, reference)
}

#[test]
fn odd_things_in_the_place_of_our_files_are_covered_or_explained() {
    let names = ["hosts", "hostname", "resolv.conf"];
    let all = |make: &dyn Fn(Layer, &str) -> Layer| {
        odd(|layer| names.iter().fold(layer, |layer, name| make(layer, &format!("etc/{name}"))))
    };
    let run = |(engine, _registry, image): &(Engine, Registry, String), flags: &[&str]| {
        let mut args = vec!["run", "--rm", "-q", "--network", "none"];
        args.extend(flags);
        args.extend([&**image, "sh", "-c", "grep -c localhost /etc/hosts; wc -l < /etc/hostname"]);
        engine.run(&args)
    };
    for target in ["/dev/null", "/dev/zero", "/nowhere/at/all", "../../../../etc/elsewhere"] {
        let odd = all(&|layer, name| layer.symlink(name, target));
        let output = run(&odd, &[]);
        // Three links to one place cover one another; one of them is seen, and nothing of the host is.
        assert!(output.code == 0 || output.code == 1, "{target}: {output}");
    }
    let device = odd(|layer| layer.symlink("etc/hosts", "/dev/null").symlink("etc/hostname", "/dev/full"));
    assert_eq!(run(&device, &[]).ok().lines().last(), Some("1"));
    let fifo = odd(|layer| layer.entry("etc/hosts", tar::EntryType::Fifo, 0o644, b"", ""));
    assert!(run(&fifo, &[]).ok().starts_with(char::is_numeric));
    let folder = odd(|layer| layer.dir("etc/hosts", 0o755).file("etc/hosts/x", b"", 0o644));
    run(&folder, &[]).explains(125, &["/etc/hosts", "--no-hosts"]);
    let turning = odd(|layer| layer.symlink("etc/resolv.conf", "resolv.conf"));
    run(&turning, &[]).explains(125, &["/etc/resolv.conf", "--dns none"]);
    assert_eq!(run(&turning, &["--dns", "none"]).code, 0);
    assert!(folder.0.names().is_empty());
}

#[test]
fn what_is_very_long_is_reported_and_not_garbled() {
    let engine = engine!();
    let long = "x".repeat(60_000);
    let image = tiny();
    let output = engine.run(&["run", "--rm", "--network", "none", &image, &long]);
    assert!(output.stderr.len() < 4000, "{} bytes", output.stderr.len());
    output.explains(127, &["executable file not found", "60000 bytes"]);
    engine
        .run(&["run", "--rm", "--network", "none", &image, &format!("/{long}")])
        .explains(126, &["60001 bytes"]);
    engine
        .run(&["run", "--rm", "--network", "none", "-u", &long, &image, "true"])
        .explains(126, &["unable to find user"]);
    engine.start_sleeper("l");
    engine.run(&["exec", "l", &long]).explains(127, &["executable file not found"]);
    let registry = Registry::start();
    let named =
        engine.add(&registry, "long", &Image::tiny_with(Vec::new()).with("User", long.clone().into()));
    engine
        .run(&["run", "--rm", "-q", "--network", "none", &named, "true"])
        .explains(126, &["unable to find user"]);
}
