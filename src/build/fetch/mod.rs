//! What a build needs and this machine does not have as a folder: files by URL, git repositories, archives.
//!
//! Each becomes a folder in the store's staging, from where it is copied like any context, and which goes when its [`Fetched`]
//! is dropped; what a killed build leaves is swept with other staging. An archive is unpacked by the strict reader that
//! `cp` has, a repository is checked out by the host's `git` with nothing of the user's configuration ([`git`]). What is
//! fetched is hostile: nothing here follows a link that came with it.

mod archive;
mod git;

pub use archive::{HEAD, is_archive};
pub use git::Repository;

use crate::container::files;
use crate::diagnose::Diagnose;
use crate::digest::{Digest, Hashing};
use crate::layers::{self, LayerStore, Scratch};
use crate::registry::{self, Client, Options};
use crate::timestamp::Timestamp;
use rustix::fs::{Timespec, Timestamps, futimens};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a file that is fetched.
const MOST: u64 = 64 << 30;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server, or the way to it.
    #[error("cannot fetch {url}")]
    Url {
        /// From where.
        url: String,
        /// What happened.
        #[source]
        source: registry::Error,
    },
    /// The connection broke, or a file cannot be written.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than anything that is fetched.
    #[error("{url} is larger than {MOST} bytes")]
    TooLarge {
        /// What.
        url: String,
    },
    /// It is not what `--checksum` says.
    #[error("digest mismatch {got}: {expected}")]
    Checksum {
        /// What came.
        got: String,
        /// What should have.
        expected: String,
    },
    /// There is no git.
    #[error("git is not installed, and {url} is a git repository")]
    NoGit {
        /// Which.
        url: String,
    },
    /// git says no.
    #[error("git cannot {action} {url}: {said}")]
    Git {
        /// What was tried.
        action: &'static str,
        /// With which repository.
        url: String,
        /// The end of what it said.
        said: String,
    },
    /// The folder that was named is none.
    #[error("the repository {url} has no folder \"{folder}\"")]
    Folder {
        /// Which repository.
        url: String,
        /// What was asked for.
        folder: String,
    },
    /// The archive.
    #[error(transparent)]
    Archive(#[from] files::Error),
    /// The staging folder.
    #[error(transparent)]
    Staging(#[from] layers::Error),
}

impl Error {
    fn io<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Error {
        move |source| Error::Io { action: action.into(), source: source.into() }
    }
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Url { source, .. } => source.fix(),
            Error::NoGit { .. } => {
                Some("install git, or clone the repository yourself and name the folder".into())
            }
            Error::Folder { .. } => Some("name a folder of the repository after '#REF:', and no link".into()),
            Error::Archive(error) => error.fix(),
            Error::Staging(error) => error.fix(),
            Error::Io { .. } | Error::TooLarge { .. } | Error::Checksum { .. } | Error::Git { .. } => None,
        }
    }
}

/// A folder with what was fetched.
pub struct Fetched<'a> {
    _scratch: Scratch<'a>,
    /// Where it is.
    pub folder: PathBuf,
    /// What tells it from what was fetched another time, if that is not its content.
    pub version: Option<String>,
    /// By what a server knows whether its file still is this one.
    pub etag: Option<String>,
}

impl<'a> Fetched<'a> {
    /// A folder with nothing in it.
    pub fn empty(store: &'a LayerStore) -> Result<Self, Error> {
        let scratch = store.scratch()?;
        let folder = scratch.path().join("files");
        DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .map_err(Error::io(format!("make {}", folder.display())))?;
        Ok(Self { _scratch: scratch, folder, version: None, etag: None })
    }

    /// The one file that is at a URL, under this name.
    pub fn url(
        store: &'a LayerStore,
        url: &str,
        name: &str,
        checksum: Option<Digest>,
    ) -> Result<Self, Error> {
        let unchanged = || Error::io(format!("fetch {}", without_password(url)))(ErrorKind::InvalidData);
        Self::url_unless(store, url, name, checksum, None)?.ok_or_else(unchanged)
    }

    /// The same, unless it still is what had this validator: nothing then.
    pub fn url_unless(
        store: &'a LayerStore,
        url: &str,
        name: &str,
        checksum: Option<Digest>,
        etag: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        let shown = without_password(url);
        let client = Client::new(Options::default());
        let download = client.download_unless(url, etag);
        let Some(download) = download.map_err(|source| Error::Url { url: shown.clone(), source })? else {
            return Ok(None);
        };
        let mut fetched = Self::empty(store)?;
        fetched.etag.clone_from(&download.etag);
        let modified = download.modified.unwrap_or(Timestamp::from_unix(0, 0));
        let got = fetched.write(name, download.take(MOST + 1), &shown, modified)?;
        match checksum {
            Some(expected) if expected != got => {
                Err(Error::Checksum { got: got.to_string(), expected: expected.to_string() })
            }
            _ => Ok(Some(fetched)),
        }
    }

    /// Writes a file; the digest of its content.
    fn write(
        &self,
        name: &str,
        mut from: impl Read,
        shown: &str,
        modified: Timestamp,
    ) -> Result<Digest, Error> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Error::io(format!("write {name}")))?;
        let mut hashing = Hashing::new(file);
        io::copy(&mut from, &mut hashing).map_err(Error::io(format!("fetch {shown}")))?;
        if hashing.count() > MOST {
            return Err(Error::TooLarge { url: shown.to_owned() });
        }
        let (file, digest) = hashing.finish();
        let time = Timespec { tv_sec: modified.unix_seconds(), tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .map_err(Error::io(format!("write {name}")))?;
        Ok(digest)
    }

    /// The only file in a folder, opened.
    pub fn open(&self, name: &str) -> Result<std::fs::File, Error> {
        std::fs::File::open(self.folder.join(name)).map_err(Error::io(format!("read {name}")))
    }
}

/// What the fetching of a URL or repository is called.
pub fn step_name(url: &str, is_repository: bool) -> String {
    let what = if is_repository { "git source " } else { "" };
    format!("[internal] load {what}{}", without_password(url))
}

/// Whether a text is an http or https URL.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// What a file at a URL is called: the last part of its path, decoded.
pub fn name_of(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = decoded(path.split_once('/').map_or("", |(_, path)| path));
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("" | "." | "..") | None => "__unnamed__".to_owned(),
        Some(name) if name.contains(char::is_control) => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// `a b` of `a%20b`; what is no encoding of a text stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// For messages.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
            format!("{scheme}://{host}{}", &rest[end..])
        }
        None => url.to_owned(),
    }
}

/// Whether every part of a path below a folder is a folder, and no link.
fn has_folder(top: &Path, path: &str) -> bool {
    let mut here = top.to_owned();
    path.split('/').filter(|part| !matches!(*part, "" | ".")).all(|part| {
        here.push(part);
        part != ".." && here.symlink_metadata().is_ok_and(|found| found.is_dir())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_as_the_end_of_its_path() {
        let table = [
            ("https://a.b/c/d.tar.gz", "d.tar.gz"),
            ("http://a.b:80/c?d=/e", "c"),
            ("http://a.b/c/#x", "c"),
            ("http://a.b/", "__unnamed__"),
            ("http://a.b", "__unnamed__"),
            ("http://a.b/..", "__unnamed__"),
            ("http://a.b/x%20y%2", "x y%2"),
            ("http://a.b/x%2Fy", "y"),
            ("http://a.b/%2e%2e", "__unnamed__"),
            ("http://a.b/a%00", "__unnamed__"),
            ("http://a.b/%ff", "%ff"),
        ];
        for (url, name) in table {
            assert_eq!(name_of(url), name, "{url}");
        }
        assert_eq!(without_password("https://u:p@a.b/c@d"), "https://a.b/c@d");
    }
}
