//! What `run` and `create` can be asked for: environment, limits, groups, files in /etc, what is recorded.

use crate::support::{Engine, Running, eventually, has_program, tiny};
use std::fs;
use std::process::Command;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

#[test]
fn proxies_are_passed_on_as_podman_does() {
    let mut engine = engine!();
    engine.set("http_proxy", "http://proxy.example:3128");
    engine.set("NO_PROXY", "localhost");
    let script = "echo $http_proxy $NO_PROXY";
    assert_eq!(engine.sh(&[], script), "http://proxy.example:3128 localhost");
    assert_eq!(engine.sh(&["--http-proxy=false"], script), "");
    assert_eq!(engine.sh(&["-e", "http_proxy=mine"], script), "mine localhost");
}

#[test]
fn the_environment_comes_from_the_host_the_image_and_the_flags() {
    let mut engine = engine!();
    engine.set("OF_HOST", "h");
    assert_eq!(engine.sh(&["--env-host"], "echo $OF_HOST $PATH | cut -c1-6"), "h /usr");
    assert_eq!(engine.sh(&[], "echo _$OF_HOST"), "_");
    let path = engine.sh(&["--env-merge", "PATH=${PATH}:/more"], "echo $PATH");
    assert!(path.ends_with(":/more") && path.starts_with('/'), "{path}");
    let env = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--unsetenv-all",
        "-e",
        "A=1",
        &tiny(),
        "/bin/busybox",
        "env",
    ]);
    assert_eq!(env.lines().filter(|l| !l.starts_with("HOME=")).collect::<Vec<_>>(), ["A=1"]);
}

#[test]
fn limits_are_set_and_too_high_ones_explained() {
    let engine = engine!();
    assert_eq!(
        engine.sh(&["--ulimit", "nofile=100:200", "--ulimit", "core=0"], "ulimit -n; ulimit -Hn; ulimit -c"),
        "100\n200\n0"
    );
    let names = [
        "as",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nproc",
        "rss",
        "rttime",
        "sigpending",
        "stack",
    ];
    for name in names {
        // What this process may have at most is what nobody refuses.
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        assert!(!limits.is_empty());
        let value = if name == "memlock" || name == "msgqueue" { "1024" } else { "100000000" };
        let flag = format!("{name}={value}");
        let output = engine.try_sh(&["--ulimit", &flag], "true");
        assert!(output.code == 0 || output.stderr.contains("more than the"), "{output}");
    }
    assert_eq!(engine.sh(&["--ulimit", "host"], "ulimit -n"), engine.sh(&[], "ulimit -n"));
    engine.try_sh(&["--ulimit", "host", "--ulimit", "core=0"], "true").explains(125, &["host only once"]);
    let most: u64 = fs::read_to_string("/proc/self/limits")
        .unwrap()
        .lines()
        .find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    let flag = format!("nofile={}", most + 1);
    engine.try_sh(&["--ulimit", &flag], "true").explains(125, &["nofile", &most.to_string(), "ulimit -H"]);
}

#[test]
fn groups_are_added_by_name_and_number() {
    let engine = engine!();
    assert_eq!(
        engine.sh(&["--group-add", "1234", "--group-add", "alice", "-u", "1000"], "id -G"),
        "1000 10 1234 4000"
    );
    let groups = engine.sh(&["--group-add", "4321", "-u", "77"], "id -G");
    assert_eq!(groups, "0 4321");
    engine.try_sh(&["--group-add", "nosuchgroup"], "true").explains(126, &["nosuchgroup"]);
    engine.start_script("g", &["--group-add", "1234"], SLEEP);
    assert!(engine.ok(&["exec", "g", "id", "-G"]).contains("1234"));
    assert_eq!(engine.inspect("g", "{{.HostConfig.GroupAdd}}"), "[1234]");
}

#[test]
fn keep_groups_keeps_the_callers_groups() {
    let engine = engine!();
    let mine = rustix::process::getgroups().unwrap().len();
    let kept = engine.sh(&["--group-add", "keep-groups"], "grep Groups: /proc/self/status | wc -w");
    assert_eq!(kept.trim(), (mine + 1).to_string(), "as many as on the host");
    assert_eq!(engine.sh(&["--group-add", "keep-groups"], "id -u"), "0");
    engine
        .try_sh(&["--group-add", "keep-groups", "--group-add", "5"], "true")
        .explains(125, &["keep-groups", "not allowed with any other"]);
}

#[test]
fn umask_score_and_personality_reach_the_command_and_what_is_executed() {
    let engine = engine!();
    assert_eq!(engine.sh(&[], "umask"), "0022");
    let flags = ["--umask", "0077", "--oom-score-adj", "500", "--personality", "LINUX32"];
    let script = "umask; cat /proc/self/oom_score_adj; uname -m";
    let machine = if cfg!(target_arch = "x86_64") { "i686" } else { "" };
    let output = engine.sh(&flags, script);
    assert!(output.starts_with("0077\n500\n") && output.ends_with(machine), "{output}");
    engine.start_script("u", &flags, SLEEP);
    assert_eq!(engine.ok(&["exec", "u", "sh", "-c", script]), output);
    assert_eq!(engine.inspect("u", "{{.HostConfig.OomScoreAdj}} {{.Config.Umask}}"), "500 0077");
    engine.try_sh(&["--oom-score-adj", "-1000"], "true").explains(125, &["OOM score", "administrator"]);
    engine.try_sh(&["--oom-score-adj", "2000"], "true").explains(125, &["[-1000, 1000]"]);
}

#[test]
fn a_container_that_runs_too_long_is_killed() {
    let engine = engine!();
    let output =
        engine.run(&["run", "--network", "none", "--name", "t", "--timeout", "1", &tiny(), "sleep", "100"]);
    assert_eq!(output.code, 255, "{output}");
    assert!(output.time.as_secs() < 30, "{output}");
    assert_eq!(engine.inspect("t", "{{.State.ExitCode}} {{.Config.Timeout}}"), "255 1");
    assert_eq!(engine.sh(&["--timeout", "60"], "exit 0"), "");
}

#[test]
fn files_in_etc_can_be_left_alone() {
    let engine = engine!();
    let flags = ["--no-hosts", "--no-hostname", "--dns", "none"];
    assert_eq!(engine.sh(&flags, "grep -c ' /etc/' /proc/self/mountinfo || true"), "0");
    assert_eq!(engine.sh(&[], "grep -c ' /etc/' /proc/self/mountinfo"), "3");
    engine
        .try_sh(&["--no-hosts", "--add-host", "a:1.1.1.1"], "true")
        .explains(125, &["--no-hosts", "--add-host"]);
}

#[test]
fn users_are_made_known() {
    let engine = engine!();
    assert_eq!(
        engine.sh(&["-u", "1234"], "grep ':1234:' /etc/passwd"),
        "1234:*:1234:0:container user:/:/bin/sh"
    );
    assert_eq!(engine.sh(&["-u", "1234", "--passwd=false"], "grep -c ':1234:' /etc/passwd || true"), "0");
    let flags = [
        "-u",
        "1234:1235",
        "--passwd-entry",
        "me:x:$UID:$GID:$NAME:/home:/bin/ash",
        "--group-entry",
        "ours:x:$GID:$USERLIST",
    ];
    assert_eq!(
        engine.sh(&flags, "id -un; id -gn; grep ^me: /etc/passwd; grep ^ours: /etc/group"),
        "me\nours\nme:x:1234:1235:container user:/home:/bin/ash\nours:x:1235:1234"
    );
    let name = std::env::var("USER").unwrap();
    let uid = rustix::process::getuid().as_raw();
    let line = engine.sh(&["--hostuser", &name], &format!("grep ^{name}: /etc/passwd"));
    assert!(line.starts_with(&format!("{name}:*:{uid}:")), "{line}");
    engine.try_sh(&["--hostuser", "no-such-user"], "true").explains(125, &["no-such-user"]);
}

#[test]
fn the_time_zone_is_the_hosts_or_a_named_one() {
    let engine = engine!();
    require!(fs::metadata("/usr/share/zoneinfo/Asia/Tokyo").is_ok(), "tzdata is not installed");
    assert_eq!(
        engine.sh(&["--tz", "Asia/Tokyo"], "cmp /etc/localtime /mnt/tz 2>/dev/null; date +%z -d @0"),
        "+0900"
    );
    engine.try_sh(&["--tz", "Nowhere/Town"], "true").explains(125, &["Nowhere/Town", "tzdata"]);
    engine.try_sh(&["--tz", "../../etc/passwd"], "true").explains(125, &["--tz"]);
}

#[test]
fn devices_of_the_host_can_be_had() {
    let engine = engine!();
    let script = "stat -c '%t:%T' /dev/mine; head -c 3 /dev/mine | od -An -tx1 | tr -d ' '";
    assert_eq!(engine.sh(&["--device", "/dev/zero:/dev/mine"], script), "1:5\n000000");
    let of_host = |path: &str| fs::metadata(path).is_ok();
    if of_host("/dev/fuse") {
        assert_eq!(engine.sh(&["--device", "/dev/fuse:rwm"], "stat -c '%t:%T' /dev/fuse"), "a:e5");
    }
    if of_host("/dev/net/tun") {
        assert_eq!(engine.sh(&["--device", "/dev/net"], "stat -c '%t:%T' /dev/net/tun"), "a:c8");
    }
    engine.try_sh(&["--device", "/dev/no-such"], "true").explains(125, &["/dev/no-such", "no such file"]);
    engine.try_sh(&["--device", "/dev/zero:/dev/mine:r"], "true").explains(125, &["permissions"]);
    engine.try_sh(&["--device", "/etc/passwd:/dev/x"], "true").explains(125, &["not that device"]);
    engine.start_script("d", &["--device", "/dev/zero:/dev/mine"], SLEEP);
    assert_eq!(
        engine.inspect(
            "d",
            "{{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}}{{end}}"
        ),
        "/dev/zero /dev/mine rwm"
    );
}

#[test]
fn the_pid_is_written_where_it_is_asked_for() {
    let engine = engine!();
    engine.start_script("p", &["--pidfile", "the.pid"], SLEEP);
    let path = engine.scratch().join("the.pid");
    assert_eq!(fs::read_to_string(path).unwrap().trim(), engine.inspect("p", "{{.State.Pid}}"));
    engine.try_sh(&["--pidfile", "/no/such/folder/pid"], "true").explains(125, &["/no/such/folder/pid"]);
    engine.try_sh(&["--conmon-pidfile", "x"], "true").explains(125, &["no conmon", "MonitorPid"]);
    engine.try_sh(&["--init-path", "/x"], "true").explains(125, &["--init"]);
}

#[test]
fn what_is_recorded_is_shown() {
    let engine = engine!();
    engine.start_script(
        "r",
        &[
            "--annotation",
            "a=b",
            "--expose",
            "80",
            "--expose",
            "5000-5001/udp",
            "--stop-signal",
            "INT",
            "--stop-timeout",
            "3",
        ],
        SLEEP,
    );
    let value = engine.inspect_json(&["inspect", "r"]);
    let config = &value["Config"];
    assert_eq!(config["Annotations"]["a"], "b");
    assert_eq!(value["HostConfig"]["Annotations"]["a"], "b");
    for port in ["80/tcp", "5000/udp", "5001/udp"] {
        assert!(config["ExposedPorts"].get(port).is_some(), "{config}");
    }
    assert_eq!((&config["StopSignal"], &config["StopTimeout"]), (&"SIGINT".into(), &3.into()));
}

#[test]
fn replace_takes_the_name_from_whoever_has_it() {
    let engine = engine!();
    engine.start_sleeper("web");
    let first = engine.inspect("web", "{{.Id}}");
    let image = tiny();
    let args = ["run", "-d", "--network", "none", "--name", "web", "--replace", &image, "sleep", "1000"];
    let second = engine.ok(&args);
    assert_ne!(first, second);
    assert_eq!(engine.names(), ["web"]);
    engine.ok(&["create", "--network", "none", "--name", "web", "--replace", &image, "true"]);
    assert_eq!(engine.names(), ["web"]);
    engine.ok(&["create", "--network", "none", "--name", "new", "--replace", &image, "true"]);
    engine.run(&["run", "--rm", "--replace", &image, "true"]).explains(125, &["--name"]);
}

#[test]
fn rmi_takes_the_image_with_it_unless_it_is_used() {
    let engine = engine!();
    let image = tiny();
    engine.ok(&["create", "--network", "none", "--name", "user", &image, "true"]);
    let args = ["run", "--rmi", "--network", "none", &image, "true"];
    engine.ok(&args);
    assert_ne!(engine.ok(&["images", "-q"]), "");
    assert_eq!(engine.names(), ["user"]);
    engine.ok(&["rm", "user"]);
    engine.ok(&args);
    assert_eq!(engine.ok(&["images", "-q"]), "");
    engine.run(&["run", "-d", "--rmi", &image, "true"]).explains(125, &["--rmi", "--detach"]);
}

#[test]
fn attach_chooses_the_streams() {
    let engine = engine!();
    let script = "echo out; echo err >&2";
    let output = engine.try_sh(&["-a", "stdout"], script);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", ""));
    let output = engine.try_sh(&["--attach", "STDERR"], script);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", "err\n"));
    let image = tiny();
    let cat = ["run", "--rm", "-i", "-a", "stdin", "-a", "stdout", "--network", "none", &image, "cat"];
    assert_eq!(engine.run_with_input(&cat, b"through").ok(), "through");
    engine.try_sh(&["-a", "nothing"], "true").explains(125, &["stdin, stdout and stderr"]);
    engine.run(&["run", "-d", "-a", "stdout", &image, "true"]).explains(125, &["--attach", "--detach"]);
}

/// Runs a shell on the host that opens descriptors for the program.
fn with_descriptors(engine: &Engine, script: &str, args: &[&str]) -> crate::support::Output {
    let inner = engine.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(engine.scratch());
    Running::start(command, b"").wait()
}

#[test]
fn descriptors_can_be_handed_in() {
    let engine = engine!();
    let file = engine.file("handed", "from the host\n");
    let image = tiny();
    let script = format!("exec \"$@\" 3<{file} 4<{file}");
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "--preserve-fds",
        "1",
        &image,
        "sh",
        "-c",
        "cat <&3; ls /proc/self/fd | wc -l",
    ];
    // 0, 1, 2, 3 and that of ls itself.
    assert_eq!(with_descriptors(&engine, &script, &run).ok(), "from the host\n5");
    let mut with_init = run.to_vec();
    with_init.insert(1, "--init");
    assert_eq!(with_descriptors(&engine, &script, &with_init).ok(), "from the host\n5");
    engine.start_sleeper("e");
    let exec = ["exec", "--preserve-fds", "2", "e", "sh", "-c", "cat <&3; cat <&4"];
    let script = format!("exec \"$@\" 3<{file} 4<{file}");
    assert_eq!(with_descriptors(&engine, &script, &exec).stdout, "from the host\nfrom the host\n");
    with_descriptors(&engine, "exec \"$@\" 3<&- 4<&-", &run).explains(125, &["descriptor 3", "not open"]);
    // By number.
    let mut by_number = run.to_vec();
    by_number[4..6].copy_from_slice(&["--preserve-fd", "9,5"]);
    by_number[9] = "cat <&9; cat <&5; ls /proc/self/fd";
    for flag in ["--rm", "--init"] {
        by_number[1] = flag;
        let script = format!("exec \"$@\" 3<{file} 5<{file} 9<{file}");
        let expected = "from the host\nfrom the host\n0\n1\n2\n3\n5\n9";
        assert_eq!(with_descriptors(&engine, &script, &by_number).ok(), expected);
    }
    for number in ["2", "x", ""] {
        by_number[5] = number;
        with_descriptors(&engine, "exec \"$@\"", &by_number).explains(125, &["preserve-fd", "from 3 on"]);
    }
    // Nobody of ours keeps the descriptor open.
    let detached = [
        "run",
        "-d",
        "--network",
        "none",
        "--preserve-fds",
        "1",
        &image,
        "sh",
        "-c",
        "exec 3>&-; sleep 1000",
    ];
    let script = "{ \"$@\" 3>&1 >/dev/null; } | cat; echo done";
    assert_eq!(with_descriptors(&engine, script, &detached).ok(), "done");
}

#[test]
fn an_init_finds_what_systemd_wants() {
    let engine = engine!();
    let script = "for d in /run /run/lock /tmp /var/log/journal; do grep -q \" $d .* tmpfs \" /proc/self/mountinfo && echo $d; done; echo $container_uuid | wc -c";
    assert_eq!(engine.sh(&["--systemd", "always"], script), "/run\n/run/lock\n/tmp\n/var/log/journal\n33");
    assert_eq!(engine.sh(&["--systemd=false"], script), "1");
    engine.ok(&["create", "--name", "s", "--network", "none", &tiny(), "/sbin/init"]);
    assert_eq!(engine.inspect("s", "{{.Config.StopSignal}} {{.Config.SystemdMode}}"), "SIGRTMIN+3 true");
    engine.ok(&["create", "--name", "n", "--network", "none", "--systemd=false", &tiny(), "/sbin/init"]);
    assert_eq!(engine.inspect("n", "{{.Config.StopSignal}} {{.Config.SystemdMode}}"), "SIGTERM false");
}

#[test]
fn a_seccomp_profile_of_dockers_form_is_obeyed() {
    let engine = engine!();
    let profile = |rules: &str| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":38,"archMap":[{{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}}],"syscalls":[{rules}]}}"#
        )
    };
    let file = engine
        .file("p.json", &profile(r#"{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}"#));
    let option = format!("seccomp={file}");
    let output = engine.try_sh(&["--security-opt", &option], "mkdir /x");
    assert!(output.code != 0 && output.stderr.contains("not supported"), "{output}");
    // Only where the container has a capability, or has it not.
    let rule = r#"{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95,"includes":{"caps":["CAP_SYS_TIME"]}},
        {"names":["rmdir"],"action":"SCMP_ACT_ERRNO","errnoRet":95,"excludes":{"caps":["CAP_SYS_TIME"]}}"#;
    let file = engine.file("caps.json", &profile(rule));
    let option = format!("seccomp={file}");
    let script = "mkdir /x 2>/dev/null && echo made; mkdir /tmp/y 2>/dev/null; rmdir /tmp 2>&1 | grep -c supported; true";
    assert_eq!(engine.sh(&["--security-opt", &option], script), "made\n1");
    assert_eq!(engine.sh(&["--security-opt", &option, "--cap-add", "SYS_TIME"], script), "0");
    assert_eq!(
        engine
            .sh(&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status | tr -d '\\t '"),
        "Seccomp:0"
    );
    let bad = engine.file("bad.json", "{");
    engine.try_sh(&["--security-opt", &format!("seccomp={bad}")], "true").explains(125, &["seccomp"]);
}

#[test]
fn the_parts_of_a_platform_can_be_named() {
    let engine = engine!();
    let image = tiny();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(engine.sh(&["--os", "linux", "--arch", arch], "echo ok"), "ok");
    let output = engine.run(&[
        "run",
        "--rm",
        "--arch",
        "s390x",
        "--pull",
        "never",
        "--network",
        "none",
        &image,
        "true",
    ]);
    assert_eq!(output.code, 125, "{output}");
    engine.try_sh(&["--arch", arch, "--platform", "linux/amd64"], "true").explains(125, &["--platform"]);
}

#[test]
fn a_folder_of_the_host_can_be_run() {
    let engine = engine!();
    let root = engine.folder("root");
    fs::create_dir_all(format!("{root}/bin")).unwrap();
    fs::copy(crate::support::busybox(), format!("{root}/bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", format!("{root}/bin/sh")).unwrap();
    let run = |place: &str, script: &str| {
        engine.run(&["run", "--rm", "--network", "none", "--rootfs", place, "/bin/sh", "-c", script])
    };
    assert_eq!(run(&root, "/bin/busybox id -u; echo kept > /file").ok(), "0");
    assert_eq!(fs::read_to_string(format!("{root}/file")).unwrap(), "kept\n");
    assert_eq!(run(&format!("{root}:O"), "/bin/busybox cat /file; echo lost > /other").ok(), "kept");
    assert!(fs::metadata(format!("{root}/other")).is_err());
    assert_eq!(run("./root:O", "echo relative").ok(), "relative");
    run("/no/such", "true").explains(125, &["/no/such"]);
    run(&format!("{root}:idmap"), "true").explains(125, &["idmap", "root"]);
    engine.ok(&["create", "--name", "r", "--rootfs", &root, "/bin/sh"]);
    assert_eq!(engine.inspect("r", "{{.Rootfs}} {{.Image}}"), format!("{root} "));
    assert!(engine.ok(&["ps", "-a", "--format", "{{.Names}}"]).contains('r'));
    engine.ok(&["rm", "r"]);
    engine.run(&["run", "--rm", "--rootfs", &root]).explains(125, &["no command"]);
    require!(has_program("pgrep"), "pgrep is not installed");
    eventually("nothing runs", || engine.ok(&["ps", "-q"]).is_empty());
}
