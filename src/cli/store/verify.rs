//! `coracle store verify`.

use crate::cli::args::{Given, option, switch};
use crate::cli::engine::Engine;
use crate::cli::stores::{self, Stores, Users};
use crate::cli::{Action, Context, Entry};
use crate::digest::Digest;
use crate::image::{self, PullRequest};
use crate::output;
use crate::registry::Options;
use clap::{ArgMatches, Command};

/// `coracle store verify`.
pub const ENTRY: Entry = Entry {
    name: "verify",
    aliases: &["check"],
    about: "Compare images and layers with their digests, and mend what differs",
    usage: "[OPTIONS]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// The exit code if something is not as it should be.
const EXIT_FAULTS: u8 = 1;

fn define(command: Command) -> Command {
    command.args([
        switch("repair").short('r').help("Fetch again what is damaged, and drop what cannot be fetched"),
        switch("quiet").short('q').help("Print nothing: the exit code tells"),
        switch("tls-verify").help("Require HTTPS and a valid certificate of a registry (default true)"),
        option("authfile", "FILE").help("Read a registry's credentials from FILE"),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let engine = Engine::open(context)?;
    engine.tidy();
    // Files of any owner and mode are to be read.
    let stores = Stores::enter(&engine)?;
    let quiet = args.on("quiet");
    let say = |text: String| if quiet { Ok(()) } else { output::print(&format!("{text}\n")) };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let users = Users::now(&engine)?;
    let depends = |layer| users.need_layer(layer);
    let faults = image::verify(&stores.images, &stores.layers, &depends, jobs)?;
    for fault in &faults {
        say(fault.to_string())?;
    }
    if faults.is_empty() {
        let layers = stores.layers.list()?.len();
        let images = stores.images.list()?.len();
        say(format!("{images} images and {layers} layers are whole"))?;
        return Ok(0);
    }
    if !args.on("repair") {
        say(format!("{} faults; 'coracle store verify --repair' mends what it can", faults.len()))?;
        return Ok(EXIT_FAULTS);
    }
    let running = |layer: Digest| {
        let uses = |c: &&crate::container::store::Container| {
            c.status.is_running() && c.record.layers.contains(&layer)
        };
        users.containers.iter().find(uses).map(|c| format!("container {}", c.record.name))
    };
    let request = PullRequest {
        options: Options {
            auth_file: args.path("authfile"),
            tls_verify: args.maybe("tls-verify"),
            ..Options::default()
        },
        ..PullRequest::new("")
    };
    let report = image::repair(&stores.images, &stores.layers, &faults, &running, &depends, &request)?;
    for repaired in &report {
        say(repaired.text.clone())?;
    }
    // What counts is what is there now.
    let left = image::verify(&stores.images, &stores.layers, &depends, jobs)?;
    for fault in &left {
        say(format!("still: {fault}"))?;
    }
    stores::settle(&stores, &engine);
    Ok(if left.is_empty() { 0 } else { EXIT_FAULTS })
}
