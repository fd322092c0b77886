//! Giving memory back: a monitor lives long, is one of many, and does next to nothing.

use nix::libc;
use std::io;

/// Lets go of every page of the program's file that is mapped only because starting up touched it (or its neighbours),
/// and of free heap and stack. What is needed again is mapped again from the page cache.
///
/// # Errors
/// `EBUSY` if this process has more than one thread: only the main thread's stack has nothing else near it.
pub fn trim() -> io::Result<()> {
    super::process::check_single_thread()?;
    // Looking maps pages itself, so all of it is done before the first range is let go of.
    let program = Program::find()?;
    forget_dead_stack()?;
    program.trim()
}

/// Where the program's file is mapped and can be let go of, found while /proc can still be read.
#[derive(Debug)]
pub struct Program {
    ranges: Vec<(usize, usize)>,
}

impl Program {
    /// Looks.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn find() -> io::Result<Self> {
        Ok(Self { ranges: unchanged_ranges()? })
    }

    /// What [`trim`] does, but for the stack, so that a process with threads can, too.
    ///
    /// # Errors
    /// Those of madvise(2).
    pub fn trim(&self) -> io::Result<()> {
        // SAFETY: takes a number; returns free pages of this process's own heap to the kernel.
        unsafe { libc::malloc_trim(0) };
        self.ranges.iter().try_for_each(|(start, end)| forget(*start, *end))
    }
}

/// Lets go of the stack below the frames that are alive: parsing a command line takes more of it than waiting does.
fn forget_dead_stack() -> io::Result<()> {
    /// How deep earlier calls may have gone; what is not mapped in this range is skipped by the kernel.
    const DEPTH: usize = 256 << 10;
    /// Left alone: this frame's own red zone and the call below.
    const MARGIN: usize = 16 << 10;
    const PAGE: usize = 4096;
    let here = 0u8;
    let end = ((&raw const here).addr() - MARGIN) & !(PAGE - 1);
    let start = std::ptr::with_exposed_provenance_mut(end - DEPTH);
    // SAFETY: this is the only thread, the main one (checked by the caller), whose stack the kernel keeps apart from all
    // other mappings by far more than DEPTH (mmap_base, stack_guard_gap). The range is below every live frame, so
    // nothing reads from it what was there before; deeper calls write before they read. Of a part of it that is not
    // mapped madvise says ENOMEM and does the rest.
    let result = unsafe { libc::madvise(start, DEPTH, libc::MADV_DONTNEED) };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        e if e.raw_os_error() == Some(libc::ENOMEM) => Ok(()),
        e => Err(e),
    }
}

/// Where the program's file is mapped read-only and not a page of it was ever changed.
fn unchanged_ranges() -> io::Result<Vec<(usize, usize)>> {
    let exe = std::fs::read_link("/proc/self/exe")?;
    let exe = exe.to_string_lossy();
    let mut ranges = Vec::new();
    let mut current = None;
    for line in std::fs::read_to_string("/proc/self/smaps")?.lines() {
        match line.split_once(':') {
            // proc_pid_smaps(5): fields of the mapping above are `Name: value kB`.
            Some(("Anonymous", size)) if size.trim() == "0 kB" => ranges.extend(current.take()),
            _ if line.ends_with(&*exe) => current = read_only_range(line),
            // Another mapping's first line begins with its addresses.
            _ if line.starts_with(|c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()) => {
                current = None
            }
            _ => {}
        }
    }
    Ok(ranges)
}

/// The range of a line of /proc/PID/maps whose mapping cannot be written.
fn read_only_range(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    if !permissions.contains('w') && permissions.ends_with('p') {
        address(start).zip(address(end))
    } else {
        None
    }
}

fn forget(start: usize, end: usize) -> io::Result<()> {
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: [start, end) is a private mapping of this program's own file that is read-only and has no anonymous page,
    // that is, no page of it was ever changed (relocated data would be): each is read back from the file, the
    // same, when it is touched again, by whichever thread. Nothing in this program ever changes such a mapping.
    let result = unsafe { libc::madvise(address, end - start, libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_private_mappings_are_forgotten() {
        let line = |permissions: &str| format!("1000-3000 {permissions} 00000000 fe:00 1 /bin/x");
        assert_eq!(read_only_range(&line("r-xp")), Some((0x1000, 0x3000)));
        assert_eq!(read_only_range(&line("r--p")), Some((0x1000, 0x3000)));
        assert_eq!(read_only_range(&line("rw-p")), None);
        assert_eq!(read_only_range(&line("r--s")), None);
    }
}
