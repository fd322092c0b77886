//! `coracle pull`.

use super::args::{Given, operands, option};
use super::image_options::ImageOptions;
use super::{Action, Context, Entry, Error, parse};
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// `coracle pull`.
pub const ENTRY: Entry = Entry {
    name: "pull",
    aliases: &[],
    about: "Get images from a registry",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    action: Action::Leaf {
        define,
        unsupported: &[
            "all-tags,a",
            "arch",
            "decryption-key",
            "disable-content-trust",
            "os",
            "retry",
            "retry-delay",
            "variant",
        ],
        run,
    },
};

/// What `pull` is asked for.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The images, as typed.
    pub images: Vec<String>,
    /// How they are got.
    pub image: ImageOptions,
    /// `--creds`: user and password.
    pub creds: Option<(String, String)>,
    /// `--cert-dir`: a folder of certificates.
    pub cert_dir: Option<PathBuf>,
}

fn define(command: Command) -> Command {
    ImageOptions::define(command, "policy").args([
        option("creds", "USER:PASSWORD").help("Log in to the registry so"),
        option("cert-dir", "DIR").help("Trust the certificates in DIR too"),
        operands("IMAGE", 1..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<PullOptions, Error> {
    Ok(PullOptions {
        images: args.operands(),
        image: ImageOptions::of(args, "policy")?,
        creds: match args.text("creds") {
            // The error must not repeat a password.
            Some(text) => Some(parse::credentials(text).map_err(Error::value("creds", "..."))?),
            None => None,
        },
        cert_dir: args.path("cert-dir"),
    })
}

fn run(_context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    super::pending(options(args)?)
}
