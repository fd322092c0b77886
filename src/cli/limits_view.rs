//! Limits as docker's `HostConfig` shows them.

use crate::container::store::Container;
use crate::sandbox::cgroup::limits::{DeviceLimit, Limits};
use crate::sandbox::cgroup::place::Mode;
use crate::sandbox::cgroup::{Group, Limit};
use serde_json::{Map, Value, json};

/// The fields of `HostConfig` that are about resources. What was not asked for is 0 or empty, as docker has it.
pub fn host_config(container: &Container) -> Value {
    let record = &container.record;
    let Limits { memory, memory_swap, memory_reservation, nano_cpus, .. } = &record.limits;
    let limits = &record.limits;
    // docker's default, which we set where the kernel counts swap.
    let swap = memory_swap.map(Limit::number).or_else(|| i64::try_from((*memory)?.saturating_mul(2)).ok());
    let conf: Map<String, Value> =
        limits.conf.iter().map(|(file, value)| (file.clone(), value.clone().into())).collect();
    json!({
        "CgroupParent": record.cgroup.parent.as_deref().unwrap_or_default(),
        "Cgroups": match record.cgroup.mode {
            Mode::Enabled => "enabled",
            Mode::Disabled => "disabled",
            Mode::Split => "split",
        },
        "CgroupConf": conf,
        "Memory": memory.unwrap_or(0),
        "MemorySwap": swap.unwrap_or(0),
        "MemoryReservation": memory_reservation.unwrap_or(0),
        "MemorySwappiness": Value::Null,
        "OomKillDisable": false,
        "NanoCpus": nano_cpus.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.map_or(0, Limit::number),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": pids(container),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": devices(&limits.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": devices(&limits.device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": devices(&limits.device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": devices(&limits.device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": devices(&limits.device_write_iops, "Rate"),
    })
}

fn devices(limits: &[DeviceLimit], word: &str) -> Vec<Value> {
    limits.iter().map(|limit| json!({ "Path": limit.path, word: limit.value })).collect()
}

/// What was asked for, or else what a running container got by default.
fn pids(container: &Container) -> i64 {
    let asked = container.record.limits.pids.map(Limit::number);
    let got = || {
        let cgroup = container.live.as_ref()?.cgroup.as_ref()?;
        Group::open(&cgroup.path).ok()?.read("pids.max")?.trim().parse().ok()
    };
    asked.or_else(got).unwrap_or(0)
}
