//! RUN --mount: what it asks for, decided; and, once it is known that the step has to run, got ready.

use super::transfer::Origin;
use super::{Builder, MAIN, Stage};
use crate::build::context::Tree;
use crate::build::dockerfile::{Access, CacheSharing, Mount, MountKind, Problem, RunMount, Span, ast};
use crate::build::metadata::Reading;
use crate::build::mounts::cache::Slot;
use crate::build::mounts::{Files, StepMount, What, digest_of};
use crate::build::{Error, cache, sources};
use crate::container::session::Failure;
use crate::digest::Digest;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The mounts of a step, as far as its key knows them.
#[derive(Default)]
pub(super) struct Planned {
    mounts: Vec<Plan>,
    /// What of them counts.
    pub(super) parts: Vec<String>,
    /// The variable by which SSH finds its agent.
    pub(super) agent_variable: Option<String>,
}

/// One mount.
struct Plan {
    span: Span,
    destination: String,
    read_only: bool,
    what: PlannedWhat,
}

enum PlannedWhat {
    Bind(Source),
    Cache {
        key: Digest,
        sharing: CacheSharing,
        of: Option<(Vec<Digest>, PathBuf)>,
        path: PathBuf,
        access: Access,
    },
    Tmpfs(Option<u64>),
    Secret {
        id: String,
        required: bool,
        file: bool,
        env: Option<String>,
        access: Access,
    },
    Ssh {
        id: String,
        required: bool,
        access: Access,
    },
    Program {
        name: String,
        text: String,
    },
}

/// Of what a bind mount is.
enum Source {
    Layers { layers: Vec<Digest>, path: PathBuf },
    Context { place: String, tree: Rc<Tree>, path: PathBuf },
}

/// What a step gets.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) mounts: Vec<StepMount>,
    /// Secrets that are variables.
    pub(super) env: Vec<String>,
}

impl Planned {
    /// A heredoc that is a program, and where it is found.
    pub(super) fn program(&mut self, span: Span, heredoc: &ast::Heredoc) -> String {
        const FOLDER: &str = "/dev/pipes";
        let (name, text) = (heredoc.name.clone(), heredoc.text());
        let path = format!("{FOLDER}/{name}");
        self.parts.extend(["program".to_owned(), name.clone(), text.clone()]);
        let what = PlannedWhat::Program { name, text };
        self.mounts.push(Plan { span, destination: FOLDER.to_owned(), read_only: true, what });
        path
    }

    /// What of which context is mounted.
    pub(super) fn trees(&self) -> impl Iterator<Item = (&str, &Tree)> {
        self.mounts.iter().filter_map(|plan| match &plan.what {
            PlannedWhat::Bind(Source::Context { place, tree, .. }) => Some((place.as_str(), &**tree)),
            _ => None,
        })
    }
}

impl Builder<'_> {
    /// Decides what a RUN mounts.
    pub(super) fn plan_mounts(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &Stage,
        run: &ast::Run,
    ) -> Result<Planned, Error> {
        let mut planned = Planned::default();
        for written in &run.mounts {
            let mount = written.resolve(reading.source, reading.lexer, &stage.settings.scope)?;
            let number =
                planned.mounts.iter().filter(|plan| matches!(plan.what, PlannedWhat::Ssh { .. })).count();
            let (plan, parts) = self.plan_mount(at, reading, stage, written, mount, number)?;
            if let (PlannedWhat::Ssh { .. }, 0) = (&plan.what, number) {
                planned.agent_variable = Some(format!("SSH_AUTH_SOCK={}", plan.destination));
            }
            let access = if plan.read_only { "ro" } else { "rw" };
            planned.parts.extend(["mount".to_owned(), plan.destination.clone(), access.to_owned()]);
            planned.parts.extend(parts);
            planned.mounts.push(plan);
        }
        // Parents first, and one after the other where one covers the other.
        planned.mounts.sort_by_key(|plan| plan.destination.matches('/').count());
        Ok(planned)
    }

    fn plan_mount(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &Stage,
        written: &RunMount,
        mount: Mount,
        number: usize,
    ) -> Result<(Plan, Vec<String>), Error> {
        let span = written.span;
        let given = mount.target.as_deref();
        let usual = match &mount.kind {
            MountKind::Secret { id, .. } => {
                format!("/run/secrets/{}", id.rsplit('/').find(|part| !part.is_empty()).unwrap_or(id))
            }
            MountKind::Ssh { .. } => format!("/run/buildkit/ssh_agent.{number}"),
            _ => String::new(),
        };
        let destination = stage.settings.absolute(given.unwrap_or(&usual));
        if destination == "/" {
            let target = given.unwrap_or_default();
            let problem = reading.problem(span, format!("invalid mount target {target:?}"));
            return Err(Box::new(problem.hint("name a folder below / with target=")).into());
        }
        let (what, parts) = match mount.kind {
            MountKind::Bind { source, .. } => {
                let source = source.unwrap_or_default();
                let (source, digest) = self.source(at, reading, written, &source)?;
                (PlannedWhat::Bind(source), vec!["bind".to_owned(), digest])
            }
            MountKind::Cache { id, sharing, source, access, .. } => {
                let id = id.unwrap_or_else(|| stage.settings.absolute(given.unwrap_or_default()));
                let source = source.unwrap_or_default();
                let (of, digest) = match &written.from {
                    None => (None, String::new()),
                    Some(_) => match self.source(at, reading, written, &source)? {
                        (Source::Layers { layers, path }, digest) => (Some((layers, path)), digest),
                        (Source::Context { .. }, _) => {
                            return Err(reading.unsupported(span, "a cache of the context").into());
                        }
                    },
                };
                let path = if of.is_some() { "/".into() } else { Path::new("/").join(&source) };
                let parts = vec![
                    "cache".to_owned(),
                    id,
                    digest,
                    format!("{access:?}"),
                    format!("{sharing:?} {source}"),
                ];
                let counting: Vec<&str> = parts[..4].iter().map(String::as_str).collect();
                let key = cache::key(&counting);
                (PlannedWhat::Cache { key, sharing, of, path, access }, parts)
            }
            MountKind::Tmpfs { size } => {
                (PlannedWhat::Tmpfs(size), vec!["tmpfs".to_owned(), format!("{size:?}")])
            }
            MountKind::Secret { id, required, env, access } => {
                let file = env.is_none() || given.is_some();
                let parts = vec!["secret".to_owned(), id.clone(), format!("{file} {env:?} {access:?}")];
                (PlannedWhat::Secret { id, required, file, env, access }, parts)
            }
            MountKind::Ssh { id, required, access } => {
                let id = id.unwrap_or_else(|| "default".to_owned());
                let parts = vec!["ssh".to_owned(), id.clone(), format!("{access:?}")];
                (PlannedWhat::Ssh { id, required, access }, parts)
            }
        };
        Ok((Plan { span, destination, read_only: mount.read_only, what }, parts))
    }

    /// What a mount is of, and the digest of that.
    fn source(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        written: &RunMount,
        source: &str,
    ) -> Result<(Source, String), Error> {
        let span = written.span;
        let missing = |hint: &str| -> Box<Problem> {
            let problem =
                reading.problem(span, format!("\"/{}\": not found", source.trim_start_matches('/')));
            Box::new(problem.hint(hint))
        };
        let failed = |error: Error| error.at(*reading.problem(span, "the mount's source cannot be read"));
        let origin = match &written.from {
            None => Origin::Folder(MAIN.into()),
            Some(from) => self.origin(at, from).ok_or_else(|| {
                reading.problem(from.span(), format!("{}: there is no such stage or image", from.text()))
            })?,
        };
        let layers = match origin {
            Origin::Layers(layers) => layers,
            Origin::Folder(place) => {
                let context = self.places.get_mut(&place).map(|place| &mut place.context);
                let found = context.map(|context| sources::exactly(context, source)).transpose();
                let found = found.map_err(|e| failed(e.into()))?.flatten();
                let hint = "it is not in the build context, or left out by .dockerignore";
                let found = found.ok_or_else(|| missing(hint))?;
                let digest = found.tree.digest().hex();
                let path = Path::new("/").join(OsStr::from_bytes(&found.path));
                return Ok((Source::Context { place, tree: found.tree, path }, digest));
            }
        };
        let path = Path::new("/").join(source);
        // An image is told by its layers; a stage is the same if it was built again and what is mounted is as it was.
        let stage =
            written.from.as_ref().filter(|from| self.options.file.find_stage(from.text(), at).is_some());
        let digest = match stage {
            None => format!("{} {source}", cache::layers_text(&layers)),
            Some(from) => digest_of(self.paths, self.identity, &layers, source)
                .map_err(failed)?
                .ok_or_else(|| missing(&format!("stage {} has no such file", from.text())))?
                .hex(),
        };
        Ok((Source::Layers { layers, path }, digest))
    }

    /// Gets what a step mounts: secrets are read, and caches waited for.
    pub(super) fn ready(&mut self, reading: Reading<'_>, planned: &Planned) -> Result<Ready, Error> {
        let slots = self.slots(planned)?;
        let mut ready = Ready::default();
        for Plan { span, destination, read_only, what } in &planned.mounts {
            let problem = |message: String, hint: &str| Box::new(reading.problem(*span, message).hint(hint));
            let what = match what {
                PlannedWhat::Bind(Source::Layers { layers, path }) => {
                    What::Bind { of: Files::Layers(layers.clone()), path: path.clone() }
                }
                PlannedWhat::Bind(Source::Context { place, tree, path }) => {
                    let Some(place) = self.places.get(place) else { continue };
                    // The container's monitor is in another working directory.
                    let context =
                        std::path::absolute(&place.path).map_err(Error::io("find the working directory"))?;
                    let hidden = place.context.left_out(tree)?;
                    What::Bind { of: Files::Context { context, hidden }, path: path.clone() }
                }
                PlannedWhat::Cache { key, of, path, access, .. } => What::Cache {
                    slot: Rc::clone(&slots[key]),
                    of: of.clone(),
                    path: path.clone(),
                    access: *access,
                },
                PlannedWhat::Tmpfs(size) => What::Tmpfs { size: *size },
                PlannedWhat::Program { name, text } => {
                    What::Program { name: name.clone(), text: text.clone() }
                }
                PlannedWhat::Secret { id, required, file, env, access } => {
                    let source = self.options.run.secrets.get(id);
                    let value = source.map(|source| source.get()).transpose().map_err(|e| {
                        Error::Failed(Failure::of(&e))
                            .at(*reading.problem(*span, format!("secret {id} cannot be read")))
                    })?;
                    let Some(value) = value.flatten() else {
                        if *required {
                            let hint = format!(
                                "give it with --secret id={id},src=FILE or --secret id={id},env=NAME"
                            );
                            return Err(problem(format!("secret {id}: not found"), &hint).into());
                        }
                        continue;
                    };
                    if let Some(env) = env {
                        let text = value.text().ok_or_else(|| {
                            let message = format!("secret {id} cannot be the value of a variable");
                            problem(message, "it has bytes that are no text: mount it as a file")
                        })?;
                        ready.env.push(format!("{env}={text}"));
                    }
                    if !file {
                        continue;
                    }
                    What::Secret { value, access: *access }
                }
                PlannedWhat::Ssh { id, required, access } => match self.options.run.agents.get(id) {
                    Some(agent) => What::Agent { agent: agent.clone(), access: *access },
                    None if *required => {
                        let hint = format!("give it with --ssh {id} or --ssh {id}=SOCKET");
                        return Err(problem(format!("SSH agent {id}: not found"), &hint).into());
                    }
                    None => continue,
                },
            };
            ready.mounts.push(StepMount { destination: destination.clone(), read_only: *read_only, what });
        }
        Ok(ready)
    }

    /// Takes the caches in the order of their keys, so that no two builds wait for each other.
    fn slots(&self, planned: &Planned) -> Result<BTreeMap<Digest, Rc<Slot>>, Error> {
        let mut wanted: BTreeMap<Digest, (CacheSharing, &str)> = BTreeMap::new();
        for plan in &planned.mounts {
            if let PlannedWhat::Cache { key, sharing, .. } = &plan.what {
                let known = wanted.entry(*key).or_insert((*sharing, &plan.destination));
                // Of one that a step mounts twice, the stricter counts.
                if *sharing != CacheSharing::Shared {
                    known.0 = *sharing;
                }
            }
        }
        let mut slots = BTreeMap::new();
        for (key, (sharing, destination)) in wanted {
            let waits = || {
                let said = format!("waiting for another build to leave the cache {destination}\n");
                // Who does not hear it waits all the same.
                let _ = self.output(true, said.as_bytes());
            };
            slots.insert(key, Rc::new(Slot::take(self.paths, key, sharing, &waits)?));
        }
        Ok(slots)
    }
}
