//! Cgroups: limits, pausing, counting; where they are made, and that none stays behind.
//!
//! What takes a controller runs where one is delegated: hosts with cgroup v1 hand none to version 2. `tests/vm` has
//! them all, on stock kernels.

use crate::support::{Engine, Output, Running, eventually, has_program, host, run, tiny};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TOP: &str = "/sys/fs/cgroup";

/// Whether containers get a cgroup here.
pub fn has_cgroups(engine: &Engine) -> bool {
    engine.is_podman() || engine.ok(&["info", "-f", "{{.CgroupDriver}}"]) == "cgroupfs"
}

/// Whether this limit can be set here.
fn has_controller(engine: &Engine, name: &str) -> bool {
    let all = engine.ok(&["info", "-f", "{{range .Host.CgroupControllers}}{{.}} {{end}}"]);
    all.split_whitespace().any(|controller| controller == name)
}

pub const NO_CGROUPS: &str = "no cgroup v2 tree is delegated to this user";

/// Where a running container's cgroup is.
fn folder(engine: &Engine, name: &str) -> PathBuf {
    let path = engine.inspect(name, "{{.State.CgroupPath}}");
    assert!(path.contains(&engine.inspect(name, "{{.Id}}")), "{path}");
    PathBuf::from(format!("{TOP}{path}"))
}

fn own_cgroup(pid: &str) -> String {
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    table.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

fn is_gone(folder: &Path) -> bool {
    !folder.exists()
}

const COUNTING: &str = "i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.02; done";

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    engine.start_script("p", &[], COUNTING);
    eventually("it counts", || engine.run(&["exec", "p", "cat", "/count"]).code == 0);
    assert_eq!(engine.ok(&["pause", "p"]), "p");
    let count = || {
        std::fs::read_to_string(
            engine.data().join(format!("containers/{}/upper/count", engine.inspect("p", "{{.Id}}"))),
        )
    };
    assert_eq!(engine.inspect("p", "{{.State.Status}} {{.State.Paused}}"), "paused true");
    assert!(engine.ok(&["ps"]).contains("(Paused)"));
    assert_eq!(engine.ok(&["ps", "-q", "-f", "status=paused"]).lines().count(), 1);
    if !engine.is_podman() {
        let before = count().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(count().unwrap(), before);
    }
    engine.run(&["exec", "p", "true"]).refuses(&["paused"]);
    engine.run(&["pause", "p"]).refuses(&["paused"]);
    engine.run(&["start", "p"]).refuses(&["paused"]);
    assert_eq!(engine.ok(&["unpause", "p"]), "p");
    assert_eq!(engine.inspect("p", "{{.State.Status}} {{.State.Paused}}"), "running false");
    engine.run(&["unpause", "p"]).refuses(&["not paused"]);
    let then = engine.ok(&["exec", "p", "cat", "/count"]);
    eventually("it counts on", || engine.ok(&["exec", "p", "cat", "/count"]) != then);
    assert_eq!(engine.ok(&["pause", "-a"]).lines().count(), 1);
    assert_eq!(engine.ok(&["unpause", "-a"]).lines().count(), 1);
    engine.ok(&["stop", "-t", "0", "p"]);
    engine.run(&["pause", "p"]).refuses(&["not running"]);
}

#[test]
fn a_paused_container_can_be_stopped_killed_restarted_and_removed() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    require!(!engine.is_podman(), "podman refuses to stop what is paused");
    engine.start_sleeper("p");
    engine.ok(&["pause", "p"]);
    engine.ok(&["stop", "p"]);
    // It ended by the signal, not by the kill that comes later.
    assert_eq!(engine.inspect("p", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    engine.ok(&["start", "p"]);
    engine.ok(&["pause", "p"]);
    engine.ok(&["kill", "-s", "USR1", "p"]);
    assert_eq!(engine.inspect("p", "{{.State.Status}}"), "paused");
    engine.ok(&["kill", "p"]);
    eventually("it is dead", || engine.inspect("p", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    engine.ok(&["start", "p"]);
    engine.ok(&["pause", "p"]);
    engine.ok(&["restart", "p"]);
    assert_eq!(engine.inspect("p", "{{.State.Status}}"), "running");
    engine.ok(&["pause", "p"]);
    engine.ok(&["rm", "-f", "-t", "0", "p"]);
    assert!(engine.names().is_empty());
}

#[test]
fn a_container_is_the_root_of_the_tree_that_it_sees_and_so_is_what_is_executed_in_it() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    let own = "sed -n s/^0:://p /proc/self/cgroup";
    assert_eq!(engine.sh(&[], own), "/");
    engine.start_sleeper("c");
    assert_eq!(engine.ok(&["exec", "c", "sh", "-c", own]), "/");
    require!(!engine.is_podman(), "podman has the path elsewhere");
    let folder = folder(&engine, "c");
    let inside = || std::fs::read_to_string(folder.join("cgroup.procs")).unwrap().lines().count();
    let before = inside();
    engine.ok(&["exec", "-d", "c", "sleep", "1000"]);
    eventually("what was executed is in the cgroup", || inside() > before);
    // Nothing of ours is.
    let pids = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap();
    assert!(!pids.lines().any(|pid| host(&format!("cat /proc/{pid}/cmdline")).contains("monitor")), "{pids}");
}

#[test]
fn the_tree_is_read_only_inside_and_the_hosts_on_request() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    let write = "mkdir /sys/fs/cgroup/x 2>&1; echo 1 >/sys/fs/cgroup/cgroup.freeze";
    let output = engine.try_sh(&["--cap-add", "SYS_ADMIN"], write);
    assert_ne!(output.code, 0, "{output}");
    assert!(output.stdout.contains("Read-only"), "{output}");
    let own = "sed -n s/^0:://p /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs";
    let seen = engine.sh(&["--cgroupns", "host"], own);
    assert!(seen.lines().next().unwrap().len() > 1, "{seen}");
    assert_ne!(engine.try_sh(&["--cgroupns", "host"], write).code, 0);
    let id = engine.ok(&["create", "--cgroupns", "host", &tiny(), "true"]);
    assert_eq!(engine.inspect(&id, "{{.HostConfig.CgroupnsMode}}"), "host");
}

#[test]
fn no_cgroup_stays_behind_however_a_container_ends() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    require!(!engine.is_podman(), "podman has the path elsewhere");
    engine.start_sleeper("c");
    let mut folders = vec![folder(&engine, "c")];
    engine.ok(&["stop", "-t", "0", "c"]);
    assert!(is_gone(&folders[0]));
    engine.ok(&["start", "c"]);
    folders.push(folder(&engine, "c"));
    let pid = engine.pid_of("c");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("it is gone with its first process", || is_gone(&folders[1]));
    engine.ok(&["start", "c"]);
    folders.push(folder(&engine, "c"));
    let monitor: i32 = engine.inspect("c", "{{.State.MonitorPid}}").parse().unwrap();
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    eventually("the next command removes what a killed monitor left", || {
        engine.ok(&["ps", "-a"]);
        is_gone(&folders[2])
    });
    engine.start_script("r", &["--rm"], "sleep 1000");
    folders.push(folder(&engine, "r"));
    engine.ok(&["pause", "r"]);
    let monitor: i32 = engine.inspect("r", "{{.State.MonitorPid}}").parse().unwrap();
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    eventually("the next command removes a frozen one too", || {
        engine.ok(&["ps", "-a"]);
        is_gone(&folders[3])
    });
    assert_eq!(engine.names(), ["c"]);
    // One whose command cannot be started.
    engine.run(&["run", "--network", "none", "--name", "n", &tiny(), "/no/such"]).fails(127);
    let id = engine.inspect("n", "{{.Id}}");
    assert_eq!(host(&format!("find {TOP} -type d -name '*{id}*' 2>/dev/null; true")), "");
}

#[test]
fn limits_are_kept_and_shown() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    let flags = [
        "create",
        "--name",
        "c",
        "-m",
        "64m",
        "--memory-swap",
        "96m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "1.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "50",
    ];
    engine.ok(&[&flags[..], &[&tiny(), "true"]].concat());
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.MemoryReservation}} \
                 {{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.PidsLimit}}";
    assert_eq!(engine.inspect("c", shown), "67108864 100663296 33554432 1500000000 512 0 50");
    engine.ok(&["update", "-m", "80m", "--cpus", "1", "c"]);
    assert_eq!(engine.inspect("c", shown), "83886080 100663296 33554432 1000000000 512 0 50");
    // What does not go together with what is set already is refused, and nothing is changed.
    engine.run(&["update", "-m", "128m", "c"]).refuses(&["--memory-swap"]);
    assert_eq!(engine.inspect("c", "{{.HostConfig.Memory}}"), "83886080");
    engine.run(&["update", "c"]).refuses(&["limit"]);
}

#[test]
fn limits_that_cannot_be_are_refused_before_anything_is_made() {
    let engine = engine!();
    for (flags, word) in [
        (&["--memory", "1m"][..], "6mb"),
        (&["--memory-swap", "1g"], "--memory"),
        (&["--memory-swappiness", "50"], "v1"),
        (&["--oom-kill-disable"], "v1"),
        (&["--cgroups", "disabled", "-m", "64m"], "--cgroups=disabled"),
        (&["--cpus", "x"], "--cpus"),
    ] {
        let image = tiny();
        let args = [&["run", "--network", "none"][..], flags, &[&image, "true"]].concat();
        engine.run(&args).explains(125, &[word]);
    }
    assert!(engine.names().is_empty());
}

#[test]
fn a_limit_without_its_controller_is_an_error_that_says_so_and_leaves_nothing() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    require!(!has_controller(&engine, "memory"), "the memory controller is delegated here");
    let output = engine.run(&["run", "--rm", "--network", "none", "-m", "64m", &tiny(), "true"]);
    output.explains(125, &["--memory", "controller memory", "not delegated", "fix:"]);
    engine.start_sleeper("c");
    engine.run(&["update", "-m", "64m", "c"]).refuses(&["controller memory", "not delegated"]);
    assert_eq!(engine.inspect("c", "{{.HostConfig.Memory}}"), "0");
    engine.ok(&["rm", "-f", "-t", "0", "c"]);
    assert!(engine.names().is_empty());
}

#[test]
fn without_cgroup_v2_limits_are_refused_and_containers_run() {
    let engine = engine!();
    require!(!Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "this machine has cgroup v2");
    engine.run(&["create", "-m", "64m", &tiny(), "true"]).explains(125, &["--memory", "cgroup v2", "fix:"]);
    engine.start_sleeper("c");
    engine.run(&["pause", "c"]).refuses(&["no cgroup of its own"]);
}

#[test]
fn a_file_of_the_cgroup_can_be_set_by_name() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    require!(!engine.is_podman(), "podman writes to another cgroup");
    let (file, value) = match () {
        () if has_controller(&engine, "memory") => ("memory.high", "67108864"),
        () if has_controller(&engine, "hugetlb") => ("hugetlb.2MB.max", "4194304"),
        () => return crate::support::skip("no controller is delegated to this user"),
    };
    let conf = format!("{file}={value}");
    assert_eq!(engine.sh(&["--cgroup-conf", &conf], &format!("cat /sys/fs/cgroup/{file}")), value);
    // Whoever was in the place before is in a leaf of it now, where the children have controllers.
    let bad = format!("{file}=much");
    engine.try_sh(&["--cgroup-conf", &bad], "true").explains(125, &[&bad, "fix:"]);
    engine.try_sh(&["--cgroup-conf", "memory.no-such=1"], "true").explains(125, &["--cgroup-conf"]);
}

#[test]
fn a_container_without_a_cgroup_is_possible() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    require!(!engine.is_podman(), "podman cannot do it rootless");
    engine.start_script("c", &["--cgroups", "disabled"], "sleep 1000");
    assert_eq!(engine.inspect("c", "{{.State.CgroupPath}} {{.HostConfig.Cgroups}}"), " disabled");
    engine.run(&["pause", "c"]).explains(125, &["no cgroup of its own", "fix:"]);
    let output = engine.run(&["stats", "--no-stream", "c"]);
    assert!(output.stderr.contains("no cgroup of its own") && output.stdout.contains("--"), "{output}");
}

#[test]
fn a_parent_can_be_named() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    require!(!engine.is_podman(), "podman wants a slice");
    engine.start_script("c", &["--cgroup-parent", "mine/below"], "sleep 1000");
    let folder = folder(&engine, "c");
    assert!(folder.to_str().unwrap().contains("/mine/below/coracle-"), "{}", folder.display());
    engine.ok(&["rm", "-f", "-t", "0", "c"]);
    assert!(is_gone(&folder));
    std::fs::remove_dir(folder.parent().unwrap()).unwrap();
    std::fs::remove_dir(folder.parent().unwrap().parent().unwrap()).unwrap();
    let args = ["run", "--rm", "--network", "none", "--cgroup-parent", "/not-ours", &tiny(), "true"];
    engine.run(&args).explains(125, &["not-ours"]);
}

#[test]
fn statistics_are_dockers_table_and_json() {
    let engine = engine!();
    require!(has_cgroups(&engine), NO_CGROUPS);
    engine.start_script("busy", &[], "while :; do :; done");
    engine.start_sleeper("idle");
    let table = engine.ok(&["stats", "--no-stream"]);
    let heads = table.lines().next().unwrap().to_owned();
    for head in ["NAME", "CPU %", "MEM USAGE", "MEM %", "PIDS"] {
        assert!(heads.contains(head), "{table}");
    }
    assert_eq!(table.lines().count(), 3, "{table}");
    require!(!engine.is_podman(), "podman's fields are others");
    let shares =
        engine.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}", "busy", "idle"]);
    let share = |name: &str| -> f64 {
        let line = shares.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().trim_end_matches('%').parse().unwrap()
    };
    assert!(share("busy") > 5.0 && share("busy") < 110.0 && share("idle") < 5.0, "{shares}");
    let json: serde_json::Value =
        serde_json::from_str(&engine.ok(&["stats", "--no-stream", "--format", "json", "idle"])).unwrap();
    for field in ["Container", "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"] {
        assert!(json[field].is_string(), "{json}");
    }
    assert_eq!(json["PIDs"], "2");
    engine.ok(&["create", "--name", "still", &tiny(), "true"]);
    assert_eq!(engine.ok(&["stats", "--no-stream", "-a"]).lines().count(), 4);
    engine.run(&["stats", "--no-stream", "nobody"]).refuses(&["nobody"]);
    // Again and again, until it is ended.
    let mut streaming = Running::start(engine.command(&["stats", "--format", "{{.Name}}", "idle"]), b"");
    std::thread::sleep(Duration::from_millis(2600));
    streaming.child.kill().unwrap();
    assert!(streaming.wait().stdout.lines().count() >= 2);
}

#[test]
fn too_much_memory_is_death_and_is_seen_as_such() {
    let engine = engine!();
    require!(
        has_cgroups(&engine) && has_controller(&engine, "memory"),
        "the memory controller is not delegated"
    );
    let eat = "head -c 200m /dev/zero | tail";
    let args = [
        "run",
        "--name",
        "m",
        "--network",
        "none",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        &tiny(),
        "sh",
        "-c",
        eat,
    ];
    engine.run(&args).fails(137);
    assert_eq!(engine.inspect("m", "{{.State.ExitCode}} {{.State.OOMKilled}}"), "137 true");
    engine.ok(&["run", "--name", "n", "--network", "none", "-m", "32m", &tiny(), "true"]);
    assert_eq!(engine.inspect("n", "{{.State.OOMKilled}}"), "false");
    assert_eq!(engine.sh(&["-m", "32m"], "cat /sys/fs/cgroup/memory.max"), "33554432");
}

#[test]
fn processes_are_limited_by_number_podmans_if_none_is_named() {
    let engine = engine!();
    require!(has_cgroups(&engine) && has_controller(&engine, "pids"), "the pids controller is not delegated");
    let many = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; wait";
    let output = engine.try_sh(&["--pids-limit", "6"], many);
    assert!(output.stderr.contains("fork"), "{output}");
    assert_eq!(engine.sh(&["--pids-limit", "-1"], "cat /sys/fs/cgroup/pids.max"), "max");
    // The place may have had no controllers before the first limit.
    assert_eq!(engine.sh(&[], "cat /sys/fs/cgroup/pids.max"), "2048");
}

#[test]
fn processor_time_is_limited_and_an_update_takes_effect_and_lasts() {
    let engine = engine!();
    require!(has_cgroups(&engine) && has_controller(&engine, "cpu"), "the cpu controller is not delegated");
    engine.start_script("c", &["--cpus", "0.5"], "while :; do :; done");
    let max = |engine: &Engine| engine.ok(&["exec", "c", "cat", "/sys/fs/cgroup/cpu.max"]);
    assert_eq!(max(&engine), "50000 100000");
    let used = |engine: &Engine| -> u64 {
        let text = engine.ok(&["exec", "c", "grep", "usage_usec", "/sys/fs/cgroup/cpu.stat"]);
        text.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (before, since) = (used(&engine), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let share = (used(&engine) - before) as f64 / since.elapsed().as_micros() as f64;
    assert!(share < 0.65, "it had {share} of a processor");
    engine.ok(&["update", "--cpus", "0.2", "c"]);
    assert_eq!(max(&engine), "20000 100000");
    engine.ok(&["restart", "-t", "0", "c"]);
    assert_eq!(max(&engine), "20000 100000");
    assert_eq!(engine.inspect("c", "{{.HostConfig.NanoCpus}}"), "200000000");
}

/// A user's systemd of the test's own, where nothing is delegated but by it.
struct Systemd {
    child: Child,
    runtime: tempfile::TempDir,
    place: String,
    other: String,
}

impl Systemd {
    fn start() -> Result<Self, String> {
        let program = "/lib/systemd/systemd";
        let own = own_cgroup("self");
        // The harness itself may have been moved to a leaf by now.
        let above = own.split("/run-").next().unwrap_or_default().to_owned();
        let other = format!("{TOP}{above}/other");
        if !Path::new(program).exists() || !Path::new("/run/systemd/system").is_dir() {
            return Err("systemd is not installed".into());
        }
        if !Path::new(&other).is_dir() {
            return Err("tests/run has not prepared a cgroup for it".into());
        }
        let runtime = tempfile::Builder::new()
            .prefix("sd")
            .tempdir_in(std::env::var("XDG_RUNTIME_DIR").unwrap())
            .unwrap();
        let place = format!("{TOP}{above}/manager-{}", std::process::id());
        let script = format!("mkdir -p {place} && echo $$ >{place}/cgroup.procs && exec {program} --user");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .env("XDG_RUNTIME_DIR", runtime.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ready = runtime.path().join("systemd/private");
        let end = Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("the user's systemd does not run here: {status}"));
            }
            assert!(Instant::now() < end, "systemd --user does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, runtime, place, other })
    }

    fn variable(&self) -> String {
        self.runtime.path().to_str().unwrap().to_owned()
    }

    /// Runs the engine as from a login session: in a cgroup that nobody has delegated.
    fn outside(&self, engine: &Engine, args: &[&str]) -> Output {
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.other);
        run(engine.wrapped(&["sh", "-c", &script, "sh"], args))
    }

    fn units(&self) -> String {
        let mut command = Command::new("systemctl");
        command.args(["--user", "list-units", "--all", "--plain", "--no-legend", "coracle-*"]);
        command.env("XDG_RUNTIME_DIR", self.runtime.path());
        run(command).ok()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // It stops its units first.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
        host(&format!("find {} -depth -type d -exec rmdir {{}} + 2>/dev/null; true", self.place));
    }
}

#[test]
fn where_nothing_is_delegated_the_users_systemd_makes_a_scope() {
    let mut engine = engine!();
    require!(has_cgroups(&engine) && !engine.is_podman(), NO_CGROUPS);
    require!(has_program("systemctl"), "systemctl is not installed");
    let systemd = match Systemd::start() {
        Ok(systemd) => systemd,
        Err(why) => return crate::support::skip(&why),
    };
    engine.set("XDG_RUNTIME_DIR", &systemd.variable());
    let info = systemd.outside(&engine, &["info", "-f", "{{.CgroupDriver}}"]).ok();
    assert_eq!(info, "systemd");
    let start = ["run", "-d", "--name", "s", "--network", "none", &tiny(), "sleep", "1000"];
    let id = systemd.outside(&engine, &start).ok();
    let path = engine.inspect("s", "{{.State.CgroupPath}}");
    assert!(path.ends_with(&format!("/coracle-{id}.scope/container")), "{path}");
    assert!(systemd.units().contains(&format!("coracle-{id}.scope")), "{}", systemd.units());
    // The monitor is in the scope too, in a leaf of its own.
    let monitor = own_cgroup(&engine.inspect("s", "{{.State.MonitorPid}}"));
    assert!(monitor.ends_with(".scope/monitor"), "{monitor}");
    // exec goes there as well, from a session that may not move processes by itself.
    let own = "sed -n s/^0:://p /proc/self/cgroup";
    assert_eq!(systemd.outside(&engine, &["exec", "s", "sh", "-c", own]).ok(), "/");
    systemd.outside(&engine, &["pause", "s"]).ok();
    assert_eq!(engine.inspect("s", "{{.State.Status}}"), "paused");
    systemd.outside(&engine, &["unpause", "s"]).ok();
    // Started again at once: the old scope is on its way out.
    for _ in 0..3 {
        systemd.outside(&engine, &["restart", "-t", "0", "s"]).ok();
    }
    assert!(engine.inspect("s", "{{.State.CgroupPath}}").ends_with(".scope/container"));
    // In a unit that it has delegated, it need not be asked.
    let script = format!(
        "echo $$ >{}/cgroup.procs && exec systemd-run --user --scope -qp Delegate=yes \"$@\"",
        systemd.other
    );
    let start = ["run", "-d", "--rm", "--name", "d", "--network", "none", &tiny(), "sleep", "1000"];
    let id = run(engine.wrapped(&["sh", "-c", &script, "sh"], &start)).ok();
    let inner = engine.inspect("d", "{{.State.CgroupPath}}");
    assert!(inner.ends_with(&format!(".scope/coracle-{id}")) && !systemd.units().contains(&id), "{inner}");
    // From elsewhere, too, exec goes into the container's cgroup.
    systemd.outside(&engine, &["exec", "-d", "d", "sleep", "1001"]).ok();
    let inside = || std::fs::read_to_string(format!("{TOP}{inner}/cgroup.procs")).unwrap().lines().count();
    eventually("what was executed is in the cgroup", || inside() == 2);
    engine.ok(&["rm", "-f", "-t", "0", "d"]);
    // A foreground run does not wait for systemd.
    let args = ["run", "--rm", "--network", "none", &tiny(), "sh", "-c", own];
    assert_eq!(systemd.outside(&engine, &args).ok(), "/");
    // kill -9 of the monitor: systemd removes the scope.
    let monitor: i32 = engine.inspect("s", "{{.State.MonitorPid}}").parse().unwrap();
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    eventually("the scope is gone", || systemd.units().is_empty());
    engine.ok(&["rm", "-f", "s"]);
    let folder = format!("{TOP}{}", path.trim_end_matches("/container"));
    eventually("its cgroup is gone", || is_gone(Path::new(&folder)));
}

#[test]
fn a_limit_in_a_scope_is_set_or_refused_with_the_reason() {
    let mut engine = engine!();
    require!(has_cgroups(&engine) && !engine.is_podman(), NO_CGROUPS);
    let systemd = match Systemd::start() {
        Ok(systemd) => systemd,
        Err(why) => return crate::support::skip(&why),
    };
    engine.set("XDG_RUNTIME_DIR", &systemd.variable());
    let args = ["run", "--rm", "--network", "none", "-m", "64m", &tiny(), "cat", "/sys/fs/cgroup/memory.max"];
    let output = systemd.outside(&engine, &args);
    if has_controller(&engine, "memory") {
        assert_eq!(output.ok(), "67108864");
    } else {
        output.explains(125, &["--memory", "controller memory", "not delegated"]);
    }
    assert!(engine.names().is_empty());
    // Nobody to ask.
    engine.set("XDG_RUNTIME_DIR", "/nonexistent");
    let output = systemd.outside(&engine, &args);
    output.explains(125, &["--memory", "none is delegated", "systemd", "fix:"]);
    let start = ["run", "-d", "--name", "w", "--network", "none", &tiny(), "sleep", "1000"];
    systemd.outside(&engine, &start).ok();
    engine.run(&["pause", "w"]).explains(125, &["no cgroup of its own", "fix:"]);
}
