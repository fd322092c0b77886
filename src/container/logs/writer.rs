//! The monitor's side: chunks of output become entries.

use super::entry::Stream;
use super::files::path;
use crate::container::request::{LogDriver, LogOptions};
use crate::state::remove_file_if_there;
use crate::timestamp::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Entries are gathered up to this size and written by one write(2).
const BATCH: usize = 64 << 10;

/// Writes a container's output to its log files.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    driver: LogDriver,
    /// 0: no limit.
    max_size: u64,
    max_file: u32,
    file: Option<File>,
    /// Length of `file`: all whole entries.
    size: u64,
    batch: Vec<u8>,
    clock: Clock,
    /// Bytes of output lost since the first failure, and that failure.
    lost: u64,
    failure: Option<String>,
}

impl LogWriter {
    /// For the log in the folder `dir`, which is the container's own. Touches no file yet.
    pub fn open(dir: &Path, options: &LogOptions) -> Self {
        Self {
            dir: dir.to_owned(),
            driver: options.driver,
            max_size: options.max_size,
            max_file: options.max_file.max(1),
            file: None,
            size: 0,
            batch: Vec::new(),
            clock: Clock::default(),
            lost: 0,
            failure: None,
        }
    }

    /// Logs what the container wrote in one go. If that fails the output is dropped and the container goes on: the
    /// error is for the monitor to note, and is returned only for the first of a row of failures.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) -> io::Result<()> {
        if self.driver == LogDriver::None || chunk.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let written = self.report_loss().and_then(|()| self.append(now, stream, chunk));
        self.batch.clear();
        match written {
            Ok(()) => Ok(()),
            Err(e) => {
                self.lost += chunk.len() as u64;
                // A torn entry would hide the one after it.
                if let Some(file) = &self.file {
                    let _ = file.set_len(self.size);
                }
                match self.failure.replace(e.to_string()) {
                    None => Err(e),
                    Some(_) => Ok(()),
                }
            }
        }
    }

    fn report_loss(&mut self) -> io::Result<()> {
        let Some(failure) = self.failure.take() else { return Ok(()) };
        let note = format!("coracle: {} bytes of output were not logged: {failure}\n", self.lost);
        let now = self.clock.now();
        match self.append(now, Stream::Stderr, note.as_bytes()) {
            Ok(()) => {
                self.lost = 0;
                Ok(())
            }
            Err(e) => {
                self.failure = Some(failure);
                Err(e)
            }
        }
    }

    fn append(&mut self, time: [u8; TIME_LEN], stream: Stream, chunk: &[u8]) -> io::Result<()> {
        for line in chunk.split_inclusive(|&b| b == b'\n') {
            let (flag, text) = match line.split_last() {
                Some((b'\n', text)) => (b'F', text),
                _ => (b'P', line),
            };
            let name = stream.name().as_bytes();
            let len = TIME_LEN + name.len() + text.len() + 5;
            self.make_room(len)?;
            self.batch.reserve(len);
            for part in [&time[..], b" ", name, b" ", &[flag], b" ", text, b"\n"] {
                self.batch.extend_from_slice(part);
            }
        }
        self.flush()
    }

    /// Writes out or rotates before an entry of `len` bytes, where it would not fit otherwise.
    fn make_room(&mut self, len: usize) -> io::Result<()> {
        if !self.batch.is_empty() && self.batch.len() + len > BATCH {
            self.flush()?;
        }
        if self.max_size == 0 {
            return Ok(());
        }
        if self.file.is_none() {
            self.open_file()?;
        }
        let used = self.size + self.batch.len() as u64;
        if used > 0 && used + len as u64 > self.max_size {
            self.flush()?;
            self.rotate()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.open_file()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.batch)?;
        }
        self.size += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    fn open_file(&mut self) -> io::Result<()> {
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path(&self.dir, 0))?;
        self.size = file.metadata()?.len();
        // An earlier run of this container may have been cut off in the middle of an entry, by a power cut.
        let mut last = [b'\n'];
        if self.size > 0 {
            file.read_exact_at(&mut last, self.size - 1)?;
        }
        if last != [b'\n'] {
            (&file).write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // What is there beyond the limit was kept by an earlier, larger one, or is the oldest file.
        remove_file_if_there(&path(&self.dir, self.max_file - 1)).map_err(io::Error::other)?;
        for number in (1..self.max_file).rev() {
            match fs::rename(path(&self.dir, number - 1), path(&self.dir, number)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.file = None;
        self.open_file()
    }
}

/// Length of a time as it is written.
const TIME_LEN: usize = "2025-01-31T12:00:00.123456789Z".len();
/// Where the nanoseconds start in it.
const NANOS_AT: usize = TIME_LEN - 10;

/// The time as text. The calendar is consulted once a second; between, only the nanoseconds are written.
#[derive(Debug)]
struct Clock {
    second: Option<i64>,
    text: [u8; TIME_LEN],
}

impl Default for Clock {
    fn default() -> Self {
        Self { second: None, text: [b' '; TIME_LEN] }
    }
}

impl Clock {
    fn now(&mut self) -> [u8; TIME_LEN] {
        self.at(Timestamp::now())
    }

    fn at(&mut self, time: Timestamp) -> [u8; TIME_LEN] {
        if self.second == Some(time.unix_seconds()) {
            let mut nanos = time.nanos();
            for digit in self.text[NANOS_AT..TIME_LEN - 1].iter_mut().rev() {
                // A remainder of ten fits.
                *digit = b'0' + (nanos % 10) as u8;
                nanos /= 10;
            }
        } else {
            // After the year 9999 the text is longer; a wrong date is then better than no log.
            for (to, from) in self.text.iter_mut().zip(time.to_string().bytes()) {
                *to = from;
            }
            self.second = Some(time.unix_seconds());
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max_size: u64, max_file: u32) -> LogOptions {
        LogOptions { driver: LogDriver::K8sFile, max_size, max_file }
    }

    /// The file's entries without their times.
    fn entries(dir: &Path, number: u32) -> Vec<String> {
        let bytes = fs::read(path(dir, number)).unwrap();
        let lines = bytes.split_inclusive(|&b| b == b'\n');
        lines.map(|l| String::from_utf8_lossy(&l[TIME_LEN + 1..]).into_owned()).collect()
    }

    #[test]
    fn chunks_become_entries_of_whole_and_partial_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), &options(0, 1));
        log.write(Stream::Stdout, b"").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a silent container has no log");
        log.write(Stream::Stdout, b"one\ntwo\n\nthr").unwrap();
        log.write(Stream::Stderr, b"err\xff\0\n").unwrap();
        log.write(Stream::Stdout, b"ee\n").unwrap();
        let expected = ["stdout F one\n", "stdout F two\n", "stdout F \n", "stdout P thr\n"];
        let written = entries(dir.path(), 0);
        assert_eq!(written[..4], expected);
        assert_eq!(written[4..], ["stderr F err\u{fffd}\0\n", "stdout F ee\n"]);
    }

    #[test]
    fn the_driver_none_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log =
            LogWriter::open(dir.path(), &LogOptions { driver: LogDriver::None, ..LogOptions::default() });
        log.write(Stream::Stdout, b"x\n").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_stay_below_their_size_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), &options(100, 3));
        // Two entries of 40 bytes fit a file.
        for n in 0..9 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(entries(dir.path(), 0), ["stdout F 8\n"]);
        assert_eq!(entries(dir.path(), 1), ["stdout F 6\n", "stdout F 7\n"]);
        assert_eq!(entries(dir.path(), 2), ["stdout F 4\n", "stdout F 5\n"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        log.write(Stream::Stdout, b"a\nb\nc\nd\n").unwrap();
        assert_eq!(entries(dir.path(), 0), ["stdout F d\n"]);
        assert_eq!(entries(dir.path(), 1), ["stdout F b\n", "stdout F c\n"]);
        assert_eq!(entries(dir.path(), 2), ["stdout F 8\n", "stdout F a\n"]);
    }

    #[test]
    fn with_one_file_it_starts_afresh() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), &options(50, 1));
        for n in 0..3 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(entries(dir.path(), 0), ["stdout F 2\n"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_entry_larger_than_the_limit_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), &options(10, 2));
        log.write(Stream::Stdout, &[b'x'; 200_000]).unwrap();
        log.write(Stream::Stdout, b"y\n").unwrap();
        assert_eq!(entries(dir.path(), 0), ["stdout F y\n"]);
        assert_eq!(entries(dir.path(), 1)[0].len(), 200_000 + 10);
    }

    #[test]
    fn a_later_run_goes_on_after_a_torn_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path(), 0), "2025-01-31T12:00:00.000000000Z stdout F to").unwrap();
        LogWriter::open(dir.path(), &options(1000, 1)).write(Stream::Stdout, b"next\n").unwrap();
        assert_eq!(entries(dir.path(), 0), ["stdout F to\n", "stdout F next\n"]);
    }

    #[test]
    fn output_that_cannot_be_written_is_dropped_and_noted_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("gone");
        let mut log = LogWriter::open(&folder, &options(0, 1));
        assert!(log.write(Stream::Stdout, b"1234").is_err());
        log.write(Stream::Stdout, b"5678").expect("a second failure in a row is silent");
        fs::create_dir(&folder).unwrap();
        log.write(Stream::Stdout, b"here\n").unwrap();
        let written = entries(&folder, 0);
        assert!(written[0].starts_with("stderr F coracle: 8 bytes of output were not logged: No such"));
        assert_eq!(written[1..], ["stdout F here\n"]);
    }

    /// On a real full file system, which only root in a namespace can make: elsewhere there is nothing to see.
    #[test]
    fn a_full_disk_leaves_whole_entries() {
        use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
        use std::os::fd::AsRawFd;
        let Ok(context) = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) else { return };
        rustix::mount::fsconfig_set_string(&context, "size", "64k").unwrap();
        fsconfig_create(&context).unwrap();
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        let dir = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));

        let ballast = dir.join("ballast");
        fs::write(&ballast, [0; 32 << 10]).unwrap();
        let mut log = LogWriter::open(&dir, &options(0, 1));
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let error = (0..100).find_map(|_| log.write(Stream::Stdout, &line).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        fs::remove_file(&ballast).unwrap();
        log.write(Stream::Stdout, b"room\n").unwrap();
        let written = entries(&dir, 0);
        let (last, earlier) = written.split_last().unwrap();
        let (notice, whole) = earlier.split_last().unwrap();
        assert_eq!(last, "stdout F room\n");
        assert!(notice.contains("bytes of output were not logged: No space left"), "{notice}");
        assert!(whole.len() > 5 && whole.iter().all(|entry| entry.len() == 1009));
    }

    #[test]
    fn the_clock_writes_what_the_calendar_says() {
        let mut clock = Clock::default();
        for (seconds, nanos) in [(5, 0), (5, 1), (5, 999_999_999), (86_400, 120), (86_400, 7_000)] {
            let time = Timestamp::from_unix(seconds, nanos);
            assert_eq!(clock.at(time), time.to_string().as_bytes());
        }
    }
}
