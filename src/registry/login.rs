//! Logging in and out: credentials that a registry takes are kept where pulls and pushes look for them, in the form that
//! podman and docker share (containers-auth.json(5)). A file is replaced whole, and keeps all that we do not know.

use super::client::Client;
use super::credentials::{self, Credentials, bad, normal, program, use_helper};
use super::request::{Ask, persist};
use super::{Error, Options, Registries};
use crate::state::{Durability, create_dir_private, write_atomic};
use base64::Engine;
use serde_json::{Map, Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use ureq::http::Method;

/// What docker calls Docker Hub in its file, and helpers everywhere.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Somebody's account at a registry, or at a part of it (`quay.io/org`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    key: String,
}

impl Account {
    /// What is typed: `quay.io`, `quay.io/org`, `https://r.io:5000/`.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let key = normal(typed);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:[]/".contains(c);
        if key.is_empty() || !key.chars().all(is_name) {
            let host = super::error::clean(typed);
            return Err(Error::Protocol { host, why: "is not the name of a registry".into() });
        }
        Ok(Self { key })
    }

    /// The registry that is meant where none is named: the first that `registries.conf` searches.
    pub fn usual(options: &Options) -> Result<Self, Error> {
        let searched = Registries::load(&options.places)?.searched();
        Self::parse(searched.first().map_or("docker.io", String::as_str))
    }

    /// As it is shown, and written into podman's file.
    pub fn name(&self) -> &str {
        &self.key
    }

    fn host(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }

    /// Asks the registry whether it takes `options.credentials`.
    pub fn verify(&self, options: &Options) -> Result<(), Error> {
        let registries = Registries::load(&options.places)?;
        let mut endpoint = registries.endpoint_to_push(&format!("{}/login", self.host()))?;
        endpoint.host = self.host().to_owned();
        endpoint.repository = String::new();
        let client = Client::new(options.clone());
        let registry = client.registry_to_log_in(&endpoint)?;
        let what = format!("registry {}", self.host());
        let url = registry.whole_url("v2/")?;
        let ask = Ask { method: Method::GET, url, what: &what, headers: Vec::new(), body: None };
        match persist(options, || registry.attempt(&ask)) {
            Ok(_) => Ok(()),
            Err(Error::Denied { authenticated: true, .. }) => {
                Err(Error::Login { host: self.host().to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    /// The credentials that are stored, wherever a pull would find them.
    pub fn stored(&self, options: &Options) -> Result<Option<Credentials>, Error> {
        if options.auth_file.as_ref().is_some_and(|file| !file.exists()) {
            return Ok(None);
        }
        let (host, path) = self.key.split_once('/').unwrap_or((&self.key, ""));
        credentials::find(&Options { credentials: None, ..options.clone() }, host, path)
    }

    /// Stores credentials: by the file's helper, if it names one, else in the file.
    pub fn store(&self, options: &Options, credentials: &Credentials) -> Result<(), Error> {
        let mut file = File::open(target(options)?)?;
        let key = self.key_in(&file.path);
        let (user, secret) = match credentials {
            Credentials::Password { user, password } => (user.as_str(), password.as_str()),
            Credentials::IdentityToken(token) => ("<token>", token.as_str()),
        };
        let entry = match file.helper(self) {
            Some(helper) => {
                let input = json!({"ServerURL": self.helper_key(), "Username": user, "Secret": secret});
                if use_helper(&program(&helper)?, "store", &input.to_string())?.is_none() {
                    let why = "it does not store".into();
                    return Err(Error::Helper { helper: program(&helper)?, why });
                }
                // docker lists by these who is logged in.
                json!({})
            }
            None => match credentials {
                Credentials::IdentityToken(token) => json!({"identitytoken": token}),
                Credentials::Password { .. } => {
                    json!({"auth": base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"))})
                }
            },
        };
        let auths = file.auths()?;
        auths.retain(|known, _| normal(known) != self.key);
        auths.insert(key, entry);
        file.write()
    }

    /// Erases what is stored in the file that a login writes; `false` if there is nothing.
    pub fn erase(&self, options: &Options) -> Result<bool, Error> {
        let mut file = File::open(target(options)?)?;
        let mut was_there = false;
        if let Some(helper) = file.helper(self) {
            let program = program(&helper)?;
            if use_helper(&program, "get", &self.helper_key())?.is_some() {
                use_helper(&program, "erase", &self.helper_key())?;
                was_there = true;
            }
        }
        let auths = file.auths()?;
        let before = auths.len();
        auths.retain(|known, _| normal(known) != self.key);
        if auths.len() < before {
            was_there = true;
            file.write()?;
        }
        Ok(was_there)
    }

    /// Erases everything that is stored in that file, and what its helpers have of it.
    pub fn erase_all(options: &Options) -> Result<(), Error> {
        let mut file = File::open(target(options)?)?;
        let keys: Vec<String> = file.auths()?.keys().cloned().collect();
        let helped = file.content.get("credHelpers").and_then(Value::as_object);
        let helped: Vec<String> = helped.into_iter().flat_map(|h| h.keys().cloned()).collect();
        for key in keys.iter().chain(&helped) {
            Self::parse(key)?.erase(options)?;
        }
        if !keys.is_empty() {
            file = File::open(file.path)?;
            file.auths()?.clear();
            file.write()?;
        }
        Ok(())
    }

    fn key_in(&self, path: &Path) -> String {
        let is_dockers = path.file_name().is_some_and(|name| name == "config.json");
        if is_dockers && self.key == "docker.io" { DOCKER_HUB.into() } else { self.key.clone() }
    }

    fn helper_key(&self) -> String {
        if self.key == "docker.io" { DOCKER_HUB.into() } else { self.key.clone() }
    }
}

/// The file that a login writes, as podman chooses it.
fn target(options: &Options) -> Result<PathBuf, Error> {
    let first = options.auth_file.clone().or_else(|| credentials::files(options).into_iter().next());
    first.ok_or_else(|| crate::state::Error::NoHome.into())
}

/// A credentials file being changed.
struct File {
    path: PathBuf,
    content: Map<String, Value>,
}

impl File {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound) => Vec::new(),
            Err(e) => return Err(bad(&path, None, &e.to_string())),
        };
        if text.trim_ascii().is_empty() {
            return Ok(Self { path, content: Map::new() });
        }
        // The parser's own words could quote a secret.
        let content = serde_json::from_slice(&text)
            .map_err(|e| bad(&path, Some(e.line()), "not a credentials file in docker's JSON format"))?;
        Ok(Self { path, content })
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, Error> {
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        auths.as_object_mut().ok_or_else(|| bad(&self.path, None, "its 'auths' are no table"))
    }

    /// The helper that keeps an account's secret.
    fn helper(&self, account: &Account) -> Option<String> {
        let table = self.content.get("credHelpers").and_then(Value::as_object);
        let own = table.into_iter().flatten().find(|(key, _)| normal(key) == account.host());
        let helper = own.map(|(_, helper)| helper).or(self.content.get("credsStore"))?;
        helper.as_str().filter(|helper| !helper.is_empty()).map(str::to_owned)
    }

    /// Replaces the file, or what a link of its name points to.
    fn write(&self) -> Result<(), Error> {
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_dir_private(folder)?;
        }
        let text = format!("{:#}\n", Value::Object(self.content.clone()));
        Ok(write_atomic(&path, text.as_bytes(), Durability::PowerCut)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::places;
    use super::*;

    fn password(user: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: "p:w".into() }
    }

    #[test]
    fn a_login_is_found_again_and_the_file_keeps_all_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/auth.json");
        let options = Options { auth_file: Some(path.clone()), ..Options::default() };
        let account = |typed: &str| Account::parse(typed).unwrap();
        account("https://r.io:5000/").store(&options, &password("first")).unwrap();
        let mut text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        text["HttpHeaders"] = json!({"User-Agent": "x"});
        text["auths"]["http://r.io:5000/v2/"] = json!({"auth": "b2xkOm9sZA=="});
        std::fs::write(&path, text.to_string()).unwrap();
        account("r.io:5000").store(&options, &password("second")).unwrap();
        account("r.io:5000/org").store(&options, &password("third")).unwrap();
        let found = |typed: &str| account(typed).stored(&options).unwrap();
        assert_eq!(found("r.io:5000"), Some(password("second")));
        assert_eq!(found("r.io:5000/org"), Some(password("third")));
        let text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(text["HttpHeaders"]["User-Agent"], "x");
        assert_eq!(text["auths"].as_object().unwrap().len(), 2, "one key means one account: {text}");
        assert!(
            account("r.io:5000").erase(&options).unwrap() && !account("r.io:5000").erase(&options).unwrap()
        );
        assert_eq!(found("r.io:5000"), None);
        Account::erase_all(&options).unwrap();
        assert_eq!(found("r.io:5000/org"), None);
    }

    #[test]
    fn the_file_is_podmans_or_the_one_that_a_variable_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let mut options = Options { places: places(dir.path()), ..Options::default() };
        assert_eq!(target(&options).unwrap(), at("runtime/containers/auth.json"));
        options.places.docker_is_chosen = true;
        assert_eq!(target(&options).unwrap(), at("docker/config.json"));
        Account::parse("docker.io").unwrap().store(&options, &password("me")).unwrap();
        let text = std::fs::read_to_string(at("docker/config.json")).unwrap();
        assert!(text.contains(DOCKER_HUB), "{text}");
        options.places.auth_file = Some(at("variable"));
        assert_eq!(target(&options).unwrap(), at("variable"));
        options.auth_file = Some(at("flag"));
        assert_eq!(target(&options).unwrap(), at("flag"));
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for typed in ["", "https://", "a b", "r.io/?x", "user@r.io"] {
            assert!(Account::parse(typed).is_err(), "{typed}");
        }
    }
}
