//! What a program says, in lines that can be shown.

/// A line that is longer is shown as several.
const LONGEST: usize = 8 << 10;

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that these bytes complete.
    pub fn cut(&mut self, bytes: &[u8]) -> impl Iterator<Item = String> + use<> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LONGEST) {
                self.begun.extend_from_slice(part);
                if part.ends_with(b"\n") || self.begun.len() >= LONGEST {
                    lines.extend(self.rest());
                }
            }
        }
        lines.into_iter()
    }

    /// What has not ended.
    pub fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.begun);
        if line.is_empty() {
            return None;
        }
        let line = line.strip_suffix(b"\n").map_or(&line[..], |line| line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // What a terminal would have left of a line that was written over.
        let line = line.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        Some(shown(line))
    }
}

/// As text of one line that makes a terminal do nothing.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\t' => text.push('\t'),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.cut(b"a\n\nb").collect::<Vec<_>>(), ["a", ""]);
        assert_eq!(lines.cut(b"c\r\n10%\r99%\r100%\nl").collect::<Vec<_>>(), ["bc", "100%"]);
        assert_eq!(lines.rest().as_deref(), Some("l"));
        assert_eq!(lines.rest(), None);
        // A character in two pieces.
        assert_eq!(lines.cut("ü".as_bytes().split_at(1).0).count(), 0);
        assert_eq!(lines.cut(b"\xbc\n").collect::<Vec<_>>(), ["ü"]);
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        let cut: Vec<String> = (0..10).flat_map(|_| lines.cut(&[b'x'; 5000])).collect();
        assert!(cut.iter().map(String::len).sum::<usize>() >= 50_000 - LONGEST);
        assert!(cut.iter().all(|line| line.len() <= LONGEST + 5000) && lines.begun.len() < LONGEST);
    }

    #[test]
    fn a_terminal_does_not_obey_what_is_shown() {
        assert_eq!(shown(b"\x1b[2J\x07a\tb\xff"), "\\u{1b}[2J\\u{7}a\tb\u{fffd}");
    }
}
