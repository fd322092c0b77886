//! `RUN --mount`.

use super::*;
use crate::build::dockerfile::words::{Lexer, NoVariables};

fn mount(value: &str) -> Result<Mount, String> {
    let source = Source::new("Dockerfile", &format!("FROM a\nRUN --mount={value} x"));
    let file = parse(&source).map_err(|problem| problem.message().to_owned())?;
    let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
    let variables = |name: &str| (name == "v").then(|| "cache".to_owned());
    run.mounts[0]
        .resolve(&source, Lexer::new('\\'), &variables)
        .map_err(|problem| problem.message().to_owned())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn mounts_are_typed() {
    let access = Access { mode: Some(0o700), uid: Some(1), gid: Some(2) };
    for (value, kind, target, read_only) in [
        ("target=/x", MountKind::Bind { from: None, source: None }, some("/x"), true),
        (
            "type=bind,from=b,src=/s,dst=d,rw",
            MountKind::Bind { from: some("b"), source: some("/s") },
            some("d"),
            false,
        ),
        (
            "TYPE=$v,target=/x,ID=i,sharing=locked,mode=0700,uid=1,gid=2,source=s,from=f",
            MountKind::Cache {
                id: some("i"),
                sharing: CacheSharing::Locked,
                from: some("f"),
                source: some("s"),
                access,
            },
            some("/x"),
            false,
        ),
        (
            "type=cache,destination=/${v}s,readonly=1",
            MountKind::Cache {
                id: None,
                sharing: CacheSharing::Shared,
                from: None,
                source: None,
                access: Access::default(),
            },
            some("/caches"),
            true,
        ),
        ("type=tmpfs,target=/x,size=1.5g", MountKind::Tmpfs { size: Some(3 << 29) }, some("/x"), false),
        ("type=tmpfs,target=/x,size=64MiB", MountKind::Tmpfs { size: Some(64 << 20) }, some("/x"), false),
        (
            "type=secret,target=/a/b/",
            MountKind::Secret { id: "b".into(), required: false, env: None, access: Access::default() },
            some("/a/b/"),
            true,
        ),
        (
            "type=secret,id=s,env=,required,mode=0700,uid=1,gid=2",
            MountKind::Secret { id: "s".into(), required: true, env: some("s"), access },
            None,
            true,
        ),
        (
            "type=secret,src=s,env=E,required=false",
            MountKind::Secret { id: "s".into(), required: false, env: some("E"), access: Access::default() },
            None,
            true,
        ),
        ("type=ssh", MountKind::Ssh { id: None, required: false, access: Access::default() }, None, true),
        (
            "type=ssh,id=k,required=true,target=/s",
            MountKind::Ssh { id: some("k"), required: true, access: Access::default() },
            some("/s"),
            true,
        ),
        // A quoted field may hold a comma.
        ("'\"target=/a,b\"'", MountKind::Bind { from: None, source: None }, some("/a,b"), true),
    ] {
        assert_eq!(mount(value), Ok(Mount { kind, target, read_only }), "{value}");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_dockers_words() {
    for (value, expected) in [
        ("type=$none", "unsupported mount type \"\""),
        ("target=/x,rox", "invalid field 'rox' must be a key=value pair"),
        ("target=/x,readonly=yes", "invalid value for readonly: yes"),
        ("target=/x,required", "unexpected key 'required' for mount type 'bind'"),
        ("target=/x,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,target=/x,size=big", "invalid value for size: big"),
        ("target=/x,mode=0700", "mode not allowed for \"bind\" type mounts"),
        ("type=tmpfs,target=/x,uid=1", "uid not allowed for \"tmpfs\" type mounts"),
        ("type=cache,target=/x,mode=0888", "invalid value 0888 for mode"),
        ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/x,sharing=lockd", "unsupported sharing value \"lockd\" (did you mean locked?)"),
        ("target=/x,sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,from=a,id=b", "secret mount should not have a from"),
        ("type=secret,id=b,sharing=shared", "secret mount should not define sharing"),
        ("type=secret,id=b,source=c", "both source and id can't be set"),
        ("type=ssh,source=c", "ssh does not support source"),
        ("from=$v,target=/x", "'from' doesn't support variable expansion, define alias stage instead"),
    ] {
        assert_eq!(mount(value), Err(expected.to_owned()), "{value}");
    }
}

#[test]
fn a_mount_with_variables_is_checked_when_they_are_known() {
    let file = good("FROM a\nRUN --mount=type=bnd,target=$v x");
    let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
    let problem = run.mounts[0].resolve(&file.source, file.lexer(), &NoVariables).unwrap_err();
    assert_eq!((problem.position().line, problem.position().column), (2, 18));
    let used = run.mounts[0].variables(&file.source, file.lexer(), &NoVariables).unwrap();
    assert_eq!(used.iter().flat_map(|word| &word.unset).count(), 1);
}
