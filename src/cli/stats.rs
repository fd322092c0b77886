//! `coracle stats`: what running containers use.
//!
//! Two looks at the counters of a cgroup make a share of processor time, as docker's figure is one of the last second.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::{Action, Context, Entry, Error, rows};
use crate::container::store::{self, Container};
use crate::output::listing::{Listing, Style};
use crate::output::{self, human};
use crate::sandbox::cgroup::Group;
use crate::sandbox::cgroup::stats::Counters;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// `coracle stats`.
pub const ENTRY: Entry = Entry {
    name: "stats",
    aliases: &[],
    about: "Show what containers use, again and again",
    usage: "[OPTIONS] [CONTAINER...]",
    action: Action::Leaf { define, unsupported: &["latest,l"], run },
};

/// docker's table.
const LISTING: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "ID",
    heads: &[
        ("ID", "CONTAINER ID"),
        ("Container", "CONTAINER"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// What `stats` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsOptions {
    /// The containers, as typed; none: all.
    pub names: Vec<String>,
    /// `-a`: stopped ones too.
    pub all: bool,
    /// `--no-stream`: once.
    pub once: bool,
    /// `-i`: seconds between two looks.
    pub interval: Duration,
    /// `--no-reset`: the screen is not cleared.
    pub keep_screen: bool,
    /// How it is shown.
    pub show: super::ListOptions,
}

fn define(command: Command) -> Command {
    command.args([
        switch("all").short('a').help("Show stopped containers too"),
        switch("no-stream").help("Show it once, not again and again"),
        switch("no-reset").help("Don't clear the screen between two looks"),
        switch("no-trunc").help("Show ids in full"),
        option("interval", "SECONDS").short('i').help("Seconds between two looks (default 1)"),
        option("format", "FORMAT").help("Show each by a template, or as 'json', or 'table TEMPLATE'"),
        operands("CONTAINER", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<StatsOptions, Error> {
    let seconds: u64 = args.parsed("interval", super::parse::number)?.unwrap_or(1);
    if seconds == 0 {
        return Err(Error::usage("an interval of 0 seconds", "name at least one second"));
    }
    Ok(StatsOptions {
        names: args.operands(),
        all: args.on("all"),
        once: args.on("no-stream"),
        interval: Duration::from_secs(seconds),
        keep_screen: args.on("no-reset"),
        show: super::ListOptions {
            format: args.text("format").map(str::to_owned),
            no_trunc: args.on("no-trunc"),
            ..super::ListOptions::default()
        },
    })
}

/// One look at one container.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    counters: Counters,
    network: Option<(u64, u64)>,
    at: Option<Instant>,
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    engine.tidy();
    let style = Style { format: options.show.format.as_deref(), quiet: false, no_heading: false };
    let clears = !options.once && !options.keep_screen && std::io::stdout().is_terminal();
    let memory = meminfo_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    // A template that is wrong is said before the first wait.
    LISTING
        .render(&[row(&Subject::default(), Sample::default(), Sample::default(), memory, false)], style)?;
    let mut before: HashMap<String, Sample> = HashMap::new();
    let mut is_first = true;
    loop {
        let subjects = subjects(&engine, &options)?;
        let now: HashMap<String, Sample> = subjects.iter().map(|s| (s.id.clone(), s.look())).collect();
        if !is_first || now.values().all(|sample| sample.at.is_none()) {
            let rows: Vec<Value> = subjects
                .iter()
                .map(|subject| {
                    let new = now.get(&subject.id).copied().unwrap_or_default();
                    let old = before.get(&subject.id).copied().unwrap_or_default();
                    row(subject, old, new, memory, options.show.no_trunc)
                })
                .collect();
            let screen = if clears { "\x1b[H\x1b[2J" } else { "" };
            output::print(&format!("{screen}{}", LISTING.render(&rows, style)?))?;
            if options.once {
                for subject in subjects.iter().filter(|s| s.is_running && s.cgroup.is_none()) {
                    output::warn(&format!(
                        "container {} has no cgroup of its own: nothing is counted ('coracle doctor' tells why)",
                        subject.name
                    ));
                }
                return Ok(0);
            }
        }
        (before, is_first) = (now, false);
        std::thread::sleep(options.interval);
    }
}

/// A container to look at.
#[derive(Clone, Debug, Default)]
struct Subject {
    id: String,
    name: String,
    typed: String,
    is_running: bool,
    cgroup: Option<String>,
    init: i32,
}

fn subjects(engine: &Engine, options: &StatsOptions) -> anyhow::Result<Vec<Subject>> {
    if !options.names.is_empty() {
        let find = |name: &String| Ok(Subject::of(&engine.find(name)?, name));
        return options.names.iter().map(find).collect();
    }
    let whole = store::list(&engine.paths)?.into_iter().filter_map(|entry| match entry {
        store::Entry::Whole(container) => Some(container),
        store::Entry::Broken(..) => None,
    });
    let shown = whole.filter(|c| options.all || c.status.is_running());
    Ok(shown.map(|c| Subject::of(&c, rows::shorten_id(c.record.id.as_str()))).collect())
}

impl Subject {
    fn of(container: &Container, typed: &str) -> Self {
        let live = container.live.as_ref();
        Self {
            id: container.record.id.as_str().to_owned(),
            name: container.record.name.clone(),
            typed: typed.to_owned(),
            is_running: container.status.is_running(),
            cgroup: live.and_then(|live| live.cgroup.as_ref()).map(|cgroup| cgroup.path.clone()),
            init: live.map_or(0, |live| live.init.pid),
        }
    }

    fn look(&self) -> Sample {
        let Some(group) = self.cgroup.as_ref().and_then(|path| Group::open(path).ok()) else {
            return Sample::default();
        };
        let network = fs::read_to_string(format!("/proc/{}/net/dev", self.init)).ok();
        Sample {
            counters: group.counters(),
            network: network.map(|text| network_bytes(&text)),
            at: Some(Instant::now()),
        }
    }
}

/// Bytes received and sent by all interfaces but loopback (proc_pid_net(5), `dev`).
fn network_bytes(text: &str) -> (u64, u64) {
    let lines = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    lines.fold((0, 0), |(received, sent), (_, counts)| {
        let numbers: Vec<u64> = counts.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        (received + at(0), sent + at(8))
    })
}

fn meminfo_total(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// docker's fields.
fn row(subject: &Subject, old: Sample, new: Sample, machine: u64, no_trunc: bool) -> Value {
    const UNKNOWN: &str = "--";
    let counters = new.counters;
    #[allow(clippy::cast_precision_loss, reason = "a percentage for people")]
    let percent = |part: u64, whole: u64| match whole {
        0 => UNKNOWN.to_owned(),
        whole => format!("{:.2}%", part as f64 * 100.0 / whole as f64),
    };
    let elapsed = old.at.zip(new.at).map(|(from, to)| to.duration_since(from).as_micros());
    let elapsed = elapsed.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let cpu = old.counters.cpu.zip(counters.cpu).map(|(from, to)| percent(to.saturating_sub(from), elapsed));
    // As docker: a container without a limit has all of the machine's.
    let limit = counters.memory_limit.unwrap_or(machine).min(machine);
    let pair = |a: Option<String>, b: Option<String>| {
        let known = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
        format!("{} / {}", known(a), known(b))
    };
    let memory = counters.memory;
    json!({
        "Container": subject.typed,
        "ID": if no_trunc { &subject.id } else { rows::shorten_id(&subject.id) },
        "Name": subject.name,
        "CPUPerc": cpu.unwrap_or_else(|| UNKNOWN.to_owned()),
        "MemUsage": pair(memory.map(human::size_binary), memory.map(|_| human::size_binary(limit))),
        "MemPerc": memory.map_or_else(|| UNKNOWN.to_owned(), |bytes| percent(bytes, limit)),
        "NetIO": pair(new.network.map(|n| human::size(n.0)), new.network.map(|n| human::size(n.1))),
        "BlockIO": pair(counters.read.map(human::size), counters.written.map(human::size)),
        "PIDs": counters.tasks.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn a_row_reads_as_dockers() {
        let subject = Subject { id: "0123456789abcdef".into(), name: "web".into(), ..Subject::default() };
        let start = Instant::now();
        let counters = |cpu| Counters {
            cpu: Some(cpu),
            memory: Some(8 << 20),
            memory_limit: Some(64 << 20),
            tasks: Some(3),
            read: Some(1_500_000),
            written: Some(0),
        };
        let old = Sample { counters: counters(0), network: Some((0, 0)), at: Some(start) };
        let at = Some(start + Duration::from_secs(1));
        let new = Sample { counters: counters(500_000), network: Some((1000, 20)), at };
        let text = LISTING.render(&[row(&subject, old, new, 1 << 30, false)], Style::default()).unwrap();
        assert_eq!(
            text,
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O     BLOCK I/O    PIDS\n\
             0123456789ab   web       50.00%    8MiB / 64MiB        12.50%    1kB / 20B   1.5MB / 0B   3\n"
        );
        let unknown = row(&subject, Sample::default(), Sample::default(), 1 << 30, true);
        assert_eq!(
            (&unknown["CPUPerc"], &unknown["MemUsage"], &unknown["PIDs"], &unknown["ID"]),
            (&json!("--"), &json!("-- / --"), &json!("--"), &json!("0123456789abcdef"))
        );
    }

    #[test]
    fn loopback_is_no_network() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes\n    lo: 5 0 0 0 0 0 0 0 5 0\n  eth0: 100 1 0 0 0 0 0 0 70 1 0\n";
        assert_eq!(network_bytes(text), (100, 70));
        assert_eq!(meminfo_total("MemTotal:       16 kB\n"), 16384);
    }

    #[test]
    fn flags_are_read() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words).unwrap());
        let asked = of(&["--no-stream", "-a", "-i", "5", "web"]).unwrap();
        assert!(asked.once && asked.all && asked.names == ["web"]);
        assert_eq!(asked.interval, Duration::from_secs(5));
        assert!(of(&["-i", "0"]).is_err());
    }
}
