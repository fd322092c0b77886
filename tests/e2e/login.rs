//! Logging in to a real registry, and out.

use crate::support::terminal::Terminal;
use crate::support::{Engine, has_program, run, setting};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The registry with accounts; the engine looks for credentials in its scratch folder only.
fn with_accounts() -> Option<(Engine, String)> {
    let host = setting("CORACLE_TEST_AUTH_REGISTRY")?;
    let mut engine = Engine::new();
    let file = engine.scratch().join("auth.json");
    engine.set("REGISTRY_AUTH_FILE", file.to_str().unwrap());
    Some((engine, host))
}

macro_rules! accounts {
    () => {
        match with_accounts() {
            Some(both) => both,
            None => {
                return crate::support::skip("no registry with accounts (CORACLE_TEST_AUTH_REGISTRY)");
            }
        }
    };
}

fn stored(engine: &Engine) -> String {
    std::fs::read_to_string(engine.scratch().join("auth.json")).unwrap_or_default()
}

#[test]
fn who_is_logged_in_can_pull_until_logged_out() {
    let (engine, host) = accounts!();
    let image = format!("{host}/test/tiny:gz");
    let login = ["login", "-u", "tester", "--password-stdin", &host];
    engine.run_with_input(&login, b"wrong\n").explains(125, &["invalid username or password"]);
    assert_eq!(stored(&engine), "", "what the registry does not take is not stored");
    engine.file("auth.json", r#"{"HttpHeaders": {"a": "b"}, "auths": {"r.io": {"auth": "dTpw"}}}"#);
    assert_eq!(engine.run_with_input(&login, b"open sesame\n").ok(), "Login Succeeded!");
    assert!(stored(&engine).contains("HttpHeaders") && stored(&engine).contains("r.io"));
    let mode = std::fs::metadata(engine.scratch().join("auth.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(engine.ok(&["login", "--get-login", &host]), "tester");
    assert!(engine.ok(&["login", &host]).contains("Already logged in"));
    engine.ok(&["pull", "-q", &image]);
    if has_program("skopeo") {
        let mut skopeo = Command::new("skopeo");
        let file = engine.scratch().join("auth.json");
        skopeo.args(["inspect", "--tls-verify=false", "--authfile"]).arg(file);
        run({
            skopeo.arg(format!("docker://{image}"));
            skopeo
        })
        .ok();
    }
    engine.ok(&["logout", &host]);
    engine.run(&["logout", &host]).explains(125, &["not logged into"]);
    engine.run(&["login", "--get-login", &host]).explains(125, &["not logged into"]);
    Engine::new().run(&["pull", "-q", &image]).explains(125, &["coracle login"]);
    assert!(stored(&engine).contains("r.io"));
    engine.ok(&["logout", "--all"]);
    assert!(!stored(&engine).contains("r.io") && stored(&engine).contains("HttpHeaders"));
    engine.run(&["login", &host]).explains(125, &["terminal"]);
    engine.run(&["login", "-p", "x", "--password-stdin", "-u", "y", &host]).explains(125, &["exclude"]);
}

#[test]
fn a_password_typed_at_a_terminal_is_not_shown() {
    let (engine, host) = accounts!();
    let mut terminal = Terminal::start(&engine.command(&["login", &host]), 24, 80);
    terminal.expect("Username");
    terminal.type_in("tester\r");
    terminal.expect("Password: ");
    terminal.type_in("open sesame\r");
    terminal.expect("Login Succeeded!");
    assert!(!terminal.screen().contains("sesame"), "{}", terminal.screen());
    assert_eq!(terminal.wait(), 0);
    assert_eq!(engine.ok(&["login", "--get-login", &host]), "tester");
}

#[test]
fn a_helper_keeps_the_secret_and_the_file_does_not() {
    let (mut engine, host) = accounts!();
    let helper = engine.file(
        "bin/docker-credential-box",
        "#!/bin/sh\nbox=\"$(dirname \"$0\")/box\"\ncase $1 in\nstore) cat >\"$box\";;\n\
         get) [ -s \"$box\" ] && cat \"$box\" || { echo 'credentials not found in native keychain'; exit 1; };;\n\
         erase) rm \"$box\";;\nesac\n",
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", engine.scratch().join("bin").display(), std::env::var("PATH").unwrap());
    engine.set("PATH", &path);
    let the_box = engine.scratch().join("bin/box");
    for file in [r#"{"credsStore": "box"}"#.to_owned(), format!(r#"{{"credHelpers": {{"{host}": "box"}}}}"#)]
    {
        engine.file("auth.json", &file);
        engine.run_with_input(&["login", "-u", "tester", "--password-stdin", &host], b"open sesame").ok();
        let kept = std::fs::read_to_string(&the_box).unwrap();
        assert!(kept.contains("open sesame") && kept.contains(&host), "{kept}");
        assert!(!stored(&engine).contains("\"auth\""), "{}", stored(&engine));
        engine.ok(&["pull", "-q", &format!("{host}/test/tiny:gz")]);
        engine.ok(&["logout", &host]);
        assert!(!the_box.exists());
    }
}
