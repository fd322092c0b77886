//! The files of one container's log.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often to look again when a rotation moves the files while they are being opened.
const MAX_TRIES: u32 = 16;

/// `ctr.log` for 0, `ctr.log.1` for the file before it…
pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    match number {
        0 => dir.join("ctr.log"),
        n => dir.join(format!("ctr.log.{n}")),
    }
}

/// A log file and what tells it from the others.
pub(super) struct Opened {
    pub file: File,
    pub id: (u64, u64),
}

impl Opened {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        Ok(Self { file, id: (meta.dev(), meta.ino()) })
    }
}

/// All files of the log, the oldest first. Files only ever move to higher numbers, so opening them from the lowest
/// number on can meet one twice, never miss one, except when it moves between the listing and the opening.
pub(super) fn open_all(dir: &Path) -> io::Result<Vec<Opened>> {
    for _ in 0..MAX_TRIES {
        match try_open_all(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
    }
    // The folder is gone, or the container writes faster than we can open: then what is there has to do.
    Ok(Opened::open(&path(dir, 0)).into_iter().collect())
}

fn try_open_all(dir: &Path) -> io::Result<Vec<Opened>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        match name.to_str().and_then(|name| name.strip_prefix("ctr.log")) {
            Some("") => numbers.push(0),
            Some(suffix) => numbers.extend(suffix.strip_prefix('.').and_then(|n| n.parse::<u32>().ok())),
            None => {}
        }
    }
    numbers.sort_unstable();
    let mut files: Vec<Opened> = Vec::new();
    for number in numbers {
        let opened = Opened::open(&path(dir, number))?;
        if files.iter().all(|file| file.id != opened.id) {
            files.push(opened);
        }
    }
    files.reverse();
    Ok(files)
}
