//! The processes of a running container, as the host's /proc has them.
//!
//! A process belongs to the container if it is in the container's pid namespace, or if its parent belongs to it: so those
//! in namespaces nested in that one are found, and those that `exec` has put there. Nothing in the container is
//! executed, mounted or trusted for it. Each process is read through one descriptor of its folder, which never comes
//! to mean another process.

use super::Error;
use super::files::Ids;
use super::lifecycle::{enter_its, init_of, settled};
use super::record::Live;
use super::store::Container;
use crate::rooted_fs::Root;
use crate::sandbox::users;
use crate::state::Paths;
use crate::userns::{Identity, Mode};
use nix::unistd::{SysconfVar, sysconf};
use rustix::fs::{CWD, Mode as FileMode, OFlags, openat, readlinkat};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

/// More of a command line than anybody reads.
const MAX_FILE: u64 = 64 << 10;

/// One process.
#[derive(Clone, Debug, Default)]
pub struct ProcessInfo {
    /// On the host.
    pub host_pid: i32,
    /// In the container.
    pub pid: i32,
    /// Its parent on the host.
    pub host_ppid: i32,
    /// Its parent in the container; 0 if that is outside of it.
    pub ppid: i32,
    /// Its process group, in the container.
    pub pgid: i32,
    /// Its session, in the container.
    pub sid: i32,
    /// Whether its process group is its terminal's foreground one.
    pub is_foreground: bool,
    /// Its terminal, if it has one.
    pub tty: Option<String>,
    /// State (`proc_pid_stat(5)`).
    pub state: char,
    /// The name of what it executes.
    pub comm: String,
    /// Its command line; of one that has none, its name in brackets.
    pub args: String,
    /// Real and effective user.
    pub uid: (u32, u32),
    /// Real and effective group.
    pub gid: (u32, u32),
    /// Effective user and group on the host.
    pub host_owner: (u32, u32),
    /// Processor time.
    pub cpu: Duration,
    /// How long it has existed.
    pub elapsed: Duration,
    /// Niceness.
    pub nice: i32,
    /// Threads.
    pub threads: u32,
    /// Virtual memory, bytes.
    pub virtual_size: u64,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Capabilities: inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [u64; 5],
    /// Whether system calls are filtered: 0 no, 1 strict, 2 by filters.
    pub seccomp: u8,
}

/// All of them, and who is who.
#[derive(Clone, Debug)]
pub struct Processes {
    /// In the order of their pids on the host.
    pub list: Vec<ProcessInfo>,
    /// Names of users in the container.
    pub users: HashMap<u32, String>,
    /// Names of groups in the container.
    pub groups: HashMap<u32, String>,
    /// When they were looked at.
    pub now: SystemTime,
}

/// The container's processes. This process becomes root in the user's namespace.
pub fn processes(paths: &Paths, identity: &Identity, container: &Container) -> Result<Processes, Error> {
    let container = settled(paths, container)?;
    // Says so if it does not run; held until the end, so that its number stays its own.
    let init = init_of(paths, &container)?;
    enter_its(paths, identity, &container)?;
    let pid = container.live.as_ref().map_or(0, |live: &Live| live.init.pid);
    let found = Snapshot::take(pid).map_err(Error::io("read the container's processes"))?;
    let ids = Ids::of(super::ids::maps(identity, &container.record.spec.ids));
    let host = |uid: u32, gid: u32| match &identity.mode {
        Mode::Subordinate { uids, gids } => {
            (uids.outside(uid).unwrap_or(uid), gids.outside(gid).unwrap_or(gid))
        }
        Mode::Single { .. } => (identity.uid, identity.gid),
    };
    let list = found.list(|info| {
        info.host_owner = host(info.uid.1, info.gid.1);
        let (uid, gid) = (info.uid, info.gid);
        (info.uid.0, info.gid.0) = ids.inside(uid.0, gid.0);
        (info.uid.1, info.gid.1) = ids.inside(uid.1, gid.1);
    });
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{pid}/root"), flags, FileMode::empty());
    let root = root.map_err(std::io::Error::from).and_then(Root::from_fd);
    drop(init);
    // Without names there are numbers.
    let names = root.map(|root| users::names(&root)).unwrap_or_default();
    Ok(Processes { list, users: names.0, groups: names.1, now: SystemTime::now() })
}

/// The processes found, by their pids on the host.
struct Snapshot {
    found: BTreeMap<i32, Raw>,
    /// How many pid namespaces lie above the container's, its own counted.
    depth: usize,
}

/// One as it was read.
struct Raw {
    info: ProcessInfo,
    /// Its pid, process group and session in each namespace down to its own.
    pids: Vec<i32>,
    pgids: Vec<i32>,
    sids: Vec<i32>,
}

impl Snapshot {
    fn take(init: i32) -> std::io::Result<Self> {
        let clock = Clock::read();
        let mut all = BTreeMap::new();
        let mut members = BTreeSet::new();
        let namespace = fs::read_link(format!("/proc/{init}/ns/pid"))?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(folder) = openat(CWD, entry.path(), flags, FileMode::empty()) else { continue };
            // Of somebody else's process it cannot be read.
            let own = readlinkat(&folder, "ns/pid", Vec::new());
            if own.is_ok_and(|own| own.to_bytes() == namespace.as_os_str().as_encoded_bytes()) {
                members.insert(pid);
            }
            if let Some(raw) = Raw::read(pid, &folder, &clock) {
                all.insert(pid, raw);
            }
        }
        // Children of members, until there is none that was missed: a child's number may be the smaller one.
        loop {
            let before = members.len();
            let children = all.iter().filter(|(_, raw)| members.contains(&raw.info.host_ppid));
            let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
            members.extend(children);
            if members.len() == before {
                break;
            }
        }
        all.retain(|pid, _| members.contains(pid));
        let depth = all.get(&init).map_or(1, |raw| raw.pids.len().max(1));
        Ok(Self { found: all, depth })
    }

    fn list(self, translate: impl Fn(&mut ProcessInfo)) -> Vec<ProcessInfo> {
        let at = self.depth - 1;
        let inside: HashMap<i32, i32> =
            self.found.iter().filter_map(|(pid, raw)| Some((*pid, *raw.pids.get(at)?))).collect();
        let finish = |raw: Raw| {
            let mut info = raw.info;
            info.pid = raw.pids.get(at).copied().unwrap_or(0);
            info.pgid = raw.pgids.get(at).copied().unwrap_or(0);
            info.sid = raw.sids.get(at).copied().unwrap_or(0);
            info.ppid = inside.get(&info.host_ppid).copied().unwrap_or(0);
            translate(&mut info);
            info
        };
        self.found.into_values().map(finish).collect()
    }
}

/// What times in /proc count from.
struct Clock {
    ticks_per_second: u64,
    page: u64,
    uptime: Duration,
}

impl Clock {
    fn read() -> Self {
        let get = |name, otherwise| {
            let value = sysconf(name).ok().flatten().and_then(|n| u64::try_from(n).ok());
            value.filter(|n| *n > 0).unwrap_or(otherwise)
        };
        let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
        Self {
            ticks_per_second: get(SysconfVar::CLK_TCK, 100),
            page: get(SysconfVar::PAGE_SIZE, 4096),
            uptime: Duration::try_from_secs_f64(uptime).unwrap_or_default(),
        }
    }

    fn duration(&self, ticks: u64) -> Duration {
        let milliseconds = ticks.saturating_mul(1000) / self.ticks_per_second;
        Duration::from_millis(milliseconds)
    }
}

impl Raw {
    fn read(pid: i32, folder: &OwnedFd, clock: &Clock) -> Option<Self> {
        let read = |name: &str| {
            let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty()).ok()?;
            let mut bytes = Vec::new();
            fs::File::from(file).take(MAX_FILE).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let args = read("cmdline").unwrap_or_default();
        Self::parse(pid, &stat, &status, &args, clock)
    }

    fn parse(pid: i32, stat: &str, status: &str, args: &[u8], clock: &Clock) -> Option<Self> {
        // The name may contain anything, a closing parenthesis too.
        let (head, tail) = stat.rsplit_once(") ")?;
        let comm = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1, and what is left here begins with field 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        let natural = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let line = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
        };
        let list = |key: &str| -> Vec<i32> {
            line(key).unwrap_or("").split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect()
        };
        let owner = |key: &str| {
            let mut ids = line(key)?.split_ascii_whitespace().map(|id| id.parse().ok());
            Some((ids.next()??, ids.next()??))
        };
        let set = |key: &str| line(key).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        let words: Vec<_> = args.split(|&b| b == 0).map(String::from_utf8_lossy).collect();
        let args = words.join(" ").trim_end().to_owned();
        let (terminal, group) = (number(7)?, number(5)?);
        let info = ProcessInfo {
            host_pid: pid,
            host_ppid: i32::try_from(number(4)?).ok()?,
            is_foreground: number(8) == Some(group),
            tty: tty(terminal),
            state: fields.first()?.chars().next()?,
            args: if args.is_empty() { format!("[{comm}]") } else { args },
            comm,
            uid: owner("Uid")?,
            gid: owner("Gid")?,
            cpu: clock.duration(natural(14)?.saturating_add(natural(15)?)),
            elapsed: clock.uptime.saturating_sub(clock.duration(natural(22)?)),
            nice: i32::try_from(number(19)?).ok()?,
            threads: u32::try_from(number(20)?).ok()?,
            virtual_size: natural(23)?,
            resident: natural(24)?.saturating_mul(clock.page),
            capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(set),
            seccomp: line("Seccomp").and_then(|n| n.parse().ok()).unwrap_or(0),
            ..ProcessInfo::default()
        };
        Some(Self { info, pids: list("NSpid"), pgids: list("NSpgid"), sids: list("NSsid") })
    }
}

/// A terminal's name from its number, as proc_pid_stat(5) packs it (devices.txt: 136 to 143 are Unix98 ones).
fn tty(number: i64) -> Option<String> {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        0 => None,
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        5 if minor == 1 => Some("console".into()),
        _ => Some(format!("{major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock { ticks_per_second: 100, page: 4096, uptime: Duration::from_secs(1000) };

    #[test]
    fn a_process_is_read_whatever_it_calls_itself() {
        let stat = "42 (a) b (c) S 7 42 42 34817 42 0 0 0 0 0 150 50 0 0 20 5 3 0 90000 8192 2 0";
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t42\t1\nNSpgid:\t42\t1\nNSsid:\t42\t1\n\
                      CapEff:\t00000000000000ff\nSeccomp:\t2\n";
        let raw = Raw::parse(42, stat, status, b"sh\0-c\0x y\0", &CLOCK).unwrap();
        let info = &raw.info;
        assert_eq!((info.comm.as_str(), info.args.as_str(), info.state), ("a) b (c", "sh -c x y", 'S'));
        assert_eq!((info.host_ppid, info.uid, info.gid, info.nice), (7, (1, 2), (5, 6), 5));
        assert_eq!((info.cpu, info.elapsed), (Duration::from_secs(2), Duration::from_secs(100)));
        assert_eq!((info.virtual_size, info.resident, info.threads), (8192, 8192, 3));
        assert_eq!((info.tty.as_deref(), info.is_foreground), (Some("pts/1"), true));
        assert_eq!((info.capabilities[2], info.seccomp, &raw.pids[..]), (0xff, 2, &[42, 1][..]));
        assert_eq!(Raw::parse(42, stat, status, b"", &CLOCK).unwrap().info.args, "[a) b (c]");
        assert!(Raw::parse(42, "42 (x", status, b"", &CLOCK).is_none());
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(tty(0), None);
        assert_eq!(tty(0x8801).unwrap(), "pts/1");
        assert_eq!(tty(0x8900).unwrap(), "pts/256");
        assert_eq!(tty(0x0401).unwrap(), "tty1");
        assert_eq!(tty(0x0440).unwrap(), "ttyS0");
    }
}
