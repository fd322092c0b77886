//! What the container's processes are given: environment, groups, limits, and how long they have.

use super::super::Error;
use super::super::args::{Given, list, option, switch};
use super::super::parse::{self, Host, Invalid};
use crate::container::request::{CreateRequest, Rlimit};
use clap::{ArgMatches, Command};

/// What podman passes on, in both cases.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];
/// `--group-add`: the caller's own groups.
const KEEP_GROUPS: &str = "keep-groups";

pub(super) fn define(to: Command) -> Command {
    let to = to.next_help_heading("Environment").args([
        switch("unsetenv-all").help("Remove all variables that are not asked for"),
        switch("env-host").help("Pass all variables of this shell on"),
        list("env-merge", "NAME=VALUE").help("Set a variable; ${OTHER} in VALUE is a variable of the image"),
        switch("http-proxy").help("Pass the proxy variables of this shell on (default true)"),
    ]);
    to.next_help_heading("Process").args([
        list("group-add", "GROUP").help("Add a group, or keep-groups for your own ones"),
        list("ulimit", "NAME=SOFT[:HARD]").help("Set a resource limit; 'host' keeps those of this shell"),
        option("umask", "MODE").help("Umask of the container (default 0022)"),
        option("oom-score-adj", "N").help("How readily the kernel kills it for memory, -1000 to 1000"),
        option("personality", "DOMAIN").help("Execution domain: LINUX or LINUX32"),
        option("timeout", "SECONDS").help("Kill the container if it runs longer"),
        option("systemd", "MODE")
            .help("Prepare for systemd: true (default: if the command is an init), false or always"),
    ])
}

pub(super) fn apply(args: &ArgMatches, host: &Host, to: &mut CreateRequest) -> Result<(), Error> {
    to.unset_all_env = args.on("unsetenv-all");
    if args.on("env-host") {
        to.host_env = host.env.clone();
    }
    if args.maybe("http-proxy").unwrap_or(true) && !to.unset_all_env {
        let proxies = host.env.iter().filter(|(name, _)| PROXIES.contains(&name.as_str()));
        to.host_env.extend(proxies.cloned());
    }
    to.env_merge = args.each("env-merge", |text| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Invalid::new("expected NAME=VALUE")),
    })?;
    to.rlimits = limits(args)?;
    (to.attributes.groups, to.attributes.keep_groups) = groups(args)?;
    to.attributes.umask = args.filled("umask", parse::umask)?;
    to.attributes.oom_score_adj = args.filled("oom-score-adj", parse::oom_score_adj)?;
    to.attributes.personality = args.filled("personality", parse::personality)?;
    to.settings.timeout = args.filled("timeout", parse::timeout)?.unwrap_or(0);
    to.systemd = args.filled("systemd", parse::systemd)?.unwrap_or_default();
    Ok(())
}

/// `--group-add`: groups, and whether the caller's own ones are kept.
pub(in crate::cli) fn groups(args: &ArgMatches) -> Result<(Vec<String>, bool), Error> {
    let groups = args.each("group-add", parse::nonempty)?;
    let keeps = groups.iter().any(|group| group == KEEP_GROUPS);
    if keeps && groups.len() > 1 {
        return Err(Error::usage(
            "the '--group-add keep-groups' option is not allowed with any other --group-add options",
            "keep your groups, or name others",
        ));
    }
    Ok((groups.into_iter().filter(|group| group != KEEP_GROUPS).collect(), keeps))
}

/// The limits of this shell are the container's anyway, so `host` says that there are no others.
pub(in crate::cli) fn limits(args: &ArgMatches) -> Result<Vec<Rlimit>, Error> {
    match args.texts("ulimit")[..] {
        ["host"] => Ok(Vec::new()),
        ref texts if texts.contains(&"host") => {
            Err(Error::usage("ulimit can use host only once", "give --ulimit host alone, or limits by name"))
        }
        _ => args.each("ulimit", parse::ulimit),
    }
}
