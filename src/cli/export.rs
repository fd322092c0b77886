//! `coracle export`.

use super::args::{Given, operands, option};
use super::engine::Engine;
use super::selection::{Selection, latest};
use super::{Action, Context, Entry, Error};
use crate::container::files;
use anyhow::Context as _;
use clap::{ArgMatches, Command};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// `coracle export`.
pub const ENTRY: Entry = Entry {
    name: "export",
    aliases: &[],
    about: "Write all files of a container as a tar archive",
    usage: "[OPTIONS] CONTAINER",
    action: Action::Leaf { define, unsupported: &[], run },
};

/// What `export` is asked for.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The container.
    pub container: Selection,
    /// `-o`: where to, standard output if not given.
    pub output: Option<PathBuf>,
}

fn define(command: Command) -> Command {
    command.args([
        option("output", "FILE").short('o').help("Write to FILE, not to standard output"),
        latest(),
        operands("CONTAINER", 0..=1),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<ExportOptions, Error> {
    Ok(ExportOptions { container: Selection::of(args, "container")?, output: args.path("output") })
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    if options.output.is_none() && std::io::stdout().is_terminal() {
        let what = "an archive is not written to a terminal";
        return Err(Error::usage(what, "name a file with -o, or redirect the output").into());
    }
    let container = engine.one(&options.container)?;
    let export = |out: &mut dyn Write| {
        let mut out = BufWriter::with_capacity(256 << 10, out);
        files::export(&engine.paths, &engine.identity, &container, &mut out)?;
        out.flush().context("cannot write the archive")
    };
    match &options.output {
        None => export(&mut std::io::stdout().lock())?,
        Some(path) => {
            let mut target = Target::open(path).map_err(Error::file("write", path))?;
            export(&mut target.file)?;
            target.keep().map_err(Error::file("write", path))?;
        }
    }
    Ok(0)
}

/// A file that gets its name when it is complete. The folder is held: while it is written the process may change into
/// another mount namespace.
struct Target {
    file: File,
    /// The folder, the name that it has for now, and the one that it is to get; none if it is written in place.
    rename: Option<(OwnedFd, String, OsString)>,
}

impl Target {
    fn open(path: &Path) -> std::io::Result<Self> {
        // What is there and is no file (a pipe, /dev/stdout) is written to as it is.
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            return Ok(Self { file: std::fs::OpenOptions::new().write(true).open(path)?, rename: None });
        }
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let name = path.file_name().filter(|_| !path.is_dir());
        let name = name.ok_or(std::io::ErrorKind::IsADirectory)?.to_owned();
        let folder = rustix::fs::openat(
            CWD,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let now = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, now.as_str(), flags, Mode::from_raw_mode(0o666))?;
        Ok(Self { file: file.into(), rename: Some((folder, now, name)) })
    }

    fn keep(mut self) -> std::io::Result<()> {
        match self.rename.take() {
            Some((folder, now, name)) => Ok(rustix::fs::renameat(&folder, now.as_str(), &folder, &name)?),
            None => Ok(()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((folder, now, _)) = &self.rename {
            let _ = rustix::fs::unlinkat(folder, now.as_str(), AtFlags::empty());
        }
    }
}
