//! What a volume is.

use super::Error;
use crate::digest::Digest;
use crate::state::{self, Durability};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// So that a name with what we put around it stays below NAME_MAX.
const MAX_NAME: usize = 200;

/// A volume, as `volume.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name, the same as its folder's.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Made for one container that did not name it, and removed with that.
    #[serde(default)]
    pub anonymous: bool,
    /// Its folder, `volumes/<name>`.
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

impl Volume {
    /// The folder that containers see.
    pub fn data(&self) -> PathBuf {
        self.dir.join("_data")
    }

    /// What can be said of a volume whose record is lost.
    pub(super) fn without_record(name: &str, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            created: std::fs::metadata(dir)
                .and_then(|m| m.modified())
                .map_or_else(|_| Timestamp::now(), Into::into),
            labels: BTreeMap::new(),
            anonymous: Digest::from_hex(name).is_ok(),
            dir: dir.to_owned(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A volume to be made.
#[derive(Clone, Debug)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Removed with its container.
    pub anonymous: bool,
    /// Whether its record must survive a power cut: not for those of `--rm` containers.
    pub durability: Durability,
}

impl NewVolume {
    /// A volume with a name and nothing else.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            anonymous: false,
            durability: Durability::PowerCut,
        }
    }

    /// A volume without a name of its own: 64 random hexadecimal digits, as docker's and podman's.
    pub fn anonymous(durability: Durability) -> Result<Self, Error> {
        let name = state::random_id().map_err(Error::io("read", Path::new("/dev/urandom")))?;
        Ok(Self { anonymous: true, durability, ..Self::named(&name) })
    }
}

/// Whether `name` can be a volume's: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub fn check_name(name: &str) -> Result<(), Error> {
    if state::is_name(name, MAX_NAME) { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_docker_s() {
        let longest = "x".repeat(200);
        for good in ["a", "7", "data", "a.b_c-d", "A..", &longest] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let longer = "x".repeat(201);
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "/a", "a b", "a\n", "ä", "a:b", "a\0", &longer] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn anonymous_names_differ_and_are_valid() {
        let [a, b] = [(); 2].map(|()| NewVolume::anonymous(Durability::Process).unwrap());
        assert!(a.anonymous && a.name.len() == 64 && a.name != b.name);
        check_name(&a.name).unwrap();
    }
}
