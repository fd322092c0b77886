//! What is unwise in a Dockerfile: `build --check`, and the warnings of every build.

use super::Error;
use super::build::BuildFlags;
use super::engine::Engine;
use super::stores::Stores;
use crate::build::dockerfile::Dockerfile;
use crate::build::ignore::Ignore;
use crate::build::lint::{self, BaseImage, Facts, Options, Report};
use crate::build::{self, Needed};
use crate::image::{Image, Platform};
use crate::output;

/// What the checks know of a build.
pub struct Checked<'a> {
    /// The Dockerfile.
    pub file: &'a Dockerfile,
    /// `.dockerignore`.
    pub ignore: &'a Ignore,
    /// What the image is for.
    pub platform: &'a Platform,
    /// Which stages are looked at.
    pub stages: &'a dyn Fn(usize) -> bool,
}

/// The directive of the file, or what `--build-arg` says instead.
fn options_of(flags: &BuildFlags, file: &Dockerfile) -> Result<Options, Error> {
    let options = match flags.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        Some(text) => Options::parse(text),
        None => Options::of_file(file),
    };
    options
        .map_err(|what| Error::usage(what, "the options are skip=RULE,…, experimental=RULE,… and error=true"))
}

fn report(
    flags: &BuildFlags,
    checked: &Checked<'_>,
    options: &Options,
    image: &dyn Fn(&str, &Platform) -> Option<Image>,
) -> Report {
    let host = Platform::host();
    let base = |name: &str, platform: &Platform| {
        let config = image(name, platform)?.config;
        let pairs = config.config.env.iter().filter_map(|entry| entry.split_once('='));
        Some(BaseImage {
            environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            has_shell: config.config.shell.is_some(),
            platform: (!config.os.is_empty() && !config.architecture.is_empty()).then(|| Platform {
                os: config.os.clone(),
                architecture: config.architecture.clone(),
                variant: config.variant.clone(),
            }),
        })
    };
    let facts = Facts {
        build: &host,
        target_platform: checked.platform,
        target: flags.target.as_deref(),
        build_args: &flags.build_args,
        ignore: Some(checked.ignore),
        stages: checked.stages,
        base: &base,
    };
    lint::check(checked.file, options, &facts)
}

/// The warnings of a build that has its images; an error if they are to be errors. What is wrong beyond that the build
/// itself says.
pub fn warnings(
    flags: &BuildFlags,
    checked: &Checked<'_>,
    images: &[(Needed, Image)],
    screen: &mut output::build::Screen,
) -> anyhow::Result<Vec<lint::Warning>> {
    let options = options_of(flags, checked.file)?;
    let image = |name: &str, platform: &Platform| {
        let is_meant =
            |needed: &Needed| needed.name == name && needed.platform.as_ref().is_none_or(|p| p == platform);
        images.iter().find(|(needed, _)| is_meant(needed)).map(|(_, image)| image.clone())
    };
    let report = report(flags, checked, &options, &image);
    match report.violation() {
        Some(violation) if options.error => {
            screen.warnings(&checked.file.source, &report.warnings);
            Err(build::Error::Check(violation).into())
        }
        _ => Ok(report.warnings),
    }
}

/// `--check`: nothing is built, and nothing pulled, so that of a base image that is not here nothing is known. As docker's,
/// it ends with 1 if there is anything to say.
pub fn check(engine: &Engine, flags: &BuildFlags, checked: &Checked<'_>) -> anyhow::Result<u8> {
    let options = options_of(flags, checked.file)?;
    let stores = Stores::open(engine);
    let image = |name: &str, platform: &Platform| {
        stores.images.resolve(name).ok().filter(|image| platform.accepts(&image.platform()))
    };
    let report = report(flags, checked, &options, &image);
    let (source, warnings) = (&checked.file.source, &report.warnings);
    let mut text = match warnings.len() {
        0 if report.error.is_none() => "Check complete, no warnings found.\n".to_owned(),
        0 => String::new(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        text.push('\n');
        text += &output::build::shown_lines(&warning.page(source));
    }
    output::print(&text)?;
    match report.error {
        Some(problem) => Err(build::Error::from(problem).into()),
        None => Ok(u8::from(!warnings.is_empty())),
    }
}
