//! What `coracle build` makes of its result: the flags of `build` that say so, and the carrying out.

use super::args::{Given, list, option, switch};
use super::build_cache::{self, CacheFlags};
use super::build_habit_flags;
use super::build_output_flag::{Asked, Kind, asked};
use super::create_flags;
use super::engine::Engine;
use super::import::local_name;
use super::{Error, parse, registry_flags};
use crate::build::Built;
use crate::build::output::{Clock, Export, Output, Shape, Squash, Target};
use crate::build::progress::{Event, Progress, around};
use crate::digest::Digest;
use crate::image::{CachePlace, Documents, ManifestStyle, Reference};
use crate::kernel::process;
use crate::output;
use crate::registry::Options;
use clap::{ArgMatches, Command};
use parse::{Host, Invalid};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// The variable and build argument that says a build's time (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// What `--identity-label` sets.
const IDENTITY: &str = "io.coracle.version";

/// What becomes of the result.
#[derive(Clone, Debug)]
pub struct ResultFlags {
    /// What the image is.
    pub shape: Shape,
    /// The names under which it is kept, if it is.
    pub names: Option<Vec<Reference>>,
    /// Where else it goes.
    pub outputs: Vec<Output>,
    /// Nothing but an image comes out, of which the id tells.
    pub shows_id: bool,
    /// Caches of other machines.
    pub cache: CacheFlags,
    /// How registries are talked to.
    pub registry: Options,
    /// `--iidfile`: where the image's id is written.
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`: where it is written what was made.
    pub metadata_file: Option<PathBuf>,
}

/// Adds the flags.
pub fn define(command: Command) -> Command {
    command.args([
        list("annotation", "NAME=VALUE").help("Set an annotation of the image's manifest"),
        option("format", "FORMAT").help("Give the image a manifest of 'oci' (default) or 'docker'"),
        switch("identity-label").help("Say in a label which version of coracle built it"),
        option("iidfile", "FILE").help("Write the image's id to FILE"),
        list("env", "NAME[=VALUE]").help("Set a variable of the image, which no step sees; without a value, pass it on"),
        list("label", "NAME=VALUE").help("Set a label of the image"),
        switch("load").help("Keep the image in the store, which is done anyway unless --output says otherwise"),
        option("metadata-file", "FILE").help("Write what was made to FILE, as JSON with BuildKit's keys"),
        switch("omit-history").help("Leave the steps out of the image's config"),
        list("output", "OUTPUT").short('o').help(
            "Bring the result to a folder (FOLDER), as a tar archive to standard output ('-'), or where type=image, \
             oci, docker, tar, local, registry or cacheonly says, with dest=, name=, push= and more",
        ),
        switch("push").help("Send the image to the registry of each of its names"),
        switch("rewrite-timestamp").help("Let no file of a new layer be later than --source-date-epoch"),
        option("source-date-epoch", "SECONDS")
            .help("Let the image say that it was made then (default: $SOURCE_DATE_EPOCH)"),
        switch("squash").help("Make one layer of all that the build makes"),
        switch("squash-all").help("Make one layer of these and the base image's"),
        list("tag", "NAME[:TAG]").short('t').help("Name the image"),
        option("timestamp", "SECONDS")
            .help("Let the image say that it was made then, and all files of new layers"),
        list("unsetenv", "NAME").help("Take a variable out of the image's environment"),
        list("unsetlabel", "NAME").help("Take a label of the base image away"),
    ])
}

/// What the flags ask for. The time that they or the environment say becomes a build argument, too.
pub fn options(args: &ArgMatches, build_args: &mut BTreeMap<String, String>) -> anyhow::Result<ResultFlags> {
    let tags: Vec<Reference> =
        args.texts("tag").into_iter().map(local_name).collect::<anyhow::Result<_>>()?;
    let mut asked: Vec<Asked> = args.each("output", asked)?;
    if args.on("push") {
        match asked.iter_mut().find(|asked| asked.kind == Kind::Image) {
            Some(image) => image.push = true,
            None => asked.push(Asked::image(true)),
        }
    }
    if args.on("load") && asked.iter().all(|asked| asked.kind != Kind::Image) {
        asked.push(Asked::image(false));
    }
    let mut shape = shape(args, build_args)?;
    let cache = build_cache::options(args)?;
    shape.inline_cache = cache.inline;
    let registry = registry_flags::options(args)?;
    let mut kept = None;
    if asked.is_empty() {
        kept = Some(tags.clone());
    }
    let is_image = |asked: &Asked| asked.kind != Kind::Tar && asked.kind != Kind::Local;
    let shows_id =
        asked.is_empty() || asked.iter().any(|asked| is_image(asked) && asked.kind != Kind::Nothing);
    if !asked.iter().any(is_image) && !tags.is_empty() {
        // podman: what has a name is an image, whatever else comes out.
        kept = Some(tags.clone());
    }
    let mut outputs = Vec::new();
    for asked in asked {
        shape.annotations.extend(asked.annotations.clone());
        if let Some(docker) = asked.docker {
            shape.style = if docker { ManifestStyle::Docker } else { ManifestStyle::Oci };
        }
        if asked.rewrite
            && let Clock::Epoch { files, .. } = &mut shape.clock
        {
            *files = true;
        }
        outputs.extend(asked.output(&tags, &mut kept, &registry)?);
    }
    let to_stdout = |output: &Output| {
        matches!(output, Output::Archive { target: Target::Stdout, .. } | Output::Tar(Target::Stdout))
    };
    let archives = outputs.iter().filter(|output| to_stdout(output)).count();
    if archives > 1 {
        return Err(
            Error::usage("two outputs go to standard output", "give one of them a file: dest=FILE").into()
        );
    }
    if archives == 1 && std::io::stdout().is_terminal() {
        let what = "standard output is a terminal, and an archive is no text";
        return Err(Error::usage(what, "name a file (dest=FILE), or redirect standard output").into());
    }
    if shape.style == ManifestStyle::Docker && !shape.annotations.is_empty() {
        let what = "docker's manifests have no annotations";
        return Err(Error::usage(what, "use --format oci, or --label").into());
    }
    if shape.inline_cache {
        check_inline(&shape)?;
    }
    Ok(ResultFlags {
        cache,
        registry,
        shape,
        names: kept,
        outputs,
        shows_id: shows_id || !tags.is_empty(),
        iidfile: args.path("iidfile"),
        metadata_file: args.path("metadata-file"),
    })
}

/// What an image's own cache needs: a place in its manifest, and the steps' layers as they are.
fn check_inline(shape: &Shape) -> Result<(), Error> {
    let why = match shape {
        Shape { style: ManifestStyle::Docker, .. } => "docker's manifests have no room for it",
        Shape { squash: Squash::New | Squash::All, .. } => "the steps' layers are made one",
        Shape { clock: Clock::Fixed(_) | Clock::Epoch { files: true, .. }, .. } => {
            "the steps' layers get other times"
        }
        _ => return Ok(()),
    };
    let what = format!("an image cannot be a cache of its steps (--cache-to type=inline): {why}");
    Err(Error::usage(what, "use --cache-to type=registry,ref=NAME"))
}

fn shape(args: &ArgMatches, build_args: &mut BTreeMap<String, String>) -> anyhow::Result<Shape> {
    let label = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok::<_, Invalid>((name.to_owned(), value.to_owned()))
    };
    let name = |text: &str| parse::nonempty(text);
    let mut labels: BTreeMap<String, String> = args.each("label", label)?.into_iter().collect();
    if args.on("identity-label") {
        labels.insert(IDENTITY.into(), env!("CARGO_PKG_VERSION").into());
    }
    Ok(Shape {
        style: args.filled("format", style)?.unwrap_or_default(),
        annotations: args.each("annotation", annotation)?.into_iter().collect(),
        labels,
        env: create_flags::env(args, &Host::here())?,
        unset_env: args.each("unsetenv", name)?,
        unset_labels: args.each("unsetlabel", name)?,
        squash: match (args.on("squash") || build_habit_flags::without_layers(args), args.on("squash-all")) {
            (_, true) => Squash::All,
            (true, false) => Squash::New,
            (false, false) => Squash::Nothing,
        },
        omit_history: args.on("omit-history"),
        clock: clock(args, build_args)?,
        inline_cache: false,
    })
}

fn style(text: &str) -> Result<ManifestStyle, Invalid> {
    match text {
        "oci" => Ok(ManifestStyle::Oci),
        "docker" => Ok(ManifestStyle::Docker),
        _ => Err(Invalid::unknown("format", text, &["oci", "docker"])),
    }
}

/// Which time the image tells.
fn clock(args: &ArgMatches, build_args: &mut BTreeMap<String, String>) -> Result<Clock, Error> {
    let seconds = |text: &str| match text.parse::<i64>() {
        Ok(seconds) if seconds >= 0 => Ok(seconds),
        _ => Err(Invalid::new("expected seconds since 1970")),
    };
    let fixed = args.filled("timestamp", seconds)?;
    let given = args.filled("source-date-epoch", seconds)?;
    if let (Some(_), Some(_)) = (fixed, given) {
        let what = "--timestamp and --source-date-epoch exclude each other";
        return Err(Error::usage(what, "leave out one of them"));
    }
    let rewrite = args.on("rewrite-timestamp");
    if let Some(seconds) = fixed {
        return Ok(Clock::Fixed(seconds));
    }
    // As buildx: what the user's environment says is a build argument, unless there is one.
    let text = match (given, build_args.get(EPOCH)) {
        (Some(seconds), _) => seconds.to_string(),
        (None, Some(text)) => text.clone(),
        (None, None) => std::env::var(EPOCH).unwrap_or_default(),
    };
    if text.is_empty() {
        if rewrite {
            output::warn(&format!(
                "--rewrite-timestamp without --source-date-epoch or ${EPOCH} changes nothing"
            ));
        }
        return Ok(Clock::Real);
    }
    let invalid = |invalid: Invalid| {
        Error::usage(
            format!("{EPOCH}={text}: {}", invalid.why),
            "set it to a number, as 'date +%s' writes it",
        )
    };
    let seconds = seconds(&text).map_err(invalid)?;
    build_args.entry(EPOCH.into()).or_insert(text);
    Ok(Clock::Epoch { seconds, files: rewrite })
}

/// buildx's `[PLACE[,PLACE]:]NAME=VALUE`; a manifest is the only place that there is in an image for one platform.
pub fn annotation(text: &str) -> Result<(String, String), Invalid> {
    let (mut name, value) = text.split_once('=').ok_or_else(|| Invalid::new("expected NAME=VALUE"))?;
    if let Some((places, rest)) = name.split_once(':') {
        let word = |place: &str| place.split('[').next().unwrap_or_default().to_owned();
        let known = ["manifest", "index", "manifest-descriptor", "index-descriptor"];
        if places.split(',').all(|place| known.contains(&word(place).as_str())) {
            if let Some(other) = places.split(',').find(|place| *place != "manifest") {
                return Err(match other.ends_with(']') {
                    true => Invalid::new("an image is built for one platform only"),
                    false => Invalid::new(format!("an image for one platform has no {other} to annotate")),
                }
                .fix("leave it out, or say 'manifest:'"));
            }
            name = rest;
        }
    }
    match name.is_empty() {
        true => Err(Invalid::new("it has no name")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

impl ResultFlags {
    /// Standard output as it is, for an archive; if one goes there, all that is said goes to standard error from now on.
    pub fn take_stdout(&self) -> anyhow::Result<File> {
        let stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        let is_taken = self.outputs.iter().any(|output| {
            matches!(output, Output::Archive { target: Target::Stdout, .. } | Output::Tar(Target::Stdout))
        });
        if is_taken {
            process::replace_stdio(std::io::stderr().as_fd(), 1)?;
        }
        Ok(stdout)
    }

    /// Brings the image to where it is to be, and says what it is. The caller has one thread and holds an image pin.
    pub fn carry_out(
        &self,
        engine: &Engine,
        built: &Built,
        stdout: &File,
        quiet: bool,
        screen: &mut dyn Progress,
    ) -> anyhow::Result<()> {
        let made = &built.image;
        let before = RefCell::new(String::new());
        let export = Export {
            paths: &engine.paths,
            identity: &engine.identity,
            stdout,
            registry: &self.registry,
            time: self.shape.clock.of_output(),
            progress: &|what| output::progress::progress_after(&before.borrow(), what, quiet),
        };
        let mut digest = self.names.as_ref().map(|_| Digest::of(&made.manifest));
        for output in &self.outputs {
            let written = around(screen, &output.step_name(), |progress, step| {
                match output {
                    // They say nothing.
                    Output::Tar(_) | Output::Folder(_) => progress.on(Event::Tick),
                    _ => drop(before.replace(progress.hand_over(step))),
                }
                export.write(made, output)
            });
            digest = written?.or(digest);
        }
        self.cache.write(built, &mut |place, steps| {
            let name = match place {
                CachePlace::Folder(_) => "exporting cache to client directory",
                CachePlace::Registry(_) => "exporting cache to registry",
            };
            around(screen, name, |progress, step| {
                before.replace(progress.hand_over(step));
                export.cache(place, steps)
            })
        })?;
        if let Some(path) = &self.iidfile {
            std::fs::write(path, made.id().to_string()).map_err(Error::file("write", path))?;
        }
        if let Some(path) = &self.metadata_file {
            let text = format!("{:#}\n", self.metadata(made, digest));
            std::fs::write(path, text).map_err(Error::file("write", path))?;
        }
        Ok(())
    }

    /// What was made, under BuildKit's keys.
    fn metadata(&self, made: &Documents, digest: Option<Digest>) -> Value {
        let mut all = Map::new();
        let mut set = |key: &str, value: Value| all.insert(key.to_owned(), value);
        if let Some(digest) = digest {
            set("containerimage.config.digest", json!(made.id()));
            set("containerimage.digest", json!(digest));
        }
        if digest == Some(Digest::of(&made.manifest)) {
            let manifest: Value = serde_json::from_slice(&made.manifest).unwrap_or_default();
            let mut descriptor = json!({
                "mediaType": manifest["mediaType"], "digest": digest, "size": made.manifest.len(),
            });
            if let Some(annotations) = manifest.get("annotations") {
                descriptor["annotations"] = annotations.clone();
            }
            set("containerimage.descriptor", descriptor);
        }
        let names = |output: &Output| match output {
            Output::Push(requests) => requests.iter().map(|request| request.image.clone()).collect(),
            Output::Archive { names, .. } | Output::Layout { names, .. } => {
                names.iter().map(ToString::to_string).collect()
            }
            Output::Tar(_) | Output::Folder(_) => Vec::new(),
        };
        let mut known: Vec<String> = self.names.iter().flatten().map(ToString::to_string).collect();
        known.extend(self.outputs.iter().flat_map(names));
        known.sort();
        known.dedup();
        if !known.is_empty() {
            set("image.name", known.join(",").into());
        }
        all.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::ENTRY;
    use super::super::dispatch::parse_for_test;
    use super::*;

    fn of(words: &[&str]) -> anyhow::Result<ResultFlags> {
        options(&parse_for_test(&ENTRY, &[words, &["."]].concat())?, &mut BTreeMap::new())
    }

    #[test]
    fn outputs_say_where_the_result_goes_and_whether_it_is_kept() {
        let kept = |flags: &ResultFlags| {
            flags.names.as_ref().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let plain = of(&["-t", "a"]).unwrap();
        assert_eq!(kept(&plain), Some(vec!["localhost/a:latest".into()]));
        assert!(plain.outputs.is_empty() && plain.shows_id);
        let local = of(&["-o", "out"]).unwrap();
        assert!(matches!(&local.outputs[..], [Output::Folder(path)] if path.as_os_str() == "out"));
        assert!(local.names.is_none() && !local.shows_id);
        assert_eq!(kept(&of(&["-o", "out", "-t", "a"]).unwrap()), Some(vec!["localhost/a:latest".into()]));
        let archive = of(&["-o", "type=oci,dest=x.tar,\"name=r.io/a,r.io/b\""]).unwrap();
        assert!(archive.names.is_none() && archive.shows_id);
        assert!(matches!(
            &archive.outputs[..],
            [Output::Archive { docker: false, names, target: Target::File(_) }] if names.len() == 2
        ));
        let both = of(&["--push", "--load", "-t", "r.io/a", "-o", "type=local,dest=x"]).unwrap();
        assert_eq!((kept(&both), both.outputs.len()), (Some(vec!["r.io/a:latest".into()]), 2));
        assert_eq!(of(&["-o", "type=docker,name=a"]).unwrap().names.unwrap().len(), 1);
        assert!(of(&["-o", "type=cacheonly"]).unwrap().names.is_none());
        assert!(matches!(
            &of(&["-o", "type=oci,tar=false,dest=d"]).unwrap().outputs[..],
            [Output::Layout { .. }]
        ));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_done() {
        for words in [
            &["-o", "type=zip,dest=x"][..],
            &["-o", "dest=x"],
            &["-o", "type=local"],
            &["-o", "type=local,dest=-"],
            &["-o", "type=local,dest=x,push=true"],
            &["-o", "type=oci,tar=false"],
            &["-o", "type=image,unknown=1"],
            &["-o", "type=image,compression=xz"],
            &["-o", "type=tar,dest=-", "-o", "type=oci,dest=-"],
            &["--push"],
            &["--push", "-t", "short"],
            &["--annotation", "index:a=b"],
            &["--annotation", "manifest[linux/arm64]:a=b"],
            &["--annotation", "a"],
            &["--annotation", "a=b", "--format", "docker"],
            &["--format", "v2s1"],
            &["--timestamp", "1", "--source-date-epoch", "1"],
            &["--timestamp", "yesterday"],
            &["--unsetenv", ""],
        ] {
            assert!(of(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn annotations_may_say_that_they_are_the_manifests() {
        let flags = of(&[
            "--annotation",
            "manifest:a=b=c",
            "--annotation",
            "x:y=z",
            "-o",
            "type=image,annotation.q=r",
        ]);
        let flags = flags.unwrap();
        let expected = [("a", "b=c"), ("q", "r"), ("x:y", "z")];
        assert_eq!(flags.shape.annotations, expected.map(|(k, v)| (k.into(), v.into())).into());
    }

    #[test]
    fn a_time_is_found_in_the_flags_first() {
        let mut args = BTreeMap::from([(EPOCH.to_owned(), "7".to_owned())]);
        let mut clock = |words: &[&str]| {
            let matches = parse_for_test(&ENTRY, &[words, &["."]].concat()).unwrap();
            options(&matches, &mut args).unwrap().shape.clock
        };
        assert_eq!(clock(&["--timestamp", "5"]), Clock::Fixed(5));
        assert_eq!(clock(&["--source-date-epoch", "6"]), Clock::Epoch { seconds: 6, files: false });
        assert_eq!(clock(&["--rewrite-timestamp"]), Clock::Epoch { seconds: 7, files: true });
        assert_eq!(
            clock(&["-o", "type=image,rewrite-timestamp=true"]),
            Clock::Epoch { seconds: 7, files: true }
        );
    }
}
