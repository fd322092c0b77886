//! Environment variables and labels, single and in files.

use super::{Host, Invalid};

/// `-e`: `NAME=VALUE`, `NAME` (this process's value, or nothing if it has none) or `PREFIX*` (podman: all of
/// this process's variables that begin so).
pub fn env_word(text: &str, host: &Host) -> Result<Vec<(String, String)>, Invalid> {
    match text.split_once('=') {
        Some(("", _)) => Err(Invalid::new("a variable needs a name")),
        Some((name, value)) => Ok(vec![(name.to_owned(), value.to_owned())]),
        None if text.is_empty() => Err(Invalid::new("a variable needs a name")),
        None => match text.strip_suffix('*') {
            Some(prefix) => Ok(host.env.iter().filter(|(k, _)| k.starts_with(prefix)).cloned().collect()),
            None => Ok(host.var(text).map(|value| (text.to_owned(), value.to_owned())).into_iter().collect()),
        },
    }
}

/// An environment file in docker's format: `NAME=VALUE` taken literally (no quotes, no expansion), a bare `NAME`
/// is looked up in this process, `#` starts a comment line.
pub fn env_file(text: &[u8], host: &Host) -> Result<Vec<(String, String)>, Invalid> {
    let mut found = Vec::new();
    for line in lines(text) {
        let (number, line) = line?;
        check_name(line, number)?;
        match line.split_once('=') {
            Some((name, value)) => found.push((name.to_owned(), value.to_owned())),
            None => found.extend(host.var(line).map(|value| (line.to_owned(), value.to_owned()))),
        }
    }
    Ok(found)
}

/// `-l`: `KEY=VALUE`, or `KEY` with an empty value.
pub fn label(text: &str) -> Result<(String, String), Invalid> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(Invalid::new("a label needs a key"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// A file of labels, one per line, `#` starts a comment line.
pub fn label_file(text: &[u8]) -> Result<Vec<(String, String)>, Invalid> {
    lines(text)
        .map(|line| {
            let (number, line) = line?;
            check_name(line, number)?;
            label(line)
        })
        .collect()
}

/// The lines that say something, with their numbers; a byte order mark is skipped, as docker does.
fn lines(text: &[u8]) -> impl Iterator<Item = Result<(usize, &str), Invalid>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|b| *b == b'\n')
        .enumerate()
        .map(|(index, line)| match std::str::from_utf8(line) {
            Ok(line) => Ok((index + 1, line.trim_end_matches('\r').trim_start())),
            Err(_) => Err(Invalid::new(format!("line {} is not UTF-8", index + 1))),
        })
        .filter(|line| !matches!(line, Ok((_, text)) if text.is_empty() || text.starts_with('#')))
}

fn check_name(line: &str, number: usize) -> Result<(), Invalid> {
    let name = line.split_once('=').map_or(line, |(name, _)| name);
    if name.is_empty() {
        return Err(Invalid::new(format!("line {number} has no variable name")));
    }
    if name.contains(char::is_whitespace) {
        return Err(Invalid::new(format!("line {number}: variable '{name}' contains whitespaces")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::test_host;
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_bare_name_is_looked_up_and_vanishes_if_unset() {
        let host = test_host();
        let table: [(&str, &[(&str, &str)]); 6] = [
            ("A=b=c", &[("A", "b=c")]),
            ("A=", &[("A", "")]),
            ("HOME", &[("HOME", "/home/me")]),
            ("EMPTY", &[("EMPTY", "")]),
            ("UNSET", &[]),
            ("LC_*", &[("LC_ALL", "C"), ("LC_TIME", "de")]),
        ];
        for (text, expected) in table {
            assert_eq!(env_word(text, &host), Ok(pairs(expected)), "{text}");
        }
        assert!(env_word("=x", &host).is_err() && env_word("", &host).is_err());
    }

    #[test]
    fn an_env_file_is_taken_literally() {
        let text = b"\xef\xbb\xbf# comment\n\n  A=1\nB=\"q\" # not a comment\r\nHOME\nUNSET\nC=\n";
        let expected = pairs(&[("A", "1"), ("B", "\"q\" # not a comment"), ("HOME", "/home/me"), ("C", "")]);
        assert_eq!(env_file(text, &test_host()), Ok(expected));
        for bad in [&b"A B=1"[..], b"=1", b"A=\xff"] {
            assert!(env_file(bad, &test_host()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_label_may_have_no_value() {
        assert_eq!(label_file(b"a=b=c\nd\n#x\n"), Ok(pairs(&[("a", "b=c"), ("d", "")])));
        assert!(label("=x").is_err());
    }
}
