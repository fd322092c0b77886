//! `coracle create`.

use super::create_flags::{self, CreateOptions};
use super::engine::Engine;
use super::{Action, Context, Entry, Error};
use crate::container::create::{Created, create};
use crate::container::recover;
use crate::container::request::NetworkMode;
use crate::image::ImageStore;
use crate::output;
use crate::state::{self, Durability};
use clap::ArgMatches;

/// `coracle create`.
pub const ENTRY: Entry = Entry {
    name: "create",
    aliases: &[],
    about: "Create a container without starting it",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    action: Action::Leaf { define: create_flags::define, unsupported: create_flags::UNSUPPORTED, run },
};

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<CreateOptions, Error> {
    create_flags::options(args)
}

/// Makes a container, pulling its image if need be.
pub(super) fn make(engine: &Engine, options: &CreateOptions) -> anyhow::Result<Created> {
    // From the look at the image's layers until the record names them, nobody may collect them.
    let _pin = ImageStore::open(&engine.paths).pin()?;
    let image = super::stores::obtain(engine, &options.request.image, &options.image)?;
    if options.request.network == NetworkMode::Default {
        output::note(
            "networks are not there yet: this container has loopback only (--network host gives it the host's)",
        );
    }
    engine.mention_single_id();
    let created = create(&engine.paths, &engine.identity, &options.request, &image)?;
    if let Some(path) = &options.cidfile {
        create_flags::write_cidfile(path, created.record.id.as_str())?;
    }
    Ok(created)
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    let created = make(&engine, &options(args)?)?;
    if created.record.rm {
        // What is in the run root without a monitor is the trace of a killed one: it rests with the others until it is
        // started.
        state::write_json(&created.places.record(false), &created.record, Durability::PowerCut)?;
    }
    recover::forget_run(&created.places)?;
    output::print(&format!("{}\n", created.record.id))?;
    Ok(0)
}
