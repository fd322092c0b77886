//! `coracle save`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::stores::Stores;
use super::{Action, Context, Entry, Error, parse};
use crate::image::{SAVE_FORMATS, Save, SaveFormat};
use crate::output;
use crate::state::NewFile;
use clap::{ArgMatches, Command};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

/// `coracle save`.
pub const ENTRY: Entry = Entry {
    name: "save",
    aliases: &[],
    about: "Save images to an archive or a folder, for docker, podman, skopeo or coracle to load",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    action: Action::Leaf { define, unsupported: &["platform", "signature-policy"], run },
};

/// What `save` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// The images, as typed.
    pub images: Vec<String>,
    /// `--format`.
    pub format: SaveFormat,
    /// `-o`: where to; standard output if not given.
    pub output: Option<PathBuf>,
    /// `--compress`: layers as gzip.
    pub compress: bool,
    /// `-q`: no progress.
    pub quiet: bool,
}

fn define(command: Command) -> Command {
    command.args([
        option("output", "FILE").short('o').help("Write FILE, not standard output"),
        option("format", "FORMAT")
            .help("docker-archive (default), oci-archive, oci-dir or docker-dir (skopeo's dir)"),
        switch("compress").help("Compress layers with gzip; for docker-dir"),
        switch("uncompressed").help("Do not compress layers, which is what is done anyway"),
        switch("multi-image-archive")
            .short('m')
            .help("Take all arguments for images, which is what is done anyway"),
        switch("quiet").short('q').help("Show no progress"),
        operands("IMAGE", 1..),
    ])
}

fn format(text: &str) -> Result<SaveFormat, parse::Invalid> {
    let known = SAVE_FORMATS.map(|(name, _)| name);
    let found = SAVE_FORMATS.iter().find(|(name, _)| *name == text);
    found.map(|(_, format)| *format).ok_or_else(|| parse::Invalid::unknown("format", text, &known))
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<SaveOptions, Error> {
    let options = SaveOptions {
        images: args.operands(),
        format: args.filled("format", format)?.unwrap_or_default(),
        output: args.path("output"),
        compress: args.on("compress"),
        quiet: args.on("quiet"),
    };
    let wrong = |what: &str, fix: &str| Err(Error::usage(what, fix));
    if options.compress && args.on("uncompressed") {
        return wrong("--compress and --uncompressed exclude each other", "leave out one of them");
    }
    if options.compress && options.format != SaveFormat::DockerDir {
        let what = "--compress is only for --format docker-dir";
        return wrong(what, "an archive as a whole can be compressed: coracle save … | gzip");
    }
    if options.format == SaveFormat::DockerDir && options.images.len() > 1 {
        return wrong("docker-dir holds one image only", "save them one by one, or as an archive");
    }
    if options.format.is_folder() && options.output.is_none() {
        return wrong("a folder cannot be written to standard output", "name it with -o");
    }
    Ok(options)
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    if options.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::usage(
            "standard output is a terminal, and an archive is no text",
            "name a file with -o, or redirect standard output",
        )
        .into());
    }
    let engine = Engine::open(context)?;
    // What is not there is found before a file is made, and files of any mode and owner are to be read.
    let stores = Stores::enter(&engine)?;
    let progress = output::progress::progress_of("saving", options.quiet);
    let save = Save::plan(&stores.images, &stores.layers, &options.images, &*progress)?;
    let is_docker = options.format == SaveFormat::DockerArchive;
    match &options.output {
        Some(path) if options.format.is_folder() => save.folder(path, options.format, options.compress)?,
        Some(path) => {
            let file = NewFile::create(path).map_err(Error::file("write", path))?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            save.archive(&mut out, is_docker, &path.display().to_string())?;
            out.flush().map_err(Error::file("write", path))?;
            let file = out.into_inner().map_err(|e| Error::file("write", path)(e.into_error()))?;
            file.publish().map_err(Error::file("write", path))?;
        }
        None => {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            save.archive(&mut out, is_docker, "standard output")?;
            out.flush()?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_done() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        assert_eq!(of(&["a", "b"]).unwrap().format, SaveFormat::DockerArchive);
        assert_eq!(of(&["--format", "oci-dir", "-o", "x", "a"]).unwrap().format, SaveFormat::OciDir);
        for words in [
            &["--format", "oci", "a"][..],
            &["--format", "oci-dir", "a"],
            &["--format", "docker-dir", "-o", "x", "a", "b"],
            &["--compress", "a"],
            &["--compress", "--uncompressed", "--format", "docker-dir", "-o", "x", "a"],
            &[],
        ] {
            assert!(of(words).is_err(), "{words:?}");
        }
    }
}
