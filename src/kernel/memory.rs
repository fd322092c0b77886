//! Giving memory back: a monitor lives long, is one of many, and does next to nothing.

use nix::libc;
use std::io;

/// Lets go of every page of the program's file that is mapped only because starting up touched it (or its neighbours),
/// and of free heap. What is needed again is mapped again from the page cache.
pub fn trim() -> io::Result<()> {
    // Looking maps pages itself, so all of it is done before the first range is let go of.
    let ranges = unchanged_ranges()?;
    // SAFETY: takes a number; returns free pages of this process's own heap to the kernel.
    unsafe { libc::malloc_trim(0) };
    ranges.into_iter().try_for_each(|(start, end)| forget(start, end))
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
    // same, when it is touched again. The process has one thread, so nothing changes the mapping meanwhile.
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
