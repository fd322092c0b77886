//! What comes out of a build.
//!
//! A build ends with a config and layers. [`Shape`] says what of them becomes the image: labels and annotations, one layer
//! or several, which times. That gives two documents ([`Documents`]), the config and the manifest; they are kept in the store
//! only if the image is asked for there. An [`Output`] then takes the image to one more place: a registry, an archive
//! of the image, or its files, as an archive or as a folder.
//!
//! Everything that reads layers happens in a child that is root of the user's namespace. What is written is opened, or
//! made, by the user himself; files that come out as a folder become his own, without set-id bits, and are put
//! below the folder by one name at a time, so that no link that is there is followed.
//!
//! What must never happen: a file written outside of the folder that was named; the same Dockerfile, context and time
//! giving two images.

mod files;
mod shape;

pub use shape::{Clock, Shape, Squash};

use super::{Error, job};
use crate::container::session::Failure;
use crate::digest::Digest;
use crate::image::{
    self, CachePlace, Documents, ImageStore, Progress, PushRequest, Reference, Save, SaveFormat, Steps,
};
use crate::layers::LayerStore;
use crate::registry::Options;
use crate::state::{NewFile, Paths};
use crate::userns::Identity;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// One place more where the result goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// A registry, under each of these names.
    Push(Vec<PushRequest>),
    /// An archive of the image.
    Archive {
        /// docker's, or OCI's.
        docker: bool,
        /// The names in it.
        names: Vec<Reference>,
        /// Where it is written.
        target: Target,
    },
    /// A folder with an OCI layout.
    Layout {
        /// The names in it.
        names: Vec<Reference>,
        /// The folder.
        folder: PathBuf,
    },
    /// The files as an archive.
    Tar(Target),
    /// The files as a folder of the user's.
    Folder(PathBuf),
}

impl Output {
    /// What the writing is called, by BuildKit too.
    pub fn step_name(&self) -> String {
        match self {
            Output::Push(requests) => {
                let names: Vec<&str> = requests.iter().map(|request| request.image.as_str()).collect();
                format!("pushing {}", names.join(", "))
            }
            Output::Archive { docker: true, .. } => "exporting to docker image format".into(),
            Output::Archive { docker: false, .. } | Output::Layout { .. } => {
                "exporting to oci image format".into()
            }
            Output::Tar(_) => "exporting to client tarball".into(),
            Output::Folder(_) => "exporting to client directory".into(),
        }
    }
}

/// Where an archive is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// How outputs are written.
pub struct Export<'a> {
    /// The roots.
    pub paths: &'a Paths,
    /// The user's ids.
    pub identity: &'a Identity,
    /// What was standard output when the program began.
    pub stdout: &'a File,
    /// How the registry of a cache is talked to.
    pub registry: &'a Options,
    /// All files that come out have this time.
    pub time: Option<i64>,
    /// Shows how far it is; the word says what is done. It is asked in the process that does it.
    pub progress: &'a dyn Fn(&'static str) -> Box<dyn Progress>,
}

impl Export<'_> {
    /// Writes the image to one place; the digest that its manifest has there, if it has one. The caller has one thread,
    /// is not in the user's namespace and holds an image pin.
    pub fn write(&self, made: &Documents, output: &Output) -> Result<Option<Digest>, Error> {
        match output {
            Output::Push(requests) => self.as_root(|layers| {
                let mut digest = None;
                for request in requests {
                    let progress = (self.progress)("pushing");
                    let pushed = image::push(&ImageStore::open(self.paths), layers, request, &*progress);
                    digest = Some(pushed.map_err(|e| Failure::of(&e))?.digest);
                }
                Ok(digest)
            }),
            Output::Archive { docker, names, target } => self.to(target, |layers, out, shown| {
                self.save(made, names, layers, |save| save.archive(out, *docker, shown)).map(Some)
            }),
            Output::Layout { names, folder } => self.as_root(|layers| {
                self.save(made, names, layers, |save| save.folder(folder, SaveFormat::OciDir, false))
                    .map(Some)
            }),
            Output::Tar(target) => self.to(target, |layers, out, _| {
                files::archive(self.identity, layers, made, self.time, out).map(|()| None)
            }),
            Output::Folder(path) => {
                let folder = files::open_folder(path)?;
                self.as_root(|layers| {
                    files::folder(self.identity, layers, made, self.time, folder).map(|()| None)
                })
            }
        }
    }

    /// Writes what steps made to where other builds can take it from. The caller is as [`Self::write`]'s.
    pub fn cache(&self, place: &CachePlace, steps: &Steps) -> Result<(), Error> {
        let written = self.as_root(|layers| {
            let images = ImageStore::open(self.paths);
            let written = match place {
                CachePlace::Folder(folder) => {
                    image::write_cache_folder(folder, steps, layers, &*(self.progress)("saving"))
                }
                CachePlace::Registry(name) => {
                    let progress = (self.progress)("pushing");
                    image::write_cache_registry(&images, layers, name, steps, self.registry, &*progress)
                }
            };
            written.map(|()| None).map_err(|e| Failure::of(&e))
        });
        written.map(drop)
    }

    fn as_root(
        &self,
        work: impl FnOnce(&LayerStore) -> Result<Option<Digest>, Failure>,
    ) -> Result<Option<Digest>, Error> {
        job::as_root(self.paths, self.identity, work)
    }

    fn save(
        &self,
        made: &Documents,
        names: &[Reference],
        layers: &LayerStore,
        write: impl FnOnce(&Save<'_>) -> Result<(), image::Error>,
    ) -> Result<Digest, Failure> {
        let progress = (self.progress)("saving");
        let images = ImageStore::open(self.paths);
        let saved = Save::of_documents(&images, layers, made, names, &*progress).and_then(|save| {
            write(&save)?;
            Ok(save.manifests().first().map_or_else(|| Digest::of(&made.manifest), |m| Digest::of(m)))
        });
        saved.map_err(|e| Failure::of(&e))
    }

    /// Has an archive written. A file appears when it is complete.
    fn to(
        &self,
        target: &Target,
        work: impl FnOnce(&LayerStore, &mut dyn Write, &str) -> Result<Option<Digest>, Failure>,
    ) -> Result<Option<Digest>, Error> {
        match target {
            Target::Stdout => self.as_root(|layers| {
                let mut out = BufWriter::with_capacity(1 << 20, self.stdout);
                let written = work(layers, &mut out, "standard output")?;
                let shown = Path::new("standard output");
                out.flush().map_err(|e| Failure::of(&Error::file("write", shown)(e)))?;
                Ok(written)
            }),
            Target::File(path) => {
                let mut file = NewFile::create(path).map_err(Error::file("write", path))?;
                let written = self.as_root(|layers| {
                    let mut out = BufWriter::with_capacity(1 << 20, &mut file);
                    let written = work(layers, &mut out, &path.display().to_string())?;
                    out.flush().map_err(|e| Failure::of(&Error::file("write", path)(e)))?;
                    Ok(written)
                })?;
                // Here and not in the child: that may be in another mount namespace, from which nothing can be linked.
                file.publish().map_err(Error::file("write", path))?;
                Ok(written)
            }
        }
    }
}
