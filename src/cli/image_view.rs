//! Images as JSON: the object of `inspect`, with docker's field names, and podman's where docker has none.

use super::stores::Stores;
use crate::digest::Digest;
use crate::image::{Image, ImageConfig, Name};
use crate::output::human;
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What `inspect` shows of an image.
pub fn inspect(stores: &Stores, image: &Image) -> anyhow::Result<Value> {
    let names = stores.images.names(image.id)?;
    let layers = image.diff_ids();
    let ImageConfig { created, author, architecture, os, variant, rootfs, history, config } = &image.config;
    let fs = |layer: &Digest| stores.layers.fs_dir(*layer).display().to_string();
    let below: Vec<String> = layers.iter().rev().skip(1).map(fs).collect();
    let size = image.size(&stores.layers);
    let last = history.last();
    let (manifest_type, annotations) = manifest(stores, image);
    let mut value = json!({
        "Id": image.id,
        "Digest": image.manifest,
        "ManifestType": manifest_type,
        "Annotations": annotations,
        "RepoTags": tags(&names),
        "RepoDigests": digests(&names),
        "Parent": "",
        "Comment": last.map_or("", |step| step.comment.as_str()),
        "Created": created.as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "DockerVersion": "",
        "Author": author,
        "Config": run_config(&image.config),
        "Architecture": architecture,
        "Variant": variant.as_deref().unwrap_or_default(),
        "Os": os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "LowerDir": below.join(":"), "UpperDir": layers.last().map(fs).unwrap_or_default() },
        },
        "RootFS": { "Type": rootfs.kind, "Layers": layers },
        "Metadata": { "LastTagTime": last_tagged(&names) },
        "Labels": config.labels,
        "User": config.user,
        "History": history,
    });
    // An image without a manifest (built, or from docker's archive) has no such digest.
    if let (None, Some(fields)) = (image.manifest, value.as_object_mut()) {
        fields.insert("Digest".into(), "".into());
    }
    Ok(value)
}

/// The media type of an image's manifest and what is annotated there (image-spec, manifest.md). An image without one has
/// neither; that one cannot be read is for `store verify` to say, and no reason to show nothing of the image.
fn manifest(stores: &Stores, image: &Image) -> (String, Map<String, Value>) {
    let bytes = image.manifest.and_then(|digest| stores.images.blob(digest).ok());
    let Some(Value::Object(mut fields)) = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
        return (String::new(), Map::new());
    };
    let media_type = match fields.get("mediaType") {
        Some(Value::String(media_type)) => media_type.clone(),
        // OCI's may leave it out, docker's never does.
        _ => OCI_MANIFEST.to_owned(),
    };
    match fields.remove("annotations") {
        Some(Value::Object(annotations)) => (media_type, annotations),
        _ => (media_type, Map::new()),
    }
}

fn tags(names: &[Name]) -> Vec<String> {
    names.iter().filter(|n| n.reference.tag().is_some()).map(|n| n.reference.familiar()).collect()
}

/// The repositories that the image came from, each with the digest that it has there.
fn digests(names: &[Name]) -> Vec<String> {
    let of = |name: &Name| {
        let digest = name.digest.or_else(|| name.reference.digest())?;
        Some(format!("{}@{digest}", name.reference.familiar_name()))
    };
    let mut digests: Vec<String> = names.iter().filter_map(of).collect();
    digests.sort();
    digests.dedup();
    digests
}

fn last_tagged(names: &[Name]) -> String {
    let since = names.iter().map(|name| name.since).max().unwrap_or_default();
    human::rfc3339(UNIX_EPOCH + Duration::from_secs(since))
}

/// How its containers are run: docker's fields are all there, so that a template finds them.
fn run_config(config: &ImageConfig) -> Value {
    let all = &config.config;
    let mut value = json!({
        "Hostname": "",
        "Domainname": "",
        "User": all.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "ExposedPorts": keys(all.exposed_ports.iter()),
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": all.env,
        "Cmd": all.cmd.as_deref().unwrap_or_default(),
        "Image": "",
        "Volumes": keys(all.volumes.iter()),
        "WorkingDir": all.working_dir,
        "Entrypoint": all.entrypoint.as_deref().unwrap_or_default(),
        "OnBuild": all.on_build,
        "Labels": all.labels,
        "StopSignal": all.stop_signal.as_deref().unwrap_or_default(),
    });
    if let Some(fields) = value.as_object_mut() {
        fields.extend(all.healthcheck.as_ref().map(|check| ("Healthcheck".to_owned(), json!(check))));
        fields.extend(all.shell.as_ref().map(|shell| ("Shell".to_owned(), json!(shell))));
    }
    value
}

/// Go's set: an object of empty objects.
pub fn keys<'a>(of: impl Iterator<Item = &'a String>) -> Value {
    Value::Object(of.map(|key| (key.clone(), Value::Object(Map::new()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ImageStore, NewImage};
    use crate::layers::{LayerStore, Ownership};
    use crate::output::template;
    use crate::state::Paths;

    fn stores() -> (tempfile::TempDir, Stores) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::discover(Some(&dir.path().join("data")), Some(&dir.path().join("run"))).unwrap();
        paths.prepare().unwrap();
        let stores = Stores {
            images: ImageStore::open(&paths),
            layers: LayerStore::open(&paths, Ownership::SingleId),
        };
        (dir, stores)
    }

    #[test]
    fn an_image_has_dockers_fields_and_templates_find_what_it_does_not_say() {
        let (_dir, stores) = stores();
        let config =
            br#"{"created":"2026-01-02T03:04:05Z","architecture":"arm64","os":"linux","variant":"v8",
            "config":{"Cmd":["sh"],"ExposedPorts":{"80/tcp":{}},"Labels":{"a":"b"}},
            "rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x","comment":"why"}]}"#;
        let names = ["debian:13", "quay.io/org/app:1"].map(|name| name.parse().unwrap());
        let new = NewImage { config, manifest: None, index: None, names: &names };
        let image = stores.images.add(&new).unwrap();
        let value = inspect(&stores, &image).unwrap();
        for (format, expected) in [
            ("{{.Id}}", image.id.to_string().as_str()),
            ("{{.RepoTags}} {{len .RepoDigests}}", "[debian:13 quay.io/org/app:1] 0"),
            ("{{.Created}} {{.Os}}/{{.Architecture}}/{{.Variant}}", "2026-01-02T03:04:05Z linux/arm64/v8"),
            ("{{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.WorkingDir}}", "[sh] [] "),
            ("{{json .Config.ExposedPorts}} {{.Config.Labels.a}}", r#"{"80/tcp":{}} b"#),
            ("{{.RootFS.Type}} {{len .RootFS.Layers}} {{.Size}} {{.Comment}}", "layers 0 0 why"),
            ("{{.GraphDriver.Name}} {{(index .History 0).created_by}}", "overlay x"),
        ] {
            assert_eq!(template::format(Some(format), &value).unwrap(), expected, "{format}");
        }
    }

    #[test]
    fn what_its_manifest_says_is_shown() {
        let (_dir, stores) = stores();
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let typed = format!(r#"{{"mediaType":"{docker}","annotations":{{"org.example.a":"b"}}}}"#);
        for (number, (manifest, expected)) in [
            (Some(typed.as_str()), format!(r#"{docker} {{"org.example.a":"b"}}"#)),
            (Some(r#"{"schemaVersion":2}"#), format!("{OCI_MANIFEST} {{}}")),
            (None, " {}".to_owned()),
        ]
        .into_iter()
        .enumerate()
        {
            let config = format!(r#"{{"author":"{number}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#);
            let manifest = manifest.map(str::as_bytes);
            let new = NewImage { config: config.as_bytes(), manifest, index: None, names: &[] };
            let value = inspect(&stores, &stores.images.add(&new).unwrap()).unwrap();
            let format = Some("{{.ManifestType}} {{json .Annotations}}");
            assert_eq!(template::format(format, &value).unwrap(), expected);
        }
    }
}
