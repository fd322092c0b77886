//! `coracle pull`.

use super::args::{Given, operands, option};
use super::engine::Engine;
use super::image_options::ImageOptions;
use super::image_options::PullPolicy;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, parse};
use crate::image::Image;
use crate::output;
use crate::registry::Credentials;
use clap::{ArgMatches, Command};
use std::path::PathBuf;
use std::time::Duration;

/// `coracle pull`.
pub const ENTRY: Entry = Entry {
    name: "pull",
    aliases: &[],
    about: "Get images from a registry",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    action: Action::Leaf {
        define,
        unsupported: &["all-tags,a", "arch", "decryption-key", "disable-content-trust", "os", "variant"],
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
    /// `--retry`: how often a failed request is made again.
    pub retries: Option<u32>,
    /// `--retry-delay`: the wait before the first time.
    pub retry_delay: Option<Duration>,
}

fn define(command: Command) -> Command {
    ImageOptions::define(command, "policy").args([
        option("creds", "USER:PASSWORD").help("Log in to the registry so"),
        option("cert-dir", "DIR").help("Trust the certificates in DIR too"),
        option("retry", "N").help("Make a failed request again so often (default 3)"),
        option("retry-delay", "DURATION")
            .help("Wait so long before the first time, longer each time (default 1s)"),
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
        retries: args.filled("retry", parse::number)?,
        retry_delay: args.filled("retry-delay", parse::interval)?,
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::enter(&engine)?;
    let mut worst = 0;
    for what in &options.images {
        match get(&engine, &stores, what, &options) {
            Ok(image) => output::print(&format!("{}\n", image.id.hex()))?,
            Err(error) => worst = super::report(&error),
        }
    }
    Ok(worst)
}

fn get(engine: &Engine, stores: &Stores, what: &str, options: &PullOptions) -> anyhow::Result<Image> {
    let here = || stores.images.resolve(what);
    match options.image.policy {
        Some(PullPolicy::Never) => return Ok(here()?),
        Some(PullPolicy::Missing) => {
            if let Ok(image) = here() {
                return Ok(image);
            }
        }
        _ => {}
    }
    let mut request = stores::request(what, &options.image)?;
    request.options.credentials =
        options.creds.clone().map(|(user, password)| Credentials::Password { user, password });
    request.options.cert_dir.clone_from(&options.cert_dir);
    request.options.retries = options.retries.unwrap_or(request.options.retries);
    request.options.retry_delay = options.retry_delay.unwrap_or(request.options.retry_delay);
    match stores::pull(stores, engine, &request, options.image.quiet) {
        Err(error) if options.image.policy == Some(PullPolicy::Newer) => here().or(Err(error)),
        other => other,
    }
}
