//! The build: stages side by side, in each one step after the other.

mod remote;
mod report;
mod run;
mod run_mounts;
mod stages;
mod transfer;

use super::cache::{Cache, Made, key, layers_text};
use super::context::{self, Context, Owners, Tree};
use super::dockerfile::ast;
use super::dockerfile::scope::{BuildArgs, Globals};
use super::dockerfile::{Dockerfile, Instruction, Kind, Problem, Source, Span, parse_trigger};
use super::graph::{Base, Graph, Needed};
use super::ignore::Ignore;
use super::metadata::{Reading, Settings};
use super::mounts::secret::SecretSource;
use super::named::Contexts;
use super::output::Shape;
use super::progress::{self, Event, Outcome, Progress, StepKind};
use super::shared_network::SharedNetwork;
use super::transfer::{Transfer, Transferred};
use super::{Error, Keeper, job};
use crate::container::create::ownership;
use crate::container::request::CreateRequest;
use crate::container::session::Failure;
use crate::digest::Digest;
use crate::image::{
    CachedStep, DEFAULT_PATH, Documents, History, Image, ImageConfig, ImageStore, Platform, Reference,
    RunConfig, StepCache, Steps,
};
use crate::layers::LayerStore;
use crate::state::Paths;
use crate::timestamp::Timestamp;
use crate::userns::Identity;
use report::{Reporter, Said};
use serde::{Deserialize, Serialize};
use stages::Stages;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// As BuildKit marks what it wrote into a history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// The name of the main context, which nothing else can have.
const MAIN: &str = "";

/// What is to be built, and how.
pub struct BuildOptions<'a> {
    /// The Dockerfile.
    pub file: &'a Dockerfile,
    /// What of it.
    pub graph: Graph,
    /// Its global variables.
    pub globals: Globals,
    /// `--build-arg`.
    pub given: BuildArgs,
    /// The images that the graph needs, their layers there and a pin held.
    pub images: Vec<(Needed, Image)>,
    /// The context.
    pub context: PathBuf,
    /// `.dockerignore`.
    pub ignore: Ignore,
    /// `--build-context`.
    pub contexts: Contexts,
    /// What the image is for, if it is built from scratch.
    pub platform: Platform,
    /// Nothing is taken from the cache that was there before.
    pub no_cache: bool,
    /// The same for these stages.
    pub no_cache_stages: BTreeSet<usize>,
    /// So many stages are built at the same time.
    pub jobs: usize,
    /// Containers have no network, since there can be none.
    pub offline: bool,
    /// What becomes of the result.
    pub shape: Shape,
    /// The names under which the image is kept; if there are none at all, it is not.
    pub names: Option<Vec<Reference>>,
    /// What RUN may use.
    pub run: RunOptions,
    /// Caches of other machines.
    pub caches: &'a [StepCache],
}

/// What the containers of RUN are given.
#[derive(Default)]
pub struct RunOptions {
    /// `--network`, `--add-host`, `--ulimit`, limits and the like.
    pub container: CreateRequest,
    /// `--allow network.host`: a Dockerfile may ask for the host's network.
    pub host_network: bool,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: the sockets of agents by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// `--shell-on-failure`.
    pub shell_on_failure: bool,
}

/// What a build has made.
pub struct Built {
    /// The image.
    pub image: Documents,
    /// What its steps made.
    pub steps: Steps,
    /// Those of them whose layers are in the image.
    pub own_steps: Steps,
}

/// Builds. The caller has one thread, is not in the user's namespace, and holds an image pin since before
/// it had the images.
pub fn build(
    paths: &Paths,
    identity: &Identity,
    options: &BuildOptions<'_>,
    keeper: &mut Keeper,
    progress: &mut dyn Progress,
) -> Result<Built, Error> {
    let open = |path: &Path, ignore: &Ignore| {
        let context = Context::open(paths, path, ignore.clone(), Owners::All(0, 0))?;
        Ok::<_, Error>(Place { path: path.to_owned(), context })
    };
    let mut places = BTreeMap::from([(MAIN.to_owned(), open(&options.context, &options.ignore)?)]);
    for (name, path, ignore) in options.contexts.folders() {
        places.insert(name.to_owned(), open(path, ignore)?);
    }
    let layers = LayerStore::open(paths, ownership(identity));
    let mut builder = Builder {
        paths,
        identity,
        options,
        layers: &layers,
        cache: Cache::open(paths)?.with(paths, identity, options.caches),
        places,
        done: BTreeMap::new(),
        totals: Vec::new(),
        began: Timestamp::now().to_string(),
        step: 0,
        keeper,
        reporter: None,
        shared_network: None,
    };
    builder.totals = (0..options.graph.bases.len()).map(|at| builder.steps_of(at)).collect();
    let stage = Stages::new(&mut builder, progress).run()?;
    let mut steps = stage.steps.clone();
    steps.extend(builder.done.values().flat_map(|other| other.steps.clone()));
    let is_own = |step: &CachedStep| step.layer.is_none_or(|layer| stage.layers().contains(&layer));
    let own_steps: Steps = steps.clone().into_iter().filter(|(_, step)| is_own(step)).collect();
    let mut config = stage.image;
    config.config = stage.settings.config;
    config.author = stage.settings.author;
    let base = base_of(options);
    let make = || {
        job::as_root(paths, identity, |layers| {
            let cache = Cache::open(paths).map_err(|e| Failure::of(&e))?;
            let made = options.shape.make(config, base, &own_steps, layers, &cache);
            let made = made.map_err(|e| Failure::of(&e))?;
            if let Some(names) = &options.names {
                made.store(names, &ImageStore::open(paths)).map_err(|e| Failure::of(&e))?;
            }
            Ok(made)
        })
    };
    let image = export(options, progress, make)?;
    Ok(Built { image, steps, own_steps })
}

/// Shows the making of the image, if there is anything to see.
fn export(
    options: &BuildOptions<'_>,
    progress: &mut dyn Progress,
    make: impl FnOnce() -> Result<Documents, Error>,
) -> Result<Documents, Error> {
    let changes_layers = options.shape.changes_layers();
    if options.names.is_none() && !changes_layers {
        return make();
    }
    fn note(progress: &mut dyn Progress, step: usize, text: &str) {
        progress.on(Event::Note { step, text, bytes: None });
    }
    progress::around(progress, "exporting to image", |progress, step| {
        if changes_layers {
            note(progress, step, "exporting layers");
            progress.on(Event::Tick);
        }
        let made = make()?;
        if let Some(names) = &options.names {
            note(progress, step, &format!("writing image {}", made.id()));
            for name in names {
                note(progress, step, &format!("naming to {name}"));
            }
        }
        Ok(made)
    })
}

/// The image that the target is built over, by way of other stages perhaps.
fn base_of<'a>(options: &'a BuildOptions<'_>) -> Option<&'a ImageConfig> {
    let mut at = *options.graph.order.last()?;
    loop {
        match &options.graph.bases[at] {
            Base::Scratch | Base::Folder(_) => return None,
            Base::Stage(earlier) => at = *earlier,
            Base::Image(needed) => {
                return options
                    .images
                    .iter()
                    .find(|(need, _)| need == needed)
                    .map(|(_, image)| &image.config);
            }
        }
    }
}

/// A stage at one place in it.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Stage {
    /// Layers, history and what the base says about itself; how it is run is in the settings.
    image: ImageConfig,
    settings: Settings,
    /// What its steps made, by their keys.
    steps: Steps,
}

impl Stage {
    fn layers(&self) -> &[Digest] {
        &self.image.rootfs.diff_ids
    }

    /// Notes a step: its layer, if it has made one, and its line of history.
    fn add(&mut self, created_by: String, made: Option<Made>) {
        let layer = made.as_ref().and_then(|made| made.layer);
        if let Some(Made { created, key, .. }) = made {
            self.steps.extend(key.map(|key| (key, CachedStep { layer, created: created.clone() })));
            self.image.created = Some(created);
        }
        self.image.rootfs.diff_ids.extend(layer);
        self.image.history.push(History {
            created: self.image.created.clone(),
            created_by,
            comment: COMMENT.into(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
    }
}

/// A folder of the host.
struct Place {
    path: PathBuf,
    context: Context,
}

struct Builder<'a> {
    paths: &'a Paths,
    identity: &'a Identity,
    options: &'a BuildOptions<'a>,
    layers: &'a LayerStore,
    cache: Cache<'a>,
    /// The folders that are copied from, by the names of their contexts; the main one is [`MAIN`].
    places: BTreeMap<String, Place>,
    done: BTreeMap<usize, Stage>,
    /// By stage: how many steps it has; none if it is not built.
    totals: Vec<usize>,
    /// When the build began.
    began: String,
    /// How many steps of the stage have begun.
    step: usize,
    keeper: &'a mut Keeper,
    /// Where a stage says how it goes.
    reporter: Option<Arc<Reporter>>,
    /// What a stage's steps share.
    shared_network: Option<SharedNetwork>,
}

impl Builder<'_> {
    /// How many steps a stage has, those that its base adds by ONBUILD included.
    fn steps_of(&self, at: usize) -> usize {
        let (graph, file) = (&self.options.graph, self.options.file);
        if !graph.order.contains(&at) {
            return 0;
        }
        let (base, triggers) = match &graph.bases[at] {
            Base::Scratch => (0, Vec::new()),
            Base::Folder(_) => (1, Vec::new()),
            Base::Image(needed) => {
                let image = self.image(&needed.name, needed.platform.as_ref());
                (1, image.map(|image| image.config.config.on_build.clone()).unwrap_or_default())
            }
            Base::Stage(earlier) => {
                let instructions = file.stages[*earlier].instructions.iter();
                let triggers = instructions.filter_map(|instruction| match &instruction.kind {
                    Kind::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
                    _ => None,
                });
                (0, triggers.collect())
            }
        };
        let added = triggers.iter().filter_map(|trigger| parse_trigger(trigger).ok());
        let added = added.filter(|(_, instruction)| is_step(&instruction.kind)).count();
        let own = file.stages[at].instructions.iter().filter(|instruction| is_step(&instruction.kind));
        base + added + own.count()
    }

    fn say(&self, said: &Said) -> io::Result<()> {
        self.reporter.as_ref().map_or(Ok(()), |reporter| reporter.say(said))
    }

    /// Says that a step of the stage begins, named as BuildKit names it.
    fn begin(&mut self, at: usize, text: &str) {
        self.step += 1;
        let total = self.totals[at];
        let stages = &self.options.file.stages;
        let stage = match stages[at].name() {
            Some(name) => format!("{name} "),
            None if stages.len() == 1 => String::new(),
            None => format!("stage-{at} "),
        };
        let width = total.to_string().len();
        let name = format!("[{stage}{:width$}/{total}] {text}", self.step);
        // The builder is gone if it does not listen, and this process ends with it.
        let _ = self.say(&Said::Begun(StepKind::Instruction, name));
    }

    /// Passes on what a step says.
    fn output(&self, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        self.reporter.as_ref().map_or(Ok(()), |reporter| reporter.output(is_error, bytes))
    }

    fn end(&self, outcome: Outcome) {
        let _ = self.say(&Said::Ended(outcome));
    }

    fn image(&self, name: &str, platform: Option<&Platform>) -> Option<&Image> {
        let mut images = self.options.images.iter();
        images
            .find(|(need, _)| need.name == name && need.platform.as_ref() == platform)
            .map(|(_, image)| image)
    }

    /// A stage on nothing, which BuildKit gives a search path and a folder.
    fn nothing(&self) -> Stage {
        let Platform { os, architecture, variant } = self.options.platform.clone();
        let image = ImageConfig { os, architecture, variant, ..ImageConfig::default() };
        let config = RunConfig {
            env: vec![DEFAULT_PATH.to_owned()],
            working_dir: "/".to_owned(),
            ..RunConfig::default()
        };
        Stage { image, settings: Settings::of(config), ..Stage::default() }
    }

    fn stage(&mut self, at: usize) -> Result<Stage, Error> {
        let options = self.options;
        let file = options.file;
        let of_file = &file.stages[at];
        let problem = |message: &str| Box::new(Problem::new(&file.source, of_file.base.span(), message));
        let mut triggers = Vec::new();
        let mut stage = match &options.graph.bases[at] {
            Base::Scratch => self.nothing(),
            Base::Folder(name) => self
                .folder_stage(at, name)
                .map_err(|error| error.at(*problem(&format!("the context {name} cannot be built on"))))?,
            Base::Stage(earlier) => {
                let mut stage =
                    self.done.get(earlier).cloned().ok_or_else(|| problem("the stage is not there"))?;
                stage.settings.has_cmd = false;
                triggers = std::mem::take(&mut stage.settings.config.on_build);
                stage
            }
            Base::Image(needed) => {
                let image = self.image(&needed.name, needed.platform.as_ref());
                let mut config = image.ok_or_else(|| problem("the image is not there"))?.config.clone();
                self.begin(at, &format!("FROM {}", needed.name));
                self.end(Outcome::Done);
                triggers = std::mem::take(&mut config.config.on_build);
                let mut settings = Settings::of(std::mem::take(&mut config.config));
                settings.author.clone_from(&config.author);
                Stage { image: config, settings, ..Stage::default() }
            }
        };
        for text in triggers {
            let moved = |problem: Box<Problem>| Box::new(problem.moved(&file.source, of_file.base.span()));
            let (source, instruction) = parse_trigger(&text).map_err(moved)?;
            self.instruction(at, &source, &mut stage, &instruction).map_err(|error| match error {
                Error::Problem(problem) => Error::Problem(moved(problem)),
                Error::Step { problem, source } => Error::Step { problem: moved(problem), source },
                other => other,
            })?;
        }
        for instruction in &of_file.instructions {
            self.instruction(at, &file.source, &mut stage, instruction)?;
        }
        Ok(stage)
    }

    fn instruction(
        &mut self,
        at: usize,
        source: &Source,
        stage: &mut Stage,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        let options = self.options;
        let lexer = options.file.lexer();
        let reading = Reading { source, lexer, globals: &options.globals, given: &options.given };
        if let Some(said) = stage.settings.apply(reading, instruction)? {
            stage.add(said, None);
            return Ok(());
        }
        match &instruction.kind {
            Kind::Run(run) => self.run(at, reading, stage, instruction, run),
            Kind::Workdir(word) => self.workdir(at, reading, stage, instruction, word),
            Kind::Copy(copy) => self.copy(at, reading, stage, instruction, copy),
            Kind::Add(add) => self.add(at, reading, stage, instruction, add),
            _ => Ok(()),
        }
    }

    /// What is in the cache under the key, else what `make` makes, which then is. `text` is the instruction.
    fn made(
        &mut self,
        at: usize,
        text: &str,
        key: Digest,
        make: impl FnOnce(&mut Self) -> Result<Option<Digest>, Error>,
    ) -> Result<Made, Error> {
        self.begin(at, text);
        let made = match self.find(at, text, key) {
            Some(made) => Ok((made, Outcome::Cached)),
            None => self.make(at, text, key, make),
        };
        match made {
            Ok((made, outcome)) => {
                self.end(outcome);
                Ok(Made { key: Some(key), ..made })
            }
            Err(error) => {
                self.end(Outcome::Failed(error.summary()));
                Err(error)
            }
        }
    }

    fn make(
        &mut self,
        at: usize,
        text: &str,
        key: Digest,
        make: impl FnOnce(&mut Self) -> Result<Option<Digest>, Error>,
    ) -> Result<(Made, Outcome), Error> {
        let claim = self.cache.claim(key)?;
        // Whoever had the claim before may have made it.
        if let Some(made) = self.find(at, text, key) {
            return Ok((made, Outcome::Cached));
        }
        let layer = make(self)?;
        let made = Made { layer, created: Timestamp::now().to_string(), key: Some(key) };
        self.cache.remember(key, &made, text)?;
        drop(claim);
        Ok((made, Outcome::Done))
    }

    /// Whether a stage is to be built without the cache.
    fn is_anew(&self, at: usize) -> bool {
        self.options.no_cache || self.options.no_cache_stages.contains(&at)
    }

    fn find(&self, at: usize, text: &str, key: Digest) -> Option<Made> {
        let warn = |cache, why: &str| drop(self.say(&Said::Useless { cache, why: why.to_owned() }));
        match self.is_anew(at) {
            // Without the cache, too, equal steps of several stages are carried out once.
            true => self.cache.find_here(key, self.layers).filter(|found| found.created >= self.began),
            false => self.cache.find(key, self.layers, text, &warn),
        }
    }

    /// Makes sure that what was digested of a context is what was used.
    fn check_unchanged(
        &self,
        reading: Reading<'_>,
        span: Span,
        (place, tree): (&str, &Tree),
        done: &str,
    ) -> Result<(), Error> {
        self.first_changed(place, tree)?.map_or(Ok(()), |path| Err(changed(reading, span, &path, done)))
    }

    /// What is no longer as it was in a tree of a context.
    fn first_changed(&self, place: &str, tree: &Tree) -> Result<Option<String>, context::Error> {
        let Some(place) = self.places.get(place) else { return Ok(None) };
        let item = place.context.first_changed(tree)?;
        Ok(item.map(|item| String::from_utf8_lossy(&item.path).into_owned()))
    }

    /// Puts what is in these trees of contexts, if it still is as it was.
    fn put(&self, transfer: &Transfer, trees: &[(String, Rc<Tree>)]) -> Result<Option<Digest>, Error> {
        let changed = || {
            let mut looks = trees.iter().map(|(place, tree)| self.first_changed(place, tree).transpose());
            looks.find_map(|found| found).transpose().map_err(|e| Failure::of(&e))
        };
        match job::as_root(self.paths, self.identity, |store| transfer.run(self.identity, store, &changed))? {
            Transferred::Changed(path) => Err(Error::Changed(path)),
            Transferred::Made(layer) => Ok(layer),
        }
    }

    fn workdir(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &mut Stage,
        instruction: &Instruction,
        word: &ast::Word,
    ) -> Result<(), Error> {
        let path = stage.settings.absolute(&reading.word(word, &stage.settings.scope)?);
        let below = layers_text(stage.layers());
        let transfer = Transfer {
            layers: stage.layers().to_vec(),
            pieces: Vec::new(),
            destination: path.clone(),
            is_folder: true,
            owner: None,
            modes: None,
        };
        let made = self.made(at, &instruction.head.text, key(&["workdir", &below, &path]), |builder| {
            let failed = |error: Error| error.at(*reading.problem(instruction.head.span, "WORKDIR failed"));
            builder.put(&transfer, &[]).map_err(failed)
        })?;
        stage.add(format!("WORKDIR {path}"), Some(made));
        stage.settings.config.working_dir = path;
        Ok(())
    }
}

/// A file of a context was not the same all the time.
fn changed(reading: Reading<'_>, span: Span, path: &str, done: &str) -> Error {
    let message = format!("{path} changed while it was {done}");
    Box::new(reading.problem(span, message).hint("build again")).into()
}

/// Whether it takes time, and so is a step of its own.
fn is_step(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}
