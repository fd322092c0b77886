//! `coracle system reset`.

use crate::cli::args::{Given, switch};
use crate::cli::engine::Engine;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry, Error};
use crate::container::store::{self, Places};
use crate::output;
use crate::state::{self, Lock};
use clap::{ArgMatches, Command};

/// `coracle system reset`.
pub const ENTRY: Entry = Entry {
    name: "reset",
    aliases: &[],
    about: "Remove all containers, images and volumes",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

fn define(command: Command) -> Command {
    command.arg(switch("force").short('f').help("Don't ask first"))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    engine.tidy();
    let paths = &engine.paths;
    let question = format!(
        "This will remove all containers, images and volumes below {} and {}",
        paths.data().display(),
        paths.run().display()
    );
    if !args.on("force") && !output::ask::confirm(&question)? {
        return Ok(0);
    }
    let stores = Stores::enter(&engine)?;
    // Nobody creates a container, pulls or builds from here on: they all hold this lock shared.
    let Some(_nobody) = stores.images.hold_all()? else {
        let fix = "wait for it ('coracle ps'), then try again";
        return Err(Error::usage("an image is being pulled, loaded or used for a new container", fix).into());
    };
    // Nobody starts one either: to start is to hold the container's lock.
    let mut locks = Vec::new();
    for id in store::ids(paths)? {
        let places = Places::of(paths, &id);
        state::create_dir_private(&places.run)?;
        let Some(lock) = Lock::try_exclusive(&places.lock())? else {
            let what = format!("container {} is running", id.short());
            return Err(Error::usage(what, "stop all first: coracle stop -a").into());
        };
        locks.push(lock);
    }
    let left = state::reset(paths)?;
    drop(locks);
    for path in left {
        output::note(&format!("{} is not coracle's and was left", path.display()));
    }
    Ok(0)
}
