//! Text on a page of 80 columns.

use std::fmt::Write as _;
use std::io::IsTerminal;

const WIDTH: usize = 78;

/// What the terminal can show.
pub struct Page {
    utf8: bool,
    styled: bool,
    text: String,
}

impl Page {
    /// UTF-8 unless the locale says otherwise (a container seldom has one), styles only on a terminal that wants them.
    pub fn new() -> Self {
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(var).map(|l| l.to_ascii_lowercase());
        let utf8 = locale.is_none_or(|l| l.contains("utf-8") || l.contains("utf8"));
        let plain = var("NO_COLOR").is_some() || var("TERM").is_some_and(|t| t == "dumb");
        Self { utf8, styled: std::io::stdout().is_terminal() && !plain, text: String::new() }
    }

    /// All that was written.
    pub fn finish(self) -> String {
        self.text
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A line of its own weight.
    pub fn heading(&mut self, text: &str) {
        let (on, off) = self.style("1");
        let _ = writeln!(self.text, "{on}{text}{off}");
    }

    /// A fact with its name in front of it; the text is wrapped.
    pub fn fact(&mut self, name: &str, text: &str) {
        let (on, off) = self.style("36");
        for (i, line) in wrap(text, WIDTH - 16).iter().enumerate() {
            let _ = match i {
                0 => writeln!(self.text, "  {on}{name:<14}{off}{line}"),
                _ => writeln!(self.text, "{:16}{line}", ""),
            };
        }
    }

    /// A remark below a figure; the text is wrapped.
    pub fn remark(&mut self, text: &str) {
        let (on, off) = self.style("2");
        for line in wrap(text, WIDTH - 2) {
            let _ = writeln!(self.text, "  {on}{line}{off}");
        }
    }

    /// A command and what it is for.
    pub fn command(&mut self, command: &str, what_for: &str) {
        let (on, off) = self.style("1");
        let _ = writeln!(self.text, "  {on}{command:<26}{off}{what_for}");
    }

    /// An attempt, by what call, and how it ended.
    pub fn attempt(&mut self, what: &str, call: &str, end: &str) {
        let (on, off) = self.style("2");
        let _ = writeln!(self.text, "  {what:<26}{on}{call:<31}{off}{end}");
    }

    /// A stack of boxes, the first of which is set apart. A row is a title, a text, and a remark at the right.
    pub fn stack(&mut self, rows: &[[&str; 3]]) {
        let (line, bar) = if self.utf8 { ('─', '│') } else { ('-', '|') };
        let corners = |utf8, ascii| if self.utf8 { utf8 } else { ascii };
        let edges = [corners("┌┐", "++"), corners("├┤", "++"), corners("└┘", "++")];
        let inner = WIDTH - 4;
        let edge = |text: &mut String, ends: &str| {
            let mut ends = ends.chars();
            let (left, right) = (ends.next().unwrap_or('+'), ends.next().unwrap_or('+'));
            let _ = writeln!(text, "  {left}{}{right}", line.to_string().repeat(inner));
        };
        let (bold, off) = self.style("1");
        let (dim, _) = self.style("2");
        edge(&mut self.text, edges[0]);
        for (i, [title, content, remark]) in rows.iter().enumerate() {
            if i > 0 {
                edge(&mut self.text, edges[1]);
            }
            let room = inner - 16 - remark.chars().count();
            let content = shorten(content, room);
            let _ = writeln!(
                self.text,
                "  {bar} {bold}{title:<12}{off} {content:<room$} {dim}{remark}{off} {bar}"
            );
        }
        edge(&mut self.text, edges[2]);
    }

    fn style(&self, code: &str) -> (String, &'static str) {
        if self.styled { (format!("\x1b[{code}m"), "\x1b[0m") } else { (String::new(), "") }
    }
}

fn shorten(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(3)).chain("...".chars()).collect()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines
            .last_mut()
            .filter(|l| l.is_empty() || l.chars().count() + 1 + word.chars().count() <= width);
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_page() {
        for utf8 in [true, false] {
            let mut page = Page { utf8, styled: false, text: String::new() };
            page.stack(&[["title", &"x".repeat(200), "remark"], ["é", "short", ""]]);
            page.fact("name", &"words and ".repeat(30));
            let text = page.finish();
            assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
            assert_eq!(text.contains('─'), utf8);
        }
    }

    #[test]
    fn words_are_kept_whole() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(shorten("abcdefgh", 6), "abc...");
    }
}
