//! `coracle rmi`.

use super::args::{operands, switch};
use super::engine::Engine;
use super::selection::{Selection, all};
use super::stores::{self, Stores, Users};
use super::{Action, Context, Entry, Error};
use crate::cli::args::Given;
use crate::container::lifecycle;
use crate::image::Listed;
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle rmi`.
pub const ENTRY: Entry = Entry {
    name: "rmi",
    aliases: &[],
    about: "Remove images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    action: Action::Leaf { define, unsupported: &["no-prune", "platform"], run },
};

/// What `rmi` is asked for.
#[derive(Clone, Debug)]
pub struct RmiOptions {
    /// The images.
    pub images: Selection,
    /// `-f`: with all their names, and although stopped containers are made from them.
    pub force: bool,
}

fn define(command: Command) -> Command {
    command.args([
        switch("force").short('f').help("Remove all names of an image, and images of stopped containers"),
        all().help("Remove all images"),
        switch("ignore").short('i').help("An image that is not there is no error"),
        operands("IMAGE", 0..),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<RmiOptions, Error> {
    Ok(RmiOptions { images: Selection::of(args, "image")?, force: args.on("force") })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let mut users = Users::now(&engine)?;
    let mut names = options.images.names.clone();
    if options.images.all {
        for listed in stores.images.list()? {
            if let Listed::Image(entry) = listed {
                names.push(entry.image.id.to_string());
            }
        }
    }
    let mut worst = 0;
    for what in &names {
        match one(&engine, &stores, &mut users, what, options.force) {
            Ok(text) => output::print(&text)?,
            Err(error) => {
                let missing = matches!(error.downcast_ref(), Some(crate::image::Error::NotFound(_)));
                if missing && (options.images.ignore_missing || options.force) {
                    continue;
                }
                // podman's codes.
                let code = match error.downcast_ref() {
                    Some(crate::image::Error::NotFound(_)) => Some(1),
                    Some(crate::image::Error::Conflict { .. }) => Some(2),
                    _ => None,
                };
                let ours = super::report(&error);
                worst = worst.max(code.unwrap_or(ours));
            }
        }
    }
    if !names.is_empty() {
        let collected = stores::collect_garbage(&engine, &stores);
        // Of what keeps an image from being removed one report is enough.
        if worst == 0 {
            collected?;
        }
        stores::settle_as_root(&engine);
    }
    Ok(worst)
}

/// For `run --rmi`: removes an image, unless another container is made from it.
pub(super) fn unless_used(engine: &Engine, what: &str) -> anyhow::Result<()> {
    let stores = Stores::open(engine);
    let mut users = Users::now(engine)?;
    match one(engine, &stores, &mut users, what, false) {
        Ok(_) => stores::settle_as_root(engine),
        Err(error) => match error.downcast_ref() {
            Some(crate::image::Error::NotFound(_) | crate::image::Error::Conflict { .. }) => {}
            _ => return Err(error),
        },
    }
    Ok(())
}

fn one(
    engine: &Engine,
    stores: &Stores,
    users: &mut Users,
    what: &str,
    force: bool,
) -> anyhow::Result<String> {
    // Of a list nothing goes but itself.
    let is_list = !matches!(stores.images.in_list(what, None), Ok(None));
    if force
        && !is_list
        && let Ok(image) = stores.images.resolve(what)
    {
        // As podman's: the containers that are made from it go too.
        for container in users.containers.extract_if(.., |c| c.record.image_id == Some(image.id)) {
            lifecycle::remove(&engine.paths, &engine.identity, &container, true, Some(0), true)?;
        }
    }
    Ok(stores::removed_text(&stores::remove(engine, stores, users, what, force)?, true))
}
