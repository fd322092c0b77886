//! "Did you mean": the nearest of some names.

/// At how many changes a name is no longer near.
const TOO_FAR: usize = 3;
/// Longer words are no misspelt names.
const LONGEST: usize = 64;

/// The name that is fewest changes of a character away from `word`, if any is near; none where `word` is one of them.
/// Compares without regard to case and answers in the case of `word`, unless `exact`.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>, exact: bool) -> Option<String> {
    if word.len() > LONGEST {
        return None;
    }
    let fold = |text: &str| if exact { text.to_owned() } else { text.to_lowercase() };
    let folded = fold(word);
    let mut best: Option<(usize, &str)> = None;
    for name in names {
        let distance = distance(&folded, &fold(name));
        if distance == 0 {
            return None;
        }
        if distance < best.map_or(TOO_FAR, |(least, _)| least) {
            best = Some((distance, name));
        }
    }
    let (_, name) = best?;
    Some(if exact {
        name.to_owned()
    } else if word == word.to_lowercase() {
        name.to_lowercase()
    } else if word == word.to_uppercase() {
        name.to_uppercase()
    } else {
        name.to_owned()
    })
}

/// ` (did you mean NAME?)`, or nothing: what BuildKit puts after such an error.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>, exact: bool) -> String {
    nearest(word, names, exact).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// Levenshtein's distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_within_two_changes_and_in_the_case_of_the_word() {
        let names = ["FROM", "RUN", "COPY", "ENTRYPOINT"];
        for (word, expected) in [
            ("FORM", Some("FROM")),
            ("runn", Some("run")),
            ("CPY", Some("COPY")),
            ("Entrypont", Some("ENTRYPOINT")),
            ("RUN", None),
            ("WALK", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names, false).as_deref(), expected, "{word}");
        }
        assert_eq!(nearest("FORM", ["from"], true), None);
        assert_eq!(nearest("form", ["from"], true).as_deref(), Some("from"));
    }
}
