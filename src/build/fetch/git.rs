//! git repositories, by the host's git program.
//!
//! The program sees nothing of the user's or the system's configuration, asks nobody for a password, runs no hook, and speaks
//! https, http, ssh and git alone: neither a URL nor a submodule can have it run a command (`ext::`) or read a folder of
//! this machine. It is the user's ssh that connects, with his keys and known hosts, but without his configuration.

use super::{Error, Fetched, has_folder, without_password};
use crate::layers::LayerStore;
use crate::state::remove_tree;
use rustix::fs::Mode;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// So much of what git says is shown.
const SAID: usize = 2000;

/// Settings for every call: what a repository could have run, and connections that stand still.
const SETTINGS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "init.defaultBranch=master",
    "advice.detachedHead=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
];

/// What a text says about a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// From where.
    pub remote: String,
    /// Branch, tag or commit.
    pub reference: Option<String>,
    /// The folder in it.
    pub folder: Option<String>,
    /// The commit that it must be.
    pub commit: Option<String>,
    /// `.git` is kept.
    pub keep: Option<bool>,
    /// With its submodules.
    pub submodules: bool,
}

impl Repository {
    /// Reads `git@host:path`, `ssh://…`, `git://…` and `https://….git`, each with `?query` and `#ref:folder` as BuildKit has
    /// them; none if it is something else. An error is what is wrong with it.
    pub fn parse(text: &str) -> Option<Result<Repository, String>> {
        let (before, fragment) = text.split_once('#').map_or((text, None), |(a, b)| (a, Some(b)));
        let (remote, query) = before.split_once('?').map_or((before, None), |(a, b)| (a, Some(b)));
        let is_git = match remote.split_once("://") {
            Some(("http" | "https", rest)) => rest.ends_with(".git"),
            Some(("git" | "ssh", _)) => true,
            Some(_) => false,
            None => is_short(remote),
        };
        if !is_git {
            return None;
        }
        Some(Self::read(remote, query, fragment))
    }

    /// The same for a context, where `github.com/…` is enough.
    pub fn parse_context(text: &str) -> Option<Result<Repository, String>> {
        if !text.starts_with("github.com/") {
            return Self::parse(text);
        }
        let (before, fragment) = text.split_once('#').map_or((text, None), |(a, b)| (a, Some(b)));
        Some(Self::read(&format!("https://{before}"), None, fragment))
    }

    fn read(remote: &str, query: Option<&str>, fragment: Option<&str>) -> Result<Repository, String> {
        let mut found = Repository {
            remote: remote.to_owned(),
            reference: None,
            folder: None,
            commit: None,
            keep: None,
            submodules: true,
        };
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if let Some(fragment) = fragment {
            let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
            (found.reference, found.folder) = (filled(reference), filled(folder));
        }
        let truth = |value: &str| match value {
            "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            other => Err(format!("invalid value \"{other}\" in the query of {remote}")),
        };
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let place = match name {
                "ref" => (&mut found.reference, value.to_owned()),
                "tag" => {
                    (&mut found.reference, format!("refs/tags/{}", value.trim_start_matches("refs/tags/")))
                }
                "branch" => {
                    (&mut found.reference, format!("refs/heads/{}", value.trim_start_matches("refs/heads/")))
                }
                "subdir" => (&mut found.folder, value.to_owned()),
                "checksum" | "commit" => (&mut found.commit, value.to_owned()),
                "keep-git-dir" => {
                    found.keep = Some(truth(value)?);
                    continue;
                }
                "submodules" => {
                    found.submodules = truth(value)?;
                    continue;
                }
                other => return Err(format!("unexpected query \"{other}\" in {remote}")),
            };
            match place {
                (_, value) if value.is_empty() => return Err(format!("query \"{name}\" has no value")),
                (Some(known), value) if *known != value => {
                    return Err(format!("{name} conflicts: \"{known}\" vs \"{value}\""));
                }
                (place, value) => *place = Some(value),
            }
        }
        // It would be taken for a flag, or for several references.
        let is_bad = |text: &str| {
            text.starts_with(['-', '+'])
                || text.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
        };
        match &found.reference {
            Some(bad) if is_bad(bad) => Err(format!("\"{bad}\" is no branch, tag or commit")),
            _ => Ok(found),
        }
    }

    fn shown(&self) -> String {
        without_password(&self.remote)
    }
}

/// `user@host:path`, as ssh has it.
fn is_short(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_name = |text: &str, more: &[u8]| {
        text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    is_name(user, b"-_") && is_name(host, b"-.")
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl<'a> Fetched<'a> {
    /// Checks out a repository, or a folder of it. The caller has one thread.
    pub fn repository(store: &'a LayerStore, repository: &Repository, keep: bool) -> Result<Self, Error> {
        let mut fetched = Self::empty(store)?;
        let git = Git { repository, folder: &fetched.folder };
        let commit = git.check_out()?;
        let keep = keep && repository.folder.is_none();
        match keep {
            true => drop(git.run("keep", &["remote", "set-url", "origin", &repository.shown()])?),
            false => remove_tree(&fetched.folder.join(".git"))
                .map_err(|error| Error::io("remove .git")(io::Error::other(error)))?,
        }
        if let Some(folder) = &repository.folder {
            if !has_folder(&fetched.folder, folder) {
                return Err(Error::Folder { url: repository.shown(), folder: folder.clone() });
            }
            fetched.folder.push(folder.trim_start_matches('/'));
        }
        fetched.version = Some(repository.version(&commit, keep));
        Ok(fetched)
    }
}

impl Repository {
    /// The version that a check-out would have now, if the server says so without it; none: nobody knows before it is there.
    pub fn current_version(&self, keep: bool) -> Option<String> {
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        let commit = match is_commit(reference) {
            true => reference.to_lowercase(),
            false => Git { repository: self, folder: Path::new("/") }.ask(reference)?,
        };
        let is_expected = |expected: &String| commit.starts_with(&expected.to_lowercase());
        let keep = keep && self.folder.is_none();
        self.commit.as_ref().is_none_or(is_expected).then(|| self.version(&commit, keep))
    }

    fn version(&self, commit: &str, keep: bool) -> String {
        let folder = self.folder.as_ref().map(|folder| format!(" {folder}")).unwrap_or_default();
        format!("{commit} {keep} {}{folder}", self.submodules)
    }
}

/// git in a folder.
struct Git<'a> {
    repository: &'a Repository,
    folder: &'a Path,
}

impl Git<'_> {
    /// The commit that a name means on the server, by the rules of git-fetch(1); of a tag the one that it is of.
    fn ask(&self, name: &str) -> Option<String> {
        let tag = format!("{name}^{{}}");
        let answer = self.run("ask", &["ls-remote", "-q", "--", &self.repository.remote, name, &tag]).ok()?;
        let found = |name: &str| {
            let mut lines = answer.lines().filter_map(|line| line.split_once('\t'));
            lines.find(|(_, known)| *known == name).map(|(commit, _)| commit.to_owned())
        };
        let names = ["", "refs/", "refs/tags/", "refs/heads/"].map(|before| format!("{before}{name}"));
        let commit = names.iter().find_map(|name| found(&format!("{name}^{{}}")).or_else(|| found(name)));
        commit.filter(|commit| is_commit(commit))
    }

    /// Fetches and checks out; the commit.
    fn check_out(&self) -> Result<String, Error> {
        // No template: those of the host may have hooks.
        self.run("prepare", &["init", "-q", "--template="])?;
        // Submodules may be named as seen from here.
        self.run("prepare", &["remote", "add", "--", "origin", &self.repository.remote])?;
        let reference = self.repository.reference.as_deref().unwrap_or("HEAD");
        let shallow = ["fetch", "-q", "--no-tags", "--depth=1", "--", "origin", reference];
        let mut wanted = "FETCH_HEAD";
        if let Err(error) = self.with_depth("fetch", &shallow) {
            // Not every server gives a commit by its name: then all is fetched, and it must be among that.
            if !is_commit(reference) {
                return Err(error);
            }
            let all = [
                "fetch",
                "-q",
                "--",
                "origin",
                "+refs/heads/*:refs/remotes/origin/*",
                "+refs/tags/*:refs/tags/*",
            ];
            self.run("fetch", &all)?;
            wanted = reference;
        }
        let commit =
            self.run("find the commit in", &["rev-parse", "--verify", &format!("{wanted}^{{commit}}")])?;
        let commit = commit.trim().to_owned();
        if let Some(expected) =
            self.repository.commit.as_ref().filter(|text| !commit.starts_with(&text.to_lowercase()))
        {
            return Err(Error::Checksum { got: commit, expected: expected.clone() });
        }
        self.run("check out", &["checkout", "-q", "--detach", &commit])?;
        let has_modules =
            self.folder.join(".gitmodules").symlink_metadata().is_ok_and(|found| found.is_file());
        if self.repository.submodules && has_modules {
            let update = ["submodule", "-q", "update", "--init", "--recursive", "--depth=1"];
            self.with_depth("fetch the submodules of", &update)?;
        }
        Ok(commit)
    }

    /// Runs it, and again as a whole where the server has no part of a history.
    fn with_depth(&self, action: &'static str, words: &[&str]) -> Result<String, Error> {
        match self.run(action, words) {
            Err(Error::Git { said, .. }) if said.contains("shallow") || said.contains("--depth") => {
                let words: Vec<&str> = words.iter().copied().filter(|word| *word != "--depth=1").collect();
                self.run(action, &words)
            }
            other => other,
        }
    }

    fn run(&self, action: &'static str, words: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("git");
        command.current_dir(self.folder).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(words);
        for name in ["PATH", "SSH_AUTH_SOCK"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"] {
            for name in [name.to_owned(), name.to_lowercase()] {
                command.envs(std::env::var_os(&name).map(|value| (name, value)));
            }
        }
        command.envs([
            ("HOME", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ALLOW_PROTOCOL", "http:https:ssh:git"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes"),
            ("LC_ALL", "C"),
        ]);
        // Modes of files that are checked out go into the image.
        let before = rustix::process::umask(Mode::WGRP | Mode::WOTH);
        let started = command.spawn();
        rustix::process::umask(before);
        let mut child = started.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NoGit { url: self.repository.shown() },
            _ => Error::io("start git")(error),
        })?;
        let said = child.stderr.take().map(end_of).unwrap_or_default();
        let mut answer = String::new();
        if let Some(out) = child.stdout.take() {
            out.take(64 << 10).read_to_string(&mut answer).map_err(Error::io("read what git says"))?;
        }
        match child.wait().map_err(Error::io("wait for git"))?.success() {
            true => Ok(answer),
            false => Err(Error::Git { action, url: self.repository.shown(), said }),
        }
    }
}

/// The end of what is said, however long it is, in one line and fit for a terminal.
fn end_of(mut from: impl Read) -> String {
    let (mut end, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        end.extend_from_slice(&buffer[..count]);
        end.drain(..end.len().saturating_sub(SAID));
    }
    let text = String::from_utf8_lossy(&end);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files_and_urls() {
        let of = |text: &str| Repository::parse(text).map(Result::unwrap);
        let parts = |text: &str| {
            let found = of(text).unwrap();
            (found.remote, found.reference.unwrap_or_default(), found.folder.unwrap_or_default())
        };
        let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(parts("https://a.b/c.git"), owned("https://a.b/c.git", "", ""));
        assert_eq!(parts("https://a.b/c.git#v1:sub/x"), owned("https://a.b/c.git", "v1", "sub/x"));
        assert_eq!(parts("git@a.b:c.git#:sub"), owned("git@a.b:c.git", "", "sub"));
        assert_eq!(parts("ssh://git@a.b:22/c"), owned("ssh://git@a.b:22/c", "", ""));
        assert_eq!(
            parts("https://a.b/c.git?branch=x&subdir=y"),
            owned("https://a.b/c.git", "refs/heads/x", "y")
        );
        let all = of("https://a.b/c.git?commit=abc&keep-git-dir&submodules=false").unwrap();
        assert_eq!((all.commit.as_deref(), all.keep, all.submodules), (Some("abc"), Some(true), false));
        for other in [
            "a",
            "./git@a:b",
            "https://a.b/c.tar",
            "https://a.b/c?x=.git",
            "file:///a.git",
            "ext::sh -c x",
            "-x@a:b",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        for bad in [
            "https://a/c.git#--upload-pack=x",
            "https://a/c.git#a b",
            "https://a/c.git?x=1",
            "https://a/c.git?ref=a#b",
            "https://a/c.git?ref=",
        ] {
            assert!(Repository::parse(bad).unwrap().is_err(), "{bad}");
        }
    }
}
