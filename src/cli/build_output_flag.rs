//! One `--output` of `build`: what it says, and what that comes to.

use super::Error;
use super::build_output::annotation;
use super::import::local_name;
use super::parse::{self, Invalid};
use crate::build::output::{Output, Target};
use crate::image::{PushRequest, Reference};
use crate::layers::Compression;
use crate::registry::Options;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Image,
    Oci,
    Docker,
    Tar,
    Local,
    Nothing,
}

/// What one `--output` says.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What comes out.
    pub kind: Kind,
    destination: Option<String>,
    /// With commas between.
    names: String,
    /// The image goes to its names' registries.
    pub push: bool,
    /// A folder rather than an archive.
    folder: bool,
    /// Whose manifest it has: docker's, or OCI's.
    pub docker: Option<bool>,
    /// `rewrite-timestamp`.
    pub rewrite: bool,
    compression: Option<Compression>,
    level: Option<u32>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

const KINDS: [(&str, Kind); 7] = [
    ("image", Kind::Image),
    ("registry", Kind::Image),
    ("oci", Kind::Oci),
    ("docker", Kind::Docker),
    ("tar", Kind::Tar),
    ("local", Kind::Local),
    ("cacheonly", Kind::Nothing),
];

/// Reads it.
pub fn asked(text: &str) -> Result<Asked, Invalid> {
    let fields = parse::csv(text)?;
    // docker: a word alone is a folder, or standard output.
    if let [word] = &fields[..]
        && !word.contains('=')
    {
        let kind = if word == "-" { Kind::Tar } else { Kind::Local };
        let destination = Some(parse::nonempty(word)?);
        return Ok(Asked { kind, destination, ..Asked::default() });
    }
    let pairs = fields.iter().map(|field| {
        field.split_once('=').ok_or_else(|| Invalid::new(format!("expected KEY=VALUE, not '{field}'")))
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let kind = pairs.iter().rev().find(|(key, _)| *key == "type").map(|(_, kind)| *kind);
    let kind = kind.ok_or_else(|| Invalid::new("it has no type").fix("begin it with type=image, say"))?;
    let known = KINDS.map(|(name, _)| name);
    let found = KINDS.iter().find(|(name, _)| *name == kind);
    let found =
        found.map(|(_, kind)| *kind).ok_or_else(|| Invalid::unknown("type of output", kind, &known))?;
    let mut asked = Asked { kind: found, push: kind == "registry", ..Asked::default() };
    for (key, value) in pairs {
        asked.set(key, value)?;
    }
    match (asked.kind, &asked.destination) {
        (Kind::Local, None) => Err(Invalid::new("a folder needs dest=")),
        (Kind::Local, Some(to)) if to == "-" => Err(Invalid::new("a folder cannot go to standard output")),
        (Kind::Oci | Kind::Docker, to) if asked.folder && to.as_ref().is_none_or(|to| to == "-") => {
            Err(Invalid::new("a folder needs dest="))
        }
        // docker loads it into its store.
        (Kind::Docker, None) => Ok(Asked { kind: Kind::Image, ..asked }),
        _ => Ok(asked),
    }
}

impl Asked {
    /// An image in the store, which is pushed or not.
    pub fn image(push: bool) -> Asked {
        Asked { push, ..Asked::default() }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Invalid> {
        use Kind::{Docker, Image, Local, Nothing, Oci, Tar};
        let truth = || parse::boolean(value);
        let is_image = matches!(self.kind, Image | Oci | Docker);
        match (key, self.kind) {
            ("type", _) => {}
            ("dest", Oci | Docker | Tar | Local) => self.destination = Some(parse::nonempty(value)?),
            ("name", Image | Oci | Docker) => value.clone_into(&mut self.names),
            ("push", Image) => self.push = truth()?,
            // In the store and unpacked is what an image is here.
            ("store" | "unpack", Image) if truth()? => {}
            ("tar", Oci | Docker) => self.folder = !truth()?,
            ("oci-mediatypes", Image) => self.docker = Some(!truth()?),
            ("oci-mediatypes", Oci) if truth()? => {}
            ("rewrite-timestamp", _) if is_image => self.rewrite = truth()?,
            ("compression", Image) => {
                self.compression = Some(match value {
                    "gzip" => Compression::Gzip,
                    "zstd" => Compression::Zstd,
                    _ => return Err(Invalid::unknown("compression", value, &["gzip", "zstd"])),
                });
            }
            // Layers are compressed on their way to a registry only.
            ("compression", Oci | Docker) if value == "uncompressed" => {}
            ("compression-level", Image) => self.level = Some(parse::number(value)?),
            _ if is_image && key.starts_with("annotation") => {
                let place = match key.split_once('.') {
                    Some(("annotation", name)) => format!("manifest:{name}={value}"),
                    Some((place, name)) => {
                        format!("{}:{name}={value}", place.trim_start_matches("annotation-"))
                    }
                    None => return Err(Invalid::new(format!("'{key}' names no annotation"))),
                };
                let (name, value) = annotation(&place)?;
                self.annotations.insert(name, value);
            }
            (_, Nothing) => return Err(Invalid::new(format!("type=cacheonly takes no '{key}'"))),
            _ => {
                let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| *name);
                return Err(Invalid::new(format!("'{key}={value}' is not supported for type={kind}")));
            }
        }
        Ok(())
    }

    /// Where the result goes by it, beyond the store; `kept` are the names under which the store keeps it.
    pub fn output(
        self,
        tags: &[Reference],
        kept: &mut Option<Vec<Reference>>,
        registry: &Options,
    ) -> anyhow::Result<Option<Output>> {
        let named = self.names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut names = named.map(local_name).collect::<anyhow::Result<Vec<Reference>>>()?;
        // docker: -t goes before name=.
        if !tags.is_empty() {
            names = tags.to_vec();
        }
        let target = |to: Option<String>| match to {
            Some(to) if to != "-" => Target::File(to.into()),
            _ => Target::Stdout,
        };
        let folder = |to: Option<String>| PathBuf::from(to.unwrap_or_default());
        Ok(match self.kind {
            Kind::Image => {
                kept.get_or_insert_default().extend(names.clone());
                if !self.push {
                    return Ok(None);
                }
                if names.is_empty() {
                    return Err(
                        Error::usage("an image without a name cannot be pushed", "name it with -t").into()
                    );
                }
                if let Some(local) = names.iter().find(|name| name.domain() == "localhost") {
                    let what = format!("{local} names no registry that it could be pushed to");
                    return Err(Error::usage(what, "name it REGISTRY/REPOSITORY:TAG with -t").into());
                }
                let request = |name: Reference| PushRequest {
                    image: name.to_string(),
                    destination: None,
                    compression: Some(self.compression.unwrap_or(Compression::Gzip)),
                    level: self.level,
                    format: None,
                    options: registry.clone(),
                    jobs: 4,
                };
                Some(Output::Push(names.into_iter().map(request).collect()))
            }
            Kind::Oci | Kind::Docker if self.folder => {
                Some(Output::Layout { names, folder: folder(self.destination) })
            }
            Kind::Oci | Kind::Docker => {
                let docker = self.kind == Kind::Docker;
                Some(Output::Archive { docker, names, target: target(self.destination) })
            }
            Kind::Tar => Some(Output::Tar(target(self.destination))),
            Kind::Local => Some(Output::Folder(folder(self.destination))),
            Kind::Nothing => None,
        })
    }
}
