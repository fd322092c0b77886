//! One line of a log file.

use crate::timestamp::Timestamp;

/// Which stream of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and all output of a container with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// An entry, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub time: &'a [u8],
    pub stream: Stream,
    /// F: the container wrote a newline after it.
    pub full: bool,
    pub text: &'a [u8],
}

/// Enough of an entry's start for [`Entry::parse`] to see everything but the text.
pub(super) const MAX_HEAD: usize = 64;

impl<'a> Entry<'a> {
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |&b| b == b' ');
        let time = fields.next().filter(|time| (20..=35).contains(&time.len()))?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let full = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { time, stream, full, text: fields.next()? })
    }

    pub fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_podman_and_kubernetes_are_read() {
        let entry = Entry::parse(b"2025-01-31T12:00:00.123456789+01:00 stderr F a b\xff ").unwrap();
        assert_eq!((entry.stream, entry.full, entry.text), (Stream::Stderr, true, &b"a b\xff "[..]));
        assert_eq!(entry.timestamp().unwrap().unix_seconds(), 1_738_321_200);
        assert_eq!(Entry::parse(b"2025-01-31T12:00:00Z stdout P ").unwrap().text, b"");
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for line in [
            "",
            "text",
            "2025-01-31T12:00:00Z",
            "2025-01-31T12:00:00Z stdout",
            "2025-01-31T12:00:00Z stdout F",
            "2025-01-31T12:00:00Z stdin F x",
            "2025-01-31T12:00:00Z stdout X x",
            "short stdout F x",
        ] {
            assert_eq!(Entry::parse(line.as_bytes()), None, "{line}");
        }
    }
}
