//! What COPY and ADD name in the context.

use super::context::{Context, Error, Kind, Tree};
use super::selection::Selection;
use std::rc::Rc;

/// One file or folder that a source stands for.
pub struct Found {
    /// Where it is in the context: no link, no `.`, no slash at its ends.
    pub path: Vec<u8>,
    /// What it is called where it comes to.
    pub name: Vec<u8>,
    /// What there is.
    pub tree: Rc<Tree>,
}

impl Found {
    /// Whether its content is copied rather than itself.
    pub fn is_folder(&self) -> bool {
        self.tree.items()[0].kind == Kind::Folder
    }
}

/// Whether a source is a pattern.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// What a source with `--parents` is: the folder whose content is copied, and what of it. A `/./` is between the two.
pub fn pivot(path: &str) -> (&str, &str) {
    path.split_once("/./")
        .map_or(("/", path), |(folder, pattern)| (if folder.is_empty() { "/" } else { folder }, pattern))
}

/// What a source stands for, sorted; of folders what is selected. Nothing if there is nothing.
pub fn find(context: &mut Context, path: &str, selection: &Selection) -> Result<Vec<Found>, Error> {
    let mut paths: Vec<Vec<u8>> = vec![Vec::new()];
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let mut next = Vec::new();
        for folder in paths {
            if is_pattern(part) {
                let at = context.resolve(&folder)?;
                let names = context.names(&at)?.into_iter().filter(|name| matches(part.as_bytes(), name));
                next.extend(names.map(|name| join(&folder, &name)));
            } else {
                next.push(join(&folder, part.as_bytes()));
            }
        }
        paths = next;
    }
    let mut found = Vec::new();
    for path in paths {
        let at = context.resolve(&path)?;
        if let Some(tree) = context.tree_of(&at, selection)? {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
            let found_one = Found { path: at, name, tree };
            if found_one.is_folder() || !selection.leaves_out(&found_one.name) {
                found.push(found_one);
            }
        }
    }
    Ok(found)
}

/// What is at a path that is no pattern.
pub fn exactly(context: &mut Context, path: &str) -> Result<Option<Found>, Error> {
    let at = context.resolve(path.as_bytes())?;
    let name = at.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    Ok(context.tree(&at)?.map(|tree| Found { path: at, name, tree }))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// Whether a name is one of a pattern's: `*`, `?`, `[a-z]`, `[^a]`, `\` (Go's filepath.Match). The names of a context may be
/// hostile, so it never goes back further than to the last `*`.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(next) = one(pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((at, taken)) = star {
            p = at + 1;
            n = taken + 1;
            star = Some((at, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Where the pattern goes on if what is at `at` in it matches the byte.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'\\' => (pattern.get(at + 1) == Some(&byte)).then_some(at + 2),
        b'[' => {
            let mut at = at + 1;
            let negated = pattern.get(at) == Some(&b'^');
            at += usize::from(negated);
            let (mut hit, mut first) = (false, true);
            while first || *pattern.get(at)? != b']' {
                first = false;
                let low = *pattern.get(at)?;
                let is_range = pattern.get(at + 1) == Some(&b'-') && pattern.get(at + 2) != Some(&b']');
                let high = if is_range { *pattern.get(at + 2)? } else { low };
                hit |= (low..=high).contains(&byte);
                at += if is_range { 3 } else { 1 };
            }
            (hit != negated).then_some(at + 1)
        }
        literal => (literal == byte).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pivot_is_where_parents_begin() {
        assert_eq!(pivot("a/./b/c"), ("a", "b/c"));
        assert_eq!(pivot("/./b"), ("/", "b"));
        assert_eq!(pivot("./a/b"), ("/", "./a/b"));
        assert_eq!(pivot("a/./b/./c"), ("a", "b/./c"));
        assert_eq!(pivot("a/b/."), ("/", "a/b/."));
    }

    #[test]
    fn patterns_match_as_gos() {
        let yes =
            [("*", ""), ("*.rs", "a.rs"), ("a*b*c", "axbbc"), ("[a-c]?", "bx"), ("[^a]", "b"), (r"\*", "*")];
        let no = [("*.rs", "a.rsx"), ("a?", "a"), ("[a-c]", "d"), ("[^a]", "a"), (r"\*", "x"), ("[a", "a")];
        for (pattern, name) in yes {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in no {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }
}
