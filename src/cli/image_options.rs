//! Flags about getting images, which `pull`, `run` and `create` share.

use super::args::{Given, option, switch};
use super::{Error, parse, registry_flags};
use crate::image::Platform;
use crate::registry::Options;
use clap::{Arg, ArgMatches, Command};

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
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// `--pull`, `--policy`.
    pub policy: Option<PullPolicy>,
    /// `--platform`: `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// How its registry is talked to.
    pub registry: Options,
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
            platform: platform(args)?,
            registry: registry_flags::options(args)?,
            quiet: args.on("quiet"),
        })
    }
}

/// podman's older form of `--platform`.
pub(super) fn platform_flags() -> [Arg; 3] {
    [
        option("os", "OS").help("Choose the image for this operating system"),
        option("arch", "ARCH").help("Choose the image for this architecture"),
        option("variant", "VARIANT").help("Choose the image for this variant of the architecture"),
    ]
}

/// `--platform`, or its parts.
pub(super) fn platform(args: &ArgMatches) -> Result<Option<String>, Error> {
    let whole = args.filled("platform", parse::platform)?;
    let [os, arch, variant] =
        ["os", "arch", "variant"].map(|part| args.text(part).filter(|text| !text.is_empty()));
    if os.or(arch).or(variant).is_none() {
        return Ok(whole);
    }
    if whole.is_some() {
        return Err(Error::usage(
            "--platform cannot be given with --os, --arch or --variant",
            "write it as one: --platform OS/ARCH/VARIANT",
        ));
    }
    let host = Platform::host();
    let parts = [Some(os.unwrap_or(&host.os)), Some(arch.unwrap_or(&host.architecture)), variant];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
    parse::platform(&text).map(Some).map_err(Error::value("arch", &text))
}
