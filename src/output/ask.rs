//! Questions: before something is lost, and for what only the user knows.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, ErrorKind, Read, Write, stdin};

/// Warns and asks, as docker's prune commands do; anything but a yes, the end of input too, is a no.
pub fn confirm(warning: &str) -> io::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "WARNING! {warning}\nAre you sure you want to continue? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

/// Asks for a line.
pub fn line(question: &str) -> io::Result<String> {
    write_question(question)?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks for a line that is not shown, at a terminal. Ctrl-C is an error here, so that the terminal does not stay silent.
pub fn secret(question: &str) -> io::Result<String> {
    // First, so that nothing that is typed at the question is shown or lost.
    let silent = Silent::begin()?;
    write_question(question)?;
    let typed = read_secret(&mut stdin().lock());
    drop(silent);
    writeln!(io::stderr())?;
    typed
}

fn write_question(question: &str) -> io::Result<()> {
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()
}

/// What is typed up to Enter, as a terminal without line editing gives it.
fn read_secret(keys: &mut impl Read) -> io::Result<String> {
    let mut typed = Vec::new();
    let mut key = [0];
    loop {
        match keys.read(&mut key) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        match key[0] {
            b'\r' | b'\n' => break,
            0x03 => return Err(io::Error::new(ErrorKind::Interrupted, "given up")),
            0x04 if typed.is_empty() => break,
            // Erase: a character may have several bytes.
            0x08 | 0x7f => while typed.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {},
            0x15 => typed.clear(),
            byte => typed.push(byte),
        }
    }
    String::from_utf8(typed)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "what was typed is not UTF-8"))
}

/// The terminal as it was, which it is again when this is dropped.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_can_be_corrected_and_given_up() {
        let read = |mut keys: &[u8]| read_secret(&mut keys);
        assert_eq!(read("pä\x7fass\rrest".as_bytes()).unwrap(), "pass");
        assert_eq!(read(b"wrong\x15right\n").unwrap(), "right");
        assert_eq!(read(b"\x04more").unwrap(), "");
        assert_eq!(read(b"half\x03").unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes("Yes"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("yellow") && !is_yes("n"));
    }
}
