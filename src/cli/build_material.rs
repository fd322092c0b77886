//! What a build reads: its context, wherever that comes from, its Dockerfile, what is left out, and the contexts of
//! `--build-context`.
//!
//! What came from elsewhere (a repository, an archive) is nobody's to be trusted: its Dockerfile is looked for inside of it, whatever
//! links there are.

use super::build::BuildFlags;
use super::{Error, parse};
use crate::build::dockerfile::scope::BuildArgs;
use crate::build::fetch::{self, Fetched, Repository};
use crate::build::ignore::{self, Ignore};
use crate::build::progress::{Event, Progress, around};
use crate::build::{self, Contexts, Named};
use crate::image::Layout;
use crate::layers::LayerStore;
use crate::rooted_fs::Root;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// What the fetching of a context is called, by BuildKit too.
const REMOTE: &str = "[internal] load remote build context";
/// Bytes of a Dockerfile or of a file that says what is left out.
const MOST: usize = 16 << 20;

/// `--build-context NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFlag {
    name: String,
    value: String,
}

impl ContextFlag {
    /// Reads one.
    pub fn parse(text: &str) -> Result<ContextFlag, parse::Invalid> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                if let Some(Err(why)) = Layout::parse(value) {
                    let fix =
                        "write it as oci-layout://FOLDER, with :TAG and @DIGEST after it if it has several";
                    return Err(parse::Invalid::new(why).fix(fix));
                }
                Ok(ContextFlag { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(parse::Invalid::new(
                "expected NAME=FOLDER, NAME=docker-image://IMAGE, NAME=oci-layout://FOLDER or NAME=URL",
            )),
        }
    }
}

/// All that is read.
pub struct Material<'a> {
    /// The context.
    pub folder: PathBuf,
    /// What the Dockerfile is called.
    pub name: PathBuf,
    /// The Dockerfile.
    pub bytes: Vec<u8>,
    /// What is left out of the context.
    pub ignore: Ignore,
    /// Those with a name.
    pub contexts: Contexts,
    /// The images among them that are in a layout, by the name that the graph has for them. What a Dockerfile names
    /// by itself is none of these: it may not choose folders of the host.
    pub layouts: BTreeMap<String, Layout>,
    _fetched: Vec<Fetched<'a>>,
}

/// Where the main context is.
enum Main<'a> {
    Folder(PathBuf),
    /// From elsewhere; perhaps with a Dockerfile that is not in it.
    Fetched(Fetched<'a>, Option<Vec<u8>>),
}

impl<'a> Material<'a> {
    /// Reads and fetches it all. The caller has one thread.
    pub fn gather(
        store: &'a LayerStore,
        flags: &BuildFlags,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        let (folder, name, bytes, ignore) = match main(store, flags, progress)? {
            Main::Folder(folder) => {
                let file = flags.file.as_deref();
                let (name, bytes) = definition(file.unwrap_or(usual(&folder).as_ref()), progress, || {
                    dockerfile(&folder, file)
                })?;
                let beside = flags.file.is_some().then_some(&*name);
                let ignore = ignore_of(flags, &folder, beside)?;
                (folder, name, bytes, ignore)
            }
            Main::Fetched(fetched, told) => {
                let folder = fetched.folder.clone();
                let (name, bytes) = match (told, flags.file.as_deref()) {
                    (Some(_), Some(_)) => {
                        let what = "the context is a Dockerfile, and -f names another one";
                        return Err(Error::usage(what, "leave out -f").into());
                    }
                    (Some(bytes), None) => ("Dockerfile".into(), bytes),
                    (None, Some(path)) if is_stdin(path) => {
                        definition(path, progress, || Ok(("Dockerfile".into(), all_of_stdin()?)))?
                    }
                    (None, path) => {
                        let shown = path.unwrap_or(usual(&folder).as_ref());
                        definition(shown, progress, || inside(&folder, path))?
                    }
                };
                let ignore = ignore_of(flags, &folder, None)?;
                held.push(fetched);
                (folder, name, bytes, ignore)
            }
        };
        let (mut contexts, mut layouts) = (Contexts::default(), BTreeMap::new());
        for flag in &flags.contexts {
            let named = match Layout::parse(&flag.value) {
                Some(Ok(layout)) => {
                    let name = layout.to_string();
                    layouts.insert(name.clone(), layout);
                    Named::Image(name)
                }
                _ => named(store, flag, &mut held, progress)?,
            };
            contexts.add(&flag.name, named);
        }
        Ok(Self { folder, name, bytes, ignore, contexts, layouts, _fetched: held })
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Shows the reading of a Dockerfile, under BuildKit's name for it.
fn definition<T>(
    file: &Path,
    progress: &mut dyn Progress,
    read: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let name =
        file.file_name().filter(|_| !is_stdin(file)).map_or("Dockerfile".into(), OsStr::to_string_lossy);
    around(progress, &format!("[internal] load build definition from {name}"), |_, _| read())
}

/// Shows work that takes its time, and with which this process is busy.
fn fetching<T>(
    name: &str,
    progress: &mut dyn Progress,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    around(progress, name, |progress, _| {
        progress.on(Event::Tick);
        work()
    })
}

fn main<'a>(
    store: &'a LayerStore,
    flags: &BuildFlags,
    progress: &mut dyn Progress,
) -> anyhow::Result<Main<'a>> {
    let context = flags.context.to_string_lossy().into_owned();
    if is_stdin(&flags.context) {
        if flags.file.as_deref().is_some_and(is_stdin) {
            let what = "standard input cannot be both the context and the Dockerfile";
            return Err(Error::usage(what, "name a folder for the context").into());
        }
        if io::stdin().is_terminal() {
            let what = "standard input is a terminal, neither a Dockerfile nor an archive";
            return Err(Error::usage(what, "redirect one, or name a folder").into());
        }
        return fetching(REMOTE, progress, || stream(store, io::stdin(), "standard input"));
    }
    if flags.context.is_dir() {
        return Ok(Main::Folder(flags.context.clone()));
    }
    if let Some(repository) = Repository::parse_context(&context) {
        let fetched = repository_of(store, repository, keeps_git_dir(&flags.build_args), progress)?;
        return Ok(Main::Fetched(fetched, None));
    }
    if fetch::is_url(&context) {
        return fetching(REMOTE, progress, || {
            let fetched = Fetched::url(store, &context, "context", None).map_err(build::Error::from)?;
            let file = fetched.open("context").map_err(build::Error::from)?;
            Ok(match stream(store, file, &context)? {
                // As BuildKit has it: the file is in its own context.
                Main::Fetched(_, Some(bytes)) => Main::Fetched(fetched, Some(bytes)),
                other => other,
            })
        });
    }
    if flags.context.is_file() {
        let what = format!("the context must be a folder, and {context} is none");
        return Err(Error::usage(&what, "give an archive on standard input: coracle build - < FILE").into());
    }
    Ok(Main::Folder(flags.context.clone()))
}

fn repository_of<'a>(
    store: &'a LayerStore,
    repository: Result<Repository, String>,
    keep: bool,
    progress: &mut dyn Progress,
) -> anyhow::Result<Fetched<'a>> {
    let repository = repository.map_err(|why| Error::usage(&why, "write it as URL#REFERENCE:FOLDER"))?;
    let keep = repository.keep.unwrap_or(keep);
    fetching(&fetch::step_name(&repository.remote, true), progress, || {
        Ok(Fetched::repository(store, &repository, keep).map_err(build::Error::from)?)
    })
}

/// BuildKit's name for it.
fn keeps_git_dir(args: &BuildArgs) -> bool {
    args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|value| parse::boolean(value).unwrap_or(false))
}

/// A context that is an archive, or a Dockerfile without a context.
fn stream<'a>(store: &'a LayerStore, mut from: impl Read, shown: &str) -> anyhow::Result<Main<'a>> {
    let mut head = Vec::new();
    from.by_ref().take(fetch::HEAD).read_to_end(&mut head).map_err(Error::file("read", shown))?;
    if fetch::is_archive(&head) {
        let fetched = Fetched::archive(store, head.chain(from)).map_err(build::Error::from)?;
        return Ok(Main::Fetched(fetched, None));
    }
    from.take(MOST as u64).read_to_end(&mut head).map_err(Error::file("read", shown))?;
    Ok(Main::Fetched(Fetched::empty(store).map_err(build::Error::from)?, Some(head)))
}

fn all_of_stdin() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    io::stdin().take(MOST as u64).read_to_end(&mut bytes).map_err(Error::file("read", "standard input"))?;
    Ok(bytes)
}

/// The Dockerfile of a folder of the user's, and what it is called.
fn dockerfile(folder: &Path, file: Option<&Path>) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    match file {
        Some(path) if is_stdin(path) => Ok(("Dockerfile".into(), all_of_stdin()?)),
        Some(path) => Ok((path.to_owned(), std::fs::read(path).map_err(Error::file("read", path))?)),
        None => {
            let name = usual(folder);
            let path = folder.join(name);
            let read = Root::open_dir(folder).and_then(|root| root.read_bounded(name, MOST));
            let bytes = read.and_then(|found| found.ok_or_else(|| ErrorKind::NotFound.into()));
            Ok((path.clone(), bytes.map_err(Error::file("read", &path))?))
        }
    }
}

fn usual(folder: &Path) -> &'static str {
    let is_there = |name: &str| folder.join(name).symlink_metadata().is_ok();
    if !is_there("Dockerfile") && is_there("Containerfile") { "Containerfile" } else { "Dockerfile" }
}

/// The same in a folder that came from elsewhere.
fn inside(folder: &Path, file: Option<&Path>) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let name = file.unwrap_or_else(|| Path::new(usual(folder)));
    let read = Root::open_dir(folder).and_then(|root| root.read_bounded(name, MOST));
    let bytes = read.and_then(|found| found.ok_or_else(|| ErrorKind::NotFound.into()));
    Ok((name.to_owned(), bytes.map_err(Error::file("read from the context", name))?))
}

/// What is left out of the main context: what `--ignorefile` says, a file of the user's wherever the context comes from.
fn ignore_of(flags: &BuildFlags, folder: &Path, dockerfile: Option<&Path>) -> anyhow::Result<Ignore> {
    match &flags.ignore_file {
        None => left_out(folder, dockerfile),
        Some(path) => parsed(path, &std::fs::read(path).map_err(Error::file("read", path))?),
    }
}

fn parsed(path: &Path, bytes: &[u8]) -> anyhow::Result<Ignore> {
    Ok(Ignore::parse(&path.display().to_string(), bytes).map_err(build::Error::from)?)
}

/// What is left out of a context: the first file that is there says it. One beside a Dockerfile that was named goes first.
fn left_out(folder: &Path, dockerfile: Option<&Path>) -> anyhow::Result<Ignore> {
    let name = dockerfile.map_or_else(|| PathBuf::from("Dockerfile"), Path::to_owned);
    let [beside, usual] = ignore::candidates(&name.display().to_string());
    if dockerfile.is_some() {
        match std::fs::read(&beside) {
            Ok(bytes) => return parsed(Path::new(&beside), &bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", &beside)(error).into()),
        }
    }
    let root = Root::open_dir(folder).map_err(Error::file("open", folder))?;
    for name in [&*beside, ".containerignore", &usual] {
        if name == beside && dockerfile.is_some() {
            continue;
        }
        let path = folder.join(name);
        if let Some(bytes) = root.read_bounded(name, MOST).map_err(Error::file("read", &path))? {
            return parsed(&path, &bytes);
        }
    }
    Ok(Ignore::default())
}

fn named<'a>(
    store: &'a LayerStore,
    flag: &ContextFlag,
    held: &mut Vec<Fetched<'a>>,
    progress: &mut dyn Progress,
) -> anyhow::Result<Named> {
    let value = flag.value.as_str();
    if let Some(image) = value.strip_prefix("docker-image://") {
        return Ok(if image == "scratch" { Named::Scratch } else { Named::Image(image.to_owned()) });
    }
    let fetched = match Repository::parse(value) {
        Some(repository) => repository_of(store, repository, false, progress)?,
        None if fetch::is_url(value) => fetching(&fetch::step_name(value, false), progress, || {
            Ok(Fetched::url(store, value, "context", None).map_err(build::Error::from)?)
        })?,
        None if ["target:", "input:"].iter().any(|start| value.starts_with(start)) => {
            let what = format!("--build-context {}={value}", flag.name);
            return Err(Error::Unsupported { what }.into());
        }
        None => {
            let folder = PathBuf::from(value);
            let ignore = left_out(&folder, None)?;
            return Ok(Named::Folder(folder, ignore));
        }
    };
    let folder = fetched.folder.clone();
    held.push(fetched);
    Ok(Named::Folder(folder, Ignore::default()))
}
