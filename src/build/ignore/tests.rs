#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use super::*;

fn ignore(text: &str) -> Ignore {
    Ignore::parse(".dockerignore", text.as_bytes()).unwrap_or_else(|problem| panic!("{problem}"))
}

/// What a walk says of a path, folder by folder; a folder that may be skipped is not entered.
fn walk(ignore: &Ignore, path: &str) -> bool {
    let mut folder = ignore.root();
    for (at, _) in path.match_indices('/') {
        folder = ignore.enter(&folder, &path.as_bytes()[..at]);
        if folder.may_be_skipped() {
            return true;
        }
    }
    ignore.ignores_in(&folder, path.as_bytes())
}

#[test]
fn patterns_match_as_dockers() {
    for (pattern, matching, others) in [
        ("a", vec!["a", "a/b", "a/b/c"], vec!["b", "b/a", "ab"]),
        ("/a/b/", vec!["a/b", "a/b/c"], vec!["a", "b", "x/a/b"]),
        (" ./a/../b//c ", vec!["b/c"], vec!["a", "b"]),
        ("*", vec!["a", "a/b"], vec![]),
        ("*.go", vec![".go", "a.go", "a.go/b"], vec!["a/b.go", "a.goo"]),
        ("a/*", vec!["a/b", "a/b/c"], vec!["a"]),
        ("a*b*c", vec!["abc", "axbxc", "abbcc"], vec!["ab", "a/bc", "abcd"]),
        ("a?c", vec!["abc", "a\u{e4}c"], vec!["ac", "a/c", "abbc"]),
        ("**", vec!["a", "a/b/c", ".a"], vec![]),
        ("**/a", vec!["a", "b/a", "b/c/a", "b/a/c"], vec!["ba", "b/ca"]),
        ("**a", vec!["a", "ba", "b/ca"], vec!["ab"]),
        ("**a?", vec!["ab", "b/ab"], vec!["bab", "a"]),
        ("a/**", vec!["a/b", "a/b/c"], vec!["a", "ab"]),
        ("a**", vec!["a", "ab", "ab/c", "a/b"], vec!["b"]),
        ("a/**/b", vec!["a/b", "a/x/b", "a/x/y/b", "a/x/b/z"], vec!["ab", "a/xb", "b"]),
        ("**/*.c", vec!["a.c", "b/a.c", "b/c/a.c"], vec!["a.cc"]),
        ("**/a/**/b", vec!["a/b", "x/a/b", "a/x/b", "x/a/y/b"], vec!["xa/b", "a/xb"]),
        ("**/a*/**", vec!["ab/c", "x/a/c"], vec!["a", "b/c"]),
        ("[a-c]x", vec!["ax", "bx"], vec!["dx", "x", "abx"]),
        ("[^a-c]x", vec!["dx", "/x", "\u{e4}x"], vec!["ax", "x"]),
        ("[\\]\\-\\\\]", vec!["]", "-", "\\"], vec!["a"]),
        ("[*?[]", vec!["*", "?", "["], vec!["a"]),
        ("\u{e4}[\u{e0}-\u{ff}]", vec!["\u{e4}\u{e4}"], vec!["\u{e4}a"]),
        ("a\\*b", vec!["a*b"], vec!["axb", "a\\*b"]),
        ("\\#a", vec!["#a"], vec!["a"]),
        ("a.b+(c)|{d}$^", vec!["a.b+(c)|{d}$^"], vec!["axb+(c)|{d}$^"]),
        ("..", vec![], vec!["a"]),
        ("/", vec![], vec!["a"]),
        (".", vec![], vec!["a"]),
        ("# a\n\n \n", vec![], vec!["a", "# a"]),
        (" # a", vec!["# a"], vec!["a"]),
        ("\u{feff}a\r\nb\r\n", vec!["a", "b"], vec!["a\r"]),
    ] {
        let ignore = ignore(pattern);
        for (paths, expected) in [(&matching, true), (&others, false)] {
            for path in paths {
                assert_eq!(ignore.ignores(path.as_bytes()), expected, "{pattern:?} on {path:?}");
                assert_eq!(walk(&ignore, path), expected, "{pattern:?} in a walk on {path:?}");
            }
        }
    }
}

#[test]
fn the_last_pattern_that_matches_decides() {
    for (patterns, path, expected) in [
        ("*\n!a", "a", false),
        ("*\n!a", "b", true),
        ("!a\n*", "a", true),
        ("*.md\n!README*.md\nREADME-secret.md", "README.md", false),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("a\n!a/b", "a/b", false),
        ("a\n!a/b", "a/c", true),
        ("a\n!a/b", "a/b/c", false),
        ("a\n!a/b/c", "a/b/c", false),
        ("a\n!a/b/c", "a/b/d", true),
        ("**\n!**/*.go", "a/b/c.go", false),
        ("**\n!**/*.go", "a/b/c.c", true),
        ("a/**\n!a/*/c\na/b/c/d", "a/b/c/e", false),
        ("a/**\n!a/*/c\na/b/c/d", "a/b/c/d", true),
        ("a\n! a", "a", false),
        ("a\n!/a/", "a/b", false),
    ] {
        let ignore = ignore(patterns);
        assert_eq!(ignore.ignores(path.as_bytes()), expected, "{patterns:?} on {path:?}");
        assert_eq!(walk(&ignore, path), expected, "{patterns:?} in a walk on {path:?}");
    }
    // Here docker's walk and docker's question differ, and so do ours.
    let ignore = ignore("a/b\n!a");
    assert_eq!((ignore.ignores(b"a/b"), walk(&ignore, "a/b")), (false, true));
}

#[test]
fn a_folder_is_skipped_when_no_exception_can_match_in_it() {
    for (patterns, folder, expected) in [
        ("a", "a", true),
        ("a", "b", false),
        ("a\n!b", "a", true),
        ("a\n!ab", "a", true),
        ("a\n!a/b/c", "a", false),
        ("a\n!a/b/c", "a/b", false),
        ("a\n!a/b/c", "a/c", true),
        ("a\n!a/b/*.c", "a/b", false),
        ("a\n!a/b/*.c", "a/c", true),
        ("a\n!*.c", "a", true),
        ("a\n!**/*.c", "a", false),
        ("a\n!**/c", "a", false),
        ("a\n!a/b**", "a", false),
        ("a\n!a/b**", "a/c", true),
        ("!a/b\na", "a", true),
        ("*\n!a", "b", true),
        ("*\n!a", "a", false),
        // The second of the same is not looked at for the folder, and so does not hold for what is in it.
        ("a\n!**/keep\na", "a", false),
        ("a\n!**/keep\na\na/keep", "a", false),
    ] {
        let ignore = ignore(patterns);
        let mut at = ignore.root();
        for end in folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]) {
            at = ignore.enter(&at, &folder.as_bytes()[..end]);
        }
        assert_eq!(at.may_be_skipped(), expected, "{patterns:?} on {folder:?}");
    }
}

#[test]
fn names_that_are_not_utf8_match() {
    for (pattern, path, expected) in [
        (&b"\xff*"[..], &b"\xffx"[..], true),
        (b"a?b", b"a\xffb", true),
        (b"a?b", b"a\xff\xfeb", false),
        (b"a?b", b"a\xc3\xa4b", true),
        (b"*\xa4", b"\xc3\xa4", false),
        (b"[^x]", b"\xff", true),
        (b"**/\xff", b"a/\xff", true),
        (b"a*", b"a\nb", true),
    ] {
        let ignore = Ignore::parse("x", pattern).unwrap();
        assert_eq!(ignore.ignores(path), expected, "{pattern:?} on {path:?}");
    }
}

#[test]
fn what_is_no_pattern_is_an_error_at_its_line() {
    for (text, message) in [
        ("a\n!", "illegal exclusion pattern: \"!\""),
        ("a\n[", "syntax error in pattern"),
        ("a\n[]a]", "syntax error in pattern"),
        ("a\n[a-]", "syntax error in pattern"),
        ("a\n[-a]", "syntax error in pattern"),
        ("a\n[^]", "syntax error in pattern"),
        ("a\nb\\", "syntax error in pattern"),
    ] {
        let problem = Ignore::parse(".dockerignore", text.as_bytes()).unwrap_err();
        assert_eq!((problem.message(), problem.position().line), (message, 2), "{text:?}");
    }
    assert_eq!(Ignore::from_patterns([&b"a"[..], b"["]).unwrap_err(), (&b"["[..], "syntax error in pattern"));
    assert!(Ignore::from_patterns([&b" "[..], b"!b/", b"*"]).unwrap().ignores(b"b"));
}

#[test]
fn matching_is_not_exponential() {
    let ignore = ignore(&"**/a*".repeat(60));
    let path = "a/".repeat(2000) + "b";
    assert!(!ignore.ignores_in(&ignore.root(), path.as_bytes()));
}
