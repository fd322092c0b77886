//! Locks that end with their holder.

use super::Error;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A held lock on a file: an open file description lock (fcntl_locking(2), `F_OFD_SETLK`). It is released
/// when every copy of the descriptor, in every process that inherited it, is closed.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, waiting for its holder. The file is created with mode 0600.
    pub fn exclusive(path: &Path) -> Result<Self, Error> {
        Self::take(path, true, Kind::Write).map(|lock| lock.expect_waited(path))?
    }

    /// Takes the lock together with other readers, waiting for a writer.
    pub fn shared(path: &Path) -> Result<Self, Error> {
        Self::take(path, true, Kind::Read).map(|lock| lock.expect_waited(path))?
    }

    /// Takes the lock if nobody has it; `None` if somebody does.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, Error> {
        Self::take(path, false, Kind::Write)
    }

    /// A second lock of a holder, on a folder: nobody is kept from anything, but whoever asks knows that it lives
    /// ([`Lock::is_kept`]). There may be any number of them.
    pub fn keep(folder: &Path) -> Result<Self, Error> {
        let file = File::open(folder).map_err(Error::io("lock", folder))?;
        // A descriptor that cannot write, which a folder's never can, takes no other kind.
        fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(Kind::Read)))
            .map_err(|e| Error::io("lock", folder)(e.into()))?;
        Ok(Self { file })
    }

    /// Whether somebody keeps this folder.
    pub fn is_kept(folder: &Path) -> Result<bool, Error> {
        Self::conflicts(folder, Kind::Write)
    }

    /// Whether somebody holds the lock exclusively now. Asks without taking it, so it disturbs nobody.
    pub fn is_held(path: &Path) -> Result<bool, Error> {
        Self::conflicts(path, Kind::Read)
    }

    fn conflicts(path: &Path, kind: Kind) -> Result<bool, Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("lock", path)(e)),
        };
        let mut query = whole_file(kind);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut query)).map_err(|e| Error::io("lock", path)(e.into()))?;
        Ok(i32::from(query.l_type) != libc::F_UNLCK)
    }

    /// Writes into the file who holds the lock, for [`Lock::holder`]: the kernel does not tell, since it is not a
    /// process but an open file that holds it. Nothing else is ever written there, and always as many bytes.
    pub fn sign(&self, pid: i32, start_time: u64) -> Result<(), Error> {
        let text = format!("{pid:>11} {start_time:>20}\n");
        self.file.write_all_at(text.as_bytes(), 0).map_err(Error::io("sign", Path::new("the lock")))
    }

    /// The pid and the start time (clock ticks since boot) of who signed the lock last; it need not hold it any more.
    pub fn holder(path: &Path) -> Option<(i32, u64)> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    }

    fn take(path: &Path, wait: bool, kind: Kind) -> Result<Option<Self>, Error> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(Error::io("lock", path))?;
            let request = whole_file(kind);
            let done = if wait {
                fcntl(&file, FcntlArg::F_OFD_SETLKW(&request))
            } else {
                fcntl(&file, FcntlArg::F_OFD_SETLK(&request))
            };
            match done {
                Ok(_) => {}
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::EAGAIN | nix::Error::EACCES) if !wait => return Ok(None),
                Err(e) => return Err(Error::io("lock", path)(e.into())),
            }
            // Whoever removed the file while we waited took its name away: ours locks nothing then.
            let ours = file.metadata().map_err(Error::io("lock", path))?;
            match std::fs::metadata(path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Some(Self { file }));
                }
                _ => continue,
            }
        }
    }
}

/// For the waiting forms: `take` only answers `None` when it was told not to wait.
trait ExpectWaited {
    fn expect_waited(self, path: &Path) -> Result<Lock, Error>;
}

impl ExpectWaited for Option<Lock> {
    fn expect_waited(self, path: &Path) -> Result<Lock, Error> {
        self.ok_or_else(|| Error::io("lock", path)(ErrorKind::WouldBlock.into()))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

fn whole_file(kind: Kind) -> libc::flock {
    let l_type = match kind {
        Kind::Read => libc::F_RDLCK,
        Kind::Write => libc::F_WRLCK,
    };
    libc::flock {
        // The constants are 0 to 2.
        l_type: i16::try_from(l_type).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_by_others_without_being_taken_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn a_folder_is_kept_by_any_number_until_the_last_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Lock::is_kept(dir.path()).unwrap());
        let keepers = [(); 2].map(|()| Lock::keep(dir.path()).unwrap());
        for keeper in keepers {
            assert!(Lock::is_kept(dir.path()).unwrap());
            drop(keeper);
        }
        assert!(!Lock::is_kept(dir.path()).unwrap());
        assert!(!Lock::is_kept(&dir.path().join("missing")).unwrap());
    }

    #[test]
    fn a_lock_tells_who_signed_it_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::exclusive(&path).unwrap();
        assert_eq!(Lock::holder(&path), None);
        lock.sign(i32::MAX, u64::MAX).unwrap();
        assert_eq!(Lock::holder(&path), Some((i32::MAX, u64::MAX)));
        lock.sign(1, 2).unwrap();
        assert_eq!(Lock::holder(&path), Some((1, 2)));
    }

    #[test]
    fn a_waiter_whose_file_was_removed_locks_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::exclusive(&path).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::exclusive(&path).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            std::fs::remove_file(&path).unwrap();
            drop(first);
            let second = waiter.join().unwrap();
            assert!(Lock::is_held(&path).unwrap());
            drop(second);
        });
    }
}
