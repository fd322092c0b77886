//! What users type, turned into the types of [`crate::container::request`] and friends.
//!
//! Pure functions from a text (and, where the host decides, a [`Host`]) to a value or an [`Invalid`]. They know
//! nothing of flags: the caller adds which flag the text was given to. Forms and messages are docker's, and
//! podman's where docker has none.

mod env;
mod mounts;
mod namespaces;
mod ports;
mod process;
mod security;
mod time;
mod values;

pub use env::{env_file, env_word, label, label_file};
pub use mounts::{csv, duplicate_destination, mount, tmpfs, volume};
pub use namespaces::{id_range, ipc, pid, sysctl, userns, uts};
pub use ports::publish;
pub use process::{
    device, domainname, entry, expose, image_volumes, oom_score_adj, personality, rootfs, systemd, timeout,
    timezone, umask, volumes_from,
};
pub use security::{capabilities, security_opt};
pub use time::{interval, moment};
pub use values::{
    add_host, boolean, bytes, credentials, detach_keys, dns_server, entrypoint, filter, has_label, hostname,
    ipv4, ipv6, log_driver, log_opt, mac, name, network, nonempty, number, platform, pull_policy, signal,
    stop_timeout, ulimit, user, workdir,
};

use std::path::{Path, PathBuf};

/// Why a text is no value: the end of the sentence `invalid argument "…" for "--flag" flag: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong.
    pub why: String,
    /// What would be right, where we know.
    pub fix: Option<String>,
}

impl Invalid {
    /// Wrong, for this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), fix: None }
    }

    /// With advice.
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// Wrong because it is none of `known`; the nearest of them is proposed.
    pub fn unknown(what: &str, text: &str, known: &[&str]) -> Self {
        let wrong = Self::new(format!("unknown {what} '{text}'"));
        match nearest(text, known.iter().copied()) {
            Some(near) => wrong.fix(format!("did you mean '{near}'?")),
            None => wrong.fix(format!("one of: {}", known.join(", "))),
        }
    }
}

/// The facts of the host that decide what a text means.
#[derive(Clone, Debug)]
pub struct Host {
    /// The working directory, for relative paths.
    pub cwd: PathBuf,
    /// The environment, for `-e NAME`.
    pub env: Vec<(String, String)>,
    /// Whether SELinux is on: there, labels would have to be set and are not yet.
    pub selinux: bool,
    /// Whether AppArmor is on.
    pub apparmor: bool,
}

impl Host {
    /// This host, now.
    pub fn here() -> Self {
        Self {
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            // Variables that are not UTF-8 cannot be named on our command line either.
            env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            apparmor: std::fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with(b"Y")),
        }
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}

/// The one of `known` that a slip of the finger turns into `text`, if any is that close.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let allowed = 1 + text.len() / 4;
    known
        .map(|word| (distance(&text, &word.to_ascii_lowercase()), word))
        .filter(|(distance, word)| *distance <= allowed && *distance < word.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Edits between two words, a swap of neighbours counting one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
pub(super) fn test_host() -> Host {
    Host {
        cwd: "/home/me".into(),
        env: [("HOME", "/home/me"), ("LC_ALL", "C"), ("LC_TIME", "de"), ("EMPTY", "")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
        selinux: false,
        apparmor: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_none() {
        let known = ["run", "rm", "rmi", "restart", "inspect", "images"];
        let near = |text| nearest(text, known.iter().copied());
        assert_eq!(near("rnu"), Some("run"));
        assert_eq!(near("inspct"), Some("inspect"));
        assert_eq!(near("Image"), Some("images"));
        assert_eq!(near("frobnicate"), None);
    }
}
