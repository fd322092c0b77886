//! Which paths of a container's /proc and /sys are hidden or read-only.
//!
//! These files speak of the whole machine, not of the container's namespaces. The lists are podman's; with
//! `--security-opt unmask=` a user takes paths out of them, with `mask=` he hides more. A privileged container has
//! neither list. Here it is only decided; a path that is not there needs nothing.

use crate::diagnose::Diagnose;
use std::iter::Peekable;
use std::str::Bytes;

/// Hidden: a file shows nothing, a folder is empty.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Visible and not writable, whatever the file modes say.
pub const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The folder of the processors, and what is hidden in each of theirs: counters that, as `/proc/interrupts`, tell of
/// a neighbour's doings.
const PROCESSORS: &str = "/sys/devices/system/cpu";
const MASKED_OF_PROCESSOR: &str = "thermal_throttle";

/// The paths, absolute in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// To be hidden.
    pub masked: Vec<String>,
    /// To be made read-only.
    pub read_only: Vec<String>,
}

/// Why a `mask=` or `unmask=` can not be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A path to mask must say where.
    #[error("path '{0}' to mask is not absolute")]
    Relative(String),
    /// A pattern with an unclosed bracket, an empty range, or a lone backslash at its end.
    #[error("pattern '{0}' to unmask is malformed")]
    Pattern(String),
}

impl Diagnose for Error {
    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Relative(_) => "give absolute paths, separated by colons".to_owned(),
            Self::Pattern(_) => {
                "close each '[' with a ']', or write '\\[' for the character itself".to_owned()
            }
        })
    }
}

/// The paths for a container that is not privileged. `mask` and `unmask` are the options' values, each one or more
/// paths with colons between them; those to unmask may be patterns, or `ALL`. `throttles` are the paths that
/// [`processor_throttles`] finds. As with podman, what is masked by name stays masked.
pub fn resolve(mask: &[String], unmask: &[String], throttles: Vec<String>) -> Result<Paths, Error> {
    let each = |values: &[String]| -> Vec<String> {
        values
            .iter()
            .flat_map(|value| value.split(':'))
            .filter(|p| !p.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let unmasks_all = unmask.iter().any(|value| value.eq_ignore_ascii_case("all"));
    let patterns: Vec<(String, Vec<Piece>)> =
        each(unmask).into_iter().map(|p| Ok((p.clone(), pieces(&p)?))).collect::<Result<_, Error>>()?;
    let stays = |path: &String| {
        !unmasks_all && !patterns.iter().any(|(_, pattern)| matches(pattern, path.as_bytes()))
    };
    let mut masked: Vec<String> =
        MASKED.into_iter().map(str::to_owned).chain(throttles).filter(|path| stays(path)).collect();
    for path in each(mask) {
        if !path.starts_with('/') {
            return Err(Error::Relative(path));
        }
        if !masked.contains(&path) {
            masked.push(path);
        }
    }
    let read_only = READ_ONLY.into_iter().map(str::to_owned).filter(|path| stays(path)).collect();
    Ok(Paths { masked, read_only })
}

/// The folders to hide of each processor that has one. Virtual machines have none.
pub fn processor_throttles() -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(PROCESSORS) else {
        return Vec::new(); // No /sys, nothing to hide in it.
    };
    let mut paths: Vec<String> = folder
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("cpu").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())))
        .map(|name| format!("{PROCESSORS}/{name}/{MASKED_OF_PROCESSOR}"))
        .filter(|path| std::path::Path::new(path).exists())
        .collect();
    paths.sort();
    paths
}

/// A piece of a pattern in the language of Go's `filepath.Match`, which podman has its users write.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// `*`: any bytes but a slash, also none.
    Many,
    /// `?`: any one byte but a slash.
    One,
    /// `[a-z]`, `[^a-z]`: one byte (not) of these ranges.
    Of { negated: bool, ranges: Vec<(u8, u8)> },
    /// A byte itself, also `\*`.
    Byte(u8),
}

/// A pattern in that language.
#[derive(Debug)]
pub struct Pattern(Vec<Piece>);

impl Pattern {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        pieces(text).map(Self)
    }

    /// Whether all of `path` fits.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(&self.0, path)
    }
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, Error> {
    let mut bytes = pattern.bytes().peekable();
    let mut pieces = Vec::new();
    while bytes.peek().is_some() {
        pieces.push(piece(&mut bytes).ok_or_else(|| Error::Pattern(pattern.to_owned()))?);
    }
    Ok(pieces)
}

fn piece(bytes: &mut Peekable<Bytes<'_>>) -> Option<Piece> {
    Some(match bytes.next()? {
        b'*' => Piece::Many,
        b'?' => Piece::One,
        b'\\' => Piece::Byte(bytes.next()?),
        b'[' => {
            let negated = bytes.next_if_eq(&b'^').is_some();
            let mut ranges = Vec::new();
            // A bracket that closes at once is malformed.
            while ranges.is_empty() || bytes.next_if_eq(&b']').is_none() {
                let low = bound(bytes)?;
                let high = if bytes.next_if_eq(&b'-').is_some() { bound(bytes)? } else { low };
                ranges.push((low, high));
            }
            Piece::Of { negated, ranges }
        }
        byte => Piece::Byte(byte),
    })
}

/// One end of a range in brackets.
fn bound(bytes: &mut Peekable<Bytes<'_>>) -> Option<u8> {
    match bytes.next()? {
        b'-' | b']' => None,
        b'\\' => bytes.next(),
        byte => Some(byte),
    }
}

impl Piece {
    /// Does this one byte fit?
    fn fits(&self, byte: u8) -> bool {
        match self {
            Self::Many | Self::One => byte != b'/',
            Self::Of { negated, ranges } => {
                byte != b'/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
            Self::Byte(wanted) => byte == *wanted,
        }
    }
}

fn matches(pattern: &[Piece], path: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // What comes after the last `*`, and how far that star reaches.
    let mut star = None;
    loop {
        match (pattern.get(at), path.get(read)) {
            (None, None) => return true,
            (Some(Piece::Many), _) => {
                at += 1;
                star = Some((at, read));
            }
            (Some(piece), Some(byte)) if piece.fits(*byte) => {
                at += 1;
                read += 1;
            }
            _ => match star {
                // It takes one byte more. To go back to an earlier star would not help: this one reaches as far.
                Some((after, end)) if path.get(end).is_some_and(|byte| Piece::Many.fits(*byte)) => {
                    star = Some((after, end + 1));
                    (at, read) = (after, end + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    fn resolved(mask: &[&str], unmask: &[&str]) -> Paths {
        resolve(&strings(mask), &strings(unmask), vec![format!("{PROCESSORS}/cpu3/thermal_throttle")])
            .unwrap()
    }

    #[test]
    fn the_lists_are_whole_when_nothing_is_said() {
        let paths = resolved(&[], &[]);
        assert_eq!(paths.masked.len(), MASKED.len() + 1);
        assert_eq!(paths.read_only, READ_ONLY);
    }

    #[test]
    fn unmasking_takes_paths_out_of_both_lists() {
        let paths = resolved(&[], &["/proc/acpi:/proc/sys", "/sys/devices/system/cpu/cpu*/thermal_throttle"]);
        assert!(!paths.masked.contains(&"/proc/acpi".to_owned()));
        assert!(!paths.read_only.contains(&"/proc/sys".to_owned()));
        assert_eq!(paths.masked.len(), MASKED.len() - 1);
        assert_eq!(paths.read_only.len(), READ_ONLY.len() - 1);
        // A pattern's star does not cross a slash, and a folder is not what is below it.
        assert_eq!(resolved(&[], &["/proc*", "/proc/"]).masked.len(), MASKED.len() + 1);
        let only_sys = resolved(&[], &["/proc/*"]);
        assert!(only_sys.masked.iter().all(|path| path.starts_with("/sys")));
        assert!(only_sys.read_only.is_empty());
    }

    #[test]
    fn unmasking_all_leaves_what_is_masked_by_name() {
        for all in ["ALL", "all"] {
            let paths = resolved(&["/proc/keys:/etc/secret"], &[all]);
            assert_eq!(paths, Paths { masked: strings(&["/proc/keys", "/etc/secret"]), read_only: vec![] });
        }
    }

    #[test]
    fn a_path_is_masked_once_and_must_be_absolute() {
        assert_eq!(resolved(&["/proc/keys"], &[]).masked.len(), MASKED.len() + 1);
        assert_eq!(
            resolve(&strings(&["proc/keys"]), &[], vec![]),
            Err(Error::Relative("proc/keys".to_owned()))
        );
    }

    #[test]
    fn patterns_match_as_gos_do() {
        for (pattern, path, expected) in [
            ("/proc/k*", "/proc/kcore", true),
            ("/proc/*s", "/proc/keys", true),
            ("/*/*", "/proc/keys", true),
            ("/*", "/proc/keys", false),
            ("/proc/k?ys", "/proc/keys", true),
            ("/proc?keys", "/proc/keys", false),
            ("/proc/[a-k]eys", "/proc/keys", true),
            ("/proc/[^k]eys", "/proc/keys", false),
            ("/proc/[^x]eys", "/proc/keys", true),
            ("/proc/\\*", "/proc/keys", false),
            ("/proc/\\*", "/proc/*", true),
            ("/proc/[\\]]", "/proc/]", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("*a*/b", "aaa/b", true),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(&pieces(pattern).unwrap(), path.as_bytes()), expected, "{pattern} {path}");
        }
        for malformed in ["[", "[]", "[a", "[a-", "[a-]", "[-a]", "\\", "[^]"] {
            let resolved = resolve(&[], &strings(&[malformed]), vec![]);
            assert_eq!(resolved, Err(Error::Pattern(malformed.to_owned())));
        }
    }
}
