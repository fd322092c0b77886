//! `coracle import`.

use super::args::{Given, list, operands, option, switch};
use super::engine::Engine;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, parse};
use crate::image::{Change, Import, Platform, Reference};
use crate::output;
use crate::registry::{Client, Options};
use clap::{ArgMatches, Command};
use std::fs::File;
use std::io::{IsTerminal, Read};

/// `coracle import`.
pub const ENTRY: Entry = Entry {
    name: "import",
    aliases: &[],
    about: "Make an image of a tar archive of a file system",
    usage: "[OPTIONS] FILE|URL|- [NAME[:TAG]]",
    action: Action::Leaf { define, unsupported: &["signature-policy"], run },
};

/// What `import` is asked for.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// A file, a URL, or `-` for standard input.
    pub from: String,
    /// What the image is called.
    pub name: Option<Reference>,
    /// `-c`: how it is run.
    pub changes: Vec<Change>,
    /// `-m`: a note in its history.
    pub message: Option<String>,
    /// `--platform`, or `--os`, `--arch` and `--variant`.
    pub platform: Platform,
    /// `--tls-verify`.
    pub tls_verify: Option<bool>,
    /// `-q`: no progress.
    pub quiet: bool,
}

fn define(command: Command) -> Command {
    command.args([
        list("change", "INSTRUCTION")
            .short('c')
            .help("Change how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR"),
        option("message", "TEXT").short('m').help("Put a note into the image's history"),
        option("platform", "OS/ARCH").help("Say that the image is for this platform"),
        option("os", "OS").help("Say that the image is for this operating system"),
        option("arch", "ARCH").help("Say that the image is for this architecture"),
        option("variant", "VARIANT").help("Say that the image is for this variant of the architecture"),
        switch("tls-verify").help("Require a valid certificate of an https server (default true)"),
        switch("quiet").short('q').help("Show no progress"),
        operands("FILE", 1..=2),
    ])
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> anyhow::Result<ImportOptions> {
    let mut words = args.operands().into_iter();
    let from = words.next().unwrap_or_default();
    let change = |text: &str| text.parse::<Change>().map_err(|e| parse::Invalid::new(e.to_string()));
    Ok(ImportOptions {
        from,
        name: words.next().map(|name| local_name(&name)).transpose()?,
        changes: args.each("change", change)?,
        message: args.text("message").map(str::to_owned),
        platform: platform(args)?,
        tls_verify: args.maybe("tls-verify"),
        quiet: args.on("quiet"),
    })
}

/// docker takes a short name for Docker Hub's; what is made here is `localhost`'s, as podman has it, so that it never is
/// mistaken for what a registry has. It is found by its short name all the same.
pub(super) fn local_name(typed: &str) -> anyhow::Result<Reference> {
    let full = match Reference::has_domain(typed) {
        true => typed.to_owned(),
        false => format!("localhost/{typed}"),
    };
    let name: Reference = full.parse()?;
    if name.digest().is_some() {
        let fix = "name it NAME or NAME:TAG";
        return Err(
            Error::usage("an image's digest follows from what it is and cannot be chosen", fix).into()
        );
    }
    Ok(name)
}

/// The platform that flags name; this machine's where they do not.
fn platform(args: &ArgMatches) -> anyhow::Result<Platform> {
    let mut platform = match args.filled("platform", parse::platform)? {
        Some(text) => text.parse()?,
        None => Platform::host(),
    };
    let word = |name: &'static str| args.text(name).filter(|text| !text.is_empty());
    if let Some(os) = word("os") {
        os.clone_into(&mut platform.os);
    }
    if let Some(architecture) = word("arch") {
        (platform.architecture, platform.variant) = (architecture.to_owned(), None);
    }
    if let Some(variant) = word("variant") {
        platform.variant = Some(variant.to_owned());
    }
    Ok(platform.to_string().parse()?)
}

fn open(options: &ImportOptions) -> anyhow::Result<Box<dyn Read + Send>> {
    let from = options.from.as_str();
    if from == "-" {
        if std::io::stdin().is_terminal() {
            let what = "standard input is a terminal, not an archive";
            return Err(Error::usage(what, "redirect one, or name a file").into());
        }
        return Ok(Box::new(std::io::stdin()));
    }
    if from.starts_with("http://") || from.starts_with("https://") {
        if !options.quiet {
            output::note(&format!("downloading {from}"));
        }
        let client = Client::new(Options { tls_verify: options.tls_verify, ..Options::default() });
        return Ok(Box::new(client.download(from)?));
    }
    Ok(Box::new(File::open(from).map_err(Error::file("read", from))?))
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    // Opened as the user himself: the file may be his group's.
    let archive = open(&options)?;
    let stores = Stores::enter(&engine)?;
    let import = Import {
        archive,
        shown: if options.from == "-" { "standard input".into() } else { options.from },
        platform: options.platform,
        changes: &options.changes,
        message: options.message,
        name: options.name,
    };
    let image = import.run(&stores.images, &stores.layers)?;
    output::print(&format!("{}\n", image.id))?;
    stores::settle(&stores, &engine);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn flags_say_what_becomes_of_the_archive() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        let all =
            of(&["-c", "CMD x", "-m", "why", "--os", "linux", "--arch", "arm64", "a.tar", "app:1"]).unwrap();
        assert_eq!(all.name.unwrap().to_string(), "localhost/app:1");
        assert_eq!((all.changes.len(), all.message.as_deref()), (1, Some("why")));
        assert_eq!(all.platform.to_string(), "linux/arm64");
        assert_eq!(of(&["-", "r.io/app"]).unwrap().name.unwrap().to_string(), "r.io/app:latest");
        for words in [
            &[][..],
            &["-c", "RUN x", "-"],
            &["-", "Bad Name"],
            &["-", "a", "b"],
            &["-", &format!("a@sha256:{}", "0".repeat(64))],
        ] {
            assert!(of(words).is_err(), "{words:?}");
        }
    }
}
