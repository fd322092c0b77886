//! Questions before something is lost.

use std::io::{self, BufRead, Write};

/// Warns and asks, as docker's prune commands do; anything but a yes, the end of input too, is a no.
pub fn confirm(warning: &str) -> io::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "WARNING! {warning}\nAre you sure you want to continue? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes("Yes"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("yellow") && !is_yes("n"));
    }
}
