//! `coracle manifest add`.

use super::{Said, annotation, entry_flags};
use crate::cli::args::{Given, list, operands, option, switch};
use crate::cli::engine::Engine;
use crate::cli::registry_flags;
use crate::cli::stores::Stores;
use crate::cli::{Action, Context, Entry, Error};
use crate::image::{NewArtifact, Sources};
use crate::output;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// `coracle manifest add`.
pub const ENTRY: Entry = Entry {
    name: "add",
    aliases: &[],
    about: "Add images to a list, or an artifact made of files",
    usage: "[OPTIONS] LIST IMAGE|FILE [IMAGE|FILE...]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// The flags that are about an artifact.
const OF_ARTIFACTS: [&str; 7] = [
    "artifact-annotation",
    "artifact-config",
    "artifact-config-type",
    "artifact-exclude-titles",
    "artifact-layer-type",
    "artifact-subject",
    "artifact-type",
];

fn define(command: Command) -> Command {
    command.args(registry_flags::flags()).args(entry_flags()).args([
        switch("all").help("Of an image that is a list, add all, not only that for this machine"),
        switch("artifact")
            .help("Add files as one artifact: what follows LIST is files, read again by 'manifest push'"),
        list("artifact-annotation", "NAME=VALUE").help("Set an annotation of the artifact's manifest"),
        option("artifact-config", "FILE")
            .help("Give the artifact this file as its configuration (default: an empty one)"),
        option("artifact-config-type", "TYPE").help("Say that its configuration is of this media type"),
        switch("artifact-exclude-titles").help("Do not tell the files' names"),
        option("artifact-layer-type", "TYPE").help(
            "Say that the files are of this media type (default: what their names or contents look like)",
        ),
        option("artifact-subject", "IMAGE").help("Say that the artifact is about this image"),
        option("artifact-type", "TYPE").help("Say that the artifact is of this type"),
        operands("LIST", 2..),
    ])
}

/// The artifact that is asked for, if one is.
fn artifact(
    args: &ArgMatches,
    files: &[String],
    sources: &Sources<'_>,
) -> anyhow::Result<Option<NewArtifact>> {
    if !args.on("artifact") {
        let is_given =
            |name: &&&str| args.text(name).is_some() || !args.texts(name).is_empty() || args.on(name);
        return match OF_ARTIFACTS.iter().find(is_given) {
            Some(flag) => {
                let what = format!("--{flag} is for artifacts, and images are added");
                Err(Error::usage(what, "add --artifact, and name files").into())
            }
            None => Ok(None),
        };
    }
    if args.on("all") {
        let what = "--all and --artifact exclude each other";
        return Err(Error::usage(what, "--all is for images that are lists").into());
    }
    let text = |name: &'static str| args.text(name).map(str::to_owned);
    let filled = |name: &'static str| text(name).filter(|text| !text.is_empty());
    Ok(Some(NewArtifact {
        files: files.iter().map(PathBuf::from).collect(),
        kind: text("artifact-type"),
        config: filled("artifact-config").map(PathBuf::from),
        config_kind: filled("artifact-config-type"),
        layer_kind: filled("artifact-layer-type"),
        subject: filled("artifact-subject").map(|subject| sources.descriptor(&subject)).transpose()?,
        exclude_titles: args.on("artifact-exclude-titles"),
        annotations: args.each("artifact-annotation", annotation)?.into_iter().collect(),
    }))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let words = args.operands();
    let Some((name, added)) = words.split_first() else { return Ok(0) };
    let (said, options) = (Said::of(args)?, registry_flags::options(args)?);
    let engine = Engine::open(context)?;
    let stores = Stores::open(&engine);
    let list = stores.images.find_list(name)?;
    let sources = Sources { images: &stores.images, layers: &stores.layers, options, all: args.on("all") };
    let _pin = stores.images.pin()?;
    let mut entries = Vec::new();
    match artifact(args, added, &sources)? {
        Some(artifact) => entries.push(artifact.entry()?),
        None => {
            for image in added {
                entries.extend(sources.find(image)?);
            }
        }
    }
    entries.iter_mut().for_each(|entry| said.apply(entry));
    let list = stores.images.change_list(&list.name, |list| {
        list.extend(entries);
        Ok(())
    })?;
    output::print(&format!("{}\n", list.id().hex()))?;
    Ok(0)
}
