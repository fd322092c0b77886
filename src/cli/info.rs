//! `coracle info`.

use super::args::{Given, option};
use super::version::architecture;
use super::{Action, Context, Entry};
use crate::output::{self, human, template};
use crate::userns::{Identity, Mode};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// `coracle info`.
pub const ENTRY: Entry = Entry {
    name: "info",
    aliases: &[],
    about: "Show what coracle knows of this host and of its own places",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(option("format", "FORMAT").short('f').help("Show it by a template, or as 'json'"))
}

/// docker's fields, as far as they mean something here.
fn fields(context: &Context) -> anyhow::Result<Value> {
    let paths = context.paths()?;
    let identity = Identity::discover()?;
    let system = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let mut security = vec!["name=seccomp,profile=builtin".to_owned(), "name=rootless".into()];
    if matches!(identity.mode, Mode::Single { .. }) {
        security.push("name=single-id".into());
    }
    let total = u64::from(memory.mem_unit).saturating_mul(memory.totalram);
    Ok(json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Name": system.nodename().to_string_lossy(),
        "OSType": std::env::consts::OS,
        "OperatingSystem": operating_system(),
        "KernelVersion": system.release().to_string_lossy(),
        "Architecture": architecture(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": total,
        "Containers": count(&paths.containers()),
        "DockerRootDir": paths.data(),
        "RunRoot": paths.run(),
        "CgroupVersion": if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" },
        "SecurityOptions": security,
        "Ids": identity.count(),
    }))
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// `PRETTY_NAME` of os-release(5).
fn operating_system() -> String {
    let text =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|file| fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The fields for people.
fn page(fields: &Value) -> String {
    let mut page = String::new();
    for (name, field) in [
        ("Version", "ServerVersion"),
        ("Host name", "Name"),
        ("Operating system", "OperatingSystem"),
        ("Kernel", "KernelVersion"),
        ("Architecture", "Architecture"),
        ("Processors", "NCPU"),
        ("Memory", "MemTotal"),
        ("cgroup version", "CgroupVersion"),
        ("Ids for containers", "Ids"),
        ("Containers", "Containers"),
        ("Data", "DockerRootDir"),
        ("Run time state", "RunRoot"),
    ] {
        let value = match &fields[field] {
            Value::String(text) => text.clone(),
            bytes if field == "MemTotal" => human::size_binary(bytes.as_u64().unwrap_or(0)),
            other => other.to_string(),
        };
        page.push_str(&format!("{name:<19} {value}\n"));
    }
    page
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let fields = fields(context)?;
    let text = match args.text("format").filter(|format| !format.is_empty()) {
        Some(format) => format!("{}\n", template::format(Some(format), &fields)?),
        None => page(&fields),
    };
    output::print(&text)?;
    Ok(0)
}
