//! `coracle doctor`: what this host lacks for containers, and who can give it.

use super::args::{Given, option};
use super::parse::Invalid;
use super::{Action, Context, Entry};
use crate::output;
use crate::userns::{Identity, Mode};
use clap::{ArgMatches, Command};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process;

/// `coracle doctor`.
pub const ENTRY: Entry = Entry {
    name: "doctor",
    aliases: &[],
    about: "Check this host, and explain what to change",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(option("format", "FORMAT").short('f').help("'json'"))
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    /// Something will not work.
    Warning,
    /// Nothing will.
    Failure,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    name: &'static str,
    outcome: Outcome,
    found: String,
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), fix: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn failure(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failure, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Overlay mounts in a user namespace came with Linux 5.11.
fn kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version >= (5, 11) {
        true => Check::ok("kernel", release),
        false => Check::failure("kernel", release, "coracle needs Linux 5.11 or newer"),
    }
}

/// Why user namespaces may be forbidden, most specific first. `read` reads a file of /proc.
fn namespace_fix(read: impl Fn(&str) -> Option<String>) -> String {
    let is = |file: &str, value: &str| read(file).is_some_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor restricts user namespaces (Ubuntu): the administrator installs an AppArmor profile for coracle, or \
         runs: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "the administrator runs: sysctl -w kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "the administrator runs: sysctl -w user.max_user_namespaces=15000"
    } else {
        "inside another container, that container must allow user namespaces (its seccomp filter, or --privileged)"
    }
    .to_owned()
}

/// Tries it for real, in a process of its own: entering a namespace cannot be undone.
fn namespace(context: &Context) -> Check {
    const NAME: &str = "user namespace";
    let mut command = process::Command::new("/proc/self/exe");
    for (flag, path) in [("--root", &context.root), ("--runroot", &context.runroot)] {
        if let Some(path) = path {
            command.arg(flag).arg(path);
        }
    }
    match command.args(["unshare", "true"]).stdin(process::Stdio::null()).output() {
        Ok(output) if output.status.success() => Check::ok(NAME, "can be made"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> =
                said.lines().map(str::trim).filter(|line| !line.starts_with("fix:")).collect();
            let fix = namespace_fix(|file| fs::read_to_string(file).ok());
            Check::failure(NAME, lines.join("; ").trim_start_matches("Error: "), fix)
        }
        Err(error) => Check::failure(NAME, error.to_string(), "mount /proc"),
    }
}

fn ids(identity: &Identity, user: &str) -> Check {
    match &identity.mode {
        Mode::Subordinate { .. } => Check::ok("subordinate ids", format!("{} ids", identity.count())),
        Mode::Single { why } => Check::warning(
            "subordinate ids",
            format!("{why}: containers have one id only"),
            format!(
                "the administrator installs the package uidmap (shadow-utils) and runs: \
                 usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            ),
        ),
    }
}

fn cgroups() -> Check {
    match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => Check::ok("cgroups", "version 2"),
        false => Check::warning(
            "cgroups",
            "version 2 is not mounted at /sys/fs/cgroup",
            "the administrator boots with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn places(context: &Context) -> Vec<Check> {
    let paths = match context.paths() {
        Ok(paths) => paths,
        Err(error) => {
            let fix = crate::diagnose::Diagnose::fix(&error).unwrap_or_default();
            return vec![Check::failure("places", error.to_string(), fix)];
        }
    };
    let run = paths.run().display().to_string();
    let kept = match run.starts_with("/tmp/") && context.runroot.is_none() {
        false => Check::ok("run time directory", run),
        true => Check::warning(
            "run time directory",
            format!("no login session gives one: {run} is used"),
            "log in through the login manager or ssh (not su), or run: loginctl enable-linger",
        ),
    };
    vec![Check::ok("data directory", paths.data().display().to_string()), kept]
}

fn checks(context: &Context) -> anyhow::Result<Vec<Check>> {
    let identity = Identity::discover()?;
    let user = std::env::var("USER").unwrap_or_else(|_| identity.uid.to_string());
    let mut checks = vec![
        kernel(&rustix::system::uname().release().to_string_lossy()),
        namespace(context),
        ids(&identity, &user),
        cgroups(),
    ];
    checks.extend(places(context));
    Ok(checks)
}

fn page(checks: &[Check]) -> String {
    let mut page = String::new();
    for check in checks {
        let word = match check.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failure => "failure",
        };
        page.push_str(&format!("{word:<8} {:<19} {}\n", check.name, check.found));
        if let Some(fix) = &check.fix {
            page.push_str(&format!("         {:<19} fix: {fix}\n", ""));
        }
    }
    page
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let json = args.parsed("format", |format| match format {
        "json" => Ok(()),
        _ => Err(Invalid::unknown("format", format, &["json"])),
    })?;
    let checks = checks(context)?;
    output::print(&match json {
        Some(()) => format!("{}\n", serde_json::to_string_pretty(&checks)?),
        None => page(&checks),
    })?;
    Ok(u8::from(checks.iter().any(|check| check.outcome == Outcome::Failure)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userns::IdMap;

    #[test]
    fn old_kernels_are_told_from_new_ones() {
        for release in ["5.11.0", "6.1.0-18-amd64", "6.18.0", "10.0"] {
            assert_eq!(kernel(release).outcome, Outcome::Ok, "{release}");
        }
        for release in ["4.18.0-553.el8.x86_64", "5.10.0-9", "5.4", "odd"] {
            assert_eq!(kernel(release).outcome, Outcome::Failure, "{release}");
        }
    }

    #[test]
    fn what_forbids_user_namespaces_is_named() {
        let forbids = |file: &'static str, value: &'static str| {
            namespace_fix(move |asked| asked.ends_with(file).then(|| format!("{value}\n")))
        };
        assert!(forbids("apparmor_restrict_unprivileged_userns", "1").contains("AppArmor"));
        assert!(forbids("unprivileged_userns_clone", "0").contains("unprivileged_userns_clone=1"));
        assert!(forbids("max_user_namespaces", "0").contains("max_user_namespaces=15000"));
        assert!(forbids("max_user_namespaces", "100").contains("another container"));
    }

    #[test]
    fn a_missing_line_in_subuid_comes_with_the_command_that_adds_it() {
        let single = Identity { uid: 1, gid: 1, mode: Mode::Single { why: "no line in /etc/subuid".into() } };
        let check = ids(&single, "me");
        assert_eq!(check.outcome, Outcome::Warning);
        assert!(check.fix.is_some_and(|fix| fix.ends_with("100000-165535 me")));
        let map = IdMap::parse("0 1000 1\n1 100000 65536\n");
        let many = Identity { uid: 1, gid: 1, mode: Mode::Subordinate { uids: map.clone(), gids: map } };
        assert_eq!(ids(&many, "me").found, "65537 ids");
    }
}
