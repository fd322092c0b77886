//! `coracle manifest push`.

use crate::cli::args::{Given, operands, option, switch};
use crate::cli::engine::Engine;
use crate::cli::push::{compression, format};
use crate::cli::registry_flags;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry, Error, parse};
use crate::image::{self, ListPush, PushRequest};
use crate::output;
use clap::{ArgMatches, Command};

/// `coracle manifest push`.
pub const ENTRY: Entry = Entry {
    name: "push",
    aliases: &[],
    about: "Send a list and its images to a registry",
    usage: "[OPTIONS] LIST [DESTINATION]",
    action: Action::Leaf {
        define,
        unsupported: &[
            "add-compression",
            "force-compression",
            "insecure",
            "remove-signatures",
            "sign-by",
            "sign-by-sigstore",
            "sign-by-sigstore-private-key",
            "sign-passphrase-file",
        ],
        run,
    },
};

fn define(command: Command) -> Command {
    command.args(registry_flags::flags()).args([
        switch("all")
            .help("Send the images too (default true); with --all=false the registry must have them"),
        option("compression-format", "FORMAT").help("Compress layers with gzip (default) or zstd"),
        option("compression-level", "LEVEL").help("Compress so hard: 1 to 9 for gzip, 1 to 20 for zstd"),
        option("digestfile", "FILE").help("Write the digest of what is in the registry then to FILE"),
        option("format", "FORMAT").short('f').help("The form of the list: oci (default) or v2s2 (docker's)"),
        switch("purge").short('p').help("Remove the list here afterwards"),
        switch("quiet").short('q').help("Show no progress"),
        switch("rm").help("The same as --purge"),
        operands("LIST", 1..=2),
    ])
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let mut words = args.operands().into_iter();
    let push = ListPush {
        request: PushRequest {
            image: words.next().unwrap_or_default(),
            destination: words.next(),
            compression: args.filled("compression-format", compression)?,
            level: args.filled("compression-level", parse::number)?,
            format: args.filled("format", format)?,
            options: registry_flags::options(args)?,
            jobs: 4,
        },
        images: args.maybe("all").unwrap_or(true),
    };
    crate::cli::push::check_packing(push.request.format, push.request.compression, push.request.level)?;
    crate::cli::push::check_transport(push.request.destination.as_deref().unwrap_or_default())?;
    let engine = Engine::open(context)?;
    // Files of any mode and owner are to be read.
    let stores = Stores::enter(&engine)?;
    let list = stores.images.find_list(&push.request.image)?;
    let progress = output::progress::progress_of("pushing", args.on("quiet"));
    let pushed = image::push_list(&stores.images, &stores.layers, &push, &*progress)?;
    drop(progress);
    if let Some(path) = args.path("digestfile") {
        std::fs::write(&path, pushed.digest.to_string()).map_err(Error::file("write", &path))?;
    }
    if args.on("purge") || args.on("rm") {
        stores.images.remove_list(&list)?;
    }
    output::print(&format!("{}\n", pushed.digest))?;
    Ok(0)
}
