//! Who we are to a registry: read from podman's files (containers-auth.json(5)), then docker's, and through
//! their helpers (`docker-credential-NAME get`, a JSON protocol over standard input and output).

use super::{Error, Options};
use base64::Engine;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a registry is shown. Its `Debug` form shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password (or a personal access token).
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token of an OAuth2 login.
    IdentityToken(String),
}

impl Credentials {
    /// From `user:password`, as `--creds` has it; `None` without a colon.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':')?;
        Some(Self::Password { user: user.into(), password: password.into() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The credentials for `repository` at `host`, which is `docker.io` for Docker Hub; `None` if there are none.
pub(super) fn find(options: &Options, host: &str, repository: &str) -> Result<Option<Credentials>, Error> {
    if let Some(given) = &options.credentials {
        return Ok(Some(given.clone()));
    }
    if let Some(path) = &options.auth_file {
        let file = read(path)?.ok_or_else(|| bad(path, None, "no such file"))?;
        return file.find(path, host, repository, &ask_helper);
    }
    for path in files(options) {
        if let Some(file) = read(&path)?
            && let Some(found) = file.find(&path, host, repository, &ask_helper)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

pub(super) fn files(options: &Options) -> Vec<PathBuf> {
    let places = &options.places;
    if let Some(path) = &places.auth_file {
        return vec![path.clone()];
    }
    let podman = |dir: &PathBuf| dir.join("containers/auth.json");
    let docker = places.docker.as_ref().map(|dir| dir.join("config.json"));
    let chosen = docker.clone().filter(|_| places.docker_is_chosen);
    let podmans = [&places.runtime, &places.config].map(|dir| dir.as_ref().map(podman));
    chosen.into_iter().chain(podmans.into_iter().chain([docker]).flatten()).collect()
}

/// The part of podman's `auth.json` and docker's `config.json` that they share.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: Option<HashMap<String, Entry>>,
    cred_helpers: Option<HashMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

fn read(path: &Path) -> Result<Option<AuthFile>, Error> {
    match std::fs::read(path) {
        Ok(text) => parse(path, &text).map(Some),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(bad(path, None, &e.to_string())),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<AuthFile, Error> {
    if text.trim_ascii().is_empty() {
        return Ok(AuthFile::default());
    }
    // The parser's own words could quote a secret.
    serde_json::from_slice(text)
        .map_err(|e| bad(path, Some(e.line()), "not a credentials file in docker's JSON format"))
}

/// What a file of this content says, for the fuzzer: no helper is started.
#[cfg(feature = "fuzzing")]
pub fn stored_credentials(text: &[u8], host: &str, repository: &str) -> Result<Option<Credentials>, Error> {
    let path = Path::new("auth.json");
    parse(path, text)?.find(path, host, repository, &|_, _| Ok(None))
}

/// Asks the helper of this name for the credentials under this key.
type AskHelper<'a> = dyn Fn(&str, &str) -> Result<Option<Credentials>, Error> + 'a;

impl AuthFile {
    fn find(
        &self,
        path: &Path,
        host: &str,
        repository: &str,
        ask_helper: &AskHelper<'_>,
    ) -> Result<Option<Credentials>, Error> {
        let of_host = self.cred_helpers.iter().flatten().find(|(key, _)| normal(key) == host);
        if let Some((key, helper)) = of_host {
            return ask_helper(helper, key);
        }
        if let Some(helper) = self.creds_store.as_deref().filter(|h| !h.is_empty()) {
            let key = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
            if let Some(found) = ask_helper(helper, key)? {
                return Ok(Some(found));
            }
        }
        let Some(auths) = &self.auths else { return Ok(None) };
        for wanted in keys(host, repository) {
            // A key in exactly this form goes before one that only means the same.
            let entry = auths
                .get(&wanted)
                .or_else(|| auths.iter().find(|(key, _)| normal(key) == wanted).map(|(_, e)| e));
            if let Some(entry) = entry
                && let Some(found) = entry.credentials(path)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// From the most to the least special: `host/a/b`, `host/a`, `host`.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let full = format!("{host}/{repository}");
    let mut keys = vec![full.clone()];
    let mut rest = full.as_str();
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        keys.push(shorter.to_owned());
        rest = shorter;
    }
    keys
}

/// docker writes URLs (`https://index.docker.io/v1/`), podman hosts or the start of a name.
pub(super) fn normal(key: &str) -> String {
    let (name, is_url) = match key.strip_prefix("https://").or(key.strip_prefix("http://")) {
        Some(rest) => (rest, true),
        None => (key, false),
    };
    let name = name.trim_end_matches('/');
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    if is_url || path.is_empty() || path == "v1" || path == "v2" {
        host.into()
    } else {
        format!("{host}/{path}")
    }
}

impl Entry {
    fn credentials(&self, path: &Path) -> Result<Option<Credentials>, Error> {
        if let Some(token) = self.identitytoken.as_deref().filter(|t| !t.is_empty()) {
            return Ok(Some(Credentials::IdentityToken(token.into())));
        }
        if let Some(auth) = self.auth.as_deref().filter(|a| !a.is_empty()) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            // docker pads passwords with NUL bytes.
            return match text.as_deref().map(|t| t.trim_end_matches('\0')).and_then(Credentials::parse) {
                Some(found) => Ok(Some(found)),
                None => Err(bad(path, None, "an 'auth' field is not user:password in base64")),
            };
        }
        Ok(match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Some(Credentials::Password { user: user.clone(), password: password.clone() })
            }
            _ => None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

fn ask_helper(name: &str, key: &str) -> Result<Option<Credentials>, Error> {
    run_helper(&program(name)?, key)
}

/// The program of a helper: in the path, never anywhere else.
pub(super) fn program(name: &str) -> Result<String, Error> {
    let helper = format!("docker-credential-{name}");
    if name.contains('/') {
        return Err(Error::Helper { helper, why: "its name must not contain a slash".into() });
    }
    Ok(helper)
}

/// Has a helper do something; `None` if it says that it does not know the registry.
pub(super) fn use_helper(helper: &str, action: &str, input: &str) -> Result<Option<Vec<u8>>, Error> {
    let failed = |why: String| Error::Helper { helper: helper.to_owned(), why };
    let mut child = Command::new(helper)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says so by its exit.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        // docker-credential-helpers, credentials/error.go: the protocol's only way to say "none".
        let none = String::from_utf8_lossy(&output.stdout).contains("credentials not found");
        return if none { Ok(None) } else { Err(failed(output.status.to_string())) };
    }
    Ok(Some(output.stdout))
}

fn run_helper(helper: &str, key: &str) -> Result<Option<Credentials>, Error> {
    let failed = |why: String| Error::Helper { helper: helper.to_owned(), why };
    let Some(answer) = use_helper(helper, "get", key)? else { return Ok(None) };
    let answer: HelperAnswer =
        serde_json::from_slice(&answer).map_err(|_| failed("its answer is no JSON of credentials".into()))?;
    Ok(match answer {
        HelperAnswer { username, secret } if username.is_empty() && secret.is_empty() => None,
        HelperAnswer { username, secret } if username == "<token>" => {
            Some(Credentials::IdentityToken(secret))
        }
        HelperAnswer { username, secret } => Some(Credentials::Password { user: username, password: secret }),
    })
}

pub(super) fn bad(path: &Path, line: Option<usize>, why: &str) -> Error {
    Error::File { path: path.to_owned(), line, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::places;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: user.into(), password: password.into() })
    }

    fn auth(pair: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(pair)
    }

    fn in_file(text: &str, host: &str, repository: &str) -> Result<Option<Credentials>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        fs::write(&path, text).unwrap();
        find(&Options { auth_file: Some(path), ..Options::default() }, host, repository)
    }

    #[test]
    fn keys_match_in_every_form_that_docker_and_podman_write() {
        let file = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "quay.io": {{"auth": "{}"}},
                "quay.io/org": {{"auth": "{}"}},
                "quay.io/org/app": {{"auth": "{}"}},
                "http://r.io:5000/v2/": {{"username": "u", "password": "p:w"}},
                "empty.io": {{}},
                "token.io": {{"auth": "", "identitytoken": "t"}}
            }}, "HttpHeaders": {{}}, "credHelpers": null}}"#,
            auth("hub:a:b\0\0"),
            auth("quay:1"),
            auth("org:2"),
            auth("app:3"),
        );
        let table = [
            ("docker.io", "library/alpine", password("hub", "a:b")),
            ("quay.io", "other/app", password("quay", "1")),
            ("quay.io", "org/x", password("org", "2")),
            ("quay.io", "org/app", password("app", "3")),
            ("quay.io", "org/app/deep", password("app", "3")),
            ("quay.io", "organic/app", password("quay", "1")),
            ("r.io:5000", "x", password("u", "p:w")),
            ("r.io", "x", None),
            ("empty.io", "x", None),
            ("token.io", "x", Some(Credentials::IdentityToken("t".into()))),
        ];
        for (host, repository, expected) in table {
            assert_eq!(in_file(&file, host, repository).unwrap(), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn podmans_files_go_before_dockers_and_a_named_file_before_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options { places: places(dir.path()), ..Options::default() };
        let write = |path: &str, user: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                &path,
                format!(r#"{{"auths":{{"r.io":{{"auth":"{}"}}}}}}"#, auth(&format!("{user}:p"))),
            )
            .unwrap();
            path
        };
        let user = |options: &Options| find(options, "r.io", "x").unwrap();
        assert_eq!(user(&options), None);
        write("docker/config.json", "docker");
        assert_eq!(user(&options), password("docker", "p"));
        write("config/containers/auth.json", "config");
        assert_eq!(user(&options), password("config", "p"));
        write("runtime/containers/auth.json", "runtime");
        assert_eq!(user(&options), password("runtime", "p"));
        options.places.auth_file = Some(write("env.json", "env"));
        assert_eq!(user(&options), password("env", "p"));
        options.auth_file = Some(write("flag.json", "flag"));
        assert_eq!(user(&options), password("flag", "p"));
        options.credentials = Credentials::parse("given:x");
        assert_eq!(user(&options), password("given", "x"));
    }

    #[test]
    fn bad_files_are_named_and_their_contents_are_not() {
        for text in [
            "{\n \"auths\": {\"r.io\": {\"auth\": secret}}}",
            "{\"auths\":{\"r.io\":{\"auth\":\"secret!\"}}}",
        ] {
            let error = in_file(text, "r.io", "x").unwrap_err().to_string();
            assert!(error.contains("auth.json") && !error.contains("secret"), "{error}");
        }
        assert!(in_file("{\n\n!", "r.io", "x").unwrap_err().to_string().contains("auth.json:3"));
        assert_eq!(in_file("", "r.io", "x").unwrap(), None);
        let missing = Options { auth_file: Some("/does/not/exist".into()), ..Options::default() };
        assert!(find(&missing, "r.io", "x").is_err());
        assert_eq!(format!("{:?}", password("u", "secret")), "Some(Credentials(…))");
    }

    #[test]
    fn helpers_are_asked_over_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("helper");
        let script = "#!/bin/sh\nread host\ncase $host in\n\
            https://index.docker.io/v1/|hub) echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"p\"}';;\n\
            token.io) echo '{\"ServerURL\":\"x\",\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n\
            none.io) echo 'credentials not found in native keychain'; exit 1;;\n\
            *) echo secret; exit 3;;\nesac\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let program = helper.to_str().unwrap();
        let ask = |file: &str, host: &str| {
            let file: AuthFile = serde_json::from_str(file).unwrap();
            file.find(Path::new("auth.json"), host, "x", &|name, key| {
                assert_eq!(name, "store");
                run_helper(program, key)
            })
        };
        let store =
            format!(r#"{{"credsStore":"store","auths":{{"none.io":{{"auth":"{}"}}}}}}"#, auth("file:f"));
        let results = [
            ask(&store, "docker.io"),
            ask(&store, "token.io"),
            ask(&store, "none.io"),
            ask(&store, "broken.io"),
            ask(r#"{"credHelpers":{"none.io":"store"}}"#, "none.io"),
            in_file(r#"{"credsStore":"../evil"}"#, "r.io", "x"),
        ];
        let [hub, token, fallback, broken, none, evil] = results;
        assert_eq!(hub.unwrap(), password("u", "p"));
        assert_eq!(token.unwrap(), Some(Credentials::IdentityToken("t".into())));
        assert_eq!(fallback.unwrap(), password("file", "f"));
        let error = broken.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && !error.contains("secret"), "{error}");
        assert_eq!(none.unwrap(), None);
        assert!(matches!(evil, Err(Error::Helper { .. })));
    }
}
