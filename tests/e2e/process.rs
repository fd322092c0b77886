//! The process in the container: its environment, user, folder, names and limits.

use crate::support::image::{Image, Layer};
use crate::support::registry::Registry;
use crate::support::tiny;
use serde_json::json;

#[test]
fn the_environment_is_that_of_the_image_and_the_flags() {
    let mut engine = engine!();
    engine.set("FROM_HOST", "here");
    let file = engine.file("env", "# a comment\nA=from file\nB=2\n\nFROM_HOST\nNOT_SET\n");
    let text = engine.sh(&["--env-file", &file, "-e", "A=from flag", "-e", "EMPTY=", "-e", "NOT_SET"], "env");
    let has = |line: &str| text.lines().any(|l| l == line);
    assert!(has("A=from flag") && has("B=2") && has("EMPTY=") && has("FROM_HOST=here"), "{text}");
    assert!(
        has("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") && has("HOME=/root"),
        "{text}"
    );
    assert!(!text.contains("NOT_SET") && !text.contains("XDG_RUNTIME_DIR"), "{text}");
}

#[test]
fn home_is_that_of_the_user_and_hostname_is_set() {
    let engine = engine!();
    assert_eq!(engine.sh(&["-u", "alice"], "echo $HOME"), "/home/alice");
    assert_eq!(engine.sh(&["-e", "HOME=/mine"], "echo $HOME"), "/mine");
    assert_eq!(engine.sh(&["-h", "box"], "echo $HOSTNAME"), "box");
}

#[test]
fn the_user_is_looked_up_in_the_image() {
    let engine = engine!();
    let id = "echo $(id -u) $(id -g) $(id -G)";
    assert_eq!(engine.sh(&[], id).split(' ').take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(engine.sh(&["-u", "alice"], id), "1000 1000 1000 10 4000");
    assert_eq!(engine.sh(&["-u", "alice:wheel"], "echo $(id -u) $(id -g)"), "1000 10");
    assert_eq!(engine.sh(&["-u", "1000"], id), "1000 1000 1000 10 4000");
    assert_eq!(engine.sh(&["-u", "12345"], "echo $(id -u) $(id -g)"), "12345 0");
    assert_eq!(engine.sh(&["-u", "12345:777"], "echo $(id -u) $(id -g)"), "12345 777");
}

#[test]
fn the_working_directory_is_made_when_it_is_not_there() {
    let engine = engine!();
    assert_eq!(engine.sh(&[], "pwd"), "/");
    assert_eq!(engine.sh(&["-w", "/tmp"], "pwd"), "/tmp");
    assert_eq!(engine.sh(&["-w", "/not/there/yet"], "pwd"), "/not/there/yet");
    assert_eq!(engine.try_sh(&["-w", "relative"], "pwd").code, 125);
}

#[test]
fn the_images_configuration_counts() {
    let engine = engine!();
    let registry = Registry::start();
    let image = Image::tiny_with(vec![Layer::new().dir("work", 0o755)])
        .with("User", json!("alice"))
        .with("WorkingDir", json!("/work"))
        .with("Env", json!(["PATH=/bin", "COLOUR=blue"]))
        .with("Labels", json!({"org.example.a": "b"}))
        .with("StopSignal", json!("SIGUSR1"));
    let image = engine.add(&registry, "configured", &image);
    let script = "echo $(id -u) $PWD $COLOUR";
    let args = ["run", "-q", "--network", "none", "--name", "configured", &image, "sh", "-c", script];
    assert_eq!(engine.ok(&args), "1000 /work blue");
    assert_eq!(engine.inspect("configured", "{{index .Config.Labels \"org.example.a\"}}"), "b");
    assert_eq!(engine.inspect("configured", "{{.Config.User}} {{.Config.WorkingDir}}"), "alice /work");
}

#[test]
fn the_host_name_is_the_short_id_or_as_asked_for() {
    let engine = engine!();
    assert_eq!(engine.sh(&["-h", "box.example"], "hostname; cat /etc/hostname"), "box.example\nbox.example");
    let id = engine.ok(&["create", "--network", "none", &tiny(), "hostname"]);
    assert_eq!(engine.ok(&["start", "-a", &id]), id[..12]);
}

#[test]
fn hosts_and_resolv_conf_are_made_for_the_container() {
    let engine = engine!();
    let text = engine.sh(&["--add-host", "db:192.0.2.7", "-h", "box"], "cat /etc/hosts");
    let maps = |address: &str, name: &str| {
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(address) && words.any(|word| word == name)
        })
    };
    assert!(maps("127.0.0.1", "localhost") && maps("192.0.2.7", "db"), "{text}");
    // podman does not take these with --network none.
    let dns = ["--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:3"];
    let image = tiny();
    let mut args = vec!["run", "--rm"];
    args.extend(dns);
    args.extend([&image, "cat", "/etc/resolv.conf"]);
    let text = engine.ok(&args);
    let has = |line: &str| text.lines().any(|l| l.trim() == line);
    assert!(has("nameserver 192.0.2.53") && has("search example.org") && has("options ndots:3"), "{text}");
}

#[test]
fn the_container_has_namespaces_of_its_own() {
    let engine = engine!();
    let inside =
        engine.sh(&[], "for n in mnt pid ipc uts net user cgroup; do readlink /proc/self/ns/$n; done");
    for (name, inside) in ["mnt", "pid", "ipc", "uts", "net", "user", "cgroup"].iter().zip(inside.lines()) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        // podman on a host with cgroup v1 keeps the host's cgroup namespace.
        if *name == "cgroup" && engine.is_podman() {
            continue;
        }
        assert_ne!(outside.to_str().unwrap(), inside);
    }
    assert_eq!(engine.sh(&[], "echo $$"), "1");
}

#[test]
fn the_hosts_network_is_there_when_asked_for() {
    let engine = engine!();
    let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
    let args = ["run", "--rm", "--network", "host", &tiny(), "readlink", "/proc/self/ns/net"];
    assert_eq!(engine.ok(&args), outside.to_str().unwrap());
}

#[test]
fn network_none_has_loopback_only_and_it_is_up() {
    let engine = engine!();
    let script = "ls /sys/class/net; httpd -p 127.0.0.1:80 -h /etc; wget -qO- http://127.0.0.1/readme";
    assert_eq!(engine.sh(&[], script), "lo\nnot a program");
}

#[test]
fn init_reaps_what_the_command_leaves() {
    let engine = engine!();
    let script =
        "(sleep 0.1 & exec true); sleep 1; grep -l 'State:.*zombie' /proc/[0-9]*/status | wc -l; echo $$";
    let output = engine.sh(&["--init"], script);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("0"), "a zombie is left: {output}");
    assert_ne!(lines.next(), Some("1"), "the command is not PID 1");
    engine.try_sh(&["--init"], "exit 42").fails(42);
    engine.try_sh(&["--init"], "kill -9 $$").fails(137);
}

#[test]
fn limits_of_the_process_are_set() {
    let engine = engine!();
    assert_eq!(engine.sh(&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn"), "100\n200");
    assert_eq!(engine.sh(&["--ulimit", "core=0"], "ulimit -c"), "0");
    assert_eq!(engine.try_sh(&["--ulimit", "nosuch=1"], "true").code, 125);
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let engine = engine!();
    let size = "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2";
    // docker's 64 MiB, podman's 65536 kB.
    assert!(matches!(engine.sh(&[], size).as_str(), "65536" | "64000"));
    assert_eq!(engine.sh(&["--shm-size", "3m"], size), (3 * 1024).to_string());
}

#[test]
fn labels_come_from_flags_and_files() {
    let engine = engine!();
    let file = engine.file("labels", "from=file\nboth=file\n");
    engine.ok(&[
        "create",
        "--name",
        "labelled",
        "--label-file",
        &file,
        "-l",
        "both=flag",
        "-l",
        "bare",
        "--network",
        "none",
        &tiny(),
        "true",
    ]);
    let labels = engine.inspect_json(&["inspect", "labelled"])["Config"]["Labels"].clone();
    assert_eq!(labels["from"], "file");
    assert_eq!(labels["both"], "flag");
    assert_eq!(labels["bare"], "");
    assert_eq!(engine.ok(&["ps", "-a", "--filter", "label=both=flag", "--format", "{{.Names}}"]), "labelled");
    assert_eq!(engine.ok(&["ps", "-aq", "--filter", "label=both=other"]), "");
}

#[test]
fn the_usual_devices_are_there_and_work() {
    let engine = engine!();
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done
        for l in fd stdin stdout stderr ptmx; do test -L /dev/$l -o -c /dev/$l || echo no $l; done
        echo x > /dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 4 /dev/urandom | wc -c
        test -d /dev/pts -a -d /dev/mqueue -a -d /dev/shm; echo via fd > /dev/stdout";
    assert_eq!(engine.sh(&[], script), " 00 00 00 00\n4\nvia fd");
}
