//! What `top` shows: from the words after the container to columns, and from them to a table.

use super::columns::{Column, PODMAN, PS, Value};
use crate::cli::Error;
use crate::container::processes::Processes;
use std::fmt::Write as _;

/// The columns of a table, and its form.
#[derive(Clone, Debug)]
pub struct Format {
    columns: Vec<(String, Value)>,
    heads: bool,
    /// Every column but the last is at least so wide, with so many blanks after its text: docker's and podman's.
    spacing: (usize, usize),
}

const FULL: &str = "user=UID,pid,ppid,c,stime,tname,time,cmd";
const PLAIN: &str = "pid,tname,time,comm=CMD";
const BSD: &str = "pid,tname,stat,bsdtime=TIME,args";
const BSD_USER: &str = "user,pid,%cpu,%mem,vsz,rss,tname,stat,start,bsdtime=TIME,args";
const DOCKERS: (usize, usize) = (20, 3);
const PODMANS: (usize, usize) = (12, 2);

/// podman's names of columns.
pub fn descriptors() -> Vec<&'static str> {
    PODMAN.iter().flat_map(|(names, ..)| names.iter().copied()).collect()
}

fn find(table: &'static [Column], name: &str) -> Option<&'static Column> {
    table.iter().find(|(names, ..)| names.contains(&name))
}

impl Format {
    /// From the words after the container: nothing, options of ps(1), or podman's names of columns.
    pub fn parse(words: &[String]) -> Result<Self, Error> {
        let names: Vec<&str> = words.iter().flat_map(|word| word.split(',')).collect();
        let podmans: Option<Vec<_>> = names.iter().map(|name| find(PODMAN, &name.to_lowercase())).collect();
        match podmans {
            Some(columns) if !columns.is_empty() => {
                let columns =
                    columns.into_iter().map(|(_, head, value)| ((*head).to_owned(), *value)).collect();
                Ok(Self { columns, heads: true, spacing: PODMANS })
            }
            _ if words.is_empty() => Self::of(FULL, true),
            _ => Self::ps(words),
        }
    }

    fn ps(words: &[String]) -> Result<Self, Error> {
        let (mut columns, mut heads, mut base) = (Vec::new(), true, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--no-headers" | "--no-heading" | "--noheading" => heads = false,
                "--format" => columns.push(words.next().ok_or_else(|| no_list(word))?.clone()),
                long if long.starts_with("--format=") => columns.push(long["--format=".len()..].to_owned()),
                long if long.starts_with("--") => return Err(unknown(long)),
                cluster => {
                    let is_unix = cluster.starts_with('-');
                    let letters = cluster.trim_start_matches('-').char_indices();
                    let start = usize::from(is_unix);
                    for (at, letter) in letters {
                        match letter {
                            // Which processes: all of the container are shown.
                            'e' | 'A' | 'a' | 'd' if is_unix => base = base.or(Some(PLAIN)),
                            'a' | 'x' => base = base.or(Some(if is_unix { PLAIN } else { BSD })),
                            // Lines are never cut.
                            'w' => {}
                            'f' if is_unix => base = Some(FULL),
                            'u' => base = Some(BSD_USER),
                            'h' if !is_unix => heads = false,
                            'o' => {
                                let rest = &cluster[start + at + 1..];
                                let list = match rest {
                                    "" => words.next().ok_or_else(|| no_list(word))?.clone(),
                                    rest => rest.to_owned(),
                                };
                                columns.push(list);
                                break;
                            }
                            _ => return Err(unknown(word)),
                        }
                    }
                }
            }
        }
        match columns.is_empty() {
            true => Self::of(base.unwrap_or(PLAIN), heads),
            false => Self::of(&columns.join(","), heads),
        }
    }

    /// From a list of ps(1): `pid,user=WHO,…`.
    fn of(list: &str, heads: bool) -> Result<Self, Error> {
        let column = |item: &str| {
            let (name, head) = item.split_once('=').map_or((item, None), |(name, head)| (name, Some(head)));
            let (_, own, value) = find(PS, &name.to_lowercase()).ok_or_else(|| {
                let known: Vec<&str> = PS.iter().flat_map(|(names, ..)| names.first().copied()).collect();
                Error::usage(format!("unknown column '{name}'"), format!("one of: {}", known.join(", ")))
            })?;
            Ok((head.unwrap_or(own).to_owned(), *value))
        };
        let items = list.split([',', ' ']).filter(|item| !item.is_empty());
        let columns = items.map(column).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { columns, heads, spacing: DOCKERS })
    }

    /// The table.
    pub fn table(&self, found: &Processes) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        if self.heads && self.columns.iter().any(|(head, _)| !head.is_empty()) {
            rows.push(self.columns.iter().map(|(head, _)| head.clone()).collect());
        }
        for process in &found.list {
            rows.push(self.columns.iter().map(|(_, value)| plain(&value(found, process))).collect());
        }
        let (least, gap) = self.spacing;
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| rows.iter().map(|row| row[at].chars().count() + gap).max().unwrap_or(0).max(least))
            .collect();
        let mut text = String::new();
        for row in rows {
            for (at, cell) in row.iter().enumerate() {
                let width = if at + 1 == row.len() { 0 } else { widths[at] };
                let _ = write!(text, "{cell:width$}");
            }
            text.push('\n');
        }
        text
    }
}

fn no_list(option: &str) -> Error {
    Error::usage(format!("flag needs an argument: {option}"), "name columns, as in: -o pid,user,args")
}

fn unknown(word: &str) -> Error {
    Error::usage(
        format!("'{word}' is neither an option of ps that is supported nor a list of columns"),
        format!("use -ef, aux, -o COLUMN,..., or podman's columns: {}", descriptors().join(" ")),
    )
}

/// A process calls itself what it likes: control characters are shown, not obeyed by the terminal.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::processes::ProcessInfo;
    use std::time::SystemTime;

    fn heads(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match Format::parse(&words) {
            Ok(format) => format.columns.iter().map(|(head, _)| head.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn words_are_options_of_ps_or_podmans_columns() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        let user = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for (words, expected) in [
            (&[][..], full),
            (&["-ef"], full),
            (&["-e"], "PID TTY TIME CMD"),
            (&["aux"], user),
            (&["-aux"], user),
            (&["ax"], "PID TTY STAT TIME COMMAND"),
            (&["-eo", "pid,comm"], "PID COMMAND"),
            (&["-eopid,args=WHAT"], "PID WHAT"),
            (&["o", "pid", "-o", "user"], "PID USER"),
            (&["--format=pid"], "PID"),
            (&["pid", "hpid"], "PID HPID"),
            (&["user,pid,capeff"], "USER PID EFFECTIVE CAPS"),
            (&["-o"], "flag needs an argument: -o"),
            (&["-o", "nope"], "unknown column 'nope'"),
            (&["-Z"], "'-Z' is neither an option of ps that is supported nor a list of columns"),
            (&["pid", "nope"], "'pid' is neither an option of ps that is supported nor a list of columns"),
        ] {
            assert_eq!(heads(words), expected, "{words:?}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_dockers_and_names_obey_nobody() {
        let process = ProcessInfo { host_pid: 7, pid: 1, args: "a\x1b[2J".into(), ..ProcessInfo::default() };
        let found = Processes {
            list: vec![process],
            users: [(0, "root".to_owned())].into(),
            groups: Default::default(),
            now: SystemTime::now(),
        };
        let table = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Format::parse(&words).unwrap().table(&found)
        };
        assert_eq!(
            table(&["-o", "pid,user,args"]),
            format!("{:20}{:20}COMMAND\n{:20}{:20}a\\u{{1b}}[2J\n", "PID", "USER", "7", "root")
        );
        assert_eq!(table(&["pid", "user"]), format!("{:12}USER\n{:12}root\n", "PID", "1"));
        assert_eq!(table(&["-o", "pid=", "h"]), "7\n");
    }
}
