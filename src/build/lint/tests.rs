#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use super::*;
use crate::build::dockerfile::parse;

fn file(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).unwrap_or_else(|problem| panic!("{problem}\n--- in\n{text}"))
}

fn report(text: &str, ignore: Option<&str>) -> (Dockerfile, Report) {
    let file = file(text);
    let platform = "linux/amd64".parse().unwrap();
    let ignore = ignore.map(|text| Ignore::parse(".dockerignore", text.as_bytes()).unwrap());
    let args = BuildArgs::from([("GIVEN".to_owned(), "given".to_owned())]);
    let facts = Facts {
        build: &platform,
        target_platform: &platform,
        target: None,
        build_args: &args,
        ignore: ignore.as_ref(),
        stages: &|_| true,
        base: &|name, _| match name {
            "base" => Some(BaseImage {
                environment: vec![("PATH".to_owned(), "/bin".to_owned())],
                ..BaseImage::default()
            }),
            "shell" => Some(BaseImage { has_shell: true, ..BaseImage::default() }),
            "arm" => {
                Some(BaseImage { platform: Some("linux/arm64".parse().unwrap()), ..BaseImage::default() })
            }
            _ => None,
        },
    };
    let options = Options::of_file(&file).unwrap();
    let report = check(&file, &options, &facts);
    (file, report)
}

/// The warnings of a file as they are listed, without an error.
fn warnings(text: &str) -> Vec<String> {
    let (file, report) = report(text, None);
    assert_eq!(report.error, None, "{text}");
    report.warnings.iter().map(|warning| warning.summary(&file.source)).collect()
}

#[test]
fn each_rule_finds_its_case() {
    let description = "# check=experimental=InvalidDefinitionDescription\n";
    for (text, expected) in [
        ("FROM scratch AS Build", "StageNameCasing: Stage name 'Build' should be lowercase (line 1)"),
        ("FROM scratch as build", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"),
        ("from scratch AS build", "FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"),
        ("FROM scratch\nLABEL a=\\\n\nb", "NoEmptyContinuation: Empty continuation line (line 4)"),
        (
            "FROM scratch\nworkdir /a\nUSER b",
            "ConsistentInstructionCasing: Command 'workdir' should match the case of the command majority (uppercase) (line 2)",
        ),
        (
            "from scratch\nWorkdir /a",
            "ConsistentInstructionCasing: Command 'Workdir' should match the case of the command majority (lowercase) (line 2)",
        ),
        (
            "FROM scratch AS a\nFROM scratch AS a",
            "DuplicateStageName: Duplicate stage name \"a\", stage names should be unique (line 2)",
        ),
        (
            "FROM scratch AS scratch",
            "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 1)",
        ),
        (
            "FROM scratch\nENTRYPOINT a",
            "JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals (line 2)",
        ),
        (
            "FROM scratch\nMAINTAINER me",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
        ),
        (
            "ARG VERSION=1\nFROM base:$VERSON-a\n",
            "UndefinedArgInFrom: FROM argument 'VERSON' is not declared (did you mean VERSION?) (line 2)",
        ),
        (
            "FROM scratch\nWORKDIR a\nWORKDIR b",
            "WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes (line 2)",
        ),
        (
            "FROM base\nUSER $PAHT",
            "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)",
        ),
        (
            "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]",
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)",
        ),
        (
            "FROM scratch\nLABEL a b",
            "LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format (line 2)",
        ),
        (
            "FROM arm",
            "InvalidBaseImagePlatform: Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build (line 1)",
        ),
        (
            "FROM --platform=${TARGETPLATFORM} base",
            "RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior (line 1)",
        ),
        (
            "FROM scratch\nENV DB_PASSWORD=x",
            "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"DB_PASSWORD\") (line 2)",
        ),
        (
            "ARG TAG\nFROM base:$TAG",
            "InvalidDefaultArgInFrom: Default value for ARG base:$TAG results in empty or invalid base image name (line 2)",
        ),
        (
            "FROM --platform=linux/amd64 base AS build",
            "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\" (line 1)",
        ),
        (
            &format!("{description}# says nothing\nARG a=1\nFROM scratch"),
            "InvalidDefinitionDescription: Comment for ARG should follow the format: `# a <description>` (line 3)",
        ),
        (
            &format!("{description}FROM scratch AS a\n# b is it\nARG c d=1"),
            "InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 4)",
        ),
        (
            "FROM scratch\nEXPOSE 80/TCP",
            "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)",
        ),
        (
            "FROM scratch\nEXPOSE 8080:80",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80' (line 2)",
        ),
    ] {
        let mut found = warnings(text);
        // What has no value without the build's arguments is no name, and that is said as well.
        found.retain(|line| !(line.starts_with("InvalidDefault") && expected.starts_with("UndefinedArg")));
        assert_eq!(found, [expected], "{text}");
    }
}

#[test]
fn what_is_in_order_is_left_alone() {
    for text in [
        "FROM scratch AS build\nFROM build\nfrom other",
        "# check=skip=ConsistentInstructionCasing\nFROM scratch AS a\nuser x",
        "# anything\nARG a=1\nFROM scratch",
        "FROM --platform=$BUILDPLATFORM base",
        "FROM --platform=linux/amd64 base AS tools-amd64",
        "FROM shell\nCMD a",
        "FROM scratch\nSHELL [\"a\"]\nCMD a",
        "FROM scratch\nWORKDIR /a\nWORKDIR b",
        "FROM scratch AS a\nWORKDIR /a\nCMD [\"a\"]\nFROM a\nWORKDIR b\nCMD [\"b\"]",
        "FROM base\nUSER $PATH",
        "FROM scratch\nUSER $PATH",
        "FROM unknown\nUSER $ANYTHING",
        "FROM base\nARG A\nUSER $A${B:+}",
        "FROM base\nARG A\nUSER $A\nRUN echo $B",
        "FROM base AS a\nARG A\nFROM a\nUSER $A",
        "FROM base\nRUN --mount=type=cache,target=$PATH x",
        "FROM scratch\nENV DB_PASSWORD_FILE=x KEYS=1 PUBLIC_KEY=y",
        "ARG TAG=1\nFROM base:$TAG",
        "FROM scratch\nEXPOSE 80/tcp 81",
    ] {
        let found: Vec<String> = warnings(text).into_iter().filter(|line| !line.contains("'$B'")).collect();
        let known = ["FROM scratch AS build\nFROM build\nfrom other"];
        assert_eq!(found.len(), usize::from(known.contains(&text)), "{text}: {found:?}");
    }
}

#[test]
fn every_word_that_is_expanded_is_looked_at() {
    for (text, expected) in [
        ("ENV A=$a B$b=1", 2),
        ("LABEL $a=$b", 2),
        ("COPY --chown=$a --chmod=$b $c $d", 4),
        ("ADD --checksum=$a http://x $b", 2),
        ("COPY <<f <<'g' /\n$a $b\nf\n$c\ng", 2),
        ("COPY --exclude=$a b c", 0),
        ("WORKDIR /$a", 1),
        ("VOLUME $a [$b", 2),
        ("STOPSIGNAL $a", 1),
        ("ARG A=$a B=$A C=$C", 2),
        ("RUN --mount=target=/$a,source=$b $c", 2),
        ("CMD [\"$a\"]", 0),
        ("EXPOSE $a", 0),
        ("ONBUILD USER $a", 0),
    ] {
        let found = warnings(&format!("FROM base\n{text}"));
        let count = found.iter().filter(|line| line.starts_with("UndefinedVar")).count();
        assert_eq!(count, expected, "{text}: {found:?}");
    }
}

#[test]
fn files_that_the_context_leaves_out_are_not_copied() {
    let found = |text: &str, ignore: &str| {
        let (file, report) = report(&format!("FROM base AS a\n{text}"), Some(ignore));
        report.warnings.iter().map(|warning| warning.summary(&file.source)).collect::<Vec<_>>()
    };
    let copy = "CopyIgnoredFile: Attempting to Copy file \"a/b\" that is excluded by .dockerignore (line 2)";
    let add = "CopyIgnoredFile: Attempting to Add file \"x.o\" that is excluded by .dockerignore (line 2)";
    let root = "CopyIgnoredFile: Attempting to Copy file \".\" that is excluded by .dockerignore (line 2)";
    for (text, ignore, expected) in [
        ("COPY ./a/b /", "a", vec![copy]),
        ("ADD x.o y.c https://x.o/x.o /", "*.o", vec![add]),
        ("COPY . /", "*", vec![root]),
        ("COPY . /", "*.o", vec![]),
        ("COPY a/b /", "a\n!a/b", vec![]),
        ("COPY --from=a a/b /", "a", vec![]),
        ("COPY c /", "a", vec![]),
    ] {
        assert_eq!(found(text, ignore), expected, "{text} with {ignore:?}");
    }
}

#[test]
fn rules_are_skipped_for_the_file_or_for_one_instruction() {
    let text = "FROM scratch AS A\nMAINTAINER me\nCMD a";
    let all = ["StageNameCasing", "MaintainerDeprecated", "JSONArgsRecommended"];
    for (before, expected) in [
        ("", &all[..]),
        ("# check=skip=all\n", &[]),
        ("# check=skip=StageNameCasing, MaintainerDeprecated\n", &all[1..]),
        ("# check=skip=StageNameCasing,MaintainerDeprecated\n", &all[2..]),
        ("# check=error=true;skip=JSONArgsRecommended,Unknown\n", &all[..2]),
        ("# syntax=x\n# check=skip=all;experimental=all\n", &[]),
        // Not a directive any more, but one for the instruction below.
        ("# a comment\n# check=skip=StageNameCasing\n", &all[1..]),
    ] {
        let (_, report) = report(&format!("{before}{text}"), None);
        let found: Vec<String> = report.warnings.iter().map(|warning| warning.rule.name()).collect();
        assert_eq!(found, expected, "{before:?}");
    }
    let (_, found) =
        report("FROM scratch AS A\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nCMD a", None);
    assert_eq!(
        found.violation().unwrap(),
        "lint violation found for rules: JSONArgsRecommended, StageNameCasing"
    );
    for (text, message) in [
        ("skip", "invalid check option \"skip\""),
        ("skp=all", "invalid check option \"skp\""),
        ("error=maybe", "failed to parse check option \"error=maybe\""),
        ("skip=all;error=1;x=y;z", "invalid check option \"x\""),
    ] {
        assert_eq!(Options::parse(text).unwrap_err(), message, "{text}");
    }
    assert!(Options::parse(" error = True ; skip = all").unwrap().error);
    let file = file("# check=error=maybe\nFROM a");
    assert!(Options::of_file(&file).unwrap_err().starts_with("failed to parse check options: "));
}

#[test]
fn what_ends_a_build_before_it_runs_anything_is_reported() {
    for (text, line, column, message) in [
        ("ARG A\nFROM $A", 2, 6, "base name ($A) should not be blank"),
        ("FROM --platform=$P base", 1, 17, "empty platform value from expression $P"),
        ("FROM base\nARG A=${B:?needed}", 2, 7, "failed to process \"${B:?needed}\": B: needed"),
        ("FROM base\nEXPOSE x", 2, 8, "invalid containerPort: x"),
        ("FROM base\nRUN --mount=type=$T,target=/x y", 2, 18, "unsupported mount type \"\""),
    ] {
        let (_, report) = report(text, None);
        let problem = report.error.unwrap_or_else(|| panic!("{text}"));
        let place = problem.position();
        assert_eq!((place.line, place.column, problem.message()), (line, column, message), "{text}");
    }
}

#[test]
fn a_warning_is_shown_as_docker_shows_it() {
    let text = "FROM scratch AS Build\nLABEL a=b\nLABEL c=d\nLABEL e=f\n";
    let (file, report) = report(text, None);
    let expected = "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Build' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM scratch AS Build
   2 |     LABEL a=b
   3 |     LABEL c=d
--------------------
";
    assert_eq!(report.warnings[0].page(&file.source), expected);
    let urls: Vec<String> = Rule::ALL.iter().filter_map(|rule| rule.url()).collect();
    assert!(urls.iter().any(|url| url.ends_with("/json-args-recommended/")));
    assert!(urls.iter().any(|url| url.ends_with("/secrets-used-in-arg-or-env/")));
    assert!(urls.iter().any(|url| url.ends_with("/from-platform-flag-const-disallowed/")));
}
