//! A file for the user that appears whole or not at all.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A file that is being written under the name that the user gave. It has no name until [`NewFile::publish`], so
/// that nothing is left of one that is given up, killed or cut off by a full disk. What cannot be replaced (a pipe, a device)
/// is written as it is.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    target: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// It has no name yet.
    Nowhere,
    /// The file system has no files without names: it has this one for now.
    Beside(PathBuf),
    /// The target itself.
    Target,
}

impl NewFile {
    /// Begins the file that shall be at `target`, which is not touched until it is published.
    pub fn create(target: &Path) -> io::Result<Self> {
        // A link is followed: what it points to is replaced, not the link.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            let file = OpenOptions::new().write(true).open(&target)?;
            return Ok(Self { file, target, place: Place::Target });
        }
        if target.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // The user's umask decides, as for any file that a program writes for him.
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::open(&folder, flags, mode) {
            Ok(file) => Ok(Self { file: file.into(), target, place: Place::Nowhere }),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                let beside = beside(&target);
                let file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
                Ok(Self { file, target, place: Place::Beside(beside) })
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives it its name, in place of what had it.
    pub fn publish(mut self) -> io::Result<()> {
        self.file.flush()?;
        if let Place::Nowhere = self.place {
            let ours = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            match linkat(CWD, &ours, CWD, &self.target, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => self.place = Place::Target,
                Err(rustix::io::Errno::EXIST) => {
                    // link(2) replaces nothing, rename(2) does.
                    let beside = beside(&self.target);
                    linkat(CWD, &ours, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
                    self.place = Place::Beside(beside);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        if let Place::Beside(path) = &self.place {
            fs::rename(path, &self.target)?;
            self.place = Place::Target;
        }
        Ok(())
    }
}

fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Place::Beside(path) = &self.place {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.publish().unwrap();
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"another").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        file.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"another");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_and_a_device_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("out"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("out", &link).unwrap();
        let mut file = NewFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mut null = NewFile::create(Path::new("/dev/null")).unwrap();
        null.write_all(b"x").unwrap();
        null.publish().unwrap();
        assert!(NewFile::create(dir.path()).is_err());
        assert!(NewFile::create(&dir.path().join("no/where")).is_err());
    }
}
