//! What scripts rely on, command by command: what is printed where, and exit codes. A table: one line, one promise.

use crate::support::{Engine, tiny};

/// A command line, its exit code, and what standard output and standard error contain. `=text` is all there is, and
/// `IMAGE` stands for the test image.
type Line = (&'static [&'static str], i32, &'static str, &'static str);

#[track_caller]
fn check(engine: &Engine, lines: &[Line]) {
    let fits = |wanted: &str, found: &str| match wanted.strip_prefix('=') {
        Some(all) => found.trim_end_matches('\n') == all,
        None => found.contains(wanted),
    };
    for (words, code, stdout, stderr) in lines {
        let image = tiny();
        let words: Vec<&str> = words.iter().map(|w| if *w == "IMAGE" { image.as_str() } else { w }).collect();
        let output = engine.run(&words);
        assert_eq!(output.code, *code, "{output}");
        assert!(fits(stdout, &output.stdout), "stdout is not `{stdout}`: {output}");
        assert!(fits(stderr, &output.stderr), "stderr is not `{stderr}`: {output}");
    }
}

#[test]
fn what_is_not_there_is_an_error_for_every_command() {
    let engine = engine!();
    check(
        &engine,
        &[
            (&["rm", "nosuch"], 1, "=", "nosuch"),
            (&["rm", "-f", "nosuch"], 0, "=", "="),
            (&["rmi", "nosuch"], 1, "=", "nosuch"),
            (&["rmi", "-f", "nosuch"], 0, "=", "="),
            (&["volume", "rm", "nosuch"], 1, "=", "nosuch"),
            (&["volume", "rm", "-f", "nosuch"], 0, "=", "="),
            (&["stop", "nosuch"], 125, "=", "nosuch"),
            (&["kill", "nosuch"], 125, "=", "nosuch"),
            (&["start", "nosuch"], 125, "=", "nosuch"),
            (&["wait", "nosuch"], 125, "=", "nosuch"),
            (&["logs", "nosuch"], 125, "=", "nosuch"),
            (&["exec", "nosuch", "true"], 125, "=", "nosuch"),
            (&["inspect", "nosuch"], 125, "=[]", "nosuch"),
            (&["image", "inspect", "nosuch"], 125, "=[]", "nosuch"),
            (&["volume", "inspect", "nosuch"], 125, "=[]", "nosuch"),
            (&["tag", "nosuch", "x"], 125, "=", "nosuch"),
        ],
    );
}

#[test]
fn what_is_in_use_stays_unless_forced() {
    let engine = engine!();
    let script = "while :; do sleep 0.05; done";
    engine.ok(&["run", "-d", "--name", "c", "-v", "v:/v", "--network", "none", &tiny(), "sh", "-c", script]);
    check(
        &engine,
        &[
            (&["rm", "c"], 2, "=", "c"),
            (&["rmi", "IMAGE"], 2, "=", "c"),
            (&["volume", "rm", "v"], 2, "=", "v"),
            (&["start", "c"], 0, "=c", "="),
            (&["run", "--name", "c", "--network", "none", "IMAGE", "true"], 125, "=", "in use"),
            (&["stop", "-t", "0", "c"], 0, "=c", "="),
            (&["stop", "c"], 0, "=c", "="),
            (&["kill", "c"], 125, "=", "running"),
            (&["wait", "c"], 0, "=137", "="),
            (&["volume", "rm", "v"], 2, "=", "v"),
            (&["volume", "rm", "-f", "v"], 0, "=v", "="),
            (&["ps", "-aq"], 0, "=", "="),
        ],
    );
}

#[test]
fn empty_values_are_not_given() {
    let engine = engine!();
    let words =
        ["run", "--rm", "--network", "none", "--name", "", "-h", "", "-w", "", "-u", "", &tiny(), "true"];
    assert_eq!(engine.ok(&words), "");
}

#[test]
fn a_created_container_with_rm_waits_to_be_started_and_then_goes() {
    let engine = engine!();
    engine.ok(&["create", "--rm", "--name", "once", "--network", "none", &tiny(), "sh", "-c", "exit 4"]);
    // A command that cleans up after killed ones must leave it alone.
    engine.run(&["stop", "nosuch"]);
    assert_eq!(engine.ok(&["ps", "-a", "--format", "{{.Names}}"]), "once");
    assert_eq!(engine.run(&["start", "-a", "once"]).code, 4);
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
}

#[test]
fn volumes_show_in_lists_as_filters_say() {
    let engine = engine!();
    engine.ok(&["volume", "create", "--label", "tier=db", "used"]);
    engine.ok(&["volume", "create", "idle"]);
    engine.ok(&["create", "-v", "used:/v", "--network", "none", &tiny(), "true"]);
    check(
        &engine,
        &[
            (&["volume", "ls", "-q", "-f", "dangling=true"], 0, "=idle", "="),
            (&["volume", "ls", "-q", "-f", "dangling=false"], 0, "=used", "="),
            (&["volume", "ls", "-q", "-f", "label=tier=db"], 0, "=used", "="),
            (&["volume", "ls", "-q", "-f", "name=dl"], 0, "=idle", "="),
            (&["volume", "ls", "--format", "{{.Name}} {{.Driver}}"], 0, "idle local", "="),
            (&["volume", "ls", "-f", "nosuch=x"], 125, "=", "nosuch"),
            (
                &["volume", "inspect", "-f", "{{.Name}} {{.Scope}} {{.Labels.tier}}", "used"],
                0,
                "=used local db",
                "=",
            ),
            (&["inspect", "--type", "volume", "-f", "{{.Name}}", "idle"], 0, "=idle", "="),
            (&["inspect", "-f", "{{.Nope}}", "idle"], 125, "=", "Nope"),
        ],
    );
}
