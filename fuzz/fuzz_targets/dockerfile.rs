//! Dockerfiles, the words in them, and `.dockerignore`: the file's text, 0xFF, the patterns, 0xFF, a path.
//!
//! Every place is in the text; what an image is told to do later can be read again; a word does not grow beyond its
//! variables; what a walk skips is what the patterns leave out.
#![no_main]

use coracle::build::dockerfile::ast::{Arg, CommandLine, CopySource, Healthcheck, Kind, RunCommand, Transfer, Word};
use coracle::build::dockerfile::scope::{BuildArgs, Globals};
use coracle::build::dockerfile::words::{Lexer, Variables};
use coracle::build::dockerfile::{Dockerfile, Instruction, Source, Span, Text, parse, parse_trigger};
use coracle::build::ignore::Ignore;
use coracle::build::lint::{self, BaseImage, Facts, Options};
use libfuzzer_sys::fuzz_target;

/// The longest value of a variable below.
const LONGEST: usize = 9;

fn variables(name: &str) -> Option<String> {
    match name {
        "a" => Some("value".to_owned()),
        "b" => Some(String::new()),
        "c" => Some("x/y.z/$a*\\".to_owned()[..LONGEST].to_owned()),
        _ => None,
    }
}

fn check_span(source: &Source, span: Span) {
    let text = source.text();
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?} of {} bytes", text.len());
    let place = source.position(span.start);
    assert!(place.line >= 1 && place.column >= 1);
    assert!(place.line <= text.matches('\n').count() + 1);
}

fn check_text(source: &Source, text: &Text) {
    check_span(source, text.span());
    let mut last = 0;
    for (at, _) in text.char_indices().take(1000) {
        let place = text.source(at);
        assert!(place >= last && place < source.text().len(), "{text:?} at {at} is from {place}");
        last = place;
    }
    assert_eq!(&*text.part(0..text.len()), text.as_str());
}

fn check_word(source: &Source, lexer: Lexer, word: &Word) {
    check_text(source, &word.0);
    match lexer.expand_word(source, word, &variables) {
        Err(problem) => check_span(source, problem.span()),
        Ok(expanded) => {
            // A variable takes two characters at least, and a pattern may replace each character by a text.
            let most = (word.raw().len() + 1) * (word.raw().len() + 1) * LONGEST;
            assert!(expanded.text.len() <= most, "{} bytes of {:?}", expanded.text.len(), word.raw());
            assert!(expanded.words.iter().all(|word| !word.is_empty()));
            for (_, at) in &expanded.unset {
                assert!(word.raw()[*at..].starts_with('$'), "{at} in {:?}", word.raw());
            }
        }
    }
}

fn check_command(source: &Source, command: &CommandLine) {
    match command {
        CommandLine::Shell(line) => check_text(source, &line.0),
        CommandLine::Exec(words) => words.iter().for_each(|word| check_text(source, &word.0)),
    }
}

fn check_transfer(source: &Source, lexer: Lexer, transfer: &Transfer) {
    let word = |word: &Word| check_word(source, lexer, word);
    assert!(!transfer.sources.is_empty());
    word(&transfer.destination);
    transfer.chown.iter().chain(&transfer.chmod).for_each(word);
    for file in &transfer.sources {
        match file {
            CopySource::Path(path) => word(path),
            CopySource::Inline(file) => {
                assert!(!file.name.is_empty());
                check_text(source, &file.content);
            }
        }
    }
}

fn check_arg(source: &Source, lexer: Lexer, arg: &Arg) {
    assert!(!arg.name.text().is_empty());
    check_text(source, &arg.name.0);
    arg.default.iter().for_each(|word| check_word(source, lexer, word));
}

fn check_instruction(source: &Source, lexer: Lexer, instruction: &Instruction) {
    check_span(source, instruction.head.span);
    check_text(source, &instruction.head.keyword.0);
    assert!(instruction.head.keyword.text().eq_ignore_ascii_case(instruction.kind.keyword()));
    let word = |word: &Word| check_word(source, lexer, word);
    match &instruction.kind {
        Kind::Add(add) => check_transfer(source, lexer, &add.transfer),
        Kind::Copy(copy) => check_transfer(source, lexer, &copy.transfer),
        Kind::Arg(args) => args.iter().for_each(|arg| check_arg(source, lexer, arg)),
        Kind::Cmd(command) | Kind::Entrypoint(command) => check_command(source, command),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            for pair in pairs {
                assert!(!pair.key.raw().is_empty());
                word(&pair.key);
                word(&pair.value);
            }
        }
        Kind::Expose(words) | Kind::Volume(words) => words.iter().for_each(word),
        Kind::Healthcheck(Healthcheck::None) => {}
        Kind::Healthcheck(Healthcheck::Check { command, .. }) => {
            assert!(!command.is_empty());
            check_command(source, command);
        }
        Kind::Maintainer(name) => check_text(source, &name.0),
        Kind::Onbuild(onbuild) => {
            check_instruction(source, lexer, &onbuild.instruction);
            // Whoever builds on the image reads it with a backslash for an escape.
            if lexer.escape() == '\\' {
                let (_, again) = parse_trigger(&onbuild.trigger).unwrap_or_else(|problem| {
                    panic!("{problem}\nof {:?}", onbuild.trigger)
                });
                assert_eq!(again.kind.keyword(), onbuild.instruction.kind.keyword());
                assert_eq!(again.head.text, onbuild.instruction.head.text);
            }
        }
        Kind::Run(run) => {
            match &run.command {
                RunCommand::Exec(words) => assert!(!words.is_empty()),
                RunCommand::Shell { line, .. } => check_text(source, &line.0),
                RunCommand::Script(file) | RunCommand::Program(file) => check_text(source, &file.content),
            }
            for mount in &run.mounts {
                if let Err(problem) = mount.resolve(source, lexer, &variables) {
                    check_span(source, problem.span());
                }
            }
        }
        Kind::Shell(words) => assert!(!words.is_empty()),
        Kind::Stopsignal(text) | Kind::User(text) | Kind::Workdir(text) => word(text),
    }
}

fn check_file(source: &Source, file: &Dockerfile) {
    let lexer = file.lexer();
    let mut end = 0;
    let mut in_order = |span: Span| {
        assert!(span.start >= end, "{span:?} begins before {end}");
        end = span.end;
    };
    for instruction in &file.preamble {
        in_order(instruction.head.span);
        check_instruction(source, lexer, instruction);
    }
    assert!(!file.stages.is_empty());
    for stage in &file.stages {
        in_order(stage.head.span);
        check_word(source, lexer, &stage.base);
        for instruction in &stage.instructions {
            in_order(instruction.head.span);
            check_instruction(source, lexer, instruction);
        }
    }
}

fn check_lint(file: &Dockerfile, ignore: Option<&Ignore>) {
    let platform = "linux/amd64".parse().unwrap();
    let args = BuildArgs::from([("b".to_owned(), "1".to_owned())]);
    let facts = Facts {
        build: &platform,
        target_platform: &platform,
        target: None,
        build_args: &args,
        ignore,
        stages: &|_| true,
        base: &|name, _| (name.len() % 2 == 0).then(BaseImage::default),
    };
    let options = Options::of_file(file).unwrap_or_default();
    let report = lint::check(file, &options, &facts);
    for warning in &report.warnings {
        // A comment may ask for an experimental rule.
        assert!(options.wants(warning.rule) || warning.rule.is_experimental());
        check_span(&file.source, warning.span);
        let _ = warning.page(&file.source);
    }
    let mut globals = Globals::new(&platform, &platform, None, &args);
    if globals.declare(file, &args).is_ok() {
        assert!(globals.get("TARGETARCH").is_some());
    }
}

fn check_ignore(ignore: &Ignore, path: &[u8]) {
    let mut folder = ignore.root();
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut is_skipped = false;
    for end in ends.filter(|end| *end > 0) {
        folder = ignore.enter(&folder, &path[..end]);
        is_skipped |= folder.may_be_skipped();
        assert!(!folder.may_be_skipped() || folder.is_ignored());
    }
    let found = ignore.ignores_in(&folder, path);
    assert!(!is_skipped || found, "{path:?} is below a folder that is skipped");
    // Without exceptions, a walk and a question agree.
    if !ignore.has_exceptions() && !path.starts_with(b"/") {
        assert_eq!(found, ignore.ignores(path), "{path:?}");
    }
}

fuzz_target!(|input: &[u8]| {
    let [text, patterns, path] = coracle_fuzz::parts(input);
    let ignore = Ignore::parse(".dockerignore", patterns);
    match &ignore {
        Ok(ignore) => check_ignore(ignore, path),
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
    let source = Source::from_bytes("Dockerfile", text);
    match parse(&source) {
        Ok(file) => {
            check_file(&source, &file);
            check_lint(&file, ignore.as_ref().ok());
        }
        Err(problem) => {
            check_span(&source, problem.span());
            assert!(problem.to_string().starts_with("Dockerfile:"));
        }
    }
    // Any text is a word.
    for escape in ['\\', '`'] {
        let _ = Lexer::new(escape).expand(source.text(), &variables);
        let _ = Lexer::for_display(escape).expand(source.text(), &variables);
    }
});
