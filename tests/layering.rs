//! The house rules that a machine can check: dependencies point downwards (DESIGN §2), every room has a door, files
//! stay readable, unsafe code stays in one room.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from top to bottom. A room may use those below it, never one above.
const ROOMS: [&str; 24] = [
    "cli",
    "output",
    "compose",
    "unit",
    "build",
    "container",
    "network",
    "volume",
    "image",
    "registry",
    "layers",
    "union",
    "sandbox",
    "userns",
    "state",
    "rooted_fs",
    "netlink",
    "kernel",
    "diagnose",
    "digest",
    "timestamp",
    // Programs of their own, no rooms: nothing uses them and they use nothing.
    "hello",
    "lib",
    "main",
];

const LONGEST_FILE: usize = 600;

struct Source {
    /// Path below `src/`.
    name: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Lines without comments: a comment may name anything.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(number, line)| {
            let code = line.split("//").next().unwrap_or_default();
            (!code.trim().is_empty()).then_some((number + 1, code))
        })
    }
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

fn sources() -> Vec<Source> {
    fn collect(dir: &Path, root: &Path, into: &mut Vec<Source>) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                collect(&path, root, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                into.push(Source { name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 10, "no sources below {}", root.display());
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The rooms that a line names: `crate::room`, also in `use crate::{a::B, c::D}` on one line.
fn rooms_named(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, prefix) in line.match_indices("crate::") {
        if line[..at].ends_with(|c: char| is_word(c) || c == '$') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (i, c) in group.char_indices() {
                if start && depth == 0 && is_word(c) {
                    found.push(group[i..].split(|c| !is_word(c)).next().unwrap());
                    start = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ => {}
                }
            }
        } else {
            found.push(rest.split(|c| !is_word(c)).next().unwrap());
        }
    }
    found
}

/// A `use crate::{` that is broken over lines, put on one.
fn join_groups(source: &Source) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = 0;
    for (number, code) in source.code() {
        match lines.last_mut() {
            Some((_, last)) if open > 0 => last.push_str(code.trim()),
            _ => lines.push((number, code.to_owned())),
        }
        let last = &lines.last().unwrap().1;
        open = if last.contains("use crate::{") {
            last.matches('{').count().saturating_sub(last.matches('}').count())
        } else {
            0
        };
    }
    lines
}

#[test]
fn every_room_depends_only_on_rooms_below_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room();
        let own =
            rank(room).unwrap_or_else(|| panic!("give the room `{room}` its place in tests/layering.rs"));
        // The hello program is a crate of its own.
        if matches!(room, "lib" | "main" | "hello") {
            continue;
        }
        for (number, line) in join_groups(&source) {
            for used in rooms_named(&line) {
                // Items of the crate's root that are no rooms do not exist; an unknown name is an error too.
                match rank(used) {
                    Some(below) if below >= own => {}
                    Some(_) => wrong
                        .push(format!("src/{}:{number}: {room} uses {used}, which is above it", source.name)),
                    None => wrong.push(format!("src/{}:{number}: crate::{used} is no room", source.name)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "upward dependencies:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_door_that_says_what_it_is_for() {
    for source in sources() {
        let is_door = source.name.matches('/').count() == 1 && source.name.ends_with("/mod.rs");
        if is_door {
            assert!(source.text.starts_with("//!"), "src/{} does not begin with a //! header", source.name);
        }
    }
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), &source.name))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, name)| format!("src/{name}: {lines}"))
        .collect();
    assert!(long.is_empty(), "does each of these hold one purpose only?\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_is_in_the_kernel_room_only() {
    for source in sources() {
        if matches!(source.room(), "kernel" | "hello" | "lib") {
            continue;
        }
        for (number, line) in source.code() {
            let word = line.split(|c| !is_word(c)).any(|word| word == "unsafe" || word == "unsafe_code");
            assert!(!word, "src/{}:{number}: {line}", source.name);
        }
    }
}

#[test]
fn the_rule_sees_paths_in_groups_and_in_expressions() {
    assert_eq!(rooms_named("use crate::state::Lock;"), ["state"]);
    assert_eq!(rooms_named("    crate::cli::main(crate::digest::Digest::x)"), ["cli", "digest"]);
    assert_eq!(rooms_named("use crate::{a::{B, C}, d, e::F};"), ["a", "d", "e"]);
    assert_eq!(rooms_named("use other_crate::x; macro!($crate::x)"), Vec::<&str>::new());
    let source = Source {
        name: "x.rs".into(),
        text: "use crate::{\n    cli::X, // above\n    state,\n};\nlet y = 1;\n// crate::cli\n".into(),
    };
    let joined = join_groups(&source);
    assert_eq!(joined.len(), 2);
    assert_eq!(rooms_named(&joined[0].1), ["cli", "state"]);
}
