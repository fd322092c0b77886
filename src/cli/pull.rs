//! `coracle pull`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::image_options::ImageOptions;
use super::image_options::PullPolicy;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, parse};
use crate::image::{self, Image, Platform, PullRequest};
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
        unsupported: &["decryption-key", "disable-content-trust", "signature-policy"],
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
    /// `-a`: all tags of the repositories.
    pub all_tags: bool,
    /// `--retry`: how often.
    pub retries: Option<u32>,
    /// `--retry-delay`: after what time.
    pub retry_delay: Option<Duration>,
}

fn define(command: Command) -> Command {
    ImageOptions::define(command, "policy").args([
        switch("all-tags").short('a').help("Get all tags of the repository"),
        option("os", "OS").help("Choose the image for this operating system"),
        option("arch", "ARCH").help("Choose the image for this architecture"),
        option("variant", "VARIANT").help("Choose the image for this variant of the architecture"),
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
    let mut image = ImageOptions::of(args, "policy")?;
    image.platform = platform(args, image.platform)?;
    let options = PullOptions {
        images: args.operands(),
        image,
        creds: match args.text("creds") {
            // The error must not repeat a password.
            Some(text) => Some(parse::credentials(text).map_err(Error::value("creds", "..."))?),
            None => None,
        },
        cert_dir: args.path("cert-dir"),
        all_tags: args.on("all-tags"),
        retries: args.filled("retry", parse::number)?,
        retry_delay: args.filled("retry-delay", parse::interval)?,
    };
    let is_tagged =
        |name: &String| name.contains('@') || name.rsplit('/').next().is_some_and(|n| n.contains(':'));
    if let Some(name) = options.images.iter().find(|name| options.all_tags && is_tagged(name)) {
        let what = format!("{name} says which tag is meant, and --all-tags means all of them");
        return Err(Error::usage(what, "leave out the tag, or --all-tags"));
    }
    Ok(options)
}

/// `--os`, `--arch` and `--variant`, podman's older form of `--platform`.
fn platform(args: &ArgMatches, given: Option<String>) -> Result<Option<String>, Error> {
    let word = |name: &'static str| args.filled(name, parse::platform);
    let (os, arch, variant) = (word("os")?, word("arch")?, word("variant")?);
    if os.is_none() && arch.is_none() && variant.is_none() {
        return Ok(given);
    }
    if given.is_some() {
        let what = "--platform and --os, --arch or --variant exclude each other";
        return Err(Error::usage(what, "say it all with --platform OS/ARCH/VARIANT"));
    }
    let host = Platform::host();
    let mut parts = vec![os.unwrap_or(host.os), arch.unwrap_or(host.architecture)];
    parts.extend(variant);
    Ok(Some(parts.join("/")))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::enter(&engine)?;
    let mut worst = 0;
    for what in names(&options)? {
        match get(&engine, &stores, &what, &options) {
            Ok(image) => output::print(&format!("{}\n", image.id.hex()))?,
            Err(error) => worst = super::report(&error),
        }
    }
    Ok(worst)
}

/// The images to get: those named, or all tags of the repositories that are.
fn names(options: &PullOptions) -> anyhow::Result<Vec<String>> {
    if !options.all_tags {
        return Ok(options.images.clone());
    }
    let mut names = Vec::new();
    for repository in &options.images {
        let request = request(repository, options)?;
        let (name, tags) = image::tags(repository, &request.options)?;
        names.extend(tags.iter().map(|tag| format!("{}:{tag}", name.name())));
    }
    Ok(names)
}

fn request(what: &str, options: &PullOptions) -> anyhow::Result<PullRequest> {
    let mut request = stores::request(what, &options.image)?;
    let to = &mut request.options;
    to.credentials = options.creds.clone().map(|(user, password)| Credentials::Password { user, password });
    to.cert_dir.clone_from(&options.cert_dir);
    to.retries = options.retries.unwrap_or(to.retries);
    to.retry_delay = options.retry_delay.unwrap_or(to.retry_delay);
    Ok(request)
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
    let request = request(what, options)?;
    match stores::pull(stores, engine, &request, options.image.quiet) {
        Err(error) if options.image.policy == Some(PullPolicy::Newer) => here().or(Err(error)),
        other => other,
    }
}
