//! `coracle push`.

use super::args::{Given, operands, option, switch};
use super::engine::Engine;
use super::registry_flags;
use super::stores::Stores;
use super::{Action, Context, Entry, Error, parse};
use crate::image::{self, ListPush, PushFormat, PushRequest, Pushed};
use crate::layers::Compression;
use crate::output;
use crate::registry::Options;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// `coracle push`.
pub const ENTRY: Entry = Entry {
    name: "push",
    aliases: &[],
    about: "Send an image to a registry",
    usage: "[OPTIONS] IMAGE [DESTINATION]",
    action: Action::Leaf {
        define,
        unsupported: &[
            "compress",
            "disable-content-trust",
            "encrypt-layer",
            "encryption-key",
            "force-compression",
            "platform",
            "remove-signatures",
            "rm",
            "sign-by",
            "sign-by-sigstore",
            "sign-by-sigstore-private-key",
            "sign-passphrase-file",
            "signature-policy",
        ],
        run,
    },
};

/// What podman and skopeo push to that is no registry.
const TRANSPORTS: [&str; 8] = [
    "atomic",
    "containers-storage",
    "dir",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
];

/// What `push` is asked for.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The image, as typed.
    pub image: String,
    /// Where to.
    pub destination: Option<String>,
    /// `-a`: all tags of the repository.
    pub all_tags: bool,
    /// `--digestfile`.
    pub digest_file: Option<PathBuf>,
    /// `--compression-format`.
    pub compression: Option<Compression>,
    /// `--compression-level`.
    pub level: Option<u32>,
    /// `--format`.
    pub format: Option<PushFormat>,
    /// `-q`: no progress.
    pub quiet: bool,
    /// How to talk to the registry.
    pub registry: Options,
}

fn define(command: Command) -> Command {
    command
        .args(registry_flags::flags())
        .args([
            switch("all-tags").short('a').help("Send all tags of the repository"),
            option("digestfile", "FILE").help("Write the digest of what is in the registry then to FILE"),
            option("compression-format", "FORMAT").help("Compress layers with gzip (default) or zstd"),
            option("compression-level", "LEVEL")
                .help("Compress so hard: 1 to 9 for gzip (default 6), 1 to 20 for zstd (default 3)"),
            option("format", "FORMAT").short('f').help(
                "The form of the manifest: oci (v2s1) or docker (v2s2); default is the image's own, or oci",
            ),
            switch("quiet").short('q').help("Show no progress, only the name"),
            operands("IMAGE", 1..=2),
        ])
        .args(registry_flags::retry_flags())
}

pub(super) fn compression(text: &str) -> Result<Compression, parse::Invalid> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        _ => Err(parse::Invalid::unknown("compression", text, &["gzip", "zstd"])),
    }
}

pub(super) fn format(text: &str) -> Result<PushFormat, parse::Invalid> {
    match text {
        "oci" => Ok(PushFormat::Oci),
        "docker" | "v2s2" => Ok(PushFormat::Docker),
        "v2s1" => Err(parse::Invalid::new("docker's schema 1 is obsolete, and no registry takes it")),
        _ => Err(parse::Invalid::unknown("format", text, &["oci", "docker"])),
    }
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> Result<PushOptions, Error> {
    let mut operands = args.operands().into_iter();
    let options = PushOptions {
        image: operands.next().unwrap_or_default(),
        destination: operands.next(),
        all_tags: args.on("all-tags"),
        digest_file: args.path("digestfile"),
        compression: args.filled("compression-format", compression)?,
        level: args.filled("compression-level", parse::number)?,
        format: args.filled("format", format)?,
        quiet: args.on("quiet"),
        registry: registry_flags::options(args)?,
    };
    check(&options)?;
    Ok(options)
}

fn check(options: &PushOptions) -> Result<(), Error> {
    let wrong = |what: String, fix: &str| Err(Error::usage(what, fix));
    check_packing(options.format, options.compression, options.level)?;
    let image = &options.image;
    if options.all_tags {
        let is_tagged = image.contains('@') || image.rsplit('/').next().is_some_and(|n| n.contains(':'));
        if is_tagged {
            let what = format!("{image} says which tag is meant, and --all-tags means all of them");
            return wrong(what, "leave out the tag, or --all-tags");
        }
        if options.destination.is_some() || options.digest_file.is_some() {
            let what = "--all-tags pushes several images, each under its own name".to_owned();
            return wrong(what, "leave out the destination and --digestfile, or --all-tags");
        }
    }
    check_transport(options.destination.as_deref().unwrap_or_default())
}

/// Whether layers can be packed so.
pub(super) fn check_packing(
    format: Option<PushFormat>,
    compression: Option<Compression>,
    level: Option<u32>,
) -> Result<(), Error> {
    let packing = compression.unwrap_or(Compression::Gzip);
    if let Some(level) = level.filter(|level| !(1..=packing.max_level()).contains(level)) {
        let what = format!("compression level {level} is out of range");
        return Err(Error::usage(what, format!("levels go from 1 to {}", packing.max_level())));
    }
    if format == Some(PushFormat::Docker) && compression == Some(Compression::Zstd) {
        return Err(Error::usage("docker's manifests have no zstd layers", "use --format oci"));
    }
    Ok(())
}

/// Whether a destination can be a registry's.
pub(super) fn check_transport(destination: &str) -> Result<(), Error> {
    if let Some((transport, _)) = destination.split_once(':').filter(|(t, _)| TRANSPORTS.contains(t)) {
        let what = format!("'{transport}:' is no registry, and push sends to registries only");
        return Err(Error::usage(what, "'coracle save' writes archives and folders"));
    }
    Ok(())
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = options(args)?;
    let engine = Engine::open(context)?;
    // Files of any mode and owner are to be read.
    let stores = Stores::enter(&engine)?;
    if !options.all_tags {
        let pushed = one(&stores, &options, &options.image)?;
        if let Some(path) = &options.digest_file {
            std::fs::write(path, pushed.digest.to_string()).map_err(Error::file("write", path))?;
        }
        return Ok(0);
    }
    for name in image::local_tags(&stores.images, &options.image)? {
        one(&stores, &options, &name.to_string())?;
    }
    Ok(0)
}

fn one(stores: &Stores, options: &PushOptions, image: &str) -> anyhow::Result<Pushed> {
    let request = PushRequest {
        image: image.to_owned(),
        destination: options.destination.clone(),
        compression: options.compression,
        level: options.level,
        format: options.format,
        options: options.registry.clone(),
        jobs: 4,
    };
    let progress = output::progress::progress_of("pushing", options.quiet);
    let pushed = match image::push(&stores.images, &stores.layers, &request, &*progress) {
        // As podman's: of a list, the image for this machine, or else the whole.
        Err(image::Error::NotFound(_) | image::Error::Platform { .. })
            if stores.images.list_named(image)?.is_some() =>
        {
            let push = ListPush { request, images: true };
            image::push_list(&stores.images, &stores.layers, &push, &*progress)?
        }
        pushed => pushed?,
    };
    drop(progress);
    let Pushed { reference, digest, size, .. } = &pushed;
    let line = match options.quiet {
        true => format!("{reference}\n"),
        false => format!("{}: digest: {digest} size: {size}\n", reference.tag().unwrap_or_default()),
    };
    output::print(&line)?;
    Ok(pushed)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::parse_for_test;
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_done() {
        let of = |words: &[&str]| options(&parse_for_test(&ENTRY, words)?);
        let good = of(&["--compression-format", "zstd", "--compression-level", "19", "a", "docker://r.io/b"]);
        assert_eq!(good.unwrap().level, Some(19));
        for words in [
            &["--compression-level", "19", "a"][..],
            &["--compression-level", "0", "a"],
            &["--compression-format", "zstd:chunked", "a"],
            &["--compression-format", "zstd", "--format", "docker", "a"],
            &["--format", "v2s1", "a"],
            &["-a", "a:1"],
            &["-a", "a", "b"],
            &["-a", "--digestfile", "x", "a"],
            &["a", "oci:dir"],
            &["a", "docker-archive:x.tar:b:1"],
            &["a", "b", "c"],
            &["--sign-by", "me", "a"],
            &[],
        ] {
            assert!(of(words).is_err(), "{words:?}");
        }
        let error = of(&["a", "dir:/tmp/x"]).unwrap_err();
        assert!(format!("{error:?}").contains("coracle save"), "{error:?}");
    }
}
