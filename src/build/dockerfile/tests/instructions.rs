//! What each instruction takes and refuses.

use super::*;
use crate::build::dockerfile::ast::{
    CommandLine, CopySource, Healthcheck, RunCommand, RunNetwork, RunSecurity,
};
use std::time::Duration;

fn words(words: &[ast::Word]) -> Vec<&str> {
    words.iter().map(ast::Word::raw).collect()
}

fn literals(words: &[ast::Literal]) -> Vec<&str> {
    words.iter().map(ast::Literal::text).collect()
}

#[test]
fn stages_have_a_base_a_platform_and_a_name() {
    let file = good(
        "ARG V=1 W\nFROM --platform=$BUILDPLATFORM img:$V As Build\nRUN x\nfrom build\nFROM x AS last.1-_",
    );
    assert_eq!(file.global_args().map(|arg| arg.name.text()).collect::<Vec<_>>(), ["V", "W"]);
    let [first, second, third] = &file.stages[..] else { panic!() };
    assert_eq!((first.base.raw(), first.name()), ("img:$V", Some("build")));
    assert_eq!(first.platform.as_ref().unwrap().raw(), "$BUILDPLATFORM");
    assert_eq!(first.name.as_ref().unwrap().written.text(), "Build");
    assert_eq!((second.base.raw(), second.name(), third.name()), ("build", None, Some("last.1-_")));
    for (name, before, expected) in
        [("BUILD", 3, Some(0)), ("0", 1, Some(0)), ("1", 1, None), ("last.1-_", 2, None), ("x", 3, None)]
    {
        assert_eq!(file.find_stage(name, before), expected, "{name}");
    }
}

#[test]
fn commands_are_a_line_or_words() {
    for (text, line, exec) in [
        ("CMD a  'b' $c", "a  'b' $c", None),
        (
            "CMD [\"a\", \"b c\", \"\\u00e4\\n\\ud83d\\ude00\\ud83d\"]",
            "",
            Some(vec!["a", "b c", "ä\n😀\u{fffd}"]),
        ),
        ("CMD []", "", Some(vec![])),
        ("CMD", "", None),
        ("ENTRYPOINT [ \"a\" ] ", "", Some(vec!["a"])),
        // Not JSON, therefore for the shell.
        ("CMD ['a']", "['a']", None),
        ("CMD [\"a\"", "[\"a\"", None),
        ("CMD [\"a\",]", "[\"a\",]", None),
        ("CMD [\"a\"] b", "[\"a\"] b", None),
        ("CMD [ -f x ]", "[ -f x ]", None),
        ("CMD [\"a\\x\"]", "[\"a\\x\"]", None),
    ] {
        match (only(text), exec) {
            (
                Kind::Cmd(CommandLine::Exec(found)) | Kind::Entrypoint(CommandLine::Exec(found)),
                Some(expected),
            ) => {
                assert_eq!(literals(&found), expected, "{text}");
            }
            (Kind::Cmd(CommandLine::Shell(found)), None) => assert_eq!(found.text(), line, "{text}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn run_has_flags_of_its_own() {
    let Kind::Run(run) = only(
        "RUN --network=none --security=insecure --mount=target=/a,type=cache --mount=target=/b -- x --y",
    ) else {
        panic!()
    };
    assert_eq!((run.network, run.security, run.mounts.len()), (RunNetwork::None, RunSecurity::Insecure, 2));
    assert_eq!(run.command.for_shell().as_deref(), Some("x --y"));
    let Kind::Run(run) = only("RUN [\"--network=host\"]") else { panic!() };
    assert_eq!(run.network, RunNetwork::Default);
    assert!(matches!(run.command, RunCommand::Exec(words) if words[0].text() == "--network=host"));
}

#[test]
fn copy_and_add_have_flags_of_their_own() {
    let Kind::Copy(copy) = only(
        "COPY --from=\"b\"uild --chown=$U:g --chmod=u+x --link --parents=TRUE --exclude=*.o --exclude=x\\ y a \"b\" c/",
    ) else {
        panic!()
    };
    assert_eq!(copy.from.unwrap().text(), "build");
    assert_eq!((copy.transfer.chown.unwrap().raw(), copy.transfer.chmod.unwrap().raw()), ("$U:g", "u+x"));
    assert_eq!((copy.transfer.link, copy.parents), (true, true));
    assert_eq!(literals(&copy.transfer.exclude), ["*.o", "x y"]);
    let paths: Vec<&str> = copy
        .transfer
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Path(path) => path.raw(),
            CopySource::Inline(_) => panic!(),
        })
        .collect();
    assert_eq!((paths, copy.transfer.destination.raw()), (vec!["a", "\"b\""], "c/"));

    let Kind::Add(add) = only("ADD --unpack=false --keep-git-dir --checksum=sha256:$S [\"a b\", \"c\"]")
    else {
        panic!()
    };
    assert_eq!((add.unpack, add.keep_git_dir), (Some(false), Some(true)));
    assert_eq!(add.checksum.unwrap().raw(), "sha256:$S");
    assert_eq!(add.transfer.destination.raw(), "c");
}

#[test]
fn names_and_values_come_in_two_forms() {
    let pairs = |text: &str| match only(text) {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs
            .iter()
            .map(|pair| (pair.key.raw().to_owned(), pair.value.raw().to_owned(), pair.legacy))
            .collect(),
        other => panic!("{other:?}"),
    };
    for (text, expected) in [
        (
            "ENV a=b c=\"d e\" f=g\\ h",
            vec![("a", "b", false), ("c", "\"d e\"", false), ("f", "g\\ h", false)],
        ),
        ("ENV a  b  c=d", vec![("a", "b  c=d", true)]),
        ("ENV a=", vec![("a", "", false)]),
        ("ENV a='\\' b=c", vec![("a", "'\\'", false), ("b", "c", false)]),
        ("ENV a=b\\", vec![("a", "b", false)]),
        ("LABEL \"a b\"=\"c\\\n d\"", vec![("\"a b\"", "\"c d\"", false)]),
        ("LABEL a=b=c", vec![("a", "b=c", false)]),
    ] {
        let found: Vec<(String, String, bool)> = pairs(text);
        let found: Vec<(&str, &str, bool)> = found.iter().map(|(k, v, l)| (&**k, &**v, *l)).collect();
        assert_eq!(found, expected, "{text}");
    }
    let Kind::Arg(args) = only("# b what it is\nARG a b=c d=\"e f\"") else { panic!() };
    let found: Vec<_> =
        args.iter().map(|arg| (arg.name.text(), arg.default.as_ref().map(ast::Word::raw))).collect();
    assert_eq!(found, [("a", None), ("b", Some("c")), ("d", Some("\"e f\""))]);
    assert_eq!(args[1].description.as_deref(), Some("what it is"));
}

#[test]
fn the_small_ones() {
    assert!(matches!(only("WORKDIR /a b"), Kind::Workdir(path) if path.raw() == "/a b"));
    assert!(matches!(only("USER $u:g"), Kind::User(user) if user.raw() == "$u:g"));
    assert!(matches!(only("STOPSIGNAL $s"), Kind::Stopsignal(signal) if signal.raw() == "$s"));
    assert!(matches!(only("MAINTAINER a <b>"), Kind::Maintainer(name) if name.text() == "a <b>"));
    assert!(
        matches!(only("EXPOSE 80/tcp\t$p 1-2"), Kind::Expose(ports) if words(&ports) == ["80/tcp", "$p", "1-2"])
    );
    assert!(matches!(only("VOLUME /a /b"), Kind::Volume(paths) if words(&paths) == ["/a", "/b"]));
    assert!(
        matches!(only("VOLUME [\"/a b\", \" /c \"]"), Kind::Volume(paths) if words(&paths) == ["/a b", "/c"])
    );
    assert!(matches!(only("shell [\"a\", \"-c\"]"), Kind::Shell(shell) if literals(&shell) == ["a", "-c"]));
}

#[test]
fn healthchecks() {
    assert_eq!(only("HEALTHCHECK none"), Kind::Healthcheck(Healthcheck::None));
    let text = "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=1.5s --retries=3 CMD a b";
    let Kind::Healthcheck(Healthcheck::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }) = only(text)
    else {
        panic!()
    };
    assert!(matches!(command, CommandLine::Shell(line) if line.text() == "a b"));
    assert_eq!((interval, timeout), (Some(Duration::from_secs(90)), Some(Duration::from_millis(500))));
    assert_eq!((start_period, start_interval, retries), (None, Some(Duration::from_millis(1500)), Some(3)));
}

#[test]
fn triggers_are_kept_and_read_again() {
    let Kind::Onbuild(onbuild) = only("ONBUILD run cat <<A \\\n /x\n1\nA") else { panic!() };
    assert_eq!(onbuild.trigger, "run cat <<A  /x\n1\nA");
    let Kind::Run(run) = &onbuild.instruction.kind else { panic!() };
    let (_, again) = parse_trigger(&onbuild.trigger).unwrap();
    let Kind::Run(read) = &again.kind else { panic!() };
    assert_eq!(run.command.for_shell(), read.command.for_shell());
    for (text, message) in [
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("", "onbuild trigger should be a single expression"),
        ("RUNN a", "unknown instruction: RUNN (did you mean RUN?)"),
    ] {
        assert_eq!(parse_trigger(text).unwrap_err().message(), message, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_in_dockers_words_and_where() {
    let destination =
        "requires at least two arguments, but only one was provided. Destination could not be determined";
    for (text, line, column, message) in [
        ("", 1, 1, "the Dockerfile cannot be empty"),
        ("# only\n\n", 3, 1, "file with no instructions"),
        ("ARG a", 1, 6, "dockerfile contains no stages to build"),
        ("RUN a", 1, 1, "no build stage in current context"),
        ("FROM", 1, 1, "FROM requires either one or three arguments"),
        ("FROM a b", 1, 6, "FROM requires either one or three arguments"),
        ("FROM a of b", 1, 6, "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            1,
            11,
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM --plattform=x a", 1, 6, "unknown flag: --plattform (did you mean platform?)"),
        ("FROM a\n  FORM b", 2, 3, "unknown instruction: FORM (did you mean FROM?)"),
        ("FROM a\nwalk", 2, 1, "unknown instruction: walk"),
        ("FROM a\nCOPY --fron=b c d", 2, 6, "unknown flag: --fron (did you mean from?)"),
        ("FROM a\nCOPY --from=b --from=c d e", 2, 15, "duplicate flag specified: --from"),
        ("FROM a\nCOPY --from b c", 2, 6, "missing a value on flag: --from"),
        ("FROM a\nCOPY --link=maybe b c", 2, 6, "expecting boolean value for flag --link, not: maybe"),
        ("FROM a\nCOPY --link= b c", 2, 6, "missing a value on flag: --link"),
        (
            "FROM a\nCOPY --from=$x b c",
            2,
            13,
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ),
        ("FROM a\nCOPY b", 2, 6, &format!("COPY {destination}")),
        ("FROM a\nADD [\"b\"]", 2, 5, &format!("ADD {destination}")),
        (
            "FROM a\nCMD [\"b\", 1]",
            2,
            5,
            "when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM a\nRUN", 2, 1, "RUN requires at least one argument"),
        ("FROM a\nENV", 2, 1, "ENV requires at least one argument"),
        ("FROM a\nENV b", 2, 5, "ENV must have two arguments"),
        ("FROM a\nENV b=c d", 2, 9, "Syntax error - can't find = in \"d\". Must be of the form: name=value"),
        ("FROM a\nENV b=c =d", 2, 9, "ENV names can not be blank"),
        ("FROM a\nARG =d", 2, 5, "ARG names can not be blank"),
        ("FROM a\nARG", 2, 1, "ARG requires at least one argument"),
        ("FROM a\nWORKDIR", 2, 1, "WORKDIR requires exactly one argument"),
        ("FROM a\nUSER --x b", 2, 6, "unknown flag: --x"),
        ("FROM a\nVOLUME []", 2, 8, "VOLUME requires at least one argument"),
        ("FROM a\nVOLUME [\" \"]", 2, 10, "VOLUME specified can not be an empty string"),
        ("FROM a\nSHELL sh -c", 2, 7, "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nSHELL []", 2, 7, "SHELL requires at least one argument"),
        ("FROM a\nHEALTHCHECK", 2, 1, "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", 2, 18, "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK curl", 2, 13, "Unknown type \"CURL\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK CMD", 2, 13, "Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", 2, 24, "Interval \"interval\" cannot be less than 1ms"),
        ("FROM a\nHEALTHCHECK --timeout=5 CMD x", 2, 23, "time: invalid duration \"5\""),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", 2, 23, "--retries cannot be negative (-1)"),
        ("FROM a\nONBUILD", 2, 1, "ONBUILD requires at least one argument"),
        ("FROM a\nONBUILD onbuild RUN x", 2, 9, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD from x", 2, 9, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nRUN --network=bridge x", 2, 15, "invalid network mode \"bridge\""),
        ("FROM a\nRUN --security=none x", 2, 16, "security \"none\" is not valid"),
        ("FROM a\nRUN --device=x y", 2, 14, "RUN --device is not supported"),
        (
            "FROM a\nRUN --mount=type=bnd,target=/x y",
            2,
            18,
            "unsupported mount type \"bnd\" (did you mean bind?)",
        ),
        (
            "FROM a\nRUN --mount=type=cache,taget=/x y",
            2,
            24,
            "unexpected key 'taget' in 'taget=/x' (did you mean target?)",
        ),
    ] {
        assert_eq!(bad(text), (line, column, message.to_owned()), "{text}");
    }
}

#[test]
fn an_error_shows_its_line_and_the_place_in_it() {
    let problem = parse(&Source::new("x/Dockerfile", "FROM a\nCOPY\t--fron=b c d\n")).unwrap_err();
    let expected = "x/Dockerfile:2:6: unknown flag: --fron (did you mean from?)\n  2 | COPY --fron=b c d\n    |      ^^^^^^^^";
    assert_eq!(problem.to_string(), expected);
    let problem = parse(&Source::new("Dockerfile", "RUN a \\\n b")).unwrap_err();
    let hint = "begin with FROM; only ARG may stand before it";
    assert_eq!(crate::diagnose::Diagnose::fix(&problem).as_deref(), Some(hint));
    assert_eq!(problem.excerpt(), "  1 | RUN a \\\n  2 |  b");
}
