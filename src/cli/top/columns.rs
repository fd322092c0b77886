//! What can be shown of a process, in the words of ps(1) and of podman.

use crate::container::processes::{ProcessInfo, Processes};
use crate::sandbox::capabilities::CapSet;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The text of a column for a process.
pub type Value = fn(&Processes, &ProcessInfo) -> String;

/// A column: its names, its head, its text.
pub type Column = (&'static [&'static str], &'static str, Value);

/// Of ps(1): pids are the host's.
pub const PS: &[Column] = &[
    (&["pid", "tgid"], "PID", |_, p| p.host_pid.to_string()),
    (&["ppid"], "PPID", |_, p| p.host_ppid.to_string()),
    (&["pgid", "pgrp"], "PGID", |_, p| p.pgid.to_string()),
    (&["sid", "sess", "session"], "SID", |_, p| p.sid.to_string()),
    (&["tty", "tt"], "TT", |_, p| tty(p)),
    (&["tname"], "TTY", |_, p| tty(p)),
    (&["user", "euser", "uname"], "USER", |all, p| name(&all.users, p.uid.1)),
    (&["uid", "euid"], "UID", |_, p| p.uid.1.to_string()),
    (&["ruser"], "RUSER", |all, p| name(&all.users, p.uid.0)),
    (&["ruid"], "RUID", |_, p| p.uid.0.to_string()),
    (&["group", "egroup"], "GROUP", |all, p| name(&all.groups, p.gid.1)),
    (&["gid", "egid"], "GID", |_, p| p.gid.1.to_string()),
    (&["rgroup"], "RGROUP", |all, p| name(&all.groups, p.gid.0)),
    (&["rgid"], "RGID", |_, p| p.gid.0.to_string()),
    (&["args", "command"], "COMMAND", |_, p| p.args.clone()),
    (&["cmd"], "CMD", |_, p| p.args.clone()),
    (&["comm", "ucmd", "ucomm"], "COMMAND", |_, p| p.comm.clone()),
    (&["nice", "ni"], "NI", |_, p| p.nice.to_string()),
    (&["state", "s"], "S", |_, p| p.state.to_string()),
    (&["stat"], "STAT", |_, p| stat(p)),
    (&["pcpu", "%cpu"], "%CPU", |_, p| format!("{:.1}", percent(p))),
    (&["c"], "C", |_, p| format!("{:.0}", percent(p).floor())),
    (&["pmem", "%mem"], "%MEM", |_, p| format!("{:.1}", memory_percent(p))),
    (&["vsz", "vsize"], "VSZ", |_, p| (p.virtual_size >> 10).to_string()),
    (&["rss", "rssize", "rsz"], "RSS", |_, p| (p.resident >> 10).to_string()),
    (&["time", "cputime"], "TIME", |_, p| hours(p.cpu)),
    (&["bsdtime"], "TIME", |_, p| format!("{}:{:02}", p.cpu.as_secs() / 60, p.cpu.as_secs() % 60)),
    (&["etime"], "ELAPSED", |_, p| elapsed(p.elapsed)),
    (&["etimes"], "ELAPSED", |_, p| p.elapsed.as_secs().to_string()),
    (&["stime"], "STIME", |all, p| started(all.now, p.elapsed)),
    (&["start", "start_time", "bsdstart"], "START", |all, p| started(all.now, p.elapsed)),
    (&["nlwp", "thcount"], "NLWP", |_, p| p.threads.to_string()),
];

/// Of podman: pids are the container's.
pub const PODMAN: &[Column] = &[
    (&["args"], "COMMAND", |_, p| p.args.clone()),
    (&["capamb"], "AMBIENT CAPS", |_, p| capabilities(p.capabilities[4])),
    (&["capbnd"], "BOUNDING CAPS", |_, p| capabilities(p.capabilities[3])),
    (&["capeff"], "EFFECTIVE CAPS", |_, p| capabilities(p.capabilities[2])),
    (&["capinh"], "INHERITED CAPS", |_, p| capabilities(p.capabilities[0])),
    (&["capprm"], "PERMITTED CAPS", |_, p| capabilities(p.capabilities[1])),
    (&["comm"], "COMMAND", |_, p| p.comm.clone()),
    (&["etime"], "ELAPSED", |_, p| go(p.elapsed)),
    (&["group"], "GROUP", |all, p| name(&all.groups, p.gid.1)),
    (&["hgroup"], "HGROUP", |_, p| name(&host_names("/etc/group"), p.host_owner.1)),
    (&["hpid"], "HPID", |_, p| p.host_pid.to_string()),
    (&["huser"], "HUSER", |_, p| name(&host_names("/etc/passwd"), p.host_owner.0)),
    (&["nice"], "NI", |_, p| p.nice.to_string()),
    (&["pcpu"], "%CPU", |_, p| format!("{:.3}", percent(p))),
    (&["pgid"], "PGID", |_, p| p.pgid.to_string()),
    (&["pid"], "PID", |_, p| p.pid.to_string()),
    (&["ppid"], "PPID", |_, p| p.ppid.to_string()),
    (&["rgroup"], "RGROUP", |all, p| name(&all.groups, p.gid.0)),
    (&["rss"], "RSS", |_, p| (p.resident >> 10).to_string()),
    (&["ruser"], "RUSER", |all, p| name(&all.users, p.uid.0)),
    (&["seccomp"], "SECCOMP", |_, p| seccomp(p)),
    (&["state"], "STATE", |_, p| p.state.to_string()),
    (&["stime"], "STIME", |all, p| started(all.now, p.elapsed)),
    (&["time"], "TIME", |_, p| go(p.cpu)),
    (&["tty"], "TTY", |_, p| tty(p)),
    (&["user"], "USER", |all, p| name(&all.users, p.uid.1)),
    (&["vsz"], "VSZ", |_, p| p.virtual_size.to_string()),
];

fn tty(p: &ProcessInfo) -> String {
    p.tty.clone().unwrap_or_else(|| "?".to_owned())
}

fn name(names: &HashMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// Names of the host's own users or groups.
fn host_names(path: &str) -> HashMap<u32, String> {
    crate::sandbox::users::names_in(&std::fs::read(path).unwrap_or_default())
}

fn seccomp(p: &ProcessInfo) -> String {
    match p.seccomp {
        0 => "disabled",
        1 => "strict",
        _ => "filter",
    }
    .to_owned()
}

/// As podman shows a set.
fn capabilities(bits: u64) -> String {
    let set = CapSet::from_bits(bits);
    if set == CapSet::EMPTY {
        return "none".into();
    }
    if set == CapSet::ALL {
        return "full".into();
    }
    set.names().map(|name| name.trim_start_matches("CAP_").to_owned()).collect::<Vec<_>>().join(",")
}

/// Processor time over existence.
#[allow(clippy::cast_precision_loss, reason = "a percentage is shown with three digits")]
fn percent(p: &ProcessInfo) -> f64 {
    let elapsed = p.elapsed.as_secs_f64();
    if elapsed > 0.0 { 100.0 * p.cpu.as_secs_f64() / elapsed } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "a percentage is shown with one digit")]
fn memory_percent(p: &ProcessInfo) -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().next().and_then(|line| line.split_ascii_whitespace().nth(1));
    let total: u64 = total.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    if total > 0 { 100.0 * (p.resident >> 10) as f64 / total as f64 } else { 0.0 }
}

fn stat(p: &ProcessInfo) -> String {
    let mut text = p.state.to_string();
    let marks = [
        (p.nice < 0, '<'),
        (p.nice > 0, 'N'),
        (p.sid == p.pid, 's'),
        (p.threads > 1, 'l'),
        (p.tty.is_some() && p.is_foreground, '+'),
    ];
    text.extend(marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark));
    text
}

/// `[DD-]HH:MM:SS`
fn hours(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}-{clock}") } else { clock }
}

/// `[[DD-]HH:]MM:SS`
fn elapsed(span: Duration) -> String {
    let text = hours(span);
    text.strip_prefix("00:").map_or_else(|| text.clone(), str::to_owned)
}

/// Go's form of a span: `1h2m3.5s`.
fn go(span: Duration) -> String {
    let seconds = span.as_secs();
    let millis = span.subsec_millis();
    let fraction = match millis {
        0 => String::new(),
        n => format!(".{}", format!("{n:03}").trim_end_matches('0')),
    };
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}{fraction}s"),
        (0, m, s) => format!("{m}m{s}{fraction}s"),
        (h, m, s) => format!("{h}h{m}m{s}{fraction}s"),
    }
}

/// When something began, in UTC: the time of a day, or an older day.
fn started(now: SystemTime, elapsed: Duration) -> String {
    let began = now.checked_sub(elapsed).unwrap_or(UNIX_EPOCH);
    // `2026-01-31 15:04:05 +0000 UTC`
    let text = crate::output::human::date(began);
    match elapsed.as_secs() < 86_400 {
        true => text.get(11..16).unwrap_or_default().to_owned(),
        false => text.get(..10).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_those_of_ps_and_of_podman() {
        let s = Duration::from_secs;
        assert_eq!((hours(s(5)), hours(s(90_061))), ("00:00:05".into(), "1-01:01:01".into()));
        assert_eq!((elapsed(s(65)), elapsed(s(3661))), ("01:05".into(), "01:01:01".into()));
        let half = Duration::from_millis(3_723_500);
        assert_eq!((go(s(0)), go(s(61)), go(half)), ("0s".into(), "1m1s".into(), "1h2m3.5s".into()));
    }

    #[test]
    fn no_name_means_two_columns() {
        for table in [PS, PODMAN] {
            let mut names: Vec<_> = table.iter().flat_map(|(names, ..)| names.iter()).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }
}
