//! Expansion.

use super::*;
use crate::build::dockerfile::words::{Expanded, Lexer, NoVariables};

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "v" => "value",
        "home" => "/home/me",
        "empty" => "",
        "two" => " a  b ",
        "file" => "lib.tar.gz",
        "path" => "/a/b/a/b.c",
        "odd" => "()[]{}^$.*?|\\+x",
        "star" => "a**b",
        "wide" => "äöüä",
        "1" | "@" | "größe" => "named",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expand(word: &str) -> Result<Expanded, String> {
    Lexer::new('\\').expand(word, &variables).map_err(|error| format!("{}: {}", error.at, error.message))
}

#[test]
fn words_expand_as_dockers() {
    for (word, expected) in [
        // Quotes and escapes.
        ("plain", "plain"),
        ("a 'b  c' \"d\"", "a b  c d"),
        ("'$v' \"$v\" \\$v", "$v value $v"),
        ("\"a\\\"b\\$c\\\\d\\e\"", "a\"b$c\\d\\e"),
        ("'a\\'", "a\\"),
        ("a\\ b\\c\\", "a bc"),
        ("\"it's\" '\"'", "it's \""),
        ("\"\"''", ""),
        // Names.
        ("$v ${v} $v-x ${v}x $vx", "value value value-x valuex "),
        ("$ $- $. ${v}$", "$  $. value$"),
        ("$1a $12 $@@ ${@} $größe", "nameda  named@ named named"),
        ("$empty|${empty}", "|"),
        ("<< <<<$v <", "<< <<<value <"),
        // Defaults and the like.
        ("${v:-x} ${empty:-x} ${no:-x}", "value x x"),
        ("${v-x} ${empty-x} ${no-x}", "value  x"),
        ("${v:+x} ${empty:+x} ${no:+x}|", "x  |"),
        ("${v+x} ${empty+x} ${no+x}|", "x x |"),
        ("${v:?e} ${v?e} ${empty?e}|", "value value |"),
        ("${no:-${none:-$v}} ${no:-a\\}b} ${no:-'}'} ${no:-\"$v}\"} ${no:-a b}", "value a}b } value} a b"),
        ("${no:-} ${no:-{} ${v}}", " { value}"),
        // Prefixes and suffixes.
        ("${file%.*} ${file%%.*} ${file#*.} ${file##*.}", "lib.tar lib tar.gz gz"),
        ("${path#/a} ${path#/} ${path##*/} ${path%/*} ${path%%/*}|", "/b/a/b.c a/b/a/b.c b.c /a/b/a |"),
        ("${v#x} ${v%x} ${v#*} ${v##*}| ${v#} ${no#x}|", "value value value | value |"),
        ("${v#va?} ${v%?e} ${v#${no:-va}} ${v%$no}", "ue val lue value"),
        ("${odd#()[]{\\}^$.\\*\\?|\\\\} ${star%%\\**} ${star#*\\*}", "+x a *b"),
        ("${wide#ä} ${wide%ä} ${wide%?} ${wide##*ü}", "öüä äöü äöü ä"),
        // Replacement.
        ("${path/a/x} ${path//a/x} ${path//a/} ${path/no/x}", "/x/b/a/b.c /x/b/x/b.c //b//b.c /a/b/a/b.c"),
        (
            "${path/\\//x} ${path//b*c/x} ${path//?b/$v} ${v/l/\\$1}",
            "xa/b/a/b.c /a/x /avalue/avalue.c va\\$1ue",
        ),
        ("${no/a/b}|${v//}/x}", "|value"),
    ] {
        let found = expand(word).map(|expanded| expanded.text);
        assert_eq!(found.as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn a_backquote_escapes_where_the_file_says_so() {
    let found = Lexer::new('`').expand("C:\\$v `$v \"a`\"b\\\"", &variables).unwrap();
    assert_eq!(found.text, "C:\\value $v a\"b\\");
}

#[test]
fn words_split_where_they_are_not_quoted() {
    for (word, expected) in [
        ("a b\tc", vec!["a", "b", "c"]),
        ("x$two'y'", vec!["x", "a", "b", "y"]),
        ("x\"$two\"y", vec!["x a  b y"]),
        ("a\\ b 'c d'e", vec!["a b", "c de"]),
        ("80${no:-81}${v:+ 82} $empty", vec!["8081", "82"]),
        ("", vec![]),
    ] {
        assert_eq!(expand(word).unwrap().words, expected, "{word}");
    }
}

#[test]
fn who_asks_learns_which_variables_are_used_and_which_are_not_set() {
    let found = expand("a$v ${no:-$none} ${v}${empty+x} $no \\$not").unwrap();
    assert_eq!(found.used, ["v", "empty"]);
    assert_eq!(found.unset, [("none".to_owned(), 10), ("no".to_owned(), 4)]);
}

#[test]
fn what_is_shown_keeps_what_is_not_set() {
    let word = "'a' \"$v\" $no ${no} ${no:-x} ${no/a/b} ${v%e}";
    let found = Lexer::for_display('\\').expand(word, &variables).unwrap();
    assert_eq!(found.text, "'a' \"value\" $no ${no} ${no:-x} ${no/a/b} valu");
    let found = Lexer::for_heredoc().expand("it's \"$v\" \\$v `x`\n", &variables).unwrap();
    assert_eq!(found.text, "it's \"value\" $v `x`\n");
}

#[test]
fn errors_say_where() {
    for (word, expected) in [
        ("ab${", "2: syntax error: missing '}'"),
        ("ab${v", "2: syntax error: missing '}'"),
        ("ab${v:", "2: syntax error: missing '}'"),
        ("ab${v:-x", "2: syntax error: missing '}'"),
        ("ab${v:-${x", "2: syntax error: missing '}'"),
        ("ab${v/x", "2: syntax error: missing '/' in ${}"),
        ("ab${v/x/y", "2: syntax error: missing '}'"),
        ("a${}", "1: syntax error: bad substitution"),
        ("a${{v}}", "1: syntax error: bad substitution"),
        ("a${:-x}", "1: syntax error: bad substitution"),
        ("a${v:x}", "4: unsupported modifier (:x) in substitution"),
        ("a${v:=x}", "4: unsupported modifier (:=) in substitution"),
        ("a${v=x}", "4: unsupported modifier (=) in substitution"),
        ("a${v:#x}", "4: unsupported modifier (:#) in substitution"),
        ("a${v.x}", "4: unsupported modifier (.) in substitution"),
        ("a${v#\\x}", "4: invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        ("a'b", "1: unexpected end of statement while looking for matching single-quote"),
        ("a\"b", "1: unexpected end of statement while looking for matching double-quote"),
        ("x${no?}", "1: no: is not allowed to be unset"),
        ("x${no:?}", "1: no: is not allowed to be unset"),
        ("x${empty:?}", "1: empty: is not allowed to be empty"),
        ("x${no:?give it $v}", "1: no: give it value"),
    ] {
        assert_eq!(expand(word).map(|found| found.text), Err(expected.to_owned()), "{word}");
    }
    let file = good("FROM a\nENV b=\"x\\\n ${y\"");
    let Kind::Env(pairs) = &file.stages[0].instructions[0].kind else { panic!() };
    let problem = file.lexer().expand_word(&file.source, &pairs[0].value, &NoVariables).unwrap_err();
    assert_eq!(problem.position(), Position { line: 3, column: 5 });
    assert_eq!(
        problem.message(),
        "failed to process \"\\\"x ${y\\\"\": unsupported modifier (\") in substitution"
    );
}

#[test]
fn nothing_grows_without_a_bound() {
    let deep = "${a:-".repeat(100_000);
    assert_eq!(expand(&deep), Err("500: variables are nested too deeply".to_owned()));
    let big = |_: &str| Some("x".repeat(1 << 16));
    let error = Lexer::new('\\').expand(&"$a".repeat(32), &big).unwrap_err();
    assert_eq!(error.message, "the values of the variables are too long together");
    let error = Lexer::new('\\').expand(&format!("${{a//x/{}}}", "y".repeat(100)), &big).unwrap_err();
    assert_eq!(error.message, "the values of the variables are too long together");
}
