//! Containers as JSON: the rows of `ps` and the object of `inspect`, with docker's field names.

use super::image_view::keys;
use super::network_view::{network_names, network_settings, port_bindings, ports_text};
use super::rows::{ContainerRow, Phase};
use crate::container::record::{MountKind, MountUse, Record, Status};
use crate::container::request::{LogDriver, MountOptions, Propagation};
use crate::container::store::Container;
use crate::image::Image;
use crate::output::human;
use crate::sandbox::capabilities::CapSet;
use crate::sandbox::{Device, Ids, Rlimit, SeccompProfile, signal_name};
use crate::state::Paths;
use crate::userns::IdRange;
use crate::volume::Volumes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 as a moment.
pub fn moment(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// A row of `ps`; `size` is what the container has written and that with its image.
pub fn row(container: &Container, now: SystemTime, no_trunc: bool, size: Option<(u64, u64)>) -> Value {
    let Record { id, name, created, image, labels, mounts, spec, .. } = &container.record;
    let row = ContainerRow {
        id: id.as_str(),
        image,
        command: &spec.process.args,
        created: moment(*created),
        phase: match container.status {
            Status::Created => Phase::Created,
            Status::Starting => Phase::Running(now),
            Status::Running { started } => Phase::Running(moment(started)),
            Status::Paused { started } => Phase::Paused(moment(started)),
            Status::Exited { code, finished, .. } => {
                Phase::Exited(code, (finished > 0).then(|| moment(finished)))
            }
        },
        name,
        labels,
        mounts: mounts.iter().map(|m| source_text(&m.kind)).collect(),
        volumes: mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume { .. })).count(),
        networks: network_names(&container.record).join(","),
        ports: ports_text(container),
        size,
    };
    row.fields(now, no_trunc)
}

/// A row for a container whose record cannot be read.
pub fn broken_row(id: &str, now: SystemTime, no_trunc: bool) -> Value {
    let labels = std::collections::BTreeMap::new();
    let row = ContainerRow {
        id,
        image: "?",
        command: &[],
        created: UNIX_EPOCH,
        phase: Phase::Broken,
        name: "?",
        labels: &labels,
        mounts: Vec::new(),
        volumes: 0,
        networks: String::new(),
        ports: String::new(),
        size: None,
    };
    row.fields(now, no_trunc)
}

fn source_text(kind: &MountKind) -> String {
    match kind {
        MountKind::Bind { path } => path.display().to_string(),
        MountKind::Volume { name, .. } => name.clone(),
        MountKind::Tmpfs { .. } => "tmpfs".to_owned(),
        MountKind::New { kind, .. } => kind.clone(),
        MountKind::Image { name, .. } => name.clone(),
    }
}

/// What `inspect` shows of a container. `image` is what it was made from, if that is still there, and `size` what it
/// has written and that with its image.
pub fn inspect(
    paths: &Paths,
    container: &Container,
    image: Option<&Image>,
    size: Option<(u64, u64)>,
) -> Value {
    let Container { record, places, .. } = container;
    let process = &record.spec.process;
    let (path, args) = process.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut value = json!({
        "Id": record.id,
        "Created": time(record.created),
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": record.image_id.map(|id| id.to_string()).unwrap_or_default(),
        "ImageName": record.image,
        "Rootfs": record.settings.rootfs.as_ref().map(|r| r.path.display().to_string()).unwrap_or_default(),
        "PidFile": record.settings.pidfile,
        "Name": format!("/{}", record.name),
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": std::env::consts::OS,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": [],
        "ResolvConfPath": places.run.join("resolv.conf"),
        "HostnamePath": places.run.join("hostname"),
        "HostsPath": places.run.join("hosts"),
        "LogPath": log_path(container),
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "UpperDir": places.data.join("upper"), "WorkDir": places.data.join("work") },
        },
        "BoundingCaps": process.capabilities.names().collect::<Vec<_>>(),
        "Mounts": record.mounts.iter().map(|used| mount(paths, used)).collect::<Vec<_>>(),
        "Config": config(record, image),
        "HostConfig": host_config(container),
        "NetworkSettings": network_settings(container),
    });
    if let (Some((own, whole)), Some(fields)) = (size, value.as_object_mut()) {
        fields.insert("SizeRw".into(), own.into());
        fields.insert("SizeRootFs".into(), whole.into());
    }
    value
}

/// All that is shown of a container, for the fuzzer.
#[cfg(feature = "fuzzing")]
pub fn container_views(paths: &Paths, container: &Container) -> [Value; 2] {
    [row(container, SystemTime::now(), false, None), inspect(paths, container, None, None)]
}

/// Nanoseconds since 1970, or Go's year one for what has not been yet.
fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        n => human::rfc3339(moment(n)),
    }
}

fn log_path(container: &Container) -> String {
    match container.record.log.driver {
        LogDriver::K8sFile => container.places.data.join("ctr.log").display().to_string(),
        LogDriver::None => String::new(),
    }
}

fn state(container: &Container) -> Value {
    let Container { status, live, exit, .. } = container;
    let cgroup = live.as_ref().and_then(|live| live.cgroup.as_ref());
    let (code, started, finished) = match status {
        Status::Created | Status::Starting => (0, 0, 0),
        Status::Running { started } | Status::Paused { started } => (0, *started, 0),
        Status::Exited { code, started, finished } => (*code, *started, *finished),
    };
    json!({
        "Status": status.word(),
        "Running": status.is_running(),
        "Paused": matches!(status, Status::Paused { .. }),
        "Restarting": false,
        "OOMKilled": exit.as_ref().is_some_and(|exit| exit.oom_killed),
        "Dead": false,
        "Pid": live.as_ref().map_or(0, |live| live.init.pid),
        "MonitorPid": live.as_ref().map_or(0, |live| live.monitor.pid),
        "CgroupPath": cgroup.map_or("", |cgroup| cgroup.path.as_str()),
        "ExitCode": code,
        "Error": exit.as_ref().and_then(|e| e.error.clone()).unwrap_or_default(),
        "StartedAt": time(started),
        "FinishedAt": time(finished),
        // A template may ask whether there is a health check.
        "Health": Value::Null,
    })
}

fn config(record: &Record, image: Option<&Image>) -> Value {
    let Record { spec, interactive, entrypoint, command, labels, .. } = record;
    let process = &spec.process;
    let of_image = image.map(|image| &image.config.config);
    json!({
        "Hostname": spec.hostname,
        "Domainname": spec.domainname.as_deref().unwrap_or_default(),
        "User": process.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "ExposedPorts":
            keys(of_image.into_iter().flat_map(|config| &config.exposed_ports).chain(&record.settings.exposed)),
        "Tty": process.terminal,
        "OpenStdin": interactive,
        "StdinOnce": interactive,
        "Env": process.env,
        "Cmd": command,
        "Image": record.image,
        "Volumes": keys(of_image.into_iter().flat_map(|config| &config.volumes)),
        "WorkingDir": process.cwd,
        "Entrypoint": entrypoint,
        "OnBuild": of_image.map(|config| config.on_build.as_slice()).unwrap_or_default(),
        "Labels": labels,
        "StopSignal": signal_name(record.stop_signal),
        "StopTimeout": record.stop_timeout,
        // podman's.
        "Annotations": record.settings.annotations,
        "Timeout": record.settings.timeout,
        "Timezone": record.settings.timezone.as_deref().unwrap_or_default(),
        "Umask": format!("{:04o}", process.attributes.umask.unwrap_or(0o022)),
        "SystemdMode": record.settings.systemd,
        "Passwd": !record.settings.files.no_passwd,
    })
}

fn host_config(container: &Container) -> Value {
    let Container { record, .. } = container;
    let Record { spec, mounts, log, dns, .. } = record;
    let process = &spec.process;
    let names = |set: CapSet| set.names().collect::<Vec<_>>();
    let (granted, usual) = (process.capabilities, CapSet::DEFAULT);
    let tmpfs: Map<String, Value> = mounts
        .iter()
        .filter(|used| matches!(used.kind, MountKind::Tmpfs { .. }))
        .map(|used| (used.destination.clone(), mode(used).into()))
        .collect();
    let ulimit = |limit: &Rlimit| {
        // As docker shows it, no limit is -1.
        let number = |n: u64| i64::try_from(n).unwrap_or(-1);
        json!({ "Name": limit.name, "Soft": number(limit.soft), "Hard": number(limit.hard) })
    };
    let modes = &record.settings.modes;
    let groups = match process.attributes.keep_groups {
        true => vec!["keep-groups".to_owned()],
        false => process.attributes.groups.clone(),
    };
    let device = |device: &Device| json!({ "PathOnHost": device.host, "PathInContainer": device.path, "CgroupPermissions": "rwm" });
    let mut value = json!({
        "Binds": mounts.iter().filter_map(bind).collect::<Vec<_>>(),
        "LogConfig": {
            "Type": log.driver,
            "Config": { "max-size": log.max_size.to_string(), "max-file": log.max_file.to_string() },
            "Path": log_path(container),
        },
        "NetworkMode": network_names(record).first(),
        "PortBindings": port_bindings(&record.publish),
        "AutoRemove": record.rm,
        "CapAdd": if spec.privileged { Vec::new() } else { names(granted.without(usual)) },
        "CapDrop": names(usual.without(granted)),
        "CgroupnsMode": if spec.host_cgroup_namespace { "host" } else { "private" },
        "Dns": dns.servers,
        "DnsOptions": dns.options,
        "DnsSearch": dns.search,
        "ExtraHosts": record.add_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect::<Vec<_>>(),
        // One of its own can be joined unless that is forbidden.
        "IpcMode": if modes.ipc.is_empty() { "shareable" } else { modes.ipc.as_str() },
        "PidMode": modes.pid,
        "UTSMode": modes.uts,
        "VolumesFrom": record.settings.volumes_from,
        "GroupAdd": groups,
        "OomScoreAdj": process.attributes.oom_score_adj.unwrap_or(0),
        "Devices": spec.devices.iter().map(device).collect::<Vec<_>>(),
        "Sysctls": spec.sysctls.iter().cloned().collect::<BTreeMap<_, _>>(),
        "Annotations": record.settings.annotations,
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only_root,
        "SecurityOpt": security_options(record),
        "Tmpfs": tmpfs,
        "UsernsMode": modes.userns,
        "IDMappings": id_mappings(&spec.ids),
        "ShmSize": spec.shm_size,
        "Runtime": "coracle",
        "Init": process.init,
        "Ulimits": process.rlimits.iter().map(ulimit).collect::<Vec<_>>(),
        "MaskedPaths": spec.masked_paths,
        "ReadonlyPaths": spec.read_only_paths,
    });
    let limits = super::limits_view::host_config(container);
    if let (Value::Object(fields), Value::Object(unset), Value::Object(limits)) =
        (&mut value, unset(), limits)
    {
        fields.extend(unset);
        fields.extend(limits);
    }
    value
}

/// As podman shows them: maps over the user's namespace, where 0 is the user; none where they are as in that.
fn id_mappings(ids: &Ids) -> Value {
    let text = |ranges: &[IdRange]| {
        let line = |range: &IdRange| format!("{}:{}:{}", range.inside, range.outside, range.count);
        ranges.iter().map(line).collect::<Vec<_>>()
    };
    match ids {
        Ids::Given { uids, gids } => json!({ "UidMap": text(uids), "GidMap": text(gids) }),
        Ids::Part { first, count } => {
            let part = text(&[IdRange { inside: 0, outside: *first, count: *count }]);
            json!({ "UidMap": part, "GidMap": part })
        }
        Ids::All | Ids::Keep { .. } | Ids::WithoutUser => Value::Null,
    }
}

/// docker's settings that a container cannot have here, for scripts that ask for them.
fn unset() -> Value {
    json!({
        "ContainerIDFile": "",
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "VolumeDriver": "",
        "Cgroup": "",
        "Links": [],
        "PublishAllPorts": false,
        "Isolation": "",
        "DeviceRequests": [],
    })
}

fn security_options(record: &Record) -> Vec<&'static str> {
    let process = &record.spec.process;
    let seccomp = match process.seccomp {
        SeccompProfile::Default => None,
        // It comes with --privileged and was not asked for.
        SeccompProfile::Unconfined if record.spec.privileged => None,
        SeccompProfile::Unconfined => Some("seccomp=unconfined"),
        SeccompProfile::Custom(_) => Some("seccomp=custom"),
    };
    process.no_new_privileges.then_some("no-new-privileges").into_iter().chain(seccomp).collect()
}

/// What was given to `-v`, if anything could be.
fn bind(used: &MountUse) -> Option<String> {
    let source = match &used.kind {
        MountKind::Bind { path } => path.display().to_string(),
        MountKind::Volume { name, anonymous: false } => name.clone(),
        _ => return None,
    };
    let mode = mode(used);
    let mode = if mode.is_empty() { mode } else { format!(":{mode}") };
    Some(format!("{source}:{}{mode}", used.destination))
}

/// The options of a mount that are not the usual ones, as `-v` and `--tmpfs` take them.
fn mode(used: &MountUse) -> String {
    let o = &used.options;
    let propagation = match o.propagation {
        Propagation::Private => None,
        _ => Some(propagation(o)),
    };
    let mut further = Vec::new();
    match &used.kind {
        MountKind::Tmpfs { size, mode, options, copy_up } => {
            further.extend(size.map(|size| format!("size={size}")));
            further.extend((*mode != 0o1777).then(|| format!("mode={mode:o}")));
            further.extend(options.iter().cloned().chain(copy_up.then(|| "tmpcopyup".to_owned())));
        }
        MountKind::New { options, .. } => further.extend(options.iter().cloned()),
        _ => {}
    }
    let flags = [
        (o.read_only, "ro"),
        (o.chown, "U"),
        (o.no_copy, "nocopy"),
        (o.no_exec, "noexec"),
        (o.suid, "suid"),
        (o.dev, "dev"),
        (o.non_recursive, "bind"),
        (o.overlay, "O"),
    ];
    let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned());
    flags.chain(propagation.map(str::to_owned)).chain(further).collect::<Vec<_>>().join(",")
}

fn propagation(options: &MountOptions) -> &'static str {
    match (options.propagation, options.non_recursive) {
        (Propagation::Private, false) => "rprivate",
        (Propagation::Private, true) => "private",
        (Propagation::Slave, false) => "rslave",
        (Propagation::Slave, true) => "slave",
        (Propagation::Shared, false) => "rshared",
        (Propagation::Shared, true) => "shared",
    }
}

fn mount(paths: &Paths, used: &MountUse) -> Value {
    let mut value = json!({
        "Type": "",
        "Name": "",
        "Source": "",
        "Destination": used.destination,
        "Driver": "",
        "Mode": mode(used),
        "RW": !used.options.read_only,
        "Propagation": "",
    });
    let mut set = |field: &str, text: String| value[field] = text.into();
    match &used.kind {
        MountKind::Bind { path } => {
            set("Type", "bind".into());
            set("Source", path.display().to_string());
            set("Propagation", propagation(&used.options).into());
        }
        MountKind::Volume { name, .. } => {
            set("Type", "volume".into());
            set("Name", name.clone());
            let folder = Volumes::new(paths).get(name).map(|volume| volume.data());
            set("Source", folder.map(|folder| folder.display().to_string()).unwrap_or_default());
            set("Driver", "local".into());
        }
        MountKind::Tmpfs { .. } => set("Type", "tmpfs".into()),
        MountKind::New { kind, .. } => set("Type", kind.clone()),
        MountKind::Image { name, .. } => {
            set("Type", "image".into());
            set("Source", name.clone());
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::create::{ImageDefaults, Surroundings, plan};
    use crate::container::id::ContainerId;
    use crate::container::request::{CreateRequest, MountRequest, MountSource, NetworkMode};
    use crate::container::store::Places;
    use crate::digest::Digest;
    use crate::output::template;

    fn mounted(source: MountSource, destination: &str, read_only: bool) -> MountRequest {
        let options = MountOptions { read_only, ..MountOptions::default() };
        MountRequest { source, destination: destination.into(), options }
    }

    #[test]
    fn templates_that_scripts_use_find_their_fields() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        let request = CreateRequest {
            image: "debian".into(),
            name: Some("web".into()),
            command: vec!["sleep".into(), "9".into()],
            mounts: vec![
                mounted(MountSource::Bind { path: "/tmp".into(), create: false }, "/in", true),
                mounted(MountSource::Volume { name: "data".into() }, "/data", false),
                mounted(
                    MountSource::Tmpfs { size: Some(65536), mode: None, options: Vec::new(), copy_up: false },
                    "/t",
                    false,
                ),
            ],
            cap_add: vec!["CAP_NET_RAW".into()],
            cap_drop: vec!["CAP_KILL".into()],
            network: NetworkMode::None,
            stop_signal: Some(3),
            add_hosts: vec![("db".into(), "192.0.2.7".into())],
            ..CreateRequest::default()
        };
        let id = ContainerId::random().unwrap();
        let image = ImageDefaults::default();
        let record =
            plan(&id, &request, Some(Digest::of(b"")), &[], &image, &Surroundings::default()).unwrap();
        let container = Container {
            places: Places::of(&paths, &id),
            record,
            status: Status::Exited { code: 3, started: 1_000_000_000, finished: 2_000_000_000 },
            live: None,
            exit: None,
        };
        let value = inspect(&paths, &container, None, Some((1, 2)));
        for (format, expected) in [
            ("{{.Name}} {{.Config.Image}} {{.Path}} {{.Args}}", "/web debian sleep [9]"),
            ("{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}", "exited false 0 3"),
            (
                "{{.State.StartedAt}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
                "1970-01-01T00:00:01Z none",
            ),
            ("{{.Config.StopSignal}} {{.Config.Cmd}} {{.Config.Entrypoint}}", "SIGQUIT [sleep 9] []"),
            ("{{.HostConfig.Binds}} {{.HostConfig.Tmpfs}}", "[/tmp:/in:ro data:/data] map[/t:size=65536]"),
            ("{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}", "[CAP_NET_RAW] [CAP_KILL]"),
            ("{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}", "no 0"),
            ("{{.HostConfig.NetworkMode}} {{.HostConfig.ExtraHosts}}", "none [db:192.0.2.7]"),
            (
                "{{range $name, $at := .NetworkSettings.Networks}}{{$name}}={{$at.IPAddress}};{{end}}",
                "none=;",
            ),
            ("{{.NetworkSettings.IPAddress}}{{.NetworkSettings.Ports}}", "map[]"),
            (
                "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}};{{end}}",
                "bind /in false;volume /data true;tmpfs /t true;",
            ),
            ("{{(index .Mounts 0).Source}} {{(index .Mounts 0).Propagation}}", "/tmp rprivate"),
            ("{{.SizeRw}} {{.SizeRootFs}}", "1 2"),
        ] {
            assert_eq!(template::format(Some(format), &value).unwrap(), expected, "{format}");
        }
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!((signal_name(15), signal_name(37)), ("SIGTERM".to_owned(), "SIGRTMIN+3".to_owned()));
    }
}
