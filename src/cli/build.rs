//! `coracle build`.

use super::args::{Given, list, operands, option, optional, switch};
use super::build_cache;
use super::build_call::{self, Call};
use super::build_check::{self, Checked};
use super::build_habit_flags;
use super::build_material::{ContextFlag, Material};
use super::build_output::{self, ResultFlags};
use super::build_run_flags;
use super::engine::Engine;
use super::image_options::{ImageOptions, PullPolicy, platform, platform_flags};
use super::import::local_name;
use super::registry_flags;
use super::stores::{self, Stores};
use super::{Action, Context, Entry, Error, builder, parse};
use crate::build::cache::Policy;
use crate::build::dockerfile::scope::{self, BuildArgs, Globals, PROXY_ARGS};
use crate::build::dockerfile::{self, Source};
use crate::build::lint::Warning;
use crate::build::progress::Progress;
use crate::build::{self, BuildOptions, Built, Graph, Keeper, RunOptions, outline};
use crate::container::create::ownership;
use crate::digest::Digest;
use crate::image::{self, ImageStore, Platform, Reference, Sources};
use crate::layers::LayerStore;
use crate::output::build::{Form, Screen};
use crate::{network, output};
use clap::{ArgMatches, Command};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;

/// `coracle build`.
pub const ENTRY: Entry = Entry {
    name: "build",
    aliases: &[],
    about: "Build an image from a Dockerfile",
    usage: "[OPTIONS] FOLDER|URL|-",
    action: Action::Leaf { define, unsupported: UNSUPPORTED, run },
};

const UNSUPPORTED: &[&str] = &[
    "all-platforms",
    "cache-ttl",
    "cpp-flag",
    "cw",
    "debug,D",
    "decryption-key",
    "disable-compression",
    "hooks-dir",
    "inherit-annotations",
    "inherit-labels",
    "layer-label",
    "logfile",
    "logsplit",
    "os-feature",
    "os-version",
    "runtime",
    "runtime-flag",
    "sign-by",
    "signature-policy",
    "skip-unused-stages",
    "stdin",
];

/// What `build` is asked for.
#[derive(Clone, Debug)]
pub struct BuildFlags {
    /// The context: a folder, a URL, a git repository, or `-` for standard input.
    pub context: PathBuf,
    /// `--build-context`: more of them.
    pub contexts: Vec<ContextFlag>,
    /// `--ignorefile`: what is left out of the context, in place of `.dockerignore`.
    pub ignore_file: Option<PathBuf>,
    /// `--from`: what the first FROM names instead.
    pub from: Option<String>,
    /// `-f`: the Dockerfile; `-` is standard input.
    pub file: Option<PathBuf>,
    /// `--target`: the stage.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BuildArgs,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`, `--no-cache=STAGE`: stages.
    pub no_cache_filter: Vec<String>,
    /// `--jobs`.
    pub jobs: usize,
    /// `--progress`, `-q`.
    pub form: Form,
    /// `--call`, `--check`.
    pub call: Call,
    /// `--pull`, `--platform`, `-q`.
    pub image: ImageOptions,
    /// `--manifest`: the list to which the image is added.
    pub manifest: Option<Reference>,
    /// What becomes of the result.
    pub result: ResultFlags,
}

fn define(command: Command) -> Command {
    let command = build_call::define(build_cache::define(build_output::define(command))).args([
        list("build-arg", "NAME[=VALUE]").help("Set a variable that the Dockerfile declares with ARG"),
        list("build-context", "NAME=FOLDER|URL").help(
            "Let FROM and --from find this under NAME: a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], \
             a git repository, a URL",
        ),
        option("file", "FILE").short('f').help("Read the Dockerfile from FILE (default: FOLDER/Dockerfile)"),
        option("from", "IMAGE").help("Let the first FROM of the Dockerfile name IMAGE"),
        switch("http-proxy").help("Pass the proxy variables of this shell on to RUN, as --build-arg does (default false)"),
        option("ignorefile", "FILE").help("Read what is left out of the context from FILE, not from .dockerignore"),
        option("jobs", "COUNT").help("Build so many stages at the same time (default: one per processor)"),
        option("manifest", "LIST").help("Add the image to a list, which is made if it is not there"),
        optional("no-cache", "STAGE").help("Carry out every step, or every step of STAGE, whatever earlier builds have made"),
        list("no-cache-filter", "STAGE").help("Carry out every step of this stage"),
        option("platform", "OS/ARCH").help("Choose this platform of images that have several"),
        option("progress", "FORM").help(
            "Show the build as auto, plain (lines), tty (live), json (also rawjson) or quiet (also none)",
        ),
        switch("pull").help("Ask the registry for newer base images"),
        switch("quiet").short('q').help("Show nothing but the image's id"),
        option("target", "STAGE").help("Build this stage of the Dockerfile, not the last one"),
        operands("CONTEXT", 1),
    ]);
    let command = command.args(platform_flags());
    let command = command
        .next_help_heading("Registries")
        .args(registry_flags::flags())
        .args(registry_flags::retry_flags());
    build_habit_flags::define(build_run_flags::define(command)).next_help_heading(None::<&str>)
}

/// What the flags ask for.
pub fn options(args: &ArgMatches) -> anyhow::Result<BuildFlags> {
    build_habit_flags::check(args)?;
    let context = args.operands().into_iter().next().unwrap_or_default();
    let argument = |text: &str| match text.split_once('=') {
        Some(("", _)) => Err(parse::Invalid::new("it has no name")),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        // docker: what the environment does not have is not given.
        None => Ok((text.to_owned(), std::env::var(text).ok())),
    };
    let stages = |text: &str| Ok::<_, parse::Invalid>(text.split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut no_cache_filter = args.each("no-cache-filter", stages)?.concat();
    let no_cache = args.text("no-cache").is_some_and(|text| {
        parse::boolean(text).unwrap_or_else(|_| {
            no_cache_filter.extend(text.split(',').map(str::to_owned));
            false
        })
    });
    if no_cache && !no_cache_filter.is_empty() {
        let what = "--no-cache and --no-cache-filter cannot be used together";
        return Err(Error::usage(what, "--no-cache is for all stages").into());
    }
    let form = match args.parsed("progress", form)? {
        _ if args.on("quiet") => Form::Quiet,
        Some(Form::Live) if !std::io::stderr().is_terminal() => {
            return Err(Error::usage("--progress tty needs a terminal as standard error", "use plain").into());
        }
        form => form.unwrap_or_default(),
    };
    let given = args.each("build-arg", argument)?.into_iter();
    let mut build_args: BuildArgs = given.filter_map(|(name, value)| Some((name, value?))).collect();
    if args.on("http-proxy") {
        for name in PROXY_ARGS {
            if let (false, Ok(value)) = (build_args.contains_key(name), std::env::var(name)) {
                build_args.insert(name.to_owned(), value);
            }
        }
    }
    let result = build_output::options(args, &mut build_args)?;
    Ok(BuildFlags {
        context: context.into(),
        contexts: args.each("build-context", ContextFlag::parse)?,
        ignore_file: args.path("ignorefile"),
        from: args.text("from").filter(|name| !name.is_empty()).map(str::to_owned),
        file: args.path("file"),
        target: args.text("target").filter(|target| !target.is_empty()).map(str::to_owned),
        build_args,
        no_cache: no_cache || build_habit_flags::without_layers(args),
        no_cache_filter,
        jobs: args.parsed("jobs", jobs)?.unwrap_or_else(processors),
        form,
        call: build_call::options(args)?,
        image: ImageOptions {
            policy: args.on("pull").then_some(PullPolicy::Always),
            platform: platform(args)?,
            registry: result.registry.clone(),
            quiet: matches!(form, Form::Quiet | Form::Json),
        },
        manifest: args.text("manifest").map(local_name).transpose()?,
        result,
    })
}

/// How a build is shown.
fn form(text: &str) -> Result<Form, parse::Invalid> {
    match text {
        "auto" => Ok(Form::Auto),
        "plain" => Ok(Form::Plain),
        "tty" => Ok(Form::Live),
        "json" | "rawjson" => Ok(Form::Json),
        "quiet" | "none" => Ok(Form::Quiet),
        _ => Err(parse::Invalid::new("expected auto, plain, tty, json, rawjson, quiet or none")),
    }
}

/// As podman's, 0 is as many as there are.
fn jobs(text: &str) -> Result<usize, parse::Invalid> {
    match text.parse() {
        Ok(0) => Ok(usize::MAX),
        Ok(count) => Ok(count),
        Err(_) => Err(parse::Invalid::new("expected how many")),
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The stages of `--no-cache-filter` and `--no-cache=STAGE`. A name that is none is none of this Dockerfile, as in docker.
fn stages_named(file: &dockerfile::Dockerfile, names: &[String]) -> BTreeSet<usize> {
    let count = file.stages.len();
    let mut found = BTreeSet::new();
    for name in names {
        match file.find_stage(name, count) {
            Some(stage) => drop(found.insert(stage)),
            None => output::warn(&format!(
                "there is no stage '{name}' in the Dockerfile to be built without the cache"
            )),
        }
    }
    found
}

/// `--manifest`. The caller holds a pin: without a name, nothing else keeps the image.
fn add_to_list(engine: &Engine, id: Digest, name: &Reference) -> anyhow::Result<()> {
    let Stores { images, layers } = Stores::open(engine);
    let image = images.by_id(id)?.ok_or_else(|| image::Error::NotFound(id.to_string()))?;
    let sources = Sources { images: &images, layers: &layers, options: Default::default(), all: false };
    let entry = sources.local(&id.to_string(), &image)?;
    let list = images.create_list(name, true)?;
    images.change_list(&list.name, |list| {
        list.add(entry);
        Ok(())
    })?;
    Ok(())
}

fn run(context: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let flags = options(args)?;
    let stdout = flags.result.take_stdout()?;
    let engine = Engine::open(context)?;
    let store = LayerStore::open(&engine.paths, ownership(&engine.identity));
    let run = build_run_flags::options(args)?;
    if flags.call != Call::Build {
        return answer(&engine, &store, &flags);
    }
    let budget = builder::budget(&engine)?;
    let mut keeper = None;
    let built = build_all(&engine, &store, &flags, run, &stdout, &mut keeper);
    let settled = stores::in_child(&engine, |stores: &Stores| {
        stores::settle_after(stores, &engine, || {
            // The next build tries again.
            let _ = stores::prune_cache(&engine, stores, &Policy::budget(budget));
        });
        Ok(())
    });
    drop(keeper);
    let built = built?;
    settled?;
    if flags.result.shows_id {
        output::print(&format!("{}\n", built.image.id()))?;
    }
    Ok(0)
}

/// What the Dockerfile says of itself.
fn answer(engine: &Engine, store: &LayerStore, flags: &BuildFlags) -> anyhow::Result<u8> {
    let plan = Plan::of(store, flags, &mut Screen::new(Form::Quiet))?;
    let (file, globals) = (&plan.file, &plan.globals);
    match flags.call {
        Call::Build | Call::Check => {
            // Without a target, all stages.
            let stages = |stage| flags.target.is_none() || plan.graph.order.contains(&stage);
            return build_check::check(engine, flags, &plan.checked(&stages));
        }
        Call::Targets(form) => {
            build_call::show_targets(&outline::targets(file, globals).map_err(build::Error::from)?, form)?;
        }
        Call::Outline(form) => {
            let outline = outline::outline(file, globals, &flags.build_args, &plan.graph);
            build_call::show_outline(&outline.map_err(build::Error::from)?, form)?;
        }
    }
    Ok(0)
}

/// What is to be built, of what.
struct Plan<'a> {
    material: Material<'a>,
    file: dockerfile::Dockerfile,
    platform: Platform,
    globals: Globals,
    graph: Graph,
}

impl<'a> Plan<'a> {
    fn of(store: &'a LayerStore, flags: &BuildFlags, progress: &mut dyn Progress) -> anyhow::Result<Self> {
        let material = Material::gather(store, flags, progress)?;
        let source = Source::from_bytes(&material.name.display().to_string(), &material.bytes);
        let file = dockerfile::parse(&source).map_err(build::Error::from)?;
        let host = Platform::host();
        let platform =
            flags.image.platform.as_deref().map(str::parse).transpose()?.unwrap_or_else(|| host.clone());
        let mut globals = Globals::new(&host, &platform, flags.target.as_deref(), &flags.build_args);
        if let Some(name) = &flags.from {
            globals.replace_first_base(name);
        }
        globals.declare(&file, &flags.build_args).map_err(build::Error::from)?;
        let graph = build::plan(&file, &globals, &material.contexts, flags.target.as_deref())?;
        Ok(Self { material, file, platform, globals, graph })
    }

    fn checked<'b>(&'b self, stages: &'b dyn Fn(usize) -> bool) -> Checked<'b> {
        Checked { file: &self.file, ignore: &self.material.ignore, platform: &self.platform, stages }
    }
}

fn build_all(
    engine: &Engine,
    store: &LayerStore,
    flags: &BuildFlags,
    run: RunOptions,
    stdout: &File,
    keeper: &mut Option<Keeper>,
) -> anyhow::Result<Built> {
    let form = match flags.form {
        Form::Live if run.shell_on_failure => {
            let what = "--progress tty and --shell-on-failure cannot be used together";
            return Err(Error::usage(what, "use plain: the terminal is the shell's").into());
        }
        Form::Auto if run.shell_on_failure => Form::Plain,
        form => form,
    };
    let mut screen = Screen::new(form);
    let mut told = None;
    let built = build_on(&mut screen, engine, store, flags, run, (stdout, keeper), &mut told);
    let failure = built.as_ref().err().and_then(|error| error.downcast_ref::<build::Error>());
    screen.finish(built.is_ok(), failure.and_then(build::Error::problem));
    if let Some((source, warnings)) = told {
        screen.warnings(&source, &warnings);
    }
    built
}

/// Builds, and brings what comes of it to where it is to be. What is unwise in the Dockerfile of an image that was made is
/// in `told`.
fn build_on(
    screen: &mut Screen,
    engine: &Engine,
    store: &LayerStore,
    flags: &BuildFlags,
    run: RunOptions,
    (stdout, keeper): (&File, &mut Option<Keeper>),
    told: &mut Option<(Source, Vec<Warning>)>,
) -> anyhow::Result<Built> {
    let plan = Plan::of(store, flags, screen)?;
    // What is pulled is shown as in 'pull'.
    screen.step_aside();
    engine.mention_single_id();
    // What follows needs it, and what is done first need not wait for it.
    let keeper = keeper.insert(Keeper::start(&engine.paths, &engine.identity));
    let pin = ImageStore::open(&engine.paths).pin()?;
    let mut images = Vec::new();
    for needed in &plan.graph.images {
        let mut how = flags.image.clone();
        if let Some(platform) = &needed.platform {
            how.platform = Some(platform.to_string());
        }
        let image = match plan.material.layouts.get(&needed.name) {
            Some(layout) => stores::from_layout(engine, layout, &how)?,
            None => stores::obtain(engine, &needed.name, &how)?,
        };
        images.push((needed.clone(), image));
    }
    let unknown = scope::unknown_build_args(&plan.file, &flags.build_args);
    if !unknown.is_empty() && !flags.image.quiet {
        output::warn(&format!("the Dockerfile has no ARG for these build arguments: {}", unknown.join(", ")));
    }
    let stages = |stage| plan.graph.order.contains(&stage);
    let warnings = build_check::warnings(flags, &plan.checked(&stages), &images, screen)?;
    let caches = flags.result.cache.open(&flags.result.registry);
    let Plan { material, file, platform, globals, graph } = plan;
    let built = build::build(
        &engine.paths,
        &engine.identity,
        &BuildOptions {
            file: &file,
            graph,
            globals,
            given: flags.build_args.clone(),
            images,
            context: material.folder.clone(),
            ignore: material.ignore.clone(),
            contexts: material.contexts.clone(),
            platform,
            no_cache: flags.no_cache,
            no_cache_stages: stages_named(&file, &flags.no_cache_filter),
            jobs: flags.jobs,
            offline: !network::is_possible(),
            shape: flags.result.shape.clone(),
            names: flags.result.names.clone(),
            run,
            caches: &caches,
        },
        keeper,
        screen,
    );
    if built.is_err() {
        // A step that did not end when it was told to has left its container.
        engine.tidy();
    }
    let built = built?;
    *told = Some((file.source.clone(), warnings));
    flags.result.carry_out(engine, &built, stdout, flags.image.quiet, screen)?;
    if let Some(list) = &flags.manifest {
        add_to_list(engine, built.image.id(), list)?;
    }
    drop(pin);
    Ok(built)
}
