//! Comments, continuations, directives, heredocs.

use super::*;
use crate::build::dockerfile::ast::{CopySource, RunCommand};
use crate::build::dockerfile::words::{Lexer, NoVariables};

/// The joined lines of a file, heads of stages included.
fn texts(text: &str) -> Vec<String> {
    let file = good(text);
    let of_stage = |stage: &Stage| {
        let own = stage.instructions.iter().map(|instruction| instruction.head.text.clone());
        [stage.head.text.clone()].into_iter().chain(own).collect::<Vec<_>>()
    };
    let preamble = file.preamble.iter().map(|instruction| instruction.head.text.clone());
    preamble.chain(file.stages.iter().flat_map(of_stage)).collect()
}

#[test]
fn lines_are_joined_and_comments_dropped() {
    for (text, expected) in [
        ("FROM a\nRUN b", vec!["FROM a", "RUN b"]),
        ("\u{feff}FROM a\r\nRUN b\\\r\n  c\r\n", vec!["FROM a", "RUN b  c"]),
        ("  FROM a\n\t# note\n\tRUN b", vec!["FROM a", "RUN b"]),
        ("FROM a\nRUN b \\\n# note\n\n   # other\n c", vec!["FROM a", "RUN b  c"]),
        ("FROM a\nRUN b \\  \t\n c", vec!["FROM a", "RUN b  c"]),
        // An escape that is escaped joins nothing; three in a row do not either, with BuildKit.
        ("FROM a\nRUN b \\\\\nRUN c", vec!["FROM a", "RUN b \\\\", "RUN c"]),
        ("FROM a\nRUN b \\\\\\\nRUN c", vec!["FROM a", "RUN b \\\\\\", "RUN c"]),
        ("FROM a\nRUN b \\", vec!["FROM a", "RUN b"]),
        ("FROM a\n\\\nRUN b", vec!["FROM a", "RUN b"]),
        ("FR\\\nOM a", vec!["FROM a"]),
        ("# escape=`\nFROM a\nRUN b `\n c \\\nRUN d", vec!["FROM a", "RUN b  c \\", "RUN d"]),
        ("ARG x=1\nFROM a\nRUN # no comment", vec!["ARG x=1", "FROM a", "RUN # no comment"]),
    ] {
        assert_eq!(texts(text), expected, "{text:?}");
    }
}

#[test]
fn directives_stand_before_all_else_and_once() {
    let values = |text: &str| {
        let found = good(text).directives;
        let text = |value: &Option<ast::Literal>| value.as_ref().map(|value| value.text().to_owned());
        (text(&found.syntax), text(&found.escape), text(&found.check))
    };
    let some = |text: &str| Some(text.to_owned());
    for (text, expected) in [
        ("# syntax=docker/dockerfile:1\nFROM a", (some("docker/dockerfile:1"), None, None)),
        (
            "#Syntax = x\n # eScape=` \n#check=skip=all;error=true\nFROM a",
            (some("x"), some("`"), some("skip=all;error=true")),
        ),
        ("# a comment\n# escape=`\nFROM a", (None, None, None)),
        ("\n# escape=`\nFROM a", (None, None, None)),
        ("# unknown=x\n# escape=`\nFROM a", (None, None, None)),
        ("FROM a\n# escape=`\n", (None, None, None)),
        ("# escape=\nFROM a", (None, None, None)),
    ] {
        assert_eq!(values(text), expected, "{text:?}");
    }
    assert_eq!(
        bad("# escape=`\n# Escape=`\nFROM a"),
        (2, 1, "only one escape parser directive can be used".into())
    );
    assert_eq!(bad("# escape=x\nFROM a"), (1, 10, "invalid escape token 'x' does not match ` or \\".into()));
}

#[test]
fn empty_lines_within_an_instruction_are_noted() {
    let file = good("FROM a\nRUN b \\\n\n  \n c\nRUN d \\\n# comment\n e");
    let lines: Vec<usize> =
        file.empty_continuations.iter().map(|span| file.source.position(span.start).line).collect();
    assert_eq!(lines, [5]);
}

#[test]
fn a_heredoc_is_what_docker_takes_for_one() {
    let shell = |text: &str| match only(text) {
        Kind::Run(run) => run.command,
        other => panic!("{other:?}"),
    };
    let RunCommand::Script(script) = shell("RUN <<EOF\n\techo $a\r\n\n# kept\nEOF\n") else { panic!() };
    assert_eq!((script.text().as_str(), script.expands), ("\techo $a\r\n\n# kept\n", true));
    let RunCommand::Script(script) = shell("RUN <<-\"E F\"\n\t\techo\n\tE F\n") else { panic!() };
    assert_eq!((script.text().as_str(), script.expands, script.name.as_str()), ("echo\n", false, "E F"));
    let RunCommand::Program(program) = shell("RUN <<a.py\n#!/usr/bin/python3\nprint()\na.py\n") else {
        panic!()
    };
    assert_eq!(program.text(), "#!/usr/bin/python3\nprint()\n");
    for (text, expected) in [
        ("RUN cat <<A && cat 3<<-'B'\n1\nA\n\t2\n\tB", "cat <<A && cat 3<<-'B'\n1\nA\n\t2\nB"),
        ("RUN python3 <<EOF > /x\nprint()\nEOF", "python3 <<EOF > /x\nprint()\nEOF"),
        ("RUN <<A <<B\na\nA\nb\nB", "<<A <<B\na\nA\nb\nB"),
        // No heredocs: a here-string, text in quotes, a word that only ends in one, quotes that do not close.
        ("RUN cat <<<EOF", "cat <<<EOF"),
        ("RUN echo \"<<EOF\"", "echo \"<<EOF\""),
        ("RUN echo a<<EOF", "echo a<<EOF"),
        ("RUN echo it's <<EOF", "echo it's <<EOF"),
    ] {
        assert_eq!(shell(text).for_shell().as_deref(), Some(expected), "{text:?}");
    }
    assert!(matches!(shell("RUN [\"cat\", \"<<EOF\"]"), RunCommand::Exec(_)));
    assert_eq!(bad("FROM a\nRUN <<EOF\nx\n EOF"), (2, 1, "unterminated heredoc".into()));

    let Kind::Copy(copy) = only("COPY <<a <<-'b' c /to/\n$x\na\n\ty\n\tb") else { panic!() };
    let sources: Vec<(String, bool, String)> = copy
        .transfer
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Path(path) => (path.raw().to_owned(), false, String::new()),
            CopySource::Inline(file) => (file.name.clone(), file.expands, file.text()),
        })
        .collect();
    let expected = [("a", true, "$x\n"), ("b", false, "y\n"), ("c", false, "")];
    assert_eq!(sources, expected.map(|(name, expands, text)| (name.to_owned(), expands, text.to_owned())));
    let message = "COPY cannot accept a heredoc as a destination";
    assert_eq!(bad("FROM a\nCOPY a <<b\nx\nb"), (2, 8, message.into()));
}

#[test]
fn places_go_through_joined_lines() {
    let file = good("FROM a\nCOPY --from=x \\\n  \"a\\\n b\" ä \\\n /to");
    let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!() };
    let place = |span: Span| (file.source.position(span.start), file.source.slice(span).to_owned());
    let at = |line, column| Position { line, column };
    assert_eq!(place(copy.from.as_ref().unwrap().span()), (at(2, 13), "x".into()));
    assert_eq!(place(copy.transfer.destination.span()), (at(5, 2), "/to".into()));
    let CopySource::Path(path) = &copy.transfer.sources[2] else { panic!() };
    assert_eq!(place(path.span()), (at(4, 5), "ä".into()));
    assert_eq!(file.source.lines(file.stages[0].instructions[0].head.span), (2, 5));
}

#[test]
fn no_text_costs_more_than_its_length() {
    const COUNT: usize = 20_000;
    let heredocs = format!("FROM a\nCOPY {}/to\n{}", "<<A ".repeat(COUNT), "A\n".repeat(COUNT));
    let names: String = (0..COUNT).map(|number| format!("$v{number}")).collect();
    let start = std::time::Instant::now();
    for text in [
        format!("FROM a\nRUN a {}", "\\\n # c\n\n b ".repeat(COUNT)),
        format!("FROM a\nENV {}", "a=\"b c\" ".repeat(COUNT)),
        format!("FROM a\nRUN {} x", "--mount=target=/a ".repeat(COUNT)),
        format!("FROM a\nCMD [{}\"\"]", "\"\\u00e4\\n\",".repeat(COUNT)),
        format!("FROM a\nRUN cat <<A {names}\nA"),
        format!("FROM a\nVOLUME {}", "[".repeat(COUNT)),
        format!("{}FROM a", "# c\n".repeat(COUNT)),
        heredocs,
    ] {
        let file = good(&text);
        assert_eq!(file.stages.len(), 1);
    }
    let found = Lexer::new('\\').expand(&names, &NoVariables).unwrap();
    assert_eq!(found.unset.len(), COUNT);
    // Seconds even in debug; what is quadratic takes hours.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
