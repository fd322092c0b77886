//! What of a folder is copied: all but what `--exclude` says, and with `--parents` only what a pattern names.
//!
//! Like [`super::ignore`], whose patterns they are, it is asked on the way from the top down, with a state for each folder. Paths
//! are seen from the folder that is copied.

use super::context::Choice;
use super::ignore::{Folder, Ignore, clean};

/// What is copied.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only what one of these matches, or what is below that.
    include: Option<Ignore>,
    exclude: Ignore,
    /// The same as text: for keys.
    text: String,
}

/// What a walk knows of a folder that it is in.
#[derive(Clone, Debug)]
pub struct State {
    include: Option<Folder>,
    exclude: Folder,
}

impl Selection {
    /// All but what these patterns match. An error is the number of the pattern that is none, and why.
    pub fn all_but(patterns: &[&str]) -> Result<Selection, (usize, &'static str)> {
        let exclude = Ignore::from_patterns(patterns.iter().map(|text| text.as_bytes()));
        let exclude = exclude.map_err(|(bad, why)| {
            (patterns.iter().position(|text| text.as_bytes() == bad).unwrap_or(0), why)
        })?;
        Ok(Selection { include: None, exclude, text: format!("{patterns:?}") })
    }

    /// Of the same, only what `pattern` names.
    pub fn only(&self, pattern: &str) -> Result<Selection, &'static str> {
        let clean = clean(format!("/{pattern}").as_bytes());
        let pattern = clean.strip_prefix(b"/").unwrap_or(&clean);
        let mut selection = self.clone();
        // The whole folder.
        if pattern.is_empty() {
            return Ok(selection);
        }
        selection.include = Some(Ignore::from_patterns([pattern]).map_err(|(_, why)| why)?);
        selection.text = format!("{} only {}", self.text, String::from_utf8_lossy(pattern));
        Ok(selection)
    }

    /// Two that have the same text select the same.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// Whether a file that was named itself, by a pattern perhaps, is left out: there is nothing in it to be named.
    pub fn leaves_out(&self, name: &[u8]) -> bool {
        self.include.is_some() || self.exclude.ignores(name)
    }

    /// The folder that is copied itself.
    pub fn root(&self) -> (Choice, State) {
        let include = self.include.as_ref().map(Ignore::root);
        // Where something in it is named, it is there for that.
        let choice = if include.is_some() { Choice::Descend } else { Choice::Take };
        (choice, State { include, exclude: self.exclude.root() })
    }

    /// Whether something that is no folder is copied; `folder` is where it is.
    pub fn takes(&self, folder: &State, path: &[u8]) -> bool {
        let is_named = match (&self.include, &folder.include) {
            (Some(include), Some(folder)) => include.ignores_in(folder, path),
            _ => true,
        };
        is_named && !self.exclude.ignores_in(&folder.exclude, path)
    }

    /// What becomes of a folder in `folder`.
    pub fn enter(&self, folder: &State, path: &[u8]) -> (Choice, State) {
        let exclude = self.exclude.enter(&folder.exclude, path);
        let include = match (&self.include, &folder.include) {
            (Some(include), Some(folder)) => Some(include.enter(folder, path)),
            _ => None,
        };
        let is_named = include.as_ref().is_none_or(Folder::is_ignored);
        let may_be_below = is_named || self.include.as_ref().is_some_and(|i| i.may_match_below(path));
        let choice = match () {
            () if is_named && !exclude.is_ignored() => Choice::Take,
            () if exclude.may_be_skipped() || !may_be_below => Choice::Skip,
            () => Choice::Descend,
        };
        (choice, State { include, exclude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of these paths; those that end with a slash are folders.
    fn taken<'a>(selection: &Selection, paths: &[&'a str]) -> Vec<&'a str> {
        let mut states = std::collections::HashMap::from([("", selection.root())]);
        let mut found = Vec::new();
        for path in paths {
            let bare = path.trim_end_matches('/');
            let parent = bare.rsplit_once('/').map_or("", |(parent, _)| parent);
            let Some((choice, above)) = states.get(parent).cloned() else { continue };
            if choice == Choice::Skip {
                continue;
            }
            let takes = match path.ends_with('/') {
                false => selection.takes(&above, bare.as_bytes()),
                true => {
                    let entered = selection.enter(&above, bare.as_bytes());
                    let choice = entered.0;
                    states.insert(bare, entered);
                    choice == Choice::Take
                }
            };
            if takes {
                found.push(*path);
            }
        }
        found
    }

    const PATHS: [&str; 8] =
        ["a.txt", "src/", "src/a.txt", "src/b.rs", "src/x/", "src/x/c.txt", "y/", "y/d.md"];

    #[test]
    fn what_is_excluded_is_left_out_with_what_is_below_it() {
        let all_but = |patterns: &[&str]| Selection::all_but(patterns).unwrap();
        assert_eq!(taken(&all_but(&[]), &PATHS), PATHS);
        assert_eq!(
            taken(&all_but(&["src/x", "*.txt"]), &PATHS),
            ["src/", "src/a.txt", "src/b.rs", "y/", "y/d.md"]
        );
        assert_eq!(taken(&all_but(&["src", "!src/b.rs"]), &PATHS), ["a.txt", "src/b.rs", "y/", "y/d.md"]);
        assert!(Selection::all_but(&["ok", "[a"]).is_err_and(|(number, _)| number == 1));
    }

    #[test]
    fn only_what_is_named_is_taken_and_folders_on_the_way_are_not_named() {
        let only = |pattern: &str| Selection::all_but(&["**/b.rs"]).unwrap().only(pattern).unwrap();
        assert_eq!(taken(&only("./src/**/*.txt"), &PATHS), ["src/a.txt", "src/x/c.txt"]);
        assert_eq!(taken(&only("src/x"), &PATHS), ["src/x/", "src/x/c.txt"]);
        assert_eq!(taken(&only("/src/"), &PATHS), ["src/", "src/a.txt", "src/x/", "src/x/c.txt"]);
        assert_eq!(taken(&only("."), &PATHS).len(), PATHS.len() - 1);
        assert_ne!(only("a").text(), only("b").text());
    }
}
