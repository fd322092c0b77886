//! COPY and ADD, and FROM of a folder.

use super::remote::{Known, Remote, Wanted, parts_of};
use super::{Builder, MAIN, Stage, changed};
use crate::build::Error;
use crate::build::cache::{key, layers_text};
use crate::build::chmod::Modes;
use crate::build::context::{Context, Owners, Tree};
use crate::build::dockerfile::ast::{self, CopySource, Literal};
use crate::build::dockerfile::words::Lexer;
use crate::build::dockerfile::{Instruction, Span};
use crate::build::fetch::{self, Fetched, Repository};
use crate::build::ignore::Ignore;
use crate::build::metadata::Reading;
use crate::build::named::Named;
use crate::build::selection::Selection;
use crate::build::sources::{self, Found, is_pattern};
use crate::build::transfer::{Piece, Transfer};
use crate::digest::Digest;
use std::path::Path;
use std::rc::Rc;

/// What COPY and ADD are told.
struct Asked<'a> {
    transfer: &'a ast::Transfer,
    /// From where paths are copied.
    origin: Origin,
    parents: bool,
    /// ADD: what is said of URLs and repositories.
    add: Option<&'a ast::Add>,
}

/// What a path is a path of.
pub(super) enum Origin {
    /// The folder of a context.
    Folder(String),
    /// A stage or image.
    Layers(Vec<Digest>),
}

/// What is put, and all that the key is over.
#[derive(Default)]
struct Gathered<'a> {
    pieces: Vec<Piece>,
    parts: Vec<String>,
    /// What was digested of which context, and must not have changed when it has been copied.
    trees: Vec<(String, Rc<Tree>)>,
    /// Held until it has been copied.
    fetched: Vec<Fetched<'a>>,
    /// How many pieces more there are, of which only is known what they count for.
    not_here: usize,
}

impl Gathered<'_> {
    fn list(&mut self, folder: &Path, found: Vec<Found>, unpack: bool) {
        for one in found {
            let name = String::from_utf8_lossy(&one.name).into_owned();
            let shape = if one.is_folder() { "folder" } else { "file" };
            self.parts.extend([shape.to_owned(), name, unpack.to_string(), one.tree.digest().hex()]);
            self.put(folder, one, unpack);
        }
    }

    fn put(&mut self, folder: &Path, one: Found, unpack: bool) {
        let items = one.tree.items().iter().map(|item| item.path.clone()).collect();
        let (folder, path, name) = (folder.to_owned(), one.path, one.name);
        self.pieces.push(Piece::Listed { folder, path, name, items, unpack });
    }
}

impl<'a> Builder<'a> {
    pub(super) fn copy(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &mut Stage,
        instruction: &Instruction,
        copy: &ast::Copy,
    ) -> Result<(), Error> {
        let origin = match &copy.from {
            None => Origin::Folder(MAIN.into()),
            Some(name) => self.origin(at, name).ok_or_else(|| {
                reading.problem(name.span(), format!("{}: there is no such stage or image", name.text()))
            })?,
        };
        let asked = Asked { transfer: &copy.transfer, origin, parents: copy.parents, add: None };
        self.transfer(at, reading, stage, instruction, &asked)
    }

    pub(super) fn add(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &mut Stage,
        instruction: &Instruction,
        add: &ast::Add,
    ) -> Result<(), Error> {
        let origin = Origin::Folder(MAIN.into());
        let asked = Asked { transfer: &add.transfer, origin, parents: false, add: Some(add) };
        self.transfer(at, reading, stage, instruction, &asked)
    }

    /// What `--from` names.
    pub(super) fn origin(&self, at: usize, name: &Literal) -> Option<Origin> {
        let image = |name: &str| self.image(name, None).map(|image| image.diff_ids().to_vec());
        match self.options.contexts.find(name.text()) {
            Some((name, Named::Folder(..))) => return Some(Origin::Folder(name.to_owned())),
            Some((_, Named::Image(name))) => return image(name).map(Origin::Layers),
            Some((_, Named::Scratch)) => return Some(Origin::Layers(Vec::new())),
            None => {}
        }
        let layers = match self.options.file.find_stage(name.text(), at) {
            Some(stage) => self.done.get(&stage).map(|stage| stage.layers().to_vec()),
            None => image(name.text()),
        };
        layers.map(Origin::Layers)
    }

    fn transfer(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &mut Stage,
        instruction: &Instruction,
        asked: &Asked<'_>,
    ) -> Result<(), Error> {
        let (span, keyword, transfer) = (instruction.head.span, instruction.kind.keyword(), asked.transfer);
        let scope = &stage.settings.scope;
        let word = |word: &ast::Word| reading.word(word, scope);
        let owner = transfer.chown.as_ref().map(word).transpose()?.filter(|owner| !owner.is_empty());
        let modes = match &transfer.chmod {
            Some(chmod) => match word(chmod)? {
                text if text.is_empty() => None,
                text => Some(Modes::parse(&text).map_err(|why| reading.problem(chmod.span(), why))?),
            },
            None => None,
        };
        let written = word(&transfer.destination)?;
        if written.is_empty() {
            return Err(reading.problem(transfer.destination.span(), "the destination is empty").into());
        }
        let destination = stage.settings.absolute(&written);
        let ends_as_folder = written.ends_with('/') || written.ends_with("/.") || written == ".";
        // A layer that is linked has nothing to do with those below.
        let layers = if transfer.link { Vec::new() } else { stage.layers().to_vec() };
        let below = if transfer.link { "link".to_owned() } else { layers_text(&layers) };
        let key_of = |gathered: &Gathered<'_>| {
            let count = gathered.pieces.len() + gathered.not_here;
            let is_folder = ends_as_folder || count > 1;
            let flags = format!("{owner:?} {modes:?} {is_folder}");
            let mut all = vec!["copy", &below, &destination, &flags];
            all.extend(gathered.parts.iter().map(String::as_str));
            (key(&all), count, is_folder)
        };
        let mut gathered = self.gather(reading, stage, keyword, asked, !self.is_anew(at))?;
        let (mut key, mut count, mut is_folder) = key_of(&gathered);
        if gathered.not_here > 0 && self.find(at, &instruction.head.text, key).is_none() {
            gathered = self.gather(reading, stage, keyword, asked, false)?;
            (key, count, is_folder) = key_of(&gathered);
        }
        if count > 1 && !ends_as_folder && transfer.sources.len() > 1 {
            let message = format!(
                "When using {keyword} with more than one source file, the destination must be a directory and end with a /"
            );
            return Err(reading.problem(transfer.destination.span(), message).into());
        }
        let Gathered { pieces, trees, fetched, not_here, .. } = gathered;
        let said = said(reading, stage, keyword, transfer)?;
        let is_nothing = count == 0;
        let transfer = Transfer { layers, pieces, destination, is_folder, owner, modes };
        let made = self.made(at, &instruction.head.text, key, |builder| {
            // A pattern that nothing has matched.
            if is_nothing {
                return Ok(None);
            }
            if not_here > 0 {
                // It was in the cache a moment ago.
                return Err(Error::io("find a step of the cache again")(std::io::Error::from(
                    std::io::ErrorKind::NotFound,
                )));
            }
            builder.put(&transfer, &trees).map_err(|error| match error {
                Error::Changed(path) => changed(reading, span, &path, "copied"),
                error => error.at(*reading.problem(span, format!("{keyword} failed"))),
            })
        })?;
        drop(fetched);
        stage.add(said, Some(made));
        Ok(())
    }

    /// Finds all that is to be put; `trusting`: what is fetched only if it has changed.
    fn gather(
        &mut self,
        reading: Reading<'_>,
        stage: &Stage,
        keyword: &str,
        asked: &Asked<'_>,
        trusting: bool,
    ) -> Result<Gathered<'a>, Error> {
        let (scope, transfer) = (&stage.settings.scope, asked.transfer);
        let mut gathered = Gathered::default();
        let patterns: Vec<&str> = transfer.exclude.iter().map(Literal::text).collect();
        let selection = Selection::all_but(&patterns).map_err(|(number, why)| {
            let span = transfer.exclude.get(number).map_or_else(Span::default, Literal::span);
            reading.problem(span, format!("{why}: {}", patterns.get(number).unwrap_or(&"")))
        })?;
        let checksum = asked.add.and_then(|add| add.checksum.as_ref());
        let checksum =
            checksum.map(|word| Ok::<_, Error>((word.span(), reading.word(word, scope)?))).transpose()?;
        if let Some((span, _)) = &checksum
            && transfer.sources.len() != 1
        {
            let message = "checksum can't be specified for multiple sources";
            return Err(reading.problem(*span, message).into());
        }
        for source in &transfer.sources {
            let path = match source {
                CopySource::Inline(heredoc) => {
                    let mut text = heredoc.text();
                    if heredoc.expands {
                        let expanded = Lexer::for_heredoc().expand(&text, scope);
                        text = expanded.map_err(|e| reading.problem(heredoc.content.span(), e.message))?.text;
                    }
                    gathered.parts.extend(["text".to_owned(), heredoc.name.clone(), text.clone()]);
                    gathered.pieces.push(Piece::Text(heredoc.name.clone(), text));
                    continue;
                }
                CopySource::Path(path) => path,
            };
            let text = reading.word(path, scope)?;
            let problem = |message: String| reading.problem(path.span(), message);
            let failed = |e: Error| e.at(*problem(format!("{keyword} failed")));
            let repository = Repository::parse(&text);
            let is_remote = repository.is_some() || fetch::is_url(&text);
            let Some(add) = asked.add.filter(|_| is_remote) else {
                if is_remote {
                    let what = if repository.is_some() { "git ref" } else { "URL" };
                    let message = format!("source can't be a {what} for COPY");
                    return Err(Box::new(problem(message).hint("use ADD")).into());
                }
                if let Some((span, _)) = &checksum {
                    return Err(reading.problem(*span, "checksum requires HTTP(S) or Git sources").into());
                }
                let unpack = asked.add.is_some_and(|add| add.unpack.unwrap_or(true));
                self.paths(&mut gathered, asked, (&text, &selection, unpack), problem).map_err(failed)?;
                continue;
            };
            let remote = match repository {
                Some(repository) => {
                    let mut repository = repository.map_err(problem)?;
                    if let Some((_, commit)) = &checksum {
                        repository.commit = Some(commit.clone());
                    }
                    Remote::Repository(repository)
                }
                None => {
                    let digest = checksum.as_ref().map(|(span, text)| {
                        text.parse::<Digest>().map_err(|e| reading.problem(*span, e.to_string()))
                    });
                    Remote::File { url: text.clone(), checksum: digest.transpose()? }
                }
            };
            let wanted = Wanted { selection: &selection, add };
            let ask = || remote.ask((self.paths, self.layers), &wanted, trusting);
            match self.around(remote.step_name(), ask).map_err(|e| failed(e.into()))? {
                Known::Unchanged(parts) => {
                    gathered.parts.extend(parts);
                    gathered.not_here += 1;
                }
                Known::Fetched(fetched) => {
                    let before = gathered.parts.len();
                    self.fetched(&mut gathered, &fetched, &text, &wanted).map_err(failed)?;
                    remote.remember(self.paths, &wanted, &fetched, &gathered.parts[before..]);
                    gathered.fetched.push(fetched);
                }
            }
        }
        Ok(gathered)
    }

    /// What a path or pattern stands for in a context, stage or image.
    fn paths(
        &mut self,
        gathered: &mut Gathered<'_>,
        asked: &Asked<'_>,
        (text, selection, unpack): (&str, &Selection, bool),
        problem: impl Fn(String) -> Box<crate::build::dockerfile::Problem>,
    ) -> Result<(), Error> {
        let (folder, selection) = match asked.parents {
            true => {
                let (folder, pattern) = sources::pivot(text);
                (folder, selection.only(pattern).map_err(|why| problem(format!("{why}: {pattern}")))?)
            }
            false => (text, selection.clone()),
        };
        match &asked.origin {
            Origin::Layers(layers) => {
                let texts = ["path", &layers_text(layers), folder, selection.text(), &unpack.to_string()];
                gathered.parts.extend(texts.map(str::to_owned));
                let required = (asked.parents && !is_pattern(text)).then(|| format!("/{text}"));
                let (layers, path) = (layers.clone(), folder.to_owned());
                gathered.pieces.push(Piece::Whole { layers, path, selection, required, unpack });
            }
            Origin::Folder(name) => {
                let Some(place) = self.places.get_mut(name) else { return Ok(()) };
                let found = sources::find(&mut place.context, folder, &selection)?;
                let is_excluded = || {
                    let name = text.rsplit('/').next().unwrap_or_default();
                    !asked.parents && selection.leaves_out(name.as_bytes())
                };
                if found.is_empty() && !is_pattern(text) && !is_excluded() {
                    let hint = "it is not in the build context, or left out by .dockerignore";
                    return Err(Box::new(problem(format!("\"{text}\": not found")).hint(hint)).into());
                }
                gathered.trees.extend(found.iter().map(|one| (name.clone(), Rc::clone(&one.tree))));
                let path = place.path.clone();
                gathered.list(&path, found, unpack);
            }
        }
        Ok(())
    }

    /// What was fetched, as one more piece.
    fn fetched(
        &self,
        gathered: &mut Gathered<'a>,
        fetched: &Fetched<'a>,
        text: &str,
        wanted: &Wanted<'_>,
    ) -> Result<(), Error> {
        let mut context = Context::open(self.paths, &fetched.folder, Ignore::default(), Owners::All(0, 0))?;
        match &fetched.version {
            Some(version) => {
                let found = sources::find(&mut context, "/", wanted.selection)?;
                gathered.parts.extend(parts_of(version, wanted.selection));
                found.into_iter().for_each(|one| gathered.put(&fetched.folder, one, false));
            }
            None => {
                let name = fetch::name_of(text).into_bytes();
                let tree = context.tree(&name)?;
                let found = tree.map(|tree| Found { path: name.clone(), name, tree }).into_iter().collect();
                gathered.list(&fetched.folder, found, wanted.add.unpack.unwrap_or(false));
            }
        }
        Ok(())
    }

    /// A stage whose files are those of a context.
    pub(super) fn folder_stage(&mut self, at: usize, name: &str) -> Result<Stage, Error> {
        let mut stage = self.nothing();
        let Some(place) = self.places.get_mut(name) else { return Ok(stage) };
        let found = sources::find(&mut place.context, "/", &Selection::default())?;
        let mut gathered = Gathered::default();
        gathered.trees.extend(found.iter().map(|one| (name.to_owned(), Rc::clone(&one.tree))));
        let path = place.path.clone();
        gathered.list(&path, found, false);
        let mut parts = vec!["context"];
        parts.extend(gathered.parts.iter().map(String::as_str));
        let key = key(&parts);
        let text = format!("FROM {name}");
        let Gathered { pieces, trees, .. } = gathered;
        let transfer = Transfer {
            layers: Vec::new(),
            pieces,
            destination: "/".into(),
            is_folder: true,
            owner: None,
            modes: None,
        };
        let made = self.made(at, &text, key, |builder| builder.put(&transfer, &trees))?;
        stage.add(text, Some(made));
        Ok(stage)
    }
}

/// A step as BuildKit writes it into a history: expanded, and without where it is copied from.
fn said(
    reading: Reading<'_>,
    stage: &Stage,
    keyword: &str,
    transfer: &ast::Transfer,
) -> Result<String, Error> {
    let word = |word: &ast::Word| reading.word(word, &stage.settings.scope);
    let mut said = keyword.to_owned();
    for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
        if let Some(value) = value {
            said += &format!(" --{flag}={}", word(value)?);
        }
    }
    for source in &transfer.sources {
        said += &match source {
            CopySource::Inline(heredoc) => format!(" <<{}", heredoc.name),
            CopySource::Path(path) => format!(" {}", word(path)?),
        };
    }
    said += &format!(" {} # buildkit", word(&transfer.destination)?);
    Ok(said)
}
