//! An image's config (OCI image-spec, config.md; docker's image specification 1.2).
//!
//! Our own view and not oci-spec's type, because real images need more of it: docker's additions (`Healthcheck`,
//! `OnBuild`, `Shell`), Go's `null` in place of empty lists and maps, the old single string for a command,
//! and ports and volumes in a fixed order.

use crate::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The whole config of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made (RFC 3339), if it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By whom.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// For which architecture, in Go's spelling.
    #[serde(deserialize_with = "or_empty")]
    pub architecture: String,
    /// For which operating system.
    #[serde(deserialize_with = "or_empty")]
    pub os: String,
    /// For which variant of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of it is run.
    #[serde(deserialize_with = "or_empty")]
    pub config: RunConfig,
    /// Its layers.
    #[serde(deserialize_with = "or_empty")]
    pub rootfs: RootFs,
    /// How it was built.
    #[serde(deserialize_with = "or_empty")]
    pub history: Vec<History>,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, the lowest first.
    #[serde(deserialize_with = "or_empty")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A note.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Where programs are looked for if an image does not say: docker's and podman's.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a container of an image is run where the user does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers; empty for root.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port[/protocol]`.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run, before `cmd`.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments of the entry point, or what is run without one.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Folders that get a volume each.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Where it is run; empty for `/`.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How it is asked whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// What an image built from it does first.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of `RUN`, `CMD` and `ENTRYPOINT` in shell form.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Docker's health check. Times are nanoseconds; 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", command]`; empty: inherited.
    #[serde(deserialize_with = "or_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Until a check has failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Go writes a nil map or slice as `null`.
fn or_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Go's `map[string]struct{}`; whatever the values are.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(from)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: serde::Serializer>(keys: &BTreeSet<String>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(keys.iter().map(|key| (key, serde_json::Map::new())))
}

/// A command: a list, or in images of old builders one string.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(Option::deserialize(from)?.map(|words| match words {
        Words::Many(list) => list,
        Words::One(word) => vec![word],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_missing_fields_of_real_images_are_empty() {
        let minimal: ImageConfig = serde_json::from_str(r#"{"architecture":"amd64","os":"linux"}"#).unwrap();
        assert!(minimal.created.is_none() && minimal.rootfs.diff_ids.is_empty());
        let nulls: ImageConfig = serde_json::from_str(
            r#"{"created":null,"architecture":"amd64","os":"linux","variant":null,"author":null,
                "config":{"User":null,"ExposedPorts":null,"Env":null,"Entrypoint":null,"Cmd":null,"Volumes":null,
                          "WorkingDir":null,"Labels":null,"OnBuild":null,"StopSignal":null,"Healthcheck":null,
                          "Hostname":"","Domainname":"","AttachStdin":false,"Image":"","ArgsEscaped":true},
                "container_config":{"Cmd":null},"docker_version":"1.2","id":"x","parent":"",
                "rootfs":{"type":"layers","diff_ids":null},"history":null}"#,
        )
        .unwrap();
        assert_eq!(nulls, minimal);
        let none: ImageConfig = serde_json::from_str(r#"{"config":null,"rootfs":null}"#).unwrap();
        assert_eq!(none, ImageConfig::default());
    }

    #[test]
    fn everything_a_dockerfile_can_say_is_read_and_written_again() {
        let text = r#"{"created":"2024-01-01T00:00:00Z","architecture":"arm64","os":"linux","variant":"v8",
            "config":{"User":"app:app","ExposedPorts":{"80/tcp":{},"443/tcp":null},"Env":["A=b"],"Entrypoint":["/e"],
                "Cmd":"one word","Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"k":"v"},"StopSignal":"SIGQUIT",
                "Healthcheck":{"Test":["CMD","x"],"Interval":5000000000,"Retries":3},"OnBuild":["RUN x"],
                "Shell":["/bin/bash","-c"]},
            "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created_by":"x","empty_layer":true}]}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.exposed_ports.iter().collect::<Vec<_>>(), ["443/tcp", "80/tcp"]);
        assert_eq!(config.config.cmd, Some(vec!["one word".into()]));
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 5_000_000_000);
        let again: ImageConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}
