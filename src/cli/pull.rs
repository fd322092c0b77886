//! `coracle pull`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::image_options::{ImageOptions, PullPolicy, platform_flags};
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, registry_flags};
use crate::image::{self, Image};
use crate::output;
use clap::{ArgMatches, Command};

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
    /// `-a`: all tags of the repositories.
    pub all_tags: bool,
}

fn define(command: Command) -> Command {
    ImageOptions::define(command, "policy")
        .args([
            switch("all-tags").short('a').help("Get all tags of the repository"),
            option("creds", "USER:PASSWORD").help("Log in to the registry so"),
            option("cert-dir", "DIR").help("Trust the certificates in DIR too"),
            operands("IMAGE", 1..),
        ])
        .args(platform_flags())
        .args(registry_flags::retry_flags())
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<PullOptions, Error> {
    let image = ImageOptions::of(args, "policy")?;
    let options = PullOptions { images: args.operands(), image, all_tags: args.on("all-tags") };
    let is_tagged =
        |name: &String| name.contains('@') || name.rsplit('/').next().is_some_and(|n| n.contains(':'));
    if let Some(name) = options.images.iter().find(|name| options.all_tags && is_tagged(name)) {
        let what = format!("{name} says which tag is meant, and --all-tags means all of them");
        return Err(Error::usage(what, "leave out the tag, or --all-tags"));
    }
    Ok(options)
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
        let request = stores::request(repository, &options.image)?;
        let (name, tags) = image::tags(repository, &request.options)?;
        names.extend(tags.iter().map(|tag| format!("{}:{tag}", name.name())));
    }
    Ok(names)
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
    let request = stores::request(what, &options.image)?;
    match stores::pull(stores, engine, &request, options.image.quiet) {
        Err(error) if options.image.policy == Some(PullPolicy::Newer) => here().or(Err(error)),
        other => other,
    }
}
