//! `--chmod`: a number, or chmod(1)'s words.
//!
//! BuildKit's reading of the words, which is BSD's: `X` after `+` and `=` counts for folders and for what somebody may
//! execute already, after `-` it is `x`; who is not named is everybody, without regard to a umask.

/// What becomes of a file's mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modes {
    /// This, whatever it was.
    Octal(u32),
    /// Changed step by step.
    Words(Vec<Change>),
}

/// One operator and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The bits that it is about.
    who: u32,
    operator: Operator,
    /// These bits, as far as they are among `who`.
    bits: u32,
    /// `X`
    execute_if: bool,
    /// `u`, `g`, `o`: by how many bits their permissions are away from the lowest.
    copied: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

const ALL: u32 = 0o6777;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

impl Modes {
    /// Reads a flag's value; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Modes, String> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let number = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return number.map(Modes::Octal).ok_or_else(|| {
                format!(
                    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                )
            });
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            clause_of(clause, &mut changes).ok_or_else(|| format!("invalid chmod parameter: '{text}'"))?;
        }
        Ok(Modes::Words(changes))
    }

    /// The mode of what had another.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let changes = match self {
            Modes::Octal(mode) => return *mode,
            Modes::Words(changes) => changes,
        };
        let mut new = mode;
        for change in changes {
            let mut bits = change.bits;
            for shift in &change.copied {
                bits |= ((new >> shift) & 0o7) * EXECUTE;
            }
            if change.execute_if && (is_folder || mode & EXECUTE != 0) {
                bits |= EXECUTE;
            }
            bits &= change.who;
            match change.operator {
                Operator::Add => new |= bits,
                Operator::Remove => new &= !bits,
                Operator::Set => new = (new & !change.who) | bits,
            }
        }
        new
    }
}

/// `ugo+rwx-s…`: who, and one or more changes.
fn clause_of(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let actions = clause.find(['+', '-', '='])?;
    let (named, mut rest) = clause.split_at(actions);
    let mut who = 0;
    for letter in named.chars() {
        who |= match letter {
            'a' => ALL,
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o0007,
            _ => return None,
        };
    }
    let (has_owner_or_group, who) = (who == 0 || who & !0o7 != 0, if who == 0 { ALL } else { who });
    while !rest.is_empty() {
        let operator = match rest.as_bytes()[0] {
            b'+' => Operator::Add,
            b'-' => Operator::Remove,
            _ => Operator::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let mut change = Change { who, operator, bits: 0, execute_if: false, copied: Vec::new() };
        for letter in rest[1..end].chars() {
            match letter {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= EXECUTE,
                'X' if operator == Operator::Remove => change.bits |= EXECUTE,
                'X' => change.execute_if = true,
                's' if has_owner_or_group => change.bits |= 0o6000,
                't' if has_owner_or_group => {
                    change.bits |= STICKY;
                    change.who |= STICKY;
                }
                // Others have neither.
                's' | 't' => {}
                'u' => change.copied.push(6),
                'g' => change.copied.push(3),
                'o' => change.copied.push(0),
                _ => return None,
            }
        }
        changes.push(change);
        rest = &rest[end..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_modes_as_chmod_does() {
        let table = [
            ("755", 0o644, 0o755),
            ("u+x", 0o644, 0o744),
            ("+x", 0o644, 0o755),
            ("g-w,o=", 0o666, 0o640),
            ("a=rX", 0o644, 0o444),
            ("a=rX", 0o744, 0o555),
            ("u=rwX,go=rX", 0o700, 0o755),
            ("u=rwX,go=rX", 0o666, 0o644),
            ("g=u", 0o640, 0o660),
            ("go=u-w", 0o750, 0o755),
            ("u+s,g+s", 0o755, 0o6755),
            ("o+s", 0o755, 0o755),
            ("+t", 0o755, 0o1755),
            ("a-X", 0o755, 0o644),
            ("ug+rw-x", 0o711, 0o661),
            ("u=", 0o4755, 0o055),
        ];
        for (text, before, after) in table {
            let found = Modes::parse(text).unwrap().apply(before, false);
            assert_eq!(found, after, "{text} of {before:o}: {found:o}");
        }
        assert_eq!(Modes::parse("a=rX").unwrap().apply(0o700, true), 0o555);
        for bad in ["", "8", "99999", "x", "u", "q+x", "u+q", "u+x,", "u+x,,g+x", "644x"] {
            assert!(Modes::parse(bad).is_err(), "{bad}");
        }
    }
}
