//! The side of `logs`: entries become the container's output again.

use super::entry::{Entry, MAX_HEAD, Stream};
use super::files::{self, Opened};
use crate::timestamp::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// How long to wait for news at most before asking whether the container has ended.
const POLL_MS: u16 = 200;
/// How much is read at once when looking for the start of the last lines.
const BLOCK: usize = 64 << 10;

/// What to show of a log.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Go on with what is written until the container has ended.
    pub follow: bool,
    /// Only the last so many lines (of both streams together), and what follows.
    pub tail: Option<usize>,
    /// Nothing before this; applied after `tail`.
    pub since: Option<Timestamp>,
    /// Nothing after this; applied after `tail`.
    pub until: Option<Timestamp>,
    /// Each line begins with its time.
    pub timestamps: bool,
}

/// Prints the log in the folder `dir`, the container's two streams to `out` and `err`. When following, `ended` is
/// asked whether the container has ended; what it wrote before that is printed before this returns.
pub fn print(
    dir: &Path,
    query: &LogQuery,
    out: &mut dyn Write,
    err: &mut dyn Write,
    ended: &mut dyn FnMut() -> bool,
) -> io::Result<()> {
    let mut printer = Printer { query, out, err, continues: [false; 2], past_end: false };
    let watch = if query.follow { Some(Watch::new(dir)) } else { None };
    let files = files::open_all(dir)?;
    let (first, offset) = match query.tail {
        Some(lines) => start_of_tail(&files, lines)?,
        None => (0, 0),
    };
    let mut current = None;
    for (number, file) in files.into_iter().enumerate().skip(first) {
        let mut following = Following::new(file, if number == first { offset } else { 0 })?;
        following.print_new(&mut printer)?;
        current = Some(following);
    }
    printer.flush()?;
    let Some(watch) = watch else { return Ok(()) };
    loop {
        // Asked before the last look, so that what was written just before the end is seen.
        let last = ended() || query.until.is_some_and(|until| Timestamp::now() > until);
        catch_up(dir, &mut current, &mut printer)?;
        printer.flush()?;
        if last || printer.past_end {
            return Ok(());
        }
        watch.wait();
    }
}

/// Prints what has been added, in this file and in those that have taken its name since.
fn catch_up(dir: &Path, current: &mut Option<Following>, printer: &mut Printer<'_>) -> io::Result<()> {
    loop {
        // No such file: nothing was written yet, or a rotation is under way, and the next look will tell.
        let Ok(newest) = fs::metadata(files::path(dir, 0)) else {
            return current.as_mut().map_or(Ok(()), |file| file.print_new(printer));
        };
        // Looked at before reading: what has lost its name is complete.
        if let Some(file) = current {
            file.print_new(printer)?;
            if file.id == (newest.dev(), newest.ino()) {
                return Ok(());
            }
        }
        let id = current.as_ref().map(|file| file.id);
        let files = files::open_all(dir)?;
        // If ours has been deleted already, all that is left is new.
        let next = files.iter().position(|file| Some(file.id) == id).map_or(0, |ours| ours + 1);
        let before = id;
        for file in files.into_iter().skip(next) {
            let mut following = Following::new(file, 0)?;
            following.print_new(printer)?;
            *current = Some(following);
        }
        if current.as_ref().map(|file| file.id) == before {
            return Ok(());
        }
    }
}

/// A file that is being read to its present end, again and again.
struct Following {
    reader: BufReader<File>,
    id: (u64, u64),
    /// Where the entry after the last whole one starts.
    offset: u64,
    line: Vec<u8>,
}

impl Following {
    fn new(opened: Opened, offset: u64) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(BLOCK, opened.file);
        reader.seek(SeekFrom::Start(offset))?;
        Ok(Self { reader, id: opened.id, offset, line: Vec::new() })
    }

    fn print_new(&mut self, printer: &mut Printer<'_>) -> io::Result<()> {
        loop {
            self.line.clear();
            let len = self.reader.read_until(b'\n', &mut self.line)?;
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                self.offset += len as u64;
                printer.print(&self.line)?;
                continue;
            }
            // The rest may still come; or the writer, on a full disk, cuts it off again.
            if len > 0 {
                self.reader.seek(SeekFrom::Start(self.offset))?;
            }
            return Ok(());
        }
    }
}

struct Printer<'a> {
    query: &'a LogQuery,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Whether the last entry of each stream was a part of a line.
    continues: [bool; 2],
    /// An entry after `until` was seen.
    past_end: bool,
}

impl Printer<'_> {
    fn print(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(entry) = Entry::parse(line) else { return Ok(()) };
        if self.query.since.is_some() || self.query.until.is_some() {
            let Some(time) = entry.timestamp() else { return Ok(()) };
            if self.query.until.is_some_and(|until| time > until) {
                self.past_end = true;
                return Ok(());
            }
            if self.query.since.is_some_and(|since| time < since) {
                return Ok(());
            }
        }
        let (to, continues) = match entry.stream {
            Stream::Stdout => (&mut self.out, &mut self.continues[0]),
            Stream::Stderr => (&mut self.err, &mut self.continues[1]),
        };
        if self.query.timestamps && !*continues {
            to.write_all(entry.time)?;
            to.write_all(b" ")?;
        }
        to.write_all(entry.text)?;
        if entry.full {
            to.write_all(b"\n")?;
        }
        *continues = !entry.full;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

/// In which file and where in it the last `lines` lines start.
fn start_of_tail(files: &[Opened], lines: usize) -> io::Result<(usize, u64)> {
    let mut search = TailSearch { lines, seen: 0 };
    for (number, file) in files.iter().enumerate().rev() {
        if let Some(offset) = search.in_file(&file.file)? {
            return Ok((number, offset));
        }
    }
    Ok((0, 0))
}

/// Counts lines from the end. A line ends with an F entry; P entries belong to the next one after them, but for
/// those at the very end, which are a line that is not finished.
struct TailSearch {
    lines: usize,
    seen: usize,
}

impl TailSearch {
    /// The offset in `file` after which there are `lines` lines, if it holds so many.
    fn in_file(&mut self, file: &File) -> io::Result<Option<u64>> {
        let mut block_end = file.metadata()?.len();
        // The end of the entry whose start we are looking for, once the first newline has been seen.
        let mut entry_end = None;
        let mut block = vec![0; BLOCK + MAX_HEAD];
        while block_end > 0 {
            let block_start = block_end.saturating_sub(BLOCK as u64);
            // With the head of an entry that starts at the end of the block.
            let filled = read_at(file, &mut block, block_start)?;
            let len = usize::try_from(block_end - block_start).unwrap_or(BLOCK).min(filled);
            for at in (0..len).rev() {
                if block[at] == b'\n' {
                    if let Some(end) = entry_end
                        && self.is_enough(&block[at + 1..filled])
                    {
                        return Ok(Some(end));
                    }
                    entry_end = Some(block_start + at as u64 + 1);
                }
            }
            if block_start == 0
                && let Some(end) = entry_end
                && self.is_enough(&block[..filled])
            {
                return Ok(Some(end));
            }
            block_end = block_start;
        }
        Ok(None)
    }

    /// Whether the lines after the entry that starts here are enough.
    fn is_enough(&mut self, head: &[u8]) -> bool {
        let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
        let Some(entry) = Entry::parse(&line[..line.len().min(MAX_HEAD)]) else { return self.lines == 0 };
        if self.seen == self.lines && (entry.full || self.lines == 0) {
            return true;
        }
        if entry.full || self.seen == 0 {
            self.seen += 1;
        }
        false
    }
}

fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Wakes up when something happens in a folder, or after a while.
struct Watch(Option<Inotify>);

impl Watch {
    /// Without inotify (its instances are few per user) there is still the while.
    fn new(dir: &Path) -> Self {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            inotify.add_watch(
                dir,
                AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
            )?;
            Ok::<_, nix::Error>(inotify)
        };
        Self(watch().ok())
    }

    fn wait(&self) {
        let Some(inotify) = &self.0 else {
            return std::thread::sleep(Duration::from_millis(POLL_MS.into()));
        };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(POLL_MS)).is_ok_and(|ready| ready > 0) {
            // What happened does not matter, that it did not happen twice does.
            let _ = inotify.read_events();
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
