//! `coracle commit`.

use super::args::{Given, list, operands, option, switch};
use super::engine::Engine;
use super::import::local_name;
use super::selection::Selection;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, parse};
use crate::container::files::{self, Frozen};
use crate::container::store::Container;
use crate::diagnose::Diagnose;
use crate::image::{Change, Commit, ManifestStyle, Reference};
use crate::output;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// `coracle commit`.
pub const ENTRY: Entry = Entry {
    name: "commit",
    aliases: &[],
    about: "Make an image of a container and what it has changed",
    usage: "[OPTIONS] CONTAINER [NAME[:TAG]]",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `commit` is asked for.
#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// The container.
    pub container: Selection,
    /// What the image is called.
    pub name: Option<Reference>,
    /// `-a`: by whom it is made.
    pub author: String,
    /// `-m`: a note in its history.
    pub message: String,
    /// `-c`: how it is run.
    pub changes: Vec<Change>,
    /// `-p`: whether the container is frozen meanwhile; if not said, where it can be.
    pub pause: Option<bool>,
    /// `-f`: whose manifest the image gets.
    pub format: ManifestStyle,
    /// `--iidfile`: where the image's id is written.
    pub iidfile: Option<PathBuf>,
    /// `--include-volumes`.
    pub include_volumes: bool,
    /// `-s`: one layer of all.
    pub squash: bool,
    /// `-q`: no notes.
    pub quiet: bool,
}

fn define(command: Command) -> Command {
    command.args([
        option("author", "TEXT").short('a').help("Say who made the image"),
        list("change", "INSTRUCTION")
            .short('c')
            .help("Change how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR"),
        option("format", "FORMAT").short('f').help("Give it a manifest of 'oci' (default) or 'docker'"),
        option("iidfile", "FILE").help("Write the image's id to FILE"),
        switch("include-volumes").help("Say in the image where the container has volumes"),
        option("message", "TEXT").short('m').help("Put a note into the image's history"),
        switch("pause").short('p').help("Freeze the container meanwhile (default: if that is possible)"),
        switch("quiet").short('q').help("Show nothing but the image's id"),
        switch("squash").short('s').help("Make one layer of the image's and the container's"),
        operands("CONTAINER", 1..=2),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> anyhow::Result<CommitOptions> {
    let mut words = args.operands().into_iter();
    let container = Selection::named(args, "container", words.next().into_iter().collect())?;
    let change = |text: &str| text.parse::<Change>().map_err(|e| parse::Invalid::new(e.to_string()));
    let format = args.filled("format", |text| match text {
        "oci" => Ok(ManifestStyle::Oci),
        "docker" => Ok(ManifestStyle::Docker),
        _ => Err(parse::Invalid::unknown("format", text, &["oci", "docker"])),
    })?;
    let text = |name| args.text(name).unwrap_or_default().to_owned();
    Ok(CommitOptions {
        container,
        name: words.next().map(|name| local_name(&name)).transpose()?,
        author: text("author"),
        message: text("message"),
        changes: args.each("change", change)?,
        pause: args.maybe("pause"),
        format: format.unwrap_or_default(),
        iidfile: args.path("iidfile"),
        include_volumes: args.on("include-volumes"),
        squash: args.on("squash"),
        quiet: args.on("quiet"),
    })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    let container = engine.one(&options.container)?;
    let frozen = freeze(&engine, &options, &container)?;
    let stores = Stores::enter(&engine)?;
    let pin = stores.images.pin()?;
    let layer = files::commit(&engine.paths, &engine.identity, &container, &stores.layers);
    // It need not wait for more.
    drop(frozen);
    let layer = stores::unless_failed(&engine, layer)?;
    let record = &container.record;
    let parent = match record.image_id {
        Some(id) => stores.images.by_id(id)?.map(|image| image.config),
        None => None,
    };
    let of_image = parent.as_ref().map(|parent| parent.config.clone()).unwrap_or_default();
    let mut config = files::run_config(record, &of_image, options.include_volumes);
    for change in &options.changes {
        change.apply(&mut config);
    }
    let command = record.entrypoint.iter().chain(&record.command).map(String::as_str);
    let commit = Commit {
        parent,
        below: &record.layers,
        layer,
        config,
        author: options.author,
        message: options.message,
        created_by: command.collect::<Vec<_>>().join(" "),
        squash: options.squash,
        style: options.format,
        name: options.name,
    };
    let image = stores::unless_failed(&engine, commit.run(&stores.images, &stores.layers))?;
    drop(pin);
    if let Some(path) = &options.iidfile {
        std::fs::write(path, image.id.to_string()).map_err(Error::file("write", path))?;
    }
    output::print(&format!("{}\n", image.id))?;
    if options.squash {
        // The layer of the container alone.
        stores::collect_garbage(&engine, &stores)?;
    }
    stores::settle(&stores, &engine);
    Ok(0)
}

/// Freezes the container as asked. That it cannot be frozen fails only who asked for it.
fn freeze(engine: &Engine, options: &CommitOptions, container: &Container) -> anyhow::Result<Option<Frozen>> {
    if options.pause == Some(false) {
        return Ok(None);
    }
    match files::freeze(&engine.paths, container) {
        Err(error) if options.pause.is_none() => {
            if !options.quiet {
                let fix = error.fix().map(|fix| format!(" ({fix})")).unwrap_or_default();
                output::note(&format!("{error}; it goes on while the image is made{fix}"));
            }
            Ok(None)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn flags_say_what_becomes_of_the_container() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        let all = of(&[
            "-a",
            "me",
            "-m",
            "why",
            "-c",
            "CMD x",
            "-f",
            "docker",
            "-s",
            "-q",
            "--include-volumes",
            "-p=false",
            "c",
            "app:1",
        ])
        .unwrap();
        assert_eq!(all.name.unwrap().to_string(), "localhost/app:1");
        assert_eq!((all.author.as_str(), all.message.as_str(), all.changes.len()), ("me", "why", 1));
        assert_eq!((all.format, all.pause), (ManifestStyle::Docker, Some(false)));
        assert!(all.squash && all.quiet && all.include_volumes);
        let plain = of(&["c"]).unwrap();
        assert!(plain.name.is_none() && plain.pause.is_none() && plain.format == ManifestStyle::Oci);
        for words in
            [&[][..], &["c", "Bad Name"], &["-f", "v1", "c"], &["-c", "RUN x", "c"], &["a", "b", "c"]]
        {
            assert!(of(words).is_err(), "{words:?}");
        }
    }
}
