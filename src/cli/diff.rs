//! `coracle diff`.

use super::args::{Given, operands, option};
use super::engine::Engine;
use super::parse::Invalid;
use super::selection::{Selection, latest};
use super::{Action, Context, Entry, Error};
use crate::container::files::{Change, Changes, changes};
use crate::output;
use clap::{ArgMatches, Command};
use serde_json::{Map, Value};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// `coracle diff`.
pub const ENTRY: Entry = Entry {
    name: "diff",
    aliases: &[],
    about: "Show what a container has changed of its image",
    usage: "[OPTIONS] CONTAINER",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `diff` is asked for.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// The container.
    pub container: Selection,
    /// `--format json`.
    pub json: bool,
}

fn define(command: Command) -> Command {
    command.args([
        option("format", "FORMAT").help("Show it as 'json'"),
        latest(),
        operands("CONTAINER", 0..=1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<DiffOptions, Error> {
    let json = args.filled("format", |text| match text {
        "json" => Ok(true),
        _ => Err(Invalid::unknown("format", text, &["json"])),
    })?;
    Ok(DiffOptions { container: Selection::of(args, "container")?, json: json.unwrap_or(false) })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let container = engine.one(&options.container)?;
    let changes = changes(&engine.paths, &engine.identity, &container)?;
    if options.json {
        output::print(&format!("{:#}\n", as_json(&changes)))?;
        return Ok(0);
    }
    let mut text = Vec::new();
    for (path, change) in &changes {
        let letter = match change {
            Change::Changed => b'C',
            Change::Added => b'A',
            Change::Deleted => b'D',
        };
        text.extend([letter, b' ']);
        text.extend(path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    // A name may be any bytes.
    match std::io::stdout().lock().write_all(&text) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        other => Ok(other.map(|()| 0)?),
    }
}

/// podman's form: three lists, those that are empty left out.
fn as_json(changes: &Changes) -> Value {
    let mut lists = Map::new();
    for (word, kind) in [("changed", Change::Changed), ("added", Change::Added), ("deleted", Change::Deleted)]
    {
        let of_kind = changes.iter().filter(|(_, change)| *change == kind);
        let paths: Vec<Value> = of_kind.map(|(path, _)| path.to_string_lossy().into()).collect();
        if !paths.is_empty() {
            lists.insert(word.to_owned(), paths.into());
        }
    }
    Value::Object(lists)
}
