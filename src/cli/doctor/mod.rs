//! `coracle doctor`: can containers run here, and if not, why?
//!
//! Three parts. [`probe`] goes the way of a container's start in a child process, because many things (a security
//! module, a filter of an outer container, a file system) refuse without having said so anywhere. [`gather`] reads
//! the [`facts`] that explain a refusal or that limit what containers can do. [`checks`] judges: pure functions from
//! the facts to a line of the report and, where we know one, the command that helps.
//!
//! A *problem* keeps containers from running and makes the exit code 1. A *note* means that something is not to be
//! had. Nothing is changed on the machine, and no command that is printed is run.

pub mod checks;
pub mod facts;
pub mod gather;
pub mod probe;

use super::args::{Given, option};
use super::{Action, Context, Entry, Error};
use crate::output;
use crate::userns::Identity;
use checks::{Finding, Status};
use clap::{ArgMatches, Command};
use probe::{Probe, Step};
use serde_json::json;
use std::fmt::Write as _;

/// `coracle doctor`.
pub const ENTRY: Entry = Entry {
    name: "doctor",
    aliases: &[],
    about: "Check whether containers can run here, and say what to do",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(option("format", "FORMAT").help("json"))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let as_json = match args.text("format") {
        None => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::usage(format!("unknown format '{other}'"), "--format json".to_owned()).into());
        }
    };
    let paths = context.paths()?;
    let identity = Identity::discover()?;
    let probe = probe::probe(&paths, &identity)
        .unwrap_or_else(|e| Probe { namespace: Step::Failed(e.to_string()), ..Probe::default() });
    let can_run = probe.can_run();
    let findings = checks::findings(&gather::gather(&paths, &identity, probe));
    let is_fine = can_run && findings.iter().all(|f| f.status != Status::Problem);
    output::print(&if as_json {
        format!("{:#}\n", json!({ "canRun": is_fine, "checks": findings }))
    } else {
        report(&findings, is_fine)
    })?;
    Ok(u8::from(!is_fine))
}

fn report(findings: &[Finding], is_fine: bool) -> String {
    let mut text = String::new();
    for Finding { check, status, text: found, fix } in findings {
        let status = match status {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Problem => "problem",
        };
        let _ = writeln!(text, "{status:<8} {check:<19} {found}");
        for line in fix.iter().flat_map(|fix| fix.lines()) {
            let _ = writeln!(text, "{:12}{line}", "");
        }
    }
    let _ = match is_fine {
        true => writeln!(text, "\nContainers can run here."),
        false => writeln!(text, "\nContainers cannot run here."),
    };
    text
}
