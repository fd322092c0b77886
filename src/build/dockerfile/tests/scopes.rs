//! Which variables are seen where; ports.

use super::*;
use crate::build::dockerfile::expose::Ports;
use crate::build::dockerfile::scope::{BuildArgs, Globals, PLATFORM_ARGS, Scope, unknown_build_args};
use crate::build::dockerfile::words::Variables;

fn given(pairs: &[(&str, &str)]) -> BuildArgs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn globals(file: &Dockerfile, args: &BuildArgs) -> Globals {
    let (build, target) = ("linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap());
    let mut globals = Globals::new(&build, &target, Some("app"), args);
    globals.declare(file, args).unwrap();
    globals
}

#[test]
fn the_global_scope_has_the_platforms_and_the_arguments_before_from() {
    let file = good("ARG A=1\nARG B=$A-${C:-c}-$TARGETARCH D\nARG A=2$A\nFROM x");
    let seen = globals(&file, &given(&[("D", "d"), ("BUILDVARIANT", "v3"), ("E", "e")]));
    for (name, expected) in [
        ("A", Some("21")),
        ("B", Some("1-c-arm")),
        ("D", Some("d")),
        ("E", None),
        ("BUILDPLATFORM", Some("linux/amd64")),
        ("BUILDVARIANT", Some("v3")),
        ("BUILDOSVERSION", Some("")),
        ("TARGETPLATFORM", Some("linux/arm/v7")),
        ("TARGETOS", Some("linux")),
        ("TARGETVARIANT", Some("v7")),
        ("TARGETSTAGE", Some("app")),
        ("HTTP_PROXY", None),
    ] {
        assert_eq!(seen.get(name).as_deref(), expected, "{name}");
    }
    assert!(PLATFORM_ARGS.iter().all(|name| seen.get(name).is_some()));
    let seen = globals(&file, &given(&[("A", "x")]));
    assert_eq!(seen.get("B").as_deref(), Some("x-c-arm"));
}

#[test]
fn a_stage_sees_what_it_declares() {
    let file = good(
        "ARG V=1 W=2\nFROM x\nARG V W=3 N\nARG TARGETARCH HTTP_PROXY BUILDKIT_SBOM_SCAN_STAGE=1\nENV V=e\nARG P=$PATH-$W-$N V2=$V\nARG V=late",
    );
    let args = given(&[("HTTP_PROXY", "p")]);
    let outer = globals(&file, &args);
    let mut scope = Scope::new([("PATH", "/bin")]);
    for instruction in &file.stages[0].instructions {
        match &instruction.kind {
            Kind::Arg(declared) => {
                for arg in declared {
                    scope.declare(&file.source, file.lexer(), arg, &outer, &args).unwrap();
                }
            }
            Kind::Env(_) => scope.set("V", "e"),
            _ => panic!(),
        }
    }
    let seen: Vec<(&str, &str)> =
        scope.environment().iter().map(|(name, value)| (&**name, &**value)).collect();
    let expected = [
        ("HTTP_PROXY", "p"),
        ("P", "/bin-3-"),
        ("PATH", "/bin"),
        ("TARGETARCH", "arm"),
        ("V", "late"),
        ("V2", "e"),
        ("W", "3"),
    ];
    assert_eq!(seen, expected);
    assert!(scope.declares("N") && scope.declares("BUILDKIT_SBOM_SCAN_STAGE") && !scope.declares("PATH"));
    assert_eq!(scope.arguments().len(), 9);
}

#[test]
fn arguments_that_nobody_declares_are_found() {
    let file = good("ARG A\nFROM x\nARG B C=1");
    let args = given(&[
        ("A", ""),
        ("C", ""),
        ("D", ""),
        ("http_proxy", ""),
        ("TARGETOS", ""),
        ("SOURCE_DATE_EPOCH", ""),
    ]);
    assert_eq!(unknown_build_args(&file, &args), ["D"]);
}

#[test]
fn ports_are_read_as_docker_reads_them() {
    for (text, names) in [
        ("80", vec!["80/tcp"]),
        ("80/UDP", vec!["80/udp"]),
        ("1-3/sctp", vec!["1/sctp", "2/sctp", "3/sctp"]),
        ("8080:80", vec!["80/tcp"]),
        ("127.0.0.1:8080:80", vec!["80/tcp"]),
        ("[::1]:1-2:80-81", vec!["80/tcp", "81/tcp"]),
        ("::1:1:80", vec!["80/tcp"]),
        ("80/", vec!["80/tcp"]),
    ] {
        assert_eq!(Ports::parse(text).unwrap().names().collect::<Vec<_>>(), names, "{text}");
    }
    for (text, message) in [
        ("", "invalid port: \"\": no port specified"),
        ("/udp", "invalid port: \"/udp\": no port specified"),
        ("80/icmp", "invalid port: \"80/icmp\": invalid proto: icmp"),
        ("65536", "invalid containerPort: 65536"),
        ("a", "invalid containerPort: a"),
        ("3-1", "invalid containerPort: 3-1"),
        ("1-", "invalid containerPort: 1-"),
        ("x:80", "invalid hostPort: x"),
        ("a:1:80", "invalid IP address: a"),
        ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
    ] {
        assert_eq!(Ports::parse(text).unwrap_err(), message, "{text}");
    }
    let odd = |text: &str| Ports::parse(text).map(|ports| (ports.has_odd_case, ports.has_mapping)).unwrap();
    assert_eq!((odd("80/Tcp"), odd("1:80"), odd("80")), ((true, false), (false, true), (false, false)));
}
