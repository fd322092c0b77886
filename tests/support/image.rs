//! Images made to order, well-formed or hostile.

use super::busybox;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use tar::{EntryType, Header};

/// The digest of bytes in OCI's form.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let mut text = String::from("sha256:");
    for byte in hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Bytes as gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer being written. Names are taken as they are, `..` and all.
pub struct Layer {
    tar: Vec<u8>,
}

impl Layer {
    pub fn new() -> Self {
        Self { tar: Vec::new() }
    }

    /// A shell and its tools, the folders that programs expect, users root and alice.
    pub fn tiny() -> Self {
        let mut layer = Self::new();
        for name in ["bin", "dev", "etc", "proc", "sys", "run", "var", "root", "home"] {
            layer = layer.dir(name, 0o755);
        }
        layer = layer.dir("tmp", 0o1777).file("bin/busybox", &std::fs::read(busybox()).unwrap(), 0o755);
        for tool in "sh cat chmod cp echo env id ln ls mkdir mknod mount mv od ps pwd readlink rm sleep stat touch true umount"
            .split(' ')
        {
            layer = layer.symlink(&format!("bin/{tool}"), "busybox");
        }
        layer
            .file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home:/bin/sh\n", 0o644)
            .file("etc/group", b"root:x:0:\nalice:x:1000:\n", 0o644)
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(name, EntryType::Directory, mode, b"", "")
    }

    pub fn file(self, name: &str, data: &[u8], mode: u32) -> Self {
        self.entry(name, EntryType::Regular, mode, data, "")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, 0o777, b"", target)
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Link, 0o644, b"", target)
    }

    pub fn device(mut self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = header(name, EntryType::Char, 0o666, "", 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self
    }

    /// An entry of any sort; `size` in the header is that of `data`.
    pub fn entry(self, name: &str, kind: EntryType, mode: u32, data: &[u8], target: &str) -> Self {
        let mut header = header(name, kind, mode, target, data.len() as u64);
        header.set_cksum();
        self.raw(header, data)
    }

    /// A header as it is, and what follows it.
    pub fn raw(mut self, header: Header, data: &[u8]) -> Self {
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(data);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// An entry with this owner.
    pub fn owned(self, name: &str, data: &[u8], mode: u32, uid: u64, gid: u64) -> Self {
        let mut header = header(name, EntryType::Regular, mode, "", data.len() as u64);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_cksum();
        self.raw(header, data)
    }

    /// PAX records for the next entry (pax(5): `length key=value\n`).
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry("PaxHeaders/x", EntryType::XHeader, 0o644, &data, "")
    }

    /// The tar file.
    pub fn finish(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.resize(tar.len() + 1024, 0);
        tar
    }
}

/// A ustar header with a name that nobody has looked at.
pub fn header(name: &str, kind: EntryType, mode: u32, target: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    // What is too long for the name's field begins in the prefix's, which stands for itself and a slash.
    let (prefix, name) = match name.len() {
        0..=100 => ("", name),
        long => name.split_at(long - 100 + name[long - 100..].find('/').expect("use pax() for long names")),
    };
    let name = if prefix.is_empty() { name } else { &name[1..] };
    assert!(prefix.len() <= 155 && target.len() <= 100, "use pax() for long names");
    header.as_ustar_mut().unwrap().prefix[..prefix.len()].copy_from_slice(prefix.as_bytes());
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_735_689_600);
    header
}

/// An image: layers and a configuration.
pub struct Image {
    pub layers: Vec<Vec<u8>>,
    pub config: Value,
    pub architecture: &'static str,
    pub os: &'static str,
}

impl Image {
    /// The tiny layer, and on it these.
    pub fn tiny_with(layers: Vec<Layer>) -> Self {
        let mut all = vec![Layer::tiny().finish()];
        all.extend(layers.iter().map(Layer::finish));
        Self::of(all)
    }

    /// These layers and nothing else.
    pub fn of(layers: Vec<Vec<u8>>) -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Self { layers, config: json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}), architecture, os: "linux" }
    }

    /// Sets a field of the configuration.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// The configuration's bytes.
    pub fn config_blob(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        serde_json::to_vec(&json!({
            "architecture": self.architecture, "os": self.os, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
        .unwrap()
    }

    /// Everything a registry serves for it: blobs by digest, layers as gzip; and the manifest.
    pub fn blobs(&self) -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
        let mut blobs = BTreeMap::new();
        let mut describe = |bytes: Vec<u8>, kind: &str| {
            let name = digest(&bytes);
            let size = bytes.len();
            blobs.insert(name.clone(), bytes);
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": name, "size": size})
        };
        let config = describe(self.config_blob(), "config.v1+json");
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| describe(gzip(layer), "layer.v1.tar+gzip")).collect();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        }))
        .unwrap();
        (blobs, manifest)
    }

    /// Writes the image as an OCI layout, layers uncompressed.
    pub fn write_layout(&self, folder: &std::path::Path) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8], kind: &str| {
            std::fs::write(blobs.join(&digest(bytes)[7..]), bytes).unwrap();
            let media = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media, "digest": digest(bytes), "size": bytes.len()})
        };
        let config = put(&self.config_blob(), "config.v1+json");
        let layers: Vec<Value> = self.layers.iter().map(|layer| put(layer, "layer.v1.tar")).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let manifest = put(manifest.as_bytes(), "manifest.v1+json");
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        std::fs::write(folder.join("index.json"), index).unwrap();
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    /// The image as `docker save` writes it, under this name.
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        let config = self.config_blob();
        let config_name = format!("{}.json", &digest(&config)[7..]);
        let layer_names: Vec<String> =
            self.layers.iter().map(|layer| format!("{}/layer.tar", &digest(layer)[7..71])).collect();
        let manifest =
            json!([{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]).to_string();
        let mut archive = Layer::new().file("manifest.json", manifest.as_bytes(), 0o644);
        archive = archive.file(&config_name, &config, 0o644);
        for (layer, name) in self.layers.iter().zip(&layer_names) {
            archive = archive.file(name, layer, 0o644);
        }
        archive.finish()
    }
}
