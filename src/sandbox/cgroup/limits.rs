//! What a container may be limited to, in docker's terms, and the files of cgroup v2 that say so: pure.
//!
//! Conversions from the terms of version 1 are those of the OCI runtimes, so that a container gets the same here as there.

use super::Error;
use serde::{Deserialize, Serialize};

/// A quantity that may be without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// No limit.
    Unlimited,
    /// So much.
    Of(u64),
}

impl Limit {
    fn text(self) -> String {
        match self {
            Limit::Unlimited => "max".to_owned(),
            Limit::Of(n) => n.to_string(),
        }
    }

    /// docker's number: -1 is no limit.
    pub fn number(self) -> i64 {
        match self {
            Limit::Unlimited => -1,
            Limit::Of(n) => i64::try_from(n).unwrap_or(i64::MAX),
        }
    }
}

/// Something for one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// The device's path on the host; its number may be another after a reboot.
    pub path: String,
    /// A weight, or a rate per second.
    pub value: u64,
}

/// The limits of a container; what is none was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `--memory`, bytes.
    pub memory: Option<u64>,
    /// `--memory-swap`: memory and swap together.
    pub memory_swap: Option<Limit>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<u64>,
    /// `--cpus`, in billionths.
    pub nano_cpus: Option<u64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, microseconds.
    pub cpu_quota: Option<Limit>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`.
    pub pids: Option<Limit>,
    /// `--blkio-weight`.
    pub blkio_weight: Option<u64>,
    /// `--blkio-weight-device`.
    pub blkio_weight_device: Vec<DeviceLimit>,
    /// `--device-read-bps`.
    pub device_read_bps: Vec<DeviceLimit>,
    /// `--device-write-bps`.
    pub device_write_bps: Vec<DeviceLimit>,
    /// `--device-read-iops`.
    pub device_read_iops: Vec<DeviceLimit>,
    /// `--device-write-iops`.
    pub device_write_iops: Vec<DeviceLimit>,
    /// `--cgroup-conf`: files and values as they are.
    pub conf: Vec<(String, String)>,
}

/// How many tasks a container may have where nobody said (podman's default).
pub const DEFAULT_PIDS: u64 = 2048;

const DEFAULT_PERIOD: u64 = 100_000;
/// docker's: less is not enough to start anything.
const LEAST_MEMORY: u64 = 6 << 20;

/// One thing to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag that asked for it.
    pub flag: &'static str,
    /// Files and values, the first of which that this kernel has is used.
    pub ways: Vec<(String, String)>,
    /// Whether somebody asked for it: then it is an error if it cannot be set.
    pub required: bool,
}

impl Setting {
    fn new(flag: &'static str, file: &str, value: impl ToString) -> Self {
        Self { flag, ways: vec![(file.to_owned(), value.to_string())], required: true }
    }

    fn or(mut self, file: &str, value: impl ToString) -> Self {
        self.ways.push((file.to_owned(), value.to_string()));
        self
    }

    /// The controller whose files these are.
    pub fn controller(&self) -> &str {
        self.ways.first().map_or("", |(file, _)| controller(file))
    }
}

/// The controller of a file: what is before the first dot.
fn controller(file: &str) -> &str {
    file.split('.').next().unwrap_or_default()
}

impl Limits {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What does not go together, as docker says it.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |what: &str, fix| Err(Error::Invalid { what: what.to_owned(), fix });
        let memory = self.memory.unwrap_or(u64::MAX);
        if memory < LEAST_MEMORY {
            return invalid("the minimum memory limit is 6MB", "raise --memory");
        }
        match (self.memory, self.memory_swap) {
            (None, Some(Limit::Of(_))) => {
                return invalid(
                    "--memory-swap is memory and swap together, and --memory is not set",
                    "set --memory too",
                );
            }
            (Some(memory), Some(Limit::Of(both))) if both < memory => {
                return invalid(
                    "--memory-swap is memory and swap together, and is less than --memory",
                    "raise --memory-swap, or set it to -1 for as much swap as there is",
                );
            }
            _ => {}
        }
        if self.memory_reservation.is_some_and(|reserved| reserved > memory) {
            return invalid("--memory-reservation is more than --memory", "lower it, or raise --memory");
        }
        if self.nano_cpus.is_some() && (self.cpu_period.is_some() || self.cpu_quota.is_some()) {
            return invalid(
                "--cpus and --cpu-period or --cpu-quota say the same thing twice",
                "leave out one of them",
            );
        }
        if self.cpu_period.is_some_and(|period| !(1000..=1_000_000).contains(&period)) {
            return invalid("--cpu-period is not between 1000 and 1000000 microseconds", "");
        }
        if matches!(self.cpu_quota, Some(Limit::Of(quota)) if quota < 1000) {
            return invalid("--cpu-quota is less than 1000 microseconds", "use -1 for no limit");
        }
        Ok(())
    }

    /// What is asked for, first to last, for a message: `--memory and --cpus`.
    pub fn flags(&self) -> String {
        let mut flags: Vec<String> = Vec::new();
        // The numbers of devices do not matter here.
        for setting in self.settings(|_| Ok((0, 0))).unwrap_or_default() {
            let flag = format!("--{}", setting.flag);
            if setting.required && !flags.contains(&flag) {
                flags.push(flag);
            }
        }
        flags.join(" and ")
    }

    /// The controllers without which these limits cannot be set.
    pub fn controllers(&self) -> Vec<String> {
        let settings = self.settings(|_| Ok((0, 0))).unwrap_or_default();
        let mut names: Vec<String> =
            settings.iter().filter(|s| s.required).map(|s| s.controller().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What is to be written, in order. `device` tells a block device's number.
    pub fn settings(
        &self,
        device: impl Fn(&str) -> Result<(u32, u32), Error>,
    ) -> Result<Vec<Setting>, Error> {
        let mut list = Vec::new();
        if let Some(shares) = self.cpu_shares {
            list.push(Setting::new("cpu-shares", "cpu.weight", cpu_weight(shares)));
        }
        let cpu_max = match (self.nano_cpus, self.cpu_quota, self.cpu_period) {
            (Some(nano), ..) => {
                let quota = u128::from(nano) * u128::from(DEFAULT_PERIOD) / 1_000_000_000;
                // The kernel takes no less than a millisecond.
                Some(("cpus", format!("{} {DEFAULT_PERIOD}", quota.max(1000))))
            }
            (None, None, None) => None,
            (None, quota, period) => {
                let (flag, period) = (if quota.is_some() { "cpu-quota" } else { "cpu-period" }, period);
                Some((
                    flag,
                    format!(
                        "{} {}",
                        quota.unwrap_or(Limit::Unlimited).text(),
                        period.unwrap_or(DEFAULT_PERIOD)
                    ),
                ))
            }
        };
        list.extend(cpu_max.map(|(flag, value)| Setting::new(flag, "cpu.max", value)));
        list.extend(self.cpuset_cpus.iter().map(|v| Setting::new("cpuset-cpus", "cpuset.cpus", v)));
        list.extend(self.cpuset_mems.iter().map(|v| Setting::new("cpuset-mems", "cpuset.mems", v)));
        if let Some(weight) = self.blkio_weight {
            // BFQ's own file takes version 1's values as they are.
            let setting = Setting::new("blkio-weight", "io.bfq.weight", weight);
            list.push(setting.or("io.weight", format!("default {}", io_weight(weight))));
        }
        for limit in &self.blkio_weight_device {
            let (major, minor) = device(&limit.path)?;
            let setting = Setting::new(
                "blkio-weight-device",
                "io.bfq.weight",
                format!("{major}:{minor} {}", limit.value),
            );
            list.push(setting.or("io.weight", format!("{major}:{minor} {}", io_weight(limit.value))));
        }
        for (flag, key, limits) in [
            ("device-read-bps", "rbps", &self.device_read_bps),
            ("device-write-bps", "wbps", &self.device_write_bps),
            ("device-read-iops", "riops", &self.device_read_iops),
            ("device-write-iops", "wiops", &self.device_write_iops),
        ] {
            for limit in limits {
                let (major, minor) = device(&limit.path)?;
                list.push(Setting::new(flag, "io.max", format!("{major}:{minor} {key}={}", limit.value)));
            }
        }
        if let Some(reserved) = self.memory_reservation {
            list.push(Setting::new("memory-reservation", "memory.low", reserved));
        }
        match (self.memory, self.memory_swap) {
            (_, Some(Limit::Unlimited)) => list.push(Setting::new("memory-swap", "memory.swap.max", "max")),
            (Some(memory), Some(Limit::Of(both))) => {
                list.push(Setting::new("memory-swap", "memory.swap.max", both.saturating_sub(memory)));
            }
            // docker's and podman's default: as much swap as memory, where the kernel counts it.
            (Some(memory), None) => {
                list.push(Setting {
                    required: false,
                    ..Setting::new("memory-swap", "memory.swap.max", memory)
                });
            }
            (None, _) => {}
        }
        list.extend(self.memory.map(|memory| Setting::new("memory", "memory.max", memory)));
        list.push(match self.pids {
            Some(limit) => Setting::new("pids-limit", "pids.max", limit.text()),
            None => Setting { required: false, ..Setting::new("pids-limit", "pids.max", DEFAULT_PIDS) },
        });
        list.extend(self.conf.iter().map(|(file, value)| Setting::new("cgroup-conf", file, value)));
        Ok(list)
    }

    /// These, with what `newer` asks for instead.
    pub fn updated(&self, newer: &Limits) -> Limits {
        let mut all = self.clone();
        let Limits { memory, memory_swap, memory_reservation, nano_cpus, .. } = newer.clone();
        all.memory = memory.or(all.memory);
        all.memory_swap = memory_swap.or(all.memory_swap);
        all.memory_reservation = memory_reservation.or(all.memory_reservation);
        all.cpu_shares = newer.cpu_shares.or(all.cpu_shares);
        if nano_cpus.is_some() {
            (all.nano_cpus, all.cpu_period, all.cpu_quota) = (nano_cpus, None, None);
        }
        if newer.cpu_period.is_some() || newer.cpu_quota.is_some() {
            all.nano_cpus = None;
            all.cpu_period = newer.cpu_period.or(all.cpu_period);
            all.cpu_quota = newer.cpu_quota.or(all.cpu_quota);
        }
        all.cpuset_cpus = newer.cpuset_cpus.clone().or(all.cpuset_cpus);
        all.cpuset_mems = newer.cpuset_mems.clone().or(all.cpuset_mems);
        all.pids = newer.pids.or(all.pids);
        all.blkio_weight = newer.blkio_weight.or(all.blkio_weight);
        for (old, new) in [
            (&mut all.blkio_weight_device, &newer.blkio_weight_device),
            (&mut all.device_read_bps, &newer.device_read_bps),
            (&mut all.device_write_bps, &newer.device_write_bps),
            (&mut all.device_read_iops, &newer.device_read_iops),
            (&mut all.device_write_iops, &newer.device_write_iops),
        ] {
            old.retain(|limit| !new.iter().any(|n| n.path == limit.path));
            old.extend(new.iter().cloned());
        }
        all
    }
}

/// A share of version 1 (2 to 262144, usually 1024) as a weight of version 2 (1 to 10000, usually 100): the curve through these
/// three points that runc and crun use since 2025 (opencontainers/cgroups#20).
fn cpu_weight(shares: u64) -> u32 {
    if shares <= 2 {
        return 1;
    }
    #[allow(clippy::cast_precision_loss, reason = "shares end at 262144")]
    let log = (shares.min(262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 10000")]
    let weight = (10f64.powf(exponent) - 1e-9).ceil() as u32;
    weight.clamp(1, 10_000)
}

/// A weight of version 1 (10 to 1000) as one of version 2 (1 to 10000), as runc and crun have it.
fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

/// Whether a file may be set by `--cgroup-conf`: a resource file, not one that moves, kills or freezes.
pub fn is_settable(file: &str) -> bool {
    let mut parts = file.split('.');
    let first = parts.next().unwrap_or_default();
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    is_word(first)
        && file.contains('.')
        && parts.all(is_word)
        && (first != "cgroup" || file.starts_with("cgroup.max."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(limits: &Limits) -> String {
        let settings = limits.settings(|path| Ok((8, u32::try_from(path.len()).unwrap()))).unwrap();
        let one = |s: &Setting| {
            let ways: Vec<_> = s.ways.iter().map(|(file, value)| format!("{file}={value}")).collect();
            format!("{}{}", if s.required { "" } else { "?" }, ways.join(" | "))
        };
        settings.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_limit_is_a_file_and_a_value() {
        let device = |value| vec![DeviceLimit { path: "/dev/sda".into(), value }];
        let all = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(Limit::Of(96 << 20)),
            memory_reservation: Some(32 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-1".into()),
            cpuset_mems: Some("0".into()),
            pids: Some(Limit::Of(50)),
            blkio_weight: Some(500),
            blkio_weight_device: device(200),
            device_read_bps: device(1 << 20),
            device_write_bps: device(2 << 20),
            device_read_iops: device(10),
            device_write_iops: device(20),
            conf: vec![("memory.high".into(), "60M".into())],
            ..Limits::default()
        };
        let expected = "\
cpu.weight=59
cpu.max=150000 100000
cpuset.cpus=0-1
cpuset.mems=0
io.bfq.weight=500 | io.weight=default 4950
io.bfq.weight=8:8 200 | io.weight=8:8 1920
io.max=8:8 rbps=1048576
io.max=8:8 wbps=2097152
io.max=8:8 riops=10
io.max=8:8 wiops=20
memory.low=33554432
memory.swap.max=33554432
memory.max=67108864
pids.max=50
memory.high=60M";
        assert_eq!(shown(&all), expected);
        assert_eq!(all.controllers(), ["cpu", "cpuset", "io", "memory", "pids"]);
        assert!(all.flags().starts_with("--cpu-shares and --cpus and "), "{}", all.flags());
        all.check().unwrap();
    }

    #[test]
    fn nothing_asked_for_is_podmans_limit_of_tasks_where_it_can_be_had() {
        assert_eq!(shown(&Limits::default()), "?pids.max=2048");
        assert!(Limits::default().controllers().is_empty() && Limits::default().flags().is_empty());
        let none = Limits { pids: Some(Limit::Unlimited), ..Limits::default() };
        assert_eq!(shown(&none), "pids.max=max");
    }

    #[test]
    fn memory_alone_allows_as_much_swap_where_that_is_counted() {
        let memory = Limits { memory: Some(8 << 20), ..Limits::default() };
        assert!(shown(&memory).starts_with("?memory.swap.max=8388608\nmemory.max=8388608"));
        assert_eq!(memory.flags(), "--memory");
        let endless = Limits { memory_swap: Some(Limit::Unlimited), ..memory };
        assert!(shown(&endless).starts_with("memory.swap.max=max\n"));
    }

    #[test]
    fn a_quota_or_a_period_alone_keeps_the_other_as_it_is() {
        let quota = Limits { cpu_quota: Some(Limit::Of(20_000)), ..Limits::default() };
        assert!(shown(&quota).starts_with("cpu.max=20000 100000"));
        let period = Limits { cpu_period: Some(50_000), ..Limits::default() };
        assert!(shown(&period).starts_with("cpu.max=max 50000"));
        let small = Limits { nano_cpus: Some(1_000_000), ..Limits::default() };
        assert!(shown(&small).starts_with("cpu.max=1000 100000"));
    }

    #[test]
    fn weights_meet_at_the_ends_and_the_defaults() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(cpu_weight), [1, 1, 100, 10_000, 10_000]);
        assert_eq!([10, 1000].map(io_weight), [1, 10_000]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let wrong = |limits: Limits| limits.check().unwrap_err().to_string();
        let memory = Some(64 << 20);
        assert!(wrong(Limits { memory: Some(1 << 20), ..Limits::default() }).contains("6MB"));
        assert!(
            wrong(Limits { memory_swap: Some(Limit::Of(9)), ..Limits::default() })
                .contains("--memory is not set")
        );
        assert!(
            wrong(Limits { memory, memory_swap: Some(Limit::Of(9)), ..Limits::default() })
                .contains("less than")
        );
        assert!(
            wrong(Limits { memory, memory_reservation: Some(1 << 30), ..Limits::default() })
                .contains("more than")
        );
        assert!(
            wrong(Limits { nano_cpus: Some(1), cpu_quota: Some(Limit::Of(5000)), ..Limits::default() })
                .contains("twice")
        );
        assert!(wrong(Limits { cpu_period: Some(1), ..Limits::default() }).contains("--cpu-period"));
        assert!(wrong(Limits { cpu_quota: Some(Limit::Of(1)), ..Limits::default() }).contains("--cpu-quota"));
    }

    #[test]
    fn an_update_changes_what_it_names_and_no_more() {
        let device = |value| vec![DeviceLimit { path: "/dev/sda".into(), value }];
        let old = Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(1_000_000_000),
            device_read_bps: device(1),
            ..Limits::default()
        };
        let newer =
            Limits { cpu_quota: Some(Limit::Of(5000)), device_read_bps: device(2), ..Limits::default() };
        let updated = old.updated(&newer);
        assert_eq!((updated.memory, updated.nano_cpus), (Some(64 << 20), None));
        assert_eq!(updated.cpu_quota, Some(Limit::Of(5000)));
        assert_eq!(updated.device_read_bps, device(2));
        assert_eq!(old.updated(&Limits::default()), old);
    }

    #[test]
    fn only_resource_files_can_be_set_by_name() {
        for good in ["memory.high", "hugetlb.2MB.max", "cgroup.max.depth", "io.bfq.weight"] {
            assert!(is_settable(good), "{good}");
        }
        for bad in
            ["cgroup.procs", "cgroup.kill", "../memory.max", "memory", "a/b.c", "memory..max", ".x", ""]
        {
            assert!(!is_settable(bad), "{bad}");
        }
    }
}
