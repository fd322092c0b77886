//! The flags about resources: of `create` and `run`, and those that `update` shares.

use super::Error;
use super::args::{Given, list, option, switch};
use super::parse::{self, Invalid};
use crate::container::request::CgroupOptions;
use crate::sandbox::cgroup::limits::{DeviceLimit, is_settable};
use crate::sandbox::cgroup::place::Mode;
use crate::sandbox::cgroup::{Limit, Limits};
use clap::{ArgMatches, Command};

/// Flags that only cgroup v1 has: podman and docker take them, and cannot do anything with them either.
const ONLY_V1: [&str; 4] = ["memory-swappiness", "cpu-rt-period", "cpu-rt-runtime", "kernel-memory"];

/// Adds the limits that can be changed later.
pub(super) fn define_limits(to: Command) -> Command {
    to.next_help_heading("Resources").args([
        option("memory", "SIZE").short('m').help("Limit memory, as in 512m or 2g"),
        option("memory-swap", "SIZE")
            .help("Limit memory and swap together; -1 is no limit (default twice --memory)"),
        option("memory-reservation", "SIZE").help("Keep this much memory for it when memory is short"),
        option("cpus", "NUMBER").help("Limit processor time, as in 1.5"),
        option("cpu-shares", "SHARES")
            .short('c')
            .help("Weight of its processor time beside others (default 1024)"),
        option("cpu-period", "MICROSECONDS")
            .help("Span of time over which --cpu-quota counts (default 100000)"),
        option("cpu-quota", "MICROSECONDS").help("Processor time in each span, -1 for no limit"),
        option("cpuset-cpus", "LIST").help("Processors that it may use, as in 0-2,5"),
        option("cpuset-mems", "LIST").help("Memory nodes that it may use"),
        option("pids-limit", "COUNT").help("Limit processes and threads, -1 for no limit (default 2048)"),
        option("blkio-weight", "WEIGHT").help("Weight of its block I/O beside others, 10 to 1000"),
        list("blkio-weight-device", "DEVICE:WEIGHT").help("The same for one device"),
        list("device-read-bps", "DEVICE:RATE").help("Limit reading, bytes per second, as in /dev/sda:1m"),
        list("device-write-bps", "DEVICE:RATE").help("Limit writing, bytes per second"),
        list("device-read-iops", "DEVICE:RATE").help("Limit reading, operations per second"),
        list("device-write-iops", "DEVICE:RATE").help("Limit writing, operations per second"),
        // Refused with the reason (see ONLY_V1).
        option("memory-swappiness", "NUMBER").hide(true),
        option("cpu-rt-period", "MICROSECONDS").hide(true),
        option("cpu-rt-runtime", "MICROSECONDS").hide(true),
        option("kernel-memory", "SIZE").hide(true),
    ])
}

/// Adds all of `create` and `run`.
pub(super) fn define(to: Command) -> Command {
    define_limits(to).args([
        list("cgroup-conf", "FILE=VALUE").help("Set a file of its cgroup, as in memory.high=1g"),
        option("cgroup-parent", "PARENT").help("Slice or cgroup to put its cgroup below"),
        option("cgroups", "MODE").help("Cgroup of its own: enabled (default), disabled or split"),
        option("cgroupns", "MODE").help("Cgroup namespace: private (default) or host"),
        switch("oom-kill-disable").hide(true),
    ])
}

/// The limits asked for.
pub(super) fn limits(args: &ArgMatches) -> Result<Limits, Error> {
    refuse_v1(args)?;
    let positive = |n: u64| (n > 0).then_some(n);
    let size = |flag| args.filled(flag, parse::bytes).map(|n| n.and_then(positive));
    let count = |flag| args.filled(flag, parse::number::<u64>).map(|n| n.and_then(positive));
    let weight = args.filled("blkio-weight", blkio_weight)?.and_then(positive);
    let limits = Limits {
        memory: size("memory")?,
        memory_swap: args
            .filled("memory-swap", |text| limit(text, parse::bytes))?
            .filter(|l| *l != Limit::Of(0)),
        memory_reservation: size("memory-reservation")?,
        nano_cpus: args.filled("cpus", nano_cpus)?.and_then(positive),
        cpu_shares: count("cpu-shares")?,
        cpu_period: count("cpu-period")?,
        cpu_quota: args
            .filled("cpu-quota", |text| limit(text, parse::number))?
            .filter(|l| *l != Limit::Of(0)),
        cpuset_cpus: args.filled("cpuset-cpus", cpuset)?,
        cpuset_mems: args.filled("cpuset-mems", cpuset)?,
        pids: args.filled("pids-limit", |text| limit(text, parse::number))?.map(|l| match l {
            // podman's.
            Limit::Of(0) => Limit::Unlimited,
            other => other,
        }),
        blkio_weight: weight,
        blkio_weight_device: args.each("blkio-weight-device", |text| device(text, blkio_weight))?,
        device_read_bps: args.each("device-read-bps", |text| device(text, rate(parse::bytes)))?,
        device_write_bps: args.each("device-write-bps", |text| device(text, rate(parse::bytes)))?,
        device_read_iops: args.each("device-read-iops", |text| device(text, rate(parse::number)))?,
        device_write_iops: args.each("device-write-iops", |text| device(text, rate(parse::number)))?,
        conf: Vec::new(),
    };
    Ok(limits)
}

/// All of `create` and `run`.
pub(super) fn options(args: &ArgMatches) -> Result<(Limits, CgroupOptions), Error> {
    if args.on("oom-kill-disable") {
        return Err(only_v1("oom-kill-disable"));
    }
    let limits = Limits { conf: args.each("cgroup-conf", conf)?, ..limits(args)? };
    let cgroup = CgroupOptions {
        mode: args.filled("cgroups", mode)?.unwrap_or_default(),
        parent: args.filled("cgroup-parent", parent)?,
        host_namespace: args.filled("cgroupns", namespace)?.unwrap_or(false),
    };
    if cgroup.mode != Mode::Enabled && cgroup.parent.is_some() {
        return Err(Error::usage(
            "--cgroup-parent goes with --cgroups=enabled only",
            "leave out one of the two flags",
        ));
    }
    Ok((limits, cgroup))
}

fn only_v1(flag: &str) -> Error {
    Error::usage(format!("--{flag} is of cgroup v1: version 2 has nothing like it"), "leave it out")
}

fn refuse_v1(args: &ArgMatches) -> Result<(), Error> {
    for flag in ONLY_V1 {
        match (flag, args.text(flag)) {
            (_, None | Some("" | "0")) | ("memory-swappiness", Some("-1")) => {}
            _ => return Err(only_v1(flag)),
        }
    }
    Ok(())
}

/// A number, or -1 for no limit.
fn limit(text: &str, parse: impl Fn(&str) -> Result<u64, Invalid>) -> Result<Limit, Invalid> {
    match text {
        "-1" => Ok(Limit::Unlimited),
        _ => parse(text).map(Limit::Of),
    }
}

/// `1.5` as billionths.
fn nano_cpus(text: &str) -> Result<u64, Invalid> {
    let invalid = || Invalid::new("expected a number of processors such as 2 or 1.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !is_number(whole)
        || !is_number(fraction)
        || fraction.len() > 9
    {
        return Err(invalid());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(fraction)).ok_or_else(invalid)
}

/// A list of numbers and ranges (cpuset(7), "List Format").
fn cpuset(text: &str) -> Result<String, Invalid> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let is_good = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    match text.split(',').all(is_good) {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("expected numbers and ranges, as in 0-2,5")),
    }
}

fn blkio_weight(text: &str) -> Result<u64, Invalid> {
    match parse::number(text)? {
        weight @ (0 | 10..=1000) => Ok(weight),
        _ => Err(Invalid::new("a weight is a number from 10 to 1000")),
    }
}

/// A rate of nothing would be a device that cannot be used.
fn rate(parse: impl Fn(&str) -> Result<u64, Invalid>) -> impl Fn(&str) -> Result<u64, Invalid> {
    move |text| match parse(text)? {
        0 => Err(Invalid::new("expected a rate above 0")),
        rate => Ok(rate),
    }
}

/// `/dev/sda:VALUE`.
fn device(text: &str, value: impl Fn(&str) -> Result<u64, Invalid>) -> Result<DeviceLimit, Invalid> {
    let (path, number) = text.rsplit_once(':').unwrap_or((text, ""));
    if !path.starts_with("/dev/") || number.is_empty() {
        return Err(Invalid::new("expected DEVICE:VALUE, as in /dev/sda:100"));
    }
    Ok(DeviceLimit { path: path.to_owned(), value: value(number)? })
}

fn conf(text: &str) -> Result<(String, String), Invalid> {
    let (file, value) =
        text.split_once('=').ok_or_else(|| Invalid::new("expected FILE=VALUE, as in memory.high=1g"))?;
    match is_settable(file) {
        true => Ok((file.to_owned(), value.to_owned())),
        false => Err(Invalid::new(format!("'{file}' is no file that limits resources"))),
    }
}

fn mode(text: &str) -> Result<Mode, Invalid> {
    match text {
        // Ours is in the container's scope and never in its limits, which is what the second means.
        "enabled" | "no-conmon" => Ok(Mode::Enabled),
        "disabled" => Ok(Mode::Disabled),
        "split" => Ok(Mode::Split),
        _ => Err(Invalid::unknown("mode", text, &["enabled", "disabled", "no-conmon", "split"])),
    }
}

fn parent(text: &str) -> Result<String, Invalid> {
    let is_good = |part: &str| part != ".." && part != "." && !part.contains(|c: char| c.is_control());
    match text.split('/').all(is_good) {
        true if text.ends_with(".slice") && text.contains('/') => {
            Err(Invalid::new("a slice is named without a path: systemd knows where it is"))
        }
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("expected a slice's name, or a path without '.' and '..'")),
    }
}

fn namespace(text: &str) -> Result<bool, Invalid> {
    match text {
        "private" => Ok(false),
        "host" => Ok(true),
        _ => Err(Invalid::unknown("mode", text, &["private", "host"])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::super::{create, update};
    use super::*;

    fn asked(words: &[&str]) -> Result<(Limits, CgroupOptions), String> {
        let words = [words, &["img"]].concat();
        let args = parse_for_test(&create::ENTRY, &words).map_err(|e| e.to_string())?;
        options(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn every_flag_reaches_its_limit() {
        let (limits, cgroup) = asked(&[
            "-m=64m",
            "--memory-swap=-1",
            "--memory-reservation=32m",
            "--cpus=1.5",
            "-c=512",
            "--cpuset-cpus=0-1,3",
            "--cpuset-mems=0",
            "--pids-limit=50",
            "--blkio-weight=500",
            "--blkio-weight-device=/dev/sda:200",
            "--device-read-bps=/dev/sda:1m",
            "--device-write-bps=/dev/sda:2mb",
            "--device-read-iops=/dev/sda:10",
            "--device-write-iops=/dev/sda:20",
            "--cgroup-conf=memory.high=1g",
            "--cgroup-parent=my.slice",
            "--cgroupns=host",
        ])
        .unwrap();
        let device = |value| vec![DeviceLimit { path: "/dev/sda".into(), value }];
        let expected = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(Limit::Unlimited),
            memory_reservation: Some(32 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(512),
            cpu_period: None,
            cpu_quota: None,
            cpuset_cpus: Some("0-1,3".into()),
            cpuset_mems: Some("0".into()),
            pids: Some(Limit::Of(50)),
            blkio_weight: Some(500),
            blkio_weight_device: device(200),
            device_read_bps: device(1 << 20),
            device_write_bps: device(2 << 20),
            device_read_iops: device(10),
            device_write_iops: device(20),
            conf: vec![("memory.high".into(), "1g".into())],
        };
        assert_eq!(limits, expected);
        let parent = Some("my.slice".to_owned());
        assert_eq!(cgroup, CgroupOptions { mode: Mode::Enabled, parent, host_namespace: true });
        let (limits, _) = asked(&["--cpu-period=50000", "--cpu-quota=-1"]).unwrap();
        assert_eq!((limits.cpu_period, limits.cpu_quota), (Some(50_000), Some(Limit::Unlimited)));
    }

    #[test]
    fn nothing_and_zero_are_no_limit() {
        let zeros = [
            "-m=0",
            "--memory-swap=0",
            "--cpus=0",
            "--cpu-shares=0",
            "--cpu-quota=0",
            "--memory=",
            "--blkio-weight=0",
            "--memory-swappiness=-1",
            "--oom-kill-disable=false",
        ];
        assert_eq!(asked(&zeros).unwrap(), Default::default());
        assert_eq!(asked(&["--pids-limit=0"]).unwrap().0.pids, Some(Limit::Unlimited));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_flags_name() {
        for (words, expected) in [
            (&["--memory-swappiness=50"][..], "--memory-swappiness is of cgroup v1"),
            (&["--oom-kill-disable"], "--oom-kill-disable is of cgroup v1"),
            (&["--kernel-memory=1g"], "--kernel-memory is of cgroup v1"),
            (&["-m", "much"], "\"--memory\" flag"),
            (&["--cpus=1.2.3"], "\"--cpus\" flag"),
            (&["--cpus=-1"], "\"--cpus\" flag"),
            (&["--cpuset-cpus=3-1"], "\"--cpuset-cpus\" flag"),
            (&["--blkio-weight=5"], "10 to 1000"),
            (&["--device-read-bps=sda:1"], "DEVICE:VALUE"),
            (&["--device-read-bps=/dev/sda:0"], "above 0"),
            (&["--cgroup-conf=cgroup.procs=1"], "no file that limits"),
            (&["--cgroup-parent=/a/../b"], "without '.' and '..'"),
            (&["--cgroup-parent=/user.slice/my.slice"], "without a path"),
            (&["--cgroup-parent=/a", "--cgroups=split"], "--cgroups=enabled only"),
            (&["--cgroups=some"], "unknown mode"),
            (&["--cgroupns=container:x"], "unknown mode"),
        ] {
            let error = asked(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    fn update_takes_the_limits_and_not_the_place() {
        let args = parse_for_test(&update::ENTRY, &["-m", "64m", "web"]).unwrap();
        assert_eq!(limits(&args).unwrap().memory, Some(64 << 20));
        assert!(parse_for_test(&update::ENTRY, &["--cgroup-parent", "x", "web"]).is_err());
    }
}
