//! `--secret`: what a build is told and must not keep.

use crate::diagnose::Diagnose;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// As much as BuildKit takes.
const MOST: u64 = 500 << 10;

/// A secret's value. It is never shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The value.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as a variable's.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok().filter(|text| !text.contains('\0'))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a secret is got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(OsString),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is no secret.
    #[error("{} is larger than a secret may be (500 KiB)", .0.display())]
    TooLarge(PathBuf),
}

impl Diagnose for Error {}

impl SecretSource {
    /// Gets it; none if it is a variable that is not set.
    pub fn get(&self) -> Result<Option<Secret>, Error> {
        match self {
            SecretSource::Variable(name) => Ok(std::env::var_os(name).map(|value| Secret(value.into_vec()))),
            SecretSource::File(path) => {
                let failed = |source| Error::File { path: path.clone(), source };
                let file = File::open(path).map_err(failed)?;
                let mut bytes = Vec::new();
                file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
                if bytes.len() as u64 > MOST {
                    return Err(Error::TooLarge(path.clone()));
                }
                Ok(Some(Secret(bytes)))
            }
        }
    }
}
