//! Flags about getting images, which `pull`, `run` and `create` share.

use super::args::{Given, option, switch};
use super::{Error, parse};
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// When an image is looked for at the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If it is not here.
    #[default]
    Missing,
    /// Always; it is an error if that fails.
    Always,
    /// Never.
    Never,
    /// If the registry has another one; a registry out of reach is no error while the image is here.
    Newer,
}

/// How an image is got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// `--pull`, `--policy`.
    pub policy: Option<PullPolicy>,
    /// `--platform`: `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// `--tls-verify`, if given.
    pub tls_verify: Option<bool>,
    /// `--authfile`.
    pub authfile: Option<PathBuf>,
    /// `-q`: no progress.
    pub quiet: bool,
}

impl ImageOptions {
    /// Adds the flags; `policy` is the name of the one that sets the policy.
    pub(super) fn define(to: Command, policy: &'static str) -> Command {
        to.arg(
            option(policy, "POLICY")
                .help("When to ask the registry: missing (default), always, newer or never"),
        )
        .arg(option("platform", "OS/ARCH").help("Choose this platform of an image that has several"))
        .arg(
            switch("tls-verify").help("Require HTTPS and a valid certificate of the registry (default true)"),
        )
        .arg(option("authfile", "FILE").help("Read the registry's credentials from FILE"))
        .arg(switch("quiet").short('q').help("Show no progress while pulling"))
    }

    /// What was given.
    pub(super) fn of(args: &ArgMatches, policy: &str) -> Result<Self, Error> {
        Ok(Self {
            policy: args.filled(policy, parse::pull_policy)?,
            platform: args.filled("platform", parse::platform)?,
            tls_verify: args.maybe("tls-verify"),
            authfile: args.path("authfile"),
            quiet: args.on("quiet"),
        })
    }
}
