//! Containers as JSON: the rows of `ps` and the object of `inspect`, with docker's field names.

use super::rows::{ContainerRow, Phase};
use crate::container::record::{MountKind, Record, Status};
use crate::container::store::Container;
use crate::output::human;
use crate::sandbox::Network;
use serde_json::{Value, json};
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
            Status::Exited { code, finished, .. } => {
                Phase::Exited(code, (finished > 0).then(|| moment(finished)))
            }
        },
        name,
        labels,
        mounts: mounts.iter().map(|m| source_text(&m.kind)).collect(),
        volumes: mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume { .. })).count(),
        network: network_text(spec.network),
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
        network: "",
        size: None,
    };
    row.fields(now, no_trunc)
}

fn source_text(kind: &MountKind) -> String {
    match kind {
        MountKind::Bind { path } => path.display().to_string(),
        MountKind::Volume { name, .. } => name.clone(),
        MountKind::Tmpfs { .. } => "tmpfs".to_owned(),
    }
}

fn network_text(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}

/// What `inspect` shows of a container.
pub fn inspect(container: &Container, size: Option<u64>) -> Value {
    let Container { record, places, status, live, exit } = container;
    let process = &record.spec.process;
    let (code, started, finished) = match status {
        Status::Created | Status::Starting => (0, 0, 0),
        Status::Running { started } => (0, *started, 0),
        Status::Exited { code, started, finished } => (*code, *started, *finished),
    };
    let time = |nanoseconds: u64| match nanoseconds {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        n => human::rfc3339(moment(n)),
    };
    let (path, args) = process.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut value = json!({
        "Id": record.id,
        "Created": time(record.created),
        "Path": path,
        "Args": args,
        "State": {
            "Status": status.word(),
            "Running": status.is_running(),
            "Paused": false,
            "Restarting": false,
            "OOMKilled": false,
            "Dead": false,
            "Pid": live.as_ref().map_or(0, |live| live.init.pid),
            "MonitorPid": live.as_ref().map_or(0, |live| live.monitor.pid),
            "ExitCode": code,
            "Error": exit.as_ref().and_then(|e| e.error.clone()).unwrap_or_default(),
            "StartedAt": time(started),
            "FinishedAt": time(finished),
        },
        "Image": record.image_id,
        "ImageName": record.image,
        "Name": record.name,
        "Driver": "overlay",
        "ResolvConfPath": places.run.join("resolv.conf"),
        "HostnamePath": places.run.join("hostname"),
        "HostsPath": places.run.join("hosts"),
        "LogPath": places.data.join("ctr.log"),
        "GraphDriver": { "Name": "overlay", "Data": { "UpperDir": places.data.join("upper"), "WorkDir": places.data.join("work") } },
        "BoundingCaps": process.capabilities.names().collect::<Vec<_>>(),
        "Mounts": record.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": {
            "Hostname": record.spec.hostname,
            "User": process.user,
            "Tty": process.terminal,
            "OpenStdin": record.interactive,
            "StdinOnce": record.interactive,
            "Env": process.env,
            "Cmd": record.command,
            "Entrypoint": record.entrypoint,
            "Image": record.image,
            "WorkingDir": process.cwd,
            "Labels": record.labels,
            "StopSignal": record.stop_signal,
            "StopTimeout": record.stop_timeout,
        },
        "HostConfig": {
            "AutoRemove": record.rm,
            "Privileged": record.spec.privileged,
            "ReadonlyRootfs": record.spec.read_only_root,
            "NetworkMode": network_text(record.spec.network),
            "UsernsMode": if record.spec.keep_id.is_some() { "keep-id" } else { "" },
            "ShmSize": record.spec.shm_size,
            "Init": process.init,
            "LogConfig": { "Type": record.log.driver, "Config": { "max-size": record.log.max_size, "max-file": record.log.max_file } },
            "MaskedPaths": record.spec.masked_paths,
            "ReadonlyPaths": record.spec.read_only_paths,
            "Ulimits": process.rlimits.iter().map(|l| json!({"Name": l.name, "Soft": l.soft, "Hard": l.hard})).collect::<Vec<_>>(),
        },
        "NetworkSettings": { "Networks": {}, "Ports": {} },
    });
    if let (Some(size), Some(fields)) = (size, value.as_object_mut()) {
        fields.insert("SizeRw".into(), size.into());
    }
    value
}

fn mount(used: &crate::container::record::MountUse) -> Value {
    let (kind, name) = match &used.kind {
        MountKind::Bind { .. } => ("bind", ""),
        MountKind::Volume { name, .. } => ("volume", name.as_str()),
        MountKind::Tmpfs { .. } => ("tmpfs", ""),
    };
    json!({
        "Type": kind,
        "Name": name,
        "Source": source_text(&used.kind),
        "Destination": used.destination,
        "RW": !used.options.read_only,
        "Propagation": used.options.propagation,
    })
}
