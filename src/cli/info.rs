//! `coracle info`: what this machine is, where things are kept, how many there are.
//!
//! The text and the nested fields are podman's; `--format` finds docker's flat ones (`.NCPU`, `.DockerRootDir`) too.

use super::args::{Given, option};
use super::doctor::facts::CgroupKind;
use super::doctor::gather;
use super::engine::Engine;
use super::version::architecture;
use super::{Action, Context, Entry};
use crate::container::record::Status;
use crate::container::store;
use crate::image::{ImageStore, Listed};
use crate::output;
use crate::sandbox::capabilities::CapSet;
use crate::userns::{IdMap, Mode};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

/// `coracle info`.
pub const ENTRY: Entry = Entry {
    name: "info",
    aliases: &[],
    about: "Show what this machine is and where things are kept",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &["debug,D"], run },
};

fn define(command: Command) -> Command {
    command.arg(option("format", "FORMAT").short('f').help("Show it by a template, or as 'json'"))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let info = podmans(&engine)?;
    output::print(&match args.text("format") {
        None => output::yaml::to_yaml(&info),
        Some(format) => {
            let all = with_dockers(info);
            format!("{}\n", output::template::format(Some(format), &all)?)
        }
    })?;
    Ok(0)
}

/// How many containers are in which state.
#[derive(Default)]
struct Counts {
    all: usize,
    running: usize,
    paused: usize,
}

fn containers(engine: &Engine) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for entry in store::list(&engine.paths)? {
        counts.all += 1;
        let store::Entry::Whole(container) = entry else { continue };
        match container.status {
            Status::Running { .. } | Status::Starting => counts.running += 1,
            Status::Paused { .. } => counts.paused += 1,
            Status::Created | Status::Exited { .. } => {}
        }
    }
    Ok(counts)
}

/// podman's fields.
fn podmans(engine: &Engine) -> anyhow::Result<Value> {
    let uname = rustix::system::uname();
    let of_kernel = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let os_release = gather::read("/etc/os-release");
    let distribution = |key: &str| gather::os_release(&os_release, key);
    let memory = gather::read("/proc/meminfo");
    let cgroups = gather::cgroups(engine.identity.uid);
    let cgroup_version = match cgroups.kind {
        CgroupKind::Unified => "v2",
        CgroupKind::Hybrid | CgroupKind::Legacy => "v1",
        CgroupKind::None => "none",
    };
    let maps = match &engine.identity.mode {
        Mode::Subordinate { uids, gids } => json!({ "uidmap": id_map(uids), "gidmap": id_map(gids) }),
        Mode::Single { .. } => {
            let one = |id: u32| json!([{ "container_id": 0, "host_id": id, "size": 1 }]);
            json!({ "uidmap": one(engine.identity.uid), "gidmap": one(engine.identity.gid) })
        }
    };
    let counts = containers(engine)?;
    let images = ImageStore::open(&engine.paths).list()?;
    let images = images.iter().filter(|listed| matches!(listed, Listed::Image(_))).count();
    let disk = rustix::fs::statvfs(engine.paths.data())?;
    let allocated = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bfree.saturating_mul(disk.f_frsize);
    Ok(json!({
        "host": {
            "arch": architecture(),
            "cgroupControllers": cgroups.controllers,
            "cgroupManager": cgroups.manager(&gather::session(&gather::user())),
            "cgroupVersion": cgroup_version,
            "cpus": std::thread::available_parallelism()?.get(),
            "distribution": {
                "codename": distribution("VERSION_CODENAME"),
                "distribution": distribution("ID"),
                "name": distribution("PRETTY_NAME"),
                "version": distribution("VERSION_ID"),
            },
            "hostname": of_kernel(uname.nodename()),
            "idMappings": maps,
            "kernel": of_kernel(uname.release()),
            "logDriver": "k8s-file",
            "memFree": kibibytes(&memory, "MemFree"),
            "memTotal": kibibytes(&memory, "MemTotal"),
            "os": std::env::consts::OS,
            "security": {
                "apparmorEnabled": gather::apparmor().is_some(),
                "capabilities": CapSet::DEFAULT.names().collect::<Vec<_>>().join(","),
                "rootless": engine.identity.uid != 0 || crate::userns::is_inside(),
                "seccompEnabled": gather::has_seccomp(),
                "selinuxEnabled": gather::selinux().is_some(),
            },
            "serviceIsRemote": false,
            "swapFree": kibibytes(&memory, "SwapFree"),
            "swapTotal": kibibytes(&memory, "SwapTotal"),
            "uptime": uptime(&gather::read("/proc/uptime")),
        },
        "store": {
            "containerStore": {
                "number": counts.all,
                "paused": counts.paused,
                "running": counts.running,
                "stopped": counts.all - counts.running - counts.paused,
            },
            "graphDriverName": "overlay",
            "graphRoot": engine.paths.data(),
            "graphRootAllocated": allocated,
            "graphRootUsed": allocated.saturating_sub(free),
            "graphStatus": { "Backing Filesystem": gather::file_system_type(engine.paths.data()) },
            "imageStore": { "number": images },
            "runRoot": engine.paths.run(),
            "volumePath": engine.paths.volumes(),
        },
        "version": {
            "OsArch": format!("{}/{}", std::env::consts::OS, architecture()),
            "Version": env!("CARGO_PKG_VERSION"),
        },
    }))
}

/// Adds docker's fields, which are the same facts.
fn with_dockers(mut info: Value) -> Value {
    let at = |path: &str| info.pointer(path).cloned().unwrap_or_default();
    let is_on = |path: &str| info.pointer(path) == Some(&Value::Bool(true));
    let security = [
        ("/host/security/apparmorEnabled", "name=apparmor"),
        ("/host/security/seccompEnabled", "name=seccomp,profile=builtin"),
        ("/host/security/selinuxEnabled", "name=selinux"),
        ("/host/security/rootless", "name=rootless"),
    ];
    let security: Vec<_> = security.iter().filter(|(path, _)| is_on(path)).map(|(_, name)| *name).collect();
    let cgroup_version = at("/host/cgroupVersion");
    let Value::Object(dockers) = json!({
        "Architecture": std::env::consts::ARCH,
        "CgroupDriver": at("/host/cgroupManager"),
        "CgroupVersion": cgroup_version.as_str().map(|version| version.trim_start_matches('v')),
        "Containers": at("/store/containerStore/number"),
        "ContainersPaused": at("/store/containerStore/paused"),
        "ContainersRunning": at("/store/containerStore/running"),
        "ContainersStopped": at("/store/containerStore/stopped"),
        "DockerRootDir": at("/store/graphRoot"),
        "Driver": at("/store/graphDriverName"),
        "Images": at("/store/imageStore/number"),
        "KernelVersion": at("/host/kernel"),
        "LoggingDriver": at("/host/logDriver"),
        "MemTotal": at("/host/memTotal"),
        "NCPU": at("/host/cpus"),
        "Name": at("/host/hostname"),
        "OSType": at("/host/os"),
        "OperatingSystem": at("/host/distribution/name"),
        "SecurityOptions": security,
        "ServerVersion": at("/version/Version"),
    }) else {
        return info;
    };
    if let Value::Object(fields) = &mut info {
        fields.extend(dockers);
    }
    info
}

fn id_map(map: &IdMap) -> Vec<Value> {
    map.0.iter().map(|r| json!({ "container_id": r.inside, "host_id": r.outside, "size": r.count })).collect()
}

/// Bytes, from a line of /proc/meminfo.
fn kibibytes(meminfo: &str, field: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// `3h 25m 11s`, from /proc/uptime.
fn uptime(text: &str) -> String {
    let seconds: u64 = text.split(['.', ' ']).next().and_then(|s| s.parse().ok()).unwrap_or(0);
    format!("{}h {}m {}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::template;
    use crate::state::Paths;
    use crate::userns::Identity;

    #[test]
    fn templates_for_docker_and_podman_find_their_fields() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let engine = Engine { paths, identity: Identity::discover().unwrap() };
        let info = with_dockers(podmans(&engine).unwrap());
        let show = |format: &str| template::format(Some(format), &info).unwrap();
        let root = engine.paths.data().display().to_string();
        assert_eq!(show("{{.Store.GraphRoot}} {{.DockerRootDir}}"), format!("{root} {root}"));
        assert_eq!(show("{{.Images}} {{.Containers}} {{.Host.OS}} {{.OSType}}"), "0 0 linux linux");
        assert_eq!(show("{{.Host.Kernel}}"), show("{{.KernelVersion}}"));
        assert_ne!(show("{{.Host.MemTotal}}"), "0");
    }

    #[test]
    fn sizes_and_times_are_read_from_proc() {
        assert_eq!(kibibytes("MemTotal:       16 kB\nMemFree:  2 kB\n", "MemFree"), 2048);
        assert_eq!(uptime("12311.42 5.0\n"), "3h 25m 11s");
    }
}
