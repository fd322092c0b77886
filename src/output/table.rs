//! Aligned columns, as docker's listings have them (Go's tabwriter with a gap of three).

use std::borrow::Cow;
use unicode_width::UnicodeWidthStr;

const GAP: usize = 3;
const NARROWEST: usize = 10;

/// Aligns cells that are separated by tabs. A line's last cell is not padded. Control characters, which an
/// image's labels may hold, are shown and not obeyed by the terminal.
pub fn align(text: &str) -> String {
    let text = &shown(text);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for line in &lines {
        // The last cell needs no room for what follows it.
        for (cell, widest) in line.iter().zip(&mut widths).take(line.len() - 1) {
            *widest = width(cell).max(*widest);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for line in &lines {
        for (index, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if index + 1 < line.len() {
                let room = (widths[index] + GAP).max(NARROWEST);
                out.extend(std::iter::repeat_n(' ', room.saturating_sub(width(cell))));
            }
        }
        out.push('\n');
    }
    out
}

fn shown(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\t' && c != '\n';
    if !text.contains(obeyed) {
        return text.into();
    }
    let mut shown = String::new();
    for c in text.chars() {
        match obeyed(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown.into()
}

/// Columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { UnicodeWidthStr::width(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = "NAME\tSTATUS\tIMAGE\na-rather-long-name\tUp\tx\nb\tExited\ty\n";
        let expected = "NAME                 STATUS    IMAGE\na-rather-long-name   Up        x\nb                    Exited    y\n";
        assert_eq!(align(text), expected);
    }

    #[test]
    fn a_terminal_does_not_obey_a_cell() {
        assert_eq!(align("a\x1b[2J\tb\n"), "a\\u{1b}[2J   b\n");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(align("漢字\tx\nab\ty\n"), "漢字      x\nab        y\n");
    }
}
